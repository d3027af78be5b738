//! What is wrong with a scenario: everything at once, each with its key and what to do.

use std::fmt;

use serde::de::DeserializeOwned;

/// One thing wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's full path, e.g. `campaigns[1].rate`; empty when the file itself is the problem.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, when that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Notes one.
    pub fn note(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), hint: None });
    }

    /// Notes one with what to do.
    pub fn hinted(&mut self, key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem { key: key.into(), message: message.into(), hint: Some(hint.into()) });
    }

    /// Notes `message` unless it holds.
    pub fn unless(&mut self, holds: bool, key: &str, message: &str) {
        if !holds {
            self.note(key, message);
        }
    }

    /// Reads one table key by key, so that every wrong key is named and not only the first. `T` must have a default for every key and
    /// refuse unknown ones.
    pub fn read<T: DeserializeOwned + Default>(&mut self, path: &str, table: &toml::Table) -> T {
        let mut good = toml::Table::new();
        for (key, value) in table {
            let one = toml::Table::from_iter([(key.clone(), value.clone())]);
            match one.try_into::<T>() {
                Ok(_) => {
                    good.insert(key.clone(), value.clone());
                }
                Err(error) => self.refuse(path, key, error.message()),
            }
        }
        good.try_into().unwrap_or_else(|error| {
            self.note(path, error.message());
            T::default()
        })
    }

    fn refuse(&mut self, path: &str, key: &str, words: &str) {
        let full = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        if !words.starts_with("unknown field") {
            self.note(full, words.trim());
            return;
        }
        let known: Vec<&str> = words.split('`').skip(3).step_by(2).collect();
        let hint = match nearest(key, &known) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("keys here: {}", known.join(", ")),
        };
        self.hinted(full, "no such key", hint);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

/// The word that `word` is most likely a slip of: at most a third of it is different.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = known.iter().map(|one| (edits(word, one), *one)).min()?;
    (found.0 <= word.chars().count().div_ceil(3)).then_some(found.1)
}

/// Letters to insert, delete or replace.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Part {
        ceiling: u32,
        count: u32,
    }

    #[test]
    fn every_wrong_key_is_named() {
        let table: toml::Table = "ceilling = 1\ncount = \"two\"\ncolour = 3\nceiling = 80".parse().expect("TOML");
        let mut problems = Problems::default();
        let part: Part = problems.read("lines[0]", &table);
        assert_eq!(part, Part { ceiling: 80, count: 0 }, "what is right is kept");
        let text = problems.to_string();
        assert_eq!(problems.0.len(), 3, "{text}");
        assert!(text.contains("lines[0].ceilling: no such key (did you mean ceiling?)"), "{text}");
        assert!(text.contains("lines[0].count: invalid type"), "{text}");
        assert!(text.contains("keys here: ceiling, count"), "{text}");
    }

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        assert_eq!(nearest("recipents", &["rate", "recipients"]), Some("recipients"));
        assert_eq!(nearest("colour", &["rate", "recipients"]), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
