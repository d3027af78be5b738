//! Texts that must not be seen, and where they come from.

use std::fmt;
use std::path::Path;

use super::reader::Section;
use super::report::Kind;

/// A credential, read from a file or from the environment. It is never printed: `Debug` shows that there is one, nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes a credential.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The credential itself, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Section<'_, '_> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", Some(Secret::new("hunter2")));
        assert_eq!(shown, "Some(Secret(redacted))");
    }
}
