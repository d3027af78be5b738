//! What reading a configuration collects: problems, the keys that exist, the overrides that were used; and the guesses at what
//! an unknown key was meant to be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ENVIRONMENT_PREFIX;
use super::report::{Kind, PROBLEMS_SHOWN_MAX, Place, Problem, nearest};

/// Everything that reading needs and collects.
pub(super) struct Context<'i> {
    /// Where each line of the file ends, found once: a file that is no configuration has a problem on every line.
    line_ends: Vec<usize>,
    /// The directory that relative paths start from: that of the file.
    pub(super) base: &'i Path,
    pub(super) environment: &'i BTreeMap<String, String>,
    pub(super) overrides_used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<Problem>>,
    pub(super) keys: RefCell<Vec<Key>>,
}

/// A key that exists. Under accounts the name in the middle is `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) path: String,
    /// As it would be written in the file; `None` for keys without a default.
    pub(super) default: Option<String>,
}

impl<'i> Context<'i> {
    pub(super) fn new(text: &str, base: &'i Path, environment: &'i BTreeMap<String, String>) -> Self {
        Self {
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            base,
            environment,
            overrides_used: RefCell::default(),
            problems: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    pub(super) fn line_of(&self, offset: usize) -> Place {
        Place::Line(self.line_ends.partition_point(|end| *end < offset) + 1)
    }

    pub(super) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The problems found, with guesses for unknown keys now that all keys are known, and all keys.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Key>) {
        let keys = self.keys.into_inner();
        let mut problems = self.problems.into_inner();
        let used = self.overrides_used.into_inner();
        let stray =
            self.environment.keys().filter(|name| name.starts_with(ENVIRONMENT_PREFIX) && !used.contains(*name));
        problems.extend(stray.map(|name| Problem {
            place: Place::Environment(name.clone()),
            kind: Kind::UnknownKey,
            key: String::new(),
            message: "overrides no key".to_owned(),
            hint: None,
        }));
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        let shown = problems.iter_mut().take(PROBLEMS_SHOWN_MAX);
        for problem in shown.filter(|p| p.kind == Kind::UnknownKey && p.hint.is_none()) {
            problem.hint = guess(problem, &keys);
        }
        (problems, keys)
    }
}

fn guess(problem: &Problem, keys: &[Key]) -> Option<String> {
    if let Place::Environment(name) = &problem.place {
        let parts = |key: &Key| key.path.split('.').map(override_part).collect::<Vec<_>>().join("__");
        let names: Vec<String> = keys.iter().map(|key| format!("{ENVIRONMENT_PREFIX}{}", parts(key))).collect();
        return nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
    }
    let (section, word) = problem.key.rsplit_once('.').unwrap_or(("", &problem.key));
    let split = |key: &'_ Key| {
        let (section, word) = key.path.rsplit_once('.').unwrap_or(("", &key.path));
        (section.to_owned(), word.to_owned())
    };
    let all: Vec<(String, String)> = keys.iter().map(split).collect();
    let here = all.iter().filter(|(of, _)| same_section(of, section)).map(|(_, word)| word.as_str());
    match nearest(word, here) {
        Some(near) if near == word => {
            return Some("accounts of the other provider have it".to_owned());
        }
        Some(near) => return Some(format!("did you mean {near}?")),
        None => {}
    }
    // The right key in the wrong section, or a slip in the section's own name.
    let elsewhere = all.iter().find(|(_, other)| other == word).map(|(of, _)| of.as_str());
    let sections = all.iter().map(|(of, _)| of.split('.').next().unwrap_or(of));
    match (elsewhere, section.is_empty()) {
        (Some(""), _) => Some("it belongs above the first section".to_owned()),
        (Some(of), _) => Some(format!("it belongs in [{of}]")),
        (None, true) => {
            nearest(word, sections).filter(|near| !near.is_empty()).map(|near| format!("did you mean [{near}]?"))
        }
        (None, false) => None,
    }
}

/// `accounts.*` is the section of every account.
fn same_section(pattern: &str, section: &str) -> bool {
    let (mut a, mut b) = (pattern.split('.'), section.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == "*" || a == b => {}
            _ => return false,
        }
    }
}

/// One part of the name of an environment variable, for a section or a key.
pub(super) fn override_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
