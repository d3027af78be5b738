//! How a line adapts: the aim after a provider's "slow down", the number of requests in flight to the provider's latency and to
//! the CPU that is left.

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
/// lengthen the queue again. It begins small and at most doubles in each [`InFlight::STEP`] in which answers come, so that the
/// first answers are heard before hundreds of connections are opened.
#[derive(Debug, Clone)]
pub struct InFlight {
    max: u32,
    /// `None` before the first answer.
    latency: Option<Duration>,
    /// What growth has reached.
    reach: f64,
    stepped_at: Mono,
    /// Answers since then.
    answers: u32,
    /// Answers per second: rises at once, falls slowly.
    delivered: f64,
}

impl InFlight {
    /// With this a line begins.
    pub const MIN: u32 = 32;
    /// Fewest, however little headroom there is.
    pub const FEWEST: u32 = 4;
    /// Shortest time in which the limit doubles.
    pub const STEP: Duration = Duration::from_millis(100);

    /// `max`: the operator's.
    pub fn new(max: u32, now: Mono) -> Self {
        Self { max, latency: None, reach: f64::from(Self::MIN), stepped_at: now, answers: 0, delivered: 0.0 }
    }

    /// Changes the operator's maximum.
    pub fn set_max(&mut self, max: u32) {
        self.max = max;
    }

    /// Learns one answer's latency: falls fast, rises slowly (within some hundred answers).
    pub fn learn(&mut self, latency: Duration) {
        self.answers += 1;
        let known = self.latency.unwrap_or(latency);
        let weight = if latency > known { 0.01 } else { 0.1 };
        self.latency =
            Some(Duration::from_secs_f64(known.as_secs_f64() * (1.0 - weight) + latency.as_secs_f64() * weight));
    }

    /// How many at this rate (per second) and this share of the headroom ([`Headroom::share`]).
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded by max
    pub fn limit(&mut self, rate: f64, share: f64, now: Mono) -> u32 {
        let latency = self.latency.unwrap_or_default().as_secs_f64();
        let passed = now.since(self.stepped_at);
        let step = self.answers > 0 && passed >= Self::STEP;
        if step {
            let lately = f64::from(self.answers) / passed.as_secs_f64();
            self.delivered = lately.max(0.8 * self.delivered + 0.2 * lately);
            self.answers = 0;
            self.stepped_at = now;
        }
        // Other work may use up the CPU: what the line is really getting through, and room to double it, is not headroom.
        let used = 1.25 * rate.min(2.0 * self.delivered) * latency;
        let target = ((4.0 * rate * latency).max(f64::from(Self::MIN)) * share).max(used);
        if step {
            self.reach = (2.0 * self.reach).min(2.0 * target).max(f64::from(Self::MIN));
        }
        (target.min(self.reach).ceil() as u32).max(Self::FEWEST).min(self.max)
    }
}

/// How much of their headroom lines use: all of it, unless the CPU that this process gets is used up. More requests in flight
/// then send nothing sooner; they only wait longer for a thread, each with a connection and its buffers to visit.
///
/// It settles where the threads are nearly always busy: lines that use too little leave them idle, and get more.
#[derive(Debug, Clone)]
pub struct Headroom {
    share: f64,
}

impl Headroom {
    /// Never a smaller share: a line that crawls is a line that nobody can judge.
    pub const LEAST: f64 = 1.0 / 64.0;
    /// Above this busy share of the threads' time there is too much in flight.
    pub const BUSY: f64 = 0.95;
    /// Below it there may be more.
    pub const FREE: f64 = 0.85;

    /// All of it.
    pub fn new() -> Self {
        Self { share: 1.0 }
    }

    /// Learns which share of the last [`InFlight::STEP`] the threads were busy, 0 to 1.
    pub fn learn(&mut self, busy: f64) {
        if busy > Self::BUSY {
            self.share = (self.share * 0.7).max(Self::LEAST);
        } else {
            // Slowly where it is nearly enough: a machine that stays so must not keep what one burst took.
            let back = if busy < Self::FREE { 1.4 } else { 1.03 };
            self.share = (self.share * back).min(1.0);
        }
    }

