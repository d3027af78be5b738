//! The one source of client timestamps: microseconds since 1970, each larger than the one before, inside a range that was reserved
//! in the ledger before it was used.
//!
//! Whoever owns the same things next begins above that range, so that a late write of this process loses against its writes cell by
//! cell, whatever the clocks say. `owner` and `node` reserve; nothing else makes a timestamp.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::domain::time::{Clock, Mono};
use crate::nodes::Lease;
use crate::store::{StoreError, StoreResult};

/// How far the wall clock may run ahead of what has passed since it was compared with the server's, microseconds; beyond that it is
/// compared anew. Time services step by less, and clocks drift apart by less in a year.
const STEP_MAX: i64 = 3_600_000_000;

/// The timestamps of one process.
#[derive(Debug)]
pub(super) struct Stamps {
    clock: Clock,
    /// The wall clock when it was compared with the server's, microseconds, and the lease's clock then.
    compared: Mutex<(i64, Mono)>,
    last: AtomicI64,
    /// The first that is not reserved.
    ceiling: AtomicI64,
    lease: ArcSwap<Lease>,
    epoch: AtomicU64,
    /// What stands in intents.
    tag: ArcSwap<String>,
    lost: AtomicBool,
}

impl Stamps {
    /// None may be taken before [`Self::begin`]. The wall clock has just been compared with the server's.
    pub(super) fn new(clock: Clock) -> Self {
        let lease = ArcSwap::from_pointee(Lease::new(clock.clone()));
        let this = Self {
            clock,
            compared: Mutex::default(),
            last: 0.into(),
            ceiling: 0.into(),
            lease,
            epoch: 0.into(),
            tag: ArcSwap::default(),
            lost: false.into(),
        };
        this.compared(this.now());
        this
    }

    /// The wall clock in microseconds.
    pub(super) fn now(&self) -> i64 {
        self.clock.wall().0.saturating_mul(1_000)
    }

    /// The wall clock showed this, microseconds, when it was compared with the server's.
    pub(super) fn compared(&self, now: i64) {
        *self.compared.lock() = (now, self.clock.lease());
    }

    /// What the wall clock would show, microseconds, had nobody set it since it was compared.
    pub(super) fn unstepped(&self) -> i64 {
        let (wall, at) = *self.compared.lock();
        wall.saturating_add(i64::try_from(self.clock.lease().since(at).as_micros()).unwrap_or(i64::MAX))
    }

    /// Whether the wall clock, showing this, jumped ahead since it was compared.
    pub(super) fn is_jump(&self, now: i64) -> bool {
        now > self.unstepped().saturating_add(STEP_MAX)
    }

    /// A larger one than all before.
    pub(super) fn next(&self) -> StoreResult<i64> {
        if !self.are_allowed() {
            return Err(StoreError::Unavailable(
                "the lease could not be renewed in time: nothing is written until the server answers".to_owned(),
            ));
        }
        let (now, ceiling) = (self.now(), self.ceiling.load(Acquire));
        let take = |last: i64| Some(now.max(last + 1)).filter(|next| *next < ceiling);
        let Ok(last) = self.last.fetch_update(AcqRel, Acquire, take) else {
            return Err(StoreError::Unavailable(
                "the reserved timestamps are used up, or the clock jumped ahead of them: wait for the next renewal"
                    .to_owned(),
            ));
        };
        Ok(now.max(last + 1))
    }

    /// The highest that was taken or may still be.
    pub(super) fn last(&self) -> i64 {
        self.last.load(Acquire)
    }

    /// The first that is not reserved.
    pub(super) fn ceiling(&self) -> i64 {
        self.ceiling.load(Acquire)
    }

    /// None below `floor` is taken any more.
    pub(super) fn raise(&self, floor: i64) {
        self.last.fetch_max(floor - 1, AcqRel);
    }

    /// Begins a term: allows those from `base` up to below `ceiling`, until the lease ends that was asked for at `asked`.
    pub(super) fn begin(&self, epoch: u64, base: i64, ceiling: i64, lease: (Mono, Duration)) {
        self.begin_as(None, epoch, base, ceiling, lease);
    }

