//! The actors as a whole: a real ledger, a provider on a real socket, and what must be true whatever happens in between. One
//! file for each story.
//!
//! Fault points belong to the whole process, and so does the machine's time: a test that arms points or measures takes
//! [`alone`], every other one that runs an engine takes [`together`].

mod ceilings;
mod doubts;
mod drift;
mod endings;
mod every_fault;
mod holds;
mod house;
mod kept;
mod late_failures;
mod nodes;
mod orphans;
mod outages;
mod pauses;
mod provider;
mod quarantine;
mod restarts;
mod send_again;
mod series;
mod storms;

use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Longest wait for anything: generous, since the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(30);

static ENGINES: RwLock<()> = RwLock::const_new(());

/// Lets no other test run an engine meanwhile; disarms every fault point at its end.
struct Alone(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

impl Drop for Alone {
    fn drop(&mut self) {
        crate::faults::reset();
    }
}

async fn alone() -> Alone {
    Alone(ENGINES.write().await)
}

async fn together() -> RwLockReadGuard<'static, ()> {
    ENGINES.read().await
}

/// Waits until the condition holds; false when it does not within the deadline.
async fn eventually(condition: impl AsyncFn() -> bool) -> bool {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, holds).await.is_ok()
}
