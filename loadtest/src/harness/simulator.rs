//! The simulated providers of a run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::sim::{SimConfig, SimHandle};
use crate::wire::client::once;
use crate::witness::fetch::control_json;

/// How long a start or a call may take.
const START: Duration = Duration::from_secs(30);

/// A simulator in this process, or in one of its own (so that its CPU time stands apart).
#[derive(Debug)]
pub enum Simulator {
    /// In threads of this process.
    Here(SimHandle),
    /// In a process of its own; ends with it.
    Apart {
        /// The process.
        child: Child,
        /// Base URL of the provider APIs.
        api: String,
        /// Base URL of the control API.
        control: String,
    },
}

impl Simulator {
    /// Starts one in a process of its own, from the binary beside this program.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn apart(config: &SimConfig, folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("simulator.toml");
        std::fs::write(&path, toml::to_string(config)?)?;
        let binary = beside("provider-sim")?;
        let mut child = Command::new(binary)
            .arg("--config")
            .arg(&path)
            .arg("--until-stdin-closes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let line = tokio::time::timeout(START, BufReader::new(output).lines().next_line()).await??;
        let said: serde_json::Value = serde_json::from_str(&line.context("the simulator ended at once")?)?;
        let url = |name: &str, scheme: &str| {
            said[name].as_str().map(|at| format!("{scheme}://{at}")).context("an address is missing")
        };
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        Ok(Self::Apart { api: url("api", scheme)?, control: url("control", "http")?, child })
    }

    /// Its process, when it is one of its own.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Here(_) => None,
            Self::Apart { child, .. } => child.id().map(u32::cast_signed),
        }
    }

    /// Base URL of the provider APIs.
    #[must_use]
    pub fn api(&self) -> String {
        match self {
            Self::Here(sim) => sim.api_url(),
            Self::Apart { api, .. } => api.clone(),
        }
    }

    /// Base URL of the control API.
    #[must_use]
    pub fn control(&self) -> String {
        match self {
            Self::Here(sim) => sim.control_url(),
            Self::Apart { control, .. } => control.clone(),
        }
    }

    /// The simulator in this process, when it is one.
    #[must_use]
    pub fn here(&self) -> Option<&SimHandle> {
        match self {
            Self::Here(sim) => Some(sim),
            Self::Apart { .. } => None,
        }
    }

    /// Sends JSON to its control API.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.control());
        let (status, answer) = once("POST", &url, body.to_string().as_bytes(), START).await?;
        anyhow::ensure!(status == 200, "{url}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Reads JSON from its control API.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn read(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        control_json("GET", &format!("{}{path}", self.control()), Duration::from_secs(120)).await
    }

    /// Number of accepted messages.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn accepted(&self) -> anyhow::Result<u64> {
        match self {
            Self::Here(sim) => Ok(sim.accepted()),
            Self::Apart { .. } => Ok(self.read("/accepted").await?["accepted"].as_u64().unwrap_or(0)),
        }
    }
}

/// A binary of this package beside the running program (tests run one directory below).
///
/// # Errors
/// When there is none.
pub fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = [own.parent(), own.parent().and_then(Path::parent)];
    let found = folders.into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no {name} binary beside this program: run `cargo build -p sluice-loadtest --bins` with the same profile"
        )
    })
}
