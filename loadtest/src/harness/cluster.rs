//! Several servers on one ledger, one simulator, and a balancer between them.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::balancer::Balancer;
use super::client::Customer;
use super::config::{self, Lines, META, Ports, TENANT, TOKEN_SECRET};
use super::process::{FileLimit, ServerProcess, binary};
use crate::grpc::development_token;
use crate::sim::SimHandle;
use crate::sim::plan::Plan;
use crate::witness::fetch::{Wanted, check};
use crate::witness::report::Report;

/// How long a start may take, the wait for a former self's lease included.
const START: Duration = Duration::from_secs(60);

/// The secret that the nodes share.
const NODE_SECRET: &str = "only-for-runs-on-loopback-between-nodes";

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    /// How many nodes.
    pub nodes: usize,
    /// Ceilings of Meta lines; each stands alone in a pool `pool-0`, `pool-1`, ….
    pub pools: Vec<u32>,
    /// How statuses come.
    pub plan: Plan,
    /// The seed.
    pub seed: u64,
    /// More of each server's configuration, the ledger's sections among it.
    pub extra: String,
    /// Keys of `[nodes]` beside name, address, listener and secret.
    pub nodes_extra: String,
    /// What is a node's own, by its number; nothing of those that are not there.
    pub own: Vec<NodePlan>,
}

/// What one node has for itself.
#[derive(Debug, Clone, Default)]
pub struct NodePlan {
    /// More of its configuration.
    pub extra: String,
    /// Where it listens for other nodes, and where it says that it does; `None`: at a port that is free.
    pub inside: Option<(SocketAddr, SocketAddr)>,
    /// The program; `None`: the server's binary.
    pub program: Option<PathBuf>,
}

/// One of the servers.
#[derive(Debug)]
struct Node {
    name: String,
    folder: PathBuf,
    ports: Ports,
    /// Where it listens for other nodes, and where it says that it does.
    inside: (SocketAddr, SocketAddr),
    own: NodePlan,
    server: Option<ServerProcess>,
}

