//! What decides whether a line sends now: its window, its aim, what the provider told it, its breaker. One lock, held for
//! nanoseconds; it outlives the line's actor, so that no restart forgets what left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use ractor::ActorRef;

use super::LineMsg;
use super::permits::{Busy, Permits, Release};
use crate::config::EngineConfig;
use crate::control::LineStatus;
use crate::domain::adapt::{InFlight, SlowDown};
use crate::domain::breaker::{Allowed, Breaker, Outcome};
use crate::domain::ceiling::{Aim, Passage, Window};
use crate::domain::ids::LineKey;
use crate::domain::line::Line;
use crate::domain::time::{Clock, Mono};
use crate::nodes::Lease;
use crate::provider::Account;

/// Longest time that a grant is taken to need: beyond it more preparation only means more to withdraw.
const LAG_MAX: Duration = Duration::from_millis(500);

/// A way from the gate to the socket that the guard covers many times over.
const UNNOTICED: Duration = Duration::from_micros(300);

/// A message that passed the gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passed {
    passage: Passage,
    at: Mono,
}

/// One line while the engine runs.
pub(crate) struct LineShared {
    pub(crate) key: LineKey,
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) clock: Clock,
    record: ArcSwap<Line>,
    /// Held, or about to be: follows the record and `hold_expected`.
    held: AtomicBool,
    draining: AtomicBool,
    /// Somebody is writing that its hold is over.
    pub(super) releasing: AtomicBool,
    gate: Mutex<Gate>,
    /// Permits granted and not yet used at the gate, withdrawn, or given back.
    pub(super) outstanding: AtomicU32,
    /// Requests at the provider.
    pub(super) busy: AtomicU32,
    /// The term in which the line is this engine's. What was prepared in it does not leave in another.
    lease: Arc<Lease>,
    pub(crate) actor: ArcSwapOption<ActorRef<LineMsg>>,
}

struct Gate {
    window: Window,
    aim: Aim,
    slow: SlowDown,
    breaker: Breaker,
    flight: InFlight,
    /// The share of the ceiling that the aim was last set to.
    aimed: f64,
    /// Smoothed time from a grant until its messages, with durable intents, wait at the sender.
    lag: Duration,
    /// When somebody, or its end, last lifted a hold.
    released_at: Mono,
    /// A hold is about to be written: no other write of the record lets the line send.
    hold_expected: bool,
}

impl LineShared {
    pub(crate) fn new(
        record: Line,
        account: Option<Arc<Account>>,
        clock: Clock,
        config: &EngineConfig,
        lease: Arc<Lease>,
    ) -> Self {
        let now = clock.mono();
        let guard = config.jitter_guard;
        let gate = Gate {
            // Nobody knows what left before this start: one full window of silence.
            window: Window::new(record.ceiling, guard, Window::silence_from(now, guard)),
            aim: Aim::new(0.0, config.aim_allowance, now),
            slow: SlowDown::new(now),
            breaker: Breaker::new(config.breaker),
            flight: InFlight::new(record.in_flight_max, now),
            aimed: 0.0,
            lag: Duration::ZERO,
            released_at: Mono(0),
            hold_expected: false,
        };
        Self {
            key: record.key,
            account,
            clock,
            held: AtomicBool::new(record.hold.is_some()),
            draining: AtomicBool::new(false),
            releasing: AtomicBool::new(false),
            gate: Mutex::new(gate),
            outstanding: AtomicU32::new(0),
            busy: AtomicU32::new(0),
            lease,
            actor: ArcSwapOption::empty(),
            record: ArcSwap::from_pointee(record),
        }
    }

    pub(crate) fn record(&self) -> Arc<Line> {
        self.record.load_full()
    }

