//! The housekeeper: checkpoints beside the writer, a trial write while writing fails, and removals that a crash cut short.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use tokio::sync::mpsc::WeakSender;

use super::removal;
use super::schema::{self, Use};
use super::shared::Shared;
use super::writer::Command;

/// How often it looks around when nobody asks for anything.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A log larger than this is cut when the ledger is idle.
const LOG_KEPT_BYTES: u64 = 16 << 20;

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: WeakSender<Command>,
    /// Asks for a checkpoint; closed when the writer has ended.
    pub(super) asked: Receiver<()>,
}

impl Keeper {
    /// Works until the writer has ended, then leaves one tidy file.
    pub(super) fn run(self) {
        self.finish_removals();
        let mut commits_seen = 0;
        let mut copied = true;
        loop {
            match self.asked.recv_timeout(LOOK_EVERY) {
                Ok(()) => self.checkpoint(CheckpointMode::PASSIVE),
                Err(RecvTimeoutError::Timeout) => {
                    if !self.shared.writable.load(Relaxed) {
                        self.try_a_write();
                    }
                    let commits = self.shared.commits.load(Relaxed);
                    if commits != commits_seen {
                        commits_seen = commits;
                        copied = false;
                    } else if !copied {
                        // Half a second without a commit: nobody is held up now.
                        copied = true;
                        let large = std::fs::metadata(self.shared.log_path()).is_ok_and(|f| f.len() > LOG_KEPT_BYTES);
                        self.checkpoint(CheckpointMode::PASSIVE);
                        if large {
                            // Keeps writers out, but has nothing left to copy.
                            self.checkpoint(CheckpointMode::TRUNCATE);
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.checkpoint(CheckpointMode::TRUNCATE);
    }

    /// A new connection each time: one that failed once is not trusted, and the cost is nothing beside the checkpoint's.
    fn checkpoint(&self, mode: CheckpointMode) {
        let done = schema::connect(&self.shared.path, Use::Checkpoint).and_then(|conn| {
            conn.busy_timeout(Duration::from_millis(100))?;
            conn.wal_checkpoint_v2(rusqlite::DEFAULT_NAME, mode)
        });
        match done {
            Ok((_, copied)) => {
                self.shared.log_copied.store(u64::try_from(copied).unwrap_or(0), Relaxed);
                self.shared.checkpoints.fetch_add(1, Relaxed);
            }
            // Busy is no failure: a reader or the writer is at the log; the next one copies more.
            Err(error) => tracing::debug!(%error, "a checkpoint was not finished"),
        }
    }

    /// Finds out whether writing works again; nobody else may, since those who would write were told to stop. It asks for as much
    /// room as a group needs, and gives it back.
    fn try_a_write(&self) {
        for sql in [
            "INSERT INTO meta (name, value) VALUES ('trial_write', randomblob(262144))
             ON CONFLICT DO UPDATE SET value = excluded.value",
            "DELETE FROM meta WHERE name = 'trial_write'",
        ] {
            let Some(writer) = self.writer.upgrade() else { return };
            let (command, answer) = Command::work(|ledger| Ok(ledger.conn().execute(sql, [])?));
            // A full queue: others are trying.
            if writer.try_send(command).is_err() {
                return;
            }
            drop(writer);
            if !matches!(answer.blocking_recv(), Ok(Ok(_))) {
                return;
            }
        }
    }

    fn finish_removals(&self) {
        loop {
            let Some(writer) = self.writer.upgrade() else { return };
            let (command, answer) = Command::work(removal::next_step);
            if writer.blocking_send(command).is_err() {
                return;
            }
            drop(writer);
            match answer.blocking_recv() {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a removal that was cut short could not be finished; it goes on at the next start");
                    return;
                }
            }
        }
    }
}
