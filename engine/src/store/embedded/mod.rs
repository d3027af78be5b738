//! The embedded store: SQLite in one directory, one writer, group commit. Needs nothing but this binary.
//!
//! A call of [`Store::commit`](crate::store::Store::commit) goes through `contract` into the queue of `writer`, which takes all
//! that waits, applies it through `ledger` (load, join, tally, write each row once) and commits. Records, imports and the rest
//! are statements of their own inside the same groups. Reads run beside it (`reader`), checkpoints too (`keeper`). `schema`
//! says what the tables hold; `sqlite3 ledger.db 'SELECT * FROM message_status'` shows it to people while the engine runs.

mod backup;
mod cache;
mod campaigns;
mod contract;
mod counts;
mod duplicates;
mod error;
mod keeper;
mod ledger;
mod lines;
mod lock;
mod messages;
mod moving;
mod parked;
mod reader;
mod recipients;
mod removal;
mod requests;
mod rows;
mod schema;
mod seal;
mod shared;
mod taking;
mod tallies;
mod templates;
#[cfg(test)]
mod tests;
mod views;
mod window;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::error::{Try, store_error};
use self::keeper::Keeper;
use self::ledger::Ledger;
use self::lock::DirLock;
use self::reader::Readers;
use self::seal::FrozenLists;
use self::shared::Shared;
use self::writer::{Command, QUEUE_CALLS_MAX, Writer};
use crate::domain::time::Clock;
use crate::store::{StoreError, StoreResult};

pub use self::schema::SCHEMA_VERSION;

/// The ledger's file inside its directory.
pub const LEDGER_FILE: &str = "ledger.db";

/// The lock's file inside the directory.
pub const LOCK_FILE: &str = "ledger.lock";

/// How the embedded store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedConfig {
    /// The directory that holds the ledger; made if it is not there.
    pub dir: PathBuf,
    /// Page cache of the writer, MiB. More than 32 gains nothing: the system caches too.
    pub cache_mib: u32,
    /// Whether a commit waits for the disk. Off, a power cut may lose the last commits (never tear them): for measuring.
    pub synced: bool,
    /// Most entries committed together.
    pub group_entries_max: usize,
    /// Least time from the beginning of one commit to the beginning of the next: the calls that come between are committed together.
    /// A call after a quiet time is not held up.
    pub group_interval: Duration,
    /// Messages held in memory so that the next event about one need not read it, up to 900 bytes each. It saves a third of the CPU
    /// of reports that come while their message is still held, and nothing of later ones.
    pub messages_held_max: usize,
    /// Most pages of 4 KiB the file may have; 0: as many as the disk holds. Beyond it the store is full, as on a full disk.
    pub pages_max: u32,
}

impl EmbeddedConfig {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_mib: 4,
            synced: true,
            group_entries_max: 4_096,
            group_interval: Duration::from_millis(2),
            messages_held_max: 8_192,
            pages_max: 0,
        }
    }
}

/// Why the ledger cannot be opened; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another engine works on it.
    #[error("{path} is held by another engine ({holder}): stop that one, or use another data directory", path = path.display())]
    InUse {
        /// The lock's file.
        path: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// A later version wrote it.
    #[error(
        "{path} has schema version {found}, this program knows up to {known}: use the newer program, or restore a backup that this one wrote",
        path = path.display()
    )]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest this program knows.
        known: u32,
    },
    /// The file is not what was written.
    #[error(
        "{path} is damaged ({reason}): nothing was changed; keep a copy of the directory, then restore a backup or try `sqlite3 .recover`",
        path = path.display()
    )]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A ledger was here and is not there any more, or is empty: a new one would send to everybody again.
    #[error(
        "{path} {what}, although a ledger was kept in this directory: restore a backup (or, to begin anew, use an empty directory)",
        path = path.display()
    )]
    Lost {
        /// The ledger's file.
        path: PathBuf,
        /// What was found instead.
        what: &'static str,
    },
    /// It has a part in a move, or is the old one after it.
    #[error("{path} is not opened: {reason}", path = path.display())]
    Moved {
        /// The ledger's file.
        path: PathBuf,
        /// Its part, and what to do.
        reason: String,
    },
    /// It cannot be used for another reason.
    #[error("{path} cannot be used: {reason}", path = path.display())]
    Refused {
        /// The ledger's file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system refuses.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// What the store did since it was opened, for metrics and measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EmbeddedCounters {
    /// Groups committed.
    pub commits: u64,
    /// Groups that were not committed.
    pub failed_groups: u64,
    /// Checkpoints beside the writer.
    pub checkpoints: u64,
    /// Pages in the write-ahead log.
    pub log_pages: u64,
}

/// The ledger in one SQLite file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Command>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    readers: Readers,
    frozen: FrozenLists,
    sealing: tokio::sync::Mutex<()>,
    /// Another one only when this ledger takes the place of another.
    secret: Mutex<[u8; 32]>,
}

