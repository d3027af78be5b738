//! Counters and latencies of the webhook side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::plan::Status;
use crate::measure::histogram::{Latencies, Snapshot};

/// First posts kept one by one for lines that are timed; beyond it they are only counted.
const POSTS_MAX: usize = 1_000_000;

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
    /// Time from the first byte of a POST to its answer, whatever it was.
    pub answer_time: Latencies,
    /// The same since it was last asked for by [`Stats::sample`].
    pub answer_time_now: Latencies,
    /// Time from the moment for which a POST was planned to its acknowledgement, retries included.
    pub planned_to_acked: Latencies,
    /// Time to an answer that refuses (any but 200).
    pub refusal_time: Latencies,
    /// How much later than planned the simulator itself began a POST although a connection was free.
    pub own_lag: Latencies,
    /// First posts of statuses of timed lines.
    pub posts: Mutex<Vec<FirstPost>>,
    /// Answers other than 200 by HTTP status; 0 is a broken or refused connection.
    pub refusals: Mutex<BTreeMap<u16, u64>>,
}

/// The first POST of a status on a timed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstPost {
    /// The accepted message.
    pub entry: u32,
    /// The status.
    pub status: Status,
    /// When its POST began, ns since the epoch.
    pub at_ns: u64,
}

/// All latencies of the webhook side so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LatencyReport {
    /// First byte of a POST to its answer.
    pub answer: Snapshot,
    /// Planned moment to acknowledgement.
    pub planned_to_acked: Snapshot,
    /// First byte to a refusal.
    pub refusal: Snapshot,
    /// The simulator's own lateness.
    pub own_lag: Snapshot,
}

/// What a sampler asks for again and again, at little cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Now, ns since the epoch.
    pub now_ns: u64,
    /// Accepted messages.
    pub accepted: u64,
    /// Statuses neither acknowledged nor given up.
    pub outstanding: u64,
    /// Statuses acknowledged, copies included.
    pub statuses_acked: u64,
    /// Statuses given up after the last retry.
    pub statuses_given_up: u64,
    /// POSTs answered 200.
    pub posts_acked: u64,
    /// POSTs answered otherwise or not at all.
    pub posts_refused: u64,
    /// Median of the answers since the last sample, ms.
    pub answer_ms_p50: Option<f64>,
    /// 99th percentile of them.
    pub answer_ms_p99: Option<f64>,
    /// CPU time of the process, ns.
    pub cpu_ns: u64,
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
        let answer = self.answer_time.snapshot();
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
            answer_ms_p50: answer.quantile_ms(0.5).unwrap_or(0.0),
            answer_ms_p99: answer.quantile_ms(0.99).unwrap_or(0.0),
            answer_ms_p999: answer.quantile_ms(0.999).unwrap_or(0.0),
        }
    }

    /// A sample; its answer times begin anew.
    #[must_use]
    pub fn sample(&self, now_ns: u64, accepted: u64, outstanding: u64) -> Sample {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let answers = self.answer_time_now.take();
        Sample {
            now_ns,
            accepted,
            outstanding,
            statuses_acked: get(&self.statuses_acked),
            statuses_given_up: get(&self.statuses_given_up),
            posts_acked: get(&self.posts_acked),
            posts_refused: get(&self.posts_refused),
            answer_ms_p50: answers.quantile_ms(0.5),
            answer_ms_p99: answers.quantile_ms(0.99),
            cpu_ns: own_cpu_ns(),
        }
    }

    /// All latencies; with `anew` they begin anew.
    #[must_use]
    pub fn latencies(&self, anew: bool) -> LatencyReport {
        let read = |latencies: &Latencies| if anew { latencies.take() } else { latencies.snapshot() };
        LatencyReport {
            answer: read(&self.answer_time),
            planned_to_acked: read(&self.planned_to_acked),
            refusal: read(&self.refusal_time),
            own_lag: read(&self.own_lag),
        }
    }

    /// Notes the answer of a POST.
    pub fn answered(&self, took: Duration, status: u16) {
        self.answer_time.note(took);
        self.answer_time_now.note(took);
        if status != 200 {
            self.refusal_time.note(took);
        }
    }

    /// Notes first posts of a timed line.
    pub fn first_posts(&self, posts: impl Iterator<Item = FirstPost>) {
        let mut held = self.posts.lock();
        let room = POSTS_MAX.saturating_sub(held.len());
        held.extend(posts.take(room));
    }
}

/// CPU time this process has used, in nanoseconds.
#[must_use]
pub fn own_cpu_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}
