//! The ledger on ScyllaDB (or Cassandra, which speaks the same protocol): for more than one machine can carry.
//!
//! A call of [`Store::commit`](crate::store::Store::commit) goes through `contract` into the `cache`, which hands it to the `place` of
//! each segment that it touches. There it is applied to the `segment` held in memory and becomes one batch of that segment's
//! partition, messages (`row`) and counts (`summary`) together, sent through `cql` until its outcome is known. Imports and
//! the seal (what they write stands in `list`), records, parked events and inbound events have files of their own. `statements` lists
//! everything that is sent, `schema` the tables, `owner` says who may write, `stamps` with which timestamps.

mod cache;
mod campaigns;
mod compact;
mod config;
mod connect;
mod contract;
mod cql;
mod error;
mod hand_over;
mod hot;
mod identity;
mod imports;
mod inbound;
mod lines;
mod list;
mod mend;
mod messages;
mod moving;
mod node;
mod owned;
mod owner;
mod parked;
mod place;
mod pools;
mod removal;
mod requests;
mod row;
mod schema;
mod seal;
mod segment;
mod stamps;
mod statements;
mod summary;
mod taking;
mod templates;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::RngExt as _;
use scylla::client::session::Session;
use tokio::sync::Semaphore;

use self::cache::Cache;
use self::cql::Cql;
use self::inbound::Inbound;
use self::node::Node;
use self::owned::Owned;
use self::owner::{Owner, RecordRow};
use self::parked::Parked;
use self::pools::Pools;
use self::segment::BatchLimits;
use self::stamps::Stamps;
use self::statements::Statements;
use crate::domain::time::Clock;
use crate::store::StoreResult;

pub use self::config::{ConsistencyLevel, Login, NodeConfig, OpenError, ScyllaConfig, client_tls};
pub use self::schema::{SCHEMA_VERSION, keyspace as keyspace_cql, tables as tables_cql};

/// What the store did since it was opened, for measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScyllaCounters {
    /// Batches of segments.
    pub batches: u64,
    /// Rows in them, the one with the segment's counts among them.
    pub rows: u64,
}

/// The ledger in one keyspace.
pub struct ScyllaStore {
    cql: Arc<Cql>,
    cache: Arc<Cache>,
    parked: Parked,
    inbound: Inbound,
    sealing: tokio::sync::Mutex<()>,
    /// Another one only when this ledger takes the place of another.
    secret: parking_lot::Mutex<[u8; 32]>,
    /// This node among others; `None`: the keyspace is ours alone.
    shared: Option<(Arc<Node>, Arc<Pools>)>,
}

impl ScyllaStore {
    /// Connects, checks everything and takes the keyspace. Waits for a lease's time when the engine before did not let it go.
    ///
    /// # Errors
    /// [`OpenError`]: each says what to do.
    pub async fn open(config: ScyllaConfig, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::open_for(config, clock, false).await
    }

    /// The same for moving the ledger ([`crate::store::moving`]), which it has for itself: one that has a part in a move opens too.
    ///
    /// # Errors
    /// [`OpenError`]: each says what to do.
    pub async fn open_to_move(config: ScyllaConfig, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::open_for(ScyllaConfig { node: None, ..config }, clock, true).await
    }

    async fn open_for(config: ScyllaConfig, clock: Clock, to_move: bool) -> Result<Arc<Self>, OpenError> {
        let session = connect::connect(&config).await?;
        connect::expect_keyspace(&session, &config).await?;
        connect::expect_clock(&session, || clock.wall().0).await?;
        let Some(found) = schema::version(&session, &config.keyspace).await? else {
            return Err(OpenError::Schema { keyspace: config.keyspace });
        };
        schema::expect_known(Some(found))?;
        if found < SCHEMA_VERSION {
            return Err(OpenError::Older { found, known: SCHEMA_VERSION });
        }
        let (level, serial) = (config.consistency.level(), config.consistency.serial());
        let prepared = Statements::prepare(&session, &config.keyspace, level, serial).await;
        let cql = Arc::new(Cql {
            st: prepared.map_err(|error| error::not_prepared(&error))?,
            session,
            stamps: Stamps::new(clock.clone()),
            owned: if config.node.is_some() { Owned::nothing() } else { Owned::everything() },
            clock,
            level,
            serial,
            patience: config.patience,
            permits: Semaphore::new(config.writes_in_flight_max.max(1)),
            is_closed: AtomicBool::new(false),
        });
        // Before anything is taken, and again behind that: whoever marks it has it for itself.
        expect_unmoved(&cql, to_move).await?;
        let node = match config.node {
            None => {
                let holder = format!("process {} ({:08x})", std::process::id(), rand::rng().random::<u32>());
                let owner = Owner::take(&cql, holder, config.lease).await?;
                tokio::spawn(owner.keep(Arc::clone(&cql)));
                None
            }
            Some(node) => {
                let node = Arc::new(Node::new(node, config.lease));
                node.expect_to_be_understood(&cql).await?;
                let (_, floor) = owner::share(&cql, config.lease).await?;
                node.join(&cql, floor).await?;
                tokio::spawn(Arc::clone(&node).keep(Arc::clone(&cql)));
                let (era, floor) = owner::still_shared(&cql).await?;
                cql.stamps.raise(floor);
                Some((node, era))
            }
        };
        if let Err(moved) = expect_unmoved(&cql, to_move).await {
            cql.is_closed.store(true, std::sync::atomic::Ordering::Relaxed);
            return Err(moved);
        }
        let secret = secret(&cql).await.map_err(OpenError::from)?;
        removal::finish_all(&cql).await.map_err(OpenError::from)?;
        let limits = BatchLimits {
            rows: config.batch_rows_max.max(1),
            bytes: config.batch_bytes_max,
            bytes_fail: config.batch_bytes_fail,
        };
        let cache = Arc::new(Cache::new(Arc::clone(&cql), limits, config.segments_held_max.max(1)));
        let shared = match node {
            None => None,
            Some((node, era)) => {
                let pools = Pools::open(Arc::clone(&cql), Arc::clone(&cache), Arc::clone(&node), era).await?;
                Some((node, Arc::new(pools)))
            }
        };
        Ok(Arc::new(Self {
            cql,
            cache,
            parked: Parked::default(),
            inbound: Inbound::default(),
            sealing: tokio::sync::Mutex::default(),
            secret: parking_lot::Mutex::new(secret),
            shared,
        }))
    }

