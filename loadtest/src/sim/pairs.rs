//! The limit of one number writing to one user, as Meta documents it: one message in six seconds; up to 45 within six seconds are taken
//! all the same, but borrowed: the pair is then blocked for as long as that many would have needed.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Meta's code for a pair that is blocked.
pub const PAIR_BLOCKED: u32 = 131_056;
/// Pairs that are kept before the first look for those that are free again.
const SWEEP_FROM: usize = 65_536;

/// The limit of every pair of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PairLimit {
    /// Milliseconds that one message costs; 0: there is no limit.
    pub gap_ms: u64,
    /// Messages that are taken within one gap.
    pub burst: u32,
}

impl Default for PairLimit {
    fn default() -> Self {
        Self { gap_ms: 6_000, burst: 45 }
    }
}

impl PairLimit {
    /// No limit, for load that has few recipients.
    #[must_use]
    pub const fn none() -> Self {
        Self { gap_ms: 0, burst: 0 }
    }
}

/// What one pair borrowed.
#[derive(Debug, Clone, Copy)]
struct Borrowed {
    since_ns: u64,
    messages: u32,
}

/// The pairs of all lines, as far as they are not free again.
#[derive(Debug, Default)]
pub struct Pairs {
    /// By line and recipient.
    pairs: HashMap<(u16, u64), Borrowed>,
    sweep_at: usize,
}

impl Pairs {
    /// Whether the pair is free; nothing is booked.
    #[must_use]
    pub fn is_free(&self, limit: PairLimit, line: u16, recipient: u64, at_ns: u64) -> bool {
        let gap = limit.gap_ms * 1_000_000;
        self.pairs.get(&(line, recipient)).is_none_or(|borrowed| {
            at_ns >= paid_back(borrowed, gap) || at_ns < borrowed.since_ns + gap && borrowed.messages < limit.burst
        })
    }

    /// Books one message that was accepted.
    pub fn book(&mut self, limit: PairLimit, line: u16, recipient: u64, at_ns: u64) {
        let gap = limit.gap_ms * 1_000_000;
        if gap == 0 {
            return;
        }
        if self.pairs.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.pairs.retain(|_, borrowed| paid_back(borrowed, gap) > at_ns);
            self.sweep_at = 2 * self.pairs.len();
        }
        let fresh = Borrowed { since_ns: at_ns, messages: 0 };
        let borrowed = self.pairs.entry((line, recipient)).or_insert(fresh);
        if at_ns >= paid_back(borrowed, gap) {
            *borrowed = fresh;
        }
        borrowed.messages += 1;
    }
}

fn paid_back(borrowed: &Borrowed, gap_ns: u64) -> u64 {
    borrowed.since_ns + gap_ns * u64::from(borrowed.messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn admit(pairs: &mut Pairs, recipient: u64, at_ns: u64) -> bool {
        let limit = PairLimit::default();
        let free = pairs.is_free(limit, 1, recipient, at_ns);
        if free {
            pairs.book(limit, 1, recipient, at_ns);
        }
        free
    }

    #[test]
    fn one_in_six_seconds_is_always_taken() {
        let mut pairs = Pairs::default();
        assert!((0..100).all(|n| admit(&mut pairs, 7, n * 6 * S)));
    }

    #[test]
    fn a_burst_is_taken_and_blocks_for_as_long_as_it_was() {
        let mut pairs = Pairs::default();
        assert!((0..45).all(|n| admit(&mut pairs, 7, n)));
        assert!(!admit(&mut pairs, 7, 46), "one too many");
        assert!(admit(&mut pairs, 8, 46), "another recipient");
        assert!(!admit(&mut pairs, 7, 45 * 6 * S - 1));
        assert!(admit(&mut pairs, 7, 45 * 6 * S));

        let mut pairs = Pairs::default();
        assert!(admit(&mut pairs, 7, 0) && admit(&mut pairs, 7, 3 * S));
        assert!(!admit(&mut pairs, 7, 7 * S), "two cost twelve seconds");
        assert!(admit(&mut pairs, 7, 12 * S));
    }

    #[test]
    fn what_is_free_again_takes_no_memory() {
        let mut pairs = Pairs::default();
        for n in 0..1_000_000 {
            // A thousand a second, each recipient once.
            assert!(admit(&mut pairs, n, n * S / 1_000));
        }
        assert!(pairs.pairs.len() <= 2 * SWEEP_FROM, "{}", pairs.pairs.len());
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let mut pairs = Pairs::default();
        for at in 0..100 {
            assert!(pairs.is_free(PairLimit::none(), 1, 7, at));
            pairs.book(PairLimit::none(), 1, 7, at);
        }
        assert!(pairs.pairs.is_empty());
    }
}
