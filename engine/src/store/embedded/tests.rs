//! The contract's promises, run against this store, and what only this store promises.

use std::sync::Arc;

use super::{EmbeddedConfig, EmbeddedStore};
use crate::domain::time::Clock;
use crate::store::Store;
use crate::store::conformance::{Factory, every_promise};

/// Stores in a directory that goes with the test.
struct InDir(tempfile::TempDir);

impl InDir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Factory for InDir {
    fn open(&self) -> Arc<dyn Store> {
        EmbeddedStore::open(EmbeddedConfig::new(self.0.path()), Clock::system()).unwrap()
    }
}

every_promise!(InDir::new());
