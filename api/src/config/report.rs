//! What is wrong with a configuration: everything at once, each with its place and a hint.

use std::fmt;

use super::Config;

/// Most problems that are shown: a file that is no configuration at all has one on each line.
pub(super) const PROBLEMS_SHOWN_MAX: usize = 50;
/// Most characters that are quoted of what stands in a file: a file that was named by mistake may hold a secret on one line.
const EXCERPT_CHARS_MAX: usize = 40;

/// The beginning of what stands in a file, to be quoted.
pub(super) fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(EXCERPT_CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, from 1.
    Line(usize),
    /// An environment variable, by name.
    Environment(String),
    /// Nowhere: something is missing.
    Missing,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Missing => f.write_str("missing"),
        }
    }
}

/// What sort of problem; the tests and the exit code ask, people read the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not TOML.
    Syntax,
    /// A key that does not exist.
    UnknownKey,
    /// A value of the wrong type, out of bounds, or at odds with another.
    Value,
    /// A key that must be given.
    Required,
}

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was found.
    pub place: Place,
    /// What sort it is.
    pub kind: Kind,
    /// The key's full path, e.g. `webhooks.body_bytes_max`; empty when the file itself is the problem.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to do, when that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.kind) {
            // Nothing is missing: a default is at odds with something that is given.
            (Place::Missing, Kind::Value) => f.write_str("default: ")?,
            (place, _) => write!(f, "{place}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// The result of reading a configuration.
#[derive(Debug)]
pub struct Report {
    /// The file as it was named.
    pub file: String,
    /// The configuration, if nothing is wrong with it.
    pub config: Option<Config>,
    /// Everything that is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            0 => return write!(f, "{}: good", self.file),
            1 => writeln!(f, "{}: 1 problem", self.file)?,
            n => writeln!(f, "{}: {n} problems", self.file)?,
        }
        for problem in self.problems.iter().take(PROBLEMS_SHOWN_MAX) {
            writeln!(f, "  {problem}")?;
        }
        match self.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more: is this the right file?"),
        }
    }
}

/// The candidate that `word` is most likely a slip of, if one is near enough.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let tolerated = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insert, delete, replace, or swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("grpc", "gprc", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn nearest_finds_slips_and_not_strangers() {
        let keys = ["body_bytes_max", "connections_max", "header_read_timeout_ms"];
        assert_eq!(nearest("body_byte_max", keys), Some("body_bytes_max"));
        assert_eq!(nearest("header_timeout_ms", keys), None, "five edits are a stranger");
        assert_eq!(nearest("colour", keys), None);
    }
}
