//! What the simulator's ledger says about time: evenness, first bytes, the way from intent to acceptance, fair shares.

use std::collections::BTreeMap;
use std::ops::Range;

use super::histogram::{Latencies, Snapshot};

const SECOND_NS: u64 = 1_000_000_000;
/// A second with fewer arrivals says nothing about evenness.
const EVEN_MIN: usize = 20;

/// When each recipient was first accepted, and when anything arrived on each line.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// By the recipient's number, ns since the epoch; 0: never.
    first_ns: Vec<u64>,
    /// Who was accepted again, and when.
    again: Vec<(usize, u64)>,
    lines: BTreeMap<String, Vec<u64>>,
    intent_to_accept: Latencies,
}

impl Arrivals {
    /// Room for so many recipients.
    #[must_use]
    pub fn new(recipients: usize) -> Self {
        Self { first_ns: vec![0; recipients], ..Self::default() }
    }

    /// Notes an accepted message: its line, the recipient's number when it is one of the run's, when it arrived.
    pub fn accepted(&mut self, line: &str, recipient: Option<usize>, at_ns: u64) {
        match self.lines.get_mut(line) {
            Some(times) => times.push(at_ns),
            None => {
                self.lines.insert(line.to_owned(), vec![at_ns]);
            }
        }
        let Some(n) = recipient.filter(|n| *n < self.first_ns.len()) else { return };
        match self.first_ns[n] {
            0 => self.first_ns[n] = at_ns,
            first => {
                self.first_ns[n] = at_ns.min(first);
                self.again.push((n, at_ns.max(first)));
            }
        }
    }

    /// Notes when the server says that it took this recipient up (the intent of its first attempt).
    pub fn intent(&mut self, recipient: usize, at_ns: u64) {
        if let Some(first) = self.first_ns.get(recipient).filter(|first| **first > 0) {
            self.intent_to_accept.note_us(first.saturating_sub(at_ns) / 1_000);
        }
    }

    /// From the intent to the provider's acceptance.
    #[must_use]
    pub fn intent_to_accept(&self) -> Snapshot {
        self.intent_to_accept.snapshot()
    }

    /// The first arrival among these recipients, ns since the epoch.
    #[must_use]
    pub fn first_of(&self, recipients: Range<usize>) -> Option<u64> {
        self.first_ns.get(recipients)?.iter().copied().filter(|at| *at > 0).min()
    }

    /// How many of these recipients something arrived for before `at_ns`.
    #[must_use]
    pub fn before(&self, recipients: Range<usize>, at_ns: u64) -> u64 {
        let first = self.first_ns.get(recipients).unwrap_or_default();
        first.iter().filter(|at| (1..at_ns).contains(*at)).count() as u64
    }

    /// Everything that was accepted of these recipients, ns since the epoch, sorted.
    #[must_use]
    pub fn times_of(&self, recipients: Range<usize>) -> Vec<u64> {
        let first = self.first_ns.get(recipients.clone()).unwrap_or_default().iter().copied().filter(|at| *at > 0);
        let again = self.again.iter().filter(|(n, _)| recipients.contains(n)).map(|(_, at)| *at);
        let mut all: Vec<u64> = first.chain(again).collect();
        all.sort_unstable();
        all
    }

    /// How far arrivals stand from even spacing within their second, over all lines in `lines`.
    pub fn pacing_errors(&mut self, lines: impl Fn(&str) -> bool) -> Snapshot {
        let all = Latencies::default();
        for (_, times) in self.lines.iter_mut().filter(|(line, _)| lines(line)) {
            times.sort_unstable();
            for error_us in pacing_errors_us(times) {
                all.note_us(error_us);
            }
        }
        all.snapshot()
    }

    /// Of campaigns that run side by side: the fewest arrivals ÷ the most, from when all had begun to when the first ended. `None`
    /// unless each sent 100 in that time.
    #[must_use]
    pub fn fair_share(&self, campaigns: &[Range<usize>]) -> Option<f64> {
        let mut all = Vec::with_capacity(campaigns.len());
        for range in campaigns {
            let mut times: Vec<u64> = self.first_ns.get(range.clone())?.iter().copied().filter(|at| *at > 0).collect();
            times.sort_unstable();
            all.push(times);
        }
        let begin = all.iter().map(|times| times.first().copied()).collect::<Option<Vec<_>>>()?.into_iter().max()?;
        let end = all.iter().filter_map(|times| times.last().copied()).min()?;
        let count = |times: &Vec<u64>| {
            times.partition_point(|at| *at <= end).saturating_sub(times.partition_point(|at| *at <= begin))
        };
        let counts: Vec<usize> = all.iter().map(count).collect();
        let (fewest, most) = (*counts.iter().min()?, *counts.iter().max()?);
        (campaigns.len() > 1 && fewest >= 100).then(|| fewest as f64 / most as f64)
    }
}

