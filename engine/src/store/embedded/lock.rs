//! Keeps a second engine off the same data. SQLite's own locks cannot: they are per transaction, and must stay so for the
//! `sqlite3` shell to be able to look inside.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::OpenError;

/// Says in the lock's file that a ledger was made here. It stays when the lock is let go.
const LEDGER_MADE: &str = "a ledger was made here";

/// The held lock; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
    /// Whether a ledger was made in the directory, by this process or an earlier one.
    ledger_made: bool,
}

impl DirLock {
    /// Takes the lock, or says at once who has it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: the holder may be writing it just now.
                let _ = file.read_to_string(&mut holder);
                let holder = holder.lines().next().unwrap_or_default().to_owned();
                return Err(OpenError::InUse { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut before = Vec::new();
        file.read_to_end(&mut before).map_err(io)?;
        let ledger_made = String::from_utf8_lossy(&before).lines().any(|line| line == LEDGER_MADE);
        let mut lock = Self { file, ledger_made };
        lock.write().map_err(io)?;
        Ok(lock)
    }

    /// Whether a ledger was made in the directory: one that is not there any more was lost.
    pub(super) fn ledger_made(&self) -> bool {
        self.ledger_made
    }

    /// Notes that there is a ledger.
    pub(super) fn note_ledger(&mut self) -> std::io::Result<()> {
        if self.ledger_made {
            return Ok(());
        }
        self.ledger_made = true;
        self.write()
    }

    /// The file is kept when the lock is let go: removing it would let two engines lock two files of one name.
    fn write(&mut self) -> std::io::Result<()> {
        let made = if self.ledger_made { format!("{LEDGER_MADE}\n") } else { String::new() };
        let text = format!("process {}\n{made}", std::process::id());
        self.file.rewind()?;
        // Over what was there, then cut: what a ledger was made by is at no moment missing for long.
        self.file.write_all(text.as_bytes())?;
        self.file.set_len(text.len() as u64)?;
        self.file.sync_data()
    }
}
