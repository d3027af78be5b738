//! When another node's lease is over, by this node's own clock alone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::ownership::NodeSeen;
use crate::domain::time::Mono;

/// What this node saw of the others' rows, and when each last moved.
///
/// A row that shows a renewal was written by a holder who asked for it before this node read it, and who counts its lease from
/// before it asked. So a full lease after this node first saw that renewal the lease is over, whatever any wall clock says; unless the
/// holder renewed it unseen, which the comparison that ends its term finds.
///
/// Counted is only while this node could look: when the ledger was away for everybody, nobody renewed, and whoever looks first afterwards
/// would end the terms of all others, with the outcomes that they could not write.
#[derive(Debug)]
pub struct Watch {
    wait: Duration,
    seen: HashMap<String, Seen>,
    looked: Option<Mono>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    epoch: u64,
    renewal: u64,
    since: Mono,
    wait: Duration,
}

/// A sixty-fourth more is waited for: no two clocks run at quite the same rate.
fn waited(lease: Duration) -> Duration {
    lease + lease / 64
}

impl Watch {
    /// For leases of this length; of a node that says that its own is longer, for that: nodes are not all set anew at once.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self { wait: waited(lease), seen: HashMap::new(), looked: None }
    }

    /// Takes in what was read; `now`: when the answer was there.
    pub fn look(&mut self, nodes: &BTreeMap<String, NodeSeen>, now: Mono) {
        if self.looked.replace(now).is_some_and(|last| now.since(last) > self.wait / 2) {
            self.seen.clear();
        }
        self.seen.retain(|name, _| nodes.contains_key(name));
        for (name, node) in nodes {
            let wait = self.wait.max(waited(node.lease));
            let row = Seen { epoch: node.epoch, renewal: node.renewal, since: now, wait };
            let known = self.seen.entry(name.clone()).or_insert(row);
            if (known.epoch, known.renewal) != (row.epoch, row.renewal) {
                *known = row;
            }
        }
    }

    /// How long its row has stood still.
    pub fn still(&self, name: &str, now: Mono) -> Duration {
        self.seen.get(name).map_or(Duration::ZERO, |seen| now.since(seen.since))
    }

    /// Whether a full lease has passed since its row last moved.
    pub fn is_over(&self, name: &str, now: Mono) -> bool {
        self.seen.get(name).is_some_and(|seen| now.since(seen.since) >= seen.wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::UnixMillis;

    fn node(epoch: u64, renewal: u64) -> NodeSeen {
        NodeSeen {
            epoch,
            renewal,
            address: String::new(),
            version: String::new(),
            protocol: 1,
            draining: false,
            left: false,
            wall: UnixMillis(0),
            load: 0,
            lease: Duration::ZERO,
        }
    }

    proptest! {
        /// Whatever the rhythm of renewals and of looks: nobody is taken for dead before its lease is over by its own count.
        #[test]
        fn nobody_is_taken_for_dead_while_its_lease_holds(
            asks in prop::collection::vec((1_u64..4_000, 0_u64..900), 1..20),
            looks in prop::collection::vec(1_u64..1_500, 1..60),
        ) {
            let lease = Duration::from_millis(6_000);
            let ms = |ms: u64| Mono(10_000_000_000 + ms * 1_000_000);
            // (asked at, written at): the holder counts from the first, others see it from the second on.
            let (mut at, mut renewals) = (0, vec![(0, 0)]);
            for (pause, answer) in asks {
                renewals.push((at + pause, at + pause + answer));
                at += pause + answer;
            }
            let (mut watch, mut now) = (Watch::new(lease), 0);
            for step in looks {
                now += step;
                let shown = renewals.iter().filter(|(_, written)| *written <= now).count() as u64;
                watch.look(&BTreeMap::from([("a".to_owned(), node(1, shown))]), ms(now));
                let (asked, _) = renewals[usize::try_from(shown).unwrap() - 1];
                if watch.is_over("a", ms(now)) {
                    prop_assert!(now >= asked + 6_000, "at {now}, asked at {asked}");
                }
            }
        }
    }

    #[test]
    fn who_stands_still_for_a_lease_is_over() {
        let mut watch = Watch::new(Duration::from_secs(6));
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let rows = |renewal| BTreeMap::from([("a".to_owned(), node(1, renewal))]);
        for seconds in [10, 13, 16] {
            watch.look(&rows(1), at(seconds));
        }
        assert!(!watch.is_over("a", at(16)) && watch.is_over("a", at(17)));
        watch.look(&rows(2), at(17));
        assert!(!watch.is_over("a", at(17)), "it lives");
        assert!(!watch.is_over("b", at(99)), "of somebody unseen nothing is known");
    }

    #[test]
    fn a_lease_that_is_longer_than_our_own_is_waited_for() {
        let mut watch = Watch::new(Duration::from_secs(6));
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let long = NodeSeen { lease: Duration::from_secs(10), ..node(1, 1) };
        let short = NodeSeen { lease: Duration::from_secs(2), ..node(1, 1) };
        let rows = BTreeMap::from([("long".to_owned(), long), ("short".to_owned(), short)]);
        for seconds in [10, 13, 16, 19] {
            watch.look(&rows, at(seconds));
        }
        let over = |seconds| ["long", "short"].map(|name| watch.is_over(name, at(seconds)));
        assert_eq!([over(16), over(17), over(20), over(21)], [[false; 2], [false, true], [false, true], [true; 2]]);
    }

    #[test]
    fn while_nothing_could_be_read_nobody_is_missed() {
        let mut watch = Watch::new(Duration::from_secs(6));
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        let rows = BTreeMap::from([("a".to_owned(), node(1, 1))]);
        watch.look(&rows, at(10));
        watch.look(&rows, at(70));
        assert!(!watch.is_over("a", at(76)), "nor could it renew");
        watch.look(&rows, at(73));
        watch.look(&rows, at(76));
        assert!(watch.is_over("a", at(77)), "it had a lease's time to do it");
    }
}
