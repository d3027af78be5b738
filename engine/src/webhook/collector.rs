//! Collects the events of one POST, holding to the bounds of [`event`](super::event).

use super::event::{BAD_RAW_BYTES_MAX, BadEntry, Event, OTHER_RAW_BYTES_MAX, OtherEvent, StatusEvent};

/// Bad entries of one POST that are kept one by one. A body of three megabytes can hold a million of them, each tiny; past
/// this number they are only counted, in [`BadEntry::more`] of the last one.
const BAD_ENTRIES_MAX: usize = 1_000;

/// Collects the events of one POST, holding to the bounds above.
#[derive(Default)]
pub(super) struct Collector {
    events: Vec<Event>,
    bad_kept: usize,
    last_bad: usize,
}

impl Collector {
    pub(super) fn status(&mut self, event: StatusEvent) {
        self.events.push(Event::Status(event));
    }

    /// Keeps `event`, or records it as bad when its raw text is beyond the bound.
    pub(super) fn other(&mut self, event: OtherEvent) {
        if event.raw.len() > OTHER_RAW_BYTES_MAX {
            self.bad("longer than is kept", &event.raw);
        } else {
            self.events.push(Event::Other(Box::new(event)));
        }
    }

    pub(super) fn bad(&mut self, reason: &str, raw: &str) {
        if self.bad_kept == BAD_ENTRIES_MAX {
            if let Some(Event::Bad(last)) = self.events.get_mut(self.last_bad) {
                last.more = last.more.saturating_add(1);
            }
            return;
        }
        self.bad_kept += 1;
        self.last_bad = self.events.len();
        let raw = cut(raw, BAD_RAW_BYTES_MAX).into();
        self.events.push(Event::Bad(Box::new(BadEntry { reason: reason.into(), raw, more: 0 })));
    }

    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

/// The longest prefix of `text` of at most `bytes_max` bytes that ends between two characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The digits of an address (`16505551234`, `+16505551234`, `whatsapp:+16505551234`) if that is what it holds: 1 to 15 digits
/// (E.164) that do not start with 0. Group ids, user ids and alphanumeric senders give `None`.
pub(super) fn digits(address: &str) -> Option<u64> {
    let number = address.rsplit_once(':').map_or(address, |(_channel, rest)| rest);
    let number = number.strip_prefix('+').unwrap_or(number);
    let plain =
        matches!(number.len(), 1..=15) && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
    if plain { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_reads_numbers_and_only_numbers() {
        assert_eq!(digits("16505551234"), Some(16_505_551_234));
        assert_eq!(digits("+16505551234"), Some(16_505_551_234));
        assert_eq!(digits("whatsapp:+999000000000001"), Some(999_000_000_000_001));
        for not_a_number in
            ["", "+", "0123", "US.1349000000000000000001", "9990000000000011", "SLUICE", "messenger:12a"]
        {
            assert_eq!(digits(not_a_number), None, "{not_a_number}");
        }
    }

    #[test]
    fn cut_ends_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn bad_entries_beyond_the_bound_are_counted_not_kept() {
        let mut collector = Collector::default();
        for _ in 0..BAD_ENTRIES_MAX + 7 {
            collector.bad("x", "y");
        }
        let events = collector.into_events();
        assert_eq!(events.len(), BAD_ENTRIES_MAX);
        let Some(Event::Bad(last)) = events.last() else { panic!("the last is bad") };
        assert_eq!(last.more, 7);
    }
}
