//! An outage of minutes at a thousand messages a second, in held time: everything that decides about a line is the real thing (window,
//! aim, in-flight limit, breaker); requests, and a provider that stops answering, are played.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gate::{LineShared, Room};
use super::permits::Permits;
use crate::config::EngineConfig;
use crate::domain::breaker::{BreakerConfig, Outcome};
use crate::domain::ids::AccountId;
use crate::domain::line::Line;
use crate::domain::time::{Clock, Mono};
use crate::provider::{Account, Credentials, Secret};
use crate::store::conformance;

const RATE: u32 = 1_000;
const LATENCY: Duration = Duration::from_millis(20);
/// How often the line's actor deals, and how often while it is stopped.
const TICK: Duration = Duration::from_millis(4);
const STOPPED_TICK: Duration = Duration::from_millis(100);
const BEFORE: Duration = Duration::from_secs(5);
const OUTAGE: Duration = Duration::from_secs(300);
/// Until the last probe of the outage has had its answer, and the next its turn.
const BACK: Duration = Duration::from_secs(65);
const AFTER: Duration = Duration::from_secs(5);

/// How a provider is down.
#[derive(Debug, Clone, Copy)]
enum Down {
    /// It takes requests and says nothing until the time-out.
    Silent,
    /// It answers each with an error that says nothing of the message.
    Failing,
}

struct Stage {
    line: Arc<LineShared>,
    clock: Clock,
    answer_timeout: Duration,
    down: Down,
    /// From when to when it is down.
    outage: (Mono, Mono),
    accepted: AtomicU64,
    in_doubt: AtomicU64,
    withdrawn: AtomicU64,
}

impl Stage {
    fn new(down: Down) -> Arc<Self> {
        let config = EngineConfig::default();
        let clock = Clock::system();
        let credentials = Credentials::Meta { access_token: Secret::new("token") };
        let id = AccountId::new("meta").unwrap();
        let account = Account::new(id, Vec::new(), credentials, "http://127.0.0.1:1".to_owned(), "v25.0".to_owned());
        let record = Line { ceiling: RATE, in_flight_max: 256, ..conformance::line("line-1", "100") };
        let lease = Arc::new(crate::nodes::Lease::forever(clock.clone()));
        let line = LineShared::new(record, Some(account.unwrap()), clock.clone(), &config, lease);
        // A line begins with a second of silence.
        let begins = clock.mono() + BEFORE + Duration::from_secs(1);
        Arc::new(Self {
            line: Arc::new(line),
            answer_timeout: config.answer_timeout,
            down,
            outage: (begins, begins + OUTAGE),
            clock,
            accepted: AtomicU64::new(0),
            in_doubt: AtomicU64::new(0),
            withdrawn: AtomicU64::new(0),
        })
    }

    /// The line's actor: deals until `end`. There is always somebody to send to.
    async fn deal(self: &Arc<Self>, end: Mono) {
        while self.clock.mono() < end {
            let room = self.line.room(Duration::from_millis(25));
            if let Room::Permits(count) = room {
                let mut permits = self.line.grant(count);
                while let Some(permit) = permits.take_one() {
                    tokio::spawn(Arc::clone(self).message(permit));
                }
            }
            tokio::time::sleep(if room == Room::Stopped { STOPPED_TICK } else { TICK }).await;
        }
    }

