//! What the changes of a watched campaign come to, for whoever follows the stream.

use crate::v1::{Campaign, CampaignDelta, FailureCount};

impl Campaign {
    /// Takes a change of `WatchCampaign`: its counts are absolute, and what it leaves out stays as it is.
    pub fn apply(&mut self, delta: CampaignDelta) {
        self.state = delta.state;
        self.hold = delta.hold;
        self.settled_time = delta.settled_time.or(self.settled_time);
        let stats = self.stats.get_or_insert_default();
        stats.as_of = delta.as_of;
        stats.refused = delta.refused.unwrap_or(stats.refused);
        stats.in_flight = delta.in_flight;
        stats.remaining = delta.remaining;
        stats.progress_percent = delta.progress_percent;
        stats.delivery_rate_percent = delta.delivery_rate_percent;
        stats.read_rate_percent = delta.read_rate_percent;
        stats.current_rate = delta.current_rate;
        stats.average_rate = delta.average_rate;
        stats.estimated_end_time = delta.estimated_end_time;
        stats.binding_limit = delta.binding_limit;
        let same_code =
            |one: &FailureCount, other: &FailureCount| (one.provider, &one.code) == (other.provider, &other.code);
        replace(&mut stats.failures, delta.failures, same_code);
        let tally = stats.tally.get_or_insert_default();
        replace(&mut tally.by_status, delta.by_status, |one, other| one.status == other.status);
        replace(&mut tally.by_stage, delta.by_stage, |one, other| one.stage == other.stage);
        tally.total = delta.total.unwrap_or(tally.total);
        tally.accepted = delta.accepted.unwrap_or(tally.accepted);
        tally.conflicts = delta.conflicts.unwrap_or(tally.conflicts);
        tally.doubles = delta.doubles.unwrap_or(tally.doubles);
    }
}

/// Puts each new value in the place of the one that it is the new value of.
fn replace<T>(held: &mut Vec<T>, new: Vec<T>, is_same: impl Fn(&T, &T) -> bool) {
    for value in new {
        match held.iter_mut().find(|old| is_same(old, &value)) {
            Some(old) => *old = value,
            None => held.push(value),
        }
    }
}