    /// The same as one of several nodes.
    pub(super) fn begin_as(
        &self,
        node: Option<&str>,
        epoch: u64,
        base: i64,
        ceiling: i64,
        (asked, span): (Mono, Duration),
    ) {
        let tag = node.map_or_else(|| epoch.to_string(), |node| format!("{node}/{epoch}"));
        self.tag.store(Arc::new(tag));
        let lease = Lease::new(self.clock.clone());
        lease.renew(asked, span);
        self.raise(base);
        self.ceiling.store(ceiling, Release);
        self.epoch.store(epoch, Release);
        self.lost.store(false, Release);
        self.lease.store(Arc::new(lease));
    }

    /// The term goes on.
    pub(super) fn extend(&self, ceiling: i64, (asked, span): (Mono, Duration)) {
        self.ceiling.fetch_max(ceiling, AcqRel);
        self.lease.load().renew(asked, span);
    }

    /// Allows no more in this term: somebody else came.
    pub(super) fn forbid(&self) {
        self.lease.load().end();
        self.ceiling.store(0, Release);
        self.lost.store(true, Release);
    }

    /// None may be taken in this term ever again.
    pub(super) fn are_forbidden(&self) -> bool {
        self.lost.load(Acquire)
    }

    /// Whether any may be taken now.
    pub(super) fn are_allowed(&self) -> bool {
        self.lease.load().holds()
    }

    /// The lease of this term.
    pub(super) fn lease(&self) -> Arc<Lease> {
        self.lease.load_full()
    }

    /// The term, as it stands in every intent: the epoch, behind the node's name where there are several.
    pub(super) fn tag(&self) -> Arc<String> {
        self.tag.load_full()
    }

    /// The epoch of the term.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMillis;

    #[tokio::test(start_paused = true)]
    async fn they_rise_and_stay_within_what_is_reserved() {
        let stamps = Stamps::new(Clock::with_wall(|| UnixMillis(1)));
        let lease = || (stamps.clock.lease(), Duration::from_secs(6));
        assert!(stamps.next().is_err(), "nothing is reserved");
        stamps.begin(4, 2_000, 2_002, lease());
        assert_eq!(
            (stamps.next(), stamps.next()),
            (Ok(2_000), Ok(2_001)),
            "above the range before, whatever the clock says"
        );
        assert!(stamps.next().is_err(), "used up");
        stamps.extend(9_000, lease());
        assert_eq!(stamps.next(), Ok(2_002));
        stamps.raise(3_000);
        assert_eq!(stamps.next(), Ok(3_000), "above what another left behind");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(stamps.next().is_err(), "the lease is over");
        assert_eq!(stamps.epoch(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_is_told_from_time_that_passes() {
        let stamps = Stamps::new(Clock::with_wall(|| UnixMillis(1_000)));
        let hours = |hours: i64| 1_000_000 + hours * STEP_MAX;
        assert!(!stamps.is_jump(hours(1)) && stamps.is_jump(hours(1) + 1));
        assert!(!stamps.is_jump(hours(-99)), "back it may go: timestamps rise all the same");
        tokio::time::advance(Duration::from_secs(7 * 3_600)).await;
        assert_eq!(stamps.unstepped(), hours(7));
        assert!(!stamps.is_jump(hours(8)) && stamps.is_jump(hours(8) + 1));
        stamps.compared(hours(20));
        assert!(!stamps.is_jump(hours(21)), "the server found it right");
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_was_lost_never_comes_back() {
        let stamps = Stamps::new(Clock::with_wall(|| UnixMillis(1)));
        let lease = || (stamps.clock.lease(), Duration::from_secs(6));
        stamps.begin(1, 0, 9_000, lease());
        let first = stamps.lease();
        stamps.forbid();
        stamps.extend(9_000, lease());
        assert!(stamps.next().is_err() && !first.holds(), "a late answer to a renewal does not bring it back");
        stamps.begin(2, 0, 9_000, lease());
        assert!(stamps.next().is_ok() && !stamps.are_forbidden());
        assert!(!first.holds(), "what belongs to the first term does not pass in the second");
    }
}
