//! The table of figures: one scenario after the other, each with the goal that it is held against. What is compared with each other is run in
//! turn, so that the machine's moods hit both alike.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::drive::Progress;
use super::repeat::{self, Order};
use crate::measure::series::median;
use crate::report::bound::Bound;
use crate::report::data::{RunReport, Verdict};
use crate::report::figures::{kind, shown};

/// What is run: a scenario, and keys set for it.
pub type Load = (&'static str, &'static [&'static str]);

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What.
    pub what: &'static str,
    /// What is run for it.
    pub load: Load,
    /// The figure.
    pub figure: &'static str,
    /// Its goal.
    pub goal: &'static str,
    /// A figure and a bound without which it was measured under something else than `what` says: then it counts as not measured.
    pub under: Option<(&'static str, &'static str)>,
    /// The row is a ratio: the figure ÷ the same of this load, run by run.
    pub per: Option<Load>,
}

impl Row {
    const fn under(mut self, load: (&'static str, &'static str)) -> Self {
        self.under = Some(load);
        self
    }

    const fn per(mut self, scenario: &'static str, set: &'static [&'static str]) -> Self {
        self.per = Some((scenario, set));
        self
    }
}

const fn row(
    what: &'static str,
    scenario: &'static str,
    set: &'static [&'static str],
    figure: &'static str,
    goal: &'static str,
) -> Row {
    Row { what, load: (scenario, set), figure, goal, under: None, per: None }
}

/// One campaign that sends what the thousand send together.
const ONE: &[&str] = &["campaigns.0.count=1", "campaigns.0.rate=5000", "campaigns.0.workers=1024"];
/// Campaigns of 10 k recipients one after the other: a single one is over before its CPU can be told from that of the second around it.
const SMALL: &[&str] = &["campaigns.0.recipients=10000", "campaigns.0.count=20", "campaigns.0.stagger_ms=500"];
/// Each status comes up to half a minute after the one before, which is as long as the campaign takes.
const SPREAD: &[&str] =
    &["statuses.sent_ms=[0, 30000]", "statuses.delivered_ms=[0, 30000]", "statuses.read_ms=[0, 30000]"];
const CEILING_80: &[&str] = &["lines.0.ceiling=80"];
const CEILING_80_10: &[&str] = &["lines.0.ceiling=80", "campaigns.0.count=10"];
const CEILING_80_1000: &[&str] = &["lines.0.ceiling=80", "campaigns.0.count=1000", "campaigns.0.lasts_s=4"];
const CEILING_1000_10: &[&str] = &["campaigns.0.count=10"];
/// Long enough for each to send 100. Started one after the other, the first, alone on the line, would be done before the second begins: they
/// begin side by side.
const CEILING_1000_1000: &[&str] =
    &["campaigns.0.count=1000", "campaigns.0.lasts_s=180", "campaigns.0.scheduled=true", "campaigns.0.start_s=25"];
const CEILING_10000: &[&str] = &["lines.0.ceiling=10000", "statuses.from=silent"];
const CEILING_10000_10: &[&str] = &[
    "lines.0.ceiling=10000",
    "statuses.from=silent",
    "campaigns.0.count=10",
    "campaigns.0.scheduled=true",
    "campaigns.0.start_s=3",
];
const CEILING_10000_1000: &[&str] = &[
    "lines.0.ceiling=10000",
    "statuses.from=silent",
    "campaigns.0.count=1000",
    "campaigns.0.lasts_s=90",
    "campaigns.0.scheduled=true",
    "campaigns.0.start_s=25",
];

const DEFAULT_10K: &[&str] = &["campaigns.0.workers=256", "campaigns.0.recipients=10000"];
const DEFAULT_100K: &[&str] = &["campaigns.0.workers=256", "campaigns.0.recipients=100000"];
const DEFAULT_1M: &[&str] = &["campaigns.0.workers=256"];
const WEBHOOKS: &[&str] = &["lines.0.ceiling=6700"];
/// Fewer than these, and their latency says nothing.
const STATUSES: (&str, &str) = ("rate.statuses", ">= 19000");

/// All rows. Rows of one load are taken from the same runs.
pub const ROWS: &[Row] = &[
    row("efficiency, one status per POST", "efficiency", &[], "efficiency", ">= 0.6"),
    row("efficiency, ten per POST", "efficiency-10", &[], "efficiency", ">= 0.6"),
    row("whole life cycle, one status per POST", "cycle", &[], "rate.cycle", ">= 15000"),
    row("whole life cycle, ten per POST", "cycle-10", &[], "rate.cycle", ">= 40000"),
    row("whole life cycle, ten per POST: with fsync ÷ without", "cycle-10", &[], "rate.cycle", ">= 0.9")
        .per("cycle-10", &["server.config.store.sync=normal"]),
    row("1,000 msg/s, one per POST: CPU", "steady", &[], "cpu.percent", "<= 20"),
    row("1,000 msg/s, one per POST: pacing error p99", "steady", &[], "pacing.p99", "< 5"),
    row("1,000 msg/s, one per POST: refused", "steady", &[], "line.refused", "= 0"),
    row("1,000 msg/s, ten per POST: CPU", "steady-10", &[], "cpu.percent", "<= 10"),
    row("1,000 msg/s, ten per POST: pacing error p99", "steady-10", &[], "pacing.p99", "< 5"),
    row("1,000 msg/s, ten per POST: refused", "steady-10", &[], "line.refused", "= 0"),
    row("ceiling 80/s, 1 campaign", "ceiling", CEILING_80, "line.use_min", ">= 0.99"),
    row("ceiling 80/s, 10 campaigns", "ceiling", CEILING_80_10, "line.use_min", ">= 0.99"),
    row("ceiling 80/s, 10 campaigns: fewest ÷ most", "ceiling", CEILING_80_10, "share.always", ">= 0.95"),
    row("ceiling 80/s, 1,000 campaigns", "ceiling", CEILING_80_1000, "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 1 campaign", "ceiling", &[], "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 10 campaigns", "ceiling", CEILING_1000_10, "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 10 campaigns: fewest ÷ most", "ceiling", CEILING_1000_10, "share.always", ">= 0.95"),
    row("ceiling 1,000/s, 1,000 campaigns", "ceiling", CEILING_1000_1000, "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 1,000 campaigns: fewest ÷ most", "ceiling", CEILING_1000_1000, "share.always", ">= 0.95"),
    row("ceiling 10,000/s, 1 campaign, send leg", "ceiling", CEILING_10000, "line.use_min", ">= 0.99"),
    row("ceiling 10,000/s, 10 campaigns, send leg", "ceiling", CEILING_10000_10, "line.use_min", ">= 0.99"),
    row("ceiling 10,000/s, 10 campaigns: fewest ÷ most", "ceiling", CEILING_10000_10, "share.always", ">= 0.95"),
    row("ceiling 10,000/s, 1,000 campaigns, send leg", "ceiling", CEILING_10000_1000, "line.use_min", ">= 0.99"),
    row("ceiling 10,000/s, 1,000 campaigns: fewest ÷ most", "ceiling", CEILING_10000_1000, "share.always", ">= 0.95"),
    row("start to first byte, idle: p99", "start", &[], "start.p99", "< 20"),
    row("start to first byte, 1,000 campaigns running: p99", "many", &[], "start.p99", "< 100"),
    row("CPU per message: 1,000 campaigns ÷ one", "thousand", &[], "cpu.message", "<= 1.2").per("thousand", ONE),
    row("provider at 200 ms, 10,000/s: used", "slow-provider", &[], "line.use_min", ">= 0.95"),
    row("provider at 200 ms, 10,000/s: peak RSS", "slow-provider", &[], "memory.peak", "<= 100"),
    // From the planned moment: what had to wait for a connection while the server answered others is part of it.
    row("20,000 statuses/s, one per POST: webhook p50", "steady", WEBHOOKS, "webhook_due.p50", "< 2").under(STATUSES),
    row("20,000 statuses/s, one per POST: webhook p99", "steady", WEBHOOKS, "webhook_due.p99", "< 10").under(STATUSES),
    row("20,000 statuses/s, one per POST: webhook p99.9", "steady", WEBHOOKS, "webhook_due.p999", "< 50")
        .under(STATUSES),
    row("20,000 statuses/s, ten per POST: webhook p50", "steady-10", WEBHOOKS, "webhook_due.p50", "< 2")
        .under(STATUSES),
    row("20,000 statuses/s, ten per POST: webhook p99", "steady-10", WEBHOOKS, "webhook_due.p99", "< 10")
        .under(STATUSES),
    row("20,000 statuses/s, ten per POST: webhook p99.9", "steady-10", WEBHOOKS, "webhook_due.p999", "< 50")
        .under(STATUSES),
    row("webhook flood, two worker threads: growth of RSS", "webhook-flood", &[], "memory.flood", "<= 20"),
    row("webhook flood, two worker threads: refusals p99", "webhook-flood", &[], "flood.refused_p99", "< 5"),
    row("peak RSS, 10 k recipients, 256 in flight (the default)", "million", DEFAULT_10K, "memory.peak", "<= 50"),
    row("peak RSS, 100 k recipients, 256 in flight", "million", DEFAULT_100K, "memory.peak", "<= 64"),
    row("peak RSS, 1 M recipients, 256 in flight", "million", DEFAULT_1M, "memory.peak", "<= 80"),
    row("peak RSS, 1 M recipients, 1,024 in flight", "million", &[], "memory.peak", "<= 80"),
    row("peak RSS, 10 M recipients", "big", &[], "memory.peak", "<= 128"),
    row("CPU per message: 1 M ÷ 10 k recipients", "million", &[], "cpu.message", "<= 1.2").per("million", SMALL),
    row("CPU per message: 10 M ÷ 10 k recipients", "big", &[], "cpu.message", "<= 1.2").per("million", SMALL),
    // Told, not held against a goal.
    row("CPU per message, 1 M: statuses over the whole campaign ÷ near", "million", SPREAD, "cpu.message", "> 0")
        .per("million", &[]),
    row("import, 1 M", "import", &[], "import.rows", ">= 100000"),
    row("import, 1 M: peak RSS", "import", &[], "import.memory", "<= 72"),
    row("import, 10 M", "import", &["campaigns.0.recipients=10000000"], "import.rows", ">= 50000"),
    row("import, 10 M: peak RSS", "import", &["campaigns.0.recipients=10000000"], "import.memory", "<= 144"),
    row("restart with 1 M unfinished: sending", "restart", &[], "kill.sending", "<= 5000"),
    row("ledger, bytes per message", "million", &[], "ledger.message", "<= 400"),
    row("pause answered", "pause", &[], "pause.answer", "<= 100"),
];

/// What a row came to.
#[derive(Debug, Clone, Serialize)]
pub struct Taken {
    /// What.
    pub what: String,
    /// The goal.
    pub goal: String,
    /// The median with its unit, or why there is none.
    pub measured: String,
    /// All runs.
    pub runs: Vec<f64>,
    /// CPU of the server beside it, µs per message.
    pub cpu_us: Option<f64>,
    /// Goal reached, and the runs passed.
    pub ok: bool,
}

/// Takes the rows of these scenarios (all without one); `say` hears each.
///
/// # Errors
/// When a run cannot be done.
pub async fn run(
    only: &[String],
    runs: u32,
    scale: f64,
    progress: Arc<dyn Progress>,
    mut say: impl FnMut(&Taken),
) -> anyhow::Result<Vec<Taken>> {
    let known: Vec<&str> = ROWS.iter().map(|row| row.load.0).collect();
    if let Some(wrong) = only.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("no row of the table is taken from {wrong}; there are {}", known.join(", "));
    }
    let wanted = |row: &&Row| only.is_empty() || only.iter().any(|name| name == row.load.0);
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    let mut all = Vec::new();
    for loads in in_turn(&rows) {
        let mut reports: Vec<Vec<RunReport>> = vec![Vec::new(); loads.len()];
        for n in 0..runs.max(1) {
            for (load, reports) in loads.iter().zip(&mut reports) {
                reports.push(one(*load, n, scale, Arc::clone(&progress)).await?);
            }
        }
        let of = |load: Load| loads.iter().position(|one| *one == load).map_or(&[][..], |place| &reports[place][..]);
        for (place, row) in rows.iter().enumerate().filter(|(_, row)| loads.contains(&row.load)) {
            let taken = take(row, of(row.load), row.per.map(of));
            say(&taken);
            all.push((place, taken));
        }
    }
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, taken)| taken).collect())
}

