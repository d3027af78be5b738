//! Starting and stopping a simulator inside a process.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::config::{ConfigError, SimConfig};
use super::core::Core;
use super::faults::Rule;
use super::plan::Plan;
use super::rates::{LineRate, SECOND_NS};
use super::records::{Record, RefusedRecord, Summary, piece, refused_piece, summary};
use super::stamp::stamp_arrivals;
use super::stats::StatsReport;
use super::tls::TlsFiles;
use super::{api, control, deliver};

/// Why a simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port could not be bound or a thread not started.
    #[error("cannot start the simulator: {0}")]
    Io(#[from] std::io::Error),
}

/// A running simulator. It has threads and runtimes of its own, so that neither a busy nor a paused test runtime
/// disturbs it. Dropping it stops it.
#[derive(Debug)]
pub struct SimHandle {
    core: Arc<Core>,
    api: SocketAddr,
    control: SocketAddr,
    stop: CancellationToken,
    pulse_stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl SimHandle {
    /// Binds the ports and starts. Returns when requests can be sent.
    ///
    /// # Errors
    /// When the configuration is not valid or a port cannot be bound.
    pub fn start(config: SimConfig) -> Result<Self, StartError> {
        config.validate()?;
        let bind = |address| -> std::io::Result<TcpListener> {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let tls = config.tls.as_ref().map(TlsFiles::acceptor).transpose()?;
        let api_listener = bind(config.listen)?;
        stamp_arrivals(&api_listener);
        let control_listener = bind(config.control)?;
        let mut sim = Self {
            api: api_listener.local_addr()?,
            control: control_listener.local_addr()?,
            core: Arc::new(Core::new(config)),
            stop: CancellationToken::new(),
            pulse_stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        for n in 0..sim.core.config.api_threads {
            let listener = api_listener.try_clone()?;
            let (core, stop, tls) = (Arc::clone(&sim.core), sim.stop.clone(), tls.clone());
            sim.spawn(format!("sim-api-{n}"), async move {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => api::serve(core, listener, tls, stop).await,
                    Err(error) => tracing::error!(%error, "provider API does not listen"),
                }
            })?;
        }
        let (core, stop) = (Arc::clone(&sim.core), sim.stop.clone());
        sim.spawn("sim-webhooks".to_owned(), async move {
            let mut accounts = tokio::task::JoinSet::new();
            for place in 0..core.accounts.len() {
                accounts.spawn(deliver::deliver(Arc::clone(&core), place, stop.clone()));
            }
            while accounts.join_next().await.is_some() {}
        })?;
        let (core, stop) = (Arc::clone(&sim.core), sim.stop.clone());
        sim.spawn("sim-control".to_owned(), async move {
            match tokio::net::TcpListener::from_std(control_listener) {
                Ok(listener) => control::serve(core, listener, stop).await,
                Err(error) => tracing::error!(%error, "control API does not listen"),
            }
        })?;
        let (clock, stop) = (Arc::clone(&sim.core.clock), Arc::clone(&sim.pulse_stop));
        let pulse = std::thread::Builder::new().name("sim-pulse".to_owned());
        sim.threads.push(pulse.spawn(move || clock.pulse(stop))?);
        Ok(sim)
    }

    fn spawn(&mut self, name: String, work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name);
        self.threads.push(thread.spawn(move || runtime.block_on(work))?);
        Ok(())
    }

    /// Where the provider APIs listen.
    #[must_use]
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// The base URL to configure in the server instead of the provider's.
    #[must_use]
    pub fn api_url(&self) -> String {
        let scheme = if self.core.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.api)
    }

    /// The base URL of the control API.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Sends an account's webhooks there: Meta a full URL, Twilio `host:port`.
    ///
    /// # Errors
    /// When there is no such account or the URL is bad.
    pub fn set_target(&self, account: &str, target: &str) -> Result<(), String> {
        self.core.set_target(account, target)
    }

    /// Puts fault rules in force, from now on.
    pub fn set_faults(&self, rules: Vec<Rule>) {
        self.core.set_faults(rules);
    }

    /// Puts a plan in force for what is accepted from now on.
    ///
    /// # Errors
    /// When the plan is not valid.
    pub fn set_plan(&self, plan: Plan) -> Result<(), String> {
        self.core.set_plan(plan)
    }

    /// Posts all waiting statuses at once and waits until all are acknowledged; returns how many are not when the time is up.
    pub async fn quiesce(&self, timeout: Duration) -> u64 {
        control::quiesce(&self.core, timeout).await
    }

    /// Number of accepted messages.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.core.state.lock().ledger.len() as u64
    }

    /// Every accepted message.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut all = Vec::new();
        loop {
            let more = piece(&self.core, all.len() as u32, 8_192);
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    /// Every request that was not accepted.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedRecord> {
        refused_piece(&self.core, 0, usize::MAX)
    }

    /// The totals.
    #[must_use]
    pub fn summary(&self) -> Summary {
        summary(&self.core)
    }

    /// The webhook counters.
    #[must_use]
    pub fn stats(&self) -> StatsReport {
        let outstanding = self.core.state.lock().outstanding;
        self.core.stats.report(outstanding)
    }

    /// The rates of every line in windows of `window_s` seconds.
    #[must_use]
    pub fn rates(&self, window_s: u64) -> Vec<LineRate> {
        self.core.rates(window_s * SECOND_NS, (None, None))
    }

    /// How exact the stamps are.
    #[must_use]
    pub fn stamping(&self) -> super::stamp::Stamping {
        self.core.clock.stamping()
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        self.pulse_stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
