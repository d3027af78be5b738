//! Who works on the keyspace: one engine at a time, by a lease that the server decides about.
//!
//! The row `installation / owner` holds epoch, the end of the reserved timestamps (which every renewal moves) and the holder. No
//! clocks are compared: the holder counts its lease from before it asked; a taker watches a full lease of its own without seeing
//! the row move, and takes it only if it still is what it saw.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::OpenError;
use super::cql::Cql;
use crate::store::{StoreError, StoreResult};

/// How far ahead timestamps are reserved, microseconds. More than any lease, so that a renewal is never waited for.
const RESERVED: i64 = 120_000_000;

/// Farthest that a base may lie ahead of our clock: ScyllaDB refuses timestamps three days ahead.
const AHEAD_MAX: i64 = 86_400_000_000;

/// `(slot, version, number, body)` of a record.
pub(super) type RecordRow = (String, Option<i64>, Option<i64>, Option<String>);

const HOME: &str = "installation";
const SLOT: &str = "owner";

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

impl Owner {
    /// Takes the keyspace. At once when the last owner let it go; after a lease's time when it did not, for it may still live.
    pub(super) async fn take(cql: &Cql, holder: String, lease: Duration) -> Result<Self, OpenError> {
        let mut seen = look(cql).await.map_err(OpenError::from)?;
        if let Some(before) = seen.clone().filter(|seen| !seen.holder.is_empty()) {
            tracing::info!(
                holder = before.holder,
                "the last owner of the keyspace did not let it go: waiting for its lease to end"
            );
            let begun = cql.clock.mono();
            while cql.clock.mono().since(begun) < lease {
                tokio::time::sleep(lease / 8).await;
                seen = look(cql).await.map_err(OpenError::from)?;
                if seen.as_ref().is_none_or(|seen| *seen != before && !seen.holder.is_empty()) {
                    return Err(OpenError::InUse { holder: before.holder });
                }
            }
        }
        let now = cql.stamps.now();
        let base = seen.as_ref().map_or(now, |seen| now.max(seen.ceiling));
        if base > now.saturating_add(AHEAD_MAX) {
            return Err(OpenError::Clock);
        }
        let asked = cql.clock.mono();
        let epoch = seen.as_ref().map_or(0, |seen| seen.epoch) + 1;
        let next = Seen { epoch, ceiling: base.saturating_add(RESERVED), holder };
        if !put(cql, seen.as_ref(), &next).await.map_err(OpenError::from)? {
            return Err(OpenError::InUse { holder: "one that came at the same moment".to_owned() });
        }
        cql.stamps.allow(epoch.unsigned_abs(), base, next.ceiling, asked + lease);
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
        let asked = cql.clock.mono();
        let Some(seen) = look(cql).await? else { return Ok(false) };
        if seen.holder != self.holder || seen.epoch.unsigned_abs() != cql.stamps.epoch() {
            return Ok(false);
        }
        let ceiling = cql.stamps.now().max(cql.stamps.last()).max(seen.ceiling - RESERVED + 1).saturating_add(RESERVED);
        let next = Seen { ceiling, ..seen.clone() };
        let kept = put(cql, Some(&seen), &next).await?;
        if kept {
            cql.stamps.allow(cql.stamps.epoch(), 0, ceiling, asked + self.lease);
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
