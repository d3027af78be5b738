//! One engine: the ledger, the actors, and the way in and out of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::Actor;
use tokio::task::JoinHandle;

use crate::campaign::registry::Registry;
use crate::config::EngineConfig;
use crate::control::Runtime;
use crate::domain::campaign::CampaignState;
use crate::domain::correlation::CorrelationKey;
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::domain::time::Clock;
use crate::drift;
use crate::metrics::ProviderMetrics;
use crate::nodes::{Alone, Directory, Keeper, Lease, Mine, Table};
use crate::sender::outcome::Outcomes;
use crate::sender::{Connector, SenderContext};
use crate::status::Ledger;
use crate::status::sink::Sink;
use crate::store::{Store, StoreResult};
use crate::supervisor::{Context, Handle, SupervisorActor, heal_settled, recover};
use crate::trace::Traces;
use crate::webhook::WebhookSink;

/// A running engine.
pub struct Engine {
    context: Arc<Context>,
    handle: Handle,
    sink: Arc<Sink>,
    /// Where other nodes share the ledger.
    keeper: Option<Arc<Keeper>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How an engine stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Messages whose outcome did not come in time: the next start finds them in doubt.
    pub in_doubt: u64,
    /// Whether all outcomes that did come are in the ledger.
    pub flushed: bool,
}

impl Engine {
    /// Starts from the ledger: what was in flight is in doubt, what was running goes on. Lines stay silent for one full window.
    ///
    /// Where other nodes share the ledger, it begins with nothing and takes the pools that nobody owns; so also later.
    pub async fn start(config: EngineConfig, store: Arc<dyn Store>, clock: Clock) -> StoreResult<Self> {
        let config = Arc::new(config);
        let registry = Arc::new(Registry::default());
        let ledger = Ledger::new(&store, &registry, &clock, &config);
        let correlation = CorrelationKey::new(store.installation_secret().await?);
        let traces = config.traces.clone().map(|traces| Arc::new(Traces::new(traces, correlation.trace_salt())));
        let outcomes = Arc::new(Outcomes {
            backoff: config.backoff,
            error_run_max: config.error_run_max,
            supervisor: arc_swap::ArcSwapOption::empty(),
            metrics: ProviderMetrics::new(),
        });
        let senders = SenderContext {
            connector: Connector::new(config.connect_timeout, &config.provider_roots),
            answer_timeout: config.answer_timeout,
            idle_timeout: config.idle_timeout,
            clock: clock.clone(),
            outcomes,
            traces,
        };
        let table =
            store.ownership().map(|ownership| Arc::new(Table::new(ownership, Arc::clone(&store), clock.clone())));
        let pools: Arc<dyn Mine> = match &table {
            Some(table) => Arc::clone(table) as Arc<dyn Mine>,
            None => {
                let lease = store.lease().unwrap_or_else(|| Arc::new(Lease::forever(clock.clone())));
                Arc::new(Alone::new(lease))
            }
        };
        let context = Arc::new(Context::new(store, clock, config, registry, ledger, correlation, senders, pools));
        let keeper = table.map(|table| Keeper::new(Arc::clone(&context), table));
        if keeper.is_none() {
            let found = recover(&context).await?;
            tracing::info!(
                campaigns = found.campaigns,
                lines = found.lines,
                in_doubt = found.in_doubt,
                "the engine takes up where the ledger stands"
            );
        }
        register_rare();
        let sink = Arc::new(Sink::new(Arc::clone(&context)));
        let mut tasks = vec![
            tokio::spawn(keep_supervised(Arc::clone(&context))),
            tokio::spawn(look_at_parked(Arc::clone(&sink))),
            tokio::spawn(drift::sample(Arc::clone(&context))),
        ];
        if keeper.is_none() {
            tasks.push(tokio::spawn(look_at_settled(Arc::clone(&context))));
        }
        let handle = Handle { context: Arc::clone(&context) };
        let mut engine = Self { handle, context, sink, keeper, tasks };
        engine.wait_for_actors().await;
        if let Some(keeper) = &engine.keeper {
            keeper.begin().await?;
            engine.tasks.push(tokio::spawn(Arc::clone(keeper).run()));
        }
        Ok(engine)
    }

