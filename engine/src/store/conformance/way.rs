//! The way of the messages: windows, commits, waiting, doubt, the end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::domain::campaign::DeliveryPolicy;
use crate::domain::ids::SEGMENT_LEN;
use crate::domain::message::{Decision, Event, Phase, Reported};
use crate::domain::stage::{End, Shown, Stage};
use crate::domain::tally::Tally;
use crate::store::{EntryResult, OpenAttempt};

pub(crate) async fn a_window_gives_untried_recipients_in_order(factory: &dyn Factory) {
    let store = factory.open();
    let count = 2 * SEGMENT_LEN + 100;
    let key = running(&*store, "window", count).await.key;
    let all: Vec<_> = (0..SEGMENT_LEN + 5).map(|seq| (seq, intent(1))).collect();
    all_apply(&*store, key, all).await;
    all_apply(&*store, key, vec![(SEGMENT_LEN + 7, intent(1))]).await;

    let mut seen = BTreeSet::new();
    let mut from = Some(0);
    while let Some(seq) = from {
        let window = store.read_window(key, seq, 1_000).await.unwrap();
        assert!(window.messages.len() <= 1_000);
        for message in &window.messages {
            assert_eq!((message.next_attempt, message.retries), (1, 0));
            assert_eq!(message.address.as_ref(), format!("+999{:09}", message.key.seq));
            assert_eq!(message.params.as_ref(), format!("[\"name {}\"]", message.key.seq));
            assert!(seen.insert(message.key.seq), "given twice");
        }
        assert!(window.next_seq.is_none_or(|next| next > seq), "a window goes on");
        from = window.next_seq;
    }
    let expected: BTreeSet<_> = (SEGMENT_LEN + 5..count).filter(|seq| *seq != SEGMENT_LEN + 7).collect();
    assert_eq!(seen, expected);

    let draft = store.create_campaign(campaign("draft"), None).await.unwrap().record.key;
    store.append_recipients(chunk(draft, 0, 10)).await.unwrap();
    assert_eq!(store.read_window(draft, 0, 10).await.unwrap().messages, Vec::new(), "a draft has no messages to send");
}

pub(crate) async fn a_message_goes_its_way_and_the_tally_with_it(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "way", 10).await.key;
    assert_eq!(checked_counts(&*store, key).await.tally, Tally::untouched(10, None));
    let steps: [(Event, Shown); 5] = [
        (intent(1), Shown::Queued),
        (accepted(1, "wamid.1"), Shown::Queued),
        (report(1, Reported::Sent), Shown::Sent),
        (report(1, Reported::Read), Shown::Read),
        (report(1, Reported::Delivered), Shown::Read),
    ];
    for (event, shown) in steps {
        let committed = store.commit(vec![entry(key, 3, event)]).await.unwrap();
        assert_eq!(committed.results, [EntryResult::Applied]);
        let kept = checked_counts(&*store, key).await.tally;
        assert_eq!(committed.tallies, [(key, kept)]);
        assert_eq!((kept.count(shown), kept.count(Shown::Pending), kept.recipients()), (1, 9, 10));
    }
    let record = store.message(message(key, 3)).await.unwrap();
    let newest = record.state.newest.unwrap();
    assert_eq!((record.shown, record.state.reached, newest.number, newest.line), (Shown::Read, Stage::Read, 1, LINE));
    assert_eq!((newest.intent_at, newest.accepted_at), (at(4_000), Some(at(4_100))));
    assert_eq!(newest.provider_id.as_deref(), Some("wamid.1"));
    assert_eq!(newest.delivered.map(|seen| (seen.at, seen.provider_at)), Some((at(5_000), Some(5))));
    let untouched = store.message(message(key, 4)).await.unwrap();
    assert_eq!((untouched.shown, untouched.state.newest), (Shown::Pending, None));
    assert_eq!(untouched.external_id.as_deref(), Some("ext-4"));
    assert_eq!(untouched.origin, (import("list"), 4), "its import and its row there");
}

