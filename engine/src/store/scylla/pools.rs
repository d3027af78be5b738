//! Who has which pool, as the ledger says: one partition, so that every change is one decision, compared with one generation number.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::cql::{Cql, Unit};
use super::hand_over::{self, Leaving};
use super::node::{self, Node};
use super::owner::{self, RecordRow};
use super::removal;
use crate::domain::ids::{PoolId, TenantId};
use crate::domain::time::UnixMillis;
use crate::nodes::{HandOver, Lease, NodeSeen, NotGiven, Ownership, PoolRef, PoolSeen, Snapshot, Taken, Told, Why};
use crate::store::text::{from_json, to_json};
use crate::store::{StoreError, StoreResult};

/// Home of the pools' rows, and the slot of the generation; a tenant's name begins with a letter or digit.
const HOME: &str = "pools";
const GENERATION: &str = "#";

/// Pools changed by one decision.
const AT_ONCE: usize = 100;

/// Rounds of a decision that others keep overtaking.
const ROUNDS: usize = 16;

/// What stands in a pool's row beside the epoch of its owner's term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    node: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given: Option<Given>,
    why: Why,
    since: UnixMillis,
}

/// A pool that was given away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    /// The giver's last timestamp.
    last: i64,
    /// Names what goes along.
    token: i64,
    /// See [`owner::share`]: what was given in another era says nothing of what left last.
    era: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    epoch: i64,
    body: Body,
}

impl Row {
    fn seen(&self) -> PoolSeen {
        let Body { node, to, given, why, since } = self.body.clone();
        PoolSeen { node, epoch: self.epoch.unsigned_abs(), to, given: given.is_some(), why, since }
    }
}

fn slot(pool: &PoolRef) -> String {
    format!("{}/{}", pool.tenant, pool.pool)
}

fn pool_of(slot: &str) -> Option<PoolRef> {
    let (tenant, pool) = slot.split_once('/')?;
    Some(PoolRef { tenant: TenantId::new(tenant).ok()?, pool: PoolId::new(pool).ok()? })
}

/// The pools as of one generation.
#[derive(Default)]
struct Known {
    generation: u64,
    rows: HashMap<PoolRef, Row>,
    seen: Arc<BTreeMap<PoolRef, PoolSeen>>,
}

/// This node's part in the ownership of pools.
pub(super) struct Pools {
    cql: Arc<Cql>,
    cache: Arc<Cache>,
    node: Arc<Node>,
    era: i64,
    known: Mutex<Known>,
    /// A pool of which something cannot be read.
    #[cfg(test)]
    damaged: Mutex<Option<PoolRef>>,
}

impl Pools {
    pub(super) async fn open(cql: Arc<Cql>, cache: Arc<Cache>, node: Arc<Node>, era: i64) -> StoreResult<Self> {
        let settled = || async { Ok(generation(&cql).await?.map(|_| true)) };
        cql.decide(&cql.st.claim, (HOME, GENERATION, 1_i64, 0_i64, ""), settled).await?;
        Ok(Self {
            cql,
            cache,
            node,
            era,
            known: Mutex::default(),
            #[cfg(test)]
            damaged: Mutex::default(),
        })
    }

    /// Something of a pool cannot be read when it is to be given away.
    #[cfg(test)]
    pub(super) fn damage(&self, pool: PoolRef) {
        *self.damaged.lock() = Some(pool);
    }

    #[cfg(test)]
    fn expect_whole(&self, pools: &[(PoolRef, HandOver)]) -> StoreResult<()> {
        let damaged = self.damaged.lock();
        let found = pools.iter().find(|(pool, _)| damaged.as_ref() == Some(pool));
        found.map_or(Ok(()), |(pool, _)| Err(super::error::damaged(pool)))
    }

    /// Reads the pools unless they are known as of the generation that is.
    async fn refresh(&self) -> StoreResult<(u64, Arc<BTreeMap<PoolRef, PoolSeen>>)> {
        for _ in 0..ROUNDS {
            let (before, _) = generation(&self.cql).await?.unwrap_or_default();
            {
                let known = self.known.lock();
                if known.generation == before {
                    return Ok((before, Arc::clone(&known.seen)));
                }
            }
            let records: Vec<RecordRow> = self.cql.rows(&self.cql.st.records, (HOME,)).await?;
            if generation(&self.cql).await?.unwrap_or_default().0 != before {
                continue;
            }
            let mut rows = HashMap::new();
            for (slot, epoch, _, body) in records {
                let (Some(pool), Some(epoch), Some(body)) = (pool_of(&slot), epoch, body) else { continue };
                rows.insert(pool, Row { epoch, body: from_json(&body)? });
            }
            let seen = Arc::new(rows.iter().map(|(pool, row)| (pool.clone(), row.seen())).collect());
            *self.known.lock() = Known { generation: before, rows, seen: Arc::clone(&seen) };
            return Ok((before, seen));
        }
        Err(StoreError::Unavailable("the ownership of pools keeps changing: try again".to_owned()))
    }

