//! Reads: a few connections, each used by one short read at a time, so that no snapshot is held long and the log can be
//! emptied.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::error::{Fail, Try};
use super::schema::{self, Use};
use crate::store::{StoreError, StoreResult};

/// Reads at the same time; more wait their turn.
const READS_MAX: usize = 4;

/// The connections for reading. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    /// None is opened before it is needed.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), turns: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Runs `read` on a thread that may block. Statements outside a transaction of `read`'s own each see the newest commit.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Try<T> + Send + 'static,
    ) -> StoreResult<T> {
        let closed = || StoreError::Unavailable("the ledger is closed".to_owned());
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| closed())?;
        let readers = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let held = readers.idle.lock().pop();
            let conn = match held {
                Some(conn) => conn,
                None => schema::connect(&readers.path, Use::Read).map_err(Fail::Sql)?,
            };
            let result = read(&conn);
            // A connection that failed, or that a panic left, is not used again.
            if !matches!(result, Err(Fail::Sql(_))) && conn.is_autocommit() && !readers.turns.is_closed() {
                readers.idle.lock().push(conn);
            }
            drop(turn);
            result
        });
        match done.await {
            Ok(result) => result.map_err(StoreError::from),
            Err(failed) => Err(StoreError::Bug(format!("a read did not end: {failed}"))),
        }
    }

    /// Runs `read` in one transaction: all its statements see the same moment.
    pub(super) async fn read_at_once<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Try<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.read(move |conn| {
            conn.execute_batch("BEGIN")?;
            let result = read(conn);
            conn.execute_batch("COMMIT")?;
            result
        })
        .await
    }

    /// Lets go of the connections; later reads fail.
    pub(super) fn close(&self) {
        self.turns.close();
        self.idle.lock().clear();
    }
}
