//! This process as one of several nodes: its row, its term, its renewals.
//!
//! The row `nodes / <name>` holds the epoch (which rises with every term), the number of the last renewal, and beside the address and
//! the like the end of the reserved timestamps. Every change compares epoch and renewal. So whoever ends a term by raising the epoch
//! ends all that the node could still reserve; the end that the row shows from then on stands above all that it ever wrote.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::OpenError;
use super::config::NodeConfig;
use super::cql::Cql;
use super::owner::{self, RecordRow};
use crate::domain::time::UnixMillis;
use crate::nodes::{NodeSeen, Watch, protocol};
use crate::store::text::{from_json, to_json};
use crate::store::{StoreError, StoreResult};

/// Home of the nodes' rows.
pub(super) const HOME: &str = "nodes";

/// How far ahead timestamps are reserved at least, microseconds, and as how many leases: a renewal is never waited for, and a clock that
/// is set forward by seconds stays within it.
const RESERVED_MIN: i64 = 20_000_000;
const RESERVED_LEASES: u32 = 4;

/// What stands in a row beside epoch and renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    /// Of the process, chosen by chance: whether an outcome that nobody knows was ours.
    instance: String,
    address: String,
    version: String,
    #[serde(default = "first")]
    protocol: u32,
    /// The first timestamp that is not reserved, microseconds.
    pub(super) end: i64,
    draining: bool,
    left: bool,
    wall: UnixMillis,
    load: u64,
    /// How long the node counts its lease, milliseconds: whoever ends its term waits at least as long, whatever is set there.
    #[serde(default)]
    lease_ms: u64,
}

impl Body {
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

/// Of a row that an earlier program wrote.
const fn first() -> u32 {
    protocol::FIRST
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) epoch: i64,
    renewal: i64,
    pub(super) body: Body,
}

impl Row {
    fn read((name, epoch, renewal, body): RecordRow) -> StoreResult<Self> {
        let body = from_json(&body.unwrap_or_default())?;
        Ok(Self { name, epoch: epoch.unwrap_or_default(), renewal: renewal.unwrap_or_default(), body })
    }

    /// As others see it.
    pub(super) fn seen(&self) -> NodeSeen {
        NodeSeen {
            epoch: self.epoch.unsigned_abs(),
            renewal: self.renewal.unsigned_abs(),
            address: self.body.address.clone(),
            version: self.body.version.clone(),
            protocol: self.body.protocol,
            draining: self.body.draining,
            left: self.body.left,
            wall: self.body.wall,
            load: self.body.load,
            lease: self.body.lease(),
        }
    }

    /// The same with its term ended: nobody can renew it, and nobody waits for it.
    fn ended(&self) -> Self {
        let body = Body { left: true, load: 0, ..self.body.clone() };
        Self { epoch: self.epoch + 1, renewal: 0, body, name: self.name.clone() }
    }
}

/// All rows.
pub(super) async fn all(cql: &Cql) -> StoreResult<Vec<Row>> {
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (HOME,)).await?;
    rows.into_iter().map(Row::read).collect()
}

/// A row as the server's decisions left it.
async fn look(cql: &Cql, name: &str) -> StoreResult<Option<Row>> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (HOME, name)).await?;
    row.map(Row::read).transpose()
}

/// Puts `next` in the place of `seen`; false: it is not what was seen any more.
async fn put(cql: &Cql, seen: Option<&Row>, next: &Row) -> StoreResult<bool> {
    let settled = || async {
        let now = look(cql, &next.name).await?;
        Ok(if now.as_ref() == Some(next) {
            Some(true)
        } else if now.as_ref() == seen {
            None
        } else {
            Some(false)
        })
    };
    let body = to_json(&next.body)?;
    match seen {
        None => {
            let values = (HOME, next.name.as_str(), next.epoch, next.renewal, body.as_str());
            cql.decide(&cql.st.claim, values, settled).await
        }
        Some(seen) => {
            let next = (next.epoch, next.renewal, body.as_str(), HOME, next.name.as_str(), seen.epoch, seen.renewal);
            cql.decide(&cql.st.renew, next, settled).await
        }
    }
}

/// Ends a node's term if its row still shows this epoch and renewal.
pub(super) async fn depose(cql: &Cql, name: &str, seen: &NodeSeen) -> StoreResult<bool> {
    let Some(row) = look(cql, name).await? else { return Ok(false) };
    if row.seen().epoch != seen.epoch || row.renewal.unsigned_abs() != seen.renewal || row.body.left {
        return Ok(false);
    }
    put(cql, Some(&row), &row.ended()).await
}