/// Everything that is to be run, each once; together what some row compares.
fn in_turn(rows: &[&Row]) -> Vec<Vec<Load>> {
    let mut groups: Vec<Vec<Load>> = Vec::new();
    for row in rows {
        let compared = || std::iter::once(row.load).chain(row.per);
        let is_mine = |group: &Vec<Load>| compared().any(|load| group.contains(&load));
        let (mine, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_mine);
        let mut together = mine.concat();
        for load in compared() {
            if !together.contains(&load) {
                together.push(load);
            }
        }
        groups = others;
        groups.push(together);
    }
    groups
}

/// The `n`-th run of a load.
async fn one((scenario, set): Load, n: u32, scale: f64, progress: Arc<dyn Progress>) -> anyhow::Result<RunReport> {
    let overrides = set.iter().map(|one| (*one).to_owned()).collect();
    let mut order = Order { scenario: scenario.to_owned(), overrides, scale, seed: None, runs: 1 };
    order.seed = Some(order.open()?.top.seed + u64::from(n));
    repeat::run(&order, progress).await
}

fn take(row: &Row, reports: &[RunReport], per: Option<&[RunReport]>) -> Taken {
    let value = |report: &RunReport, figure: &str| report.figures.get(figure).map(|values| median(values));
    let values = |figure: &str| -> Vec<f64> { reports.iter().filter_map(|report| value(report, figure)).collect() };
    let holds = |bound: &str, values: &[f64]| {
        bound.parse::<Bound>().is_ok_and(|bound| !values.is_empty() && bound.holds(median(values)))
    };
    // Fast under another load than the row speaks of is not an answer to it.
    let missed = row.under.filter(|(figure, bound)| !holds(bound, &values(figure)));
    let runs = match per {
        _ if missed.is_some() => Vec::new(),
        None => values(row.figure),
        Some(per) => {
            let pairs = reports.iter().zip(per);
            pairs.filter_map(|(one, other)| Some(value(one, row.figure)? / value(other, row.figure)?)).collect()
        }
    };
    let unit = if per.is_some() { "" } else { kind(row.figure).map_or("", |kind| kind.unit) };
    let reached = holds(row.goal, &runs);
    // A goal of speed is one thing, broken promises are another: whatever else a run's file asks for is not judged here.
    let conditions = reports.iter().chain(per.unwrap_or_default()).flat_map(|report| &report.conditions);
    let broken = conditions.filter(|one| one.bound.is_empty()).any(|one| one.verdict == Verdict::Failed);
    let measured = match (missed, runs.is_empty()) {
        (Some((figure, bound)), _) => {
            let seen = values(figure);
            let seen = if seen.is_empty() { "none".to_owned() } else { shown(median(&seen)) };
            format!("not measured: {figure} {seen}, needs {bound}")
        }
        (None, true) => "not measured".to_owned(),
        (None, false) => format!("{} {unit}", shown(median(&runs))).trim_end().to_owned(),
    };
    let cpu = values("cpu.message");
    Taken {
        what: row.what.to_owned(),
        goal: row.goal.to_owned(),
        measured: if broken { format!("{measured} (a promise was broken)") } else { measured },
        cpu_us: (!cpu.is_empty()).then(|| median(&cpu)),
        ok: reached && !broken,
        runs,
    }
}