/// Distances of sorted times from the straight line that fits their second best, in microseconds. The first second (ramp) and the last
/// one, which is not whole, are left out.
#[must_use]
pub fn pacing_errors_us(times: &[u64]) -> Vec<u64> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Vec::new() };
    let mut errors = Vec::new();
    let mut begin = first + SECOND_NS;
    while begin + SECOND_NS <= *last {
        let from = times.partition_point(|at| *at < begin);
        let to = times.partition_point(|at| *at < begin + SECOND_NS);
        let second = &times[from..to];
        if second.len() >= EVEN_MIN {
            let count = second.len() as f64;
            let mean_n = (count - 1.0) / 2.0;
            let mean_t = second.iter().map(|at| (at - begin) as f64).sum::<f64>() / count;
            let (mut spread, mut common) = (0.0, 0.0);
            for (n, at) in second.iter().enumerate() {
                let n = n as f64 - mean_n;
                spread += n * n;
                common += n * ((at - begin) as f64 - mean_t);
            }
            let slope = common / spread;
            errors.extend(second.iter().enumerate().map(|(n, at)| {
                let even = mean_t + slope * (n as f64 - mean_n);
                (((at - begin) as f64 - even).abs() / 1e3) as u64
            }));
        }
        begin += SECOND_NS;
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn even_arrivals_have_no_error_and_clumps_have() {
        let even: Vec<u64> = (0..5_000).map(|n| 7 * SECOND_NS + n * MS).collect();
        assert!(pacing_errors_us(&even).iter().all(|error| *error == 0));
        assert_eq!(pacing_errors_us(&even).len(), 3_000, "without the first and the last second");
        // Ten at a time, every 10 ms: up to about 5 ms from where they should be.
        let clumps: Vec<u64> = (0..5_000).map(|n| 7 * SECOND_NS + n / 10 * 10 * MS).collect();
        let longest = pacing_errors_us(&clumps).into_iter().max().expect("errors");
        assert!((4_000..=5_100).contains(&longest), "{longest}");
        assert!(pacing_errors_us(&even[..30]).is_empty());
    }

    #[test]
    fn one_late_arrival_is_seen() {
        let mut times: Vec<u64> = (0..4_000).map(|n| n * MS).collect();
        times[2_500] += 20 * MS;
        times.sort_unstable();
        assert!(pacing_errors_us(&times).into_iter().max().is_some_and(|longest| longest >= 900));
    }

    #[test]
    fn first_bytes_and_intents() {
        let mut arrivals = Arrivals::new(10);
        arrivals.accepted("l", Some(3), 5_000);
        arrivals.accepted("l", Some(4), 4_000);
        arrivals.accepted("l", Some(3), 9_000);
        arrivals.accepted("floor", None, 1);
        assert_eq!(arrivals.first_of(0..5), Some(4_000));
        assert_eq!(arrivals.first_of(5..10), None);
        assert_eq!(
            (arrivals.before(0..5, 4_000), arrivals.before(0..5, 4_001), arrivals.before(0..10, u64::MAX)),
            (0, 1, 2)
        );
        assert_eq!(arrivals.times_of(0..5), [4_000, 5_000, 9_000], "also what came again");
        assert!(arrivals.times_of(5..10).is_empty());
        arrivals.intent(3, 1_000);
        arrivals.intent(9, 1_000);
        assert_eq!(arrivals.intent_to_accept().count(), 1, "what never arrived has no latency");
    }

    #[test]
    fn shares_are_compared_while_all_run() {
        let mut arrivals = Arrivals::new(2_000);
        for n in 0..1_000 {
            arrivals.accepted("l", Some(n), 1 + n as u64 * MS);
            // Begins later and gets half as much.
            arrivals.accepted("l", Some(1_000 + n), 1 + 100 * MS + n as u64 * 2 * MS);
        }
        let share = arrivals.fair_share(&[0..1_000, 1_000..2_000]).expect("enough");
        assert!((0.49..0.51).contains(&share), "{share}");
        assert_eq!(arrivals.fair_share(std::slice::from_ref(&(0..1_000))), None, "nobody to share with");
        assert_eq!(arrivals.fair_share(&[0..50, 1_000..2_000]), None, "too few");
    }
}
