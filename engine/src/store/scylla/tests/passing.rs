//! Pools that go from node to node, and what is written meanwhile.

use super::nodes::{node, pool};
use super::server::fresh_keyspace;
use super::*;
use crate::domain::campaign::CampaignState;
use crate::domain::ids::PoolId;
use crate::nodes::{HandOver, PoolRef};
use crate::store::EntryResult;
use crate::store::conformance::*;

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
