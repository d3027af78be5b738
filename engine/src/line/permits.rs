//! What is taken of a line and given back when it is dropped, however that comes about.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::gate::LineShared;
use crate::domain::time::Mono;

/// Permits of a line, given back when dropped.
pub(crate) struct Permits {
    line: Arc<LineShared>,
    count: u32,
    granted_at: Mono,
}

impl Permits {
    pub(super) fn new(line: &Arc<LineShared>, count: u32) -> Self {
        line.outstanding.fetch_add(count, Ordering::SeqCst);
        Self { line: Arc::clone(line), count, granted_at: line.clock.mono() }
    }

    pub(crate) fn line(&self) -> &Arc<LineShared> {
        &self.line
    }

    pub(crate) fn granted_at(&self) -> Mono {
        self.granted_at
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Keeps `count` of them; the others are given back with `self`.
    pub(crate) fn keep(&mut self, count: u32) -> Permits {
        let count = count.min(self.count);
        self.count -= count;
        Permits { line: Arc::clone(&self.line), count, granted_at: self.granted_at }
    }

    /// One of them, if there is one left.
    pub(crate) fn take_one(&mut self) -> Option<Permits> {
        self.count = self.count.checked_sub(1)?;
        Some(Permits { line: Arc::clone(&self.line), count: 1, granted_at: self.granted_at })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        if self.count > 0 {
            let before = self.line.outstanding.fetch_sub(self.count, Ordering::SeqCst);
            assert!(before >= self.count, "a permit is given back once");
            // A probe is granted alone: if nothing became of it, the next message is the probe.
            if before == self.count && self.line.busy.load(Ordering::SeqCst) == 0 {
                self.line.probe_withdrawn();
            }
        }
    }
}

/// The release of a line that is under way; over when dropped, also by a panic.
pub(crate) struct Release(Arc<LineShared>);

impl Release {
    pub(super) fn new(line: &Arc<LineShared>) -> Self {
        Self(Arc::clone(line))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        self.0.releasing.store(false, Ordering::SeqCst);
    }
}

/// One request at the provider.
pub(crate) struct Busy(Arc<LineShared>);

impl Busy {
    pub(super) fn new(line: &Arc<LineShared>) -> Self {
        line.busy.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(line))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}