pub(crate) async fn entries_that_do_not_fit_are_told_apart(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "fit", 10).await.key;
    let draft = store.create_campaign(campaign("draft"), None).await.unwrap().record.key;
    store.append_recipients(chunk(draft, 0, 5)).await.unwrap();
    let entries = vec![
        entry(key, 0, intent(2)),
        entry(key, 0, intent(1)),
        entry(key, 0, intent(2)),
        entry(key, 0, accepted(1, "wamid.0")),
        entry(key, 0, accepted(1, "wamid.0")),
        entry(key, 0, report(9, Reported::Sent)),
        entry(key, 10, intent(1)),
        entry(key, u32::MAX, intent(1)),
        entry(draft, 0, intent(1)),
        entry(crate::domain::ids::CampaignKey(77), 0, intent(1)),
        entry(key, 1, intent(1)),
    ];
    use EntryResult::{Applied, NoChange, Refused, Unknown};
    let expected = [Refused, Applied, Refused, Applied, NoChange, Refused, Unknown, Unknown, Unknown, Unknown, Applied];
    assert_eq!(store.commit(entries).await.unwrap().results, expected);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 1);
    assert_eq!(store.commit(Vec::new()).await.unwrap().results, []);
}

pub(crate) async fn waiting_messages_come_when_they_are_due(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "due", 10).await.key;
    let back = |due_at: i64, charged: bool| Event::NotProcessed {
        attempt: 1,
        at: at(4_300),
        failure: Some(failure(130_429)),
        charged,
        due_at: at(due_at),
    };
    all_apply(&*store, key, (0..4).map(|seq| (seq, intent(1))).collect()).await;
    all_apply(
        &*store,
        key,
        vec![
            (0, back(9_000, true)),
            (1, back(7_000, false)),
            (2, back(8_000, true)),
            (3, Event::Withdrawn { attempt: 1, at: at(9_500) }),
        ],
    )
    .await;
    assert_eq!(store.next_due(key).await.unwrap(), Some(at(7_000)));
    assert_eq!(store.read_due(key, at(6_999), 10).await.unwrap(), []);
    let due = store.read_due(key, at(9_499), 10).await.unwrap();
    let seen: Vec<_> = due.iter().map(|m| (m.key.seq, m.next_attempt, m.retries)).collect();
    assert_eq!(seen, [(1, 2, 0), (2, 2, 1), (0, 2, 1)], "earliest first");
    assert_eq!(due[0].address.as_ref(), "+999000000001");
    assert_eq!(store.read_due(key, at(9_500), 2).await.unwrap().len(), 2);
    let window = store.read_window(key, 0, 10).await.unwrap();
    assert_eq!(window.messages.iter().map(|m| m.key.seq).collect::<Vec<_>>(), (4..10).collect::<Vec<_>>());
    let kept = checked_counts(&*store, key).await.tally;
    assert_eq!((kept.count(Shown::Pending), kept.open), (10, 0));
    all_apply(&*store, key, vec![(1, intent(2))]).await;
    assert_eq!(store.next_due(key).await.unwrap(), Some(at(8_000)));
}

pub(crate) async fn doubts_expire_when_their_wait_is_over(factory: &dyn Factory) {
    let store = factory.open();
    let once = running(&*store, "once", 5).await;
    let mut least = running(&*store, "least", 5).await;
    least.settings.policy = DeliveryPolicy::AtLeastOnce { grace_ms: 60_000 };
    let least = store.update_campaign(least).await.unwrap();
    assert_eq!(least.settings.policy.wait(), Duration::from_secs(60));
    for key in [once.key, least.key] {
        all_apply(&*store, key, (0..3).map(|seq| (seq, intent(1))).collect()).await;
        all_apply(&*store, key, vec![(0, doubt(1, 8_000)), (1, doubt(1, 7_000)), (2, doubt(1, 9_000))]).await;
        assert_eq!(store.doubt_due(key, at(6_999), 9).await.unwrap(), []);
        let due = store.doubt_due(key, at(8_000), 9).await.unwrap();
        assert_eq!(due, [message(key, 1), message(key, 0)]);
        assert_eq!(store.read_due(key, at(99_000), 9).await.unwrap(), [], "in doubt is not pending");
    }
    assert_eq!(store.next_due(once.key).await.unwrap(), None, "at most once sends nothing again");
    assert_eq!(store.next_due(least.key).await.unwrap(), Some(at(7_000)));
    all_apply(&*store, once.key, vec![(1, Event::DoubtExpired { at: at(7_000), resend_up_to: None })]).await;
    all_apply(&*store, least.key, vec![(1, Event::DoubtExpired { at: at(7_000), resend_up_to: Some(5) })]).await;
    assert_eq!(store.message(message(once.key, 1)).await.unwrap().shown, Shown::Unconfirmed);
    assert_eq!(store.read_due(least.key, at(7_000), 9).await.unwrap().len(), 1);
    let kept = checked_counts(&*store, once.key).await.tally;
    assert_eq!((kept.count(Shown::InDoubt), kept.count(Shown::Unconfirmed)), (2, 1));
}

