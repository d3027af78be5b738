//! What the kernel knows of a process and of the machine. Linux only: elsewhere everything is absent, and conditions on it fail.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

/// Nanoseconds of a clock tick of `/proc/…/stat` (`USER_HZ` is 100 on every Linux that Rust runs on).
const TICK_NS: u64 = 10_000_000;

/// The counters of one process at one moment. All but memory only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// CPU time in user mode, ns (resolution 10 ms).
    pub user_ns: u64,
    /// CPU time in the kernel, ns (resolution 10 ms).
    pub system_ns: u64,
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Highest resident memory so far, KiB.
    pub rss_peak_kib: u64,
    /// Bytes that reached (or will reach) the disk.
    pub written_bytes: u64,
    /// Context switches of all threads, both kinds.
    pub switches: u64,
    /// CPU time of the busiest thread, ns (resolution 10 ms).
    pub busiest_thread_ns: u64,
}

/// Reads a process again and again; remembers threads that have ended, so that counters never fall.
#[derive(Debug)]
pub struct Reader {
    pid: i32,
    threads: HashMap<i32, (u64, u64)>,
}

impl Reader {
    /// A reader of this process.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Self { pid, threads: HashMap::new() }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads; `None` when the process is gone.
    pub fn read(&mut self) -> Option<Usage> {
        let folder = format!("/proc/{}", self.pid);
        let text = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok();
        let (user_ns, system_ns) = cpu_of_stat(&text("stat")?)?;
        let status = text("status")?;
        for thread in std::fs::read_dir(format!("{folder}/task")).ok()?.flatten() {
            let Some(tid) = thread.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(read) = read_thread(&thread.path()) {
                self.threads.insert(tid, read);
            }
        }
        Some(Usage {
            user_ns,
            system_ns,
            rss_kib: field(&status, "VmRSS:"),
            rss_peak_kib: field(&status, "VmHWM:"),
            written_bytes: text("io").map_or(0, |io| field(&io, "write_bytes:")),
            switches: self.threads.values().map(|(switches, _)| switches).sum(),
            busiest_thread_ns: self.threads.values().map(|(_, cpu)| *cpu).max().unwrap_or(0),
        })
    }
}

/// Context switches and CPU time of a thread.
fn read_thread(folder: &Path) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let (user, system) = cpu_of_stat(&std::fs::read_to_string(folder.join("stat")).ok()?)?;
    let switches = field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
    Some((switches, user + system))
}

/// User and system time in ns out of a `stat` line. The name in brackets may hold spaces and brackets itself.
fn cpu_of_stat(text: &str) -> Option<(u64, u64)> {
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user * TICK_NS, system * TICK_NS))
}

/// The number after a field's name at the begin of a line; 0 when there is none.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The machine's CPU time since boot, ns, over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// All of it.
    pub total_ns: u64,
    /// With nothing to do, waiting for disks included.
    pub idle_ns: u64,
    /// Taken by the hypervisor for others.
    pub stolen_ns: u64,
}

impl Machine {
    /// Reads it now; zeros where there is no such file.
    #[must_use]
    pub fn read() -> Self {
        std::fs::read_to_string("/proc/stat").ok().and_then(|text| Self::of(&text)).unwrap_or_default()
    }

    /// user nice system idle iowait irq softirq steal …; guest time is part of user.
    fn of(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0) * TICK_NS;
        Some(Self { total_ns: (0..8).map(at).sum(), idle_ns: at(3) + at(4), stolen_ns: at(7) })
    }

    /// Shares of idle and stolen time since an earlier reading, 0 to 1.
    #[must_use]
    pub fn shares_since(&self, earlier: &Self) -> Option<(f64, f64)> {
        let total = self.total_ns.checked_sub(earlier.total_ns).filter(|total| *total > 0)? as f64;
        let share = |now: u64, then: u64| now.saturating_sub(then) as f64 / total;
        Some((share(self.idle_ns, earlier.idle_ns), share(self.stolen_ns, earlier.stolen_ns)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 5 0 1000 1 1";
        assert_eq!(cpu_of_stat(line), Some((2_500_000_000, 750_000_000)));
        assert_eq!(cpu_of_stat("nonsense"), None);
    }

    #[test]
    fn fields_are_found_at_the_begin_of_a_line() {
        let text = "VmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!((field(text, "VmRSS:"), field(text, "voluntary_ctxt_switches:")), (1_024, 0));
    }

    #[test]
    fn idle_and_stolen_are_shares() {
        let first = Machine::of("cpu  100 0 100 700 50 0 0 50 0 0\ncpu0 1 1 1 1").expect("reads");
        let second = Machine::of("cpu  150 0 150 760 50 0 0 90 0 0\n").expect("reads");
        assert_eq!(second.shares_since(&first), Some((0.3, 0.2)));
        assert_eq!(first.shares_since(&first), None, "no time has passed");
    }

    #[test]
    fn this_process_can_be_read() {
        let usage = Reader::new(std::process::id().cast_signed()).read().expect("it lives");
        assert!(usage.rss_kib > 0 && usage.rss_peak_kib >= usage.rss_kib);
    }
}