    /// The share, [`Headroom::LEAST`] to 1.
    pub fn share(&self) -> f64 {
        self.share
    }
}

impl Default for Headroom {
    fn default() -> Self {
        Self::new()
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

    /// A limit to which answers of this latency led.
    fn settled(flight: &mut InFlight, rate: f64, share: f64, latency: Duration) -> u32 {
        let mut now = flight.stepped_at;
        for _ in 0..20 {
            for _ in 0..50 {
                flight.learn(latency);
            }
            now = now + InFlight::STEP;
            flight.limit(rate, share, now);
        }
        flight.limit(rate, share, now)
    }

    #[test]
    fn in_flight_follows_the_latency_within_bounds() {
        let mut flight = InFlight::new(256, ms(0));
        assert_eq!(flight.limit(1_000.0, 1.0, ms(0)), InFlight::MIN);
        assert_eq!(settled(&mut flight, 1_000.0, 1.0, Duration::from_millis(50)), 200);
        assert_eq!(settled(&mut flight, 1.0, 1.0, Duration::from_millis(50)), InFlight::MIN);
        assert_eq!(settled(&mut flight, 1_000.0, 1.0, Duration::from_millis(500)), 256);
        flight.set_max(3);
        assert_eq!(settled(&mut flight, 1_000.0, 1.0, Duration::from_millis(500)), 3);
    }

    #[test]
    fn in_flight_at_most_doubles_in_a_step_and_only_while_answers_come() {
        let mut flight = InFlight::new(4_096, ms(0));
        flight.learn(Duration::from_millis(200));
        assert_eq!(flight.limit(10_000.0, 1.0, ms(50)), 32);
        assert_eq!(flight.limit(10_000.0, 1.0, ms(100)), 64);
        assert_eq!(flight.limit(10_000.0, 1.0, ms(5_000)), 64, "nobody answered since");
        flight.learn(Duration::from_millis(200));
        assert_eq!(flight.limit(10_000.0, 1.0, ms(5_000)), 128);
    }

    #[test]
    fn a_machine_without_cpu_left_takes_the_headroom_and_gives_it_back() {
        let mut headroom = Headroom::new();
        for _ in 0..100 {
            headroom.learn(1.0);
        }
        assert!((headroom.share() - Headroom::LEAST).abs() < f64::EPSILON);
        let mut flight = InFlight::new(4_096, ms(0));
        assert_eq!(
            settled(&mut flight, 10_000.0, headroom.share(), Duration::from_millis(20)),
            25,
            "500 answers a second"
        );
        headroom.learn(0.9);
        assert!(headroom.share() < 1.1 * Headroom::LEAST, "busy enough: it comes back slowly");
        for _ in 0..100 {
            headroom.learn(0.5);
        }
        assert!((headroom.share() - 1.0).abs() < f64::EPSILON);
        assert_eq!(settled(&mut flight, 10_000.0, headroom.share(), Duration::from_millis(20)), 800);
    }

    #[test]
    fn other_work_on_the_cpu_does_not_take_what_a_line_to_a_slow_provider_needs() {
        // 400 a second at 300 ms: 120 in flight. A flood of webhooks keeps the threads busy.
        let mut flight = InFlight::new(4_096, ms(0));
        let (mut now, latency) = (ms(0), Duration::from_millis(300));
        let mut share = 1.0;
        for step in 0..100 {
            // What fits into the limit is answered, up to the ceiling.
            let limit = flight.limit(400.0, share, now);
            let answered = (f64::from(limit) / 0.3).min(400.0) / 10.0;
            for _ in 0..answered as u32 {
                flight.learn(latency);
            }
            now = now + InFlight::STEP;
            if step == 50 {
                share = Headroom::LEAST;
            }
        }
        assert!(flight.limit(400.0, share, now) >= 120);
    }
}