pub(crate) async fn open_attempts_are_found_after_a_restart(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "open", SEGMENT_LEN + 50).await.key;
    let open = [0, 7, SEGMENT_LEN - 1, SEGMENT_LEN, SEGMENT_LEN + 49];
    all_apply(&*store, key, open.iter().chain(&[9]).map(|seq| (*seq, intent(1))).collect()).await;
    all_apply(&*store, key, vec![(9, accepted(1, "wamid.9"))]).await;
    store.close().await.unwrap();
    drop(store);

    let store = factory.open();
    let found = store.open_attempts(key, 0, 100).await.unwrap();
    assert_eq!(found, open.map(|seq| OpenAttempt { key: message(key, seq), attempt: 1 }));
    assert_eq!(store.open_attempts(key, 8, 2).await.unwrap(), found[2..4]);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 5);
}

pub(crate) async fn an_ended_campaign_sends_only_what_was_decided_to_be_sent_again(factory: &dyn Factory) {
    let store = factory.open();
    let running = running(&*store, "end", SEGMENT_LEN + 20).await;
    let key = running.key;
    let late = SEGMENT_LEN + 3;
    all_apply(&*store, key, [0, 1, 2, late].map(|seq| (seq, intent(1))).to_vec()).await;
    let again = Event::Resolved { decision: Decision::SendAgain, at: at(6_000) };
    all_apply(&*store, key, vec![(0, doubt(1, 8_000)), (0, again.clone()), (1, doubt(1, 8_000))]).await;
    all_apply(&*store, key, vec![(2, Event::Withdrawn { attempt: 1, at: at(6_000) })]).await;

    let (ended, tally) = store.end_campaign(running.clone(), End::Cancelled).await.unwrap();
    assert_eq!((ended.end, ended.version), (Some(End::Cancelled), running.version + 1));
    assert_eq!(tally, checked_counts(&*store, key).await.tally);
    let waits = async |seq| store.message(message(key, seq)).await.unwrap().state.again;
    assert!(!waits(0).await, "the end takes back what was decided before it");
    let counts = |tally: &Tally| {
        [Shown::Pending, Shown::Queued, Shown::InDoubt, Shown::Cancelled].map(|shown| tally.count(shown))
    };
    let all = u64::from(SEGMENT_LEN) + 20;
    assert_eq!(counts(&tally), [0, 1, 1, all - 2]);
    assert!(store.end_campaign(running, End::Cancelled).await.is_err(), "the version has moved on");

    assert_eq!(store.read_window(key, 0, 10).await.unwrap().messages, []);
    assert_eq!(store.read_due(key, at(99_000), 10).await.unwrap(), []);
    let refused = vec![entry(key, 0, intent(2)), entry(key, 2, intent(2)), entry(key, 5, intent(1))];
    let refused = store.commit(refused).await.unwrap();
    assert_eq!(refused.results, [EntryResult::Refused; 3], "cancelled messages do not leave");
    // Decided after the end, and what still was in flight comes back.
    all_apply(&*store, key, vec![(1, again), (late, Event::Withdrawn { attempt: 1, at: at(7_000) })]).await;
    assert_eq!(counts(&checked_counts(&*store, key).await.tally), [1, 0, 0, all - 1]);
    let due = store.read_due(key, at(99_000), 10).await.unwrap();
    assert_eq!(due.iter().map(|m| m.key.seq).collect::<Vec<_>>(), [1], "only what was decided to be sent again");
    assert_eq!(store.next_due(key).await.unwrap(), Some(at(6_000)));
    all_apply(&*store, key, vec![(1, intent(2))]).await;
    assert_eq!(counts(&checked_counts(&*store, key).await.tally), [0, 1, 0, all - 1]);

    let (ended, _) = store.end_campaign(ended, End::Expired).await.unwrap();
    assert_eq!(ended.end, Some(End::Cancelled), "a campaign ends once");
    checked_counts(&*store, key).await;

    let draft = store.create_campaign(campaign("draft"), None).await.unwrap().record;
    store.append_recipients(chunk(draft.key, 0, 10)).await.unwrap();
    let (_, tally) = store.end_campaign(draft.clone(), End::Cancelled).await.unwrap();
    assert_eq!(tally.count(Shown::Cancelled), 10);
    assert_eq!(checked_counts(&*store, draft.key).await.tally, tally);
}

