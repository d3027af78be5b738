//! From everything that a run left behind to its figures.

use std::collections::BTreeMap;

use super::campaigns::Imported;
use super::ear::Ear;
use super::stage::{Left, Made};
use crate::measure::arrivals::Share;
use crate::measure::histogram::Snapshot;
use crate::measure::own_rate;
use crate::measure::sampler::Sampled;
use crate::measure::series::median;
use crate::report::data::Pair;
use crate::scenario::load::PROBE;
use crate::sim::rates::LineRate;
use crate::sim::stats::LatencyReport;
use crate::witness::compare::Policy;
use crate::witness::records::Shown;
use crate::witness::report::Report;

/// What a run left behind.
#[derive(Debug)]
pub struct Remains<'a> {
    /// The witness's comparison.
    pub check: &'a Report,
    /// What was sampled while the load lasted.
    pub sampled: &'a Sampled,
    /// The simulator's latencies.
    pub latencies: &'a LatencyReport,
    /// From status to watch stream.
    pub visible: &'a Snapshot,
    /// Rates of the lines between the marks of demand.
    pub lines: &'a [LineRate],
    /// Whether campaigns kept to their own rates.
    pub own_rates: &'a own_rate::Found,
    /// Campaigns.
    pub made: &'a [Made],
    /// What disturbances left.
    pub left: &'a Left,
    /// Pairs.
    pub pairs: &'a [Pair],
    /// Imports.
    pub imported: Imported,
    /// Accepted while the load lasted.
    pub accepted: u64,
    /// Statuses acknowledged meanwhile.
    pub statuses: u64,
    /// Statuses given up by the provider meanwhile.
    pub given_up: u64,
    /// From the first arrival to the last, s.
    pub sending_s: f64,
    /// From the first arrival to the last acknowledgement, s.
    pub cycle_s: f64,
    /// From the first start to the end of everything, s.
    pub took_s: f64,
    /// Size of the data directory, bytes; `None`: the ledger is not there.
    pub data_bytes: Option<u64>,
    /// The probe's line.
    pub probe_line: Option<&'a str>,
}

/// All figures that were measured, and the latencies behind them.
pub fn figures(remains: &Remains<'_>, ear: &mut Ear) -> (BTreeMap<String, f64>, BTreeMap<String, Snapshot>) {
    let mut all = Figures::default();
    through(remains, &mut all);
    let mut latencies = BTreeMap::new();
    let mut keep = |all: &mut Figures, name: &str, words: &str, snapshot: Snapshot| {
        all.quantiles(name, &snapshot);
        if snapshot.count() > 0 {
            latencies.insert(words.to_owned(), snapshot);
        }
    };
    let starts = crate::measure::histogram::Latencies::default();
    // A schedule is looked at once a second: how long that took says nothing of a start.
    let called = |made: &&Made| made.started_ns > 0 && made.job.entry != PROBE && !made.job.scheduled;
    for made in remains.made.iter().filter(called) {
        if let Some(first) = ear.arrivals.first_of(made.range()) {
            starts.note_us(first.saturating_sub(made.started_ns) / 1_000);
        }
    }
    keep(&mut all, "start", "start → first byte", starts.snapshot());
    keep(&mut all, "due", "intent → accepted", ear.arrivals.intent_to_accept());
    let probe = remains.probe_line.unwrap_or("");
    keep(&mut all, "pacing", "pacing error", ear.arrivals.pacing_errors(|line| line != probe));
    keep(&mut all, "webhook", "webhook → answer", remains.latencies.answer.clone());
    keep(&mut all, "webhook_due", "webhook due → 200", remains.latencies.planned_to_acked.clone());
    keep(&mut all, "visible", "status → watch stream", remains.visible.clone());
    let mut taken = Snapshot::default();
    let mut refused = Snapshot::default();
    for flood in &remains.left.floods {
        taken.add(&flood.taken);
        refused.add(&flood.refused);
    }
    all.maybe("flood.taken_p99", taken.quantile_ms(0.99));
    all.maybe("flood.refused_p99", refused.quantile_ms(0.99));
    for (words, snapshot) in [("flood: due → 200", taken), ("flood: refusal", refused)] {
        if snapshot.count() > 0 {
            latencies.insert(words.to_owned(), snapshot);
        }
    }
    lines(remains, ear, &mut all);
    costs(remains, &mut all);
    disturbances(remains.left, &mut all);
    if !remains.left.pauses.is_empty() {
        all.put("pause.left", ear.left_paused(remains.made, &remains.left.pauses) as f64);
    }
    floor(remains.pairs, &mut all);
    (all.0, latencies)
}

