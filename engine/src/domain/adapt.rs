//! How a line adapts: the aim after a provider's "slow down", the number of requests in flight to the provider's latency.

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

/// Requests that may be in flight at once: half as many again as are getting through, but no more than [`InFlight::SPARE`] above that; twice as
/// many while more and more get through, as far as rate × latency needs them; and never more than four times that.
///
/// A provider that stops answering then holds tens of messages in doubt, not everything that the operator's maximum allows. Where
/// something else than the provider is the limit (the CPU, another line), more requests only wait longer, each with a connection and
/// its buffers. What is needed counts the latency of the quicker answers, what is getting through the mean: so many are in flight now. It begins small and at
/// most doubles in each [`InFlight::STEP`] in which answers come, so that the first answers are heard before hundreds of connections are
/// opened.
#[derive(Debug, Clone)]
pub struct InFlight {
    max: u32,
    /// Seconds; `None` before the first answer.
    latency: Option<Latency>,
    /// What growth has reached.
    reach: f64,
    stepped_at: Mono,
    /// Answers since then.
    answers: u32,
    /// Answers per second: rises at once, falls slowly.
    delivered: f64,
    /// When it last rose by more than chance.
    rose_at: Mono,
}

impl InFlight {
    /// With this a line begins.
    pub const MIN: u32 = 32;
    /// Shortest time in which the limit doubles.
    pub const STEP: Duration = Duration::from_millis(100);
    /// Most that may be in flight beyond what is getting through: each is a connection of some 35 KB, and from here on latencies even out.
    pub const SPARE: f64 = 256.0;

    /// `max`: the operator's.
    pub fn new(max: u32, now: Mono) -> Self {
        Self {
            max,
            latency: None,
            reach: f64::from(Self::MIN),
            stepped_at: now,
            answers: 0,
            delivered: 0.0,
            rose_at: now,
        }
    }

    /// Changes the operator's maximum.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// Learns one answer's latency.
    pub fn learn(&mut self, latency: Duration) {
        self.answers += 1;
        let latency = latency.as_secs_f64();
        self.latency.get_or_insert(Latency { quick: latency, mean: latency }).learn(latency);
    }

    /// How many at this rate (per second).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded by max
    pub fn limit(&mut self, rate: f64, now: Mono) -> u32 {
        let latency = self.latency.unwrap_or_default();
        let passed = now.since(self.stepped_at);
        let step = self.answers > 0 && passed >= Self::STEP;
        if step {
            let lately = f64::from(self.answers) / passed.as_secs_f64();
            if lately > 1.1 * self.delivered {
                self.rose_at = now;
            }
            self.delivered = lately.max(0.8 * self.delivered + 0.2 * lately);
            self.answers = 0;
            self.stepped_at = now;
        }
        let (needed, used) = (rate * latency.quick, self.delivered.min(rate) * latency.mean);
        // What is asked for now is answered one latency later, and heard of a step after that.
        let heard_within = 2.0 * latency.mean + Self::STEP.as_secs_f64();
        let is_growing = now.since(self.rose_at).as_secs_f64() <= heard_within;
        let growing = if is_growing { (2.0 * used).min(1.25 * needed) } else { 0.0 };
        let target = (used + (0.5 * used).min(Self::SPARE)).max(growing).min(4.0 * needed).max(f64::from(Self::MIN));
        if step {
            self.reach = (2.0 * self.reach).min(2.0 * target).max(f64::from(Self::MIN));
        }
        (target.min(self.reach).ceil() as u32).min(self.max)
    }
}

/// A line's latencies lately, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Latency {
    /// Of the quicker answers: falls fast, rises slowly (within some hundred answers).
    quick: f64,
    mean: f64,
}

