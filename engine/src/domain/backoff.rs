//! Waiting times before an attempt is repeated. Randomness is passed in.

use std::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is uniform in `[0, min(cap, base · 2ⁿ)]`.
///
/// Full jitter spreads a burst of equal failures over the whole interval, which empties the retry queue soonest for a given
/// load on the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub base: Duration,
    /// Upper bound of every wait.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 2 s doubling to at most 5 min: five tries reach over about half a minute on average.
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait after the `failures`-th charged failure (counted from 0), drawn with `random` (uniform over all of `u64`).
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        scale(self.ceiling(failures), random)
    }

    /// The longest wait that [`Backoff::delay`] may draw for this many failures.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Longest delay of a pair; reached from the seventh refusal on (4⁶ s is 68 min).
pub const PAIR_DELAY_MAX: Duration = Duration::from_secs(3600);

/// How long one pair (line, recipient) rests after its `refusals`-th pair-limit refusal (counted from 0): 4ⁿ seconds, the
/// schedule Meta asks for with code 131056, at most [`PAIR_DELAY_MAX`].
pub fn pair_delay(refusals: u32) -> Duration {
    match 4u64.checked_pow(refusals) {
        Some(seconds) => Duration::from_secs(seconds).min(PAIR_DELAY_MAX),
        None => PAIR_DELAY_MAX,
    }
}

/// `longest` times `random / 2⁶⁴`, in whole nanoseconds.
fn scale(longest: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pair_delay_is_the_documented_schedule() {
        let seconds: Vec<u64> = (0..8).map(|n| pair_delay(n).as_secs()).collect();
        assert_eq!(seconds, [1, 4, 16, 64, 256, 1024, 3600, 3600]);
        assert_eq!(pair_delay(u32::MAX), PAIR_DELAY_MAX);
    }

    #[test]
    fn jitter_covers_the_whole_interval() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(0, 0), Duration::ZERO);
        assert!(backoff.delay(0, u64::MAX) > Duration::from_millis(1999));
        assert_eq!(backoff.delay(1, 1 << 63), Duration::from_secs(2));
        assert_eq!(backoff.ceiling(100), backoff.cap);
    }

    proptest! {
        #[test]
        fn bounded_and_monotone(failures in 0u32..200, random: u64, base_ms in 1u64..100_000, cap_ms in 1u64..10_000_000) {
            let backoff = Backoff { base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms) };
            prop_assert!(backoff.delay(failures, random) <= backoff.cap);
            prop_assert!(backoff.ceiling(failures) <= backoff.ceiling(failures + 1));
            prop_assert!(backoff.delay(failures, random) <= backoff.delay(failures + 1, random));
        }
    }
}
