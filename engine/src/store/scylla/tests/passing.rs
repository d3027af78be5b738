//! Pools that go from node to node, and what is written meanwhile.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::super::hand_over::Leaving;
use super::nodes::{campaign_at, node, pool};
use super::server::fresh_keyspace;
use super::*;
use crate::domain::campaign::CampaignState;
use crate::domain::ids::PoolId;
use crate::nodes::{HandOver, NotGiven, PoolRef};
use crate::store::conformance::*;
use crate::store::{EntryResult, StoreError};

/// A draft that went with its pool is moved into one of this node's, and started there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_comes_back_by_another_pool() {
    let config = fresh_keyspace();
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let side = PoolRef { pool: PoolId::new("side").unwrap(), ..pool() };
    let seen = a.ownership.look().await.unwrap();
    a.ownership.take(&seen, &[pool(), side.clone()]).await.unwrap().unwrap();
    let key = a.store.create_campaign(campaign("draft"), None).await.unwrap().record.key;
    a.store.append_recipients(chunk(key, 0, 5)).await.unwrap();
    a.ownership.look().await.unwrap();
    a.ownership.give(vec![(pool(), HandOver::default())], "b").await.unwrap();
    assert_eq!(b.take().await.unwrap().len(), 1);
    let mut moved = b.store.campaign_by_key(key).await.unwrap();
    moved.pool = side.pool.clone();
    b.store.update_campaign(moved).await.unwrap();
    let mut sealed = a.store.seal(key, at(7)).await.unwrap();
    sealed.state = CampaignState::Running;
    a.store.update_campaign(sealed).await.unwrap();
    assert_eq!(a.store.commit(vec![entry(key, 0, intent(1))]).await.unwrap().results, [EntryResult::Applied]);
}

/// The ledger was asked to give a pool away, nobody knows whether it did, and the next try does not even come to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_a_pool_that_may_have_gone() {
    let mut config = fresh_keyspace();
    config.patience = Duration::from_secs(2);
    config.lease = Duration::from_secs(60);
    let (a, b) = (node(&config, "a", 0), node(&config, "b", 0));
    let key = campaign_at(&a, 20).await.key;
    a.store.commit((0..3).map(|seq| entry(key, seq, intent(1))).collect()).await.unwrap();
    let along = || vec![(pool(), HandOver::default())];
    let mut asked = Leaving::begin(&a.store.cache, &along());
    asked.stop(&mut along()).await.unwrap();
    asked.ask();
    drop(asked);
    let outcome = |seq: u32| vec![entry(key, seq, accepted(1, &format!("wamid.{seq}")))];
    // For as long as that takes no timestamp is to be had.
    a.sleep();
    let tried = a.ownership.give(along(), "b").await;
    assert!(matches!(tried, Err(NotGiven::Unknown(_))), "{tried:?}");
    a.store.cut_off(false);
    a.slept.store(0, SeqCst);
    assert!(a.ownership.term().1.holds());
    let told = a.store.commit(outcome(0)).await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "it waits for what the ledger says: {told:?}");
    let told = a.store.append_recipients(chunk(key, 20, 1)).await;
    assert!(matches!(told, Err(StoreError::Elsewhere(_))), "{told:?}");
    assert_eq!(b.store.tally(key).await.unwrap().tally.accepted, 0);
    // An outcome that waits from one try to the next is told when it is known.
    let (told, given) = tokio::join!(a.store.commit(outcome(1)), a.ownership.give(along(), "b"));
    given.unwrap();
    assert_eq!(told.unwrap().results, [EntryResult::Applied]);
    assert_eq!(b.take().await.unwrap().len(), 1);
    let heard: Vec<_> = b.ownership.told(&pool()).await.unwrap().into_iter().map(|told| told.key).collect();
    assert_eq!(heard, [message(key, 1)]);
}
