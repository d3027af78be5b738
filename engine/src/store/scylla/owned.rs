//! What this process may write to: everything, where it shares the keyspace with nobody; else the campaigns of its pools.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::domain::ids::CampaignKey;
use crate::domain::time::Mono;
use crate::nodes::PoolRef;
use crate::store::{StoreError, StoreResult};

/// How long outcomes of attempts that were given away in flight are told to the new owner. Longer than any answer of a provider is
/// waited for: 300 s, where that is set to the most.
const TOLD_FOR: Duration = Duration::from_secs(330);

/// Where a campaign stands whose pool was given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is being given away: its outcomes wait for a moment.
    Giving,
    /// It is somebody else's: outcomes of what was in flight are told to that one.
    Gone(PoolRef),
    /// It stayed.
    Stayed,
}

/// A campaign on its way to another node.
#[derive(Debug)]
struct Passing {
    pool: PoolRef,
    state: watch::Sender<Passage>,
    until: Mono,
}

/// What is ours.
#[derive(Debug)]
pub(super) struct Owned {
    /// All of the keyspace.
    alone: bool,
    /// Our pools, each with the number of the change that made it ours.
    pools: RwLock<HashMap<PoolRef, u64>>,
    changes: AtomicU64,
    /// Pools that are being given away: campaigns of theirs that were not held when that began are not taken up any more. True: the ledger was
    /// asked, and has not said yet whether they went; nothing at all is written to them.
    leaving: Mutex<HashMap<PoolRef, bool>>,
    passing: Mutex<HashMap<CampaignKey, Passing>>,
}

impl Owned {
    /// Everything.
    pub(super) fn everything() -> Self {
        Self { alone: true, ..Self::nothing() }
    }

    /// Nothing yet.
    pub(super) fn nothing() -> Self {
        Self {
            alone: false,
            pools: RwLock::default(),
            changes: AtomicU64::new(1),
            leaving: Mutex::default(),
            passing: Mutex::default(),
        }
    }

    /// Nobody else works on the keyspace.
    pub(super) fn is_alone(&self) -> bool {
        self.alone
    }

    /// A number that every change moves.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// Whether a pool is ours.
    pub(super) fn has(&self, pool: &PoolRef) -> bool {
        self.alone || self.pools.read().contains_key(pool)
    }

    /// Whether a pool is ours, and was when this number of [`Self::changes`] was read.
    pub(super) fn had(&self, pool: &PoolRef, changes: u64) -> bool {
        self.alone || self.pools.read().get(pool).is_some_and(|since| *since <= changes)
    }

    /// A pool is ours from now on.
    pub(super) fn add(&self, pool: PoolRef) {
        let change = self.changes.fetch_add(1, AcqRel) + 1;
        self.pools.write().insert(pool, change);
    }

    /// A pool is not ours any more.
    pub(super) fn remove(&self, pool: &PoolRef) {
        self.changes.fetch_add(1, AcqRel);
        self.pools.write().remove(pool);
    }

    /// Nothing is ours any more.
    pub(super) fn clear(&self) {
        self.changes.fetch_add(1, AcqRel);
        self.pools.write().clear();
        self.leaving.lock().clear();
        self.passing.lock().clear();
    }

    /// Fails unless a campaign of this pool may be written to: the pool is ours, and stays so until what is under way for the campaign is
    /// known to be written.
    pub(super) fn expect(&self, pool: &PoolRef, key: CampaignKey) -> StoreResult<()> {
        if self.alone {
            return Ok(());
        }
        let leaving = || self.leaving.lock().get(pool).copied();
        let is_left_out = || leaving().is_some_and(|asked| asked || !self.passing.lock().contains_key(&key));
        if !self.has(pool) || is_left_out() { Err(elsewhere(pool)) } else { Ok(()) }
    }

    /// A pool begins to go away. Before it is looked which of its campaigns are held. True: the ledger was asked before, and nobody knows
    /// what it decided.
    pub(super) fn begin_leaving(&self, pool: &PoolRef) -> bool {
        *self.leaving.lock().entry(pool.clone()).or_default()
    }

