//! A real CQL server for a run, started by the repository's script.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::config::{Lines, Ports, write_server};

/// How long its start may take, the first fetch of its files included.
const START: Duration = Duration::from_secs(300);

/// A running server, or the one that `SLUICE_CQL_NODES` names. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub struct CqlServer {
    _script: Child,
    nodes: Vec<String>,
    group: i32,
}

impl CqlServer {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When there is none to start; the script says on standard error what to install.
    pub async fn start() -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/cql");
        let mut child = Command::new("bash")
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("bash cannot run {}", script.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let said = async { Ok::<_, std::io::Error>((lines.next_line().await?, lines.next_line().await?)) };
        let (nodes, group) = tokio::time::timeout(START, said).await.context("no CQL server in time")??;
        let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) else {
            bail!("no CQL server: .ci/cql says above what is missing");
        };
        let group = group.and_then(|group| group.parse().ok()).unwrap_or(0);
        Ok(Self { _script: child, nodes: nodes.split(',').map(str::to_owned).collect(), group })
    }

    /// The sections of a server's configuration that put its ledger into a keyspace of this server. `lease_ms`: how long a start
    /// waits after a kill.
    #[must_use]
    pub fn sections(&self, keyspace: &str, lease_ms: u32) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("{node:?}")).collect();
        format!(
            "\n[store]\nkind = \"scylla\"\n[store.scylla]\ncontact_points = [{}]\nkeyspace = \"{keyspace}\"\n\
             replication = 1\nlease_ms = {lease_ms}\n",
            nodes.join(", ")
        )
    }

    /// Makes keyspace and tables with the command that operators use.
    ///
    /// # Errors
    /// What the command says.
    pub async fn apply_schema(&self, binary: &Path, sections: &str) -> anyhow::Result<String> {
        let folder = tempfile::tempdir()?;
        let config = write_server(folder.path(), "http://127.0.0.1:1", &Lines::default(), &Ports::default(), sections)?;
        let output = Command::new(binary).args(["schema", "apply", "--config"]).arg(config).output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Stops the server's processes until the answer is dropped; `None`: they are not ours.
    #[must_use]
    pub fn freeze(&self) -> Option<Frozen> {
        let group = Pid::from_raw(self.group);
        (self.group > 0 && killpg(group, Signal::SIGSTOP).is_ok()).then_some(Frozen(group))
    }
}

/// A server that stands still.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It can only be gone.
        let _ = killpg(self.0, Signal::SIGCONT);
    }
}
