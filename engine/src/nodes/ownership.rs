//! The seam between who decides about pools (`keeper`, by `plan`) and where it is written down (a store that several nodes share).
//!
//! Every decision is made on one [`Snapshot`] and takes effect only if nothing moved since: ownership has one generation number, and
//! each change is a comparison with it. So two nodes never both succeed with what they decided apart from each other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Lease, Peer};
use crate::domain::ids::{CampaignKey, LineKey, MessageKey, PoolId, TenantId};
use crate::domain::message::Event;
use crate::domain::time::UnixMillis;
use crate::store::{StoreError, StoreResult};

/// A pool of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolRef {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub pool: PoolId,
}

impl PoolRef {
    /// The pool of this name.
    pub fn new(tenant: &TenantId, pool: &PoolId) -> Self {
        Self { tenant: tenant.clone(), pool: pool.clone() }
    }
}

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.pool)
    }
}

/// A node's row, as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// Of its lease. Rises with every term, also when somebody else ends one.
    pub epoch: u64,
    /// Rises with every renewal of a term.
    pub renewal: u64,
    /// `host:port` of its internal service.
    pub address: String,
    /// Of its program.
    pub version: String,
    /// What it understands, see [`super::protocol::PROTOCOL`].
    pub protocol: u32,
    /// It gives its pools away and takes none.
    pub draining: bool,
    /// Its term is over: it left, or somebody ended it.
    pub left: bool,
    /// Its wall clock at the last renewal.
    pub wall: UnixMillis,
    /// What it works on, see [`super::plan`].
    pub load: u64,
    /// How long its lease is, as it counts it; zero: it does not say.
    pub lease: Duration,
}

impl NodeSeen {
    /// The node of this row and name, to be asked.
    pub(crate) fn peer(&self, name: &str) -> Peer {
        Peer { name: name.to_owned(), address: self.address.clone(), epoch: self.epoch, protocol: self.protocol }
    }
}

/// Who has a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSeen {
    /// The node that has it, or had it last.
    pub node: String,
    /// The epoch of the term in which it took it. It is the owner as long as its row shows the same.
    pub epoch: u64,
    /// The node that it is about to go to, or was given away to.
    pub to: Option<String>,
    /// It was given away: nobody works on it until it is taken.
    pub given: bool,
    /// How the owner came to it.
    pub why: Why,
    /// When, by the owner's wall clock.
    pub since: UnixMillis,
}

/// How an owner came to a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nobody had it: the first to see it took it.
    First,
    /// The owner before died, or lost its lease.
    TakenOver,
    /// The owner before gave it away, draining or for balance.
    HandedOver,
}

impl Why {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::TakenOver => "taken_over",
            Self::HandedOver => "handed_over",
        }
    }
}

/// Everything about ownership at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Rises with every change of ownership, and when the lines of the installation change.
    pub generation: u64,
    /// All nodes that ever were, by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// All pools that were ever taken.
    pub pools: Arc<BTreeMap<PoolRef, PoolSeen>>,
}

impl Snapshot {
    /// The node that owns a pool, if its term goes on. It may be dead for all that anybody knows.
    pub fn owner_of(&self, pool: &PoolRef) -> Option<(&str, &NodeSeen)> {
        let seen = self.pools.get(pool).filter(|seen| !seen.given)?;
        let (name, node) = self.nodes.get_key_value(&seen.node)?;
        (node.epoch == seen.epoch && !node.left).then_some((name.as_str(), node))
    }

    /// Whether nobody owns a pool, for certain: it was given away, or its owner's term is over, which only a later epoch in the owner's row
    /// proves. An earlier one, or no row, was read before that owner came: its term may go on.
    pub fn is_free(&self, pool: &PoolRef) -> bool {
        let is_over = |seen: &PoolSeen| {
            self.nodes.get(&seen.node).is_some_and(|node| (node.epoch, node.left) > (seen.epoch, false))
        };
        self.pools.get(pool).is_some_and(|seen| seen.given || is_over(seen))
    }
}

/// An attempt that was in flight when its pool was given away, and whose outcome the giver still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Passed {
    /// The campaign.
    pub campaign: CampaignKey,
    /// The message.
    pub seq: u32,
    /// Its attempt.
    pub attempt: u16,
}

/// What goes along with a pool that is given away in good order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// By line: how long each of its last sends still counts in its window, counted from the moment at which it was given away, and
    /// what they cost together. Rounded up.
    pub ages: BTreeMap<u32, Vec<(u32, u32)>>,
    /// Attempts in flight, whose outcomes will be told.
    pub passed: Vec<Passed>,
}

