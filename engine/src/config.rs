//! What the engine is told at its start. Every bound has a name, a unit and a default that suits one machine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::domain::backoff::Backoff;
use crate::domain::breaker::BreakerConfig;
use crate::domain::ids::AccountId;
use crate::provider::Account;
use crate::trace::TraceConfig;

/// How nodes that share a ledger deal with each other. How long a lease is, the ledger's own settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodesConfig {
    /// How often a node looks who there is and who has what. A dead node's pools wait for a lease, up to two of these, and a second's
    /// silence.
    pub poll: Duration,
    /// Least time between two moves of pools for balance.
    pub rebalance_pause: Duration,
    /// How long a pool that is given away waits for its last answers; the outcomes of the others are told to the next owner.
    pub hand_over_wait: Duration,
}

impl Default for NodesConfig {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(500),
            rebalance_pause: Duration::from_secs(10),
            hand_over_wait: Duration::from_millis(400),
        }
    }
}

/// Settings of one engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The provider accounts, by name.
    pub accounts: HashMap<AccountId, Arc<Account>>,
    /// Where the providers reach our webhooks: scheme, host and port, no path.
    pub public_base_url: String,
    /// Added to the second of every ceiling: what the way to the provider may jitter. More is safer, and slower by its share of
    /// a second.
    pub jitter_guard: Duration,
    /// How far a line's aim may run ahead of an even pace. The exact window still holds; this only lets a late wake-up catch up.
    pub aim_allowance: Duration,
    /// How much of its rate a line keeps prepared (durable intents on their way to the gate).
    pub look_ahead: Duration,
    /// The breaker of every line.
    pub breaker: BreakerConfig,
    /// Pauses before a message tries again after a failure that the retry policy counts.
    pub backoff: Backoff,
    /// Request errors of one code in a row that hold a campaign.
    pub error_run_max: u32,
    /// Panics of one actor in a row that quarantine its campaign or hold its line.
    pub panics_max: u32,
    /// Certificates that may sign a provider's, beside the roots of this machine: for proxies and simulators with a private authority.
    pub provider_roots: Vec<CertificateDer<'static>>,
    /// Longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Longest time from the first byte of a request to the last byte of its answer.
    pub answer_timeout: Duration,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// Status actors; each commits on its own. The embedded ledger has one writer: more than one only splits its commits.
    pub status_shards: usize,
    /// How long a status actor waits for company before it commits.
    pub commit_tick: Duration,
    /// The same while fewer than `commit_entries_enough` wait, counted from the beginning of the last commit: a commit of a few costs as
    /// much as one of many. After a quiet time nobody waits so long.
    pub commit_wait_max: Duration,
    /// With so many entries a commit waits no longer than `commit_tick`.
    pub commit_entries_enough: usize,
    /// Most entries in one commit of a status actor.
    pub commit_entries_max: usize,
    /// Most entries that may wait for a commit; beyond them webhooks are refused (503) and hand-out pauses.
    pub waiting_entries_max: usize,
    /// Messages that a campaign reads ahead.
    pub window_len: usize,
    /// An event that nobody can place becomes an orphan after this.
    pub park_for: Duration,
    /// Most events parked at once; beyond them a stranger's are dropped and counted.
    pub parked_max: u64,
    /// Most inbound messages and other webhook entries kept for later features; the oldest give way and are counted.
    pub inbound_max: u64,
    /// Most running campaigns with series of their own on the metrics page; the others are summed up there.
    pub campaign_series_max: usize,
    /// Pause between two campaigns that are counted anew for the drift gauge; zero: none are.
    pub drift_pause: Duration,
    /// Campaigns with more recipients are not counted anew for it: each count reads all of their messages.
    pub drift_recipients_max: u64,
    /// How long senders get to bring in their answers when the engine stops.
    pub drain_senders: Duration,
    /// How long outcomes get to reach the ledger after that.
    pub flush_statuses: Duration,
    /// Where the spans of sampled messages go; `None`: there are none.
    pub traces: Option<TraceConfig>,
    /// Where other nodes share the ledger.
    pub nodes: NodesConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            public_base_url: "http://127.0.0.1:7401".to_owned(),
            jitter_guard: Duration::from_millis(5),
            aim_allowance: Duration::from_millis(10),
            look_ahead: Duration::from_millis(25),
            breaker: BreakerConfig::default(),
            backoff: Backoff::default(),
            error_run_max: 20,
            panics_max: 5,
            provider_roots: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            status_shards: 1,
            commit_tick: Duration::from_millis(1),
            commit_wait_max: Duration::from_millis(8),
            commit_entries_enough: 64,
            commit_entries_max: 4_096,
            waiting_entries_max: 65_536,
            window_len: 1_024,
            park_for: Duration::from_secs(15 * 60),
            parked_max: 100_000,
            inbound_max: 100_000,
            campaign_series_max: 100,
            drift_pause: Duration::from_secs(30),
            drift_recipients_max: 1_000_000,
            drain_senders: Duration::from_secs(25),
            flush_statuses: Duration::from_secs(5),
            traces: None,
            nodes: NodesConfig::default(),
        }
    }
}