    /// Whether the node's renewals reach the server.
    #[cfg(test)]
    pub(crate) fn cut_off(&self, is_cut_off: bool) {
        let (node, _) = self.shared.as_ref().expect("one of several nodes");
        node.is_cut_off.store(is_cut_off, std::sync::atomic::Ordering::Release);
    }

    /// Something of a pool cannot be read when it is to be given away.
    #[cfg(test)]
    pub(crate) fn damage(&self, pool: crate::nodes::PoolRef) {
        let (_, pools) = self.shared.as_ref().expect("one of several nodes");
        pools.damage(pool);
    }

    /// What the store did since it was opened.
    pub fn counters(&self) -> ScyllaCounters {
        let (batches, rows) = self.cache.figures();
        ScyllaCounters { batches, rows }
    }
}

/// Makes keyspace (unless `replication` is `None`) and tables as far as they are missing, and writes the version; safe to run from
/// several nodes at once. Returns the version found before.
///
/// # Errors
/// [`OpenError`]: each says what to do.
pub async fn apply_schema(config: &ScyllaConfig, replication: Option<u8>) -> Result<Option<u32>, OpenError> {
    let session = connect::connect(config).await?;
    if let Some(replication) = replication {
        let mut cql = keyspace_cql(&config.keyspace, replication);
        if connect::wants_no_tablets(&session).await {
            cql.push_str(schema::WITHOUT_TABLETS);
        }
        let made = session.query_unpaged(schema::patient(cql), ()).await;
        made.map_err(|error| OpenError::Refused { reason: error.to_string() })?;
    }
    connect::use_keyspace(&session, config).await?;
    schema::apply(&session, &config.keyspace).await
}

/// The version of the tables in the keyspace; an error when it is not the one that this program needs.
///
/// # Errors
/// [`OpenError`]: each says what to do.
pub async fn check_schema(config: &ScyllaConfig) -> Result<u32, OpenError> {
    let session: Session = connect::connect(config).await?;
    connect::expect_keyspace(&session, config).await?;
    match schema::version(&session, &config.keyspace).await? {
        None => Err(OpenError::Schema { keyspace: config.keyspace.clone() }),
        Some(found) if found < SCHEMA_VERSION => Err(OpenError::Older { found, known: SCHEMA_VERSION }),
        Some(found) => schema::expect_known(Some(found)).map(|()| found),
    }
}

/// Refuses a ledger that has a part in a move, except to a move.
async fn expect_unmoved(cql: &Cql, to_move: bool) -> Result<(), OpenError> {
    match moving::mark(cql).await? {
        Some(mark) if !to_move => Err(OpenError::Moved { reason: mark.refusal() }),
        _ => Ok(()),
    }
}

/// The installation's secret: whoever is first makes it.
async fn secret(cql: &Cql) -> StoreResult<[u8; 32]> {
    let read = || async {
        let row: Option<RecordRow> = cql.decided_row(&cql.st.record, ("installation", "secret")).await?;
        Ok::<_, crate::store::StoreError>(row.and_then(|(.., body)| body))
    };
    let hex = match read().await? {
        Some(hex) => hex,
        None => {
            let fresh: [u8; 32] = rand::rng().random();
            let hex: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
            let settled = || async { Ok(read().await?.map(|_| true)) };
            cql.decide(&cql.st.claim, ("installation", "secret", 1_i64, 0_i64, hex.as_str()), settled).await?;
            read().await?.unwrap_or_default()
        }
    };
    let mut secret = [0; 32];
    let damaged = || error::damaged("the installation secret is missing");
    for (i, byte) in secret.iter_mut().enumerate() {
        let digits = hex.get(2 * i..2 * i + 2).ok_or_else(damaged)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| damaged())?;
    }
    Ok(secret)
}
