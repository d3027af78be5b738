//! Wall clocks of single processes, moved while they run; the machine's stays as it is.

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

/// What is loaded before the program: every clock but the wall clock is the system's.
const SOURCE: &str = include_str!("wall.c");

/// The wall clock of one program.
#[derive(Debug)]
pub struct Wall {
    /// Starts the program with this clock.
    pub program: PathBuf,
    file: std::fs::File,
}

impl Wall {
    /// A clock for runs of `program`, kept in `folder`. Right at first.
    ///
    /// # Errors
    /// When there is no C compiler, or a file cannot be written.
    pub async fn new(folder: &Path, program: &Path) -> anyhow::Result<Self> {
        let (source, library) = (folder.join("wall.c"), folder.join("wall.so"));
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let status = compiler.status().await.context("no C compiler: install `cc` (Debian: build-essential)")?;
        anyhow::ensure!(status.success(), "wall.c could not be compiled");
        let ahead = folder.join("ahead_ms");
        std::fs::write(&ahead, 0_i64.to_ne_bytes())?;
        // The process id stays the same over exec.
        let script = format!(
            "#!/bin/sh\nLD_PRELOAD='{}' SLUICE_WALL='{}' exec '{}' \"$@\"\n",
            library.display(),
            ahead.display(),
            program.display()
        );
        let starter = folder.join("sluice");
        std::fs::write(&starter, script)?;
        std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { program: starter, file: std::fs::OpenOptions::new().write(true).open(&ahead)? })
    }

    /// From now on it is ahead of the machine's by so much, milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set(&self, ahead_ms: i64) -> std::io::Result<()> {
        self.file.write_all_at(&ahead_ms.to_ne_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    async fn seconds(program: &Path) -> i64 {
        let output = Command::new(program).arg("+%s").output().await.expect("it runs");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
    }

    #[tokio::test]
    async fn only_its_program_sees_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let wall = Wall::new(folder.path(), Path::new("/bin/date")).await.expect("compiled");
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
        for ahead in [0, 600, -600] {
            wall.set(ahead * 1_000 + 1).expect("written");
            let before = now();
            let seen = seconds(&wall.program).await;
            assert!((before + ahead..=now() + ahead + 1).contains(&seen), "{ahead}: {seen}");
        }
    }
}
