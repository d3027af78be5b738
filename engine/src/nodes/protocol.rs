//! Which nodes understand each other: one number, and when it is raised.

/// The number of what this program's nodes say to each other: in calls, and in what one writes into the ledger for another (rows of
/// nodes and pools, what goes along with a pool). It stands in every node's row and in every call between nodes.
///
/// Raise it by one, once between two releases, with the first change that an older node would have to heed and cannot: a new field, value or
/// call in `sluice.v1` or `sluice.internal.v1`, a new header of calls between nodes or another form of their proof, a new field of those
/// rows. Not for what an older node may overlook.
///
/// Nodes whose numbers differ by one work together, so that an installation is upgraded one node after the other. The newer one says
/// to the older what that one understands ([`super::Peer::protocol`] tells it which that is); the older one refuses what it cannot
/// read whole instead of dropping it. Nodes that are further apart refuse each other.
pub const PROTOCOL: u32 = 1;

/// That of a row or a call that names none.
pub const FIRST: u32 = 1;

/// Whether nodes with these numbers work together.
#[must_use]
pub const fn work_together(one: u32, other: u32) -> bool {
    one.abs_diff(other) <= 1
}
