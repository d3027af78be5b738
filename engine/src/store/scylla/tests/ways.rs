//! What only this store does: repeated batches, parts of batches, counts made from rows, segments that give way.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::super::connect;
use super::server::{self, fresh_keyspace};
use super::*;
use crate::domain::ids::{AccountId, CampaignKey, SEGMENT_LEN};
use crate::domain::message::{Decision, Event, Reported};
use crate::domain::stage::{End, Shown};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::conformance::*;
use crate::store::{Entry, EntryResult, InboundEvent, StoreError};

fn intents(key: CampaignKey, seqs: std::ops::Range<u32>) -> Vec<Entry> {
    seqs.map(|seq| entry(key, seq, intent(1))).collect()
}

/// The server stands still in the middle: callers hear it in bounded time, nothing is lost, nothing is applied twice, and whoever
/// offers the same again gets what was written meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_when_the_server_froze_is_finished() {
    let mut config = fresh_keyspace();
    (config.patience, config.request_timeout) = (Duration::from_millis(500), Duration::from_millis(200));
    config.lease = Duration::from_secs(20);
    let store = open(&config);
    let key = running(&*store, "frozen", 300).await.key;
    store.commit(intents(key, 0..50)).await.unwrap();
    let Some(frozen) = server::freeze() else {
        eprintln!("this server is not ours to freeze (SLUICE_CQL_NODES): not tried");
        return;
    };
    let told = store.commit(intents(key, 50..100)).await.unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "{told}");
    assert!(!store.health().writable, "sending stops");
    let told = store.commit(intents(key, 100..150)).await.unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "behind it nothing is taken in: {told}");
    drop(frozen);
    let resumed = async {
        while !store.health().writable {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), resumed).await.expect("it resumes by itself");
    for expected in [EntryResult::Applied, EntryResult::Refused] {
        let answer = store.commit(intents(key, 50..100)).await.unwrap();
        assert_eq!(answer.results, vec![expected; 50], "offered again by its callers, and by nobody else");
    }
    assert_eq!(store.commit(intents(key, 100..150)).await.unwrap().results, vec![EntryResult::Applied; 50]);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 150);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(checked_counts(&*open(&config), key).await.tally.open, 150);
}

