//! Rates: the limit that is enforced on arrival, and the figures computed afterwards.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::stamp::stalled_ns;

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Enforces a ceiling over a sliding second: in any window `[t, t + 1 s)` no more than `ceiling` units are accepted.
#[derive(Debug)]
pub struct Window {
    ceiling: u64,
    recent: VecDeque<(u64, u8)>,
    units: u64,
}

impl Window {
    /// A window that has seen nothing.
    #[must_use]
    pub fn new(ceiling: u32) -> Self {
        Self { ceiling: u64::from(ceiling), recent: VecDeque::new(), units: 0 }
    }

    /// Accepts an arrival of `cost` units at `at_ns`, or not. Arrivals on different connections may be read
    /// slightly out of order; they are put where they belong.
    pub fn admit(&mut self, at_ns: u64, cost: u8) -> bool {
        while let Some(&(first, units)) = self.recent.front() {
            if first + SECOND_NS > at_ns {
                break;
            }
            self.units -= u64::from(units);
            self.recent.pop_front();
        }
        if self.units + u64::from(cost) > self.ceiling {
            return false;
        }
        let place = self.recent.iter().rposition(|&(at, _)| at <= at_ns).map_or(0, |before| before + 1);
        self.recent.insert(place, (at_ns, cost));
        self.units += u64::from(cost);
        true
    }
}

/// The highest number of units in any window `[t, t + 1 s)`, and where it begins. `arrivals` must be sorted by time.
#[must_use]
pub fn highest_second(arrivals: &[(u64, u8)]) -> (u64, u64) {
    let mut best = (0, 0);
    let mut units = 0;
    let mut first = 0;
    for &(at, cost) in arrivals {
        units += u64::from(cost);
        while arrivals[first].0 + SECOND_NS <= at {
            units -= u64::from(arrivals[first].1);
            first += 1;
        }
        if units > best.0 {
            best = (units, arrivals[first].0);
        }
    }
    best
}

/// Most units above the ceiling in any window `[t, t + 1 s)` that the machine's `stalls` (when each ended, how long it was, ns) do not explain:
/// all of them where it did not stand still, else what is beyond the ceiling's worth of the standstill and one. `arrivals` must be sorted.
#[must_use]
pub fn unexplained(arrivals: &[(u64, u8)], ceiling: u32, stalls: &[(u64, u64)]) -> u64 {
    let ceiling = u64::from(ceiling);
    let (mut most, mut units, mut first) = (0, 0, 0);
    for &(at, cost) in arrivals {
        units += u64::from(cost);
        while arrivals[first].0 + SECOND_NS <= at {
            units -= u64::from(arrivals[first].1);
            first += 1;
        }
        if units > ceiling + most {
            let stalled = stalled_ns(stalls, arrivals[first].0, arrivals[first].0 + SECOND_NS);
            let explained = if stalled > 0 { ceiling.saturating_mul(stalled) / SECOND_NS + 1 } else { 0 };
            most = most.max((units - ceiling).saturating_sub(explained));
        }
    }
    most
}

/// The lowest number of units in any window of `window_ns` that lies wholly within `[from_ns, to_ns]`, and where it begins.
/// `None` when no window fits. `arrivals` must be sorted.
///
/// A minimum is reached by a window that begins just after an arrival or ends just before one, so only these are looked at.
#[must_use]
pub fn lowest_window(arrivals: &[(u64, u8)], from_ns: u64, to_ns: u64, window_ns: u64) -> Option<(u64, u64)> {
    if from_ns + window_ns > to_ns {
        return None;
    }
    let mut sums = Vec::with_capacity(arrivals.len() + 1);
    let mut total = 0u64;
    sums.push(0);
    for &(_, cost) in arrivals {
        total += u64::from(cost);
        sums.push(total);
    }
    // Units in [start, start + window).
    let units = |start: u64| {
        let low = arrivals.partition_point(|&(at, _)| at < start);
        let high = arrivals.partition_point(|&(at, _)| at < start + window_ns);
        sums[high] - sums[low]
    };
    let last_start = to_ns - window_ns;
    let mut best = (units(from_ns), from_ns);
    let mut consider = |start: u64| {
        if start >= from_ns && start <= last_start {
            let found = units(start);
            if found < best.0 {
                best = (found, start);
            }
        }
    };
    consider(last_start);
    for &(at, _) in arrivals {
        consider(at + 1);
        consider(at.saturating_sub(window_ns));
    }
    Some(best)
}

