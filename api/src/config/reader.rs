//! Reads typed values out of a TOML tree and the environment, and notes everything that is wrong on the way.
//!
//! Each key is asked for once, with its default and its bounds; what was asked for is the list of keys that exist, so there is no
//! second list to keep in step. A wrong value is noted and the default takes its place, so that reading goes on to the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::report::{Kind, Place, Problem, nearest};
use super::secret::Secret;

/// The beginning of every environment variable that overrides a key.
pub const ENVIRONMENT_PREFIX: &str = "SLUICE__";

/// Everything that reading needs and collects.
pub(super) struct Context<'i> {
    text: &'i str,
    /// The directory that relative paths start from: that of the file.
    base: &'i Path,
    environment: &'i BTreeMap<String, String>,
    overrides_used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<Vec<Key>>,
}

/// A key that exists. Under accounts the name in the middle is `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) path: String,
    /// As it would be written in the file; `None` for keys without a default.
    pub(super) default: Option<String>,
}

impl<'i> Context<'i> {
    pub(super) fn new(text: &'i str, base: &'i Path, environment: &'i BTreeMap<String, String>) -> Self {
        Self {
            text,
            base,
            environment,
            overrides_used: RefCell::default(),
            problems: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    pub(super) fn line_of(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Place::Line(before.bytes().filter(|&b| b == b'\n').count() + 1)
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
        for problem in problems.iter_mut().filter(|p| p.kind == Kind::UnknownKey && p.hint.is_none()) {
            problem.hint = guess(problem, &keys);
        }
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        (problems, keys)
    }
}

fn guess(problem: &Problem, keys: &[Key]) -> Option<String> {
    if let Place::Environment(name) = &problem.place {
        let names: Vec<String> = keys.iter().map(|key| override_name(&key.path)).collect();
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

/// The environment variable that overrides the key at `path`.
fn override_name(path: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
    };
    let parts: Vec<String> = path.split('.').map(|part| part.chars().map(plain).collect()).collect();
    format!("{ENVIRONMENT_PREFIX}{}", parts.join("__"))
}

/// One table of the file.
pub(super) struct Section<'c, 'i> {
    context: &'c Context<'i>,
    /// As people write it, e.g. `accounts.main`.
    path: String,
    /// With `*` for the name of an account.
    pattern: String,
    table: Option<&'c DeTable<'i>>,
    place: Place,
    asked: Vec<String>,
}

/// A value as found.
enum Found<'c, 'i> {
    Environment(&'c str, Place),
    File(&'c DeValue<'i>, Place),
}

impl Found<'_, '_> {
    fn place(&self) -> Place {
        match self {
            Self::Environment(_, place) | Self::File(_, place) => place.clone(),
        }
    }
}

impl<'c, 'i> Section<'c, 'i> {
    pub(super) fn root(context: &'c Context<'i>, table: &'c DeTable<'i>) -> Self {
        let (path, pattern) = (String::new(), String::new());
        Self { context, path, pattern, table: Some(table), place: Place::Missing, asked: Vec::new() }
    }

    /// Reads the table `name` with `read`, then notes the keys that `read` did not ask for. An absent table is an empty one.
    pub(super) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'c, 'i>) -> T) -> T {
        self.asked.push(name.to_owned());
        let (table, place) = self.table_at(name);
        let (path, pattern) = (join(&self.path, name), join(&self.pattern, name));
        let mut section = Section { context: self.context, path, pattern, table, place, asked: Vec::new() };
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Reads every table below the table `name`, with the name of each.
    pub(super) fn named<T>(&mut self, name: &str, mut read: impl FnMut(&str, &mut Section<'c, 'i>) -> T) -> Vec<T> {
        self.asked.push(name.to_owned());
        let (parent, _) = self.table_at(name);
        let mut all = Vec::new();
        for (key, value) in parent.into_iter().flatten() {
            let path = format!("{}.{}", join(&self.path, name), key.get_ref());
            let pattern = format!("{}.*", join(&self.pattern, name));
            let (table, place) = self.as_table(&path, key, value);
            if table.is_some() {
                let mut section = Section { context: self.context, path, pattern, table, place, asked: Vec::new() };
                all.push(read(key.get_ref(), &mut section));
                section.finish();
            }
        }
        all
    }

    fn table_at(&self, name: &str) -> (Option<&'c DeTable<'i>>, Place) {
        match self.table.and_then(|table| get(table, name)) {
            Some((key, value)) => self.as_table(&join(&self.path, name), key, value),
            None => (None, Place::Missing),
        }
    }

    fn as_table(
        &self,
        path: &str,
        key: &Spanned<DeString<'i>>,
        value: &'c Spanned<DeValue<'i>>,
    ) -> (Option<&'c DeTable<'i>>, Place) {
        let place = self.context.line_of(key.span().start);
        if let DeValue::Table(table) = value.get_ref() {
            return (Some(table), place);
        }
        let message = format!("must be a section, not {}", article(value.get_ref().type_str()));
        let hint = Some(format!("write [{path}] on a line of its own"));
        self.context.note(Problem { place: place.clone(), kind: Kind::Value, key: path.to_owned(), message, hint });
        (None, place)
    }

    /// Notes a problem of the key `key` that only the caller can see. The place is the key's, or the section's.
    pub(super) fn problem(&self, key: &str, kind: Kind, message: impl Into<String>, hint: Option<&str>) {
        let place = self
            .place_of(key)
            .unwrap_or_else(|| if kind == Kind::Required { Place::Missing } else { self.place.clone() });
        let (key, message, hint) = (join(&self.path, key), message.into(), hint.map(str::to_owned));
        self.context.note(Problem { place, kind, key, message, hint });
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        let name = override_name(&join(&self.path, key));
        if self.context.environment.contains_key(&name) {
            return Some(Place::Environment(name));
        }
        let (key, _) = self.table.and_then(|table| get(table, key))?;
        Some(self.context.line_of(key.span().start))
    }

    /// Whether the key is given at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    fn ask(&mut self, key: &str, default: Option<String>) -> Option<Found<'c, 'i>> {
        self.asked.push(key.to_owned());
        let path = join(&self.pattern, key);
        let mut keys = self.context.keys.borrow_mut();
        if keys.iter().all(|known| known.path != path) {
            keys.push(Key { path, default });
        }
        let name = override_name(&join(&self.path, key));
        if let Some(value) = self.context.environment.get(&name) {
            self.context.overrides_used.borrow_mut().insert(name.clone());
            return Some(Found::Environment(value, Place::Environment(name)));
        }
        let (key, value) = self.table.and_then(|table| get(table, key))?;
        Some(Found::File(value.get_ref(), self.context.line_of(key.span().start)))
    }

    fn wrong(&self, key: &str, place: Place, message: String, hint: Option<String>) {
        self.context.note(Problem { place, kind: Kind::Value, key: join(&self.path, key), message, hint });
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> u64 {
        let Some(found) = self.ask(key, Some(default.to_string())) else {
            return default;
        };
        let number = match &found {
            Found::Environment(text, _) => text.trim().replace('_', "").parse::<i128>().ok(),
            Found::File(DeValue::Integer(number), _) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
            Found::File(..) => None,
        };
        let wanted = || format!("must be a whole number from {} to {}", bounds.start(), bounds.end());
        let fits = number.and_then(|number| u64::try_from(number).ok()).filter(|number| bounds.contains(number));
        match (number, fits) {
            (_, Some(number)) => number,
            (Some(number), None) => {
                self.wrong(
                    key,
                    found.place(),
                    format!("{}, not {number}", wanted()),
                    Some(format!("the default is {default}")),
                );
                default
            }
            (None, None) => {
                self.wrong(key, found.place(), wanted(), Some(format!("the default is {default}")));
                default
            }
        }
    }

    /// As [`Self::integer`], for sizes and counts in memory.
    pub(super) fn count(&mut self, key: &str, default: usize, bounds: RangeInclusive<usize>) -> usize {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let number = self.integer(key, wide(default), wide(*bounds.start())..=wide(*bounds.end()));
        usize::try_from(number).unwrap_or(default)
    }

    /// A time in milliseconds; the key should end in `_ms`.
    pub(super) fn milliseconds(&mut self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.integer(key, default, bounds))
    }

    /// A time in seconds; the key should end in `_s`.
    pub(super) fn seconds(&mut self, key: &str, default: u64, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.integer(key, default, bounds))
    }

    /// A text that may be absent.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let found = self.ask(key, None)?;
        self.text_of(key, found).filter(|text| !text.is_empty())
    }