    /// The ledger is asked to give it away.
    pub(super) fn ask_leaving(&self, pool: &PoolRef) {
        self.leaving.lock().insert(pool.clone(), true);
    }

    /// It went, or stayed.
    pub(super) fn end_leaving(&self, pool: &PoolRef) {
        self.leaving.lock().remove(pool);
    }

    /// A campaign of a pool begins to go away. Whoever waits since an earlier try goes on waiting.
    pub(super) fn begin_passing(&self, key: CampaignKey, pool: &PoolRef) {
        let mut all = self.passing.lock();
        if all.get(&key).is_none_or(|passing| *passing.state.borrow() != Passage::Giving) {
            let state = watch::Sender::new(Passage::Giving);
            all.insert(key, Passing { pool: pool.clone(), state, until: Mono(u64::MAX) });
        }
    }

    /// How it ended, for all campaigns of a pool.
    pub(super) fn end_passing(&self, pool: &PoolRef, end: &Passage, now: Mono) {
        let mut all = self.passing.lock();
        let is_giving = |passing: &Passing| passing.pool == *pool && *passing.state.borrow() == Passage::Giving;
        for passing in all.values_mut().filter(|passing| is_giving(passing)) {
            passing.state.send_replace(end.clone());
            passing.until = now + TOLD_FOR;
        }
        all.retain(|_, passing| passing.until > now && *passing.state.borrow() != Passage::Stayed);
    }

    /// A pool came back: its campaigns are ours.
    pub(super) fn forget_passing(&self, pool: &PoolRef) {
        self.passing.lock().retain(|_, passing| passing.pool != *pool);
    }

    /// Whether any campaign goes away or went lately.
    pub(super) fn is_any_passing(&self) -> bool {
        !self.alone && !self.passing.lock().is_empty()
    }

    /// A campaign is of this pool now. If that is ours, it came back by another way than with the pool that it went with: a draft may be
    /// moved from pool to pool.
    pub(super) fn forget_gone(&self, key: CampaignKey, pool: &PoolRef) {
        let mut all = self.passing.lock();
        let is_gone = all.get(&key).is_some_and(|passing| matches!(*passing.state.borrow(), Passage::Gone(_)));
        // A pool that goes is not ours before its campaigns are said to be gone.
        if is_gone && self.has(pool) {
            all.remove(&key);
        }
    }

    /// Where a campaign stands that goes away or went lately; `None`: it is not one of those.
    pub(super) fn passage(&self, key: CampaignKey, now: Mono) -> Option<watch::Receiver<Passage>> {
        let all = self.passing.lock();
        all.get(&key).filter(|passing| passing.until > now).map(|passing| passing.state.subscribe())
    }
}

/// The pool is another node's.
pub(super) fn elsewhere(pool: &PoolRef) -> StoreError {
    StoreError::Elsewhere(format!("pool {pool} is another node's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{PoolId, TenantId};

    #[test]
    fn a_passage_ends_by_itself_or_when_the_campaign_comes_back() {
        let pool = |pool: &str| PoolRef { tenant: TenantId::new("acme").unwrap(), pool: PoolId::new(pool).unwrap() };
        let (owned, key, went) = (Owned::nothing(), CampaignKey(1), Mono(5));
        let passes = |now| owned.passage(key, now).is_some();
        owned.begin_passing(key, &pool("one"));
        owned.end_passing(&pool("one"), &Passage::Gone(pool("one")), went);
        assert!(passes(went + TOLD_FOR - Duration::from_nanos(1)) && !passes(went + TOLD_FOR));
        owned.forget_gone(key, &pool("one"));
        assert!(passes(went), "its pool is not ours");
        owned.add(pool("two"));
        owned.forget_gone(key, &pool("two"));
        assert!(!passes(went), "it was moved into one that is");
        owned.begin_passing(key, &pool("two"));
        owned.forget_gone(key, &pool("two"));
        assert!(passes(went), "it is about to go");
        owned.end_passing(&pool("two"), &Passage::Stayed, went);
        assert!(!passes(went));
    }
}
