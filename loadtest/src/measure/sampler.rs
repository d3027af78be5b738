//! Reads server, simulator, this process and the machine at a fixed beat.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::exposition::{Page, Written};
use super::histogram::{Latencies, Snapshot};
use super::process::{Machine, Reader, Usage};
use super::series::AllSeries;
use crate::sim::stats::Sample;
use crate::wire::client::once;
use crate::witness::fetch::control_json;

/// Longest time for one reading of a page.
const READ: Duration = Duration::from_secs(10);

/// What is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The server's process; changes when it is started anew, 0 while it is down.
    pub server: Arc<AtomicI32>,
    /// The server's metrics page, `http://host:port/metrics`.
    pub metrics: String,
    /// The simulator's process, when it is one of its own.
    pub simulator: Option<i32>,
    /// The CQL server's process, when the ledger is on one of this machine.
    pub ledger: Option<i32>,
    /// The simulator's control API.
    pub control: String,
    /// Time between two readings.
    pub beat: Duration,
}

/// What a progress line shows.
#[derive(Debug, Clone, Default)]
pub struct Glance {
    /// Seconds since the begin.
    pub at_s: f64,
    /// Accepted messages in all.
    pub accepted: u64,
    /// Messages per second since the last reading.
    pub messages_per_s: f64,
    /// Statuses per second.
    pub statuses_per_s: f64,
    /// CPU of the server, per cent of a core.
    pub server_percent: f64,
    /// Resident memory of the server, MiB.
    pub rss_mib: f64,
    /// Statuses not acknowledged yet.
    pub outstanding: u64,
}

/// The sums over the whole time, also over several processes of a server that was killed.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Counters of the server; memory is the highest seen.
    pub server: Usage,
    /// Of the simulator.
    pub simulator: Usage,
    /// Of the CQL server, when there is one.
    pub ledger: Option<Usage>,
    /// Of this process.
    pub harness: Usage,
    /// Syncs (or commits) that the server counted.
    pub syncs: Option<f64>,
    /// What it wrote to its store.
    pub written: Option<Written>,
    /// Idle and stolen share of the machine.
    pub machine: Option<(f64, f64)>,
    /// Wall time, seconds.
    pub wall_s: f64,
}

/// Everything that was read.
#[derive(Debug, Clone, Default)]
pub struct Sampled {
    /// Over time.
    pub series: AllSeries,
    /// In all.
    pub totals: Totals,
    /// Busiest thread of the simulator and the machine's idle share, at each reading.
    pub simulator_busy: Vec<(f64, f64)>,
    /// The same of this process.
    pub harness_busy: Vec<(f64, f64)>,
    /// How late this process woke up.
    pub harness_lag: Snapshot,
}

/// A sampler under way.
#[derive(Debug)]
pub struct Sampler {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Sampled>,
}

impl Sampler {
    /// Begins; `show` hears every reading.
    #[must_use]
    pub fn start(watched: Watched, show: impl FnMut(&Glance) + Send + 'static) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(sample(watched, stop.clone(), show));
        Self { stop, task }
    }

    /// Reads once more and ends.
    ///
    /// # Errors
    /// When the sampler broke off.
    pub async fn stop(self) -> anyhow::Result<Sampled> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

/// One process over its readings.
struct Tracked {
    reader: Option<Reader>,
    last: Usage,
    sum: Usage,
}

/// What changed between two readings.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    now: Usage,
    user: f64,
    system: f64,
    written: f64,
    switches: f64,
    busiest: f64,
}

impl Tracked {
    fn new(pid: Option<i32>) -> Self {
        let mut tracked = Self { reader: None, last: Usage::default(), sum: Usage::default() };
        tracked.follow(pid.unwrap_or(0), true);
        tracked
    }

