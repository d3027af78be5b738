//! A server and a simulator side by side, in a directory of their own.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use parking_lot::Mutex;

use super::client::Customer;
use super::config::{self, Lines, META, Ports, TENANT, TOKEN_SECRET, TWILIO};
use super::cql::CqlServer;
use super::process::{FileLimit, ServerProcess, binary};
use super::simulator::Simulator;
use crate::grpc::development_token;
use crate::sim::faults::Rule;
use crate::sim::plan::Plan;
use crate::sim::{SimConfig, SimHandle};
use crate::witness::fetch::{Deaf, Listener, Wanted, check_heard};
use crate::witness::report::Report;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);
/// The lease on a shared ledger: a server that is started after a kill waits until its former self's is over. The server's own default.
const LEASE_MS: u32 = 6_000;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct WorldPlan {
    /// Its lines.
    pub lines: Lines,
    /// How statuses come.
    pub plan: Plan,
    /// The seed.
    pub seed: u64,
    /// More keys of the server's configuration, as TOML sections.
    pub extra: String,
    /// The ledger is on a CQL server of `.ci/cql`.
    pub on_cql: bool,
    /// The simulator in a process of its own.
    pub apart: bool,
    /// Connections over which each account's webhooks come.
    pub webhook_connections: usize,
    /// What a file-size limit does to the server.
    pub limits: FileLimit,
    /// Faults of the simulated providers that are on from the start.
    pub faults: Vec<Rule>,
    /// Threads that serve the simulated providers.
    pub api_threads: usize,
    /// The last Meta line stands alone in a pool of this name, and the simulator keeps the times of its first posts.
    pub probe_pool: Option<&'static str>,
    /// The simulator also has the account of the bare run.
    pub floor: bool,
    /// Where the server believes the providers to be; without it, the simulator itself.
    pub provider_url: Option<String>,
    /// What else the simulator's configuration says.
    pub tune: fn(&mut SimConfig),
}

impl Default for WorldPlan {
    fn default() -> Self {
        Self {
            lines: Lines::default(),
            plan: Plan::default(),
            seed: 1,
            extra: String::new(),
            on_cql: false,
            apart: false,
            webhook_connections: 64,
            limits: FileLimit::Deadly,
            faults: Vec::new(),
            api_threads: 1,
            probe_pool: None,
            floor: false,
            provider_url: None,
            tune: |_| {},
        }
    }
}

/// A server and a simulator.
#[derive(Debug)]
pub struct World {
    /// The simulator.
    pub sim: Simulator,
    lines: Lines,
    probe_pool: Option<&'static str>,
    provider_url: Option<String>,
    ports: Ports,
    extra: String,
    limits: FileLimit,
    binary: PathBuf,
    token: String,
    server: Option<ServerProcess>,
    interruptions: Mutex<Vec<u64>>,
    cql: Option<CqlServer>,
    // Last, so that what uses the directory has ended when it is removed.
    folder: tempfile::TempDir,
}

