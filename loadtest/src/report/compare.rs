//! Two reports of one scenario: what changed beyond noise.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::data::{FORMAT, RunReport, Verdict};
use super::figures::{ALL, Better, Kind, shown};
use crate::measure::series::median;

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Better beyond noise.
    Better,
    /// Worse beyond noise.
    Worse,
    /// Other beyond noise, of a figure that only describes.
    Other,
    /// Only the second has it.
    New,
    /// Only the first has it.
    Gone,
}

/// One figure that changed.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// The figure.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Median before.
    pub before: Option<f64>,
    /// Median after.
    pub after: Option<f64>,
    /// After ÷ before − 1.
    pub by: Option<f64>,
}

/// The comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What changed.
    pub changed: Vec<Changed>,
    /// Figures within noise.
    pub same: usize,
    /// What makes both hard to compare.
    pub notes: Vec<String>,
    /// Something is worse beyond noise, or the second run failed and the first did not.
    pub regressed: bool,
}

/// Reads a report.
///
/// # Errors
/// When it cannot be read or is of another form.
pub fn read(path: &Path) -> anyhow::Result<RunReport> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: RunReport =
        serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))?;
    anyhow::ensure!(report.format == FORMAT, "{}: form {}, this program reads {FORMAT}", path.display(), report.format);
    Ok(report)
}

/// Compares `after` with `before`. A figure has changed when its medians differ by more than `threshold` (a share) and, where runs were
/// repeated, the ranges of both do not overlap.
#[must_use]
pub fn compare(before: &RunReport, after: &RunReport, threshold: f64) -> Comparison {
    let mut changed = Vec::new();
    let mut same = 0;
    for kind in ALL {
        let values = |report: &RunReport| report.figures.get(kind.name).cloned().filter(|values| !values.is_empty());
        let (first, second) = (values(before), values(after));
        let entry = |change, by| Changed {
            name: kind.name.to_owned(),
            change,
            before: first.as_deref().map(median),
            after: second.as_deref().map(median),
            by,
        };
        match (&first, &second) {
            (None, None) => {}
            (Some(_), None) => changed.push(entry(Change::Gone, None)),
            (None, Some(_)) => changed.push(entry(Change::New, None)),
            (Some(one), Some(two)) => match judged(kind, one, two, threshold) {
                Some((change, by)) => changed.push(entry(change, Some(by))),
                None => same += 1,
            },
        }
    }
    let broke = before.verdict == Verdict::Passed && after.verdict == Verdict::Failed;
    let regressed = broke || changed.iter().any(|one| one.change == Change::Worse || lost(one));
    Comparison { changed, same, notes: notes(before, after), regressed }
}

/// A figure that is good in one direction and is no longer measured hides whatever became of it.
fn lost(one: &Changed) -> bool {
    one.change == Change::Gone && ALL.iter().any(|kind| kind.name == one.name && kind.better != Better::Neither)
}

fn judged(kind: &Kind, before: &[f64], after: &[f64], threshold: f64) -> Option<(Change, f64)> {
    let (one, two) = (median(before), median(after));
    // From nothing every change is a whole one.
    let by = if one == 0.0 { if two == 0.0 { 0.0 } else { two.signum() } } else { (two - one) / one.abs() };
    let low = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let overlap = low(after) <= high(before) && low(before) <= high(after);
    if by.abs() <= threshold || (overlap && one != two && before.len() + after.len() > 2) {
        return None;
    }
    let more = by > 0.0;
    let change = match kind.better {
        Better::Neither => Change::Other,
        Better::More if more => Change::Better,
        Better::Less if !more => Change::Better,
        Better::More | Better::Less => Change::Worse,
    };
    Some((change, by))
}