    /// Follows another process from here on. What a fresh one has done already counts, what one had done before the begin does not.
    fn follow(&mut self, pid: i32, from_now: bool) {
        if pid == self.reader.as_ref().map_or(0, Reader::pid) {
            return;
        }
        self.reader = (pid > 0).then(|| Reader::new(pid));
        self.last = Usage::default();
        if let Some(usage) = self.reader.as_mut().filter(|_| from_now).and_then(Reader::read) {
            self.last = usage;
        }
    }

    fn read(&mut self, over_s: f64) -> Option<Change> {
        let now = self.reader.as_mut()?.read()?;
        let grown = |now: u64, last: u64| now.saturating_sub(last);
        self.sum.user_ns += grown(now.user_ns, self.last.user_ns);
        self.sum.system_ns += grown(now.system_ns, self.last.system_ns);
        self.sum.written_bytes += grown(now.written_bytes, self.last.written_bytes);
        self.sum.switches += grown(now.switches, self.last.switches);
        self.sum.rss_kib = now.rss_kib;
        self.sum.rss_peak_kib = self.sum.rss_peak_kib.max(now.rss_peak_kib);
        let rate = |now: u64, last: u64| grown(now, last) as f64 / over_s.max(1e-3);
        let change = Change {
            now,
            user: rate(now.user_ns, self.last.user_ns) / 1e9,
            system: rate(now.system_ns, self.last.system_ns) / 1e9,
            written: rate(now.written_bytes, self.last.written_bytes),
            switches: rate(now.switches, self.last.switches),
            busiest: rate(now.busiest_thread_ns, self.last.busiest_thread_ns) / 1e9,
        };
        self.last = now;
        Some(change)
    }
}

/// A counter over its readings.
#[derive(Default)]
struct Grown {
    last: Option<f64>,
    sum: f64,
}

impl Grown {
    /// By how much it has grown since the last reading. A server that was started anew counts from nothing.
    fn by(&mut self, now: f64) -> f64 {
        let grown = self.last.replace(now).map_or(0.0, |then| if now >= then { now - then } else { now });
        self.sum += grown;
        grown
    }

    /// In all; `None`: it was never read.
    fn sum(&self) -> Option<f64> {
        self.last.map(|_| self.sum)
    }
}

