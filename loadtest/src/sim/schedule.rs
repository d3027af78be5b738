//! What is due when: statuses waiting for their time, in slots of one millisecond.

use std::collections::BTreeMap;

use super::plan::Status;

/// One status to post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The accepted message.
    pub entry: u32,
    /// Which status.
    pub status: Status,
}

/// Items by their millisecond.
#[derive(Debug)]
pub struct Schedule<T> {
    slots: BTreeMap<u64, Vec<T>>,
    waiting: usize,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), waiting: 0 }
    }
}

impl<T> Schedule<T> {
    /// Puts an item at a millisecond.
    pub fn put(&mut self, at_ms: u64, item: T) {
        self.slots.entry(at_ms).or_default().push(item);
        self.waiting += 1;
    }

    /// Takes everything that is due at `now_ms`, in order; `each` hears the millisecond for which it was planned.
    pub fn take(&mut self, now_ms: u64, mut each: impl FnMut(u64, T)) {
        while let Some(slot) = self.slots.first_entry() {
            if *slot.key() > now_ms {
                break;
            }
            let (at_ms, items) = slot.remove_entry();
            self.waiting -= items.len();
            items.into_iter().for_each(|item| each(at_ms, item));
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_at_their_time_and_in_order() {
        let mut schedule = Schedule::default();
        for (at, item) in [(5, 'c'), (3, 'a'), (9, 'd'), (3, 'b')] {
            schedule.put(at, item);
        }
        let mut seen = Vec::new();
        schedule.take(2, |at, item| seen.push((at, item)));
        assert!(seen.is_empty());
        schedule.take(5, |at, item| seen.push((at, item)));
        assert_eq!(seen, vec![(3, 'a'), (3, 'b'), (5, 'c')]);
        assert_eq!(schedule.waiting(), 1);
        schedule.take(u64::MAX, |at, item| seen.push((at, item)));
        assert_eq!(schedule.waiting(), 0);
    }
}
