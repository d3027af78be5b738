//! Who works on the keyspace: one engine by itself, or nodes that share it.
//!
//! The row `installation / owner` holds epoch, the end of the reserved timestamps (which every renewal moves) and the holder. No
//! clocks are compared: the holder counts its lease from before it asked; a taker watches a full lease of its own without seeing
//! the row move, and takes it only if it still is what it saw. Nodes that share the keyspace write [`NODES`] there and have rows of
//! their own (`node`). Whoever wants it for itself writes the row first and looks for nodes then; a node writes its own row first and
//! looks at this one then: whichever comes later sees the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::cql::Cql;
use super::{OpenError, node};
use crate::store::{StoreError, StoreResult};

/// How far ahead timestamps are reserved, microseconds. More than any lease, so that a renewal is never waited for.
const RESERVED: i64 = 120_000_000;

/// Farthest that a base may lie ahead of our clock: ScyllaDB refuses timestamps three days ahead.
pub(super) const AHEAD_MAX: i64 = 86_400_000_000;

/// `(slot, version, number, body)` of a record.
pub(super) type RecordRow = (String, Option<i64>, Option<i64>, Option<String>);

const HOME: &str = "installation";
const SLOT: &str = "owner";

/// Stands in the place of a holder where nodes share the keyspace.
const NODES: &str = "nodes";

/// What the row says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    epoch: i64,
    ceiling: i64,
    /// Empty: nobody.
    holder: String,
}

/// This process as the owner.
#[derive(Debug)]
pub(super) struct Owner {
    holder: String,
    lease: Duration,
}

async fn look(cql: &Cql) -> StoreResult<Option<Seen>> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (HOME, SLOT)).await?;
    Ok(row.map(|(_, epoch, ceiling, holder)| Seen {
        epoch: epoch.unwrap_or_default(),
        ceiling: ceiling.unwrap_or_default(),
        holder: holder.unwrap_or_default(),
    }))
}

/// Puts `next` in the place of `seen`; false: it is not what was seen any more.
async fn put(cql: &Cql, seen: Option<&Seen>, next: &Seen) -> StoreResult<bool> {
    let settled = || async {
        let now = look(cql).await?;
        Ok(if now.as_ref() == Some(next) {
            Some(true)
        } else if now.as_ref() == seen {
            None
        } else {
            Some(false)
        })
    };
    match seen {
        None => {
            let values = (HOME, SLOT, next.epoch, next.ceiling, next.holder.as_str());
            cql.decide(&cql.st.claim, values, settled).await
        }
        Some(seen) => {
            let values = (next.epoch, next.ceiling, next.holder.as_str(), HOME, SLOT, seen.epoch, seen.ceiling);
            cql.decide(&cql.st.renew, values, settled).await
        }
    }
}

/// Waits until nobody has the keyspace for itself: at once when the last owner let it go, or nodes share it.
async fn let_go(cql: &Cql, lease: Duration) -> Result<Option<Seen>, OpenError> {
    let mut seen = look(cql).await?;
    let Some(before) = seen.clone().filter(|seen| !seen.holder.is_empty() && seen.holder != NODES) else {
        return Ok(seen);
    };
    tracing::info!(
        holder = before.holder,
        "the last owner of the keyspace did not let it go: waiting for its lease to end"
    );
    let begun = cql.clock.mono();
    while cql.clock.mono().since(begun) < lease {
        tokio::time::sleep(lease / 8).await;
        seen = look(cql).await?;
        if seen.as_ref().is_none_or(|seen| *seen != before && !seen.holder.is_empty()) {
            return Err(OpenError::InUse { holder: before.holder });
        }
    }
    Ok(seen)
}

/// The rows of nodes that have all left, or whose leases are over.
async fn nodes_gone(cql: &Cql, lease: Duration) -> Result<Vec<node::Row>, OpenError> {
    let rows = node::all(cql).await?;
    let lease = lease.max(node::longest_lease(&rows));
    let begun = cql.clock.mono();
    while node::any_alive(&rows) && cql.clock.mono().since(begun) < lease + lease / 64 {
        tokio::time::sleep(lease / 8).await;
        if node::all(cql).await? != rows {
            return Err(OpenError::InUse { holder: "nodes that share it".to_owned() });
        }
    }
    Ok(rows)
}