    /// Writes what goes along with pools, and who is to have them.
    async fn let_go(
        &self,
        leaving: &mut Leaving<'_>,
        mut pools: Vec<(PoolRef, HandOver)>,
        to: &str,
    ) -> StoreResult<()> {
        leaving.stop(&mut pools).await?;
        #[cfg(test)]
        self.expect_whole(&pools)?;
        // Nothing of them is written any more: all that ever was is dated below.
        let token = self.cql.stamps.next()?;
        for (pool, along) in &pools {
            hand_over::write(&self.cql, pool, token, along).await?;
        }
        // Above what goes along, too: the next owner writes it anew one day.
        let given = Given { last: self.cql.stamps.last(), token, era: self.era };
        leaving.ask();
        let names = || pools.iter().map(|(pool, _)| pool.clone());
        for _ in 0..ROUNDS {
            let (generation, _) = self.refresh().await?;
            let rows = self.mine(names(), |body| {
                (body.to, body.given) = (Some(to.to_owned()), Some(given.clone()));
            });
            // None is left where an earlier decision of ours was taken for another's.
            if rows.is_empty() || self.change(generation, &rows).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the ownership of pools keeps changing: try again".to_owned()))
    }

    /// Writes rows if the generation still is this one; it is one more then.
    async fn change(&self, generation_seen: u64, rows: &[(PoolRef, Row)]) -> StoreResult<bool> {
        let cql = &self.cql;
        let (seen, nonce) = (generation_seen.cast_signed(), rand::rng().random::<i64>());
        let mut unit = Unit::new();
        unit.push(&cql.st.replace, (seen + 1, nonce, "", HOME, GENERATION, seen));
        for (pool, row) in rows {
            unit.push(&cql.st.write_record, (row.epoch, nonce, to_json(&row.body)?, HOME, slot(pool)));
        }
        let settled = || async {
            let Some((now, by)) = generation(cql).await? else { return Ok(Some(false)) };
            if now == generation_seen {
                return Ok(None);
            }
            if now == generation_seen + 1 {
                return Ok(Some(by == nonce));
            }
            // Others have gone on since. Ours, if a row still shows it; else whoever asked looks again, and finds what is.
            let Some((pool, _)) = rows.first() else { return Ok(Some(false)) };
            let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (HOME, slot(pool))).await?;
            Ok(Some(row.is_some_and(|(_, _, by, _)| by == Some(nonce))))
        };
        cql.decide_unit(unit, settled).await
    }

    fn row(&self, pool: &PoolRef) -> Option<Row> {
        self.known.lock().rows.get(pool).cloned()
    }

    /// Nothing below what a former owner may have written to a pool is written from here on, and what is above is reserved.
    async fn begin_above(&self, floor: i64) -> StoreResult<()> {
        let stamps = &self.cql.stamps;
        if floor > stamps.now().saturating_add(owner::AHEAD_MAX) {
            return Err(StoreError::Conflict(
                "the pool was written with times more than a day ahead of this machine's clock: set the clock"
                    .to_owned(),
            ));
        }
        stamps.raise(floor);
        if stamps.last() >= stamps.ceiling() - 1 {
            self.node.renew(&self.cql).await?;
        }
        Ok(())
    }

    /// What a former owner may have written with: the ends of all terms that are over, the last of what was given.
    async fn floor(&self, pools: &[PoolRef]) -> StoreResult<i64> {
        // Read after the terms were ended: none of these ends moves any more.
        let ends: HashMap<String, i64> =
            node::all(&self.cql).await?.into_iter().map(|row| (row.name, row.body.end)).collect();
        let floor_of = |pool: &PoolRef| {
            let row = self.row(pool)?;
            match row.body.given {
                Some(given) if given.era == self.era => Some(given.last + 1),
                _ => ends.get(&row.body.node).copied(),
            }
        };
        Ok(pools.iter().filter_map(floor_of).max().unwrap_or_default())
    }

    fn taken_row(&self, before: Option<&Row>) -> Row {
        let why = match before {
            None => Why::First,
            Some(row) if row.body.given.is_some() => Why::HandedOver,
            Some(_) => Why::TakenOver,
        };
        let body = Body { node: self.node.name().to_owned(), to: None, given: None, why, since: self.cql.clock.wall() };
        Row { epoch: self.cql.stamps.epoch().cast_signed(), body }
    }

    async fn along(&self, before: Option<Row>, pool: &PoolRef) -> StoreResult<Option<(String, HandOver)>> {
        let Some(Row { body: Body { node, given: Some(given), .. }, .. }) = before else { return Ok(None) };
        if given.era != self.era {
            return Ok(None);
        }
        Ok(hand_over::read(&self.cql, pool, given.token).await?.map(|along| (node, along)))
    }

