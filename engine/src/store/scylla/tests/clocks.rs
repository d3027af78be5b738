//! Wall clocks that jump while the store works.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::nodes::{Node, campaign_at, expect_taken, node, pool};
use super::server::fresh_keyspace;
use super::ways::offered;
use super::*;
use crate::store::conformance::*;
use crate::store::{EntryResult, StoreError};

const DAY: i64 = 86_400_000;

/// Renews so many times at once, instead of waiting for that.
async fn renewed(node: &Node, times: usize) {
    for _ in 0..times {
        node.ownership.announce_myself().await.unwrap();
    }
}

/// A clock that is days ahead for a while reserves nothing there: what is dated there nobody after it could date above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_days_ahead_for_a_while_leaves_nothing_behind() {
    let mut config = fresh_keyspace();
    config.lease = Duration::from_secs(60);
    let a = node(&config, "a", 0);
    let key = campaign_at(&a, 20).await.key;
    a.ahead.store(3 * DAY, SeqCst);
    renewed(&a, 2).await;
    let told = a.store.commit(vec![entry(key, 0, intent(1))]).await;
    assert!(matches!(&told, Err(StoreError::Unavailable(why)) if why.contains("jumped ahead")), "{told:?}");
    assert!(!a.ownership.is_lost(), "its lease goes on");
    a.ahead.store(0, SeqCst);
    let sent = offered(&a.store, vec![entry(key, 0, intent(1)), entry(key, 1, intent(1))]).await;
    assert_eq!(sent, [EntryResult::Applied; 2]);
    a.store.close().await.unwrap();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    expect_taken(&b.take().await.unwrap());
    let sent = b.store.commit(vec![entry(key, 2, intent(1))]).await.unwrap();
    assert_eq!(sent.results, [EntryResult::Applied]);
    assert_eq!(checked_counts(&*b.store, key).await.tally.open, 3);
    assert_eq!(a.ownership.look().await.unwrap().pools[&pool()].node, "b");
}

/// A clock that was wrong and is set right by hours is believed: the server shows the same time, to a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_by_hours_is_believed() {
    let mut config = fresh_keyspace();
    config.lease = Duration::from_secs(60);
    let a = node(&config, "a", -DAY / 2);
    let key = campaign_at(&a, 20).await.key;
    for (seq, ahead) in [(0, 0), (1, -600_000), (2, 600_000)] {
        a.ahead.store(ahead, SeqCst);
        renewed(&a, 2).await;
        let sent = a.store.commit(vec![entry(key, seq, intent(1))]).await.unwrap();
        assert_eq!(sent.results, [EntryResult::Applied], "{ahead}");
    }
}
