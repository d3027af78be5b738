//! The contract's promises, run against this store, and what only this store promises.

mod files;
mod full;
mod inside;
mod kill;

use std::path::Path;
use std::sync::Arc;

use super::{EmbeddedConfig, EmbeddedStore, LEDGER_FILE};
use crate::domain::time::Clock;
use crate::store::Store;
use crate::store::conformance::{Factory, every_promise, test_promises};

/// Stores in a directory that goes with the test.
struct InDir(tempfile::TempDir);

impl InDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Factory for InDir {
    fn open(&self) -> Arc<dyn Store> {
        open(self.0.path())
    }
}

every_promise!(InDir::new());

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig::new(dir), Clock::system()).unwrap()
}

/// A connection of somebody else's, such as the shell's.
fn shell(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join(LEDGER_FILE)).unwrap()
}
