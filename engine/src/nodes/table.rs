//! What this node knows: the last snapshot, and what it holds of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::skew::Skew;
use super::{
    Directory, Lease, Mine, NodeView, NodesView, Ownership, Peer, PoolRef, PoolState, PoolView, Snapshot, Watch,
    Whereabouts,
};
use crate::domain::ids::{CampaignId, CampaignKey, LineId, PoolId, TenantId};
use crate::domain::line::Line;
use crate::domain::time::{Clock, UnixMillis};
use crate::store::{Store, StoreResult};

/// Campaigns whose pools are remembered. They never move once anything was sent.
const CAMPAIGNS_KNOWN_MAX: usize = 100_000;

/// Pools that are wanted at once: callers name them, and may name what is not there.
const WANTED_MAX: usize = 1_000;

/// How long the creation of a line waits until its pool has an owner, and how often it looks.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A pool that is this node's.
#[derive(Debug)]
struct Held {
    lease: Arc<Lease>,
    /// What belongs to it is loaded.
    serving: bool,
}

/// What this node knows and holds.
pub(crate) struct Table {
    ownership: Arc<dyn Ownership>,
    store: Arc<dyn Store>,
    clock: Clock,
    snapshot: ArcSwap<Snapshot>,
    looked_at: AtomicI64,
    held: RwLock<HashMap<PoolRef, Held>>,
    wanted: Mutex<BTreeSet<PoolRef>>,
    /// Something is to be looked at now.
    pub(super) changed: Notify,
    campaigns: RwLock<HashMap<CampaignKey, PoolRef>>,
    pub(super) watch: Mutex<Watch>,
    skew: Mutex<Skew>,
}

impl Table {
    pub(crate) fn new(ownership: Arc<dyn Ownership>, store: Arc<dyn Store>, clock: Clock) -> Self {
        let watch = Mutex::new(Watch::new(ownership.lease()));
        Self {
            ownership,
            store,
            clock,
            snapshot: ArcSwap::default(),
            looked_at: AtomicI64::new(0),
            held: RwLock::default(),
            wanted: Mutex::default(),
            changed: Notify::new(),
            campaigns: RwLock::default(),
            watch,
            skew: Mutex::default(),
        }
    }

    pub(super) fn ownership(&self) -> &Arc<dyn Ownership> {
        &self.ownership
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Takes in what was read.
    pub(super) fn set_snapshot(&self, snapshot: Snapshot) {
        self.watch.lock().look(&snapshot.nodes, self.clock.mono());
        let wall = self.clock.wall();
        self.skew.lock().look(&snapshot.nodes, wall);
        self.looked_at.store(wall.0, Release);
        self.wanted.lock().retain(|pool| !snapshot.pools.contains_key(pool));
        self.snapshot.store(Arc::new(snapshot));
    }

    /// How far the clocks are apart at most, milliseconds.
    pub(super) fn farthest_skew(&self) -> i64 {
        self.skew.lock().farthest()
    }

    pub(super) fn wanted(&self) -> BTreeSet<PoolRef> {
        self.wanted.lock().clone()
    }

    /// Pools are this node's from now on; what belongs to them is yet to be loaded.
    pub(super) fn hold(&self, pools: impl IntoIterator<Item = PoolRef>) {
        let (_, lease) = self.ownership.term();
        let held = |pool| (pool, Held { lease: Arc::clone(&lease), serving: false });
        self.held.write().extend(pools.into_iter().map(held));
    }

    /// They are loaded.
    pub(super) fn serve(&self, pools: &[PoolRef]) {
        let mut held = self.held.write();
        for pool in pools {
            if let Some(held) = held.get_mut(pool) {
                held.serving = true;
            }
        }
    }

    /// They are not this node's any more, or about not to be.
    pub(super) fn drop_pools(&self, pools: &[PoolRef]) {
        let mut held = self.held.write();
        pools.iter().for_each(|pool| drop(held.remove(pool)));
    }

    /// Pools that are held.
    pub(super) fn held(&self) -> Vec<PoolRef> {
        self.held.read().keys().cloned().collect()
    }

    /// How many are held.
    pub(crate) fn held_count(&self) -> usize {
        self.held.read().len()
    }

    pub(super) fn holds(&self, pool: &PoolRef) -> bool {
        self.held.read().contains_key(pool)
    }

    fn whereabouts(&self, pool: &PoolRef) -> Whereabouts {
        if let Some(held) = self.held.read().get(pool) {
            // Where the lease is over, somebody else may have it: the next look says so.
            return if held.serving && held.lease.holds() { Whereabouts::Here } else { Whereabouts::Nobody };
        }
        let snapshot = self.snapshot.load();
        match snapshot.owner_of(pool) {
            // Taken, and not loaded yet.
            Some((name, _)) if name == self.ownership.name() => Whereabouts::Nobody,
            Some((name, node)) => Whereabouts::There(node.peer(name)),
            None if snapshot.pools.contains_key(pool) => Whereabouts::Nobody,
            None => {
                self.want(pool.clone());
                // Whatever makes the pool is done here.
                Whereabouts::Here
            }
        }
    }

    /// A pool that nobody ever had is asked for: it will be this node's, if there is such a pool.
    pub(super) fn want(&self, pool: PoolRef) {
        let mut wanted = self.wanted.lock();
        if wanted.len() < WANTED_MAX && wanted.insert(pool) {
            self.changed.notify_one();
        }
    }

    /// There is no such pool: nobody wants it.
    pub(super) fn forget_wanted(&self, pool: &PoolRef) {
        self.wanted.lock().remove(pool);
    }
}

#[async_trait]
impl Directory for Table {
    fn of_pool(&self, tenant: &TenantId, pool: &PoolId) -> Whereabouts {
        self.whereabouts(&PoolRef::new(tenant, pool))
    }

