//! Batches of a former owner that were held back on their way and land when another has its pool: told as it happens, once.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::line::Line;
use super::nodes::{Node, campaign_at, expect_taken, node};
use super::server::{self, fresh_keyspace};
use super::*;
use crate::domain::ids::CampaignKey;
use crate::domain::message::{Event, Phase, Reported};
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::store::conformance::*;
use crate::store::{Committed, Entry, EntryResult, StoreError, StoreResult};

/// A commit of which nobody hears for now.
fn committing(node: &Node, key: CampaignKey, events: Vec<(u32, Event)>) -> JoinHandle<StoreResult<Committed>> {
    let store = Arc::clone(&node.store);
    let entries: Vec<Entry> = events.into_iter().map(|(seq, event)| entry(key, seq, event)).collect();
    tokio::spawn(async move { store.commit(entries).await })
}

fn rejected() -> Event {
    Event::Rejected { attempt: 1, at: at(4_700), failure: failure(100) }
}

/// Pending, queued, in doubt, sent, delivered, failed.
fn shown(tally: &Tally) -> [u64; 6] {
    use Shown::{Delivered, Failed, InDoubt, Pending, Queued, Sent};
    [Pending, Queued, InDoubt, Sent, Delivered, Failed].map(|shown| tally.count(shown))
}

/// The owner's batches stick on their way: answers, reports, intents. It falls asleep, another takes its pool and reads what there is of one
/// campaign, of the other only the counts; then they land.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_back_until_the_pool_was_anothers_is_counted_as_what_it_is() {
    let mut config = fresh_keyspace();
    // It ends by its own clock, and nobody renews it in between.
    config.lease = Duration::from_secs(60);
    let Some(line) = Line::to(&config).await else { return };
    // Its callers wait for as long as the story takes.
    let patience = Duration::from_secs(300);
    let over_the_line = ScyllaConfig { contact_points: vec![line.address.clone()], patience, ..config.clone() };
    let (a, b) = (node(&over_the_line, "a", 0), node(&config, "b", 0));
    let read = campaign_at(&a, 20).await.key;
    let counted_only = running(&*a.store, "counted-only", 20).await.key;
    all_apply(&*a.store, read, (0..6).map(|seq| (seq, intent(1))).collect()).await;
    let resend = Event::DoubtExpired { at: at(4_500), resend_up_to: Some(5) };
    for seq in [11, 12] {
        all_apply(&*a.store, read, vec![(seq, intent(1)), (seq, doubt(1, 4_400)), (seq, resend.clone())]).await;
    }
    all_apply(&*a.store, counted_only, (0..3).map(|seq| (seq, intent(1))).collect()).await;
    let taken = |seq: u32| (seq, accepted(1, &format!("wamid.{seq}")));
    all_apply(&*a.store, counted_only, (0..3).map(taken).collect()).await;

    let held = line.hold();
    let (delivered, sent) = (report(1, Reported::Delivered), report(1, Reported::Sent));
    let mut events = vec![taken(0), (1, delivered.clone()), (2, rejected()), (3, sent)];
    events.extend([(8, intent(1)), (9, intent(1)), (10, intent(1)), (11, intent(2)), (12, intent(2))]);
    let first = committing(&a, read, events);
    let events = vec![(0, delivered.clone()), (1, report(1, Reported::Failed)), (8, intent(1))];
    let second = committing(&a, counted_only, events);
    let both_stick = async {
        while held.lock().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both_stick).await.expect("both are sent");

    a.sleep();
    while !b.ownership.depose("a", &b.row("a").await).await.unwrap() {}
    expect_taken(&b.take().await.unwrap());
    assert_eq!(b.store.open_attempts(read, 0, 100).await.unwrap().len(), 6);
    all_apply(&*b.store, read, (0..6).map(|seq| (seq, doubt(1, 9_000))).collect()).await;
    // Of the messages whose intents stick one has begun here too, and one need not begin again.
    all_apply(&*b.store, read, vec![(10, intent(1)), (11, delivered)]).await;
    assert_eq!(b.store.open_attempts(counted_only, 0, 100).await.unwrap(), [], "by the counts");
    assert_eq!(shown(&checked_counts(&*b.store, read).await.tally), [12, 1, 6, 0, 1, 0]);
    assert_eq!(shown(&checked_counts(&*b.store, counted_only).await.tally), [17, 3, 0, 0, 0, 0]);
    assert!(!first.is_finished() && !second.is_finished(), "nobody was told that they are durable");

    let batches = held.lock().drain(..).collect();
    line.bring(batches).await;
    for key in [read, counted_only] {
        let (kept, counted) = b.store.recount(key).await.unwrap();
        assert_ne!(kept.tally, counted.tally, "the sampler finds it");
    }
    assert_eq!(b.store.mend(read).await.unwrap(), 7, "four outcomes and three intents; two have lost");
    let counts = checked_counts(&*b.store, read).await;
    assert_eq!(shown(&counts.tally), [12, 2, 2, 1, 2, 1]);
    assert_eq!((counts.tally.accepted, counts.tally.open, counts.tally.reached), (4, 1, [3, 2, 0]));
    assert_eq!(counts.failures.into_iter().collect::<Vec<_>>(), [(100, 1)]);
    let state = async |seq| b.store.message(message(read, seq)).await.unwrap().state;
    for (seq, phase, attempt) in [
        (0, Phase::Accepted, 1),
        (2, Phase::Failed, 1),
        (5, Phase::InDoubt, 1),
        (10, Phase::InFlight, 1),
        (11, Phase::Accepted, 1),
        (12, Phase::Pending, 2),
    ] {
        let state = state(seq).await;
        assert_eq!((state.phase, state.newest.unwrap().number), (phase, attempt), "{seq}");
    }
    // What the former owner never sent is void, and leaves with the next attempt.
    for (seq, attempt) in [(8, 1), (12, 2)] {
        assert!(state(seq).await.newest.unwrap().withdrawn_at.is_some());
        let next = vec![entry(read, seq, intent(attempt)), entry(read, seq, intent(attempt + 1))];
        let again = b.store.commit(next).await.unwrap();
        assert_eq!(again.results, [EntryResult::Refused, EntryResult::Applied]);
    }

    // Of what nobody had read nobody can tell whether it was sent: it is never taken back.
    assert!(b.store.mend(counted_only).await.unwrap() > 0);
    let counts = checked_counts(&*b.store, counted_only).await;
    assert_eq!(shown(&counts.tally), [16, 2, 0, 0, 1, 1]);
    assert_eq!((counts.tally.open, counts.tally.reached), (1, [1, 1, 0]));
    let open = b.store.open_attempts(counted_only, 0, 100).await.unwrap();
    assert_eq!(open.iter().map(|open| open.key.seq).collect::<Vec<_>>(), [8]);
    all_apply(&*b.store, counted_only, vec![(8, doubt(1, 9_000))]).await;
    for key in [read, counted_only] {
        assert_eq!(b.store.mend(key).await.unwrap(), 0, "once");
        checked_counts(&*b.store, key).await;
    }

    // The sleeper wakes and hears that its term is over; so do its callers.
    a.store.cut_off(false);
    a.ownership.announce_myself().await.unwrap();
    assert!(a.ownership.is_lost());
    for told in [first, second] {
        let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("it ends").unwrap();
        assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    }
    server::drop_keyspace(&config);
}