    /// Takes over a newer record; a lower ceiling binds from now on.
    pub(crate) fn set_record(&self, record: Line) {
        let mut gate = self.gate.lock();
        if record.version < self.record.load().version {
            return;
        }
        gate.window.set_ceiling(record.ceiling);
        gate.flight.set_max(record.in_flight_max);
        gate.aimed = 0.0;
        if self.record.load().hold.is_some() && record.hold.is_none() {
            gate.released_at = self.clock.mono();
        }
        gate.hold_expected &= record.hold.is_none();
        self.held.store(record.hold.is_some() || gate.hold_expected, Ordering::SeqCst);
        self.record.store(Arc::new(record));
    }

    /// Whether messages may leave by this line at all. Asked directly before the write.
    pub(crate) fn may_send(&self) -> bool {
        !self.held.load(Ordering::SeqCst)
            && !self.draining.load(Ordering::SeqCst)
            && self.account.is_some()
            && self.lease.holds()
    }

    /// Nothing leaves any more; the engine stops.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Shuts the gate for good and gives what left lately: (how long it still counts, cost); `None`: that is not known yet.
    pub(crate) fn hand_over(&self) -> Option<Vec<(Duration, u32)>> {
        self.drain();
        let now = self.clock.mono();
        let mut gate = self.gate.lock();
        let left = gate.window.hand_over(now);
        // Also for who was at the gate in this moment.
        gate.window.set_ceiling(0);
        left
    }

    /// Takes over what a former owner gave: no silence is needed then.
    pub(crate) fn take_over(&self, left: &[(Duration, u32)]) {
        let now = self.clock.mono();
        self.gate.lock().window.take_over(now, left);
    }

    /// Whether a hold was lifted since `began`: an answer to a request from before says nothing of the line as it is now.
    pub(crate) fn was_released_since(&self, began: Mono) -> bool {
        self.gate.lock().released_at >= began
    }

    /// Stops the line at once, before the hold is written.
    pub(crate) fn hold_now(&self) {
        let mut gate = self.gate.lock();
        gate.hold_expected = true;
        self.held.store(true, Ordering::SeqCst);
    }

    /// The hold is written, or will not be: the line follows its record again. Also when the supervisor may have lost what it was
    /// told; the next outcome of that kind asks for the hold anew.
    pub(crate) fn forget_expected_hold(&self) {
        let mut gate = self.gate.lock();
        gate.hold_expected = false;
        self.held.store(self.record.load().hold.is_some(), Ordering::SeqCst);
    }

    /// Begins the one release that may be under way; `None`: it is.
    pub(crate) fn begin_release(self: &Arc<Self>) -> Option<Release> {
        (!self.releasing.swap(true, Ordering::SeqCst)).then(|| Release::new(self))
    }

    /// Takes one permit of the aim, or says when the next is due. `Err(None)`: the line is stopped by its breaker.
    pub(crate) fn aim(&self, cost: u32) -> Result<(), Option<Mono>> {
        let now = self.clock.mono();
        let mut gate = self.gate.lock();
        gate.follow(now);
        if gate.breaker.is_open() && !gate.breaker.is_probing() {
            return Err(None);
        }
        if gate.aim.take(now, cost) { Ok(()) } else { Err(Some(gate.aim.due())) }
    }

    /// The exact gate: lets one message leave now, or says when to ask again.
    pub(crate) fn pass(&self, cost: u32) -> Result<Passed, Mono> {
        let now = self.clock.mono();
        self.gate.lock().window.pass(now, cost).map(|passage| Passed { passage, at: now })
    }

    /// The message is written. Where the thread was held up since the gate, it counts from now.
    pub(crate) fn written(&self, passed: Passed) {
        let now = self.clock.mono();
        if now.since(passed.at) > UNNOTICED {
            self.gate.lock().window.left_at(passed.passage, now);
        }
    }

    /// How many permits may be granted now; a probe begins with it.
    pub(crate) fn room(&self, look_ahead: Duration) -> Room {
        let now = self.clock.mono();
        let mut gate = self.gate.lock();
        let (room, is_probe) = self.look(&mut gate, now, look_ahead);
        if is_probe {
            gate.breaker.begin_probe(now);
        }
        room
    }