/// The servers and the simulator.
#[derive(Debug)]
pub struct Cluster {
    /// The simulator.
    pub sim: SimHandle,
    lines: Lines,
    nodes: Vec<Node>,
    balancer: Balancer,
    plan: ClusterPlan,
    binary: PathBuf,
    token: String,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts all of it and waits until every node is ready.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(plan: ClusterPlan) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-nodes-").tempdir()?;
        let lines = Lines { meta: plan.pools.clone(), sms: Vec::new() };
        let mut config = config::simulator(&lines, plan.plan.clone(), plan.seed);
        config.webhook_connections = 16;
        let sim = SimHandle::start(config)?;
        let balancer = Balancer::start(plan.seed).await?;
        let node = |n: usize| {
            let folder = folder.path().join(format!("node-{n}"));
            std::fs::create_dir(&folder)?;
            let own = plan.own.get(n).cloned().unwrap_or_default();
            let inside = match own.inside {
                Some(inside) => inside,
                None => free_port().map(|free| (free, free))?,
            };
            anyhow::Ok(Node { name: format!("node-{n}"), folder, ports: Ports::default(), inside, own, server: None })
        };
        let nodes = (0..plan.nodes).map(node).collect::<anyhow::Result<_>>()?;
        let (binary, token) = (binary().await?, development_token(TOKEN_SECRET, TENANT)?);
        let mut cluster = Self { sim, lines, nodes, balancer, plan, binary, token, folder };
        for n in 0..cluster.nodes.len() {
            cluster.start_node(n).await?;
        }
        let target = serde_json::json!({ META: cluster.balanced() });
        cluster.sim_post("/targets", &target).await?;
        Ok(cluster)
    }

    async fn sim_post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<()> {
        let url = format!("{}{path}", self.sim.control_url());
        let (status, _) = crate::wire::client::once("POST", &url, body.to_string().as_bytes(), START).await?;
        anyhow::ensure!(status == 200, "{url}: {status}");
        Ok(())
    }

    /// Starts a node (again) and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_node(&mut self, n: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(n).context("no such node")?;
        std::fs::write(node.folder.join("node.secret"), NODE_SECRET)?;
        let (listen, advertise) = node.inside;
        let extra = format!(
            "{}{}\n[nodes]\nname = \"{}\"\nadvertise = \"{advertise}\"\nlisten = \"{listen}\"\nsecret_file = \"node.secret\"\n{}",
            self.plan.extra, node.own.extra, node.name, self.plan.nodes_extra
        );
        let config = config::write_server(&node.folder, &self.sim.api_url(), &self.lines, &node.ports, &extra)?;
        let log = node.folder.join("server.log");
        let program = node.own.program.as_ref().unwrap_or(&self.binary);
        let mut server = ServerProcess::start(program, &config, &log, FileLimit::Deadly, START).await?;
        node.ports = Ports {
            grpc: server.addresses.grpc.parse()?,
            webhooks: server.addresses.webhooks.parse()?,
            ops: server.addresses.ops.parse()?,
        };
        server.ready(START).await?;
        node.server = Some(server);
        self.balance();
        Ok(())
    }

    /// Webhooks go to every node that runs, frozen ones too: nobody tells a balancer.
    fn balance(&self) {
        let running = self.nodes.iter().filter(|node| node.server.is_some());
        self.balancer.set(running.map(|node| node.ports.webhooks).collect());
    }

    fn server(&self, n: usize) -> anyhow::Result<&ServerProcess> {
        self.nodes.get(n).and_then(|node| node.server.as_ref()).context("the node is down")
    }

    fn take_server(&mut self, n: usize) -> anyhow::Result<ServerProcess> {
        self.nodes.get_mut(n).and_then(|node| node.server.take()).context("the node is down")
    }

    /// Hands a node's process out, for whoever ends it without holding up the others. No webhook comes to it any more.
    ///
    /// # Errors
    /// When it is down.
    pub fn let_go(&mut self, n: usize) -> anyhow::Result<ServerProcess> {
        let server = self.take_server(n);
        self.balance();
        server
    }

    /// The process ids, by node; `None`: it is down.
    #[must_use]
    pub fn processes(&self) -> Vec<Option<i32>> {
        self.nodes.iter().map(|node| node.server.as_ref().map(ServerProcess::pid)).collect()
    }

    /// Where a node takes calls; the same as long as the cluster lives.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn grpc(&self, n: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.nodes.get(n).context("no such node")?.ports.grpc)
    }

    /// Where a node takes webhooks.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn webhooks(&self, n: usize) -> anyhow::Result<SocketAddr> {
        Ok(self.nodes.get(n).context("no such node")?.ports.webhooks)
    }

    /// The URL that brings webhooks to whichever node.
    #[must_use]
    pub fn balanced(&self) -> String {
        format!("http://{}/webhooks/meta/{META}", self.balancer.address)
    }

    /// The token of the runs' tenant.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Everything that a node ever logged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self, n: usize) -> anyhow::Result<String> {
        let folder = &self.nodes.get(n).context("no such node")?.folder;
        Ok(String::from_utf8_lossy(&std::fs::read(folder.join("server.log"))?).into_owned())
    }

    /// Leaves the directory behind for whoever looks into it.
    pub fn keep(&mut self) -> &std::path::Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// kill -9.
    ///
    /// # Errors
    /// When it was down already, or the system refuses.
    pub async fn kill(&mut self, n: usize) -> anyhow::Result<()> {
        let server = self.take_server(n)?;
        self.balance();
        server.kill().await
    }

    /// SIGTERM; returns the exit code.
    ///
    /// # Errors
    /// When it was down already, or does not end within `deadline`.
    pub async fn drain(&mut self, n: usize, deadline: Duration) -> anyhow::Result<Option<i32>> {
        let server = self.take_server(n)?;
        let ended = server.terminate(deadline).await;
        self.balance();
        ended
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When it is down.
    pub fn freeze(&self, n: usize) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.server(n)?.pid()), Signal::SIGSTOP)?)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is down.
    pub fn thaw(&self, n: usize) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.server(n)?.pid()), Signal::SIGCONT)?)
    }

    /// Connects a customer to a node.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn customer(&self, n: usize) -> anyhow::Result<Customer> {
        Customer::connect(&self.server(n)?.addresses.grpc, &self.token).await
    }

    /// Creates the lines, each by another node, and the template `hello`.
    ///
    /// # Errors
    /// When a node refuses.
    pub async fn furnish(&self) -> anyhow::Result<()> {
        for (n, ceiling) in self.lines.meta.iter().enumerate() {
            let customer = self.customer(n % self.nodes.len()).await?;
            customer.meta_line(&format!("line-{n}"), &format!("pool-{n}"), META, &Lines::meta_id(n), *ceiling).await?;
        }
        self.customer(0).await?.whatsapp_template("hello", config::TEMPLATE).await
    }

    /// The URL of a node's metrics page.
    ///
    /// # Errors
    /// When it is down.
    pub fn ops(&self, n: usize) -> anyhow::Result<String> {
        Ok(format!("http://{}", self.server(n)?.addresses.ops))
    }

    /// Waits until all statuses are acknowledged, then compares everything that node `n` says with the simulator's ledger.
    ///
    /// # Errors
    /// When one side cannot be read.
    pub async fn check(&self, n: usize, mut wanted: Wanted) -> anyhow::Result<Report> {
        wanted.control = self.sim.control_url();
        wanted.quiesce.get_or_insert(Duration::from_secs(90));
        wanted.strangers = true;
        check(self.customer(n).await?.channel(), &wanted).await
    }

    /// The end of every node's log.
    #[must_use]
    pub fn logs(&self) -> String {
        self.nodes.iter().filter_map(|node| node.server.as_ref()).map(ServerProcess::log_tail).collect()
    }
}

/// A port that was free a moment ago: others have to know it before the server listens.
///
/// # Errors
/// When there is none.
pub fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A failed test leaves its directory behind for whoever looks into it.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}