    /// A text with a default.
    pub(super) fn text_or(&mut self, key: &str, default: &str) -> String {
        let Some(found) = self.ask(key, Some(format!("{default:?}"))) else {
            return default.to_owned();
        };
        self.text_of(key, found).unwrap_or_else(|| default.to_owned())
    }

    fn text_of(&self, key: &str, found: Found<'c, 'i>) -> Option<String> {
        match found {
            Found::Environment(text, _) => Some(text.to_owned()),
            Found::File(DeValue::String(text), _) => Some(text.clone().into_owned()),
            Found::File(other, place) => {
                let message = format!("must be a text, not {}", article(other.type_str()));
                self.wrong(key, place, message, Some("put it in quotes".to_owned()));
                None
            }
        }
    }

    /// A text with a form of its own, checked by `parse`.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text_or(key, default);
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(key, Kind::Value, format!("{text:?}: {error}"), None);
                parse(default).ok()
            }
        }
    }

    /// One word of a closed set.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, default: &str, words: &[(&str, T)]) -> Option<T> {
        let word = self.text_or(key, default);
        let of = |wanted: &str| words.iter().find(|(word, _)| *word == wanted).map(|(_, value)| *value);
        of(&word).or_else(|| {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = nearest(&word, all.iter().copied()).map(|near| format!("did you mean {near:?}?"));
            self.problem(key, Kind::Value, format!("must be one of {}, not {word:?}", all.join(", ")), near.as_deref());
            of(default)
        })
    }

    /// A list of texts; in the environment, separated by commas.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let Some(found) = self.ask(key, None) else {
            return Vec::new();
        };
        let place = found.place();
        let list = match found {
            Found::Environment(text, _) => {
                Some(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
            }
            Found::File(DeValue::Array(values), _) => {
                values.iter().map(|value| value.get_ref().as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
            }
            Found::File(..) => None,
        };
        list.unwrap_or_else(|| {
            self.wrong(key, place, "must be a list of texts".to_owned(), Some("for example [\"acme\"]".to_owned()));
            Vec::new()
        })
    }

    /// A path; a relative one starts from the directory of the file.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|text| self.context.base.join(text))
    }

    /// As [`Self::path`], with a default.
    pub(super) fn path_or(&mut self, key: &str, default: &str) -> PathBuf {
        self.context.base.join(self.text_or(key, default))
    }

    /// A credential: `{key}_file` names a file that holds it, `{key}_env` an environment variable. At most one of them.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        let file = self.path(&file_key);
        let variable = self.text(&env_key);
        if self.has(key) {
            let hint = format!("name a file with {file_key} or an environment variable with {env_key}");
            self.asked.push(key.to_owned());
            self.problem(key, Kind::UnknownKey, "a secret is never written into the configuration", Some(&hint));
            return None;
        }
        match (file, variable) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.problem(&env_key, Kind::Value, format!("{file_key} is given too"), Some("keep one of them"));
                None
            }
            (Some(file), None) => self.secret_from_file(&file_key, &file),
            (None, Some(variable)) => self.secret_from_environment(&env_key, &variable),
        }
    }

    /// As [`Self::secret`], and a problem when neither is given.
    pub(super) fn secret_required(&mut self, key: &str) -> Secret {
        let given = [key.to_owned(), format!("{key}_file"), format!("{key}_env")].iter().any(|key| self.has(key));
        let secret = self.secret(key);
        if !given {
            let hint = format!("give {key}_file or {key}_env");
            self.problem(&format!("{key}_file"), Kind::Required, "this secret is required", Some(&hint));
        }
        secret.unwrap_or_else(|| Secret::new(""))
    }

    fn secret_from_file(&self, key: &str, file: &Path) -> Option<Secret> {
        let secret = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                self.problem(key, Kind::Value, format!("cannot read {}: {error}", file.display()), None);
                return None;
            }
        };
        // Editors and `echo` end a file with a newline that is no part of the secret.
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            self.problem(key, Kind::Value, format!("{} is empty", file.display()), None);
            return None;
        }
        Some(Secret::new(secret))
    }

    fn secret_from_environment(&self, key: &str, variable: &str) -> Option<Secret> {
        // Somebody may have put the secret itself here: what does not look like a name is not repeated.
        if !variable.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
            let hint = "give the name of an environment variable, in capitals, digits and underscores";
            self.problem(key, Kind::Value, "does not look like the name of an environment variable", Some(hint));
            return None;
        }
        match self.context.environment.get(variable).filter(|value| !value.is_empty()) {
            Some(value) => Some(Secret::new(value.as_str())),
            None => {
                self.problem(key, Kind::Value, format!("the environment variable {variable} is not set"), None);
                None
            }
        }
    }

    /// Notes the keys of this table that nobody asked for.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if self.asked.iter().any(|asked| asked == key.get_ref()) {
                continue;
            }
            self.context.note(Problem {
                place: self.context.line_of(key.span().start),
                kind: Kind::UnknownKey,
                key: join(&self.path, key.get_ref()),
                message: "unknown key".to_owned(),
                hint: None,
            });
        }
    }
}

type Entry<'t, 'i> = (&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>);

fn get<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<Entry<'t, 'i>> {
    table.iter().find(|(name, _)| name.get_ref() == key)
}

fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", only) | (only, "") => only.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}
