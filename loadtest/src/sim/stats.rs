//! Counters and the histogram of the webhook side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

/// Buckets per doubling: bounds the error of a quantile to 9 %.
const STEPS: usize = 8;
/// From 1 µs to over an hour.
const BUCKETS: usize = 32 * STEPS;

/// A histogram of times with logarithmic buckets.
#[derive(Debug)]
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    /// Notes one time.
    pub fn note(&self, took: Duration) {
        let micros = (took.as_nanos() as f64 / 1e3).max(1.0);
        let place = (micros.log2() * STEPS as f64) as usize;
        self.0[place.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// The time in milliseconds below which `share` of the notes lie (upper edge of its bucket); 0 without notes.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.0.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return 2f64.powf((place + 1) as f64 / STEPS as f64) / 1e3;
            }
        }
        0.0
    }
}

/// What happened to webhooks.
#[derive(Debug, Default)]
pub struct Stats {
    /// POSTs answered 200.
    pub posts_acked: AtomicU64,
    /// POSTs answered otherwise or not at all (each is tried again, or given up where the provider would).
    pub posts_refused: AtomicU64,
    /// Statuses in acknowledged POSTs, copies included.
    pub statuses_acked: AtomicU64,
    /// Statuses given up after the last retry (Twilio only; Meta goes on for days).
    pub statuses_given_up: AtomicU64,
    /// False POSTs with a bad signature.
    pub forged: AtomicU64,
    /// Of these: answered 200, which must never happen.
    pub forged_accepted: AtomicU64,
    /// Statuses of messages nobody knows.
    pub unknown: AtomicU64,
    /// Time from the first byte of a POST to its answer.
    pub answer_time: Histogram,
    /// Answers other than 200 by HTTP status; 0 is a broken or refused connection.
    pub refusals: Mutex<BTreeMap<u16, u64>>,
}

/// A copy of the statistics.
#[derive(Debug, Clone, Serialize)]
pub struct StatsReport {
    /// POSTs answered 200.
    pub posts_acked: u64,
    /// POSTs answered otherwise or not at all.
    pub posts_refused: u64,
    /// Answers other than 200 by HTTP status; 0 is a broken or refused connection.
    pub refusals: BTreeMap<u16, u64>,
    /// Statuses in acknowledged POSTs, copies included.
    pub statuses_acked: u64,
    /// Statuses given up after the last retry.
    pub statuses_given_up: u64,
    /// Statuses neither acknowledged nor given up.
    pub statuses_outstanding: u64,
    /// False POSTs with a bad signature.
    pub forged: u64,
    /// Of these: answered 200.
    pub forged_accepted: u64,
    /// Statuses of messages nobody knows.
    pub unknown: u64,
    /// Median time to an answer, ms.
    pub answer_ms_p50: f64,
    /// 99th percentile.
    pub answer_ms_p99: f64,
    /// 99.9th percentile.
    pub answer_ms_p999: f64,
}

impl Stats {
    /// Adds one.
    pub fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// Copies everything.
    #[must_use]
    pub fn report(&self, outstanding: u64) -> StatsReport {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsReport {
            posts_acked: get(&self.posts_acked),
            posts_refused: get(&self.posts_refused),
            refusals: self.refusals.lock().clone(),
            statuses_acked: get(&self.statuses_acked),
            statuses_given_up: get(&self.statuses_given_up),
            statuses_outstanding: outstanding,
            forged: get(&self.forged),
            forged_accepted: get(&self.forged_accepted),
            unknown: get(&self.unknown),
            answer_ms_p50: self.answer_time.quantile_ms(0.5),
            answer_ms_p99: self.answer_time.quantile_ms(0.99),
            answer_ms_p999: self.answer_time.quantile_ms(0.999),
        }
    }
}

/// CPU time this process has used, in nanoseconds.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let histogram = Histogram::default();
        for n in 1..=1_000 {
            histogram.note(Duration::from_micros(n * 10));
        }
        let p50 = histogram.quantile_ms(0.5);
        let p99 = histogram.quantile_ms(0.99);
        assert!((4.5..5.6).contains(&p50), "{p50}");
        assert!((9.5..10.9).contains(&p99), "{p99}");
        assert_eq!(Histogram::default().quantile_ms(0.5), 0.0);
    }
}
