//! The table of figures: one scenario after the other, each with the goal that it is held against.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::drive::Progress;
use super::repeat::{self, Order};
use crate::measure::series::median;
use crate::report::bound::Bound;
use crate::report::data::{RunReport, Verdict};
use crate::report::figures::{kind, shown};

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What.
    pub what: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// Keys set for it.
    pub set: &'static [&'static str],
    /// The figure.
    pub figure: &'static str,
    /// Its goal.
    pub goal: &'static str,
    /// A figure and a bound without which it was measured under something else than `what` says: then it counts as not measured.
    pub under: Option<(&'static str, &'static str)>,
}

impl Row {
    const fn under(mut self, figure: &'static str, bound: &'static str) -> Self {
        self.under = Some((figure, bound));
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
    Row { what, scenario, set, figure, goal, under: None }
}

/// All rows. Rows of one scenario and the same keys are taken from the same runs.
pub const ROWS: &[Row] = &[
    row("efficiency, one status per POST", "efficiency", &[], "efficiency", ">= 0.6"),
    row("efficiency, ten per POST", "efficiency-10", &[], "efficiency", ">= 0.6"),
    row("whole life cycle, one status per POST", "cycle", &[], "rate.cycle", ">= 15000"),
    row("whole life cycle, ten per POST", "cycle-10", &[], "rate.cycle", ">= 40000"),
    row("1,000 msg/s, one per POST: CPU", "steady", &[], "cpu.percent", "<= 20"),
    row("1,000 msg/s, ten per POST: CPU", "steady-10", &[], "cpu.percent", "<= 10"),
    row("1,000 msg/s, ten per POST: pacing error p99", "steady-10", &[], "pacing.p99", "< 5"),
    row("1,000 msg/s, ten per POST: refused", "steady-10", &[], "line.refused", "= 0"),
    row(
        "without fsync, ten per POST (beside the row above)",
        "cycle-10",
        &["server.config.store.sync=normal"],
        "rate.cycle",
        "> 0",
    ),
    row("ceiling 80/s, 1 campaign", "ceiling", &["lines.0.ceiling=80"], "line.use_min", ">= 0.99"),
    row(
        "ceiling 80/s, 10 campaigns",
        "ceiling",
        &["lines.0.ceiling=80", "campaigns.0.count=10"],
        "line.use_min",
        ">= 0.99",
    ),
    row("ceiling 1,000/s, 1 campaign", "ceiling", &[], "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 10 campaigns", "ceiling", &["campaigns.0.count=10"], "line.use_min", ">= 0.99"),
    row("ceiling 1,000/s, 10 campaigns: fewest ÷ most", "ceiling", &["campaigns.0.count=10"], "share.least", ">= 0.95"),
    row("ceiling 1,000/s, 1,000 campaigns", "ceiling", &["campaigns.0.count=1000"], "line.use_min", ">= 0.99"),
    row(
        "ceiling 10,000/s, 1 campaign, send leg",
        "ceiling",
        &["lines.0.ceiling=10000", "statuses.from=silent"],
        "line.use_min",
        ">= 0.99",
    ),
    row(
        "ceiling 10,000/s, 1,000 campaigns, send leg",
        "ceiling",
        &["lines.0.ceiling=10000", "statuses.from=silent", "campaigns.0.count=1000"],
        "line.use_min",
        ">= 0.99",
    ),
    row("1,000 running campaigns: start to first byte p99", "many", &[], "start.p99", "< 100"),
    row("provider at 200 ms, 10,000/s: used", "slow-provider", &[], "line.use_min", ">= 0.95"),
    row("provider at 200 ms, 10,000/s: peak RSS", "slow-provider", &[], "memory.peak", "<= 100"),
    // From the planned moment: what had to wait for a connection while the server answered others is part of it.
    row("webhooks at 20,000 statuses/s: p50", "steady", &["lines.0.ceiling=6700"], "webhook_due.p50", "< 2")
        .under("rate.statuses", ">= 19000"),
    row("webhooks at 20,000 statuses/s: p99", "steady", &["lines.0.ceiling=6700"], "webhook_due.p99", "< 10")
        .under("rate.statuses", ">= 19000"),
    row("webhooks at 20,000 statuses/s: p99.9", "steady", &["lines.0.ceiling=6700"], "webhook_due.p999", "< 50")
        .under("rate.statuses", ">= 19000"),
    row("webhook flood: growth of RSS", "webhook-flood", &[], "memory.flood", "<= 20"),
    row("webhook flood: refusals p99", "webhook-flood", &[], "flood.refused_p99", "< 5"),
    row("peak RSS, 10 k recipients", "million", &["campaigns.0.recipients=10000"], "memory.peak", "<= 50"),
    row("peak RSS, 100 k recipients", "million", &["campaigns.0.recipients=100000"], "memory.peak", "<= 64"),
    row("peak RSS, 1 M recipients", "million", &[], "memory.peak", "<= 80"),
    row("peak RSS, 10 M recipients", "big", &[], "memory.peak", "<= 128"),
    row("import, 1 M", "import", &[], "import.rows", ">= 100000"),
    row("import, 10 M", "import", &["campaigns.0.recipients=10000000"], "import.rows", ">= 50000"),
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
    let known: Vec<&str> = ROWS.iter().map(|row| row.scenario).collect();
    if let Some(wrong) = only.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("no row of the table is taken from {wrong}; there are {}", known.join(", "));
    }
    let mut reports: Vec<(&Row, RunReport)> = Vec::new();
    let mut all = Vec::new();
    for row in ROWS.iter().filter(|row| only.is_empty() || only.iter().any(|name| name == row.scenario)) {
        let held = reports.iter().position(|(one, _)| one.scenario == row.scenario && one.set == row.set);
        let place = match held {
            Some(place) => place,
            None => {
                let order = Order {
                    scenario: row.scenario.to_owned(),
                    overrides: row.set.iter().map(|one| (*one).to_owned()).collect(),
                    scale,
                    seed: None,
                    runs,
                };
                reports.push((row, repeat::run(&order, Arc::clone(&progress)).await?));
                reports.len() - 1
            }
        };
        let taken = take(row, &reports[place].1);
        say(&taken);
        all.push(taken);
    }
    Ok(all)
}