/// The figures of one line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LineRate {
    /// The line's identity at the provider.
    pub line: String,
    /// Its ceiling.
    pub ceiling: u32,
    /// Units of all arrivals, refused ones included.
    pub units: u64,
    /// Arrivals, refused ones included.
    pub arrivals: u64,
    /// First arrival, ns since the epoch.
    pub first_ns: u64,
    /// Last arrival.
    pub last_ns: u64,
    /// Highest number of units in any `[t, t + 1 s)`.
    pub highest: u64,
    /// Where that window begins.
    pub highest_at_ns: u64,
    /// Most units above the ceiling in a second that no standstill of the machine explains; see [`unexplained`].
    pub unexplained: u64,
    /// Units per second over the whole time.
    pub mean: f64,
    /// Units per second in the emptiest window of `window_s` between the two marks.
    pub lowest_window_mean: Option<f64>,
    /// The same divided by the ceiling.
    pub lowest_window_used: Option<f64>,
    /// The length of that window in seconds.
    pub window_s: f64,
    /// Units in each whole window one after the other from the first mark.
    pub windows: Vec<u64>,
}

/// Computes the figures of one line between two marks (without them: first and last arrival). `stalls` are the machine's.
#[must_use]
pub fn line_rate(
    line: &str,
    ceiling: u32,
    mut arrivals: Vec<(u64, u8)>,
    window_ns: u64,
    marks: (Option<u64>, Option<u64>),
    stalls: &[(u64, u64)],
) -> LineRate {
    arrivals.sort_unstable();
    let units: u64 = arrivals.iter().map(|&(_, cost)| u64::from(cost)).sum();
    let first_ns = arrivals.first().map_or(0, |a| a.0);
    let last_ns = arrivals.last().map_or(0, |a| a.0);
    let from = marks.0.unwrap_or(first_ns);
    let to = marks.1.unwrap_or(last_ns);
    let (highest, highest_at_ns) = highest_second(&arrivals);
    let window_s = window_ns as f64 / 1e9;
    let lowest = lowest_window(&arrivals, from, to, window_ns).map(|(n, _)| n as f64 / window_s);
    let mut windows = Vec::new();
    let mut start = from;
    let mut place = arrivals.partition_point(|&(at, _)| at < from);
    while window_ns > 0 && start + window_ns <= to && windows.len() < 100_000 {
        let end = place + arrivals[place..].partition_point(|&(at, _)| at < start + window_ns);
        let sum = arrivals[place..end].iter().map(|&(_, cost)| u64::from(cost));
        windows.push(sum.sum());
        place = end;
        start += window_ns;
    }
    let span_s = last_ns.saturating_sub(first_ns) as f64 / 1e9;
    LineRate {
        line: line.to_owned(),
        ceiling,
        units,
        arrivals: arrivals.len() as u64,
        first_ns,
        last_ns,
        highest,
        highest_at_ns,
        unexplained: unexplained(&arrivals, ceiling, stalls),
        mean: if span_s > 0.0 { units as f64 / span_s } else { 0.0 },
        lowest_window_mean: lowest,
        lowest_window_used: lowest.map(|mean| mean / f64::from(ceiling)),
        window_s,
        windows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::plan::Dice;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_window_is_half_open() {
        let mut window = Window::new(2);
        assert!(window.admit(0, 1));
        assert!(window.admit(500 * MS, 1));
        assert!(!window.admit(SECOND_NS - 1, 1));
        assert!(window.admit(SECOND_NS, 1), "exactly a second later is another window");
        assert!(!window.admit(SECOND_NS + 1, 1));
        assert!(window.admit(1_500 * MS, 1));
    }

    #[test]
    fn parts_count() {
        let mut window = Window::new(10);
        assert!(window.admit(0, 7));
        assert!(!window.admit(1, 4));
        assert!(window.admit(2, 3));
    }

    #[test]
    fn what_the_window_accepts_never_exceeds_the_ceiling() {
        for seed in 0..20 {
            let mut dice = Dice::new(seed, &[]);
            let ceiling = 1 + (dice.next() % 50) as u32;
            let mut window = Window::new(ceiling);
            let mut at = 0;
            let mut accepted = Vec::new();
            for _ in 0..2_000 {
                at += dice.next() % (40 * MS);
                if window.admit(at, 1) {
                    accepted.push((at, 1));
                }
            }
            assert!(highest_second(&accepted).0 <= u64::from(ceiling), "seed {seed}");
        }
    }

    #[test]
    fn highest_and_lowest_agree_with_a_slow_count() {
        for seed in 0..30 {
            let mut dice = Dice::new(seed, &[9]);
            let mut arrivals: Vec<(u64, u8)> =
                (0..60).map(|_| (dice.next() % (8 * SECOND_NS) / MS * MS, 1 + (dice.next() % 3) as u8)).collect();
            arrivals.sort_unstable();
            let count = |start: u64, len: u64| -> u64 {
                let inside = arrivals.iter().filter(|a| a.0 >= start && a.0 < start + len);
                inside.map(|a| u64::from(a.1)).sum()
            };
            let slow = (0..8_000).map(|ms| count(ms * MS, SECOND_NS)).max();
            assert_eq!(Some(highest_second(&arrivals).0), slow, "seed {seed}");
            let slow = (0..=6_000).map(|ms| count(ms * MS, 2 * SECOND_NS)).min();
            let fast = lowest_window(&arrivals, 0, 8 * SECOND_NS, 2 * SECOND_NS);
            // Arrivals stand on whole milliseconds; a window may begin 1 ns after one.
            assert!(fast.map(|f| f.0) <= slow, "seed {seed}: {fast:?} {slow:?}");
        }
    }

    #[test]
    fn a_standstill_explains_its_own_worth_and_one() {
        let mut arrivals: Vec<(u64, u8)> = (0..2_000).map(|n| (n * 10 * MS, 1)).collect();
        assert_eq!(unexplained(&arrivals, 100, &[]), 0);
        // Four at once, ten seconds in.
        arrivals.splice(1_000..1_000, [(10 * SECOND_NS, 1); 4]);
        assert_eq!(unexplained(&arrivals, 100, &[]), 4);
        let stall = |at_s: u64, ms: u64| [(at_s * SECOND_NS, ms * MS)];
        assert_eq!(unexplained(&arrivals, 100, &stall(10, 30)), 0, "three and one");
        assert_eq!(unexplained(&arrivals, 100, &stall(10, 20)), 1, "two and one");
        assert_eq!(unexplained(&arrivals, 100, &stall(5, 900)), 4, "elsewhere it explains nothing");
        // The highest second is explained, another one is not.
        arrivals.splice(500..500, [(5 * SECOND_NS, 1); 2]);
        assert_eq!(highest_second(&arrivals).0, 104);
        assert_eq!(unexplained(&arrivals, 100, &stall(10, 30)), 2);
    }

    #[test]
    fn figures_of_an_even_line() {
        let arrivals: Vec<(u64, u8)> = (0..2_000).map(|n| (n * 10 * MS, 1)).collect();
        let rate = line_rate("l", 100, arrivals, 10 * SECOND_NS, (None, None), &[]);
        assert_eq!(rate.highest, 100);
        assert_eq!(rate.windows, vec![1_000]);
        let used = rate.lowest_window_used.expect("a window fits");
        assert!((0.99..=1.0).contains(&used), "{used}");
    }
}
