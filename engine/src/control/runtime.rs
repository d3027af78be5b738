//! What the façade asks of the running actors. The supervisor's handle implements it; tests of the façade use a small fake.

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::line::Line;
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::nodes::NodesView;
use crate::store::{Entry, EntryResult, StoreResult};

/// What keeps a campaign from sending faster right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Binding {
    /// It is not running.
    #[default]
    NotRunning,
    /// The ceilings of its lines (or what other campaigns leave of them).
    LineCeiling,
    /// Its own rate.
    CampaignRate,
    /// Its in-flight maximum.
    Workers,
    /// The in-flight maximum of its lines: the provider answers slowly.
    LineInFlight,
    /// A provider told a line to slow down.
    Slowed,
    /// All its lines are held, or probing after an outage.
    LinesUnavailable,
    /// The ledger: commits lag.
    Ledger,
    /// Nothing to send now: messages wait for their next attempt.
    WaitingForRetry,
    /// Nothing left to send.
    Drained,
}

impl Binding {
    /// The name as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRunning => "not_running",
            Self::LineCeiling => "line_ceiling",
            Self::CampaignRate => "campaign_rate",
            Self::Workers => "workers",
            Self::LineInFlight => "line_in_flight",
            Self::Slowed => "slowed",
            Self::LinesUnavailable => "lines_unavailable",
            Self::Ledger => "ledger",
            Self::WaitingForRetry => "waiting_for_retry",
            Self::Drained => "drained",
        }
    }
}

/// How a running campaign does. Published at most every 50 ms and at every change of state.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// The tally, as of `as_of`.
    pub tally: Tally,
    /// When the tally stood so.
    pub as_of: UnixMillis,
    /// Messages accepted per second over the last seconds.
    pub rate_now: f64,
    /// Messages accepted per second since it first ran.
    pub rate_average: f64,
    /// What binds now.
    pub binding: Binding,
    /// The record's version last seen by the actor; a change of it means: read the record again.
    pub version: u64,
}

/// How a line does right now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LineStatus {
    /// What it may send now, per second: the ceiling, less after a provider's slow-down; 0 when it is held or stopped by its breaker.
    pub allowed: f64,
    /// What it sent in the last second.
    pub used: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Slowed by the provider.
    pub slowed: bool,
    /// Stopped by its breaker; probes.
    pub probing: bool,
}

/// Keeps a campaign's gate shut until it is dropped.
pub type Shut = Box<dyn Send>;

/// The running actors, as the façade sees them.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Commits entries through the status actors, which publish the tallies. Durable when it returns `Ok`; one result per
    /// entry, in order.
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>>;

    /// Shuts the campaign's gate at once: from now on nothing of it passes to a provider but what already passed, whatever else is
    /// written meanwhile. Called before a pause or cancel is written; dropped, when that is done and told, or was not done.
    fn shut_gate(&self, campaign: CampaignKey) -> Shut;

    /// Messages of the campaign that are in flight now: a durable intent and no durable outcome.
    fn in_flight(&self, campaign: CampaignKey) -> u64;

    /// The campaign's record was written (state, settings): its actor is started, told or stopped, its gate opened or shut
    /// accordingly. Returns when that has taken effect.
    async fn campaign_changed(&self, campaign: &Campaign);

    /// The campaign's record was removed.
    async fn campaign_removed(&self, campaign: CampaignKey);

    /// The line's record was written, or the line is new.
    async fn line_changed(&self, line: &Line);

    /// How a line does.
    fn line_status(&self, line: LineKey) -> LineStatus;

    /// The campaign's progress as it moves; `None` when it is neither running nor unsettled (its counts in the store stand still).
    fn progress(&self, campaign: CampaignKey) -> Option<watch::Receiver<Progress>>;

    /// Whether new campaigns and imports are refused because the engine shuts down.
    fn is_draining(&self) -> bool;

    /// The nodes that share the ledger, and who has what; `None`: this engine has it for itself.
    fn nodes(&self) -> Option<NodesView> {
        None
    }
}