fn notes(before: &RunReport, after: &RunReport) -> Vec<String> {
    let pairs = [
        ("scenario", &before.scenario, &after.scenario),
        ("processor", &before.machine.processor, &after.machine.processor),
        ("disk", &before.machine.disk, &after.machine.disk),
        ("build", &before.machine.build, &after.machine.build),
        ("kernel", &before.machine.kernel, &after.machine.kernel),
    ];
    let mut all: Vec<String> = pairs
        .into_iter()
        .filter(|(_, one, two)| one != two)
        .map(|(what, one, two)| format!("another {what}: {one} and {two}"))
        .collect();
    if before.scenario_text != after.scenario_text && before.scenario == after.scenario {
        all.push("the scenario's file was changed between both".to_owned());
    }
    if before.scale != after.scale || before.overrides != after.overrides {
        all.push("other sizes or keys (--scale, --set)".to_owned());
    }
    if before.machine.cpus != after.machine.cpus {
        all.push(format!("another number of CPUs: {} and {}", before.machine.cpus, after.machine.cpus));
    }
    all
}

impl Comparison {
    /// In words.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        let value = |value: Option<f64>| value.map_or_else(|| "·".to_owned(), shown);
        for one in &self.changed {
            let by = one.by.map_or_else(String::new, |by| format!("{:+.1} %", by * 100.0));
            let word = format!("{:?}", one.change).to_lowercase();
            let _ = writeln!(
                out,
                "{word:<7} {:<22} {:>12} → {:>12} {by:>9}",
                one.name,
                value(one.before),
                value(one.after)
            );
        }
        let _ = writeln!(
            out,
            "{} figures within noise; {}",
            self.same,
            if self.regressed { "REGRESSED" } else { "no regression" }
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: &[(&str, &[f64])]) -> RunReport {
        let figures = values.iter().map(|(name, values)| ((*name).to_owned(), values.to_vec())).collect();
        RunReport { verdict: Verdict::Passed, figures, ..RunReport::default() }
    }

    fn change(before: &[(&str, &[f64])], after: &[(&str, &[f64])]) -> (Vec<Change>, bool) {
        let found = compare(&report(before), &report(after), 0.05);
        (found.changed.iter().map(|one| one.change).collect(), found.regressed)
    }

    #[test]
    fn the_direction_of_a_figure_counts() {
        assert_eq!(change(&[("cpu.message", &[10.0])], &[("cpu.message", &[12.0])]), (vec![Change::Worse], true));
        assert_eq!(change(&[("cpu.message", &[10.0])], &[("cpu.message", &[8.0])]), (vec![Change::Better], false));
        assert_eq!(change(&[("rate.cycle", &[10.0])], &[("rate.cycle", &[8.0])]), (vec![Change::Worse], true));
        assert_eq!(change(&[("machine.idle", &[10.0])], &[("machine.idle", &[8.0])]), (vec![Change::Other], false));
    }

    #[test]
    fn noise_is_no_change() {
        assert_eq!(change(&[("cpu.message", &[10.0])], &[("cpu.message", &[10.4])]), (vec![], false));
        let overlapping = change(&[("cpu.message", &[9.0, 10.0, 13.0])], &[("cpu.message", &[12.0, 12.5, 14.0])]);
        assert_eq!(overlapping, (vec![], false), "ranges overlap");
        let apart = change(&[("cpu.message", &[9.0, 10.0, 11.0])], &[("cpu.message", &[12.0, 12.5, 14.0])]);
        assert_eq!(apart, (vec![Change::Worse], true));
        assert_eq!(change(&[("line.refused", &[0.0])], &[("line.refused", &[3.0])]), (vec![Change::Worse], true));
        assert_eq!(change(&[("line.refused", &[0.0])], &[("line.refused", &[0.0])]), (vec![], false));
    }

    #[test]
    fn a_figure_that_is_gone_and_a_run_that_fails_are_regressions() {
        assert_eq!(change(&[("efficiency", &[0.5])], &[]), (vec![Change::Gone], true));
        assert_eq!(change(&[], &[("efficiency", &[0.5])]), (vec![Change::New], false));
        let failed = RunReport { verdict: Verdict::Failed, ..RunReport::default() };
        assert!(compare(&report(&[]), &failed, 0.05).regressed);
    }
}
