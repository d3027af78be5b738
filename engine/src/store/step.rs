//! What one event does to a message and to the counts of its segment. One place for every store, so that none of them can count
//! in a way of its own.

use std::collections::BTreeMap;

use super::{EntryResult, StoreError, StoreResult};
use crate::domain::ids::LineKey;
use crate::domain::message::{Applied, Attempt, Event, Facets, MessageState, Phase};
use crate::domain::stage::{End, Shown, Stage};
use crate::domain::tally::Tally;

/// What a segment counts of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SegmentCounts {
    /// Its part of the campaign's tally.
    pub(super) tally: Tally,
    /// Pending ones that somebody decided to send again.
    pub(super) again: u64,
    /// Recipients that were never tried.
    pub(super) untried: u64,
}

/// How a message moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    /// As it was counted.
    pub(super) old: Facets,
    /// As it is counted now.
    pub(super) new: Facets,
    /// It waited to be sent again; it does now.
    pub(super) again: (bool, bool),
    /// The number of the newest attempt before; 0: it had none.
    pub(super) newest: u16,
    /// An intent: the line it names.
    pub(super) line: Option<LineKey>,
}

/// Applies one event. `end`: how the campaign ended; `counted`: what the counts take for its end (a store that applies the end
/// to the sums counts as if there were none).
pub(super) fn step(
    state: &mut MessageState,
    event: Event,
    end: Option<End>,
    counted: Option<End>,
) -> Result<Moved, EntryResult> {
    let newest = state.newest.as_ref().map_or(0, |newest| newest.number);
    let line = if let Event::Intent { line, .. } = &event { Some(*line) } else { None };
    let (old, old_again) = (state.facets(counted), waits_again(state));
    match state.apply(event, end) {
        Applied::Refused => Err(EntryResult::Refused),
        Applied::NoChange => Err(EntryResult::NoChange),
        Applied::Changed => {
            Ok(Moved { old, new: state.facets(counted), again: (old_again, waits_again(state)), newest, line })
        }
    }
}

/// Pending, because somebody decided to send it again.
pub(super) fn waits_again(state: &MessageState) -> bool {
    state.again && state.phase == Phase::Pending
}

impl Moved {
    /// It moves some count.
    pub(super) fn counts(&self) -> bool {
        self.old != self.new || self.again.0 != self.again.1 || self.is_first()
    }

    /// The first attempt of a message that was never tried.
    pub(super) fn is_first(&self) -> bool {
        self.line.is_some() && self.newest == 0
    }

    /// Codes of shown failures that count one less, one more.
    pub(super) fn codes(&self) -> impl Iterator<Item = (u32, i64)> {
        let moved = self.old.failure_code != self.new.failure_code;
        [(self.old.failure_code, -1), (self.new.failure_code, 1)]
            .into_iter()
            .filter_map(move |(code, by)| code.filter(|_| moved).map(|code| (code, by)))
    }
}

impl SegmentCounts {
    /// The counts of recipients that nobody has tried.
    pub(super) fn untouched(recipients: u64, end: Option<End>) -> Self {
        Self { tally: Tally::untouched(recipients, end), again: 0, untried: recipients }
    }

    /// Follows one message.
    pub(super) fn follow(&mut self, moved: &Moved) -> StoreResult<()> {
        if moved.is_first() {
            let untried = self.untried.checked_sub(1);
            self.untried = untried.ok_or_else(|| StoreError::Damaged("a first attempt too many".to_owned()))?;
        }
        self.tally.shift(&moved.old, &moved.new);
        self.again = self.again + u64::from(moved.again.1) - u64::from(moved.again.0);
        Ok(())
    }

    /// Adds another segment's counts.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.tally.absorb(&other.tally);
        self.again += other.again;
        self.untried += other.untried;
    }

    /// Whether any of its messages could be one of the filter's.
    pub(super) fn may_match(&self, filter: &super::MessageFilter) -> bool {
        let count = |shown: Shown| self.tally.count(shown) > 0;
        (filter.shown.is_empty() || filter.shown.iter().any(|shown| count(*shown)))
            && filter.reached.is_none_or(|stage| stage == Stage::Queued || self.tally.reached(stage) > 0)
            && (!filter.conflict || self.tally.conflicts > 0)
            && (!filter.doubled || self.tally.doubles > 0)
            && (filter.failure_code.is_none() || count(Shown::Failed))
    }
}

/// Moves a count by code.
pub(super) fn count_code(failures: &mut BTreeMap<u32, u64>, code: u32, by: i64) {
    let count = failures.entry(code).or_default();
    *count = count.saturating_add_signed(by);
    if *count == 0 {
        failures.remove(&code);
    }
}

/// The register as the facts of all attempts make it. Where nobody else wrote to the message they say the same. Where a former
/// owner's facts landed after its register had lost against a newer one, this is the transition that they are.
pub(super) fn rejoin(state: &mut MessageState) {
    let attempts = || state.newest.iter().chain(&state.older);
    let conflict = |a: &Attempt| a.failed.is_some() && a.stage() >= Stage::Delivered;
    let (reached, conflicts) = (attempts().map(Attempt::stage).max(), attempts().any(conflict));
    state.reached = reached.unwrap_or_default();
    state.conflict = conflicts;
    state.accepted |= attempts().any(Attempt::was_sent);
    state.older_sent |= state.older.iter().any(|a| a.stage() > Stage::Queued);
    let (failed, sent) =
        state.newest.as_ref().map_or((false, false), |newest| (newest.failed.is_some(), newest.was_sent()));
    let settled = match state.phase {
        _ if failed => Some(Phase::Failed),
        _ if sent => Some(Phase::Accepted),
        // The newest did not leave, and need not.
        Phase::Pending | Phase::Accepted | Phase::Failed if state.older_sent && !state.again => Some(state.by_older()),
        _ => None,
    };
    if let Some(phase) = settled.filter(|phase| *phase != state.phase) {
        (state.phase, state.due_at, state.again) = (phase, None, false);
    }
    state.doubled |= state.older_sent && sent;
}

/// Names of a tally's counts in the order of [`tally_values`]: the shown statuses by their names, then the rest.
pub(super) fn tally_names() -> impl Iterator<Item = &'static str> {
    let rest = ["reached_sent", "reached_delivered", "reached_read", "accepted", "conflicts", "doubles", "open"];
    Shown::ALL.iter().map(|shown| shown.name()).chain(rest)
}

/// A tally's counts.
pub(super) const TALLY_WIDTH: usize = Shown::ALL.len() + 7;

/// The counts in the order of [`tally_names`].
pub(super) fn tally_values(tally: &Tally) -> impl Iterator<Item = u64> {
    let rest = [tally.accepted, tally.conflicts, tally.doubles, tally.open];
    tally.shown.into_iter().chain(tally.reached).chain(rest)
}

/// The tally of counts in the order of [`tally_names`].
pub(super) fn tally_of(values: &[u64; TALLY_WIDTH]) -> Tally {
    let mut tally = Tally::default();
    let (shown, rest) = values.split_at(Shown::ALL.len());
    tally.shown.copy_from_slice(shown);
    tally.reached.copy_from_slice(&rest[..3]);
    [tally.accepted, tally.conflicts, tally.doubles, tally.open] = [rest[3], rest[4], rest[5], rest[6]];
    tally
}
