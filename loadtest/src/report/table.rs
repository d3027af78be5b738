//! A report in the terminal.

use std::fmt::Write as _;

use super::data::{RunReport, Verdict};
use super::figures::{self, shown};
use crate::measure::series::median;

/// Conditions and figures as text.
#[must_use]
pub fn text(report: &RunReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{} (seed {}, commit {})", report.scenario, report.seed, report.commit);
    for kind in figures::ALL {
        if let Some(values) = report.figures.get(kind.name) {
            let _ = writeln!(out, "  {:<22} {:>12} {:<16} {}", kind.name, shown(median(values)), kind.unit, kind.what);
        }
    }
    out.push('\n');
    for one in &report.conditions {
        let words = if one.bound.is_empty() {
            format!("{}: {}", one.what, one.found)
        } else {
            format!("{} is {}, must be {}", one.what, one.found, one.bound)
        };
        let _ = writeln!(out, "  {:<6} {words}", one.verdict.word());
    }
    for note in &report.notes {
        let _ = writeln!(out, "  note   {note}");
    }
    if report.verdict == Verdict::Failed && report.check.contains("DIFFERENCES") {
        let _ = writeln!(out, "{}", report.check);
    }
    let _ = writeln!(out, "\n{}: {}", report.scenario, report.verdict.word());
    out
}
