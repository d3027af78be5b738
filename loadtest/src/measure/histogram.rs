//! Latencies: recorded with a bounded relative error (three digits) from a microsecond to an hour, however long the tail.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart, in microseconds: an hour. What is longer counts as this.
const LONGEST_US: u64 = 3_600_000_000;
/// Significant digits.
const DIGITS: u8 = 3;

fn fresh() -> Option<Histogram<u64>> {
    // Never refused with these bounds; without a histogram nothing is recorded and figures are missing, which fails a run.
    Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok()
}

/// A histogram that many tasks record into.
#[derive(Debug)]
pub struct Latencies(Mutex<Option<Histogram<u64>>>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Mutex::new(fresh()))
    }
}

impl Latencies {
    /// Records one latency.
    pub fn note(&self, took: Duration) {
        self.note_us(took.as_micros().min(u128::from(LONGEST_US)) as u64);
    }

    /// Records one latency in microseconds.
    pub fn note_us(&self, micros: u64) {
        if let Some(histogram) = self.0.lock().as_mut() {
            histogram.saturating_record(micros.clamp(1, LONGEST_US));
        }
    }

    /// What was recorded so far.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().as_ref().map(Snapshot::of).unwrap_or_default()
    }

    /// What was recorded so far; begins anew.
    #[must_use]
    pub fn take(&self) -> Snapshot {
        let mut held = self.0.lock();
        let taken = held.as_ref().map(Snapshot::of).unwrap_or_default();
        if let Some(histogram) = held.as_mut() {
            histogram.reset();
        }
        taken
    }
}

/// A histogram as data: microseconds and how often, ascending. Small enough to travel between processes and into reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(pub Vec<(u64, u64)>);

impl Snapshot {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self(histogram.iter_recorded().map(|one| (one.value_iterated_to(), one.count_at_value())).collect())
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The latency in milliseconds below or at which `share` of the records lie; `None` without records.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.count();
        let wanted = ((total as f64 * share).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.0.iter().find_map(|(micros, count)| {
            seen += count;
            (seen >= wanted).then_some(*micros as f64 / 1e3)
        })
    }

    /// The longest in milliseconds; `None` without records.
    #[must_use]
    pub fn longest_ms(&self) -> Option<f64> {
        self.0.last().map(|(micros, _)| *micros as f64 / 1e3)
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: &Self) {
        let all = Latencies::default();
        if let Some(histogram) = all.0.lock().as_mut() {
            for (micros, count) in self.0.iter().chain(&other.0) {
                histogram.saturating_record_n(*micros, *count);
            }
        }
        *self = all.snapshot();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_and_the_tail_is_kept() {
        let latencies = Latencies::default();
        for n in 1..=1_000 {
            latencies.note(Duration::from_micros(n * 10));
        }
        latencies.note(Duration::from_secs(90));
        let taken = latencies.take();
        assert_eq!(taken.count(), 1_001);
        let near = |share: f64, ms: f64| {
            let found = taken.quantile_ms(share).expect("records");
            assert!((found - ms).abs() <= ms * 0.002, "{share}: {found} instead of {ms}");
        };
        near(0.5, 5.01);
        near(0.99, 9.91);
        near(1.0, 90_000.0);
        assert!(taken.longest_ms().is_some_and(|longest| (longest - 90_000.0).abs() < 180.0));
        assert_eq!(latencies.snapshot(), Snapshot::default(), "taking begins anew");
    }

    #[test]
    fn nothing_recorded_has_no_quantile() {
        assert_eq!(Snapshot::default().quantile_ms(0.5), None);
        assert_eq!(Snapshot::default().longest_ms(), None);
    }

    #[test]
    fn snapshots_add_up() {
        let mut one = Snapshot(vec![(100, 3), (2_000, 1)]);
        one.add(&Snapshot(vec![(100, 1), (500, 2)]));
        assert_eq!(one.count(), 7);
        assert_eq!(one.quantile_ms(0.5).map(f64::round), Some(0.0));
        assert_eq!(one.quantile_ms(1.0).map(f64::round), Some(2.0));
    }
}
