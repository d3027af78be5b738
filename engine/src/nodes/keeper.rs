//! The keeper of a node's pools: looks at the ledger, decides by `plan`, and moves pools into the engine and out of it.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Mutex;
use tokio::task::{JoinError, JoinSet};

use super::plan::{self, Me};
use super::{NodeSeen, Ownership, PoolRef, Table, Taken};
use crate::domain::time::Mono;
use crate::metrics as names;
use crate::store::{StoreError, StoreResult};
use crate::supervisor::{Context, arrive, drop_everything, follow_lines, heal_settled, weights};

/// While a pool is on its way to this node, it looks so often; at most as long as a gift takes to come.
pub(super) const LOOK_OFTEN: Duration = Duration::from_millis(20);
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// A pool that lies so long although its taker is there is taken by whoever sees it.
const LEFT_LYING: Duration = Duration::from_secs(3);

/// Of how many pools that nobody ever had one round asks whether they are there: callers make names up, and no take-over waits for a thousand
/// of them.
const NEW_AT_ONCE: usize = 64;

/// A pool that was made and that nobody takes for so long is anybody's.
const UNCLAIMED: Duration = Duration::from_secs(1);

/// Keeps a node's pools.
pub(crate) struct Keeper {
    pub(super) context: Arc<Context>,
    pub(super) table: Arc<Table>,
    pub(super) draining: AtomicBool,
    /// One round at a time.
    pub(super) state: Mutex<State>,
}

/// What was loaded, and whether it was.
type Loaded = (Vec<Taken>, StoreResult<()>);

#[derive(Default)]
pub(super) struct State {
    /// Taken, and yet to be loaded.
    pub(super) arriving: Vec<Taken>,
    /// Being loaded, beside whatever else is to be done: who waits for one pool's campaigns leaves no other lying.
    pub(super) loading: JoinSet<Loaded>,
    /// Since when each free pool has been lying.
    lying: HashMap<PoolRef, Mono>,
    /// When each pool that comes here was announced.
    coming: HashMap<PoolRef, Mono>,
    /// The generation whose lines are known.
    lines_of: Option<u64>,
    /// Pools with lines that nobody ever took, and since when they are known.
    unclaimed: HashMap<PoolRef, Mono>,
    /// There were more pools that nobody ever had than one round asks for.
    is_more_new: bool,
    pub(super) moved_at: Option<Mono>,
    /// Pools that cannot be given away for what the ledger holds of them.
    pub(super) stuck: BTreeSet<PoolRef>,
    /// The term was lost, and all that belonged to it is dropped.
    is_dropped: bool,
}

impl Keeper {
    pub(crate) fn new(context: Arc<Context>, table: Arc<Table>) -> Arc<Self> {
        // On the page from the beginning: a series that appears with its first event shows no rise.
        for rare in [names::POOLS_GIVEN, names::NODES_DEPOSED, names::TERMS_LOST, names::LATE_FACTS] {
            metrics::counter!(rare).increment(0);
        }
        Arc::new(Self { context, table, draining: AtomicBool::new(false), state: Mutex::default() })
    }

    pub(super) fn ownership(&self) -> &Arc<dyn Ownership> {
        self.table.ownership()
    }

    pub(super) fn now(&self) -> Mono {
        self.context.clock.mono()
    }

