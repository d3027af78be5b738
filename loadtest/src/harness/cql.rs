//! A real CQL server for a run, started by the repository's script.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::io::{AsyncWriteExt as _, Lines as Said};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::config::{Lines, Ports, write_server};

/// How long its start may take, the first fetch of its files included.
const START: Duration = Duration::from_secs(300);

/// A running server, or the one that `SLUICE_CQL_NODES` names. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub struct CqlServer {
    _script: Child,
    asks: ChildStdin,
    says: Said<BufReader<ChildStdout>>,
    nodes: Vec<String>,
    group: i32,
}

impl CqlServer {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When there is none to start; the script says on standard error what to install.
    pub async fn start() -> anyhow::Result<Self> {
        Self::run(|_| {}).await
    }

    /// The same with one that nobody else uses and that may be killed: what it acknowledged is on disk. Where `SLUICE_CQL_NODES` names
    /// one that is not the script's, that is used nevertheless, and nobody can kill it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_own() -> anyhow::Result<Self> {
        let is_the_scripts = std::env::var("SLUICE_CQL_GROUP").is_ok_and(|group| group != "0");
        Self::run(|command| {
            command.env("SLUICE_CQL_SYNC", "batch");
            if is_the_scripts {
                command.env_remove("SLUICE_CQL_NODES");
            }
        })
        .await
    }

    async fn run(prepare: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/cql");
        let mut command = Command::new("bash");
        command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().with_context(|| format!("bash cannot run {}", script.display()))?;
        let asks = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut says = BufReader::new(output).lines();
        let said = async { Ok::<_, std::io::Error>((says.next_line().await?, says.next_line().await?)) };
        let (nodes, group) = tokio::time::timeout(START, said).await.context("no CQL server in time")??;
        let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) else {
            bail!("no CQL server: .ci/cql says above what is missing");
        };
        let group = group.and_then(|group| group.parse().ok()).unwrap_or(0);
        Ok(Self { _script: child, asks, says, nodes: nodes.split(',').map(str::to_owned).collect(), group })
    }

    async fn ask(&mut self, word: &str) -> anyhow::Result<String> {
        self.asks.write_all(format!("{word}\n").as_bytes()).await?;
        let said = tokio::time::timeout(START, self.says.next_line()).await.context("no answer of .ci/cql")??;
        said.context(".ci/cql ended: it says above why")
    }

    /// kill -9 of the server; false: it is not ours, and lives on.
    ///
    /// # Errors
    /// When the script does not answer.
    pub async fn kill(&mut self) -> anyhow::Result<bool> {
        Ok(self.ask("kill").await? == "killed")
    }

    /// Starts it again after [`Self::kill`], on the same data, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let group = self.ask("start").await?;
        self.group = group.parse().with_context(|| format!(".ci/cql says {group:?}"))?;
        Ok(())
    }

    /// Whether it runs, and how its log ends, in words.
    ///
    /// # Errors
    /// When the script does not answer.
    pub async fn state(&mut self) -> anyhow::Result<String> {
        self.ask("state").await
    }

    /// Its process, when this machine has one that is not another's: where its CPU time can be read.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        (self.group > 0).then_some(self.group)
    }

    /// `host:port` of its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// The sections of a server's configuration that put its ledger into a keyspace of this server. `lease_ms`: how long a start
    /// waits after a kill.
    #[must_use]
    pub fn sections(&self, keyspace: &str, lease_ms: u32) -> String {
        sections(&self.nodes, keyspace, lease_ms)
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

/// The same for a server that is reached at these points.
#[must_use]
pub fn sections(contact_points: &[String], keyspace: &str, lease_ms: u32) -> String {
    let points: Vec<String> = contact_points.iter().map(|node| format!("{node:?}")).collect();
    format!(
        "\n[store]\nkind = \"scylla\"\n[store.scylla]\ncontact_points = [{}]\nkeyspace = \"{keyspace}\"\n\
         replication = 1\nlease_ms = {lease_ms}\n",
        points.join(", ")
    )
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
