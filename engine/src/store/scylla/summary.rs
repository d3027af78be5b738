//! A segment's counts as they stand in the static columns of its partition: each column one cell, so that it is of one write.
//!
//! They are counted as if the campaign had not ended; the end is applied to the sums when they are read. So that a campaign of a
//! million messages ends by one decision about its record. What was decided to be sent again is counted beside the end that the
//! decisions were made behind: with the next end they are void, here as in the registers, without being written.

use std::collections::{BTreeMap, HashMap};

use super::compact::Compact;
use super::error::damaged;
use crate::domain::message::Phase;
use crate::domain::stage::{End, Shown};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::StoreResult;
use crate::store::step::{SegmentCounts, TALLY_WIDTH, tally_names, tally_of, tally_values};

/// The column `tally`: counts by name, those above zero; and when something is due, Unix milliseconds.
pub(super) type TallyCell = HashMap<String, i64>;

/// The column `failures`: shown failures by code.
pub(super) type FailuresCell = BTreeMap<i32, i64>;

/// `(segment, tally, failures)`.
pub(super) type SummaryRow = (i32, Option<TallyCell>, Option<FailuresCell>);

/// What is known of a segment without reading its messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Summary {
    /// Its counts, as if the campaign had not ended.
    pub(super) counts: SegmentCounts,
    /// Shown failures by code.
    pub(super) failures: BTreeMap<u32, u64>,
    /// What waits in it.
    pub(super) dues: Dues,
    /// The campaign's [`super::campaigns::Stored::end_version`] that `counts.again` and `dues.again` hold for.
    pub(super) end_version: u64,
}

/// When the earliest of a segment's messages is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dues {
    /// Of those that are pending after an attempt.
    pub(super) pending: Option<UnixMillis>,
    /// Of those among them that somebody decided to send again.
    pub(super) again: Option<UnixMillis>,
    /// Of those in doubt.
    pub(super) doubt: Option<UnixMillis>,
}

const DUES: [&str; 3] = ["due", "due_again", "due_doubt"];
const END_VERSION: &str = "end_version";

impl Dues {
    /// Takes one message into account.
    pub(super) fn meet(&mut self, message: &Compact) {
        let earlier =
            |place: &mut Option<UnixMillis>, due: UnixMillis| *place = Some(place.map_or(due, |d| d.min(due)));
        let Some(due) = message.due() else { return };
        match message.phase() {
            Some(Phase::Pending) => {
                earlier(&mut self.pending, due);
                if message.again() {
                    earlier(&mut self.again, due);
                }
            }
            Some(Phase::InDoubt) => earlier(&mut self.doubt, due),
            _ => {}
        }
    }
}

impl Summary {
    /// Takes back what was decided to be sent again before the campaign's last end.
    pub(super) fn end_with(&mut self, end_version: u64) {
        if self.end_version < end_version {
            self.end_version = end_version;
            self.counts.again = 0;
            self.dues.again = None;
        }
    }

    /// A segment whose recipients nobody has tried.
    pub(super) fn untouched(recipients: u64) -> Self {
        Self { counts: SegmentCounts::untouched(recipients, None), ..Self::default() }
    }

    /// The tally, given how the campaign ended.
    pub(super) fn tally(&self, end: Option<End>) -> Tally {
        ended(&self.counts, end)
    }

    /// Messages whose owner has something to do: pending after an attempt, in flight or in doubt.
    pub(super) fn has_open(&self) -> bool {
        self.counts.tally.open > 0
    }

    /// As the columns hold it.
    pub(super) fn cells(&self) -> (TallyCell, FailuresCell) {
        let counts = tally_names().zip(tally_values(&self.counts.tally));
        let counts = counts.chain([
            ("again", self.counts.again),
            ("untried", self.counts.untried),
            (END_VERSION, self.end_version),
        ]);
        let mut tally: TallyCell = counts
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count.cast_signed()))
            .collect();
        for (name, due) in DUES.into_iter().zip([self.dues.pending, self.dues.again, self.dues.doubt]) {
            if let Some(due) = due {
                tally.insert(name.to_owned(), due.0);
            }
        }
        // Codes are the providers' and far below 2^31; a larger one keeps its bits.
        let failures = self.failures.iter().map(|(code, count)| (code.cast_signed(), count.cast_signed())).collect();
        (tally, failures)
    }

    /// Of the columns, of a campaign whose last end gave it this version.
    pub(super) fn of_cells(tally: &TallyCell, failures: FailuresCell, end_version: u64) -> StoreResult<Self> {
        let count = |name: &str| match tally.get(name) {
            None => Ok(0),
            Some(count) => u64::try_from(*count).map_err(|_| damaged(format!("{count} messages counted as {name}"))),
        };
        let mut values = [0; TALLY_WIDTH];
        for (value, name) in values.iter_mut().zip(tally_names()) {
            *value = count(name)?;
        }
        let due = |name: &str| tally.get(name).map(|due| UnixMillis(*due));
        let failures = failures.into_iter().map(|(code, count)| (code.cast_unsigned(), count.unsigned_abs())).collect();
        let mut this = Self {
            counts: SegmentCounts { tally: tally_of(&values), again: count("again")?, untried: count("untried")? },
            failures,
            dues: Dues { pending: due(DUES[0]), again: due(DUES[1]), doubt: due(DUES[2]) },
            end_version: count(END_VERSION)?,
        };
        this.end_with(end_version);
        Ok(this)
    }
}

/// Counts with the end applied: what is pending and was not decided to be sent again since shows how the campaign ended.
pub(super) fn ended(counts: &SegmentCounts, end: Option<End>) -> Tally {
    let mut tally = counts.tally;
    if let Some(end) = end {
        let again = counts.again.min(tally.count(Shown::Pending));
        tally.shown[Shown::Pending as usize] -= again;
        tally.end_pending(end);
        tally.shown[Shown::Pending as usize] = again;
    }
    tally
}

/// The sum of segments.
pub(super) fn sum<'s>(segments: impl Iterator<Item = &'s Summary>) -> (SegmentCounts, BTreeMap<u32, u64>) {
    let (mut counts, mut failures) = (SegmentCounts::default(), BTreeMap::new());
    for segment in segments {
        counts.absorb(&segment.counts);
        for (code, count) in &segment.failures {
            *failures.entry(*code).or_default() += count;
        }
    }
    (counts, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_it_all() {
        let mut summary = Summary::untouched(9);
        summary.counts.again = 2;
        summary.counts.tally.open = 3;
        summary.failures.insert(u32::MAX, 1);
        summary.dues.doubt = Some(UnixMillis(7));
        (summary.dues.again, summary.end_version) = (Some(UnixMillis(8)), 5);
        let (tally, failures) = summary.cells();
        assert_eq!(tally.len(), 7, "counts of zero take no room");
        assert_eq!(Summary::of_cells(&tally, failures.clone(), 5).unwrap(), summary);
        let ended_again = Summary::of_cells(&tally, failures, 6).unwrap();
        assert_eq!((ended_again.counts.again, ended_again.dues.again), (0, None), "the next end takes it back");
        assert_eq!(ended_again.counts.tally, summary.counts.tally);
        assert_eq!(ended(&summary.counts, Some(End::Expired)).shown, {
            let mut tally = Tally::untouched(7, Some(End::Expired));
            tally.shown[0] = 2;
            tally.shown
        });
    }
}
