//! How far other nodes' wall clocks are from this one's. Nothing is decided by it; it is shown.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::ownership::NodeSeen;
use crate::domain::time::UnixMillis;

/// Renewals that are remembered of each node.
const REMEMBERED: usize = 8;

/// What the rows said, against this node's clock at the moment they were read.
///
/// A row is read some time after it was written, never before. So each reading is too low by that time, and the highest of the last
/// few is the nearest to the truth.
#[derive(Debug, Default)]
pub(super) struct Skew {
    seen: HashMap<String, (u64, u64, VecDeque<i64>)>,
}

impl Skew {
    /// Takes in what was read at `now`.
    pub(super) fn look(&mut self, nodes: &BTreeMap<String, NodeSeen>, now: UnixMillis) {
        self.seen.retain(|name, _| nodes.contains_key(name));
        for (name, node) in nodes.iter().filter(|(_, node)| !node.left) {
            let known = self.seen.entry(name.clone()).or_insert((node.epoch, node.renewal, VecDeque::new()));
            // The first sight of a row says nothing: it may be old.
            if (known.0, known.1) != (node.epoch, node.renewal) {
                (known.0, known.1) = (node.epoch, node.renewal);
                known.2.push_back(node.wall.0.saturating_sub(now.0));
                if known.2.len() > REMEMBERED {
                    known.2.pop_front();
                }
            }
        }
    }

    /// How far a node's clock is ahead of this one's, milliseconds; too low by what its fastest row took to be seen.
    pub(super) fn of(&self, name: &str) -> Option<i64> {
        self.seen.get(name)?.2.iter().max().copied()
    }

    /// The farthest of all, either way.
    pub(super) fn farthest(&self) -> i64 {
        self.seen.keys().filter_map(|name| self.of(name)).max_by_key(|skew| skew.abs()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_reading_with_the_least_delay_counts() {
        let node = |renewal, wall| NodeSeen {
            epoch: 1,
            renewal,
            address: String::new(),
            version: String::new(),
            protocol: 1,
            draining: false,
            left: false,
            wall: UnixMillis(wall),
            load: 0,
            lease: Duration::ZERO,
        };
        let rows = |renewal, wall| BTreeMap::from([("a".to_owned(), node(renewal, wall))]);
        let mut skew = Skew::default();
        skew.look(&rows(1, 600_000), UnixMillis(50_000));
        assert_eq!(skew.of("a"), None, "nobody knows how old the first is");
        // Ten minutes ahead; seen after 400, 30 and 900 ms.
        for (renewal, at, after) in [(2, 1_000, 400), (3, 3_000, 30), (4, 5_000, 900)] {
            skew.look(&rows(renewal, at + 600_000), UnixMillis(at + after));
        }
        assert_eq!((skew.of("a"), skew.farthest()), (Some(599_970), 599_970));
    }
}