fn take(row: &Row, report: &RunReport) -> Taken {
    let values = |figure: &str| report.figures.get(figure).cloned().unwrap_or_default();
    let holds = |bound: &str, values: &[f64]| {
        bound.parse::<Bound>().is_ok_and(|bound| !values.is_empty() && bound.holds(median(values)))
    };
    // Fast under another load than the row speaks of is not an answer to it.
    let missed = row.under.filter(|(figure, bound)| !holds(bound, &values(figure)));
    let runs = if missed.is_some() { Vec::new() } else { values(row.figure) };
    let unit = kind(row.figure).map_or("", |kind| kind.unit);
    let reached = holds(row.goal, &runs);
    // A goal of speed is one thing, broken promises are another: whatever else a run's file asks for is not judged here.
    let promises = report.conditions.iter().filter(|one| one.bound.is_empty());
    let broken = promises.clone().any(|one| one.verdict == Verdict::Failed);
    let measured = match (missed, runs.is_empty()) {
        (Some((figure, bound)), _) => {
            let seen = values(figure);
            let seen = if seen.is_empty() { "none".to_owned() } else { shown(median(&seen)) };
            format!("not measured: {figure} {seen}, needs {bound}")
        }
        (None, true) => "not measured".to_owned(),
        (None, false) => format!("{} {unit}", shown(median(&runs))),
    };
    Taken {
        what: row.what.to_owned(),
        goal: row.goal.to_owned(),
        measured: if broken { format!("{measured} (a promise was broken)") } else { measured },
        cpu_us: report.figures.get("cpu.message").map(|values| median(values)),
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

    #[test]
    fn every_row_can_be_taken() {
        for row in ROWS {
            let overrides: Vec<String> = row.set.iter().map(|one| (*one).to_owned()).collect();
            if let Err(error) = crate::scenario::open(row.scenario, &overrides, 1.0) {
                panic!("{}: {error:#}", row.what);
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
        let rows: Vec<&Row> = ROWS.iter().filter(|row| row.what.starts_with("webhooks at 20,000")).collect();
        assert_eq!(rows.len(), 3);
        let mut report = RunReport::default();
        for row in rows {
            assert!(row.figure.starts_with("webhook_due."), "{}: from the planned moment", row.what);
            report.figures.insert(row.figure.to_owned(), vec![0.5]);
            report.figures.remove("rate.statuses");
            let taken = take(row, &report);
            assert!(!taken.ok && taken.measured.starts_with("not measured"), "{taken:?}");
            report.figures.insert("rate.statuses".to_owned(), vec![9_000.0, 9_500.0, 20_000.0]);
            let taken = take(row, &report);
            assert!(!taken.ok && taken.runs.is_empty(), "at half the load: {taken:?}");
            assert_eq!(taken.measured, "not measured: rate.statuses 9500, needs >= 19000");
            report.figures.insert("rate.statuses".to_owned(), vec![20_010.0]);
            assert!(take(row, &report).ok);
        }
    }

    #[test]
    fn a_broken_promise_is_not_reached_however_fast() {
        let mut report = RunReport::default();
        report.figures.insert("efficiency".to_owned(), vec![0.9, 0.8, 0.7]);
        assert!(take(&ROWS[0], &report).ok);
        report.conditions.push(crate::report::data::Condition {
            what: "the books agree".to_owned(),
            bound: String::new(),
            found: "lost × 1".to_owned(),
            verdict: Verdict::Failed,
        });
        assert!(!take(&ROWS[0], &report).ok);
        assert!(!take(&ROWS[2], &report).ok, "what was not measured is not reached");
    }
}