pub(crate) async fn ending_again_takes_back_what_was_to_be_sent_again(factory: &dyn Factory) {
    let store = factory.open();
    let (waiting, flying, doubtful, last) = (0, 1, 2, SEGMENT_LEN + 7);
    let again = Event::Resolved { decision: Decision::SendAgain, at: at(6_000) };
    let tried = running(&*store, "tried", SEGMENT_LEN + 20).await;
    let of = tried.key;
    for seq in [waiting, flying, doubtful, last] {
        all_apply(&*store, of, vec![(seq, intent(1)), (seq, doubt(1, 8_000)), (seq, again.clone())]).await;
    }
    all_apply(&*store, of, vec![(flying, intent(2)), (doubtful, intent(2)), (doubtful, doubt(2, 9_000))]).await;
    assert_eq!(checked_counts(&*store, of).await.tally.count(Shown::Pending), u64::from(SEGMENT_LEN) + 18);
    let (tried, tally) = store.end_campaign(tried, End::Expired).await.unwrap();
    assert_eq!(tally, checked_counts(&*store, of).await.tally);
    assert_eq!((tally.count(Shown::Pending), tally.count(Shown::Queued), tally.count(Shown::InDoubt)), (0, 1, 1));
    for seq in [waiting, flying, doubtful, last] {
        assert!(!store.message(message(of, seq)).await.unwrap().state.again, "{seq}");
    }
    // What was in flight comes back unused: it waits for nobody.
    all_apply(&*store, of, vec![(flying, Event::Withdrawn { attempt: 2, at: at(7_000) })]).await;
    assert_eq!(store.message(message(of, flying)).await.unwrap().shown, Shown::Expired);
    assert_eq!(store.next_due(of).await.unwrap(), None);
    // Decided anew after the end, it waits; ended once more, it does not.
    all_apply(&*store, of, vec![(doubtful, again)]).await;
    assert_eq!(checked_counts(&*store, of).await.tally.count(Shown::Pending), 1);
    let (tried, tally) = store.end_campaign(tried, End::Cancelled).await.unwrap();
    assert_eq!((tried.end, tally.count(Shown::Pending)), (Some(End::Expired), 0), "a campaign ends once");
    assert_eq!(store.message(message(of, doubtful)).await.unwrap().shown, Shown::Expired);
    checked_counts(&*store, of).await;
    // A late echo of the attempt that was in doubt still decides.
    all_apply(&*store, of, vec![(waiting, report(1, Reported::Delivered))]).await;
    assert_eq!(store.message(message(of, waiting)).await.unwrap().shown, Shown::Delivered);
    checked_counts(&*store, of).await;
}

