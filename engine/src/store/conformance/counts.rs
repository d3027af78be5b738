//! Counts, recounts and listings.

use super::*;
use crate::domain::campaign::CampaignState;
use crate::domain::ids::SEGMENT_LEN;
use crate::domain::message::{Decision, Event, Reported};
use crate::domain::stage::{Shown, Stage};
use crate::domain::tally::Tally;
use crate::store::{ImportChunk, MessageFilter, Page};

pub(crate) async fn failures_are_counted_by_the_code_that_is_shown(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "codes", 10).await.key;
    let rejected = |code| Event::Rejected { attempt: 1, at: at(4_700), failure: failure(code) };
    all_apply(&*store, key, (0..5).map(|seq| (seq, intent(1))).collect()).await;
    all_apply(
        &*store,
        key,
        vec![(0, rejected(100)), (1, rejected(100)), (2, rejected(0)), (3, report(1, Reported::Failed))],
    )
    .await;
    all_apply(&*store, key, vec![(4, doubt(1, 9_000))]).await;
    let failed = Event::Resolved { decision: Decision::ConfirmFailed, at: at(6_000) };
    all_apply(&*store, key, vec![(4, failed)]).await;
    let counts = checked_counts(&*store, key).await;
    assert_eq!(counts.failures.into_iter().collect::<Vec<_>>(), [(0, 2), (100, 2), (131_026, 1)]);
    assert_eq!(counts.tally.count(Shown::Failed), 5);
}

pub(crate) async fn the_recount_equals_what_is_kept(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "recount", 2 * SEGMENT_LEN + 10).await.key;
    let seqs = [0, 1, 2, 3, 4, 5, SEGMENT_LEN, 2 * SEGMENT_LEN + 9];
    all_apply(&*store, key, seqs.map(|seq| (seq, intent(1))).to_vec()).await;
    let events = vec![
        (0, accepted(1, "w")),
        (1, report(1, Reported::Delivered)),
        (1, report(1, Reported::Failed)),
        (2, report(1, Reported::Read)),
        (3, doubt(1, 9_000)),
        (4, Event::Withdrawn { attempt: 1, at: at(1) }),
        (4, intent(2)),
        (2 * SEGMENT_LEN + 9, report(1, Reported::Sent)),
    ];
    all_apply(&*store, key, events).await;
    let tally = checked_counts(&*store, key).await.tally;
    assert_eq!((tally.conflicts, tally.open, tally.accepted), (1, 3, 4));
    assert_eq!(tally.reached, [3, 2, 1]);
}

pub(crate) async fn a_tenants_totals_are_the_sum_of_its_campaigns(factory: &dyn Factory) {
    let store = factory.open();
    let one = running(&*store, "one", 10).await.key;
    running(&*store, "two", 20).await;
    let draft = store.create_campaign(campaign("draft"), None).await.unwrap().record.key;
    let bad = crate::store::RefusedRow {
        import: import("list"),
        row: 5,
        field: "phone".into(),
        reason: "not a number".into(),
        duplicate_of: None,
    };
    store.append_recipients(ImportChunk { rows: 6, refused: vec![bad], ..chunk(draft, 0, 5) }).await.unwrap();
    let mut other = campaign("one");
    other.tenant = tenant("Other");
    store.create_campaign(other, None).await.unwrap();
    all_apply(&*store, one, vec![(0, intent(1)), (0, report(1, Reported::Sent))]).await;
    let totals = store.tenant_totals(&tenant("acme")).await.unwrap();
    assert_eq!(totals.refused, 1);
    let states: Vec<_> = totals.campaigns.into_iter().collect();
    assert_eq!(states, [(CampaignState::Draft, 1), (CampaignState::Running, 2)]);
    assert_eq!((totals.tally.recipients(), totals.tally.count(Shown::Sent)), (35, 1));
    assert_eq!(store.tenant_totals(&tenant("Other")).await.unwrap().tally, Tally::default());
}

pub(crate) async fn messages_are_listed_by_filter_and_page(factory: &dyn Factory) {
    let store = factory.open();
    let count = SEGMENT_LEN + 40;
    let key = running(&*store, "list", count).await.key;
    let last = count - 1;
    all_apply(&*store, key, [3, 4, 5, 6, last].map(|seq| (seq, intent(1))).to_vec()).await;
    let events = vec![
        (3, report(1, Reported::Failed)),
        (4, report(1, Reported::Read)),
        (5, report(1, Reported::Delivered)),
        (5, report(1, Reported::Failed)),
        (6, Event::Withdrawn { attempt: 1, at: at(1) }),
        (6, intent(2)),
        (last, report(1, Reported::Sent)),
    ];
    all_apply(&*store, key, events).await;
    let seqs = async |filter: MessageFilter| {
        let (mut seqs, mut after) = (Vec::new(), None);
        loop {
            let listed = store.messages(key, &filter, Page { size: 2, after }).await.unwrap();
            assert!(listed.items.len() <= 2);
            seqs.extend(listed.items.iter().map(|m| m.key.seq));
            after = listed.next;
            if after.is_none() {
                return seqs;
            }
        }
    };
    let any = MessageFilter::default;
    assert_eq!(seqs(MessageFilter { shown: vec![Shown::Failed], ..any() }).await, [3, 5]);
    assert_eq!(seqs(MessageFilter { shown: vec![Shown::Sent, Shown::Read], ..any() }).await, [4, last]);
    assert_eq!(seqs(MessageFilter { reached: Some(Stage::Delivered), ..any() }).await, [4, 5]);
    assert_eq!(seqs(MessageFilter { reached: Some(Stage::Sent), ..any() }).await, [4, 5, last]);
    assert_eq!(seqs(MessageFilter { conflict: true, ..any() }).await, [5]);
    assert_eq!(seqs(MessageFilter { doubled: true, ..any() }).await, [0_u32; 0]);
    assert_eq!(seqs(MessageFilter { failure_code: Some(131_026), ..any() }).await, [3, 5]);
    assert_eq!(seqs(MessageFilter { failure_code: Some(1), ..any() }).await, [0_u32; 0]);
    assert_eq!(seqs(MessageFilter { external_id: Some("ext-9".to_owned()), ..any() }).await, [9]);
    assert_eq!(seqs(MessageFilter { external_id: Some("' OR 1".to_owned()), ..any() }).await, [0_u32; 0]);
    let address = format!("+999{last:09}");
    assert_eq!(seqs(MessageFilter { address: Some(address), ..any() }).await, [last]);

    let all = store.messages(key, &any(), Page { size: 10_000, after: None }).await.unwrap();
    assert_eq!((all.items.len(), all.next.clone()), (count as usize, None));
    assert_eq!(all.items[6].state.older.len(), 0);
    let filter = MessageFilter { all_attempts: true, ..any() };
    let with_older = store.messages(key, &filter, Page { size: 8, after: None }).await.unwrap();
    assert_eq!(with_older.items[6], store.message(message(key, 6)).await.unwrap());
    let mut counted = Tally::default();
    all.items.iter().for_each(|record| counted.add(&record.state.facets(None)));
    assert_eq!(counted, checked_counts(&*store, key).await.tally);
}