#[derive(Debug, Default)]
struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn put(&mut self, name: &str, value: f64) {
        debug_assert!(crate::report::figures::kind(name).is_some(), "{name} is not in the list of figures");
        if value.is_finite() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn maybe(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Those quantiles of a latency that the list of figures knows.
    fn quantiles(&mut self, name: &str, snapshot: &Snapshot) {
        let quantiles = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];
        let values = quantiles.map(|(word, share)| (word, snapshot.quantile_ms(share)));
        for (word, value) in values.into_iter().chain([("longest", snapshot.longest_ms())]) {
            let figure = format!("{name}.{word}");
            if crate::report::figures::kind(&figure).is_some() {
                self.maybe(&figure, value);
            }
        }
    }
}

fn through(remains: &Remains<'_>, all: &mut Figures) {
    all.put("messages.accepted", remains.accepted as f64);
    all.put("statuses.acked", remains.statuses as f64);
    all.put("statuses.given_up", remains.given_up as f64);
    if remains.sending_s > 0.0 {
        all.put("rate.messages", remains.accepted as f64 / remains.sending_s);
    }
    if remains.cycle_s > 0.0 {
        all.put("rate.statuses", remains.statuses as f64 / remains.cycle_s);
        all.put("rate.cycle", remains.accepted as f64 / remains.cycle_s);
    }
    if remains.imported.took_s > 0.0 {
        all.put("import.rows", remains.imported.rows as f64 / remains.imported.took_s);
        all.put("import.memory", remains.imported.peak_kib as f64 / 1024.0);
    }
    all.put("took", remains.took_s);
    let campaigns = &remains.check.campaigns;
    all.maybe("recount.longest", campaigns.iter().map(|c| c.recount_s).reduce(f64::max));
    all.put("messages.unconfirmed", campaigns.iter().map(|c| c.tally.of(Shown::Unconfirmed)).sum::<u64>() as f64);
    let again = campaigns.iter().filter(|c| c.policy == Policy::AtLeastOnce);
    all.put("messages.doubled", again.map(|c| c.ledger.doubled).sum::<u64>() as f64);
}

fn lines(remains: &Remains<'_>, ear: &Ear, all: &mut Figures) {
    let used = remains.lines.iter().filter(|line| Some(line.line.as_str()) != remains.probe_line);
    let least = used.clone().filter_map(|line| line.lowest_window_used).reduce(f64::min);
    all.maybe("line.use_min", least);
    let highest = remains.check.rates.iter().map(|line| line.highest as f64 / f64::from(line.ceiling));
    all.maybe("line.highest", highest.reduce(f64::max));
    // 130429 and 20429 are what the simulator says above a ceiling (and in a storm, which a scenario knows of).
    let refused = remains.check.ledger.refused.values().flatten().filter(|(code, _)| [130_429, 20_429].contains(*code));
    all.put("line.refused", refused.map(|(_, count)| *count).sum::<u64>() as f64);
    all.put("start.early", ear.early(remains.made) as f64);
    all.maybe("line.strayed", ear.strayed(remains.made).map(|strayed| strayed as f64));
    all.maybe("campaign.above", remains.own_rates.above);
    all.maybe("campaign.rate_min", remains.own_rates.least);
    // Equal campaigns: those of one entry with the same rate and size.
    let mut groups: BTreeMap<(&str, u32, u32), Vec<std::ops::Range<usize>>> = BTreeMap::new();
    for made in remains.made.iter().filter(|made| made.started_ns > 0 && made.job.entry != PROBE) {
        let key = (made.job.entry.as_str(), made.job.recipients, made.job.plan.rate.unwrap_or(0));
        groups.entry(key).or_default().push(made.range());
    }
    let shares: Vec<Share> = groups.values().filter_map(|ranges| ear.arrivals.fair_share(ranges)).collect();
    all.maybe("share.least", shares.iter().map(|share| share.last).reduce(f64::min));
    all.maybe("share.always", shares.iter().map(|share| share.least).reduce(f64::min));
}