/// Shares the keyspace with other nodes. Returns the era, which changes whenever somebody had it for itself in between, and above what
/// the timestamps begin.
pub(super) async fn share(cql: &Cql, lease: Duration) -> Result<(i64, i64), OpenError> {
    let seen = let_go(cql, lease).await?;
    if let Some(seen) = seen.as_ref().filter(|seen| seen.holder == NODES) {
        return Ok((seen.epoch, seen.ceiling));
    }
    let now = cql.now_to_reserve().await?;
    let (epoch, ceiling) = seen.as_ref().map_or((1, now), |seen| (seen.epoch + 1, seen.ceiling));
    let next = Seen { epoch, ceiling, holder: NODES.to_owned() };
    if put(cql, seen.as_ref(), &next).await? {
        return Ok((epoch, ceiling));
    }
    still_shared(cql).await
}

/// The same, if nodes share the keyspace now.
pub(super) async fn still_shared(cql: &Cql) -> Result<(i64, i64), OpenError> {
    match look(cql).await? {
        Some(seen) if seen.holder == NODES => Ok((seen.epoch, seen.ceiling)),
        seen => Err(OpenError::InUse { holder: seen.map_or_else(String::new, |seen| seen.holder) }),
    }
}

impl Owner {
    /// Takes the keyspace. At once when the last owner let it go; after a lease's time when it did not, for it may still live.
    pub(super) async fn take(cql: &Cql, holder: String, lease: Duration) -> Result<Self, OpenError> {
        let seen = let_go(cql, lease).await?;
        let nodes = if seen.as_ref().is_some_and(|seen| seen.holder == NODES) {
            Some(nodes_gone(cql, lease).await?)
        } else {
            None
        };
        let end_of_nodes = nodes.iter().flatten().map(|row| row.body.end).max().unwrap_or_default();
        let now = cql.now_to_reserve().await?;
        let base = seen.as_ref().map_or(now, |seen| now.max(seen.ceiling)).max(end_of_nodes);
        if base > now.saturating_add(AHEAD_MAX) {
            return Err(OpenError::behind_the_ledger());
        }
        let asked = cql.clock.lease();
        let epoch = seen.as_ref().map_or(0, |seen| seen.epoch) + 1;
        let next = Seen { epoch, ceiling: base.saturating_add(RESERVED), holder };
        if !put(cql, seen.as_ref(), &next).await.map_err(OpenError::from)? {
            return Err(OpenError::InUse { holder: "one that came at the same moment".to_owned() });
        }
        if let Some(nodes) = nodes
            && !node::depose_all(cql, &nodes).await?
        {
            put(cql, Some(&next), &Seen { holder: NODES.to_owned(), ..next.clone() }).await?;
            return Err(OpenError::InUse { holder: "a node that came at the same moment".to_owned() });
        }
        cql.stamps.begin(epoch.unsigned_abs(), base, next.ceiling, (asked, lease));
        Ok(Self { holder: next.holder, lease })
    }

    /// Renews until the store is closed or the keyspace is lost.
    pub(super) async fn keep(self, cql: Arc<Cql>) {
        while !cql.is_closed.load(Relaxed) {
            tokio::time::sleep(self.lease / 4).await;
            match self.renew(&cql).await {
                Ok(true) => {}
                Ok(false) => {
                    cql.stamps.forbid();
                    tracing::error!(
                        "another engine has taken the keyspace over: nothing is written any more; stop this one"
                    );
                    return;
                }
                // The lease ends by itself if this goes on; every write says so then.
                Err(error) => tracing::warn!(%error, "the lease of the keyspace could not be renewed"),
            }
        }
    }

    async fn renew(&self, cql: &Cql) -> StoreResult<bool> {
        let now = cql.now_to_go_on().await;
        let asked = cql.clock.lease();
        let Some(seen) = look(cql).await? else { return Ok(false) };
        if seen.holder != self.holder || seen.epoch.unsigned_abs() != cql.stamps.epoch() {
            return Ok(false);
        }
        let ceiling = now.max(cql.stamps.last()).max(seen.ceiling - RESERVED + 1).saturating_add(RESERVED);
        let next = Seen { ceiling, ..seen.clone() };
        let kept = put(cql, Some(&seen), &next).await?;
        if kept {
            cql.stamps.extend(ceiling, (asked, self.lease));
        }
        Ok(kept)
    }

    /// Lets the keyspace go, so that the next owner need not wait. Everything of this one must have been written.
    pub(super) async fn release(cql: &Cql) -> StoreResult<()> {
        let Some(seen) = look(cql).await? else { return Ok(()) };
        if seen.epoch.unsigned_abs() == cql.stamps.epoch() {
            cql.stamps.forbid();
            put(cql, Some(&seen), &Seen { holder: String::new(), ..seen.clone() }).await?;
        }
        Ok(())
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => Self::Away { reason },
            other => Self::Refused { reason: other.to_string() },
        }
    }
}
