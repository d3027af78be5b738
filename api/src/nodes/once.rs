//! Each call once: which calls of every node were let in, so that one that somebody overheard and sends again is refused.
//!
//! Numbers rise with every call of a node, in one count for all that it asks. They need not come in order, for calls overtake each
//! other on their way; how far is bounded by [`WINDOW`], and so is the memory. A number is of its asker's term: of a name no two
//! processes ever have the same epoch, and the later one's is higher. So the newest epoch of each node is all that must be remembered, and no
//! clock is asked. That a call is of *this* node's term is decided before.

use std::collections::HashMap;

use parking_lot::Mutex;

/// How far calls may overtake each other. They get their number right before they join the queue of their connection, so that only
/// threads that were interrupted in between change places; one that comes later still is asked again.
const WINDOW: u64 = 64 * WORDS as u64;
const WORDS: usize = 16;

/// The calls of every node that were let in. One entry for each name that ever proved the node secret here.
#[derive(Debug, Default)]
pub(super) struct Once(Mutex<HashMap<String, Seen>>);

/// The calls of one node: the highest number, and of each of the [`WINDOW`] up to it whether it came.
#[derive(Debug)]
struct Seen {
    epoch: u64,
    highest: u64,
    /// The bit of a number is at its remainder.
    came: [u64; WORDS],
}

/// How a call stands to those that were let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It is let in.
    First,
    /// It was let in before, as far as is known: one that is too old to be known was.
    Again,
    /// Of a term of its asker that is over: it was on its way, or its asker stood still, while another began.
    TooLate,
}

impl Once {
    /// Lets a call in, if it is the first of its number.
    pub(super) fn enter(&self, from: &str, epoch: u64, number: u64) -> Came {
        let mut nodes = self.0.lock();
        match nodes.get_mut(from) {
            Some(seen) if epoch < seen.epoch => Came::TooLate,
            Some(seen) if epoch == seen.epoch => {
                if seen.take(number) {
                    Came::First
                } else {
                    Came::Again
                }
            }
            Some(seen) => {
                *seen = Seen::begin(epoch, number);
                Came::First
            }
            None => {
                nodes.insert(from.to_owned(), Seen::begin(epoch, number));
                Came::First
            }
        }
    }
}

impl Seen {
    fn begin(epoch: u64, number: u64) -> Self {
        let mut seen = Self { epoch, highest: number, came: [0; WORDS] };
        seen.mark(number);
        seen
    }

    fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            // What lies between is yet to come.
            if number - self.highest >= WINDOW {
                self.came.fill(0);
            } else {
                (self.highest + 1..number).for_each(|missing| *self.word(missing) &= !bit(missing));
            }
            self.highest = number;
            self.mark(number);
            return true;
        }
        let is_new = self.highest - number < WINDOW && *self.word(number) & bit(number) == 0;
        if is_new {
            self.mark(number);
        }
        is_new
    }

    fn mark(&mut self, number: u64) {
        *self.word(number) |= bit(number);
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.came[usize::try_from(number / 64 % WORDS as u64).unwrap_or_default()]
    }
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes in whatever order: nothing twice, and everything once that is not overtaken by a window.
        #[test]
        fn each_number_counts_once(steps in prop::collection::vec((0_u64..4_000, 0_u64..1_500), 1..400)) {
            let (once, mut came, mut highest) = (Once::default(), BTreeSet::new(), None);
            for (ahead, back) in steps {
                // Mostly near the highest, on both sides of it.
                let base = highest.unwrap_or(5_000_u64);
                let number = if ahead < 3_000 { base.saturating_sub(back) + ahead % 7 } else { base + ahead - 3_000 };
                let is_late = highest.is_some_and(|highest| highest >= number + WINDOW);
                let want = if !is_late && came.insert(number) { Came::First } else { Came::Again };
                prop_assert_eq!(once.enter("a", 1, number), want, "number {}", number);
                highest = highest.max(Some(number));
            }
        }
    }

    #[test]
    fn the_newest_term_counts_and_each_node_for_itself() {
        let once = Once::default();
        assert_eq!([(); 2].map(|()| once.enter("a", 3, 7)), [Came::First, Came::Again]);
        assert_eq!(once.enter("b", 1, 7), Came::First, "another node's");
        assert_eq!(once.enter("a", 4, 7), Came::First, "another process");
        assert_eq!(once.enter("a", 3, 8), Came::TooLate, "the term before is over");
        assert_eq!([u64::MAX, u64::MAX, 8].map(|n| once.enter("a", 4, n)), [Came::First, Came::Again, Came::Again]);
    }
}