impl Latency {
    fn learn(&mut self, latency: f64) {
        let weight = if latency > self.quick { 0.01 } else { 0.1 };
        self.quick += weight * (latency - self.quick);
        self.mean += 0.02 * (latency - self.mean);
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

    /// Works at this rate for 20 s, as far as the limit lets it, with latencies drawn by `latency`; the limit at the end.
    fn settled(flight: &mut InFlight, rate: f64, mut latency: impl FnMut() -> f64) -> u32 {
        let (mut now, mut mean, mut answered) = (flight.stepped_at, latency(), 0.0);
        for _ in 0..200 {
            answered += (f64::from(flight.limit(rate, now)) / mean).min(rate) * InFlight::STEP.as_secs_f64();
            while answered >= 1.0 {
                let drawn = latency();
                mean += 0.05 * (drawn - mean);
                flight.learn(Duration::from_secs_f64(drawn));
                answered -= 1.0;
            }
            now = now + InFlight::STEP;
        }
        flight.limit(rate, now)
    }

    #[test]
    fn in_flight_follows_the_latency_within_bounds() {
        let mut flight = InFlight::new(256, ms(0));
        assert_eq!(flight.limit(1_000.0, ms(0)), InFlight::MIN);
        assert_eq!(settled(&mut flight, 1_000.0, || 0.05), 75, "50 in flight, and half as many again");
        assert_eq!(settled(&mut flight, 10.0, || 0.05), InFlight::MIN);
        assert_eq!(settled(&mut flight, 1_000.0, || 0.5), 256);
        flight.set_max(3);
        assert_eq!(settled(&mut flight, 1_000.0, || 0.5), 3);
    }

    #[test]
    fn in_flight_at_most_doubles_in_a_step_and_only_while_answers_come() {
        let mut flight = InFlight::new(4_096, ms(0));
        let answers = |flight: &mut InFlight| (0..1_000).for_each(|_| flight.learn(Duration::from_millis(200)));
        answers(&mut flight);
        assert_eq!(flight.limit(10_000.0, ms(50)), 32);
        assert_eq!(flight.limit(10_000.0, ms(100)), 64);
        assert_eq!(flight.limit(10_000.0, ms(200)), 64, "nobody answered since");
        answers(&mut flight);
        assert_eq!(flight.limit(10_000.0, ms(200)), 128);
    }

    #[test]
    fn where_much_is_in_flight_little_is_spare_and_it_is_soon_there() {
        let mut flight = InFlight::new(100_000, ms(0));
        assert_eq!(settled(&mut flight, 10_000.0, || 0.2), 2_256);
        // Answers come for what was in flight a latency ago; the line begins with as many as it may.
        let (mut flight, mut limits) = (InFlight::new(100_000, ms(0)), vec![InFlight::MIN; 3]);
        for n in 1..40_u64 {
            let answers = (limits[limits.len() - 3] / 2).min(1_000);
            (0..answers).for_each(|_| flight.learn(Duration::from_millis(200)));
            limits.push(flight.limit(10_000.0, ms(100 * n)));
        }
        let steps = limits.iter().position(|limit| *limit >= 2_000).expect("it grows");
        assert!(steps <= 18, "six doublings, each heard of three steps later: {limits:?}");
        assert_eq!(limits.last(), Some(&2_256), "and then it is content");
    }

    #[test]
    fn a_provider_whose_latency_varies_gets_the_whole_rate() {
        // Exponential, 100 ms in the mean: the quicker answers come in less than half of that.
        let mut state = 7_u64;
        let drawn = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            -0.1 * ((state >> 11) as f64 / (1_u64 << 53) as f64).max(f64::MIN_POSITIVE).ln()
        };
        let limit = settled(&mut InFlight::new(4_096, ms(0)), 2_000.0, drawn);
        assert!((200..=400).contains(&limit), "200 in flight are needed: {limit}");
    }

    #[test]
    fn where_the_cpu_is_the_limit_more_are_not_in_flight_than_get_through() {
        // 2,000 answers a second whatever waits: the latency is made by the queue.
        let mut flight = InFlight::new(100_000, ms(0));
        let mut now = ms(0);
        let mut in_flight = 0;
        for _ in 0..200 {
            // The work at hand fills at most 500.
            in_flight = flight.limit(10_000.0, now).min(500);
            (0..200).for_each(|_| flight.learn(Duration::from_secs_f64(f64::from(in_flight) / 2_000.0)));
            now = now + InFlight::STEP;
        }
        assert_eq!(in_flight, 500);
        assert!(flight.limit(10_000.0, now) <= 750, "not four times the ceiling's");
    }
}
