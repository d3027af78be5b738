//! What a run ran on: read, not asked for, so that two reports can be told apart.

use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Facts of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// The kernel.
    pub kernel: String,
    /// The file system of the data directory and its device.
    pub disk: String,
    /// How this program was built; the server is built the same way unless another binary was named.
    pub build: String,
}

impl Machine {
    /// Reads them; `data` is where the ledger will lie.
    #[must_use]
    pub fn read(data: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned()).unwrap_or_default()
        };
        let memory = after(&text("/proc/meminfo"), "MemTotal");
        Self {
            processor: after(&text("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: mount_of(&text("/proc/mounts"), data),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        }
    }
}

/// File system and device of the mount that holds a path: the longest that is a prefix of it.
fn mount_of(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let fits = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        path.starts_with(at).then_some((at.len(), format!("{kind} on {device}")))
    });
    fits.max_by_key(|(length, _)| *length).map(|(_, words)| words).unwrap_or_default()
}

/// The commit of the work tree that this program was built from, with `+` when something is changed.
#[must_use]
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(args).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => {
            let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|text| !text.is_empty());
            format!("{commit}{}", if changed { "+" } else { "" })
        }
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_counts() {
        let mounts = "dev / ext4 rw 0 0\ntmp /nowhere tmpfs rw 0 0\nfast /nowhere/data xfs rw 0 0\n";
        assert_eq!(mount_of(mounts, Path::new("/nowhere/data/x")), "xfs on fast");
        assert_eq!(mount_of(mounts, Path::new("/nowhere/else")), "tmpfs on tmp");
        assert_eq!(mount_of("", Path::new("/x")), "");
    }

    #[test]
    fn this_machine_has_a_processor() {
        assert!(Machine::read(&std::env::temp_dir()).cpus > 0);
    }
}
