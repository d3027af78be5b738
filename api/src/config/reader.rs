//! Reads typed values out of a TOML tree and the environment, and notes everything that is wrong on the way.
//!
//! Each key is asked for once, with its default and its bounds; what was asked for is the list of keys that exist, so there is no
//! second list to keep in step. A wrong value is noted and the default takes its place, so that reading goes on to the end.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::ENVIRONMENT_PREFIX;
use super::context::{Context, Key, override_part};
use super::report::{Kind, Place, Problem, excerpt, nearest};
use crate::tls;

/// One table of the file.
pub(super) struct Section<'c, 'i> {
    pub(super) context: &'c Context<'i>,
    /// As people write it, e.g. `accounts.main`.
    path: String,
    /// With `*` for the name of an account.
    pattern: String,
    /// Of the environment variables that override its keys. Not made from the path, since an account's name may hold dots.
    override_prefix: String,
    table: Option<&'c DeTable<'i>>,
    place: Place,
    pub(super) asked: Vec<String>,
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
        Self {
            context,
            path,
            pattern,
            override_prefix: ENVIRONMENT_PREFIX.to_owned(),
            table: Some(table),
            place: Place::Missing,
            asked: Vec::new(),
        }
    }

    /// Reads the table `name` with `read`, then notes the keys that `read` did not ask for. An absent table is an empty one.
    pub(super) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'c, 'i>) -> T) -> T {
        self.asked.push(name.to_owned());
        let (table, place) = self.table_at(name);
        let (path, pattern) = (join(&self.path, name), join(&self.pattern, name));
        let mut section = self.inner(&[name], path, pattern, table, place);
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
                let mut section = self.inner(&[name, key.get_ref()], path, pattern, table, place);
                all.push(read(key.get_ref(), &mut section));
                section.finish();
            }
        }
        all
    }

    fn inner(
        &self,
        names: &[&str],
        path: String,
        pattern: String,
        table: Option<&'c DeTable<'i>>,
        place: Place,
    ) -> Section<'c, 'i> {
        let parts: String = names.iter().map(|name| format!("{}__", override_part(name))).collect();
        let override_prefix = format!("{}{parts}", self.override_prefix);
        Section { context: self.context, path, pattern, override_prefix, table, place, asked: Vec::new() }
    }

    /// The environment variable that overrides `key`.
    fn override_name(&self, key: &str) -> String {
        format!("{}{}", self.override_prefix, override_part(key))
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
        let name = self.override_name(key);
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
        let name = self.override_name(key);
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

    /// A share of a whole, 0 to 1.
    pub(super) fn ratio(&mut self, key: &str, default: f64) -> f64 {
        let Some(found) = self.ask(key, Some(default.to_string())) else {
            return default;
        };
        let number = match &found {
            Found::Environment(text, _) => text.trim().parse::<f64>().ok(),
            Found::File(DeValue::Float(number), _) => number.as_str().parse::<f64>().ok(),
            Found::File(DeValue::Integer(number), _) => number.as_str().parse::<f64>().ok(),
            Found::File(..) => None,
        };
        match number.filter(|number| (0.0..=1.0).contains(number)) {
            Some(number) => number,
            None => {
                let hint = Some(format!("the default is {default}"));
                self.wrong(key, found.place(), "must be a number from 0 to 1".to_owned(), hint);
                default
            }
        }
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
                self.problem(key, Kind::Value, format!("{:?}: {error}", excerpt(&text)), None);
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
            self.problem(
                key,
                Kind::Value,
                format!("must be one of {}, not {:?}", all.join(", "), excerpt(&word)),
                near.as_deref(),
            );
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

    /// The certificates of a PEM file; none without one.
    pub(super) fn roots(&mut self, key: &str) -> Vec<CertificateDer<'static>> {
        let Some(file) = self.path(key) else { return Vec::new() };
        tls::roots(&file).unwrap_or_else(|error| {
            self.problem(key, Kind::Value, error.to_string(), None);
            Vec::new()
        })
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
                key: join(&self.path, &excerpt(key.get_ref())),
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