/// Offers entries until they are taken, as a hand-out does: what is asked while a refusal is told may be refused with it.
pub(super) async fn offered(store: &ScyllaStore, entries: Vec<Entry>) -> Vec<EntryResult> {
    let taken = async {
        loop {
            match store.commit(entries.clone()).await {
                Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                answer => return answer.unwrap().results,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken).await.expect("it is taken")
}

/// A batch that is refused before it was ever sent (the wall clock jumped beyond the reserved timestamps): two hand-outs of the same messages
/// that both offer them until they are taken must not both get them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_never_written_is_given_to_one_caller_only() {
    let mut config = fresh_keyspace();
    // No renewal, which would reserve more, comes within the test.
    config.lease = Duration::from_secs(60);
    let ahead = Arc::new(AtomicI64::new(0));
    let clock = {
        let ahead = Arc::clone(&ahead);
        Clock::with_wall(move || {
            let UnixMillis(now) = Clock::system().wall();
            UnixMillis(now + ahead.load(Relaxed))
        })
    };
    let opened = config.clone();
    let store = server::block(async move { ScyllaStore::open(opened, clock).await.expect("it opens") });
    let key = running(&*store, "jumped", 50).await.key;
    ahead.store(3_600_000, Relaxed);
    let told = store.commit(intents(key, 0..20)).await.unwrap_err();
    assert!(matches!(told, StoreError::Unavailable(_)), "{told}");
    ahead.store(0, Relaxed);
    for expected in [EntryResult::Applied, EntryResult::Refused] {
        let results = offered(&store, intents(key, 0..20)).await;
        assert_eq!(results, vec![expected; 20], "one caller gets them, whoever comes first");
    }
    // Both in one commit.
    ahead.store(3_600_000, Relaxed);
    assert!(store.commit(intents(key, 20..21)).await.is_err());
    ahead.store(0, Relaxed);
    let both = offered(&store, [intents(key, 20..21), intents(key, 20..21)].concat()).await;
    assert_eq!(both, [EntryResult::Applied, EntryResult::Refused]);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_commit_goes_in_parts_that_each_count_right() {
    let mut config = fresh_keyspace();
    (config.batch_rows_max, config.batch_bytes_max) = (7, 1_024);
    let store = open(&config);
    let key = running(&*store, "parts", 100).await.key;
    let before = store.counters();
    let mut entries = intents(key, 0..100);
    entries.extend((0..100).map(|seq| entry(key, seq, report(1, Reported::Sent))));
    let committed = store.commit(entries).await.unwrap();
    assert_eq!(committed.results, vec![EntryResult::Applied; 200]);
    let parts = store.counters().batches - before.batches;
    assert!(parts >= 200 / 7, "{parts} parts");
    assert_eq!(committed.tallies, [(key, checked_counts(&*store, key).await.tally)]);
}

/// The campaign goes to another node while the first part of a call is under way: nobody is told that this part is durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_is_not_answered_before_its_parts_are_durable() {
    let mut config = fresh_keyspace();
    config.batch_rows_max = 2;
    let store = open(&config);
    let key = running(&*store, "cut", 10).await.key;
    store.commit(intents(key, 0..5)).await.unwrap();
    let cql = &store.cql;
    let slots = u32::try_from(cql.permits.available_permits()).unwrap();
    // What is sent waits for a slot.
    let slots = cql.permits.acquire_many(slots).await.unwrap();
    let before = cql.stamps.last();
    let reports = (0..5).map(|seq| entry(key, seq, report(1, Reported::Sent))).collect();
    let call = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(reports).await }
    });
    let cut = async {
        // A batch is dated when it is full, and the rest of its call waits.
        while cql.stamps.last() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cut).await.expect("the first part is made");
    store.cache.forget_all();
    let told = call.await.unwrap();
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    drop(slots);
}

/// A batch of a former owner that lands late leaves counts that are not those of the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_are_the_truth() {
    let config = fresh_keyspace();
    let store = open(&config);
    let key = running(&*store, "truth", 20).await.key;
    store.commit(intents(key, 0..5)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let session = connect::connect(&config).await.unwrap();
    let wrong = format!(
        "UPDATE {}.message SET tally = {{'pending': 20, 'untried': 20}} WHERE tenant = 'acme' AND campaign = {} AND segment = 0",
        config.keyspace, key.0
    );
    // The servers' own time may lie before ours.
    let mut statement = scylla::statement::Statement::new(wrong);
    statement.set_timestamp(Some(4_000_000_000_000_000));
    // Refused a day ahead by nobody but ScyllaDB; then the counts are right already.
    let wronged = session.query_unpaged(statement, ()).await.is_ok();
    let store = open(&config);
    store.commit(intents(key, 5..6)).await.unwrap();
    let (_, counted) = store.recount(key).await.unwrap();
    let known = store.tally(key).await.unwrap().tally;
    assert_eq!((known, known.open), (counted.tally, 6), "wronged: {wronged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_give_way_and_come_back() {
    let mut config = fresh_keyspace();
    config.segments_held_max = 1;
    let store = open(&config);
    let key = running(&*store, "many", 2 * SEGMENT_LEN + 10).await.key;
    let places = [0, SEGMENT_LEN, 2 * SEGMENT_LEN];
    for round in 0..2 {
        for place in places {
            store.commit(intents(key, place + round..place + round + 1)).await.unwrap();
        }
    }
    for place in places {
        let sent = store.commit(vec![entry(key, place, report(1, Reported::Sent))]).await.unwrap();
        assert_eq!(sent.results, [EntryResult::Applied]);
    }
    assert_eq!(checked_counts(&*store, key).await.tally.open, 3);
}

/// What a caller was told of a failure about outlives its segment in memory, and does not keep it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_gives_way_and_what_is_unclaimed_of_it_stays() {
    let mut config = fresh_keyspace();
    config.segments_held_max = 1;
    let store = open(&config);
    let key = running(&*store, "unclaimed", 2 * SEGMENT_LEN).await.key;
    store.commit(intents(key, 0..2)).await.unwrap();
    let place = store.cache.place((key, 0));
    // Its task ends a moment after the answer.
    while Arc::strong_count(&place) > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    place.unclaimed.lock().insert(1, 1);
    drop(place);
    store.commit(intents(key, SEGMENT_LEN..SEGMENT_LEN + 1)).await.unwrap();
    assert!(store.cache.place((key, 0)).segment.lock().await.is_none(), "it gave way");
    let again = store.commit(intents(key, 0..2)).await.unwrap();
    assert_eq!(again.results, [EntryResult::Refused, EntryResult::Applied], "offered again, once");
    assert_eq!(store.commit(intents(key, 1..2)).await.unwrap().results, [EntryResult::Refused]);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 3);
}