    /// How many permits it could grant; `None`: it is stopped. A line that waits for a probe offers more than any other: somebody
    /// has to try.
    pub(crate) fn spare(&self, look_ahead: Duration) -> Option<u32> {
        match self.look(&mut self.gate.lock(), self.clock.mono(), look_ahead) {
            (_, true) => Some(u32::MAX),
            (Room::Permits(spare), false) => Some(spare),
            (Room::InFlightFull, false) => Some(0),
            (Room::Stopped, false) => None,
        }
    }

    /// What may be granted, and whether it is a probe.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded by the ceiling
    fn look(&self, gate: &mut Gate, now: Mono, look_ahead: Duration) -> (Room, bool) {
        if !self.may_send() {
            return (Room::Stopped, false);
        }
        let outstanding = self.outstanding.load(Ordering::SeqCst);
        let busy = self.busy.load(Ordering::SeqCst);
        gate.follow(now);
        if gate.window.opens_at() > now + look_ahead {
            // Silent after a start: an intent made now would only be one more in doubt if the engine were killed again.
            return (Room::Stopped, false);
        }
        match gate.breaker.allowed(now) {
            Allowed::Nothing(_) => return (Room::Stopped, false),
            Allowed::Probe if outstanding + busy > 0 => return (Room::Stopped, false),
            Allowed::Probe => return (Room::Permits(1), true),
            Allowed::All => {}
        }
        let rate = f64::from(gate.window.ceiling()) * gate.aimed;
        // What is on its way to the sender does not wait there: it is granted on top of what shall wait.
        let ahead = ((rate * (look_ahead + gate.lag).as_secs_f64()).ceil() as u32).max(2);
        let flight = gate.flight.limit(rate, now);
        let by_ahead = ahead.saturating_sub(outstanding);
        let by_flight = (flight + ahead).saturating_sub(outstanding + busy);
        let room = if by_flight == 0 { Room::InFlightFull } else { Room::Permits(by_ahead.min(by_flight)) };
        (room, false)
    }

    /// Requests that may be at the provider at once.
    pub(crate) fn in_flight_limit(&self) -> u32 {
        let now = self.clock.mono();
        let gate = &mut *self.gate.lock();
        gate.follow(now);
        gate.flight.limit(f64::from(gate.window.ceiling()) * gate.aimed, now)
    }

    /// Permits for `count` messages; each ends at the gate, or when it is dropped.
    pub(crate) fn grant(self: &Arc<Self>, count: u32) -> Permits {
        Permits::new(self, count)
    }

    /// One request goes out.
    pub(crate) fn begin_request(self: &Arc<Self>) -> Busy {
        Busy::new(self)
    }

    /// Learns how long a grant took until its messages waited at the sender. Rises fast, falls slowly.
    pub(crate) fn learn_lag(&self, granted_at: Mono) {
        let lag = self.clock.mono().since(granted_at).min(LAG_MAX).as_secs_f64();
        let mut gate = self.gate.lock();
        let known = gate.lag.as_secs_f64();
        let weight = if lag > known { 0.3 } else { 0.03 };
        gate.lag = Duration::from_secs_f64(known * (1.0 - weight) + lag * weight);
    }

    /// Learns how a request ended; true when this stopped the line.
    pub(crate) fn learn(&self, outcome: Outcome, latency: Option<Duration>) -> bool {
        let now = self.clock.mono();
        let mut gate = self.gate.lock();
        if let Some(latency) = latency {
            gate.flight.learn(latency);
        }
        gate.breaker.learn(outcome, now)
    }

    /// The probe was not used. Nothing where there is none.
    pub(super) fn probe_withdrawn(&self) {
        let now = self.clock.mono();
        self.gate.lock().breaker.probe_withdrawn(now);
    }

    /// The provider told the line to slow down.
    pub(crate) fn slow_down(&self) {
        let now = self.clock.mono();
        self.gate.lock().slow.halve(now);
    }

    pub(crate) fn is_stopped_by_breaker(&self) -> bool {
        self.gate.lock().breaker.is_open()
    }

    /// Whether what waits may be tried: the breaker is closed, or what waits is its probe.
    pub(crate) fn may_try(&self) -> bool {
        let gate = self.gate.lock();
        !gate.breaker.is_open() || gate.breaker.is_probing()
    }

