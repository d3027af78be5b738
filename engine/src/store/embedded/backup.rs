//! A consistent copy while the engine runs.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::{Fail, Try, conflict};
use crate::store::StoreError;

/// Pages copied between two looks at whether the other side is ready: 8 MiB.
const STEP_PAGES: i32 = 2_048;

/// Copies the ledger as of now to `target`. It is written under another name and renamed when it is whole and on the disk, so that
/// `target` is never half a copy. The snapshot is held all the while: the log grows by what is written meanwhile.
pub(super) fn copy(conn: &Connection, target: &Path) -> Try<u64> {
    if target.exists() {
        return conflict(format!("{} exists already: a backup never overwrites a file", target.display()));
    }
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let copied = copy_to(conn, &partial).and_then(|()| settle(&partial, target));
    if copied.is_err() {
        // Half a copy is of no use to anybody.
        let _ = std::fs::remove_file(&partial);
    }
    copied
}

fn io(error: &std::io::Error) -> Fail {
    StoreError::Unavailable(format!("the backup cannot be written: {error}")).into()
}

fn copy_to(conn: &Connection, partial: &Path) -> Try<()> {
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&error)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(partial).map_err(|error| io(&error))?;
    let mut target = Connection::open_with_flags(partial, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let backup = Backup::new(conn, &mut target)?;
    while backup.step(STEP_PAGES)? != StepResult::Done {}
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
