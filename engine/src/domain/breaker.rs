//! A line's breaker: after a run of unclear outcomes the line stops, probes with one message and backs off, so that an outage
//! costs tens of unconfirmed messages and not hundreds of thousands.

use std::time::Duration;

use super::time::Mono;

/// When a line stops, and how it comes back.
#[derive(Debug, Clone, Copy)]
pub struct BreakerConfig {
    /// Unclear outcomes in a row that stop the line.
    pub run_max: u32,
    /// First pause before a probe.
    pub backoff_min: Duration,
    /// Longest pause before a probe.
    pub backoff_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { run_max: 20, backoff_min: Duration::from_secs(1), backoff_max: Duration::from_secs(30) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { run: u32 },
    Open { until: Mono, backoff: Duration },
    Probing { backoff: Duration, since: Mono },
}

/// How an outcome counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The provider answered clearly, yes or no.
    Clear,
    /// 5xx, reset, time-out, or no connection.
    Unclear,
}

/// What the line may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Send.
    All,
    /// Send one message and await its outcome.
    Probe,
    /// Nothing before then.
    Nothing(Mono),
}

/// The breaker of one line.
#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
}

impl Breaker {
    /// A probe whose outcome never came (its message was withdrawn) frees the line again after this.
    const PROBE_LOST_AFTER: Duration = Duration::from_secs(60);

    /// A closed breaker.
    pub fn new(config: BreakerConfig) -> Self {
        Self { config, state: State::Closed { run: 0 } }
    }

    /// Whether the line is stopped or probing.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    /// Whether the one probe is on its way: what was prepared for it may pass.
    pub fn is_probing(&self) -> bool {
        matches!(self.state, State::Probing { .. })
    }

    /// What the line may do at `now`; does not begin the probe.
    pub fn allowed(&self, now: Mono) -> Allowed {
        match self.state {
            State::Closed { .. } => Allowed::All,
            State::Open { until, .. } if now >= until => Allowed::Probe,
            State::Open { until, .. } => Allowed::Nothing(until),
            State::Probing { since, .. } if now.since(since) >= Self::PROBE_LOST_AFTER => Allowed::Probe,
            State::Probing { since, .. } => Allowed::Nothing(since + Self::PROBE_LOST_AFTER),
        }
    }

    /// The one probe leaves.
    pub fn begin_probe(&mut self, now: Mono) {
        if let State::Open { backoff, .. } | State::Probing { backoff, .. } = self.state {
            self.state = State::Probing { backoff, since: now };
        }
    }

    /// The probe was taken back unused: another may leave at once.
    pub fn probe_withdrawn(&mut self, now: Mono) {
        if let State::Probing { backoff, .. } = self.state {
            self.state = State::Open { until: now, backoff };
        }
    }

    /// Learns an outcome; true when this one stopped the line.
    pub fn learn(&mut self, outcome: Outcome, now: Mono) -> bool {
        match (outcome, self.state) {
            (Outcome::Clear, State::Closed { .. } | State::Probing { .. }) => {
                self.state = State::Closed { run: 0 };
                false
            }
            // Answers of messages that left before the stop: the probe decides, not they.
            (_, State::Open { .. }) => false,
            (Outcome::Unclear, State::Closed { run }) => {
                let run = run + 1;
                let stop = run >= self.config.run_max;
                let backoff = self.config.backoff_min;
                self.state = if stop { State::Open { until: now + backoff, backoff } } else { State::Closed { run } };
                stop
            }
            (Outcome::Unclear, State::Probing { backoff, .. }) => {
                let backoff = (backoff * 2).min(self.config.backoff_max);
                self.state = State::Open { until: now + backoff, backoff };
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: u64) -> Mono {
        Mono(s * 1_000_000_000)
    }

    #[test]
    fn a_run_stops_the_line_a_probe_brings_it_back() {
        let mut breaker = Breaker::new(BreakerConfig { run_max: 3, ..BreakerConfig::default() });
        assert!(!breaker.learn(Outcome::Unclear, s(1)));
        assert!(!breaker.learn(Outcome::Clear, s(1)));
        assert!(!breaker.learn(Outcome::Unclear, s(1)));
        assert!(!breaker.learn(Outcome::Unclear, s(1)));
        assert!(breaker.learn(Outcome::Unclear, s(1)));
        assert_eq!(breaker.allowed(s(1)), Allowed::Nothing(s(2)));
        assert_eq!(breaker.allowed(s(2)), Allowed::Probe);
        breaker.begin_probe(s(2));
        assert!(matches!(breaker.allowed(s(3)), Allowed::Nothing(_)), "one probe at a time");
        assert!(breaker.learn(Outcome::Unclear, s(3)));
        assert_eq!(breaker.allowed(s(4)), Allowed::Nothing(s(5)), "the pause doubles");
        breaker.begin_probe(s(5));
        assert!(!breaker.learn(Outcome::Clear, s(6)));
        assert_eq!(breaker.allowed(s(6)), Allowed::All);
    }

    #[test]
    fn late_answers_of_earlier_messages_do_not_decide() {
        let mut breaker = Breaker::new(BreakerConfig { run_max: 1, ..BreakerConfig::default() });
        assert!(breaker.learn(Outcome::Unclear, s(1)));
        assert!(!breaker.learn(Outcome::Clear, s(1)));
        assert!(breaker.is_open());
    }

    #[test]
    fn a_lost_probe_does_not_stop_the_line_for_good() {
        let mut breaker = Breaker::new(BreakerConfig { run_max: 1, ..BreakerConfig::default() });
        breaker.learn(Outcome::Unclear, s(1));
        breaker.begin_probe(s(2));
        assert_eq!(breaker.allowed(s(62)), Allowed::Probe);
        breaker.probe_withdrawn(s(3));
        assert_eq!(breaker.allowed(s(3)), Allowed::Probe);
    }
}
