//! A lease as its holder counts it: until when it may write and send.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::Duration;

use crate::domain::time::{Clock, Mono};

/// No clock shows this: a lease that never ends.
const FOREVER: u64 = u64::MAX;

/// One term of a lease. A holder that lost it and came back has another: what was begun under this one never passes a gate again,
/// however late it comes there.
#[derive(Debug)]
pub struct Lease {
    clock: Clock,
    /// As [`Clock::lease`] counts.
    until: AtomicU64,
}

impl Lease {
    /// One that is not held yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, until: AtomicU64::new(0) }
    }

    /// The lease of somebody who shares with nobody.
    #[must_use]
    pub fn forever(clock: Clock) -> Self {
        Self { clock, until: AtomicU64::new(FOREVER) }
    }

    /// Whether it is held now. One atomic load, and a look at the clock where it can end.
    pub fn holds(&self) -> bool {
        match self.until.load(Acquire) {
            FOREVER => true,
            until => self.clock.lease() < Mono(until),
        }
    }

    /// How long it still is; the longest time where it never ends.
    pub fn left(&self) -> Duration {
        match self.until.load(Acquire) {
            FOREVER => Duration::MAX,
            until => Mono(until).since(self.clock.lease()),
        }
    }

    /// It was renewed by what was asked for at `asked`: it lasts `span` from then on, for the answer may have taken its time. One
    /// that was ended stays so.
    pub fn renew(&self, asked: Mono, span: Duration) {
        // The end of time is "forever": nobody's lease is that long.
        let next = (asked + span).0.min(FOREVER - 1);
        let rise = |until: u64| (until != ENDED).then_some(until.max(next));
        let _ = self.until.fetch_update(AcqRel, Acquire, rise);
    }

    /// Ends it for good.
    pub fn end(&self) {
        self.until.store(ENDED, Release);
    }
}

/// Not zero, which is where every lease begins; long past on every clock.
const ENDED: u64 = 1;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_is_counted_from_before_it_was_asked_for_and_ends_for_good() {
        let now = Arc::new(AtomicU64::new(1_000));
        let clock = Clock::system().with_lease({
            let now = Arc::clone(&now);
            move || Mono(now.load(Acquire))
        });
        let lease = Lease::new(clock.clone());
        assert!(!lease.holds(), "not asked for");
        lease.renew(Mono(1_000), Duration::from_nanos(600));
        now.store(1_599, Release);
        assert!(lease.holds());
        assert_eq!(lease.left(), Duration::from_nanos(1));
        now.store(1_600, Release);
        assert!(!lease.holds(), "also if the machine slept meanwhile");
        lease.renew(Mono(1_500), Duration::from_nanos(600));
        assert!(lease.holds(), "nobody took it");
        lease.renew(Mono(1_100), Duration::from_nanos(600));
        assert!(lease.holds(), "an older answer shortens nothing");
        lease.end();
        lease.renew(Mono(1_600), Duration::from_nanos(600));
        assert!(!lease.holds(), "another term is another lease");
        assert!(Lease::forever(clock).holds());
    }
}
