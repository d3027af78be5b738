//! How a line adapts: the aim after a provider's "slow down", and the number of requests in flight to the provider's latency.

use std::time::Duration;

use super::time::Mono;

/// Halves on "slow down" (429, rate codes) and grows back additively.
#[derive(Debug, Clone)]
pub struct SlowDown {
    factor: f64,
    /// Last change, for the growth.
    at: Mono,
    last_halved: Option<Mono>,
}

impl SlowDown {
    /// Growth per second, as a share of the ceiling: from a half back to all in ten seconds.
    pub const GROWTH: f64 = 0.05;
    /// Never slower than this share of the ceiling: a line that crawls is a line that nobody can judge.
    pub const FLOOR: f64 = 1.0 / 64.0;
    /// The answers of one burst count once.
    pub const ONCE_IN: Duration = Duration::from_secs(1);

    /// At full speed.
    pub fn new(now: Mono) -> Self {
        Self { factor: 1.0, at: now, last_halved: None }
    }

    /// The share of the ceiling to aim at.
    pub fn factor(&mut self, now: Mono) -> f64 {
        if self.factor < 1.0 {
            self.factor = (self.factor + Self::GROWTH * now.since(self.at).as_secs_f64()).min(1.0);
        }
        self.at = now;
        self.factor
    }

    /// The provider told the line to slow down.
    pub fn halve(&mut self, now: Mono) {
        if self.last_halved.is_some_and(|at| now.since(at) < Self::ONCE_IN) {
            return;
        }
        self.factor = (self.factor(now) / 2.0).max(Self::FLOOR);
        self.last_halved = Some(now);
    }
}

/// Requests that may be in flight at once: what rate × latency needs, four times over, and no more.
///
/// A provider that stops answering then holds tens of messages in doubt, not everything that the operator's maximum allows.
/// The latency is that of the quicker answers: what a queue on this side adds must not ask for more connections, which would
/// lengthen the queue again.
#[derive(Debug, Clone)]
pub struct InFlight {
    max: u32,
    latency: Duration,
}

impl InFlight {
    /// Never fewer than this: a start from nothing, and room to learn.
    pub const MIN: u32 = 32;

    /// Before the first answer, `latency` is assumed.
    pub fn new(max: u32, latency: Duration) -> Self {
        Self { max, latency }
    }

    /// Changes the operator's maximum.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// Learns one answer's latency: falls fast, rises slowly (within some hundred answers).
    pub fn learn(&mut self, latency: Duration) {
        let weight = if latency > self.latency { 0.01 } else { 0.1 };
        self.latency =
            Duration::from_secs_f64(self.latency.as_secs_f64() * (1.0 - weight) + latency.as_secs_f64() * weight);
    }

    /// The smoothed latency.
    pub fn latency(&self) -> Duration {
        self.latency
    }

    /// How many at this rate (per second).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded by max
    pub fn limit(&self, rate: f64) -> u32 {
        let needed = (4.0 * rate * self.latency.as_secs_f64()).ceil().min(f64::from(self.max)) as u32;
        needed.max(Self::MIN).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn a_storm_halves_once_a_second_and_grows_back() {
        let mut slow = SlowDown::new(ms(0));
        for i in 0..50 {
            slow.halve(ms(i));
        }
        assert!((slow.factor(ms(50)) - 0.5).abs() < 0.01);
        slow.halve(ms(1_100));
        assert!(slow.factor(ms(1_100)) < 0.3);
        assert!((slow.factor(ms(60_000)) - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn it_never_stops_wholly() {
        let mut slow = SlowDown::new(ms(0));
        for i in 0..100 {
            slow.halve(ms(i * 1_000));
        }
        assert!(slow.factor(ms(100_000)) >= SlowDown::FLOOR);
    }

    #[test]
    fn in_flight_follows_the_latency_within_bounds() {
        let mut flight = InFlight::new(256, Duration::from_millis(50));
        assert_eq!(flight.limit(1_000.0), 200);
        assert_eq!(flight.limit(1.0), InFlight::MIN);
        for _ in 0..400 {
            flight.learn(Duration::from_millis(500));
        }
        assert_eq!(flight.limit(1_000.0), 256);
        flight.set_max(8);
        assert_eq!(flight.limit(1_000.0), 8);
    }
}