    async fn of_campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Whereabouts> {
        let campaign = self.store.campaign(tenant, id).await?;
        Ok(self.of_pool(tenant, &campaign.pool))
    }

    async fn of_campaign_key(&self, key: CampaignKey) -> StoreResult<Whereabouts> {
        if let Some(pool) = self.campaigns.read().get(&key) {
            return Ok(self.whereabouts(pool));
        }
        let campaign = self.store.campaign_by_key(key).await?;
        let pool = PoolRef::new(&campaign.tenant, &campaign.pool);
        let found = self.whereabouts(&pool);
        // Before it starts it may still move.
        if campaign.started_at.is_some() {
            let mut known = self.campaigns.write();
            if known.len() >= CAMPAIGNS_KNOWN_MAX {
                known.clear();
            }
            known.insert(key, pool);
        }
        Ok(found)
    }

    async fn of_line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Whereabouts> {
        let line = self.store.line(tenant, id).await?;
        Ok(self.of_pool(tenant, &line.pool))
    }

    fn alive(&self) -> Vec<Peer> {
        let snapshot = self.snapshot.load();
        let alive = snapshot.nodes.iter().filter(|(_, node)| !node.left);
        alive.map(|(name, node)| node.peer(name)).collect()
    }

    fn epoch(&self) -> u64 {
        self.ownership.term().0
    }
}

#[async_trait]
impl Mine for Table {
    fn lease_of(&self, pool: &PoolRef) -> Option<Arc<Lease>> {
        self.held.read().get(pool).map(|held| Arc::clone(&held.lease))
    }

    async fn line_changed(&self, line: &Line) {
        let pool = PoolRef::new(&line.tenant, &line.pool);
        if !self.holds(&pool) && !self.snapshot.load().pools.contains_key(&pool) {
            self.want(pool.clone());
        }
        // Also the owner's own lines: others must know whose account they are of.
        if let Err(error) = self.ownership.lines_changed().await {
            tracing::warn!(line = %line.id, %error, "the other nodes hear of the line when the ownership of any pool changes next");
        }
        self.changed.notify_one();
        // Whoever created it goes on with it at once.
        let begun = self.clock.mono();
        while self.clock.mono().since(begun) < ARRIVES_WITHIN
            && (!self.snapshot.load().pools.contains_key(&pool) || self.whereabouts(&pool) == Whereabouts::Nobody)
        {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn settles_orphans(&self) -> bool {
        let snapshot = self.snapshot.load();
        let first = snapshot.nodes.iter().find(|(_, node)| !node.left && !node.draining);
        first.is_none_or(|(name, _)| name == self.ownership.name())
    }

    fn view(&self) -> Option<NodesView> {
        let (snapshot, now) = (self.snapshot.load(), self.clock.mono());
        let (watch, skew, me) = (self.watch.lock(), self.skew.lock(), self.ownership.name());
        let state = |pool: &PoolRef, given: bool| match (snapshot.owner_of(pool), given) {
            (_, true) => PoolState::Given,
            (None, _) => PoolState::Orphaned,
            (Some((name, _)), _) if name == me && !self.held.read().get(pool).is_some_and(|held| held.serving) => {
                PoolState::Arriving
            }
            _ => PoolState::Owned,
        };
        let pools: Vec<PoolView> = snapshot
            .pools
            .iter()
            .map(|(pool, seen)| PoolView {
                pool: pool.clone(),
                node: seen.node.clone(),
                why: seen.why,
                since: seen.since,
                state: state(pool, seen.given),
                to: seen.to.clone(),
            })
            .collect();
        let owned = |name: &str| {
            let is_its =
                |view: &&PoolView| view.node == name && matches!(view.state, PoolState::Owned | PoolState::Arriving);
            pools.iter().filter(is_its).count() as u64
        };
        let nodes = snapshot.nodes.iter().map(|(name, node)| NodeView {
            name: name.clone(),
            address: node.address.clone(),
            version: node.version.clone(),
            protocol: node.protocol,
            epoch: node.epoch,
            alive: !node.left,
            draining: node.draining,
            load: node.load,
            pools: owned(name),
            skew_ms: skew.of(name).filter(|_| name != me),
            lease: if name == me { self.ownership.term().1.left() } else { watch.still(name, now) },
        });
        Some(NodesView {
            me: me.to_owned(),
            as_of: UnixMillis(self.looked_at.load(Acquire)),
            generation: snapshot.generation,
            nodes: nodes.collect(),
            pools,
        })
    }
}
