//! Any node takes anything: where several nodes share one ledger, what belongs to another's pool is sent on to it.
//!
//! ```text
//! caller ──► public listener ── OwnerLayer ──► this node's services          the owner is here
//!                                   └──► Peers ══► another's inside listener ── InsideLayer ──► the same services there
//!
//! provider ──► webhook listener ── EventRouter ──► this node's engine
//!                                       └──► Outbox ══► another's inside listener ──► its engine
//! ```
//!
//! A call is sent on as it came, as bytes: which one goes where stands in one table (`routes`), not in forty handlers. The inside
//! listener serves the same services behind the node secret (`proof`), each call once (`once`), reads a newer node's strictly (`newer`),
//! checks that what is asked for is its own, and never sends on: a call makes one hop. A node alone has none of this: no layer looks at its calls, and its events go straight to the engine.

mod deadline;
pub mod events;
mod forward;
mod frame;
mod front;
mod inside;
mod newer;
mod once;
mod peers;
pub mod proof;
mod routes;
#[cfg(test)]
mod tests;
mod typed;

use std::sync::Arc;
use std::time::Duration;

use sluice_engine::control;
use sluice_engine::domain::ids::{CampaignId, PoolId, TenantId};
use sluice_engine::nodes::{Directory, Peer, Whereabouts};
use sluice_engine::store::{StoreError, StoreResult};
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::transport::ClientTlsConfig;

use crate::grpc::CallTimes;
pub(crate) use front::OwnerLayer;
pub(crate) use inside::{InsideLayer, NodeServer};
use once::Once;
use peers::Peers;
use proof::NodeSecret;
use routes::Subject;

/// How much of one stream, and of all on one connection, may be on its way unread, bytes. Everything between two nodes shares one
/// connection: as many streams as may stand still at once together stay below what the connection holds.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// See [`STREAM_WINDOW`].
pub(crate) const CONNECTION_WINDOW: u32 = 256 * 1024 * 1024;

/// How often an open stream looks whether its campaign is still this node's.
const LOOK_FOR_LOSS: Duration = Duration::from_secs(1);

/// What a node needs to send on what is not its own.
pub struct Parts {
    /// This node's name.
    pub name: String,
    /// What it understands of others: [`sluice_engine::nodes::protocol::PROTOCOL`].
    pub protocol: u32,
    /// Who owns what.
    pub directory: Arc<dyn Directory>,
    /// The installation's node secret.
    pub secret: NodeSecret,
    /// How other nodes are spoken to; `None`: plain.
    pub tls: Option<ClientTlsConfig>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds of what is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message that is read, bytes.
    pub message_bytes_max: usize,
    /// Longest that calls with one answer may take, whatever their callers say.
    pub call_times: CallTimes,
    /// Longest silence of a caller that streams.
    pub idle: Duration,
    /// Streams that are sent on at a time.
    pub streams_max: usize,
}

/// The time that a caller gives for its call; `None`: it does not say.
pub(crate) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    deadline::of(metadata.as_ref())
}

/// One node's view of the others.
pub struct Nodes {
    directory: Arc<dyn Directory>,
    peers: Peers,
    /// What others asked of this node.
    once: Once,
    limits: Limits,
    streams: Arc<Semaphore>,
    calls: forward::Outcomes,
}

impl Nodes {
    /// A node among others.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { name, protocol, directory, secret, tls, limits } = parts;
        Arc::new(Self {
            peers: Peers::new(name, protocol, Arc::clone(&directory), secret, tls),
            directory,
            once: Once::default(),
            limits,
            streams: Arc::new(Semaphore::new(limits.streams_max)),
            calls: forward::Outcomes::new(),
        })
    }

    /// Where a subject's owner is. What the ledger does not know is answered here, by whoever says so to the caller.
    async fn whereabouts(&self, tenant: &TenantId, subject: &Subject) -> StoreResult<Whereabouts> {
        let found = match subject {
            Subject::Campaign(id) => self.directory.of_campaign(tenant, id).await,
            Subject::Line(id) => self.directory.of_line(tenant, id).await,
            Subject::Pool(id) => Ok(self.directory.of_pool(tenant, id)),
        };
        match found {
            Err(StoreError::NotFound(_)) => Ok(Whereabouts::Here),
            found => found,
        }
    }

    /// Longest that the call with this path may take.
    pub(crate) fn call_time(&self, path: &str) -> Duration {
        self.limits.call_times.of(path)
    }

    /// Refuses to move a campaign into a pool of another node: its owner works on what is stored of the campaign, and would not know
    /// that it is no longer its own.
    pub(crate) fn may_move_to(&self, tenant: &TenantId, campaign: &str, pool: &str) -> control::Result<()> {
        let Ok(id) = PoolId::new(pool) else { return Ok(()) };
        if self.directory.of_pool(tenant, &id) == Whereabouts::Here {
            return Ok(());
        }
        Err(control::Error::Precondition {
            kind: "POOL_ELSEWHERE",
            subject: format!("campaign/{campaign}"),
            problem: format!(
                "pool {pool:?} is worked on by another node than the campaign's: create the campaign anew in that pool"
            ),
        })
    }

    /// Ends when the campaign is another node's.
    pub(crate) async fn lost(self: Arc<Self>, tenant: TenantId, campaign: String) {
        let Ok(id) = CampaignId::new(&campaign) else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_FOR_LOSS).await;
            if let Ok(Whereabouts::There(_)) = self.directory.of_campaign(&tenant, &id).await {
                return;
            }
        }
    }

    fn alive(&self) -> Vec<Peer> {
        self.directory.alive()
    }
}