impl EmbeddedStore {
    /// Opens the ledger in the directory, making it if there is none. Blocks for some milliseconds; for a file under 128 MiB, which
    /// is checked page by page, up to a few hundred.
    pub fn open(config: EmbeddedConfig, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::open_for(config, clock, false)
    }

    /// The same for moving the ledger ([`crate::store::moving`]): one that has a part in a move opens too.
    ///
    /// # Errors
    /// [`OpenError`]: each says what to do.
    pub fn open_to_move(config: EmbeddedConfig, clock: Clock) -> Result<Arc<Self>, OpenError> {
        Self::open_for(config, clock, true)
    }

    fn open_for(config: EmbeddedConfig, clock: Clock, to_move: bool) -> Result<Arc<Self>, OpenError> {
        std::fs::create_dir_all(&config.dir).map_err(|error| OpenError::Io { path: config.dir.clone(), error })?;
        let mut lock = DirLock::take(&config.dir.join(LOCK_FILE))?;
        let path = config.dir.join(LEDGER_FILE);
        schema::prepare(&path, lock.ledger_made(), clock.wall())?;
        lock.note_ledger().map_err(|error| OpenError::Io { path: config.dir.join(LOCK_FILE), error })?;
        let shared = Arc::new(Shared {
            _lock: lock,
            path: path.clone(),
            clock,
            cache_mib: config.cache_mib,
            synced: config.synced,
            pages_max: config.pages_max.into(),
            writable: true.into(),
            queued_entries: 0.into(),
            waiting_since: 0.into(),
            log_pages: 0.into(),
            log_copied: 0.into(),
            commits: 0.into(),
            failed_groups: 0.into(),
            checkpoints: 0.into(),
        });
        let refuse =
            |error: rusqlite::Error| OpenError::Refused { path: path.clone(), reason: store_error(&error).to_string() };
        let conn = shared.connect_writer().map_err(refuse)?;
        let mark = moving::mark(&conn)
            .map_err(|fail| OpenError::Refused { path: path.clone(), reason: StoreError::from(fail).to_string() })?;
        if let Some(mark) = mark.filter(|_| !to_move) {
            return Err(OpenError::Moved { path, reason: mark.refusal() });
        }
        let secret = conn
            .query_row("SELECT value FROM meta WHERE name = 'installation_secret'", [], |row| row.get(0))
            .map_err(refuse)?;
        let (sender, queue) = mpsc::channel(QUEUE_CALLS_MAX);
        let (checkpoint, asked) = std::sync::mpsc::sync_channel(1);
        let writer = Writer {
            shared: Arc::clone(&shared),
            checkpoint,
            group_entries_max: config.group_entries_max.max(1),
            group_interval: config.group_interval,
            rows_held_max: config.messages_held_max,
        };
        let keeper = Keeper { shared: Arc::clone(&shared), writer: sender.downgrade(), asked };
        let io = |error| OpenError::Io { path: path.clone(), error };
        let threads = vec![
            std::thread::Builder::new()
                .name("ledger-writer".into())
                .spawn(move || writer.run(conn, queue))
                .map_err(io)?,
            std::thread::Builder::new().name("ledger-keeper".into()).spawn(move || keeper.run()).map_err(io)?,
        ];
        Ok(Arc::new(Self {
            readers: Readers::new(path.clone()),
            shared,
            queue: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            frozen: FrozenLists::default(),
            sealing: tokio::sync::Mutex::default(),
            secret: Mutex::new(secret),
        }))
    }

    /// What the store did since it was opened.
    pub fn counters(&self) -> EmbeddedCounters {
        EmbeddedCounters {
            commits: self.shared.commits.load(Relaxed),
            failed_groups: self.shared.failed_groups.load(Relaxed),
            checkpoints: self.shared.checkpoints.load(Relaxed),
            log_pages: self.shared.log_pages.load(Relaxed),
        }
    }

    /// Gives the file another bound of pages (see [`EmbeddedConfig::pages_max`]).
    pub async fn set_pages_max(&self, pages: u32) -> StoreResult<()> {
        self.shared.pages_max.store(pages, Relaxed);
        let most = if pages == 0 { u32::MAX - 1 } else { pages };
        // Outside of what a group can fail with: a full file takes this too.
        self.write(move |ledger| {
            ledger.conn().query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))?;
            Ok(())
        })
        .await
    }

    fn queue(&self) -> StoreResult<mpsc::Sender<Command>> {
        self.queue.lock().clone().ok_or_else(closed)
    }

    /// Runs `work` on the writer, in the transaction of the group it falls into.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger<'_>) -> Try<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (command, answer) = Command::work(work);
        self.queue()?.send(command).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Lets the threads finish what is queued, and waits for them: some milliseconds, blocking.
    fn stop(&self) {
        self.queue.lock().take();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A thread that panicked has said so; there is nothing to finish then.
            let _ = thread.join();
        }
        self.readers.close();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the ledger is closed".to_owned())
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.stop();
    }
}