    /// Who owns what. Where nobody shares the ledger, everything is here.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.context.pools) as Arc<dyn Directory>
    }

    async fn wait_for_actors(&self) {
        while self.context.supervisor.load().is_none() {
            tokio::task::yield_now().await;
        }
    }

    /// The actors, as the façade needs them.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.handle.clone())
    }

    /// Where verified webhook events go.
    pub fn webhook_sink(&self) -> Arc<dyn WebhookSink> {
        Arc::clone(&self.sink) as Arc<dyn WebhookSink>
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The store beneath.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.context.store)
    }

    /// The clock of this engine.
    pub fn clock(&self) -> Clock {
        self.context.clock.clone()
    }

    /// The settings of this engine.
    pub fn config(&self) -> &EngineConfig {
        &self.context.config
    }

    /// Sets the gauges that are read, not counted.
    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
    pub(crate) fn refresh_gauges(&self) {
        use crate::metrics as names;
        let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
        let campaigns = self.context.registry.all();
        let in_state = |state| campaigns.iter().filter(|c| c.record().state == state).count() as u64;
        set(names::LEDGER_WAITING, self.context.ledger.waiting() as u64);
        set(names::IN_FLIGHT, campaigns.iter().map(|c| c.in_flight()).sum());
        set(names::CAMPAIGNS_RUNNING, in_state(CampaignState::Running));
        set(names::CAMPAIGNS_HELD, in_state(CampaignState::Held));
        let lines = self.context.lines();
        set(names::LINES_HELD, lines.iter().filter(|l| l.shared.record().hold.is_some()).count() as u64);
        let mut sum = Tally::default();
        campaigns.iter().for_each(|campaign| sum.absorb(&campaign.tally()));
        for shown in Shown::ALL {
            metrics::gauge!(names::MESSAGES, "status" => shown.name()).set(sum.count(shown) as f64);
        }
        set(names::CONFLICTS, sum.conflicts);
        set(names::DOUBLES, sum.doubles);
        if let Some(ownership) = self.context.store.ownership() {
            metrics::gauge!(names::LEASE_LEFT).set(ownership.term().1.left().as_secs_f64());
            metrics::counter!(names::RENEWALS_FAILED).absolute(ownership.renewals_failed());
        }
        let health = self.context.store.health();
        set(names::STORE_WRITABLE, u64::from(health.writable));
        set(names::STORE_SIZE, health.bytes);
        metrics::gauge!(names::COMMIT_LAG).set(health.commit_lag.as_secs_f64());
        for (actor, delay) in names::delays::shown(self.context.clock.mono()) {
            metrics::gauge!(names::ACTOR_DELAY, "actor" => actor).set(delay.as_secs_f64());
        }
    }

    /// Stops in the direction of the data: no more hand-out, senders bring in their answers, outcomes reach the ledger. New
    /// campaigns and imports are refused from the first moment. The caller keeps the webhooks open until this returns, and
    /// closes the store after them. Where other nodes are there to take them, the pools are given away first.
    pub async fn stop(&self) -> Stopped {
        self.context.draining.store(true, Ordering::SeqCst);
        if let Some(keeper) = &self.keeper {
            let all = keeper.drain(self.context.config.drain_senders).await;
            tracing::info!(all, "pools given away");
        }
        for shared in self.context.registry.all() {
            // For good: no record opens it again.
            std::mem::forget(shared.shut());
            shared.wake();
        }
        for entry in self.context.lines() {
            entry.shared.drain();
            entry.shared.cast(crate::line::LineMsg::Stopped);
        }
        let in_flight = || self.context.in_flight();
        let drained = async {
            while in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let all = tokio::time::timeout(self.context.config.drain_senders, drained).await.is_ok();
        tracing::info!(finished = all, "senders drained");
        let flushed = tokio::time::timeout(self.context.config.flush_statuses, self.context.ledger.flush())
            .await
            .unwrap_or(false);
        tracing::info!(finished = flushed, "outcomes are in the ledger");
        Stopped { in_doubt: in_flight(), flushed }
    }

    /// Ends the actors, after [`Engine::stop`] and after the webhooks are closed.
    pub async fn close(self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(supervisor) = self.context.supervisor.swap(None) {
            let _ = supervisor.stop_and_wait(None, Some(Duration::from_secs(2))).await;
        }
    }
}

/// Starts the supervisor, and starts it anew should it ever panic: everything it needs outlives it.
async fn keep_supervised(context: Arc<Context>) {
    loop {
        match Actor::spawn(None, SupervisorActor, Arc::clone(&context)).await {
            Ok((_, ended)) => {
                let _ = ended.await;
            }
            Err(error) => tracing::error!(%error, "the supervisor could not be started"),
        }
        // While the engine drains, too: outcomes still have to reach the ledger. `close` ends this task first.
        tracing::error!("the supervisor ended and is started anew");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Once after the start, and again only while the ledger refuses.
async fn look_at_settled(context: Arc<Context>) {
    while let Err(error) = heal_settled(&context, None).await {
        tracing::warn!(%error, "settled campaigns could not be looked at; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What should never rise stands on the page from the beginning, as 0: a series that appears with its first event shows no rise.
fn register_rare() {
    metrics::counter!(crate::metrics::LEDGER_GIVEN_UP).increment(0);
    for actor in ["status", "line", "campaign"] {
        metrics::counter!(crate::metrics::ACTOR_PANICS, "actor" => actor).increment(0);
    }
}

async fn look_at_parked(sink: Arc<Sink>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let sink = Arc::clone(&sink);
        // In a task of its own: a panic over one event does not end all looking.
        if let Err(error) = tokio::spawn(async move { sink.look_at_parked().await }).await {
            tracing::error!(%error, "parked events could not be looked at");
        }
    }
}
