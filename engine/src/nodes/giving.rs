//! Giving pools away: for balance, and all of them when the node drains.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;

use futures_util::future::join_all;

use super::keeper::{Keeper, LOOK_OFTEN, State};
use super::{HandOver, NotGiven, PoolRef, Snapshot, plan};
use crate::metrics as names;
use crate::store::{StoreError, StoreResult};
use crate::supervisor::{Departure, weights};

/// Pools that are given away together.
const TOGETHER: usize = 16;

/// Pause before a gift whose outcome nobody knows is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl Keeper {
    /// Gives away what another should have.
    pub(super) async fn balance(&self, state: &mut State) -> StoreResult<()> {
        let now = self.now();
        let pause = self.context.config.nodes.rebalance_pause;
        let arrives = !state.arriving.is_empty() || !state.loading.is_empty();
        if state.moved_at.is_some_and(|at| now.since(at) < pause) || arrives {
            return Ok(());
        }
        let (epoch, _) = self.ownership().term();
        let gifts = self.gifts(epoch, &state.stuck);
        for (to, pools) in gifts {
            state.moved_at = Some(now);
            tracing::info!(to, pools = pools.len(), "pools move for balance");
            let stuck = self.give(&to, pools).await?;
            state.stuck.extend(stuck);
        }
        Ok(())
    }

    /// What this node gives away now, and to whom; not what cannot be given.
    fn gifts(&self, epoch: u64, stuck: &BTreeSet<PoolRef>) -> Vec<plan::Gift> {
        let mut held = self.table.held();
        held.retain(|pool| !stuck.contains(pool));
        let weights = weights(&self.context, held);
        plan::to_give(&self.table.snapshot(), self.me(epoch), &weights, |name| self.is_lively(name))
    }

    /// Whether another node was heard of lately. One that stands still keeps its lease for a while: pools that it was given would lie
    /// until that is over.
    fn is_lively(&self, name: &str) -> bool {
        self.table.watch.lock().still(name, self.now()) < self.ownership().lease() / 2
    }

    /// Announces pools, waits until their taker looks often, and gives them. Returns those that cannot be given.
    async fn give(&self, to: &str, pools: Vec<PoolRef>) -> StoreResult<Vec<PoolRef>> {
        let mut stuck = Vec::new();
        if !self.ownership().announce(&self.table.snapshot(), &pools, to).await? {
            return Ok(stuck);
        }
        // One look of the taker, and one whether it is still there.
        tokio::time::sleep(self.context.config.nodes.poll + LOOK_OFTEN).await;
        self.look().await?;
        if !plan::takes(&self.table.snapshot(), to) || !self.is_lively(to) {
            tracing::info!(to, "the node that the pools were to go to is not there: they stay");
            return Ok(stuck);
        }
        for some in pools.chunks(TOGETHER) {
            stuck.extend(self.give_now(to, some.to_vec()).await);
        }
        self.look().await?;
        Ok(stuck)
    }

    /// Shuts the gates of some pools, and gives them. Until it is known that they went, or that this node's term is over. Returns those that
    /// cannot be given for what the ledger holds of them: they are this node's as before, and come back to it with the next round.
    async fn give_now(&self, to: &str, pools: Vec<PoolRef>) -> Vec<PoolRef> {
        self.table.drop_pools(&pools);
        let departure = Departure::begin(&self.context, pools);
        departure.settle(&self.context, self.context.config.nodes.hand_over_wait).await;
        let along = departure.along();
        let mut stuck = Vec::new();
        if !self.hand(along.clone(), to).await {
            // One of them at least; the others go without it.
            for one in along {
                let pool = one.0.clone();
                if !self.hand(vec![one], to).await {
                    stuck.push(pool);
                }
            }
        }
        departure.forget(&self.context);
        stuck
    }

    /// Gives; false: they stay, for a reason that will not go away by itself. While nobody knows whether they went, it asks again.
    async fn hand(&self, along: Vec<(PoolRef, HandOver)>, to: &str) -> bool {
        while let Err(error) = self.ownership().give(along.clone(), to).await {
            if self.ownership().is_lost() {
                return true;
            }
            if let NotGiven::Stay(error) = &error
                && !matches!(error, StoreError::Unavailable(_))
            {
                let pools: Vec<String> = along.iter().map(|(pool, _)| pool.to_string()).collect();
                tracing::error!(
                    to,
                    ?pools,
                    %error,
                    "pools cannot be given away: this node works on them until it stops, another takes them over then; see to what the error names"
                );
                return false;
            }
            tracing::warn!(to, %error, "pools could not be given away; trying again");
            tokio::time::sleep(ASK_AGAIN).await;
        }
        metrics::counter!(names::POOLS_GIVEN).increment(along.len() as u64);
        true
    }

    /// Gives everything away, as long as somebody is there to take it and the time lasts. True: nothing is left.
    pub(crate) async fn drain(&self, most: Duration) -> bool {
        self.draining.store(true, Release);
        let drained = async {
            let state = &mut *self.state.lock().await;
            self.publish();
            if let Err(error) = self.ownership().announce_myself().await {
                tracing::warn!(%error, "the others do not hear yet that this node drains");
            }
            // What was taken a moment ago goes, too.
            state.arriving.clear();
            state.loading.shutdown().await;
            while !self.table.held().is_empty() && !self.ownership().is_lost() {
                self.look().await?;
                let (epoch, _) = self.ownership().term();
                // Also what could not be given before: whoever leaves tries everything.
                let (snapshot, gifts) = (self.table.snapshot(), self.gifts(epoch, &BTreeSet::new()));
                if !gifts.is_empty() {
                    self.give_all(&snapshot, gifts).await?;
                } else if plan::has_others(&snapshot, self.me(epoch)) {
                    // They may be about to die; whoever is left when that is known takes the pools.
                    tokio::time::sleep(self.context.config.nodes.poll).await;
                } else {
                    tracing::warn!("no other node is there to take the pools");
                    return Ok(());
                }
            }
            Ok::<(), StoreError>(())
        };
        match tokio::time::timeout(most, drained).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "pools could not be given away: they are taken over"),
            Err(_) => tracing::warn!("not all pools could be given away in time: the rest is taken over"),
        }
        self.table.held().is_empty()
    }

    /// Announces all, waits once, and gives them group by group, the groups of different takers beside each other.
    async fn give_all(&self, snapshot: &Snapshot, gifts: Vec<plan::Gift>) -> StoreResult<()> {
        let mut snapshot = snapshot.clone();
        for (to, pools) in &gifts {
            if !self.ownership().announce(&snapshot, pools, to).await? {
                // Somebody came between: looked at anew.
                return Ok(());
            }
            self.look().await?;
            snapshot = Snapshot::clone(&self.table.snapshot());
        }
        tokio::time::sleep(self.context.config.nodes.poll + LOOK_OFTEN).await;
        join_all(gifts.into_iter().map(async |(to, pools)| {
            for some in pools.chunks(TOGETHER) {
                self.give_now(&to, some.to_vec()).await;
            }
        }))
        .await;
        Ok(())
    }
}
