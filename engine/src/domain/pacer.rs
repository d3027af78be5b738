//! A campaign's own rate: a mean with a named burst, kept by a leaky bucket.
//!
//! The bucket's arithmetic loses about half a millisecond at each refill, so refills are at least [`INTERVAL_MIN`] apart: at
//! 100 ms that is half a per cent. It is only ever asked without waiting, by the one actor that owns it; a new rate is
//! a new bucket that takes the old one's balance along.

use std::time::Duration;

use leaky_bucket::RateLimiter;
use tokio::time::Instant;

use super::campaign::Rate;

/// Shortest time between two refills.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest time between two refills where a shorter one would not hit the rate within 0.15 %.
const INTERVAL_MAX_MS: u64 = 2_000;
/// Shortest time until it is worth asking again: the bucket counts in whole milliseconds, so its refill may come this much later.
const ASKS_MIN: Duration = Duration::from_millis(1);

/// The bucket of one campaign.
#[derive(Debug)]
pub struct Pacer {
    bucket: Option<RateLimiter>,
    rate: Option<Rate>,
    interval: Duration,
    /// When the bucket is refilled next, never later than it is: the bucket's own moment moves on by up to a millisecond more each time.
    refill_at: Instant,
    /// Permits taken from the bucket and not spent yet.
    held: u32,
}

/// Refill and interval (milliseconds) that come nearest to the rate.
fn refill(rate: &Rate) -> (usize, u64) {
    let span = u64::try_from(rate.per.span().as_millis()).unwrap_or(u64::MAX);
    let count = u64::from(rate.count.max(1));
    if count * INTERVAL_MAX_MS < span {
        // Slower than one in two seconds: one token at a time.
        return (1, span / count);
    }
    let mut best = (u64::MAX, 1, span / count);
    let shortest = (u64::try_from(INTERVAL_MIN.as_millis()).unwrap_or(100)).max(span / count);
    for interval in shortest..=INTERVAL_MAX_MS.max(shortest) {
        let tokens = (count * interval + span / 2) / span;
        // Error of the rate in parts per million.
        let error = (tokens * span).abs_diff(count * interval) * 1_000_000 / (count * interval);
        if tokens > 0 && error < best.0 {
            best = (error, tokens, interval);
            if error <= 1_500 {
                break;
            }
        }
    }
    (usize::try_from(best.1).unwrap_or(usize::MAX), best.2)
}

impl Pacer {
    /// A bucket for this rate; `None` never binds. It begins with one refill.
    pub fn new(rate: Option<Rate>) -> Self {
        Self::build(rate, None)
    }

    fn build(rate: Option<Rate>, balance: Option<usize>) -> Self {
        let Some(wanted) = rate else {
            return Self { bucket: None, rate, interval: INTERVAL_MIN, refill_at: Instant::now(), held: 0 };
        };
        let (tokens, interval_ms) = refill(&wanted);
        let max = wanted.burst.map_or(tokens.saturating_mul(2), |b| b as usize).max(tokens);
        let interval = Duration::from_millis(interval_ms);
        let bucket = RateLimiter::builder()
            .refill(tokens)
            .interval(interval)
            .initial(balance.unwrap_or(tokens).min(max))
            .max(max)
            .fair(true)
            .build();
        Self { bucket: Some(bucket), rate, interval, refill_at: Instant::now() + interval, held: 0 }
    }

    /// Changes the rate, keeping what had been saved up within the new burst.
    pub fn set(&mut self, rate: Option<Rate>) {
        if rate != self.rate {
            let balance = self.bucket.as_ref().map(|bucket| bucket.balance() + self.held as usize);
            *self = Self::build(rate, balance);
        }
    }

    /// How long until the next refill: when to ask again. A thousand campaigns that ask more often than that cost more than what they send.
    pub fn asks_after(&self) -> Duration {
        self.refill_at.saturating_duration_since(Instant::now()).max(ASKS_MIN)
    }

