//! How much may be in doubt for good without a trace at the provider.
//!
//! The simulator books what it refused, reset or left hanging, so whatever it did to a request explains that one request. What never reached
//! it can only have been on its way inside the server when that was killed (or stood still): it began before that moment, after the moment
//! before it, and no more of a campaign can have been under way than its in-flight maximum. Everything beyond has vanished.

use serde::Serialize;

/// Longest from a durable intent to its outcome: the server's longest deadlines with room to spare. What began earlier was not under way.
pub const FLIGHT_NS: u64 = 120_000_000_000;

/// What is in doubt without a trace, of one campaign or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traceless {
    /// Messages in doubt or unconfirmed that the provider never accepted.
    pub unanswered: u64,
    /// Of these: those of which the simulator booked what it did to them.
    pub booked: u64,
    /// Of these: those that it never saw.
    pub unseen: u64,
    /// Kills and freezes of the server while the campaigns were under way.
    pub interruptions: u64,
    /// How many unseen ones these explain at most.
    pub allowed: Option<u64>,
    /// Unseen ones beyond that.
    pub beyond: u64,
}

impl Traceless {
    /// Adds another campaign's.
    pub fn add(&mut self, other: &Self) {
        self.unanswered += other.unanswered;
        self.booked += other.booked;
        self.unseen += other.unseen;
        self.interruptions = self.interruptions.max(other.interruptions);
        self.allowed = match (self.allowed, other.allowed) {
            (Some(a), Some(b)) => Some(a + b),
            _ => None,
        };
        self.beyond += other.beyond;
    }

    /// In words: the number that the bound is about first.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { booked, unseen, interruptions, beyond, .. } = self;
        let judged = match (self.allowed, beyond) {
            (None, _) => "kills of this server are not known here".to_owned(),
            (Some(_), 0) => format!("{interruptions} kills and freezes"),
            (Some(_), _) => format!("{beyond} of them without a reason, {interruptions} kills and freezes"),
        };
        format!("{unseen} ({judged}; {booked} more were reset, refused or left hanging by it)")
    }
}

/// One unseen message: when its newest attempt began, and its place.
pub type Unseen = (u64, u32);

/// Which of the `unseen` are explained by none of the `interruptions` (ns since the epoch, in any order), each of which explains at most
/// `in_flight` that began before it and after the one before it.
#[must_use]
pub fn beyond(unseen: &[Unseen], interruptions: &[u64], in_flight: u64) -> Vec<Unseen> {
    let mut moments = interruptions.to_vec();
    moments.sort_unstable();
    let mut explained = vec![0; moments.len()];
    let mut left = Vec::new();
    for &(began_ns, seq) in unseen {
        let next = moments.partition_point(|moment| *moment < began_ns);
        match moments.get(next) {
            Some(moment) if moment - began_ns <= FLIGHT_NS && explained[next] < in_flight => explained[next] += 1,
            _ => left.push((began_ns, seq)),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn each_interruption_explains_what_was_under_way_and_no_more() {
        let kills = [20 * SECOND, 10 * SECOND];
        let unseen: Vec<Unseen> = (0..5).map(|n| (9 * SECOND, n)).chain((5..8).map(|n| (15 * SECOND, n))).collect();
        assert_eq!(beyond(&unseen, &kills, 5), []);
        assert_eq!(
            beyond(&unseen, &kills, 4),
            [(9 * SECOND, 4)],
            "the second kill has room, but they were not under way then"
        );
        assert_eq!(beyond(&unseen, &[], 100).len(), 8, "without a kill nothing vanishes");
        assert_eq!(beyond(&[(21 * SECOND, 1)], &kills, 100).len(), 1, "after the last kill nothing vanishes");
        assert_eq!(beyond(&[(0, 1)], &[FLIGHT_NS + 1], 100).len(), 1, "nothing is under way for so long");
    }

    #[test]
    fn sums_know_whether_the_bound_is_known() {
        let known = Traceless { unanswered: 3, booked: 1, unseen: 2, interruptions: 1, allowed: Some(64), beyond: 0 };
        let mut sum = known;
        sum.add(&known);
        assert_eq!((sum.unanswered, sum.allowed, sum.interruptions), (6, Some(128), 1));
        sum.add(&Traceless::default());
        assert_eq!(sum.allowed, None);
    }
}
