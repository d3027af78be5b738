//! The headroom of all lines, as the runtime's threads allow it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::domain::adapt::{Headroom, InFlight};
use crate::domain::time::Clock;

/// [`Headroom::share`] for every line of an engine.
pub(crate) struct SharedHeadroom(AtomicU64);

impl Default for SharedHeadroom {
    fn default() -> Self {
        Self(AtomicU64::new(Headroom::new().share().to_bits()))
    }
}

impl SharedHeadroom {
    pub(crate) fn share(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Follows the runtime for ever. A runtime of one thread does something else beside the engine, and tells nothing.
    pub(crate) async fn follow(&self, clock: &Clock) {
        let runtime = Handle::current();
        if runtime.runtime_flavor() != RuntimeFlavor::MultiThread {
            return;
        }
        let metrics = runtime.metrics();
        let workers = metrics.num_workers();
        let busy = || -> Duration { (0..workers).map(|worker| metrics.worker_total_busy_duration(worker)).sum() };
        let mut headroom = Headroom::new();
        let (mut last, mut last_at) = (busy(), clock.mono());
        loop {
            tokio::time::sleep(InFlight::STEP).await;
            let (now, now_at) = (busy(), clock.mono());
            let passed = now_at.since(last_at).as_secs_f64() * workers as f64;
            headroom.learn((now.saturating_sub(last)).as_secs_f64() / passed.max(f64::EPSILON));
            self.0.store(headroom.share().to_bits(), Ordering::Relaxed);
            (last, last_at) = (now, now_at);
        }
    }
}
