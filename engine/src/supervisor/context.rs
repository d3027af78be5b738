//! What all actors of one engine share. It outlives every actor, the supervisor included.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use ractor::ActorRef;

use super::SupervisorMsg;
use crate::campaign::registry::Registry;
use crate::campaign::shared::CampaignShared;
use crate::config::EngineConfig;
use crate::domain::campaign::Campaign;
use crate::domain::correlation::CorrelationKey;
use crate::domain::ids::{AccountId, LineKey, PoolId, TenantId};
use crate::domain::line::Line;
use crate::domain::template::Template;
use crate::domain::time::Clock;
use crate::line::gate::LineShared;
use crate::nodes::{Mine, PoolRef};
use crate::provider::RequestPlan;
use crate::sender::{SenderContext, SenderCore};
use crate::status::Ledger;
use crate::store::Store;

/// What all actors share.
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) config: Arc<EngineConfig>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ledger: Ledger,
    pub(crate) correlation: Arc<CorrelationKey>,
    pub(crate) senders: SenderContext,
    pub(crate) supervisor: ArcSwapOption<ActorRef<SupervisorMsg>>,
    pub(crate) draining: AtomicBool,
    /// What of the ledger is this engine's.
    pub(crate) pools: Arc<dyn Mine>,
    /// Campaigns that went to other nodes with requests still at the provider: their outcomes are to be told.
    departed: Mutex<Vec<Arc<CampaignShared>>>,
    lines: RwLock<HashMap<LineKey, LineEntry>>,
    /// An account's lines never change their account.
    account_lines: RwLock<HashMap<AccountId, Arc<[LineKey]>>>,
}

/// A line and its senders.
#[derive(Clone)]
pub(crate) struct LineEntry {
    pub(crate) shared: Arc<LineShared>,
    pub(crate) senders: Vec<Arc<SenderCore>>,
}

/// The lines of a campaign, and its requests prepared for each.
#[derive(Default)]
pub(crate) struct Plans {
    lines: Vec<Arc<LineShared>>,
    plans: HashMap<LineKey, Arc<RequestPlan>>,
}

impl Plans {
    pub(crate) fn lines(&self) -> &[Arc<LineShared>] {
        &self.lines
    }

    pub(crate) fn plan(&self, line: LineKey) -> Option<Arc<RequestPlan>> {
        self.plans.get(&line).cloned()
    }
}

