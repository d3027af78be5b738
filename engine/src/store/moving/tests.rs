//! A ledger with something of everything, and what must hold whichever stores it is moved between.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::{Mark, Movable, Move, MoveError, Moved, Progress, Role, abandon, move_ledger};
use crate::domain::campaign::CampaignState;
use crate::domain::ids::{AccountId, PoolId, SEGMENT_LEN};
use crate::domain::message::{Decision, Event, Reported};
use crate::domain::stage::{End, Shown};
use crate::domain::time::Clock;
use crate::store::conformance::*;
use crate::store::embedded::{EmbeddedConfig, EmbeddedStore, LEDGER_FILE, OpenError};
use crate::store::{InboundEvent, ParkedEvent, ParkedMove, RefusedRow, Store};

const NAMES: (&str, &str) = ("the old one", "the new one");

/// Opens without asking what part it has in a move.
pub(crate) fn embedded(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open_to_move(EmbeddedConfig::new(dir), Clock::system()).unwrap()
}

/// Moves it all.
pub(crate) async fn moved(source: &dyn Movable, target: &dyn Movable) -> Result<Moved, MoveError> {
    move_until(source, target, usize::MAX).await
}

/// Moves until so many steps were told.
async fn move_until(source: &dyn Movable, target: &dyn Movable, steps: usize) -> Result<Moved, MoveError> {
    let mut told = 0;
    let mut stop = |_: Progress<'_>| {
        told += 1;
        if told > steps { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    move_ledger(Move { source, target, names: NAMES, now: at(1_700_000_000_000) }, &mut stop).await
}

/// Cuts a move short after its first step, then after some more, and so on, opening both ledgers anew each time, until it is done.
pub(crate) async fn moved_in_steps(
    open_source: impl Fn() -> Arc<dyn Movable>,
    open_target: impl Fn() -> Arc<dyn Movable>,
) -> Moved {
    for steps in [1, 3, 5, usize::MAX] {
        let (source, target) = (open_source(), open_target());
        let outcome = move_until(source.as_ref(), target.as_ref(), steps).await;
        source.close().await.unwrap();
        target.close().await.unwrap();
        match outcome {
            Ok(moved) => {
                assert!(steps > 5, "five steps are not enough to compare all campaigns");
                return moved;
            }
            Err(MoveError::Stopped) => {}
            Err(other) => panic!("{other}"),
        }
    }
    unreachable!("the steps end")
}

fn parked(provider_id: &str, what: Reported) -> ParkedEvent {
    ParkedEvent {
        id: 0,
        account: AccountId::new("meta-1").unwrap(),
        sender: provider_id.ends_with('1').then(|| "100".into()),
        provider_id: provider_id.into(),
        attempt: provider_id.ends_with('2').then(|| (message(crate::domain::ids::CampaignKey(1), 7), 3)),
        event: report_of(what, provider_id),
        at: at(5_000),
        look_at: at(6_000),
        deadline: at(60_000),
    }
}

fn report_of(what: Reported, provider_id: &str) -> Event {
    Event::Report {
        attempt: 0,
        lines: Arc::new([]),
        at: at(5_000),
        what,
        provider_at: Some(4),
        provider_id: Some(provider_id.into()),
        failure: (what == Reported::Failed).then(|| failure(1)),
    }
}

/// Something of everything that a store can know.
pub(crate) async fn furnish(store: &dyn Store) {
    store.create_line(line("one", "100"), Some("line-request")).await.unwrap();
    let mut other = line("two", "200");
    (other.tenant, other.pool) = (tenant("Other"), PoolId::new("sms.pool").unwrap());
    let other = store.create_line(other, None).await.unwrap().record;
    store.update_line(crate::domain::line::Line { ceiling: 5, ..other }).await.unwrap();
    store.put_template(template("hello"), None, Some("template request / with a slash")).await.unwrap();
    store.put_template(template("hello"), Some(1), None).await.unwrap();
    store.put_template(template("alone"), None, None).await.unwrap();

    // Finished, of two segments, with a duplicate and refused rows.
    let long = store.create_campaign(campaign("long"), Some("a/request")).await.unwrap().record.key;
    let recipients = SEGMENT_LEN + 800;
    for offset in (0..recipients).step_by(1_000) {
        let mut some = chunk(long, u64::from(offset), 1_000.min(recipients - offset));
        if offset == 3_000 {
            some.recipients[5].address = "+999000000001".into();
            some.recipients[6].external_id = None;
            some.recipients.truncate(998);
            let bad = |row| RefusedRow {
                import: import("list"),
                row,
                field: "phone".into(),
                reason: "länger".into(),
                duplicate_of: None,
            };
            some.refused = vec![bad(3_998), bad(3_999)];
        }
        store.append_recipients(some).await.unwrap();
    }
    let mut sealed = store.seal(long, at(3_000)).await.unwrap();
    assert_eq!((sealed.recipients, sealed.refused), (u64::from(recipients) - 3, 3));
    sealed.state = CampaignState::Running;
    let running = store.update_campaign(sealed).await.unwrap();
    let far = SEGMENT_LEN + 3;
    let tried = [0, 1, 2, 3, 4, 5, 6, 8, 9, far];
    all_apply(store, long, tried.map(|seq| (seq, intent(1))).to_vec()).await;
    let not_processed = |due| Event::NotProcessed {
        attempt: 1,
        at: at(4_050),
        failure: Some(failure(9)),
        charged: true,
        due_at: at(due),
    };
    all_apply(
        store,
        long,
        vec![
            (0, accepted(1, "w0")),
            (0, report(1, Reported::Read)),
            (1, accepted(1, "w1")),
            (1, report(1, Reported::Failed)),
            (1, report(1, Reported::Delivered)),
            (2, doubt(1, 9_000)),
            (3, doubt(1, 9_100)),
            (3, Event::DoubtExpired { at: at(9_200), resend_up_to: None }),
            (4, Event::Withdrawn { attempt: 1, at: at(4_040) }),
            (5, not_processed(8_000)),
            (5, intent(2)),
            (5, accepted(2, "w5")),
            (6, Event::Rejected { attempt: 1, at: at(4_060), failure: failure(131_047) }),
            (8, doubt(1, 9_000)),
            (8, Event::Resolved { decision: Decision::SendAgain, at: at(9_300) }),
            (8, intent(2)),
            (8, accepted(2, "w8")),
            (8, report(1, Reported::Sent)),
            (8, report(2, Reported::Sent)),
            (9, not_processed(77_000)),
            (far, accepted(1, "far")),
            (far, report(1, Reported::Delivered)),
        ],
    )
    .await;
    let ending = crate::domain::campaign::Campaign { state: CampaignState::Cancelled, ..running };
    store.end_campaign(ending, End::Cancelled).await.unwrap();

    // Ended, put back to work by a decision to send again, and paused before that left.
    let again =
        running_then(store, "again", 50, vec![(1, intent(1)), (1, doubt(1, 9_000))], CampaignState::Completed).await;
    let ended = store.end_campaign(again, End::Expired).await.unwrap().0;
    all_apply(store, ended.key, vec![(1, Event::Resolved { decision: Decision::SendAgain, at: at(9_400) })]).await;
    let reopened = crate::domain::campaign::Campaign { state: CampaignState::Paused, ..ended };
    store.update_campaign(reopened).await.unwrap();

    // Paused with some waiting and some in doubt; scheduled; a draft with two imports; one that is gone.
    let events = vec![
        (0, intent(1)),
        (0, not_processed(50_000)),
        (1, intent(1)),
        (1, doubt(1, 9_000)),
        (2, intent(1)),
        (2, accepted(1, "p2")),
    ];
    running_then(store, "paused", 300, events, CampaignState::Paused).await;
    running_then(store, "scheduled", 10, Vec::new(), CampaignState::Scheduled).await;
    let draft = store.create_campaign(campaign("draft"), None).await.unwrap().record.key;
    store.append_recipients(chunk(draft, 0, 70)).await.unwrap();
    store.append_recipients(chunk_of(draft, "second", 0, vec![recipient(0, "+999111")])).await.unwrap();
    let gone = store.create_campaign(campaign("gone"), Some("of the gone one")).await.unwrap().record;
    store.delete_campaign(gone.key, gone.version).await.unwrap();

    let events: Vec<_> = ["o1", "o2", "w1", "w2", "w3"].into_iter().map(|id| parked(id, Reported::Failed)).collect();
    store.park(events).await.unwrap();
    let waiting = store.parked(at(99_000), 9).await.unwrap();
    for event in waiting.iter().filter(|event| event.provider_id.starts_with('o')) {
        store.settle_parked(vec![(event.id, ParkedMove::Orphaned)]).await.unwrap();
    }
    let kept = |provider_id: &str, ms| InboundEvent {
        account: AccountId::new("meta-1").unwrap(),
        kind: "message".into(),
        provider_id: provider_id.into(),
        body: "{\"text\":\"ja\"}".into(),
        at: at(ms),
    };
    let entries = vec![kept("i1", 1_000), kept("", 1_100), kept("", 1_100), kept("i2", 1_200)];
    store.keep_inbound(entries, 100).await.unwrap();
}

/// A campaign that ran and was brought into this state.
async fn running_then(
    store: &dyn Store,
    id: &str,
    recipients: u32,
    events: Vec<(u32, Event)>,
    state: CampaignState,
) -> crate::domain::campaign::Campaign {
    let running = running(store, id, recipients).await;
    if !events.is_empty() {
        all_apply(store, running.key, events).await;
    }
    store.update_campaign(crate::domain::campaign::Campaign { state, ..running }).await.unwrap()
}

/// All that two embedded ledgers hold, row by row. Left out: numbers that each store gives by itself, and records' JSON, which is
/// compared as records by the move.
pub(crate) fn assert_same_files(one: &Path, other: &Path) {
    const TABLES: [(&str, &str); 16] = [
        ("meta", "name, value FROM meta WHERE name <> 'move'"),
        ("sequence", "name, seq FROM sqlite_sequence WHERE name IN ('campaign', 'line')"),
        (
            "campaign",
            "key, tenant, id, version, state, pool, created_at, settled_at, recipients, refused, next_seq, sealed_at, sealed_digest, ended_as FROM campaign",
        ),
        ("pool", "tenant, id, version, kind FROM pool"),
        ("line", "key, tenant, id, version, pool, account, kind, sender FROM line"),
        ("template", "* FROM template"),
        ("request", "* FROM request"),
        ("import", "* FROM import"),
        ("import_chunk", "* FROM import_chunk"),
        ("refused", "* FROM refused"),
        ("recipient", "* FROM recipient"),
        ("message", "* FROM message"),
        ("attempt", "* FROM attempt"),
        ("segment", "* FROM segment"),
        ("failure", "* FROM failure WHERE count <> 0"),
        ("line_use", "* FROM line_use"),
    ];
    let events = |table: &str| {
        (
            table.to_owned(),
            format!(
                "account, sender, provider_id, what, campaign, seq, attempt, report, at, look_at, deadline FROM {table}"
            ),
        )
    };
    let mut tables: Vec<(String, String)> =
        TABLES.iter().map(|(name, select)| ((*name).to_owned(), (*select).to_owned())).collect();
    tables.extend([
        events("parked"),
        events("orphan"),
        ("inbound".to_owned(), "account, kind, provider_id, body, at FROM inbound".to_owned()),
    ]);
    for (name, select) in tables {
        let rows = |dir: &Path| {
            let conn = rusqlite::Connection::open(dir.join(LEDGER_FILE)).unwrap();
            let mut statement = conn.prepare(&format!("SELECT {select}")).unwrap();
            let columns = statement.column_count();
            let mut found = statement.query([]).unwrap();
            let mut rows = Vec::new();
            while let Some(row) = found.next().unwrap() {
                let values = (0..columns).map(|i| format!("{:?}", row.get_ref(i).unwrap()));
                rows.push(values.collect::<Vec<_>>().join(" | "));
            }
            rows.sort();
            rows
        };
        let (left, right) = (rows(one), rows(other));
        assert!(!left.is_empty(), "{name} has something to compare");
        assert_eq!(left, right, "{name}");
    }
}

/// Orphans and inbound entries keep their order, which pages and the bound on their number go by.
pub(crate) async fn assert_same_order(one: &dyn Movable, other: &dyn Movable) {
    let page = || crate::store::Page { size: 2, after: None };
    let ids = |events: Vec<ParkedEvent>| events.into_iter().map(|e| e.provider_id).collect::<Vec<_>>();
    let (left, right) = (one.all_orphans(page()).await.unwrap().items, other.all_orphans(page()).await.unwrap().items);
    assert_eq!(ids(left), ids(right));
    assert_eq!(one.all_inbound(page()).await.unwrap().items, other.all_inbound(page()).await.unwrap().items);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_moves_whole_and_the_old_one_is_closed_then() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (embedded(old.path()), embedded(new.path()));
    furnish(source.as_ref()).await;
    let moved = moved(source.as_ref(), target.as_ref()).await.unwrap();
    assert_eq!((moved.campaigns, moved.lines, moved.templates, moved.requests, moved.events), (5, 2, 2, 4, 9));
    assert_eq!(moved.tally.count(Shown::InDoubt), 2);
    assert_same_order(source.as_ref(), target.as_ref()).await;
    source.close().await.unwrap();
    target.close().await.unwrap();
    drop((source, target));
    assert_same_files(old.path(), new.path());
    let refused = EmbeddedStore::open(EmbeddedConfig::new(old.path()), Clock::system()).err().unwrap();
    assert!(matches!(&refused, OpenError::Moved { reason, .. } if reason.contains("the new one")), "{refused}");
    // The new one goes on: keys and numbers of the old one are not given again.
    let target = EmbeddedStore::open(EmbeddedConfig::new(new.path()), Clock::system()).unwrap();
    let next = target.create_campaign(campaign("next"), None).await.unwrap().record;
    assert_eq!(next.key.0, 7, "six were made, one of them deleted");
    let again = target.create_campaign(campaign("other-name"), Some("a/request")).await.unwrap();
    assert!(!again.fresh && again.record.id.as_str() == "long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_cut_short_goes_on_and_nothing_is_served_meanwhile() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = embedded(old.path());
    furnish(source.as_ref()).await;
    let target = embedded(new.path());
    assert!(matches!(move_until(source.as_ref(), target.as_ref(), 2).await, Err(MoveError::Stopped)));
    // Somebody else's data is not written over.
    let third = tempfile::tempdir().unwrap();
    let third = embedded(third.path());
    let told = moved(third.as_ref(), target.as_ref()).await.unwrap_err().to_string();
    assert!(told.contains("not finished"), "{told}");
    drop((source, target));
    for (dir, word) in [(&old, "sluice migrate --abandon"), (&new, "run `sluice migrate` again")] {
        let told = EmbeddedStore::open(EmbeddedConfig::new(dir.path()), Clock::system()).err().unwrap().to_string();
        assert!(told.contains(word) && !told.contains('\n'), "{told}");
    }
    moved_in_steps(|| embedded(old.path()), || embedded(new.path())).await;
    assert_same_files(old.path(), new.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_moved_is_refused_with_what_to_do() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (embedded(old.path()), embedded(new.path()));
    let refusal = async || match moved(source.as_ref(), target.as_ref()).await {
        Err(MoveError::Refused(told)) => told,
        other => panic!("{other:?}"),
    };
    let live = running(source.as_ref(), "live", 5).await;
    let told = refusal().await;
    assert!(told.contains("acme/live") && told.contains("sluice pause"), "{told}");
    all_apply(source.as_ref(), live.key, vec![(0, intent(1))]).await;
    let paused = crate::domain::campaign::Campaign { state: CampaignState::Paused, ..live };
    source.update_campaign(paused).await.unwrap();
    let told = refusal().await;
    assert!(told.contains("acme/live") && told.contains("without an outcome"), "{told}");
    all_apply(source.as_ref(), crate::domain::ids::CampaignKey(1), vec![(0, doubt(1, 9_000))]).await;
    target.create_line(line("x", "1"), None).await.unwrap();
    let told = refusal().await;
    assert!(told.contains("holds other data"), "{told}");
    assert_eq!((source.mark().await.unwrap(), target.mark().await.unwrap()), (None, None), "nothing was touched");
    assert!(matches!(abandon(source.as_ref(), "it").await, Err(MoveError::Refused(_))), "nothing to give up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_told_and_nothing_changes_over() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (embedded(old.path()), embedded(new.path()));
    furnish(source.as_ref()).await;
    // Everything is there; then one recipient, one time and one count become others, before it is compared.
    assert!(matches!(move_until(source.as_ref(), target.as_ref(), 8).await, Err(MoveError::Stopped)));
    let mark: Mark = target.mark().await.unwrap().unwrap();
    assert!(mark.campaign > 5, "all campaigns are there: {mark:?}");
    let conn = rusqlite::Connection::open(new.path().join(LEDGER_FILE)).unwrap();
    for sql in [
        "UPDATE recipient SET params = '[]' WHERE id = (1 << 32) + 20",
        "UPDATE message SET sent_at = sent_at + 1 WHERE id = (3 << 32) + 2 OR id = (1 << 32) + 8",
        "UPDATE segment SET pending = pending + 1 WHERE campaign = 4",
    ] {
        assert!(conn.execute(sql, []).unwrap() > 0, "{sql}");
    }
    let Err(MoveError::Differ(differences)) = moved(source.as_ref(), target.as_ref()).await else {
        panic!("they differ")
    };
    let all = differences.join("\n");
    assert!(all.contains("acme/long: messages: 8989 in the source, 8989 in the target, of other content"), "{all}");
    assert!(all.contains("acme/long: the list in the target is not the one that was sealed"), "{all}");
    assert!(all.contains("acme/scheduled: tally and recount differ in the target"), "{all}");
    assert_eq!(source.mark().await.unwrap().unwrap().role, Role::Leaving);
    abandon(source.as_ref(), "it").await.unwrap();
    drop(source);
    EmbeddedStore::open(EmbeddedConfig::new(old.path()), Clock::system()).unwrap();
}