/// Ends the terms of all nodes, for one that wants the keyspace for itself; false: one of them moved meanwhile.
pub(super) async fn depose_all(cql: &Cql, seen: &[Row]) -> StoreResult<bool> {
    if all(cql).await? != seen {
        return Ok(false);
    }
    for row in seen.iter().filter(|row| !row.body.left) {
        if !put(cql, Some(row), &row.ended()).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The longest lease of a node whose term goes on.
pub(super) fn longest_lease(rows: &[Row]) -> Duration {
    rows.iter().filter(|row| !row.body.left).map(|row| row.body.lease()).max().unwrap_or_default()
}

/// Whether any node's term goes on.
pub(super) fn any_alive(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.body.left)
}

/// This node.
#[derive(Debug)]
pub(super) struct Node {
    config: NodeConfig,
    lease: Duration,
    instance: String,
    /// Epoch and renewal of the row as we wrote it last; one renewal at a time.
    at: Mutex<(i64, i64)>,
    load: AtomicU64,
    draining: AtomicBool,
    failed: AtomicU64,
    /// Tests: the node renews nothing, as if the server did not reach it.
    #[cfg(test)]
    pub(super) is_cut_off: AtomicBool,
}

impl Node {
    pub(super) fn new(config: NodeConfig, lease: Duration) -> Self {
        Self {
            config,
            lease,
            instance: format!("{:016x}", rand::rng().random::<u64>()),
            at: Mutex::default(),
            load: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            #[cfg(test)]
            is_cut_off: AtomicBool::new(false),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    pub(super) fn publish(&self, load: u64, draining: bool) {
        self.load.store(load, Relaxed);
        self.draining.store(draining, Release);
    }

    pub(super) fn renewals_failed(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    fn row(&self, cql: &Cql, epoch: i64, renewal: i64, end: i64) -> Row {
        let body = Body {
            instance: self.instance.clone(),
            address: self.config.address.clone(),
            version: self.config.version.clone(),
            protocol: self.config.protocol,
            end,
            draining: self.draining.load(Acquire),
            left: false,
            wall: cql.clock.wall(),
            load: self.load.load(Relaxed),
            lease_ms: u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX),
        };
        Row { name: self.config.name.clone(), epoch, renewal, body }
    }

    fn reserved(&self) -> i64 {
        let leases = i64::try_from((self.lease * RESERVED_LEASES).as_micros()).unwrap_or(i64::MAX);
        leases.max(RESERVED_MIN)
    }

    /// Refuses to work beside living nodes that this one would not understand. A row that stands still for a lease is a dead node's.
    pub(super) async fn expect_to_be_understood(&self, cql: &Cql) -> Result<(), OpenError> {
        let own = self.config.protocol;
        let apart = |row: &Row| {
            !row.body.left && row.name != self.config.name && !protocol::work_together(own, row.body.protocol)
        };
        let mut still: Option<Vec<Row>> = None;
        let begun = cql.clock.mono();
        loop {
            let now: Vec<Row> = all(cql).await?.into_iter().filter(apart).collect();
            if let Some(row) = still.as_ref().and_then(|still| now.iter().find(|row| !still.contains(row))) {
                let (name, address, theirs) = (row.name.clone(), row.body.address.clone(), row.body.protocol);
                return Err(OpenError::NodesApart { name, address, theirs, own });
            }
            if now.is_empty() || cql.clock.mono().since(begun) >= self.lease + self.lease / 64 {
                return Ok(());
            }
            still = Some(now);
            tokio::time::sleep(self.lease / 8).await;
        }
    }

    /// Begins a term. At once where the last one ended; after a lease's time where it did not, for its holder may still live.
    pub(super) async fn join(&self, cql: &Cql, floor: i64) -> Result<(), OpenError> {
        let mut at = self.at.lock().await;
        let mut seen = look(cql, self.name()).await?;
        if seen.as_ref().is_some_and(|row| !row.body.left) {
            tracing::info!(node = self.name(), "a node of this name did not leave: waiting for its lease to end");
            let (mut watch, mut over) = (Watch::new(self.lease), false);
            while let Some(row) = seen.clone().filter(|row| !row.body.left && !over) {
                let (now, rows) = (cql.clock.mono(), [(row.name.clone(), row.seen())].into());
                watch.look(&rows, now);
                over = watch.is_over(self.name(), now);
                tokio::time::sleep(if over { Duration::ZERO } else { self.lease / 8 }).await;
                seen = look(cql, self.name()).await?;
                if seen.as_ref().is_some_and(|now| now.epoch != row.epoch || now.renewal != row.renewal)
                    && seen.as_ref().is_some_and(|now| !now.body.left)
                {
                    return Err(OpenError::NodeInUse { name: self.name().to_owned(), address: row.body.address });
                }
            }
        }
        let now = cql.now_to_reserve().await?;
        let base = seen.as_ref().map_or(now, |row| now.max(row.body.end)).max(floor).max(cql.stamps.last() + 1);
        if base > now.saturating_add(owner::AHEAD_MAX) {
            return Err(OpenError::behind_the_ledger());
        }
        let asked = cql.clock.lease();
        let (epoch, end) = (seen.as_ref().map_or(0, |row| row.epoch) + 1, base.saturating_add(self.reserved()));
        if !put(cql, seen.as_ref(), &self.row(cql, epoch, 1, end)).await? {
            let address = "one that came at the same moment".to_owned();
            return Err(OpenError::NodeInUse { name: self.name().to_owned(), address });
        }
        *at = (epoch, 1);
        cql.stamps.begin_as(Some(self.name()), epoch.unsigned_abs(), base, end, (asked, self.lease));
        Ok(())
    }

    /// Renews until the store is closed.
    pub(super) async fn keep(self: Arc<Self>, cql: Arc<Cql>) {
        let mut pause = self.lease / 4;
        while !cql.is_closed.load(Relaxed) {
            tokio::time::sleep(pause).await;
            pause = self.lease / 4;
            if cql.stamps.are_forbidden() || cql.is_closed.load(Relaxed) {
                continue;
            }
            // Not longer than until the next one would be due twice: what is cut off is found by it.
            let renewed = tokio::time::timeout(self.lease / 2, self.renew(&cql)).await;
            let failed = match renewed {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            // One that gets no answer takes half of the lease: with another whole pause behind it the lease would be over.
            pause = self.lease / 16;
            self.failed.fetch_add(1, AcqRel);
            tracing::warn!(error = failed, left = ?cql.stamps.lease().left(), "the node's lease could not be renewed");
        }
    }

    /// Renews, and moves the end of the reserved timestamps.
    pub(super) async fn renew(&self, cql: &Cql) -> StoreResult<()> {
        #[cfg(test)]
        if self.is_cut_off.load(Acquire) {
            return Err(StoreError::Unavailable("cut off by a test".to_owned()));
        }
        let mut at = self.at.lock().await;
        for _ in 0..2 {
            let now = cql.now_to_go_on().await;
            let asked = cql.clock.lease();
            let end = now.max(cql.stamps.last()).saturating_add(self.reserved()).max(cql.stamps.ceiling());
            let (epoch, renewal) = *at;
            let next = self.row(cql, epoch, renewal + 1, end);
            // Compared are epoch and renewal alone.
            let seen = Row { renewal, ..next.clone() };
            if put(cql, Some(&seen), &next).await? {
                *at = (epoch, renewal + 1);
                cql.stamps.extend(end, (asked, self.lease));
                return Ok(());
            }
            match look(cql, self.name()).await? {
                // A renewal whose outcome nobody heard of.
                Some(row) if row.epoch == epoch && row.body.instance == self.instance => *at = (epoch, row.renewal),
                _ => {
                    cql.stamps.forbid();
                    tracing::error!(
                        node = self.name(),
                        epoch,
                        "another node ended this one's term: nothing is sent or written"
                    );
                    return Ok(());
                }
            }
        }
        Err(StoreError::Unavailable("the row of this node moves".to_owned()))
    }

    /// Ends the term in good order: nobody waits for it. Nothing may be left to be written.
    pub(super) async fn leave(&self, cql: &Cql) -> StoreResult<()> {
        let at = self.at.lock().await;
        if cql.stamps.are_forbidden() || at.0 == 0 {
            return Ok(());
        }
        let Some(row) = look(cql, self.name()).await? else { return Ok(()) };
        if (row.epoch, &row.body.instance) == (at.0, &self.instance) {
            cql.stamps.forbid();
            put(cql, Some(&row), &row.ended()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of two versions read each other's rows: what one does not know it leaves alone, what one does not say is the first.
    #[test]
    fn a_row_is_read_by_the_version_before_and_after() {
        let body =
            r#"{"instance":"i","address":"a:1","version":"1","end":7,"draining":false,"left":false,"wall":8,"load":9"#;
        let read = |rest: &str| Row::read(("a".to_owned(), Some(2), Some(3), Some(format!("{body}{rest}}}")))).unwrap();
        assert_eq!(read("").seen().protocol, protocol::FIRST);
        assert_eq!(read(r#","protocol":5,"what_comes_later":{}"#).seen().protocol, 5);
        let written = to_json(&read(r#","protocol":5"#).body).unwrap();
        assert!(written.contains(r#""protocol":5"#), "{written}");
    }
}