    /// One message with a durable intent, on its way through its sender.
    async fn message(self: Arc<Self>, permit: Permits) {
        loop {
            if !self.line.may_try() {
                return self.withdraw();
            }
            // Every connection has a request.
            if self.line.status().in_flight >= self.line.in_flight_limit() {
                tokio::time::sleep(TICK).await;
                continue;
            }
            match self.line.aim(1) {
                Ok(()) => break,
                Err(Some(due)) => self.clock.sleep_until(due).await,
                Err(None) => return self.withdraw(),
            }
        }
        while let Err(again) = self.line.pass(1) {
            self.clock.sleep_until(again).await;
        }
        let busy = self.line.begin_request();
        drop(permit);
        let is_down = (self.outage.0..self.outage.1).contains(&self.clock.mono());
        let (took, outcome) = match (is_down, self.down) {
            (false, _) => (LATENCY, Outcome::Clear),
            (true, Down::Failing) => (LATENCY, Outcome::Unclear),
            (true, Down::Silent) => (self.answer_timeout, Outcome::Unclear),
        };
        tokio::time::sleep(took).await;
        drop(busy);
        self.line.learn(outcome, (outcome == Outcome::Clear).then_some(took));
        let count = if outcome == Outcome::Clear { &self.accepted } else { &self.in_doubt };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn withdraw(&self) {
        self.withdrawn.fetch_add(1, Ordering::Relaxed);
    }
}

async fn outage(down: Down) {
    let stage = Stage::new(down);
    let accepted = || stage.accepted.load(Ordering::Relaxed);
    let share = |count: u64, span: Duration| count as f64 / (f64::from(RATE) * span.as_secs_f64());
    stage.deal(stage.outage.0).await;
    assert!(share(accepted(), BEFORE) > 0.95, "{down:?}: {} before the outage", accepted());
    let in_flight = u64::from(stage.line.in_flight_limit());

    stage.deal(stage.outage.1).await;
    let doubts = stage.in_doubt.load(Ordering::Relaxed);
    let run_max = BreakerConfig::default().run_max;
    // As many as were on their way when the run was full, and one for each probe: 1, 2, 4, 8, 16, then every 30 seconds and more.
    let probes = 5 + OUTAGE.as_secs() / 30;
    let most = in_flight + u64::from(run_max) + probes;
    assert!((u64::from(run_max)..=most).contains(&doubts), "{down:?}: {doubts} in doubt, at most {most} were expected");
    assert!(doubts < 150, "{down:?}: {doubts} in doubt are more than tens");
    assert!(stage.line.status().probing && stage.line.status().allowed == 0.0, "{down:?}");

    stage.deal(stage.outage.1 + BACK).await;
    let before = accepted();
    stage.deal(stage.outage.1 + BACK + AFTER).await;
    let after = share(accepted() - before, AFTER);
    assert!(after > 0.95, "{down:?}: {after} of its rate once the provider is back");
    assert!(!stage.line.status().probing);
    let last = stage.in_doubt.load(Ordering::Relaxed);
    assert!(last <= doubts + 1, "{down:?}: {last} in doubt in the end, {doubts} when the outage ended");
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_silence_at_a_thousand_a_second_leave_tens_in_doubt() {
    outage(Down::Silent).await;
}

#[tokio::test(start_paused = true)]
async fn five_minutes_of_errors_at_a_thousand_a_second_leave_tens_in_doubt() {
    outage(Down::Failing).await;
}

/// Not after a minute: a message whose campaign ended just before it was granted the probe must not keep the line silent.
#[tokio::test(start_paused = true)]
async fn a_probe_that_nobody_used_is_the_next_messages_at_once() {
    let line = Arc::clone(&Stage::new(Down::Silent).line);
    let room = || line.room(Duration::from_millis(25));
    tokio::time::advance(Duration::from_secs(2)).await;
    while !line.learn(Outcome::Unclear, None) {}
    assert_eq!(room(), Room::Stopped, "the breaker is open");
    tokio::time::advance(BreakerConfig::default().backoff_min).await;
    for _ in 0..3 {
        assert_eq!(room(), Room::Permits(1));
        let permits = line.grant(1);
        assert_eq!(room(), Room::Stopped, "one probe at a time");
        drop(permits);
    }
    assert_eq!(room(), Room::Permits(1));
    let permits = line.grant(1);
    let busy = line.begin_request();
    drop(permits);
    drop(busy);
    assert_eq!(room(), Room::Stopped, "it was under way: its outcome decides");
}
