//! From what was measured to a verdict. Pure, so that every lie that a server could tell is told once in a test.

use std::collections::BTreeMap;

use super::bound::Bound;
use super::data::{Condition, Verdict};
use super::figures::shown;
use crate::witness::kinds::Kind;
use crate::witness::report::Report;

/// What is judged.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The witness's comparison of server and simulator.
    pub check: &'a Report,
    /// Figures of this run.
    pub figures: &'a BTreeMap<String, f64>,
    /// Why those who measured were the limit.
    pub objections: &'a [String],
    /// What did not come to its end in time, or could not be done.
    pub failures: &'a [String],
    /// Recipients that were sent to; none is a run that shows nothing.
    pub recipients: u64,
    /// A ceiling exceeded while the machine stood still is told, but does not void the run.
    pub stalls_excused: bool,
}

/// Figures that must be 0 in every run that has them; a scenario may bound them otherwise, but not leave them out.
const PROMISES: [&str; 7] = [
    "statuses.given_up",
    "start.early",
    "line.strayed",
    "campaign.above",
    "kill.beyond",
    "pause.left",
    "flood.unanswered",
];

/// Judges a run. Some conditions hold for every run and cannot be switched off: the books agree, it came to its end, those who measured were
/// not the limit, doubts are explained and stay within what was in flight, no status is refused for good, campaigns keep
/// to their own rates and pools, nothing leaves before its start, a pause is a promise.
#[must_use]
pub fn judge(evidence: &Evidence<'_>, pass: &BTreeMap<String, String>) -> Vec<Condition> {
    let mut all = vec![books(evidence), traces(evidence), ended(evidence), witnesses(evidence)];
    for promise in PROMISES {
        if evidence.figures.contains_key(promise) && !pass.contains_key(promise) {
            all.push(bounded(promise, "<= 0", evidence.figures));
        }
    }
    all.extend(pass.iter().map(|(name, bound)| bounded(name, bound, evidence.figures)));
    all
}

/// The verdict of a run: one broken condition fails it, whatever else is void.
#[must_use]
pub fn verdict(conditions: &[Condition]) -> Verdict {
    let any = |verdict| conditions.iter().any(|condition| condition.verdict == verdict);
    if conditions.is_empty() || any(Verdict::Failed) {
        Verdict::Failed
    } else if any(Verdict::Void) {
        Verdict::Void
    } else {
        Verdict::Passed
    }
}

fn books(evidence: &Evidence<'_>) -> Condition {
    let check = evidence.check;
    let messages: u64 = check.campaigns.iter().map(|campaign| campaign.messages.total).sum();
    let (found, verdict) = if !check.ok && !check.only_stalled() {
        let kinds: Vec<String> =
            check.differences.0.iter().map(|(kind, found)| format!("{} × {}", kind.word(), found.count)).collect();
        let kinds = if kinds.is_empty() { "a difference that is not named".to_owned() } else { kinds.join(", ") };
        (kinds, Verdict::Failed)
    } else if evidence.recipients == 0 || messages < evidence.recipients || check.ledger.accepted == 0 {
        let words = format!("{messages} messages compared, {} recipients were imported", evidence.recipients);
        (words, Verdict::Failed)
    } else if !check.ok && !evidence.stalls_excused {
        ("a ceiling exceeded in a second in which the machine stood still: repeat the run".to_owned(), Verdict::Void)
    } else {
        (format!("{messages} messages, {} accepted", check.ledger.accepted), Verdict::Passed)
    };
    Condition {
        what: "tally, recount, messages and the simulator's ledger agree; no ceiling was exceeded".to_owned(),
        bound: String::new(),
        found,
        verdict,
    }
}

/// What is in doubt for good is explained by what was done to the server and by what the provider did.
fn traces(evidence: &Evidence<'_>) -> Condition {
    let (check, traceless) = (evidence.check, evidence.check.traceless);
    let holds = check.differences.of(Kind::Vanished) == 0 && traceless.beyond == 0;
    Condition {
        what: "in doubt for good and never seen by the provider".to_owned(),
        bound: traceless.allowed.map_or_else(String::new, |most| format!("≤ {most}")),
        found: traceless.words(),
        verdict: if holds { Verdict::Passed } else { Verdict::Failed },
    }
}

fn sentence(what: &str, good: &str, problems: &[String]) -> Condition {
    let found = if problems.is_empty() { good.to_owned() } else { problems.join("; ") };
    let verdict = if problems.is_empty() { Verdict::Passed } else { Verdict::Failed };
    Condition { what: what.to_owned(), bound: String::new(), found, verdict }
}

fn ended(evidence: &Evidence<'_>) -> Condition {
    sentence("everything came to its end in time", "yes", evidence.failures)
}

fn witnesses(evidence: &Evidence<'_>) -> Condition {
    sentence("the server was judged, not those who measured", "yes", evidence.objections)
}

fn bounded(name: &str, text: &str, figures: &BTreeMap<String, f64>) -> Condition {
    let bound = text.parse::<Bound>();
    let value = figures.get(name).copied();
    let holds = matches!((&bound, value), (Ok(bound), Some(value)) if bound.holds(value));
    Condition {
        what: name.to_owned(),
        bound: bound.map_or_else(|words| words, |bound| bound.to_string()),
        found: value.map_or_else(|| "not measured".to_owned(), shown),
        verdict: if holds { Verdict::Passed } else { Verdict::Failed },
    }
}
