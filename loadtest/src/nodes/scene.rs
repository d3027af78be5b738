//! The nodes, their ledger, the simulator, and the lines between them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex as Latch;
use tokio::sync::Mutex;

use super::plan::ASTRAY;
use crate::harness::cluster::{Cluster, ClusterPlan, NodePlan, free_port};
use crate::harness::cql::{CqlServer, sections};
use crate::harness::link::{Link, Traffic, Way, caller};
use crate::harness::process::binary;
use crate::harness::wall::Wall;
use crate::sim::plan::Plan;

/// A clock that has gone astray may have made dues so far ahead, and a little more.
const AHEAD_MS: i64 = (ASTRAY + 60) * 1_000;

/// What a scene is made of.
#[derive(Debug, Clone)]
pub struct ScenePlan {
    /// How many nodes.
    pub nodes: usize,
    /// Ceilings of the pools' lines.
    pub pools: Vec<u32>,
    /// How statuses come.
    pub statuses: Plan,
    /// The seed.
    pub seed: u64,
    /// The lease.
    pub lease: Duration,
    /// More of each server's configuration.
    pub extra: String,
}

/// Everything, each part behind a lock of its own: what is done to one holds up no other.
#[derive(Debug)]
pub struct Scene {
    /// The nodes and the simulator.
    pub cluster: Mutex<Cluster>,
    /// The CQL server.
    pub ledger: Mutex<CqlServer>,
    /// From each node to the CQL server.
    pub ledger_links: Vec<Link>,
    /// To each node from the others.
    pub node_links: Vec<Link>,
    /// Where each node takes calls.
    pub grpc: Vec<SocketAddr>,
    /// The customers' token.
    pub token: String,
    walls: Vec<Wall>,
    /// What all walls are ahead by when none is astray, milliseconds.
    right: AtomicI64,
    processes: Arc<Latch<Vec<Option<i32>>>>,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Starts all of it, with lines and a template.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(plan: &ScenePlan) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-lines-").tempdir()?;
        let ledger = CqlServer::start_own().await?;
        let keyspace = format!("disturbed_{}_{}", std::process::id(), plan.seed);
        let lease_ms = u32::try_from(plan.lease.as_millis())?;
        let program = binary().await?;
        ledger.apply_schema(&program, &ledger.sections(&keyspace, lease_ms)).await?;
        let server: SocketAddr = ledger.nodes().first().context("no CQL server")?.parse()?;
        let processes: Arc<Latch<Vec<Option<i32>>>> = Arc::default();
        let callers: crate::harness::link::Callers = {
            let processes = Arc::clone(&processes);
            Arc::new(move |from, to| caller(from, to, &processes.lock()))
        };
        let (mut ledger_links, mut node_links, mut walls, mut own) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (n, seed) in (0..plan.nodes).zip(plan.seed..) {
            let to_ledger = Link::start(server, Traffic::Cql, seed).await?;
            let inside = free_port()?;
            let to_node = Link::start(inside, Traffic::Between(Arc::clone(&callers)), seed).await?;
            let place = folder.path().join(format!("wall-{n}"));
            std::fs::create_dir(&place)?;
            let wall = Wall::new(&place, Path::new(&program)).await?;
            own.push(NodePlan {
                extra: sections(&[to_ledger.address.to_string()], &keyspace, lease_ms),
                inside: Some((inside, to_node.address)),
                program: Some(wall.program.clone()),
            });
            ledger_links.push(to_ledger);
            node_links.push(to_node);
            walls.push(wall);
        }
        let cluster = Cluster::start(ClusterPlan {
            nodes: plan.nodes,
            pools: plan.pools.clone(),
            plan: plan.statuses.clone(),
            seed: plan.seed,
            extra: plan.extra.clone(),
            nodes_extra: String::new(),
            own,
        })
        .await?;
        *processes.lock() = cluster.processes();
        cluster.furnish().await?;
        let grpc = (0..plan.nodes).map(|n| cluster.grpc(n)).collect::<anyhow::Result<_>>()?;
        let token = cluster.token().to_owned();
        Ok(Self {
            cluster: Mutex::new(cluster),
            ledger: Mutex::new(ledger),
            ledger_links,
            node_links,
            grpc,
            token,
            walls,
            right: AtomicI64::new(0),
            processes,
            _folder: folder,
        })
    }

    /// The processes have changed: lines between nodes must know who calls.
    pub fn learn(&self, cluster: &Cluster) {
        *self.processes.lock() = cluster.processes();
    }

    /// Sets a node's wall clock so many seconds beside the right time.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn set_wall(&self, node: usize, seconds: i64) -> anyhow::Result<()> {
        let wall = self.walls.get(node).context("no such node")?;
        Ok(wall.set(self.right.load(Relaxed) + seconds * 1_000)?)
    }

    /// All lines are open, and all walls show the same time: one that lies behind whatever a clock that was astray wrote down as due.
    ///
    /// # Errors
    /// When a clock cannot be set.
    pub fn calm(&self) -> anyhow::Result<()> {
        self.right.fetch_add(AHEAD_MS, Relaxed);
        for (node, link) in self.ledger_links.iter().enumerate() {
            link.set(Way::Open);
            self.set_wall(node, 0)?;
        }
        for (link, caller) in self.node_links.iter().flat_map(|link| (0..self.grpc.len()).map(move |n| (link, n))) {
            link.set_of(caller, Way::Open);
        }
        Ok(())
    }
}
