//! What the system says of this process and of the ledger's disk, read at each scrape. On Linux; what cannot be read is left out.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use nix::sys::statvfs::statvfs;
use nix::time::{ClockId, clock_gettime};
use sluice_engine::domain::time::UnixMillis;
use sluice_engine::metrics::{Kind, Metric};

use crate::metrics::{
    DISK_FREE, DISK_SIZE, METRICS, PROCESS_CPU, PROCESS_FDS, PROCESS_FDS_MAX, PROCESS_MEMORY, PROCESS_START,
    PROCESS_THREADS,
};

/// Reads the figures of this process.
#[derive(Debug)]
pub struct Machine {
    started: UnixMillis,
    data_dir: PathBuf,
}

impl Machine {
    /// `started`: when the server started; `data_dir`: where the ledger lies.
    #[must_use]
    pub const fn new(started: UnixMillis, data_dir: PathBuf) -> Self {
        Self { started, data_dir }
    }

    /// Appends the figures to a metrics page.
    #[allow(clippy::cast_precision_loss)] // no count of bytes reaches 2^52
    pub fn append(&self, page: &mut String) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let disk = statvfs(&self.data_dir).ok();
        let free = disk.as_ref().map(|disk| disk.blocks_available() as f64 * disk.fragment_size() as f64);
        let size = disk.as_ref().map(|disk| disk.blocks() as f64 * disk.fragment_size() as f64);
        // The one that reads the directory is open, too.
        let fds = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);
        for (name, value) in [
            (PROCESS_CPU, cpu_seconds()),
            (PROCESS_MEMORY, of_status(&status, "VmRSS").map(|kib| kib * 1_024.0)),
            (PROCESS_FDS, fds),
            (PROCESS_FDS_MAX, fds_max(&limits)),
            (PROCESS_THREADS, of_status(&status, "Threads")),
            (PROCESS_START, Some(self.started.0 as f64 / 1_000.0)),
            (DISK_FREE, free),
            (DISK_SIZE, size),
        ] {
            let metric = METRICS.iter().find(|metric| metric.name == name);
            if let (Some(metric), Some(value)) = (metric, value) {
                write(page, metric, value);
            }
        }
    }
}

fn write(page: &mut String, metric: &Metric, value: f64) {
    let Metric { name, help, .. } = metric;
    let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
    // Writing to a String cannot fail.
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

#[allow(clippy::cast_precision_loss)]
fn cpu_seconds() -> Option<f64> {
    let spent = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok()?;
    Some(spent.tv_sec() as f64 + spent.tv_nsec() as f64 / 1e9)
}

/// The number in a line such as `VmRSS:     5312 kB`.
fn of_status(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The soft limit in the line `Max open files            1024                 524288               files`.
fn fds_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_this_process() {
        let mut page = String::new();
        Machine::new(UnixMillis(1_500), std::env::temp_dir()).append(&mut page);
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
        };
        assert_eq!(value(PROCESS_START), 1.5);
        assert!(value(PROCESS_MEMORY) > 1e6, "{page}");
        assert!(value(PROCESS_THREADS) >= 1.0 && value(PROCESS_CPU) >= 0.0, "{page}");
        assert!(value(PROCESS_FDS) >= 3.0 && value(PROCESS_FDS_MAX) >= value(PROCESS_FDS), "{page}");
        assert!(value(DISK_SIZE) >= value(DISK_FREE) && value(DISK_SIZE) > 0.0, "{page}");
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(of_status("Threads:\t7\n", "VmRSS"), None);
        assert_eq!(of_status("VmRSS:\t    5312 kB\n", "VmRSS"), Some(5_312.0));
        assert_eq!(fds_max("Max open files            unlimited            unlimited            files"), None);
        let mut page = String::new();
        Machine::new(UnixMillis(0), "/no/such/directory".into()).append(&mut page);
        assert!(!page.contains(DISK_FREE), "{page}");
    }
}
