//! Scenarios: what is sent, what goes wrong, and what must hold, in one commented file each.
//!
//! ```text
//! file     the keys
//! check    text → scenario: overrides, keys, bounds; all problems at once
//! problem  what is wrong, with key and hint
//! load     scenario and seed → campaigns, times of disturbances
//! ```

pub mod check;
pub mod file;
pub mod load;
pub mod problem;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
pub use file::Scenario;

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// The scenarios that come along, in the order of `loadtest list`.
pub const SHIPPED: &[(&str, &str)] = shipped![
    "smoke",
    "calm",
    "burst",
    "million",
    "hour",
    "many",
    "thousand",
    "big",
    "slow-provider",
    "storm",
    "outage",
    "kill200",
    "soak",
    "webhook-flood",
    "efficiency",
    "efficiency-10",
    "cycle",
    "cycle-10",
    "steady",
    "steady-10",
    "ceiling",
    "start",
    "import",
    "restart",
    "pause",
];

/// The text of a scenario: a file when `name` ends in `.toml`, else one that came along.
///
/// # Errors
/// When there is none of that name, or the file cannot be read.
pub fn text(name: &str) -> anyhow::Result<(String, String)> {
    if name.ends_with(".toml") {
        let path = PathBuf::from(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario");
        return Ok((stem.to_owned(), text));
    }
    let found = SHIPPED.iter().find(|(known, _)| *known == name);
    let (known, text) = found.with_context(|| {
        let names: Vec<&str> = SHIPPED.iter().map(|(known, _)| *known).collect();
        match problem::nearest(name, &names) {
            Some(near) => format!("no scenario {name}: did you mean {near}? (a file's name ends in .toml)"),
            None => format!("no scenario {name}: `loadtest list` shows all; a file's name ends in .toml"),
        }
    })?;
    Ok(((*known).to_owned(), (*text).to_owned()))
}

/// Reads a scenario by name or file.
///
/// # Errors
/// When there is none, or with everything that is wrong with it.
pub fn open(name: &str, overrides: &[String], scale: f64) -> anyhow::Result<Scenario> {
    let (known, text) = text(name)?;
    check::read(&known, &text, overrides, scale).map_err(|problems| anyhow::anyhow!("scenario {known}:\n{problems}"))
}

/// All scenario files of a directory.
///
/// # Errors
/// When it cannot be read.
pub fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    all.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests;
