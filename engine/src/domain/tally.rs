//! A campaign's counts. They move only by transitions, old facets to new, in the commit that moved the message.

use serde::{Deserialize, Serialize};

use super::message::Facets;
use super::stage::{End, Shown, Stage};

/// Counts of one segment, one campaign, or a sum over campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// By shown status, indexed by the number of [`Shown`]; the sum is the recipients.
    pub shown: [u64; Shown::ALL.len()],
    /// Messages that reached sent, delivered, read: cumulative.
    pub reached: [u64; 3],
    /// Accepted by the provider at some time.
    pub accepted: u64,
    /// Both failed and delivered.
    pub conflicts: u64,
    /// Sent twice.
    pub doubles: u64,
    /// In flight now.
    pub open: u64,
}

impl Tally {
    /// A tally of `recipients` untouched messages.
    pub fn untouched(recipients: u64, end: Option<End>) -> Self {
        let mut tally = Self::default();
        tally.shown[Facets::untouched(end).shown as usize] = recipients;
        tally
    }

    /// All recipients: the sum over the shown statuses.
    pub fn recipients(&self) -> u64 {
        self.shown.iter().sum()
    }

    /// The count of one shown status.
    pub fn count(&self, shown: Shown) -> u64 {
        self.shown[shown as usize]
    }

    /// Messages that reached at least this stage (`Queued`: not counted, 0).
    pub fn reached(&self, stage: Stage) -> u64 {
        match stage {
            Stage::Queued => 0,
            Stage::Sent => self.reached[0],
            Stage::Delivered => self.reached[1],
            Stage::Read => self.reached[2],
        }
    }

    /// Counts one more message with these facets.
    pub fn add(&mut self, facets: &Facets) {
        self.shown[facets.shown as usize] += 1;
        for (count, stage) in self.reached.iter_mut().zip([Stage::Sent, Stage::Delivered, Stage::Read]) {
            *count += u64::from(facets.reached >= stage);
        }
        self.accepted += u64::from(facets.accepted);
        self.conflicts += u64::from(facets.conflict);
        self.doubles += u64::from(facets.doubled);
        self.open += u64::from(facets.open);
    }

    /// Takes one message with these facets away.
    ///
    /// # Panics
    /// When it was never counted: the tally would be wrong from then on.
    pub fn remove(&mut self, facets: &Facets) {
        let take = |count: &mut u64, by: bool| {
            *count =
                count.checked_sub(u64::from(by)).expect("a tally never falls below zero: it moved without its ledger");
        };
        take(&mut self.shown[facets.shown as usize], true);
        for (count, stage) in self.reached.iter_mut().zip([Stage::Sent, Stage::Delivered, Stage::Read]) {
            take(count, facets.reached >= stage);
        }
        take(&mut self.accepted, facets.accepted);
        take(&mut self.conflicts, facets.conflict);
        take(&mut self.doubles, facets.doubled);
        take(&mut self.open, facets.open);
    }

    /// Moves one message from its old facets to its new ones; the recipients stay the same.
    pub fn shift(&mut self, old: &Facets, new: &Facets) {
        if old != new {
            self.remove(old);
            self.add(new);
        }
    }

    /// Adds another tally (segments to a campaign, campaigns to a tenant).
    pub fn absorb(&mut self, other: &Self) {
        let mine = self.shown.iter_mut().chain(self.reached.iter_mut());
        for (a, b) in mine.zip(other.shown.iter().chain(other.reached.iter())) {
            *a += b;
        }
        self.accepted += other.accepted;
        self.conflicts += other.conflicts;
        self.doubles += other.doubles;
        self.open += other.open;
    }

    /// The campaign ended: what is pending becomes cancelled or expired.
    pub fn end_pending(&mut self, end: End) {
        let pending = std::mem::take(&mut self.shown[Shown::Pending as usize]);
        self.shown[Shown::from(end) as usize] += pending;
    }

    /// delivered ÷ sent, by stage reached, in per cent with two decimals; 0 when there is nothing to divide.
    pub fn delivery_rate(&self) -> f64 {
        percent(self.reached[1], self.reached[0])
    }

    /// read ÷ delivered, by stage reached, in per cent with two decimals; 0 when there is nothing to divide.
    pub fn read_rate(&self) -> f64 {
        percent(self.reached[2], self.reached[1])
    }

    /// Messages for which more may come: not yet final. `delivered_is_final`: SMS has no read receipts.
    pub fn unsettled(&self, delivered_is_final: bool) -> u64 {
        let last = |s: Shown| s.is_final() || (delivered_is_final && s == Shown::Delivered);
        Shown::ALL.iter().filter(|s| !last(**s)).map(|s| self.count(*s)).sum()
    }
}

#[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 10_000.0 / whole as f64).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_two_decimals_and_no_division_by_nothing() {
        let mut tally = Tally::default();
        assert_eq!((tally.delivery_rate(), tally.read_rate()), (0.0, 0.0));
        tally.reached = [3, 2, 1];
        assert_eq!((tally.delivery_rate(), tally.read_rate()), (66.67, 50.0));
    }
}
