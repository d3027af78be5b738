//! What is counted of a campaign, and its progress as it is published.

use std::time::Duration;

use crate::control::{Binding, Progress};
use crate::domain::tally::Tally;
use crate::domain::time::{Mono, UnixMillis};

/// The rate shown is a mean over one to two of these.
const RATE_OVER: Duration = Duration::from_secs(2);

/// The newest tally, and what its rates are made of.
#[derive(Debug, Default)]
pub(super) struct Counted {
    tally: Tally,
    as_of: UnixMillis,
    /// The commit that the tally comes from: an older one never replaces a newer.
    revision: u64,
    /// (when, accepted) now and a while ago, for the rate.
    marks: [(Mono, u64); 2],
    started: Option<(Mono, u64)>,
    /// Something changed since it was last published.
    pub(super) dirty: bool,
    /// It stands in the registry's list of those whose tallies moved.
    pub(super) listed: bool,
}

impl Counted {
    pub(super) fn new(tally: Tally, revision: u64, as_of: UnixMillis) -> Self {
        Self { tally, as_of, revision, ..Self::default() }
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes over a tally of a commit, unless a later commit's is known already. True: it has to be listed for publishing.
    pub(super) fn take(&mut self, tally: Tally, revision: u64, at: UnixMillis) -> bool {
        if revision < self.revision {
            return false;
        }
        (self.tally, self.revision, self.as_of) = (tally, revision, at);
        self.dirty = true;
        !std::mem::replace(&mut self.listed, true)
    }

    /// What is to be published at `now`.
    pub(super) fn progress(&mut self, now: Mono, binding: Binding, version: u64) -> Progress {
        self.dirty = false;
        let accepted = self.tally.accepted;
        let (started_at, started_with) = *self.started.get_or_insert((now, accepted));
        if now.since(self.marks[1].0) >= RATE_OVER {
            self.marks = [self.marks[1], (now, accepted)];
        }
        let per_second = |since: Mono, before: u64| {
            let span = now.since(since).as_secs_f64();
            #[allow(clippy::cast_precision_loss)]
            if span > 0.0 { accepted.saturating_sub(before) as f64 / span } else { 0.0 }
        };
        let mark = if self.marks[0].0 == Mono(0) { (started_at, started_with) } else { self.marks[0] };
        Progress {
            tally: self.tally,
            as_of: self.as_of,
            rate_now: per_second(mark.0, mark.1),
            rate_average: per_second(started_at, started_with),
            binding,
            version,
        }
    }
}