fn costs(remains: &Remains<'_>, all: &mut Figures) {
    let totals = &remains.sampled.totals;
    let server = &totals.server;
    let messages = remains.accepted as f64;
    if messages > 0.0 {
        let micros = |ns: u64| ns as f64 / 1e3 / messages;
        all.put("cpu.message", micros(server.user_ns + server.system_ns));
        all.put("cpu.user", micros(server.user_ns));
        all.put("cpu.system", micros(server.system_ns));
        all.put("cpu.simulator", micros(totals.simulator.user_ns + totals.simulator.system_ns));
        all.maybe("cpu.ledger", totals.ledger.map(|ledger| micros(ledger.user_ns + ledger.system_ns)));
        if let Some(written) = totals.written.filter(|_| remains.data_bytes.is_none()) {
            all.put("rows.message", written.entries / messages);
            all.put("rows.batch", written.entries / written.commits);
        }
        all.put("disk.message", server.written_bytes as f64 / messages);
        all.maybe("syncs.message", totals.syncs.map(|syncs| syncs / messages));
        all.put("switches.message", server.switches as f64 / messages);
    }
    if totals.wall_s > 0.0 {
        let percent = |ns: u64| ns as f64 / 1e7 / totals.wall_s;
        all.put("cpu.percent", percent(server.user_ns + server.system_ns));
        all.put("cpu.harness", percent(totals.harness.user_ns + totals.harness.system_ns));
    }
    all.put("memory.peak", server.rss_peak_kib as f64 / 1024.0);
    let recipients: u64 = remains.check.campaigns.iter().map(|campaign| campaign.tally.total).sum();
    if recipients > 0 {
        all.maybe("ledger.message", remains.data_bytes.map(|bytes| bytes as f64 / recipients as f64));
    }
    if let Some((idle, stolen)) = totals.machine {
        all.put("machine.idle", idle * 100.0);
        all.put("machine.stolen", stolen * 100.0);
    }
}

fn disturbances(left: &Left, all: &mut Figures) {
    let longest = |values: &[f64]| values.iter().copied().reduce(f64::max);
    all.maybe("kill.ready", longest(&left.ready_ms));
    all.maybe("kill.sending", longest(&left.sending_ms));
    if !left.doubts.is_empty() {
        all.put("kill.count", left.doubts.len() as f64);
        all.put("kill.doubt", left.doubts.iter().map(|(doubt, _)| *doubt).max().unwrap_or(0) as f64);
        all.put("kill.beyond", left.doubts.iter().filter(|(doubt, most)| doubt > most).count() as f64);
    }
    if let Some(answer) = longest(&left.pause_ms) {
        all.put("pause.answer", answer);
    }
    all.maybe("memory.flood", longest(&left.flood_mib));
    all.maybe("flood.rate", left.floods.iter().map(|flood| flood.rate).reduce(f64::min));
    let due: u64 = left.floods.iter().map(|flood| flood.due).sum();
    if due > 0 {
        let answers = |of: fn(u16) -> bool| -> f64 {
            let all = left.floods.iter().flat_map(|flood| &flood.answers).filter(|(status, _)| of(**status));
            all.map(|(_, count)| *count).sum::<u64>() as f64
        };
        all.put("flood.refused", answers(|status| status != 200 && status != 0) / due as f64);
        all.put("flood.unanswered", answers(|status| status == 0));
    }
}

fn floor(pairs: &[Pair], all: &mut Figures) {
    if pairs.is_empty() {
        return;
    }
    let middle = |of: fn(&Pair) -> f64| median(&pairs.iter().map(of).collect::<Vec<_>>());
    all.put("efficiency", middle(Pair::efficiency));
    all.put("floor.message", middle(|pair| pair.floor_us));
    all.put("engine.message", middle(|pair| pair.engine_us));
    all.put("floor.rate", middle(|pair| pair.floor_rate));
    all.put("engine.rate", middle(|pair| pair.engine_rate));
}
