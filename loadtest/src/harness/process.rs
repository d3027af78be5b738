//! The server as a child process.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::wire::client::once;

/// Where a started server listens.
#[derive(Debug, Clone, Deserialize)]
pub struct Addresses {
    /// gRPC.
    pub grpc: String,
    /// Webhooks.
    pub webhooks: String,
    /// Metrics and health.
    pub ops: String,
}

/// What a file-size limit does to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileLimit {
    /// The system's default: the signal ends the process.
    #[default]
    Deadly,
    /// Writing beyond it fails like writing to a full disk, for which it stands in tests.
    AnError,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    pid: Pid,
    /// Where it listens.
    pub addresses: Addresses,
    log: PathBuf,
}

/// The server's binary, built first with the cargo that runs this program when there is one: a run never judges a stale server. The profile
/// is the one that this program was built with. `SLUICE_BIN` names another binary, taken as it is.
///
/// # Errors
/// When it cannot be built or found.
pub async fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceCell<()> = OnceCell::const_new();
    let cargo = std::env::var_os("CARGO");
    if let (None, Some(cargo)) = (std::env::var_os("SLUICE_BIN"), cargo) {
        BUILT.get_or_try_init(|| build(cargo)).await?;
    }
    find_binary()
}

async fn build(cargo: OsString) -> anyhow::Result<()> {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "sluice-api", "--bin", "sluice"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.stdin(Stdio::null()).status().await.context("cargo could not be started")?;
    anyhow::ensure!(status.success(), "the server could not be built");
    Ok(())
}

/// Finds the server's binary: `SLUICE_BIN`, or beside the running program (tests run one directory below).
///
/// # Errors
/// When there is none; the message says how to build it.
pub fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SLUICE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let mut folder = own.parent();
    for _ in 0..2 {
        let Some(here) = folder else { break };
        let candidate = here.join("sluice");
        if candidate.is_file() {
            return Ok(candidate);
        }
        folder = here.parent();
    }
    bail!(
        "no sluice binary beside {}: run `cargo build -p sluice-api --bin sluice` first, or set SLUICE_BIN",
        own.display()
    )
}

impl ServerProcess {
    /// Starts a server and waits until it says where it listens. Its output is appended to `log`.
    ///
    /// # Errors
    /// When it does not start or says nothing within `deadline`; the end of its log is part of the message.
    pub async fn start(
        binary: &Path,
        config: &Path,
        log: &Path,
        limits: FileLimit,
        deadline: Duration,
    ) -> anyhow::Result<Self> {
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = match limits {
            FileLimit::Deadly => Command::new(binary),
            FileLimit::AnError => {
                // An ignored signal stays ignored over exec, and the process id stays the same.
                let mut shell = Command::new("sh");
                shell.args(["-c", r#"trap '' XFSZ; exec "$0" "$@""#]).arg(binary);
                shell
            }
        };
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .arg("--print-addresses")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let pid = Pid::from_raw(child.id().context("the server ended at once")?.cast_signed());
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let first = async {
            while let Some(line) = lines.next_line().await? {
                if let Ok(addresses) = serde_json::from_str::<Addresses>(&line) {
                    return Ok(addresses);
                }
            }
            bail!("the server ended before it said where it listens")
        };
        let addresses = match tokio::time::timeout(deadline, first).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => bail!("{error:#}\n{}", tail(log)),
            Err(_) => bail!("the server did not say within {deadline:?} where it listens\n{}", tail(log)),
        };
        // Whatever else it prints is read and dropped, so that it never blocks on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, addresses, log: log.to_owned() })
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it does not within `deadline`, or the process has ended.
    pub async fn ready(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.addresses.ops);
        let end = Instant::now() + deadline;
        loop {
            if let Ok((200, _)) = once("GET", &url, b"", Duration::from_secs(1)).await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}\n{}", tail(&self.log));
            }
            if Instant::now() >= end {
                bail!("the server was not ready within {deadline:?}\n{}", tail(&self.log));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// kill -9, and waits until the process is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// SIGTERM, and waits for the end; returns the exit code (none when a signal ended it).
    ///
    /// # Errors
    /// When it does not end within `deadline` (it is killed then).
    pub async fn terminate(mut self, deadline: Duration) -> anyhow::Result<Option<i32>> {
        kill(self.pid, Signal::SIGTERM)?;
        match tokio::time::timeout(deadline, self.child.wait()).await {
            Ok(status) => Ok(status?.code()),
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await?;
                bail!("the server did not end within {deadline:?} of SIGTERM\n{}", tail(&self.log))
            }
        }
    }

    /// CPU time used so far, user and system, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        cpu_ns(self.pid())
    }

    /// Highest resident memory so far, in KiB.
    #[must_use]
    pub fn rss_peak_kib(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:")
    }

    /// Resident memory now, in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        status_kib(self.pid(), "VmRSS:")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }
}

/// CPU time of a process in nanoseconds; 0 when it is gone.
#[must_use]
pub fn cpu_ns(pid: i32) -> u64 {
    use nix::time::{clock_getcpuclockid, clock_gettime};
    clock_getcpuclockid(Pid::from_raw(pid)).and_then(clock_gettime).map_or(0, |t| Duration::from(t).as_nanos() as u64)
}

fn status_kib(pid: i32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The last 4 KiB of a file.
fn tail(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let from = bytes.len().saturating_sub(4096);
    format!("--- end of {} ---\n{}", path.display(), String::from_utf8_lossy(&bytes[from..]))
}
