//! How late actors come to what they set themselves for a moment. ractor tells nobody how long a mailbox is, and a length would not say
//! whether it matters: this is how long a message that is sent now has to wait.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::domain::time::Mono;

/// Whose mailbox. Of status actors the entries are counted that wait for a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The supervisor's.
    Supervisor,
    /// A line's.
    Line,
    /// A campaign's.
    Campaign,
}

/// A delay is shown for so long at least, and less than twice that, however seldom the page is read.
const TURN_NS: u64 = 15_000_000_000;

static LONGEST: [(&str, Longest); 3] =
    [("supervisor", Longest::new()), ("line", Longest::new()), ("campaign", Longest::new())];

/// Notes that an actor came to its tick so much later than it was due.
pub(crate) fn note(of: Of, now: Mono, delay: Duration) {
    LONGEST[of as usize].1.note(now, delay);
}

/// The longest lately, by the actors' name.
pub(crate) fn shown(now: Mono) -> impl Iterator<Item = (&'static str, Duration)> {
    LONGEST.iter().map(move |(name, longest)| (*name, longest.shown(now)))
}

/// The longest of this turn and of the one before, ns.
#[derive(Debug)]
struct Longest {
    turn: AtomicU64,
    this: AtomicU64,
    last: AtomicU64,
}

impl Longest {
    const fn new() -> Self {
        Self { turn: AtomicU64::new(0), this: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    fn note(&self, now: Mono, delay: Duration) {
        self.turn_to(now);
        self.this.fetch_max(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn shown(&self, now: Mono) -> Duration {
        self.turn_to(now);
        Duration::from_nanos(self.this.load(Relaxed).max(self.last.load(Relaxed)))
    }

    /// Whoever comes first in a turn begins it. A delay noted in that instant may count for the turn before.
    fn turn_to(&self, now: Mono) {
        let turn = now.0 / TURN_NS;
        let before = self.turn.load(Relaxed);
        if before != turn && self.turn.compare_exchange(before, turn, Relaxed, Relaxed).is_ok() {
            let ended = self.this.swap(0, Relaxed);
            self.last.store(if turn == before + 1 { ended } else { 0 }, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_shown_for_a_turn_and_no_longer_than_two() {
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let longest = Longest::new();
        longest.note(at(1), Duration::from_millis(7));
        longest.note(at(14), Duration::from_millis(2));
        assert_eq!(longest.shown(at(14)), Duration::from_millis(7));
        longest.note(at(16), Duration::from_millis(3));
        assert_eq!(longest.shown(at(29)), Duration::from_millis(7), "of the turn before");
        assert_eq!(longest.shown(at(30)), Duration::from_millis(3));
        assert_eq!(longest.shown(at(75)), Duration::ZERO, "nobody came for a long time");
    }

    #[test]
    fn each_actor_has_its_own() {
        for (of, name) in [(Of::Supervisor, "supervisor"), (Of::Line, "line"), (Of::Campaign, "campaign")] {
            assert_eq!(LONGEST[of as usize].0, name);
        }
    }
}
