//! What the simulator's ledger says about time: evenness, first bytes, the way from intent to acceptance, fair shares.

use std::collections::BTreeMap;
use std::ops::Range;

use super::histogram::{Latencies, Snapshot};

const SECOND_NS: u64 = 1_000_000_000;
/// A second with fewer arrivals says nothing about evenness.
const EVEN_MIN: usize = 20;
/// Below so many messages of each campaign a batch more or less decides who had more.
pub const SHARE_MIN: usize = 100;

/// Equal campaigns side by side: the fewest messages of one ÷ the most of another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// When the first of them ended.
    pub last: f64,
    /// At the worst moment from when each had sent [`SHARE_MIN`].
    pub least: f64,
}

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

    /// How evenly campaigns got their turns while all of them ran: from when the last had begun until the first ended. `None` unless each
    /// sent [`SHARE_MIN`] in that time.
    #[must_use]
    pub fn fair_share(&self, campaigns: &[Range<usize>]) -> Option<Share> {
        if campaigns.len() < 2 {
            return None;
        }
        let (mut begin, mut end) = (0, u64::MAX);
        for range in campaigns {
            let times = || self.first_ns.get(range.clone()).unwrap_or_default().iter().copied().filter(|at| *at > 0);
            begin = begin.max(times().min()?);
            end = end.min(times().max()?);
        }
        let mut turns: Vec<(u64, usize)> = Vec::new();
        for (campaign, range) in campaigns.iter().enumerate() {
            let times = self.first_ns.get(range.clone()).unwrap_or_default().iter().copied();
            turns.extend(times.filter(|at| *at > begin && *at <= end).map(|at| (at, campaign)));
        }
        turns.sort_unstable();
        let mut sent = vec![0; campaigns.len()];
        // How many campaigns have sent so many.
        let mut having = vec![campaigns.len()];
        let (mut fewest, mut least) = (0, f64::INFINITY);
        let mut last = 0.0;
        for (_, campaign) in turns {
            having[sent[campaign]] -= 1;
            sent[campaign] += 1;
            if having.len() == sent[campaign] {
                having.push(0);
            }
            having[sent[campaign]] += 1;
            fewest += usize::from(having[fewest] == 0);
            if fewest >= SHARE_MIN {
                last = fewest as f64 / (having.len() - 1) as f64;
                least = least.min(last);
            }
        }
        (fewest >= SHARE_MIN).then_some(Share { last, least })
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
        assert!((0.49..0.51).contains(&share.last), "{share:?}");
        assert_eq!(arrivals.fair_share(std::slice::from_ref(&(0..1_000))), None, "nobody to share with");
        assert_eq!(arrivals.fair_share(&[0..50, 1_000..2_000]), None, "too few");
    }

    #[test]
    fn who_is_starved_for_a_while_and_made_up_to_is_seen() {
        let mut arrivals = Arrivals::new(3_000);
        // The second stands still from 200 ms to 500 ms, then runs at twice the pace until both are even.
        let late = |n: u64| if n < 200 { n } else { (500 + (n - 200) / 2).max(n) };
        for n in 0..1_000_u64 {
            arrivals.accepted("l", Some(n as usize), SECOND_NS + n * MS);
            arrivals.accepted("l", Some(1_000 + n as usize), SECOND_NS + late(n) * MS);
            arrivals.accepted("l", Some(2_000 + n as usize), SECOND_NS + n * MS);
        }
        let share = arrivals.fair_share(&[0..1_000, 1_000..2_000, 2_000..3_000]).expect("enough");
        assert!(share.last > 0.99 && (0.38..0.42).contains(&share.least), "{share:?}");
        let even = arrivals.fair_share(&[0..1_000, 2_000..3_000]).expect("enough");
        assert!(even.least >= 0.99, "{even:?}");
    }
}