    fn mine(&self, rows: impl Iterator<Item = PoolRef>, change: impl Fn(&mut Body)) -> Vec<(PoolRef, Row)> {
        let epoch = self.cql.stamps.epoch().cast_signed();
        let ours = rows.filter_map(|pool| {
            let row = self.row(&pool)?;
            (row.body.node == self.node.name() && row.epoch == epoch && row.body.given.is_none()).then_some((pool, row))
        });
        ours.map(|(pool, mut row)| {
            change(&mut row.body);
            (pool, row)
        })
        .collect()
    }
}

/// The generation and who made it.
async fn generation(cql: &Cql) -> StoreResult<Option<(u64, i64)>> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (HOME, GENERATION)).await?;
    Ok(row.map(|(_, generation, by, _)| (generation.unwrap_or_default().unsigned_abs(), by.unwrap_or_default())))
}

#[async_trait]
impl Ownership for Pools {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn lease(&self) -> std::time::Duration {
        self.node.lease()
    }

    fn term(&self) -> (u64, Arc<Lease>) {
        (self.cql.stamps.epoch(), self.cql.stamps.lease())
    }

    async fn look(&self) -> StoreResult<Snapshot> {
        // In this order: whoever has a pool by what is read first has its row by what is read then, and a term that the row shows as over is
        // over. The other way round a node that came in between would look like one that is gone.
        let (generation, pools) = self.refresh().await?;
        let nodes = node::all(&self.cql).await?.into_iter().map(|row| (row.name.clone(), row.seen())).collect();
        Ok(Snapshot { generation, nodes, pools })
    }

    async fn depose(&self, name: &str, seen: &NodeSeen) -> StoreResult<bool> {
        let done = node::depose(&self.cql, name, seen).await?;
        if done {
            // What it was about to remove is nobody's else.
            removal::finish_all(&self.cql).await?;
        }
        Ok(done)
    }

    async fn take(&self, seen: &Snapshot, pools: &[PoolRef]) -> StoreResult<Option<Vec<Taken>>> {
        if self.known.lock().generation != seen.generation {
            return Ok(None);
        }
        self.begin_above(self.floor(pools).await?).await?;
        let (mut generation, mut taken) = (seen.generation, Vec::with_capacity(pools.len()));
        for some in pools.chunks(AT_ONCE) {
            let rows: Vec<_> =
                some.iter().map(|pool| (pool.clone(), self.taken_row(self.row(pool).as_ref()))).collect();
            if !self.cql.stamps.are_allowed() || !self.change(generation, &rows).await? {
                break;
            }
            generation += 1;
            for pool in some {
                let handed = self.along(self.row(pool), pool).await?;
                self.cql.owned.forget_passing(pool);
                self.cql.owned.add(pool.clone());
                taken.push(Taken { pool: pool.clone(), generation, handed });
            }
        }
        Ok(Some(taken).filter(|taken| !taken.is_empty()))
    }

    async fn recall(&self, pool: &PoolRef) {
        self.cql.owned.forget_passing(pool);
        self.cql.owned.add(pool.clone());
    }

    async fn announce(&self, seen: &Snapshot, pools: &[PoolRef], to: &str) -> StoreResult<bool> {
        if self.known.lock().generation != seen.generation {
            return Ok(false);
        }
        let rows = self.mine(pools.iter().cloned(), |body| body.to = Some(to.to_owned()));
        for (generation, some) in (seen.generation..).zip(rows.chunks(AT_ONCE)) {
            if !self.change(generation, some).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn give(&self, pools: Vec<(PoolRef, HandOver)>, to: &str) -> Result<(), NotGiven> {
        let mut leaving = Leaving::begin(&self.cache, &pools);
        let went = self.let_go(&mut leaving, pools, to).await;
        leaving.end(went)
    }

    async fn told(&self, pool: &PoolRef) -> StoreResult<Vec<Told>> {
        hand_over::told(&self.cql, pool).await
    }

    async fn lines_changed(&self) -> StoreResult<()> {
        for _ in 0..ROUNDS {
            let (seen, _) = generation(&self.cql).await?.unwrap_or_default();
            if self.change(seen, &[]).await? {
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the ownership of pools keeps changing: try again".to_owned()))
    }

    fn publish(&self, load: u64, draining: bool) {
        self.node.publish(load, draining);
    }

    async fn announce_myself(&self) -> StoreResult<()> {
        self.node.renew(&self.cql).await
    }

    fn is_lost(&self) -> bool {
        self.cql.stamps.are_forbidden()
    }

    async fn rejoin(&self) -> StoreResult<()> {
        self.cql.owned.clear();
        self.cache.forget_all();
        let (era, floor) = owner::still_shared(&self.cql).await.map_err(|e| StoreError::Unavailable(e.to_string()))?;
        if era != self.era {
            return Err(StoreError::Unavailable(
                "another engine had the keyspace for itself meanwhile: start this one anew".to_owned(),
            ));
        }
        self.node.join(&self.cql, floor).await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn renewals_failed(&self) -> u64 {
        self.node.renewals_failed()
    }
}
