//! A consistent copy while the engine runs, and what follows when it is put back.
//!
//! A copy does not know what left after it was made. So it says of itself that it is one, and the first start from it holds every
//! campaign that could send, until a person lets it go on.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::campaigns;
use super::error::{Fail, Try, conflict};
use crate::domain::ids::CampaignKey;
use crate::domain::time::UnixMillis;
use crate::store::StoreError;

/// In `meta` of a copy: when it was made (milliseconds, as text).
const COPIED_AT: &str = "copied_at";
/// In `meta` of a ledger that was put back: the same.
const RESTORED_FROM: &str = "restored_from";

/// Pages copied between two looks at whether the other side is ready: 8 MiB.
const STEP_PAGES: i32 = 2_048;

/// Copies the ledger as of now to `target`. It is written under another name and renamed when it is whole and on the disk, so that
/// `target` is never half a copy. The snapshot is held all the while: the log grows by what is written meanwhile.
pub(super) fn copy(conn: &Connection, target: &Path, now: UnixMillis) -> Try<u64> {
    if target.exists() {
        return conflict(format!("{} exists already: a backup never overwrites a file", target.display()));
    }
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let copied = copy_to(conn, &partial, now).and_then(|()| settle(&partial, target));
    if copied.is_err() {
        // Half a copy is of no use to anybody.
        let _ = remove(&partial);
    }
    copied
}

fn io(error: &std::io::Error) -> Fail {
    StoreError::Unavailable(format!("the backup cannot be written: {error}")).into()
}

/// Removes half a copy, also one that a killed process left, with what SQLite keeps beside it.
fn remove(partial: &Path) -> std::io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = partial.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn copy_to(conn: &Connection, partial: &Path, now: UnixMillis) -> Try<()> {
    remove(partial).map_err(|error| io(&error))?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(partial).map_err(|error| io(&error))?;
    let mut target = Connection::open_with_flags(partial, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = Backup::new(conn, &mut target)?;
    while backup.step(STEP_PAGES)? != StepResult::Done {}
    drop(backup);
    note(&target, COPIED_AT, now)?;
    // Takes its log in and removes it.
    target.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn note(conn: &Connection, name: &str, at: UnixMillis) -> rusqlite::Result<()> {
    let value = at.0.to_string().into_bytes();
    conn.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", (name, value))?;
    Ok(())
}

/// Where the ledger is a copy that was put back: holds all that could send, in one transaction with forgetting that it is one.
pub(super) fn take_over(conn: &Connection, now: UnixMillis) -> Try<()> {
    let stamp: Option<Vec<u8>> =
        conn.query_row("SELECT value FROM meta WHERE name = ?1", [COPIED_AT], |row| row.get(0)).optional()?;
    let Some(stamp) = stamp else { return Ok(()) };
    let copied_at = UnixMillis(String::from_utf8_lossy(&stamp).parse().unwrap_or_default());
    let transaction = conn.unchecked_transaction()?;
    let keys = transaction
        .prepare("SELECT key FROM campaign WHERE settled_at IS NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<u32>, _>>()?;
    let mut held = 0;
    for key in keys {
        if let Some(campaign) = campaigns::by_key(&transaction, CampaignKey(key))?.restored(copied_at, now) {
            campaigns::update(&transaction, &campaign)?;
            held += 1;
        }
    }
    note(&transaction, RESTORED_FROM, copied_at)?;
    transaction.execute("DELETE FROM meta WHERE name = ?1", [COPIED_AT])?;
    transaction.commit()?;
    tracing::warn!(%copied_at, held, "the ledger is a copy that was put back: its campaigns are held until somebody resumes them");
    Ok(())
}

fn settle(partial: &Path, target: &Path) -> Try<u64> {
    let settled = || -> std::io::Result<u64> {
        let file = File::open(partial)?;
        file.sync_all()?;
        // Fails if the target came into being meanwhile, which renaming would overwrite.
        std::fs::hard_link(partial, target)?;
        std::fs::remove_file(partial)?;
        #[cfg(unix)]
        if let Some(dir) = target.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            File::open(dir)?.sync_all()?;
        }
        Ok(file.metadata()?.len())
    };
    settled().map_err(|error| io(&error))
}
