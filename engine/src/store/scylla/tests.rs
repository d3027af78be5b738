//! The contract's promises on a real server.

mod as_node;
mod batch;
mod broken;
mod clocks;
mod late;
mod line;
mod lists;
mod moving;
mod nodes;
mod parked;
mod passing;
mod secure;
pub(crate) mod server;
mod trouble;
mod ways;

use std::sync::Arc;

use super::{ScyllaConfig, ScyllaStore};
use crate::domain::time::Clock;
use crate::store::Store;
use crate::store::conformance::{Factory, every_promise, test_promises};

/// Stores in a keyspace of its own.
struct InKeyspace(ScyllaConfig);

impl InKeyspace {
    fn new() -> Self {
        Self(server::fresh_keyspace())
    }
}

impl Factory for InKeyspace {
    fn open(&self) -> Arc<dyn Store> {
        open(&self.0)
    }
}

/// Tables cost the server memory.
impl Drop for InKeyspace {
    fn drop(&mut self) {
        server::drop_keyspace(&self.0);
    }
}

every_promise!(InKeyspace::new());

/// Opens from within a test's runtime, which goes on meanwhile.
fn open(config: &ScyllaConfig) -> Arc<ScyllaStore> {
    let config = config.clone();
    server::block(async move { ScyllaStore::open(config, Clock::system()).await.expect("it opens") })
}