/// Milliseconds to which the ages of sends are rounded up, so that a hand-over of thousands of sends stays small.
const AGE_STEP: u128 = 10;

impl HandOver {
    /// Adds a line's sends, as [`crate::domain::ceiling::Window::hand_over`] gives them.
    pub fn add(&mut self, line: LineKey, sends: &[(Duration, u32)]) {
        let mut ages: Vec<(u32, u32)> = Vec::new();
        for (rest, cost) in sends {
            let steps = rest.as_micros().div_ceil(AGE_STEP * 1_000) * AGE_STEP;
            let steps = u32::try_from(steps).unwrap_or(u32::MAX);
            match ages.last_mut() {
                Some((last, sum)) if *last == steps => *sum = sum.saturating_add(*cost),
                _ => ages.push((steps, *cost)),
            }
        }
        self.ages.insert(line.0, ages);
    }

    /// A line's sends; `None`: nothing is known of it, so that a window of silence is needed.
    pub fn sends(&self, line: LineKey) -> Option<Vec<(Duration, u32)>> {
        let ages = self.ages.get(&line.0)?;
        Some(ages.iter().map(|(rest, cost)| (Duration::from_millis(u64::from(*rest)), *cost)).collect())
    }
}

/// A pool that is this node's now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub pool: PoolRef,
    /// Of the ownership, as the change made it that gave the pool to this node: nobody else has one of this pool and generation.
    pub generation: u64,
    /// Who had it before and gave it away in good order, with what goes along; `None`: nobody knows what left last.
    pub handed: Option<(String, HandOver)>,
}

/// What is known of the outcome of an attempt that was given away in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The message.
    pub key: MessageKey,
    /// What became of its attempt.
    pub event: Event,
}

/// Why pools are not known to have been given away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    /// They are this node's as before: the ledger was not asked to let them go.
    #[error("they stay: {0}")]
    Stay(StoreError),
    /// They may or may not be gone, and nothing is written to them; the same again says so.
    #[error("it is not known whether they went: {0}")]
    Unknown(StoreError),
}

/// A ledger that several nodes share.
#[async_trait]
pub trait Ownership: Send + Sync + 'static {
    /// This node's name.
    fn name(&self) -> &str;

    /// How long a lease is.
    fn lease(&self) -> Duration;

    /// This node's term: its epoch and its lease. Another after [`Self::rejoin`].
    fn term(&self) -> (u64, Arc<Lease>);

    /// Reads who there is and who has what. Pools are read only when something moved since they were last read.
    async fn look(&self) -> StoreResult<Snapshot>;

    /// Ends a dead node's term, if its row still is what was seen. From then on it can renew and reserve nothing.
    async fn depose(&self, name: &str, seen: &NodeSeen) -> StoreResult<bool>;

    /// Takes pools, if nothing moved since the snapshot: then they are this node's, and whatever a former owner still writes to them
    /// loses against what this one writes from now on. `None`: something moved.
    async fn take(&self, seen: &Snapshot, pools: &[PoolRef]) -> StoreResult<Option<Vec<Taken>>>;

    /// A pool that the ledger says is this node's, though it never heard that it took it, is written to from now on.
    async fn recall(&self, pool: &PoolRef);

    /// Says where pools are about to go, so that the node there looks often. `false`: something moved.
    async fn announce(&self, seen: &Snapshot, pools: &[PoolRef], to: &str) -> StoreResult<bool>;

    /// Gives pools away whose gates are shut. Waits until everything of them is written, notes what is in flight (in
    /// [`HandOver::passed`] of what is given along), then lets them go, and refuses whatever comes later.
    async fn give(&self, pools: Vec<(PoolRef, HandOver)>, to: &str) -> Result<(), NotGiven>;

    /// Outcomes of attempts that were in flight when this pool was given away to this node.
    async fn told(&self, pool: &PoolRef) -> StoreResult<Vec<Told>>;

    /// Tells the other nodes that lines are new, or moved to another pool.
    async fn lines_changed(&self) -> StoreResult<()>;

    /// What the next renewal publishes of this node.
    fn publish(&self, load: u64, draining: bool);

    /// Renews now, so that others see at once what was published.
    async fn announce_myself(&self) -> StoreResult<()>;

    /// Whether this node's term was ended by somebody else. Nothing is this node's any more.
    fn is_lost(&self) -> bool;

    /// Begins another term after this one was lost. Only when nothing of it is left in memory.
    async fn rejoin(&self) -> StoreResult<()>;

    /// Renewals that failed since the start.
    fn renewals_failed(&self) -> u64;
}
