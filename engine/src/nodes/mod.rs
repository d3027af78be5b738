//! Who works on which pool, where several nodes share one ledger.
//!
//! A node owns whole pools: their lines and their campaigns. Everything that must be decided in one place (ceilings, gates, joins)
//! is decided by the pool's owner; every other node asks it.
//!
//! `lease` is a node's own count of its term, `watch` what it knows of the others', `plan` decides who is to have what, `ownership` is the
//! ledger's part, `table` holds what is known and answers [`Directory`]; the `keeper` looks, decides, and moves pools into the engine
//! (and out of it by `giving`). `protocol` says which versions work together.

mod alone;
mod giving;
mod keeper;
mod lease;
mod ownership;
pub mod plan;
pub mod protocol;
mod skew;
mod table;
mod view;
mod watch;

use async_trait::async_trait;

pub(crate) use alone::Alone;
pub(crate) use keeper::Keeper;
pub use lease::Lease;
pub use ownership::{HandOver, NodeSeen, NotGiven, Ownership, Passed, PoolRef, PoolSeen, Snapshot, Taken, Told, Why};
pub(crate) use table::Table;
pub use view::{NodeView, NodesView, PoolState, PoolView};
pub use watch::Watch;

use std::sync::Arc;

use crate::domain::ids::{CampaignId, CampaignKey, LineId, PoolId, TenantId};
use crate::domain::line::Line;
use crate::store::StoreResult;

/// A node that other nodes can ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its name, unique in the installation.
    pub name: String,
    /// `host:port` of its internal service, as it advertises it.
    pub address: String,
    /// The epoch of its lease. A node that was away and came back is another.
    pub epoch: u64,
    /// What it understands, see [`protocol::PROTOCOL`].
    pub protocol: u32,
}

/// Where the work on something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// By this node.
    Here,
    /// By another.
    There(Peer),
    /// By nobody now: the owner died and nobody has taken over, or it is being handed over. Ask again soon.
    Nobody,
}

/// Who owns what, as this node knows it. An answer may be old by the time it is used: whoever is asked refuses what it does not own
/// (any more), and the asker looks again.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The owner of a pool, from memory. A pool that nobody ever had is the node's that is asked for it first.
    fn of_pool(&self, tenant: &TenantId, pool: &PoolId) -> Whereabouts;
    /// The owner of a campaign's pool.
    async fn of_campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Whereabouts>;
    /// The same by the key that correlation ids carry; for webhooks, so from memory once it was asked.
    async fn of_campaign_key(&self, key: CampaignKey) -> StoreResult<Whereabouts>;
    /// The owner of a line's pool.
    async fn of_line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Whereabouts>;
    /// The nodes that are alive, this one too.
    fn alive(&self) -> Vec<Peer>;
    /// The epoch of this node's term. Of a name no two processes ever have the same one, and the later one's is higher.
    fn epoch(&self) -> u64;
}

/// What is this engine's, as its actors ask.
#[async_trait]
pub(crate) trait Mine: Directory {
    /// The term in which a pool is this engine's; `None`: it is another's.
    fn lease_of(&self, pool: &PoolRef) -> Option<Arc<Lease>>;
    /// A line is new, or was changed: its pool has an owner afterwards, who hears of it.
    async fn line_changed(&self, line: &Line);
    /// Whether this engine decides about events that nobody could place.
    fn settles_orphans(&self) -> bool;
    /// For people; `None`: nobody shares the ledger.
    fn view(&self) -> Option<NodesView>;
}
