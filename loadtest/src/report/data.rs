//! The report as data: what `--out` writes as JSON and what the page and the comparison are made from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::measure::histogram::Snapshot;
use crate::measure::series::AllSeries;

/// The form of this file; a reader refuses another.
pub const FORMAT: u32 = 1;

/// A whole report.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// See [`FORMAT`].
    pub format: u32,
    /// The scenario's name.
    pub scenario: String,
    /// Its sentence.
    pub about: String,
    /// Its whole text.
    pub scenario_text: String,
    /// The seed.
    pub seed: u64,
    /// Sizes were multiplied by this.
    pub scale: f64,
    /// Keys that were set on the command line.
    pub overrides: Vec<String>,
    /// The command that repeats it.
    pub command: String,
    /// The commit of the sources, `unknown` outside a work tree; `+` behind it: with changes.
    pub commit: String,
    /// The server's version and binary, and how it was built as far as that is known.
    pub server: String,
    /// When it began.
    pub began: String,
    /// What it ran on.
    pub machine: Machine,
    /// How it ended.
    pub verdict: Verdict,
    /// What had to hold.
    pub conditions: Vec<Condition>,
    /// What was measured: of each figure the values of all runs.
    pub figures: BTreeMap<String, Vec<f64>>,
    /// Values over time, of the last run.
    pub series: AllSeries,
    /// Latencies, of the last run.
    pub latencies: BTreeMap<String, Snapshot>,
    /// When disturbances fell, of the last run.
    pub marks: Vec<Mark>,
    /// The floor and the engine in turn, of all runs.
    pub pairs: Vec<Pair>,
    /// The lines, of the last run.
    pub lines: Vec<LineUse>,
    /// The witness's check of the last run, in words.
    pub check: String,
    /// What weakens the result.
    pub notes: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every condition holds.
    Passed,
    /// One does not.
    #[default]
    Failed,
    /// The machine stood still where it mattered: the run says nothing and is to be repeated.
    Void,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Void => "void",
        }
    }
}

/// One condition with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// The figure's name, or a sentence.
    pub what: String,
    /// The bound; empty for a sentence.
    pub bound: String,
    /// What was found.
    pub found: String,
    /// Its verdict.
    pub verdict: Verdict,
}

/// A moment or a stretch of time worth a mark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds since the begin.
    pub from_s: f64,
    /// Its end; the same for a moment.
    pub to_s: f64,
    /// What.
    pub what: String,
}

/// One pair of floor and engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// CPU of the floor per message, µs.
    pub floor_us: f64,
    /// CPU of the engine per message, µs.
    pub engine_us: f64,
    /// Messages per second of the floor.
    pub floor_rate: f64,
    /// Messages per second of the engine.
    pub engine_rate: f64,
}

impl Pair {
    /// Floor ÷ engine.
    #[must_use]
    pub fn efficiency(&self) -> f64 {
        self.floor_us / self.engine_us
    }
}

/// What a line did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineUse {
    /// Its identity at the provider.
    pub line: String,
    /// Its ceiling.
    pub ceiling: u32,
    /// Arrivals.
    pub arrivals: u64,
    /// Most within any second.
    pub highest: u64,
    /// Mean per second.
    pub mean: f64,
    /// Least used over any window of demand.
    pub used_min: Option<f64>,
}