impl Context {
    #[allow(clippy::too_many_arguments)] // made in one place
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Clock,
        config: Arc<EngineConfig>,
        registry: Arc<Registry>,
        ledger: Ledger,
        correlation: CorrelationKey,
        senders: SenderContext,
        pools: Arc<dyn Mine>,
    ) -> Self {
        Self {
            store,
            clock,
            config,
            registry,
            ledger,
            correlation: Arc::new(correlation),
            senders,
            supervisor: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
            pools,
            departed: Mutex::default(),
            lines: RwLock::default(),
            account_lines: RwLock::default(),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Remembers a campaign that went away while something of it was in flight.
    pub(crate) fn note_departed(&self, campaign: Arc<CampaignShared>) {
        let mut departed = self.departed.lock();
        departed.retain(|campaign| campaign.in_flight() > 0);
        departed.push(campaign);
    }

    /// Messages in flight, of campaigns that went to other nodes, too.
    pub(crate) fn in_flight(&self) -> u64 {
        let here: u64 = self.registry.all().iter().map(|campaign| campaign.in_flight()).sum();
        here + self.departed.lock().iter().map(|campaign| campaign.in_flight()).sum::<u64>()
    }

    pub(crate) fn cast(&self, message: SupervisorMsg) {
        if let Some(supervisor) = self.supervisor.load().as_deref() {
            let _ = supervisor.cast(message);
        }
    }

    pub(crate) fn line(&self, key: LineKey) -> Option<LineEntry> {
        self.lines.read().get(&key).cloned()
    }

    pub(crate) fn lines(&self) -> Vec<LineEntry> {
        self.lines.read().values().cloned().collect()
    }

    /// The line with its senders; made when it is new. True: it is new. `None`: its pool is another node's.
    pub(crate) fn line_or_new(&self, record: Line) -> Option<(LineEntry, bool)> {
        self.know_line(&record);
        let mut lines = self.lines.write();
        if let Some(entry) = lines.get(&record.key) {
            return Some((entry.clone(), false));
        }
        // Under the lock: whoever gives the pool away looks for its lines after it is not ours any more.
        let lease = self.pools.lease_of(&PoolRef::new(&record.tenant, &record.pool))?;
        let key = record.key;
        let account = self.config.accounts.get(&record.account).cloned();
        if account.is_none() {
            tracing::warn!(line = %record.id, account = %record.account, "the line's account is not configured: nothing leaves by it");
        }
        // A sender actor serves a few thousand messages a second with ease; more spread the wake-ups.
        let siblings = 1 + record.ceiling / 8_000;
        let shared = Arc::new(LineShared::new(record, account, self.clock.clone(), &self.config, lease));
        let senders =
            (0..siblings).map(|_| SenderCore::new(Arc::clone(&shared), self.senders.clone(), siblings)).collect();
        let entry = LineEntry { shared, senders };
        lines.insert(key, entry.clone());
        Some((entry, true))
    }

    /// Notes whose a line is, also one of another node's: it may have sent what is this one's now.
    pub(crate) fn know_line(&self, record: &Line) {
        let is_known = |known: &Arc<[LineKey]>| known.binary_search(&record.key).is_ok();
        if self.account_lines.read().get(&record.account).is_some_and(is_known) {
            return;
        }
        let of_account = &mut *self.account_lines.write();
        let known = of_account.entry(record.account.clone()).or_default();
        let mut keys: Vec<LineKey> = known.iter().copied().chain([record.key]).collect();
        keys.sort_unstable();
        keys.dedup();
        *known = keys.into();
    }

    /// Forgets a line: its pool is another node's now. Its actor ends when the supervisor is told.
    pub(crate) fn forget_line(&self, key: LineKey) -> Option<LineEntry> {
        self.lines.write().remove(&key)
    }

    /// The lines of an account, ascending; kept, since every webhook asks for them.
    pub(crate) fn lines_of_account(&self, account: &AccountId) -> Arc<[LineKey]> {
        self.account_lines.read().get(account).cloned().unwrap_or_default()
    }

    /// Takes over a line's record, or the line itself when it is new. The supervisor follows; what it does may be repeated. `None`: its
    /// pool is another node's; it is forgotten here.
    pub(crate) fn take_line(&self, record: Line) -> Option<LineEntry> {
        if self.pools.lease_of(&PoolRef::new(&record.tenant, &record.pool)).is_none() {
            if let Some(entry) = self.forget_line(record.key) {
                entry.shared.drain();
            }
            return None;
        }
        let (entry, new) = self.line_or_new(record.clone())?;
        if !new {
            entry.shared.set_record(record);
        }
        Some(entry)
    }

    /// The lines of a pool, in order of key.
    pub(crate) fn lines_of_pool(&self, tenant: &TenantId, pool: &PoolId) -> Vec<Arc<LineShared>> {
        let mut lines: Vec<_> = self
            .lines
            .read()
            .values()
            .filter(|entry| {
                let record = entry.shared.record();
                record.tenant == *tenant && record.pool == *pool
            })
            .map(|entry| Arc::clone(&entry.shared))
            .collect();
        lines.sort_by_key(|line| line.key);
        lines
    }

    /// The lines of a campaign with its requests prepared. A line that the template does not suit is left out, with a log line.
    pub(crate) fn plans(&self, record: &Campaign) -> Plans {
        let shape = serde_json::from_str::<Template>(&record.template_definition)
            .map_err(|error| error.to_string())
            .and_then(|template| template.compile().map_err(|errors| format!("{errors:?}")));
        let shape = match shape {
            Ok(shape) => shape,
            Err(error) => {
                tracing::error!(campaign = %record.id, error, "the campaign's frozen template cannot be read");
                return Plans::default();
            }
        };
        let mut plans = Plans::default();
        for line in self.lines_of_pool(&record.tenant, &record.pool) {
            let Some(account) = &line.account else { continue };
            let identity = account.identity(&line.record(), &self.config.public_base_url);
            match RequestPlan::with_shape(&identity, &shape) {
                Ok(plan) => {
                    plans.plans.insert(line.key, Arc::new(plan));
                    plans.lines.push(line);
                }
                Err(error) => {
                    tracing::error!(campaign = %record.id, line = %line.record().id, %error, "the line cannot send this template");
                }
            }
        }
        plans
    }
}
