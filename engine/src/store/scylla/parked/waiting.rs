//! Which parked events wait, and until when: a few bytes of each.
//!
//! Rows show the times of whichever node wrote them. What is held here counts by one clock that nobody sets.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::domain::time::{Clock, Mono, UnixMillis};

/// Times within are as a wall clock shows them that nobody ever sets: see [`Steady`].
#[derive(Default)]
pub(super) struct Index {
    steady: Option<Steady>,
    pub(super) waiting: HashMap<u64, (UnixMillis, UnixMillis)>,
    pub(super) by_look: BTreeSet<(UnixMillis, u64)>,
    pub(super) by_age: BTreeSet<(UnixMillis, u64)>,
    /// When each orphan expires.
    pub(super) orphans: VecDeque<UnixMillis>,
    /// Orphans as they were read: number, event, and whether all of the event is still there.
    pub(super) given_up: Vec<(i64, u64, bool)>,
}

impl Index {
    /// What was read at the start waits by our own time from now on.
    pub(super) fn begin(&mut self, clock: &Clock) {
        self.steady = Some(Steady::begin(clock));
        let now = self.now(clock);
        for (id, times) in std::mem::take(&mut self.waiting) {
            let (at, look_at) = rebased(times, now, false);
            self.by_look.remove(&(times.1, id));
            self.by_age.remove(&(times.0, id));
            self.add(id, at, look_at);
        }
    }

    pub(super) fn now(&self, clock: &Clock) -> UnixMillis {
        self.steady.map_or_else(|| clock.wall(), |steady| steady.now(clock))
    }

    pub(super) fn step(&self, clock: &Clock) -> i64 {
        self.steady.map_or(0, |steady| steady.step(clock))
    }

    pub(super) fn add(&mut self, id: u64, at: UnixMillis, look_at: UnixMillis) -> bool {
        let new = self.remove(id).is_none();
        self.waiting.insert(id, (at, look_at));
        self.by_look.insert((look_at, id));
        self.by_age.insert((at, id));
        new
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<(UnixMillis, UnixMillis)> {
        let (at, look_at) = self.waiting.remove(&id)?;
        self.by_look.remove(&(look_at, id));
        self.by_age.remove(&(at, id));
        Some((at, look_at))
    }
}

/// The wall clock of a moment, moved on by the monotonic one. An event is given up when it has waited long enough, not because a clock
/// was set, or because the node that parked it has another time than the one that looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steady {
    wall: UnixMillis,
    at: Mono,
}

impl Steady {
    pub(super) fn begin(clock: &Clock) -> Self {
        Self { wall: clock.wall(), at: clock.mono() }
    }

    pub(super) fn now(self, clock: &Clock) -> UnixMillis {
        self.wall.after(clock.mono().since(self.at))
    }

    /// By how much the wall clock was set since, milliseconds.
    pub(super) fn step(self, clock: &Clock) -> i64 {
        let step = clock.wall().0 - self.now(clock).0;
        // Both are read in whole milliseconds, one after the other.
        if step.abs() < STEP_MIN { 0 } else { step }
    }
}

/// A wall clock that is off by less was not set.
const STEP_MIN: i64 = 1_000;

pub(super) fn moved(time: UnixMillis, by: i64) -> UnixMillis {
    UnixMillis(time.0.saturating_add(by))
}

/// When an event that another node parked came and is to be looked at, by our own time. `is_new`: it was not there at the last look.
/// Else it waited for nobody knows how long, but not from the future.
pub(super) fn rebased(
    (at, look_at): (UnixMillis, UnixMillis),
    now: UnixMillis,
    is_new: bool,
) -> (UnixMillis, UnixMillis) {
    let ours = if is_new { now } else { at.min(now) };
    (ours, moved(look_at, ours.0 - at.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn another_nodes_clock_does_not_say_how_long_an_event_waits() {
        let at = UnixMillis;
        let ours = at(10_000_000);
        for skew in [-600_000, 0, 600_000] {
            let parked = (at(ours.0 - 900 + skew), at(ours.0 + 1_100 + skew));
            let (came, look_at) = rebased(parked, ours, true);
            assert_eq!((came, look_at), (ours, at(ours.0 + 2_000)), "{skew}");
        }
        assert_eq!(rebased((at(5), at(2_005)), ours, false), (at(5), at(2_005)), "it has waited for long");
        assert_eq!(
            rebased((at(ours.0 + 9), at(ours.0 + 19)), ours, false),
            (ours, at(ours.0 + 10)),
            "not from the future"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_lets_nobody_wait_longer_or_less_long() {
        let set = Arc::new(AtomicI64::new(0));
        let clock = Clock::with_wall({
            let (set, origin) = (Arc::clone(&set), tokio::time::Instant::now());
            move || moved(UnixMillis(1_000_000).after(origin.elapsed()), set.load(Ordering::SeqCst))
        });
        let steady = Steady::begin(&clock);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((steady.now(&clock), steady.step(&clock)), (UnixMillis(1_005_000), 0));
        set.store(600_000, Ordering::SeqCst);
        assert_eq!((steady.now(&clock), steady.step(&clock)), (UnixMillis(1_005_000), 600_000));
    }
}