async fn sample(watched: Watched, stop: CancellationToken, mut show: impl FnMut(&Glance) + Send) -> Sampled {
    let begin = Instant::now();
    let mut beat = tokio::time::interval(watched.beat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    let mut server = Tracked::new(Some(watched.server.load(Ordering::Relaxed)));
    let mut simulator = Tracked::new(watched.simulator);
    let mut ledger = watched.ledger.map(|pid| Tracked::new(Some(pid)));
    let mut harness = Tracked::new(Some(std::process::id().cast_signed()));
    let first_machine = Machine::read();
    let mut machine = first_machine;
    let lag = Latencies::default();
    let mut all = Sampled::default();
    let mut before: Option<Sample> = None;
    let (mut syncs, mut entries, mut commits) = (Grown::default(), Grown::default(), Grown::default());
    let mut last = begin;
    loop {
        let due = last + watched.beat;
        let stopping = tokio::select! {
            _ = beat.tick() => false,
            () = stop.cancelled() => true,
        };
        if !stopping {
            lag.note(Instant::now().saturating_duration_since(due.max(last)));
        }
        let (at_s, over_s) = (begin.elapsed().as_secs_f64(), last.elapsed().as_secs_f64());
        last = Instant::now();
        let mut glance = Glance { at_s, ..Glance::default() };
        let put = |all: &mut Sampled, name: &str, unit: &str, value: f64| all.series.point(name, unit, at_s, value);

        let now = Machine::read();
        let shares = now.shares_since(&machine);
        machine = now;
        let idle = shares.map_or(0.0, |(idle, _)| idle);
        if let Some((idle, stolen)) = shares {
            put(&mut all, "machine.idle", "%", idle * 100.0);
            put(&mut all, "machine.stolen", "%", stolen * 100.0);
        }
        server.follow(watched.server.load(Ordering::Relaxed), false);
        if let Some(change) = server.read(over_s) {
            glance.server_percent = (change.user + change.system) * 100.0;
            glance.rss_mib = change.now.rss_kib as f64 / 1024.0;
            put(&mut all, "cpu.server, user", "% of a core", change.user * 100.0);
            put(&mut all, "cpu.server, system", "% of a core", change.system * 100.0);
            put(&mut all, "memory.server", "MiB", glance.rss_mib);
            put(&mut all, "disk.server", "MiB/s", change.written / 1024.0 / 1024.0);
            put(&mut all, "switches.server", "1/s", change.switches);
        }
        if let Some(change) = simulator.read(over_s) {
            put(&mut all, "cpu.simulator", "% of a core", (change.user + change.system) * 100.0);
            put(&mut all, "memory.simulator", "MiB", change.now.rss_kib as f64 / 1024.0);
            all.simulator_busy.push((change.busiest, idle));
        }
        if let Some(change) = ledger.as_mut().and_then(|ledger| ledger.read(over_s)) {
            put(&mut all, "cpu.CQL server", "% of a core", (change.user + change.system) * 100.0);
            put(&mut all, "memory.CQL server", "MiB", change.now.rss_kib as f64 / 1024.0);
            put(&mut all, "disk.CQL server", "MiB/s", change.written / 1024.0 / 1024.0);
        }
        if let Some(change) = harness.read(over_s) {
            put(&mut all, "cpu.harness", "% of a core", (change.user + change.system) * 100.0);
            all.harness_busy.push((change.busiest, idle));
        }
        let page = once("GET", &watched.metrics, b"", READ).await.ok().filter(|(status, _)| *status == 200);
        if let Some((_, body)) = page {
            let page = Page::of(&String::from_utf8_lossy(&body));
            for (name, value) in page.depths() {
                let name = name.trim_start_matches("sluice_");
                match name.strip_suffix("_seconds") {
                    Some(name) => put(&mut all, &format!("behind.{name}"), "ms", value * 1e3),
                    None => put(&mut all, &format!("depth.{name}"), "", value),
                }
            }
            if let Some(now) = page.syncs() {
                put(&mut all, "syncs.server", "1/s", syncs.by(now) / over_s.max(1e-3));
            }
            if let Some(now) = page.written() {
                entries.by(now.entries);
                commits.by(now.commits);
            }
        }
        let read = control_json::<Sample>("GET", &format!("{}/sample", watched.control), READ).await;
        if let Ok(now) = read {
            if let Some(then) = &before {
                let span_s = now.now_ns.saturating_sub(then.now_ns) as f64 / 1e9;
                let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / span_s.max(1e-3);
                glance.messages_per_s = rate(now.accepted, then.accepted);
                glance.statuses_per_s = rate(now.statuses_acked, then.statuses_acked);
                put(&mut all, "rate.messages", "1/s", glance.messages_per_s);
                put(&mut all, "rate.statuses", "1/s", glance.statuses_per_s);
                put(&mut all, "refused.webhook POSTs", "1/s", rate(now.posts_refused, then.posts_refused));
            }
            if let (Some(p50), Some(p99)) = (now.answer_ms_p50, now.answer_ms_p99) {
                put(&mut all, "answer.p50", "ms", p50);
                put(&mut all, "answer.p99", "ms", p99);
            }
            put(&mut all, "depth.statuses not acknowledged", "", now.outstanding as f64);
            glance.accepted = now.accepted;
            glance.outstanding = now.outstanding;
            before = Some(now);
        }
        show(&glance);
        if stopping {
            break;
        }
    }
    all.harness_lag = lag.snapshot();
    all.totals = Totals {
        server: server.sum,
        simulator: simulator.sum,
        ledger: ledger.map(|ledger| ledger.sum),
        harness: harness.sum,
        syncs: syncs.sum(),
        written: entries.sum().zip(commits.sum()).map(|(entries, commits)| Written { entries, commits }),
        machine: machine.shares_since(&first_machine),
        wall_s: begin.elapsed().as_secs_f64(),
    };
    all
}
