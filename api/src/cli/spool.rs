//! What comes through a pipe, laid down in a file of our own: an import reads its file more than once, and memory stays small whatever
//! comes. The file lies in the system's folder for temporary files (`TMPDIR`), nobody else may read it, and it goes with the command.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// Names tried before it is said that none is free.
const NAMES_MAX: u32 = 16;

/// A file that is removed with this value.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
}

impl Spool {
    /// Lays down everything that `source` gives. Takes as long as the source does.
    ///
    /// # Errors
    /// The source cannot be read, or the folder has no room.
    pub(super) fn of(mut source: impl Read) -> io::Result<Self> {
        let (spool, mut file) = Self::create(&std::env::temp_dir())?;
        io::copy(&mut source, &mut file)?;
        file.flush()?;
        Ok(spool)
    }

    fn create(folder: &Path) -> io::Result<(Self, File)> {
        for number in 0..NAMES_MAX {
            let path = folder.join(format!("sluice-import-{}-{number}.csv", std::process::id()));
            let mut options = OpenOptions::new();
            // Never one that is there: it may be somebody's trap.
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(&path) {
                Ok(file) => return Ok((Self { path }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{} holds {NAMES_MAX} files of such imports: remove them", folder.display())))
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What the system's folder keeps of it, the system clears.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_came_for_nobody_else_and_goes() {
        let spool = Spool::of(io::Cursor::new(b"phone\n+9991\n".repeat(100_000))).expect("room");
        let path = spool.path().to_owned();
        let metadata = std::fs::metadata(&path).expect("there");
        assert_eq!(metadata.len(), 1_200_000);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
        let other = Spool::of(io::empty()).expect("another beside it");
        assert_ne!(other.path(), path);
        drop(spool);
        assert!(!path.exists());
    }
}
