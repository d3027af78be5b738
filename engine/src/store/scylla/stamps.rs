//! The one source of client timestamps: microseconds since 1970, each larger than the one before, inside a range that was reserved
//! in the ledger before it was used.
//!
//! Whoever owns the keyspace next begins above that range, so that a late write of this process loses against its writes cell by
//! cell, whatever the clocks say. `owner` reserves; nothing else makes a timestamp.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

use crate::domain::time::{Clock, Mono};
use crate::store::{StoreError, StoreResult};

/// The timestamps of one owner.
#[derive(Debug)]
pub(super) struct Stamps {
    clock: Clock,
    last: AtomicI64,
    /// The first that is not reserved.
    ceiling: AtomicI64,
    /// The lease ends then, as [`Mono`].
    valid_until: AtomicU64,
    epoch: AtomicU64,
    lost: AtomicBool,
}

impl Stamps {
    /// None may be taken before [`Self::allow`].
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, last: 0.into(), ceiling: 0.into(), valid_until: 0.into(), epoch: 0.into(), lost: false.into() }
    }

    /// The wall clock in microseconds.
    pub(super) fn now(&self) -> i64 {
        self.clock.wall().0.saturating_mul(1_000)
    }

    /// A larger one than all before.
    pub(super) fn next(&self) -> StoreResult<i64> {
        if self.clock.mono() >= Mono(self.valid_until.load(Acquire)) {
            return Err(StoreError::Unavailable(
                "the lease of the keyspace could not be renewed in time: nothing is written until the server answers"
                    .to_owned(),
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

    /// Allows those from `base` up to below `ceiling`, until the lease ends. The base counts the first time only.
    pub(super) fn allow(&self, epoch: u64, base: i64, ceiling: i64, valid_until: Mono) {
        self.last.fetch_max(base - 1, AcqRel);
        self.ceiling.store(ceiling, Release);
        self.epoch.store(epoch, Release);
        self.valid_until.store(valid_until.0, Release);
    }

    /// Allows no more: somebody else owns the keyspace.
    pub(super) fn forbid(&self) {
        self.ceiling.store(0, Release);
        self.valid_until.store(0, Release);
        self.lost.store(true, Release);
    }

    /// None may be taken ever again.
    pub(super) fn are_forbidden(&self) -> bool {
        self.lost.load(Acquire)
    }

    /// Whether any may be taken now.
    pub(super) fn are_allowed(&self) -> bool {
        self.clock.mono() < Mono(self.valid_until.load(Acquire))
    }

    /// The owner's epoch; stands in every intent.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::time::UnixMillis;

    #[tokio::test(start_paused = true)]
    async fn they_rise_and_stay_within_what_is_reserved() {
        let stamps = Stamps::new(Clock::with_wall(|| UnixMillis(1)));
        assert!(stamps.next().is_err(), "nothing is reserved");
        stamps.allow(4, 2_000, 2_002, stamps.clock.mono() + Duration::from_secs(6));
        assert_eq!(
            (stamps.next(), stamps.next()),
            (Ok(2_000), Ok(2_001)),
            "above the range before, whatever the clock says"
        );
        assert!(stamps.next().is_err(), "used up");
        stamps.allow(4, 0, 9_000, stamps.clock.mono() + Duration::from_secs(6));
        assert_eq!(stamps.next(), Ok(2_002));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(stamps.next().is_err(), "the lease is over");
        assert_eq!(stamps.epoch(), 4);
    }
}