    /// Looks and acts until the engine ends.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let this = Arc::clone(&self);
            // In a task of its own: a panic in one round does not end all of them.
            let round = tokio::spawn(async move { this.round().await }).await;
            let often = match round {
                Ok(Ok(often)) => often,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "who owns what could not be looked at; trying again");
                    false
                }
                Err(error) => {
                    tracing::error!(%error, "a round of the keeper of pools failed");
                    false
                }
            };
            let pause = if often { LOOK_OFTEN } else { self.context.config.nodes.poll };
            let _ = tokio::time::timeout(pause, self.table.changed.notified()).await;
        }
    }

    /// One round: true when the next should come soon.
    pub(crate) async fn round(&self) -> StoreResult<bool> {
        let state = &mut *self.state.lock().await;
        if self.ownership().is_lost() {
            return self.come_back(state).await.map(|()| true);
        }
        self.look().await?;
        if self.end_dead().await? {
            self.look().await?;
        }
        self.follow(state).await?;
        self.take(state).await?;
        self.load(state)?;
        if !self.draining.load(Acquire) {
            self.balance(state).await?;
        }
        self.publish();
        Ok(self.expects(state))
    }

    pub(super) async fn look(&self) -> StoreResult<()> {
        let snapshot = self.ownership().look().await?;
        self.table.set_snapshot(snapshot);
        Ok(())
    }

    pub(super) fn me<'s>(&'s self, epoch: u64) -> Me<'s> {
        Me { name: self.ownership().name(), epoch, draining: self.draining.load(Acquire) }
    }

    /// Ends the terms of nodes whose leases are over; true: some were.
    async fn end_dead(&self) -> StoreResult<bool> {
        let (snapshot, now) = (self.table.snapshot(), self.now());
        let dead: Vec<(String, NodeSeen)> = {
            let watch = self.table.watch.lock();
            let dead = plan::dead(&snapshot, self.me(0), |name| watch.is_over(name, now));
            dead.into_iter().filter_map(|name| Some((name.to_owned(), snapshot.nodes.get(name)?.clone()))).collect()
        };
        for (name, seen) in &dead {
            if self.ownership().depose(name, seen).await? {
                tracing::warn!(node = name, epoch = seen.epoch, "the node's lease is over: its pools are taken over");
                metrics::counter!(names::NODES_DEPOSED).increment(1);
            }
        }
        Ok(!dead.is_empty())
    }

    /// Takes what is this node's to take.
    async fn take(&self, state: &mut State) -> StoreResult<()> {
        let (snapshot, now) = (self.table.snapshot(), self.now());
        let (epoch, _) = self.ownership().term();
        let me = self.me(epoch);
        let free: BTreeSet<&PoolRef> = snapshot.pools.keys().filter(|p| snapshot.is_free(p)).collect();
        state.lying.retain(|pool, _| free.contains(pool));
        for pool in free {
            state.lying.entry(pool.clone()).or_insert(now);
        }
        let has_waited = |pool: &PoolRef| state.lying.get(pool).is_some_and(|since| now.since(*since) >= LEFT_LYING);
        let (new, mut pools): (Vec<_>, Vec<_>) = plan::to_take(&snapshot, me, &self.table.wanted(), has_waited)
            .into_iter()
            .partition(|pool| !snapshot.pools.contains_key(pool));
        state.is_more_new = new.len() > NEW_AT_ONCE;
        for pool in new.into_iter().take(NEW_AT_ONCE) {
            if self.exists(&pool).await? {
                pools.push(pool);
            }
        }
        // The ledger says that they are this node's, and it never heard that it took them.
        let arriving: BTreeSet<PoolRef> = state.arriving.iter().map(|taken| taken.pool.clone()).collect();
        let unheard = |pool: &&PoolRef| !me.draining && !self.table.holds(pool) && !arriving.contains(*pool);
        for pool in plan::mine(&snapshot, me).filter(unheard) {
            tracing::info!(%pool, "the pool is this node's by the ledger, and was not here");
            self.ownership().recall(pool).await;
            self.arrives(state, Taken { pool: pool.clone(), generation: snapshot.generation, handed: None });
        }
        if pools.is_empty() {
            return Ok(());
        }
        let Some(taken) = self.ownership().take(&snapshot, &pools).await? else {
            // Somebody was faster: the next look says who has them.
            self.table.changed.notify_one();
            return Ok(());
        };
        for taken in taken {
            let had = snapshot.pools.get(&taken.pool);
            let (from, clean) = (had.map(|seen| seen.node.clone()), taken.handed.is_some());
            tracing::info!(
                pool = %taken.pool, from, clean, epoch, generation = taken.generation,
                "the pool is this node's"
            );
            let how = match (&from, clean) {
                (None, _) => "first",
                (Some(_), true) => "handed_over",
                (Some(_), false) => "taken_over",
            };
            metrics::counter!(names::POOLS_TAKEN, "how" => how).increment(1);
            self.arrives(state, taken);
        }
        self.look().await
    }

    fn arrives(&self, state: &mut State, taken: Taken) {
        self.table.hold([taken.pool.clone()]);
        state.arriving.push(taken);
    }

    async fn exists(&self, pool: &PoolRef) -> StoreResult<bool> {
        match self.context.store.pool(&pool.tenant, &pool.pool).await {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound(_)) => {
                self.table.forget_wanted(pool);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins to load what was taken, and serves what is loaded; what failed is tried again in the next round.
    fn load(&self, state: &mut State) -> StoreResult<()> {
        let mut failed = None;
        while let Some(done) = state.loading.try_join_next() {
            failed = self.loaded(state, done).err().or(failed);
        }
        // Not at once again after an error.
        if state.arriving.is_empty() || failed.is_some() {
            return failed.map_or(Ok(()), Err);
        }
        let taken = std::mem::take(&mut state.arriving);
        let (context, table) = (Arc::clone(&self.context), Arc::clone(&self.table));
        state.loading.spawn(async move {
            let arrived = AssertUnwindSafe(arrive(&context, table.ownership(), &taken)).catch_unwind().await;
            table.changed.notify_one();
            // After a panic it is still known what was to be loaded.
            (taken, arrived.unwrap_or_else(|_| Err(StoreError::Bug("a panic while pools were loaded".to_owned()))))
        });
        Ok(())
    }

    fn loaded(&self, state: &mut State, done: Result<Loaded, JoinError>) -> StoreResult<()> {
        let (taken, arrived) = done.map_err(|error| StoreError::Bug(error.to_string()))?;
        if let Err(error) = arrived {
            state.arriving.extend(taken);
            return Err(error);
        }
        let pools: Vec<PoolRef> = taken.into_iter().map(|taken| taken.pool).collect();
        self.table.serve(&pools);
        let tenants: BTreeSet<_> = pools.into_iter().map(|pool| pool.tenant).collect();
        let context = Arc::clone(&self.context);
        tokio::spawn(async move {
            for tenant in tenants {
                if let Err(error) = heal_settled(&context, Some(&tenant)).await {
                    tracing::warn!(%tenant, %error, "settled campaigns of pools that came could not be looked at");
                }
            }
        });
        Ok(())
    }

    /// Waits until nothing is being loaded any more.
    async fn finish_loading(&self, state: &mut State) -> StoreResult<()> {
        while let Some(done) = state.loading.join_next().await {
            self.loaded(state, done)?;
        }
        Ok(())
    }

    /// The first round: until what this node takes at once is loaded.
    pub(crate) async fn begin(&self) -> StoreResult<()> {
        self.round().await?;
        let state = &mut *self.state.lock().await;
        self.finish_loading(state).await
    }

    /// Follows changes of lines, and notes what is about to come here.
    async fn follow(&self, state: &mut State) -> StoreResult<()> {
        let snapshot = self.table.snapshot();
        let (name, now) = (self.ownership().name(), self.now());
        if state.lines_of != Some(snapshot.generation) {
            for pool in follow_lines(&self.context).await? {
                if !snapshot.pools.contains_key(&pool) {
                    // Found at the start: it has been there for long. Else whoever made it is about to take it.
                    let since = if state.lines_of.is_none() { now - UNCLAIMED } else { now };
                    state.unclaimed.entry(pool).or_insert(since);
                }
            }
            state.lines_of = Some(snapshot.generation);
        }
        state.unclaimed.retain(|pool, _| !snapshot.pools.contains_key(pool));
        for (pool, _) in state.unclaimed.iter().filter(|(_, since)| now.since(**since) >= UNCLAIMED) {
            self.table.want(pool.clone());
        }
        let coming = |pool: &PoolRef| {
            snapshot.pools.get(pool).is_some_and(|seen| seen.to.as_deref() == Some(name) && seen.node != name)
        };
        state.coming.retain(|pool, _| coming(pool));
        for pool in snapshot.pools.keys().filter(|pool| coming(pool)) {
            state.coming.entry(pool.clone()).or_insert(now);
        }
        Ok(())
    }

    /// Whether a pool is on its way here, or more of those that nobody ever had are to be asked for.
    fn expects(&self, state: &State) -> bool {
        let now = self.now();
        state.is_more_new || state.coming.values().any(|since| now.since(*since) < COMES_WITHIN)
    }

    /// This node's term was ended by another: nothing of it is its own any more, and it begins anew.
    async fn come_back(&self, state: &mut State) -> StoreResult<()> {
        if !state.is_dropped {
            let held = self.table.held();
            tracing::error!(
                pools = held.len(),
                "another node ended this one's term: it drops everything and begins anew"
            );
            metrics::counter!(names::TERMS_LOST).increment(1);
            self.table.drop_pools(&held);
            state.loading.shutdown().await;
            drop_everything(&self.context);
            *state = State { is_dropped: true, ..State::default() };
        }
        self.ownership().rejoin().await?;
        state.is_dropped = false;
        Ok(())
    }

    /// What the next renewal and the metrics say.
    pub(super) fn publish(&self) {
        let held = self.table.held();
        let load = weights(&self.context, held).values().sum();
        self.ownership().publish(load, self.draining.load(Acquire));
        #[allow(clippy::cast_precision_loss)] // counts and milliseconds stay far below 2^52
        {
            metrics::gauge!(names::POOLS_OWNED).set(self.table.held_count() as f64);
            metrics::gauge!(names::CLOCK_SKEW).set(self.table.farthest_skew() as f64 / 1_000.0);
        }
    }
}