    /// How many permits may be spent now, at most `want`. Permits that nobody spends for a while are not saved up beyond the
    /// burst, wherever they lie.
    pub fn available(&mut self, want: u32) -> u32 {
        let Some(bucket) = &self.bucket else { return want };
        if want == 0 {
            return 0;
        }
        // A fair bucket refreshes its balance at every try.
        let before = bucket.balance();
        let took = bucket.try_acquire(1);
        let now = Instant::now();
        if bucket.balance() + usize::from(took) > before {
            let next = self.refill_at + self.interval;
            self.refill_at = if self.refill_at <= now && now < next { next } else { now + self.interval };
        } else if self.refill_at <= now {
            self.refill_at = now;
        }
        if took {
            let room = u32::try_from(bucket.max().saturating_sub(bucket.balance())).unwrap_or(u32::MAX);
            self.held = (self.held + 1).min(room);
            let more = bucket.balance().min(want.saturating_sub(self.held) as usize);
            if more > 0 && bucket.try_acquire(more) {
                self.held = self.held.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            }
        }
        self.held.min(want)
    }

    /// Spends permits that were [available](Self::available).
    pub fn spend(&mut self, count: u32) {
        self.held = self.held.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::campaign::RateUnit;

    fn rate(count: u32, per: RateUnit) -> Rate {
        Rate { count, per, burst: None }
    }

    fn take(pacer: &mut Pacer, want: u32) -> u32 {
        let available = pacer.available(want);
        pacer.spend(available);
        available
    }

    /// Mean over `span` of paused time, asked every 5 ms as the actor does.
    async fn mean(rate: Rate, span: Duration) -> f64 {
        let mut pacer = Pacer::new(Some(rate));
        take(&mut pacer, u32::MAX);
        let mut took = 0_u64;
        let start = tokio::time::Instant::now();
        while start.elapsed() < span {
            tokio::time::advance(Duration::from_millis(5)).await;
            took += u64::from(take(&mut pacer, 100_000));
        }
        took as f64 / start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_mean_is_within_one_per_cent() {
        for count in [7, 33, 80, 333, 550, 1_000, 9_999] {
            let mean = mean(rate(count, RateUnit::Second), Duration::from_secs(60)).await;
            assert!((mean / f64::from(count) - 1.0).abs() < 0.01, "{count}/s ran at {mean}");
        }
        for count in [10, 100, 1_000] {
            let mean = mean(rate(count, RateUnit::Minute), Duration::from_secs(600)).await * 60.0;
            assert!((mean / f64::from(count) - 1.0).abs() < 0.01, "{count}/min ran at {mean}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_when_told_to_asks_seldom_and_gets_it_all() {
        for (count, unit) in
            [(3, RateUnit::Second), (7, RateUnit::Second), (550, RateUnit::Second), (10, RateUnit::Minute)]
        {
            let mut pacer = Pacer::new(Some(rate(count, unit)));
            let (start, mut asked, mut took) = (Instant::now(), 0, 0_u64);
            take(&mut pacer, u32::MAX);
            // The timer is late by up to its millisecond, and a busy machine by more.
            for late_us in (0..2_000_u64).map(|n| n * 7_919 % 3_000) {
                tokio::time::advance(pacer.asks_after() + Duration::from_micros(late_us)).await;
                asked += 1;
                took += u64::from(take(&mut pacer, 100_000));
            }
            let span = start.elapsed().as_secs_f64();
            let wanted = f64::from(count) / unit.span().as_secs_f64();
            assert!((took as f64 / span / wanted - 1.0).abs() < 0.01, "{count} ran at {}", took as f64 / span);
            let refills = span / pacer.interval.as_secs_f64();
            assert!(f64::from(asked) < 2.5 * refills, "{count}: asked {asked} times for {refills} refills");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_burst_is_the_named_one() {
        let mut pacer = Pacer::new(Some(Rate { count: 100, per: RateUnit::Second, burst: Some(50) }));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(take(&mut pacer, 1_000), 50);
        // Nor when it was asked for all the time and could not be spent: the line was held.
        for _ in 0..600 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(pacer.available(1_000) <= 50);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        let burst = take(&mut pacer, 1_000) + take(&mut pacer, 1_000);
        assert!(burst <= 50, "{burst}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_takes_no_more_than_its_own_burst_along() {
        let mut pacer = Pacer::new(Some(rate(10_000, RateUnit::Second)));
        pacer.set(Some(rate(10, RateUnit::Second)));
        assert!(take(&mut pacer, 1_000) <= 4);
        pacer.set(None);
        assert_eq!(take(&mut pacer, 1_000), 1_000);
    }
}