impl World {
    /// Starts both and waits until the server is ready.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(plan: WorldPlan) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sluice-").tempdir()?;
        let mut config = config::simulator(&plan.lines, plan.plan.clone(), plan.seed);
        config.webhook_connections = plan.webhook_connections;
        config.faults.clone_from(&plan.faults);
        config.api_threads = plan.api_threads;
        if plan.floor {
            config::add_floor(&mut config);
        }
        (plan.tune)(&mut config);
        if plan.probe_pool.is_some() {
            config.timed_lines.push(Lines::meta_id(plan.lines.meta.len().saturating_sub(1)));
        }
        let sim = if plan.apart {
            Simulator::apart(&config, folder.path()).await?
        } else {
            Simulator::Here(SimHandle::start(config)?)
        };
        let binary = binary().await?;
        let (mut extra, mut cql) = (plan.extra, None);
        if plan.on_cql {
            let server = CqlServer::start().await?;
            let sections = server.sections(&format!("world_{}_{}", std::process::id(), plan.seed), LEASE_MS);
            server.apply_schema(&binary, &sections).await?;
            extra = config::joined(&sections, &extra)?;
            cql = Some(server);
        }
        let mut world = Self {
            sim,
            lines: plan.lines,
            probe_pool: plan.probe_pool,
            provider_url: plan.provider_url,
            ports: Ports::default(),
            extra,
            limits: plan.limits,
            binary,
            token: development_token(TOKEN_SECRET, TENANT)?,
            server: None,
            interruptions: Mutex::default(),
            cql,
            folder,
        };
        world.start_server().await?;
        Ok(world)
    }

    /// Starts the server again on the same data and the same ports, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        if self.server.take().is_some() {
            // It has ended by itself, at the latest by now.
            self.interrupted();
        }
        let api = self.provider_url.clone().unwrap_or_else(|| self.sim.api());
        let config = config::write_server(self.folder.path(), &api, &self.lines, &self.ports, &self.extra)?;
        let log = self.folder.path().join("server.log");
        let mut server = ServerProcess::start(&self.binary, &config, &log, self.limits, START).await?;
        self.ports = Ports {
            grpc: server.addresses.grpc.parse()?,
            webhooks: server.addresses.webhooks.parse()?,
            ops: server.addresses.ops.parse()?,
        };
        // The file names the ports from now on, so that whoever starts this server again finds it there.
        config::write_server(self.folder.path(), &api, &self.lines, &self.ports, &self.extra)?;
        let mut targets = serde_json::Map::new();
        if !self.lines.meta.is_empty() {
            let url = format!("http://{}/webhooks/meta/{META}", self.ports.webhooks);
            targets.insert(META.to_owned(), url.into());
        }
        if !self.lines.sms.is_empty() {
            targets.insert(TWILIO.to_owned(), self.ports.webhooks.to_string().into());
        }
        self.sim.post("/targets", &targets.into()).await?;
        server.ready(START).await?;
        self.server = Some(server);
        Ok(())
    }

    /// The running server.
    ///
    /// # Errors
    /// When it is down.
    pub fn server(&self) -> anyhow::Result<&ServerProcess> {
        self.server.as_ref().context("the server is down")
    }

    /// kill -9. The server is down afterwards.
    ///
    /// # Errors
    /// When it was down already, or the system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.take().context("the server is down")?.kill().await?;
        self.interrupted();
        Ok(())
    }

    /// Notes that the server has been killed or has stood still until now: what it had in flight may never be heard of again.
    pub fn interrupted(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        self.interruptions.lock().push(now);
    }

    /// SIGTERM; returns the exit code. The server is down afterwards.
    ///
    /// # Errors
    /// When it was down already, or does not end within `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<Option<i32>> {
        self.server.take().context("the server is down")?.terminate(deadline).await
    }

    /// Connects a customer.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn customer(&self) -> anyhow::Result<Customer> {
        Customer::connect(&self.server()?.addresses.grpc, &self.token).await
    }

    /// Creates all lines (Meta's in pool `wa`, Twilio's in pool `sms`) and the templates `hello` (WhatsApp), `text` and `long` (SMS).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn furnish(&self, customer: &Customer) -> anyhow::Result<()> {
        for (n, ceiling) in self.lines.meta.iter().enumerate() {
            let last = n + 1 == self.lines.meta.len();
            let pool = self.probe_pool.filter(|_| last).unwrap_or("wa");
            customer.meta_line(&format!("wa-{n}"), pool, META, &Lines::meta_id(n), *ceiling).await?;
        }
        for (n, ceiling) in self.lines.sms.iter().enumerate() {
            customer.sms_line(&format!("sms-{n}"), "sms", TWILIO, &Lines::sms_id(n), *ceiling).await?;
        }
        if !self.lines.meta.is_empty() {
            customer.whatsapp_template("hello", config::TEMPLATE).await?;
        }
        if !self.lines.sms.is_empty() {
            customer.text_templates().await?;
        }
        Ok(())
    }

    /// The bearer token of customers.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// More keys for the next start, in the place of those that the world began with.
    pub fn set_extra(&mut self, extra: String) {
        self.extra = extra;
    }

    /// The server's binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The CQL server of its ledger.
    #[must_use]
    pub fn cql(&self) -> Option<&CqlServer> {
        self.cql.as_ref()
    }

    /// The directory of both.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the directory when the world ends, and says where it is.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// Waits until all statuses are acknowledged, then compares everything with the simulator's ledger.
    ///
    /// # Errors
    /// When one side cannot be read.
    pub async fn check(&self, customer: &Customer, wanted: Wanted) -> anyhow::Result<Report> {
        self.check_heard(customer, wanted, &mut Deaf).await
    }

    /// As [`Self::check`]; `listener` hears everything that is read.
    ///
    /// # Errors
    /// When one side cannot be read.
    pub async fn check_heard(
        &self,
        customer: &Customer,
        mut wanted: Wanted,
        listener: &mut impl Listener,
    ) -> anyhow::Result<Report> {
        wanted.control = self.sim.control();
        wanted.quiesce.get_or_insert(Duration::from_secs(60));
        wanted.interruptions.get_or_insert_with(|| self.interruptions.lock().clone());
        wanted.strangers = true;
        check_heard(customer.channel(), &wanted, listener).await
    }
}

/// A failed test leaves its directory behind for whoever looks into it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.keep().display());
        }
    }
}