pub(crate) async fn facts_of_every_attempt_are_kept(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "facts", 5).await.key;
    let refused =
        Event::NotProcessed { attempt: 1, at: at(4_500), failure: Some(failure(1)), charged: true, due_at: at(5_000) };
    all_apply(&*store, key, vec![(0, intent(1)), (0, refused), (0, intent(2))]).await;
    all_apply(&*store, key, vec![(0, Event::Withdrawn { attempt: 2, at: at(4_600) })]).await;
    all_apply(&*store, key, vec![(0, intent(3))]).await;
    let rejected = Event::Rejected { attempt: 3, at: at(4_700), failure: failure(131_026) };
    all_apply(&*store, key, vec![(0, rejected)]).await;
    let state = store.message(message(key, 0)).await.unwrap().state;
    assert_eq!((state.phase, state.retries), (Phase::Failed, 1));
    assert_eq!(state.older.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(state.older[0].failure, Some(failure(1)));
    assert_eq!(state.older[1].withdrawn_at, Some(at(4_600)));
    let newest = state.newest.unwrap();
    assert_eq!(
        (newest.number, newest.failure, newest.failed.map(|seen| seen.at)),
        (3, Some(failure(131_026)), Some(at(4_700)))
    );
}

pub(crate) async fn an_old_attempts_echo_is_applied_to_it(factory: &dyn Factory) {
    let store = factory.open();
    let key = running(&*store, "echo", 5).await.key;
    let resend = Event::DoubtExpired { at: at(6_000), resend_up_to: Some(5) };
    all_apply(&*store, key, vec![(0, intent(1)), (0, doubt(1, 6_000)), (0, resend), (0, intent(2))]).await;
    all_apply(&*store, key, vec![(0, accepted(2, "wamid.2"))]).await;
    store.close().await.unwrap();
    drop(store);
    let store = factory.open();
    let committed = store
        .commit(vec![entry(key, 0, report(1, Reported::Delivered)), entry(key, 0, report(1, Reported::Delivered))]);
    assert_eq!(committed.await.unwrap().results, [EntryResult::Applied, EntryResult::NoChange]);
    let record = store.message(message(key, 0)).await.unwrap();
    assert_eq!((record.shown, record.state.reached, record.state.doubled), (Shown::Queued, Stage::Delivered, true));
    assert!(record.state.older[0].delivered.is_some());
    assert_eq!(checked_counts(&*store, key).await.tally.doubles, 1);
}

/// However it comes to be known, and in whatever commits: what is said of an older attempt while nobody hears of the newest decides.
pub(crate) async fn what_an_older_attempt_came_to_shows_while_the_newest_is_silent(factory: &dyn Factory) {
    let resend = || Event::DoubtExpired { at: at(6_000), resend_up_to: Some(5) };
    let store = factory.open();
    let key = running(&*store, "silent", 5).await.key;
    for seq in 0..2 {
        all_apply(&*store, key, vec![(seq, intent(1)), (seq, doubt(1, 6_000)), (seq, resend())]).await;
        all_apply(&*store, key, vec![(seq, intent(2)), (seq, doubt(2, 6_000))]).await;
    }
    all_apply(&*store, key, vec![(0, report(1, Reported::Failed)), (1, report(1, Reported::Sent))]).await;
    store.close().await.unwrap();
    drop(store);
    let store = factory.open();
    all_apply(&*store, key, vec![(0, report(1, Reported::Sent)), (1, report(1, Reported::Failed))]).await;
    // Nothing is known of the older attempt here but what was kept.
    all_apply(&*store, key, vec![(0, resend()), (1, resend())]).await;
    for seq in 0..2 {
        let record = store.message(message(key, seq)).await.unwrap();
        assert_eq!((record.shown, record.state.reached), (Shown::Failed, Stage::Sent), "{seq}");
    }
    assert_eq!(checked_counts(&*store, key).await.tally.count(Shown::Failed), 2);
    all_apply(&*store, key, vec![(0, report(2, Reported::Delivered))]).await;
    assert_eq!(store.message(message(key, 0)).await.unwrap().shown, Shown::Delivered);
    let kept = checked_counts(&*store, key).await.tally;
    assert_eq!((kept.count(Shown::Failed), kept.doubles), (1, 1));
}
