//! Several runs of a scenario, one report.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::drive::{self, Outcome, Progress};
use crate::report::data::{FORMAT, RunReport, Verdict};
use crate::report::machine::{Machine, commit};
use crate::report::verdict::verdict;
use crate::scenario::{self, Scenario};

/// A void run is repeated at most so often for each run that was asked for.
const AGAIN: u32 = 2;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The scenario, by name or file.
    pub scenario: String,
    /// Keys set on the command line.
    pub overrides: Vec<String>,
    /// Sizes and times are multiplied by this.
    pub scale: f64,
    /// Another seed than the file's.
    pub seed: Option<u64>,
    /// How many runs; each has the seed after the one before.
    pub runs: u32,
}

impl Order {
    /// Reads the scenario as ordered.
    ///
    /// # Errors
    /// When there is none, or with everything that is wrong with it.
    pub fn open(&self) -> anyhow::Result<Scenario> {
        let mut scenario = scenario::open(&self.scenario, &self.overrides, self.scale)?;
        if let Some(seed) = self.seed {
            scenario.top.seed = seed;
        }
        Ok(scenario)
    }

    /// The command that repeats it.
    #[must_use]
    pub fn command(&self, seed: u64) -> String {
        let build = if cfg!(debug_assertions) { "" } else { " --release" };
        let mut words = format!(
            "cargo run{build} -p sluice-loadtest --bin loadtest -- run {} --seed {seed}",
            quoted(&self.scenario)
        );
        if self.scale != 1.0 {
            words.push_str(&format!(" --scale {}", self.scale));
        }
        if self.runs != 1 {
            words.push_str(&format!(" --runs {}", self.runs));
        }
        for one in &self.overrides {
            words.push_str(&format!(" --set {}", quoted(one)));
        }
        words
    }
}

/// For a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs as often as ordered.
///
/// # Errors
/// When the scenario is wrong or a run cannot be done.
pub async fn run(order: &Order, progress: Arc<dyn Progress>) -> anyhow::Result<RunReport> {
    let scenario = order.open()?;
    let seed = scenario.top.seed;
    let server = crate::harness::process::binary().await?;
    let mut report = RunReport {
        format: FORMAT,
        scenario: scenario.name.clone(),
        about: scenario.top.about.clone(),
        scenario_text: scenario.text.clone(),
        seed,
        scale: order.scale,
        overrides: order.overrides.clone(),
        command: order.command(seed),
        commit: commit(),
        server: server_words(&server),
        began: crate::sim::date::rfc_2822(super::stage::now_ns() / 1_000_000_000),
        machine: Machine::read(&std::env::temp_dir()),
        ..RunReport::default()
    };
    let mut verdicts = Vec::new();
    let mut next = seed;
    for n in 0..order.runs.max(1) {
        let mut again = AGAIN;
        loop {
            let mut one = scenario.clone();
            one.top.seed = next;
            next += 1;
            progress.say(&format!("run {} of {} of {} (seed {})", n + 1, order.runs.max(1), one.name, one.top.seed));
            let outcome = drive::run(one, Arc::clone(&progress)).await?;
            let found = verdict(&outcome.conditions);
            if found == Verdict::Void && again > 0 {
                again -= 1;
                report.notes.push(format!("seed {}: void, repeated", next - 1));
                continue;
            }
            take(&mut report, outcome);
            verdicts.push(found);
            break;
        }
    }
    report.verdict = together(&verdicts);
    Ok(report)
}

/// A failed run fails all; a void one leaves the question open.
fn together(verdicts: &[Verdict]) -> Verdict {
    let any = |verdict| verdicts.contains(&verdict);
    match () {
        () if verdicts.is_empty() || any(Verdict::Failed) => Verdict::Failed,
        () if any(Verdict::Void) => Verdict::Void,
        () => Verdict::Passed,
    }
}

/// Adds a run: of figures every value, of conditions the worst, of everything else the last.
fn take(report: &mut RunReport, outcome: Outcome) {
    for (name, value) in outcome.figures {
        report.figures.entry(name).or_default().push(value);
    }
    report.pairs.extend(outcome.pairs);
    let mut conditions = outcome.conditions;
    for condition in &mut conditions {
        let worse = report.conditions.iter().find(|one| one.what == condition.what && one.verdict != Verdict::Passed);
        if let Some(worse) = worse.filter(|_| condition.verdict != Verdict::Failed) {
            condition.clone_from(worse);
        }
    }
    report.conditions = conditions;
    report.series = outcome.series;
    report.latencies = outcome.latencies;
    report.marks = outcome.marks;
    report.lines = outcome.lines;
    report.check = outcome.check;
    for note in outcome.notes {
        if !report.notes.contains(&note) {
            report.notes.push(note);
        }
    }
}

/// What the server's binary says of itself, and which one it is.
fn server_words(binary: &Path) -> String {
    let output = std::process::Command::new(binary).arg("--version").output();
    let words = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let profile = binary.parent().and_then(|folder| folder.file_name()?.to_str()).unwrap_or("");
    let named = std::env::var_os("SLUICE_BIN").is_some();
    format!("{words}{}", if named { " (named by SLUICE_BIN)".to_owned() } else { format!(" ({profile})") })
}

/// The middle of each figure.
#[must_use]
pub fn medians(report: &RunReport) -> BTreeMap<String, f64> {
    report.figures.iter().map(|(name, values)| (name.clone(), crate::measure::series::median(values))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::data::Condition;

    #[test]
    fn one_failed_run_fails_all_of_them_and_keeps_its_condition() {
        use Verdict::{Failed, Passed, Void};
        assert_eq!(together(&[Passed, Failed, Passed]), Failed);
        assert_eq!(together(&[Passed, Void]), Void);
        assert_eq!(together(&[]), Failed, "no run shows nothing");
        let condition = |verdict, found: &str| Condition {
            what: "cpu.message".to_owned(),
            bound: "≤ 5".to_owned(),
            found: found.to_owned(),
            verdict,
        };
        let outcome = |verdict, found, value| Outcome {
            conditions: vec![condition(verdict, found)],
            figures: BTreeMap::from([("cpu.message".to_owned(), value)]),
            ..Outcome::default()
        };
        let mut report = RunReport::default();
        take(&mut report, outcome(Failed, "9", 9.0));
        take(&mut report, outcome(Passed, "4", 4.0));
        assert_eq!(report.conditions, vec![condition(Failed, "9")]);
        assert_eq!(report.figures["cpu.message"], vec![9.0, 4.0]);
    }

    #[test]
    fn the_command_repeats_the_run() {
        let order = Order {
            scenario: "smoke".to_owned(),
            overrides: vec!["campaigns.0.rate=[1, 2]".to_owned()],
            scale: 0.5,
            seed: None,
            runs: 3,
        };
        let command = order.command(7);
        assert!(
            command.ends_with("run smoke --seed 7 --scale 0.5 --runs 3 --set 'campaigns.0.rate=[1, 2]'"),
            "{command}"
        );
    }
}