    pub(crate) fn status(&self) -> LineStatus {
        let now = self.clock.mono();
        let mut gate = self.gate.lock();
        let factor = gate.slow.factor(now);
        let probing = gate.breaker.is_open();
        let allowed = if self.may_send() && !probing { f64::from(gate.window.ceiling()) * factor } else { 0.0 };
        LineStatus {
            allowed,
            used: u32::try_from(gate.window.used(now)).unwrap_or(u32::MAX),
            in_flight: self.busy.load(Ordering::SeqCst),
            slowed: factor < 1.0,
            probing,
        }
    }

    pub(crate) fn cast(&self, message: LineMsg) {
        if let Some(actor) = self.actor.load().as_deref() {
            let _ = actor.cast(message);
        }
    }
}

impl Gate {
    /// The aim follows the slow-down.
    fn follow(&mut self, now: Mono) {
        let factor = self.slow.factor(now);
        if (factor - self.aimed).abs() > 0.001 || (factor >= 1.0 && self.aimed < 1.0) {
            self.aimed = factor;
            self.aim.set_rate(Aim::rate_below(&self.window) * factor);
        }
    }
}

/// What a line can grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// So many.
    Permits(u32),
    /// As many requests are at the provider as may be.
    InFlightFull,
    /// Held, stopped by the breaker, or draining.
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::line::{LineHold, LineHoldKind};
    use crate::domain::time::UnixMillis;
    use crate::store::conformance;

    #[test]
    fn no_other_write_of_the_record_lets_a_line_send_that_is_about_to_be_held() {
        let record = |version, held: bool| {
            let hold = LineHold { kind: LineHoldKind::Line, reason: String::new(), at: UnixMillis(0), until: None };
            Line { version, hold: held.then_some(hold), ..conformance::line("line-1", "100") }
        };
        let lease = Arc::new(Lease::forever(Clock::system()));
        let line = LineShared::new(record(1, false), None, Clock::system(), &EngineConfig::default(), lease);
        let is_held = || line.held.load(Ordering::SeqCst);
        line.hold_now();
        line.set_record(record(2, false));
        assert!(is_held(), "the hold is yet to be written");
        line.set_record(record(3, true));
        line.set_record(record(4, false));
        assert!(!is_held(), "released");
        line.hold_now();
        line.forget_expected_hold();
        assert!(!is_held(), "not written: the line follows its record");
    }

    /// Permits of the aim in ten seconds, each taken as soon as it is due.
    async fn permits_in_ten_seconds(line: &LineShared) -> u32 {
        let end = line.clock.mono() + Duration::from_secs(10);
        let mut permits = 0;
        while line.clock.mono() < end {
            match line.aim(1) {
                Ok(()) => permits += 1,
                Err(due) => line.clock.sleep_until(due.expect("nothing stops the line")).await,
            }
        }
        permits
    }

    #[tokio::test(start_paused = true)]
    async fn the_aim_follows_guard_ceiling_and_slow_down() {
        let record = |version, ceiling| Line { version, ceiling, ..conformance::line("line-1", "100") };
        let config = EngineConfig { jitter_guard: Duration::from_millis(250), ..EngineConfig::default() };
        let lease = Arc::new(Lease::forever(Clock::system()));
        let line = LineShared::new(record(1, 1_000), None, Clock::system(), &config, lease);
        // 1,000 in 1.25 s, less the headroom; at most the allowance (10 ms) more.
        let permits = permits_in_ten_seconds(&line).await;
        assert!((7_983..=7_993).contains(&permits), "{permits} at 1,000/s");
        line.set_record(record(2, 500));
        let permits = permits_in_ten_seconds(&line).await;
        assert!((3_990..=3_997).contains(&permits), "{permits} at 500/s");
        line.slow_down();
        let slowed = permits_in_ten_seconds(&line).await;
        assert!(slowed < permits * 9 / 10, "{slowed} after a slow-down");
    }
}
