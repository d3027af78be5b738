//! Many events set aside at once, in one call and in several.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::super::parked::{self, AT_ONCE};
use super::super::{NodeConfig, ScyllaStore};
use super::server::{self, fresh_keyspace};
use super::*;
use crate::domain::ids::AccountId;
use crate::domain::message::Reported;
use crate::domain::time::UnixMillis;
use crate::store::conformance::*;
use crate::store::{Page, ParkedEvent, ParkedMove};

const ALWAYS: UnixMillis = UnixMillis(i64::MAX / 2);

/// Does it, and says how many events of it were worked on at once at most.
async fn watched<T>(store: &ScyllaStore, work: impl Future<Output = T>) -> (T, usize) {
    let (mut work, mut most) = (pin!(work), 0);
    let done = future::poll_fn(|context| {
        let polled: Poll<T> = work.as_mut().poll(context);
        most = most.max(AT_ONCE - store.parked.slots.available_permits());
        polled
    });
    (done.await, most)
}

fn events(numbers: std::ops::Range<i64>) -> Vec<ParkedEvent> {
    numbers.map(|n| events::parked(&format!("w{n}"), Reported::Sent, 6_000 + n)).collect()
}

fn names(events: &[ParkedEvent]) -> BTreeSet<&str> {
    events.iter().map(|event| event.provider_id.as_ref()).collect()
}

/// Of each four the first is given up, the second waits.
async fn expect_settled(store: &ScyllaStore, due: &[ParkedEvent]) {
    let waits: Vec<ParkedEvent> = due.iter().skip(1).step_by(4).cloned().collect();
    assert_eq!(names(&store.parked(ALWAYS, usize::MAX).await.unwrap()), names(&waits));
    let account = [AccountId::new("meta-1").unwrap()];
    let orphans = store.orphans(&account, Page { size: due.len(), after: None }).await.unwrap().items;
    let given_up: Vec<&str> = due.iter().step_by(4).rev().map(|event| event.provider_id.as_ref()).collect();
    let listed: Vec<&str> = orphans.iter().map(|event| event.provider_id.as_ref()).collect();
    assert_eq!(listed, given_up, "newest first");
}

/// A node that has died leaves them faster than they could be written one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_parked_found_and_settled_side_by_side() {
    const MANY: i64 = 2_000;
    let (name, address, version) = ("a".to_owned(), "a:7403".to_owned(), "1".to_owned());
    for node in [None, Some(NodeConfig { name, address, version, protocol: 1 })] {
        let mut config = fresh_keyspace();
        config.node = node;
        // Whatever else this machine does meanwhile.
        config.lease = Duration::from_secs(60);
        let store = open(&config);
        let side_by_side = AT_ONCE / 2..=AT_ONCE;
        assert_eq!(store.parked_counts(ALWAYS).await.unwrap().parked, 0);
        let (new, at_once) = watched(&store, store.park(events(0..MANY))).await;
        assert_eq!(new.unwrap(), 2_000);
        assert!(side_by_side.contains(&at_once), "{at_once} written at once");

        let (due, at_once) = watched(&store, store.parked(ALWAYS, usize::MAX)).await;
        let due = due.unwrap();
        assert!(side_by_side.contains(&at_once), "{at_once} read at once");
        assert_eq!(names(&due).len(), 2_000);
        assert!(due.is_sorted_by_key(|event| event.look_at), "earliest first");

        let fate = |(n, event): (usize, &ParkedEvent)| match n % 4 {
            0 => (event.id, ParkedMove::Orphaned),
            1 => (event.id, ParkedMove::LookAgain(UnixMillis(9_000))),
            _ => (event.id, ParkedMove::Placed),
        };
        let moves: Vec<_> = due.iter().enumerate().map(fate).collect();
        let (settled, at_once) = watched(&store, store.settle_parked(moves)).await;
        settled.unwrap();
        assert!(side_by_side.contains(&at_once), "{at_once} marked at once");

        expect_settled(&store, &due).await;
        // And by the rows.
        store.close().await.unwrap();
        drop(store);
        expect_settled(&open(&config), &due).await;
        server::drop_keyspace(&config);
    }
}

/// A provider repeats what it heard no answer to, at whichever connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_park_the_same_events_one_parks_each() {
    let config = fresh_keyspace();
    let store = open(&config);
    let calls = future::join_all((0..40).map(|_| store.park(events(0..50)))).await;
    assert_eq!(calls.into_iter().map(Result::unwrap).sum::<usize>(), 50);
    assert_eq!(store.parked_counts(ALWAYS).await.unwrap().parked, 50);
    let ids: Vec<u64> = store.parked(ALWAYS, 99).await.unwrap().iter().map(|event| event.id).collect();
    let orphaned = || ids.iter().map(|id| (*id, ParkedMove::Orphaned)).collect();
    let calls = future::join_all((0..10).map(|_| store.settle_parked(orphaned()))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(store.parked_counts(ALWAYS).await.unwrap().orphans, 50, "each is given up once");
    server::drop_keyspace(&config);
}

/// Parked, placed and parked again by calls that know nothing of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_memory_say_the_same_whoever_is_first() {
    println!("seed 61");
    let mut chance = StdRng::seed_from_u64(61);
    let config = fresh_keyspace();
    let store = open(&config);
    store.park(events(0..20)).await.unwrap();
    let ids: Vec<u64> = store.parked(ALWAYS, 99).await.unwrap().iter().map(|event| event.id).collect();
    for round in 0..10 {
        let calls: Vec<_> = (0..60).map(|_| (chance.random_bool(0.5), chance.random_range(0..20))).collect();
        let calls = calls.into_iter().map(|(parks, first)| {
            let mut ids = ids.clone();
            ids.shuffle(&mut chance);
            let store = &store;
            async move {
                match parks {
                    true => store.park(events(first..20)).await.map(drop),
                    false => store.settle_parked(ids.into_iter().map(|id| (id, ParkedMove::Placed)).collect()).await,
                }
            }
        });
        let calls: Vec<_> = calls.collect();
        for done in future::join_all(calls).await {
            done.unwrap();
        }
        let held: BTreeSet<u64> = store.parked(ALWAYS, 99).await.unwrap().iter().map(|event| event.id).collect();
        let written: BTreeSet<u64> = parked::waiting(&store.cql).await.unwrap().into_iter().collect();
        assert_eq!(held, written, "round {round}");
    }
    server::drop_keyspace(&config);
}
