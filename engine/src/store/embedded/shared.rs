//! What the store's threads and its callers share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rusqlite::Connection;

use super::lock::DirLock;
use super::schema::{self, Use};
use crate::domain::time::Clock;

/// Held by every thread of one open store; the directory is let go of when the last of them ends.
pub(super) struct Shared {
    pub(super) _lock: DirLock,
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) cache_mib: u32,
    pub(super) synced: bool,
    /// Most pages of the file, for the next connection too; 0: no limit.
    pub(super) pages_max: std::sync::atomic::AtomicU32,
    /// The last write succeeded.
    pub(super) writable: AtomicBool,
    /// Entries given to the writer and not yet answered.
    pub(super) queued_entries: AtomicU64,
    /// When the oldest entry of the group under way was given to the writer, as [`crate::domain::time::Mono`]; 0: none.
    pub(super) waiting_since: AtomicU64,
    /// Pages in the write-ahead log at the last commit.
    pub(super) log_pages: AtomicU64,
    /// Of those, copied into the ledger's file by the housekeeper.
    pub(super) log_copied: AtomicU64,
    /// Groups committed.
    pub(super) commits: AtomicU64,
    /// Groups that were not committed.
    pub(super) failed_groups: AtomicU64,
    /// Checkpoints run beside the writer.
    pub(super) checkpoints: AtomicU64,
}

impl Shared {
    /// A connection for the writer.
    pub(super) fn connect_writer(&self) -> rusqlite::Result<Connection> {
        let pages_max = self.pages_max.load(std::sync::atomic::Ordering::Relaxed);
        schema::connect(&self.path, Use::Write { cache_mib: self.cache_mib, synced: self.synced, pages_max })
    }

    /// The write-ahead log's file.
    pub(super) fn log_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        path.into()
    }
}