/// The rows as a table.
#[must_use]
pub fn table(taken: &[Taken]) -> String {
    let mut out = String::from("| what | goal | measured | range | server CPU | |\n|---|---|---|---|---|---|\n");
    for one in taken {
        let low = one.runs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = one.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let range = if one.runs.len() > 1 { format!("{} to {}", shown(low), shown(high)) } else { "·".to_owned() };
        let cpu = one.cpu_us.map_or_else(|| "·".to_owned(), |cpu| format!("{cpu:.1} µs/msg"));
        let verdict = if one.ok { "reached" } else { "**short**" };
        let _ = writeln!(out, "| {} | {} | {} | {range} | {cpu} | {verdict} |", one.what, one.goal, one.measured);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::data::Condition;

    fn report(figures: &[(&str, f64)]) -> RunReport {
        let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), vec![*value])).collect();
        RunReport { figures, ..RunReport::default() }
    }

    fn row_of(what: &str) -> &'static Row {
        ROWS.iter().find(|row| row.what.starts_with(what)).expect("a row")
    }

    #[test]
    fn every_row_can_be_taken() {
        for row in ROWS {
            for (scenario, set) in std::iter::once(row.load).chain(row.per) {
                let overrides: Vec<String> = set.iter().map(|one| (*one).to_owned()).collect();
                if let Err(error) = crate::scenario::open(scenario, &overrides, 1.0) {
                    panic!("{}: {error:#}", row.what);
                }
            }
            assert!(kind(row.figure).is_some(), "{}: no figure {}", row.what, row.figure);
            assert!(row.goal.parse::<Bound>().is_ok(), "{}", row.what);
            if let Some((figure, bound)) = row.under {
                assert!(
                    kind(figure).is_some() && bound.parse::<Bound>().is_ok(),
                    "{}: under {figure} {bound}",
                    row.what
                );
            }
        }
    }

    #[test]
    fn webhooks_at_a_load_that_was_not_there_are_not_measured() {
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.what.starts_with("20,000 statuses/s")).collect();
        assert_eq!(rows.len(), 6);
        for row in rows {
            assert!(row.figure.starts_with("webhook_due."), "{}: from the planned moment", row.what);
            let at = |rates: &[f64]| -> Vec<RunReport> {
                rates.iter().map(|rate| report(&[(row.figure, 0.5), ("rate.statuses", *rate)])).collect()
            };
            let taken = take(row, &[report(&[(row.figure, 0.5)])], None);
            assert!(!taken.ok && taken.measured.starts_with("not measured"), "{taken:?}");
            let taken = take(row, &at(&[9_000.0, 9_500.0, 20_000.0]), None);
            assert!(!taken.ok && taken.runs.is_empty(), "at half the load: {taken:?}");
            assert_eq!(taken.measured, "not measured: rate.statuses 9500, needs >= 19000");
            assert!(take(row, &at(&[20_010.0]), None).ok);
        }
    }

    #[test]
    fn a_broken_promise_is_not_reached_however_fast() {
        let row = row_of("efficiency");
        let mut reports: Vec<RunReport> =
            [0.9, 0.8, 0.7].map(|efficiency| report(&[("efficiency", efficiency)])).into_iter().collect();
        assert!(take(row, &reports, None).ok);
        reports[1].conditions.push(Condition {
            what: "the books agree".to_owned(),
            bound: String::new(),
            found: "lost × 1".to_owned(),
            verdict: Verdict::Failed,
        });
        assert!(!take(row, &reports, None).ok);
        let ratio = row_of("whole life cycle, ten per POST: with fsync");
        let fast = [report(&[("rate.cycle", 1.0)])];
        assert!(take(ratio, &fast, Some(&fast)).ok);
        reports[1].figures.clone_from(&fast[0].figures);
        assert!(!take(ratio, &fast, Some(&reports[1..2])).ok, "neither where what it is compared with broke it");
        assert!(!take(row_of("whole life cycle"), &reports[..1], None).ok, "what was not measured is not reached");
    }

    #[test]
    fn a_ratio_is_taken_run_by_run() {
        let row = row_of("whole life cycle, ten per POST: with fsync");
        let runs = |rates: &[f64]| -> Vec<RunReport> { rates.iter().map(|r| report(&[("rate.cycle", *r)])).collect() };
        // The machine slowed down by half: each pair says the same nevertheless.
        let taken = take(row, &runs(&[46.0, 23.0, 95.0]), Some(&runs(&[50.0, 25.0, 100.0])));
        assert!(taken.ok && taken.runs.iter().all(|ratio| (0.919..0.951).contains(ratio)), "{taken:?}");
        assert_eq!(taken.measured, "0.92", "of no unit");
        assert!(!take(row, &runs(&[40.0]), Some(&runs(&[50.0]))).ok);
        assert!(!take(row, &runs(&[40.0]), Some(&[])).ok, "nothing to compare with");
    }

    #[test]
    fn what_is_compared_is_run_in_turn_and_everything_once() {
        let rows: Vec<&Row> = ROWS.iter().collect();
        let groups = in_turn(&rows);
        let mut loads = groups.concat();
        let number = loads.len();
        loads.sort_unstable();
        loads.dedup();
        assert_eq!(loads.len(), number, "none twice");
        for row in rows {
            let group = groups.iter().find(|group| group.contains(&row.load)).expect("it is run");
            assert!(row.per.is_none_or(|per| group.contains(&per)), "{}", row.what);
        }
    }
}
