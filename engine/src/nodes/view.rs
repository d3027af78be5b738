//! Who has what and why, for people.

use std::time::Duration;

use super::PoolRef;
use super::ownership::Why;
use crate::domain::time::UnixMillis;

/// All nodes and pools, as one of the nodes knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodesView {
    /// The node that was asked.
    pub me: String,
    /// When it looked last, by its wall clock.
    pub as_of: UnixMillis,
    /// Rises with every change of ownership.
    pub generation: u64,
    /// All nodes that ever were, by name.
    pub nodes: Vec<NodeView>,
    /// All pools that were ever taken, by tenant and name.
    pub pools: Vec<PoolView>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// `host:port` of its internal service.
    pub address: String,
    /// Of its program.
    pub version: String,
    /// What it understands of other nodes, see [`super::protocol::PROTOCOL`].
    pub protocol: u32,
    /// Of its lease.
    pub epoch: u64,
    /// Its term goes on, as far as is known.
    pub alive: bool,
    /// It gives its pools away.
    pub draining: bool,
    /// What it works on: one for each pool, and the ceilings of the lines that running campaigns use.
    pub load: u64,
    /// How many pools it owns.
    pub pools: u64,
    /// How far its wall clock is ahead of the asked node's, milliseconds; too low by what its row took to be seen. `None`: itself, or not
    /// known.
    pub skew_ms: Option<i64>,
    /// The asked node: how long its lease still is. Another: how long its row has stood still.
    pub lease: Duration,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// Which.
    pub pool: PoolRef,
    /// Who has it, or had it last.
    pub node: String,
    /// How that one came to it.
    pub why: Why,
    /// When, by its wall clock.
    pub since: UnixMillis,
    /// Where it stands.
    pub state: PoolState,
    /// The node that it goes to.
    pub to: Option<String>,
}

/// Where a pool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolState {
    /// Its owner works on it.
    Owned,
    /// Its owner has taken it and is reading what belongs to it. Told by the owner alone.
    Arriving,
    /// It was given away and is about to be taken.
    Given,
    /// Its owner is gone.
    Orphaned,
}

impl PoolState {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owned => "owned",
            Self::Arriving => "arriving",
            Self::Given => "given",
            Self::Orphaned => "orphaned",
        }
    }
}