/// Nothing is written for what an end takes back: the next owner must find it void all the same, in registers and in counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_end_took_back_stays_so_for_the_next_owner() {
    let config = fresh_keyspace();
    let store = open(&config);
    let tried = running(&*store, "tried", 20).await;
    let key = tried.key;
    let again = Event::Resolved { decision: Decision::SendAgain, at: at(6_000) };
    for seq in 0..3 {
        all_apply(&*store, key, vec![(seq, intent(1)), (seq, doubt(1, 8_000)), (seq, again.clone())]).await;
    }
    all_apply(&*store, key, vec![(1, intent(2)), (2, intent(2)), (2, doubt(2, 9_000))]).await;
    let (tried, _) = store.end_campaign(tried, End::Cancelled).await.unwrap();
    let shown = |tally: Tally| [Shown::Pending, Shown::Cancelled].map(|shown| tally.count(shown));
    let reopen = async |store: Arc<ScyllaStore>| {
        store.close().await.unwrap();
        drop(store);
        open(&config)
    };
    let store = reopen(store).await;
    assert_eq!(shown(store.tally(key).await.unwrap().tally), [0, 18]);
    assert_eq!(store.next_due(key).await.unwrap(), None);
    for seq in 0..3 {
        assert!(!store.message(message(key, seq)).await.unwrap().state.again, "{seq}");
    }
    // Decided behind the end, it outlives a restart, though not the next end.
    all_apply(&*store, key, vec![(2, again)]).await;
    let store = reopen(store).await;
    assert_eq!(shown(store.tally(key).await.unwrap().tally), [1, 18]);
    assert_eq!(shown(checked_counts(&*store, key).await.tally), [1, 18]);
    assert_eq!(store.read_due(key, at(99_000), 10).await.unwrap().len(), 1);
    let (_, tally) = store.end_campaign(tried, End::Expired).await.unwrap();
    assert_eq!(shown(tally), [0, 19], "it ends as it did");
    let store = reopen(store).await;
    assert_eq!(shown(store.tally(key).await.unwrap().tally), [0, 19]);
    assert_eq!(shown(checked_counts(&*store, key).await.tally), [0, 19]);
    assert_eq!(store.read_due(key, at(99_000), 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_inbound_events_give_way_also_to_the_next_owner() {
    let config = fresh_keyspace();
    let event = |number: i64| InboundEvent {
        account: AccountId::new("main").unwrap(),
        kind: "messages".into(),
        provider_id: format!("in-{number}").into(),
        body: "{}".into(),
        at: at(number),
    };
    let store = open(&config);
    assert_eq!(store.keep_inbound((0..5).map(event).collect(), 6).await.unwrap(), 0);
    store.close().await.unwrap();
    drop(store);
    let store = open(&config);
    assert_eq!(store.keep_inbound((3..8).map(event).collect(), 6).await.unwrap(), 2, "0 and 1");
    assert_eq!(store.keep_inbound((2..4).map(event).collect(), 6).await.unwrap(), 0, "those are kept already");
    assert_eq!(store.keep_inbound(vec![event(0)], 6).await.unwrap(), 1);
}
