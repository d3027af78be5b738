//! A sender's queue and connections: shared by its actor and its connection tasks, and outliving both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::mpsc;

use super::connection::{self, Connector};
use super::{Item, SenderMsg};
use crate::domain::breaker::Outcome;
use crate::domain::time::Clock;
use crate::line::LineMsg;
use crate::line::gate::LineShared;
use crate::trace::Traces;

/// What every sender of an engine shares.
#[derive(Clone)]
pub(crate) struct SenderContext {
    pub(crate) connector: Connector,
    pub(crate) answer_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) clock: Clock,
    pub(crate) outcomes: Arc<super::outcome::Outcomes>,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// One sender's queue and connections.
pub(crate) struct SenderCore {
    pub(crate) line: Arc<LineShared>,
    pub(crate) context: SenderContext,
    /// Senders of the line: its in-flight limit is shared among them.
    siblings: u32,
    state: Mutex<State>,
    actor: Mutex<Option<ActorRef<SenderMsg>>>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<Item>>,
    /// Connections without a request, the last used last: few stay warm, the others run into their idle timeout.
    idle: Vec<Idle>,
    next_id: u64,
    open: u32,
    connecting: u32,
    /// A tick is under way.
    ticking: bool,
}

struct Idle {
    id: u64,
    /// Boxed: a channel holds room for many of what it carries, and there is one for each connection.
    hand: mpsc::Sender<Box<Item>>,
}

/// What a connection does next.
pub(crate) enum Next {
    /// Send this.
    Send(Box<Item>),
    /// Wait in the idle list.
    Wait,
}

impl SenderCore {
    /// Shortest time between two looks at the queue. What is due meanwhile leaves together: a wake-up for each message costs more
    /// than the message's own work, and the aim's allowance makes up for the lateness.
    const TICK_MIN: Duration = Duration::from_millis(2);

    pub(crate) fn new(line: Arc<LineShared>, context: SenderContext, siblings: u32) -> Arc<Self> {
        Arc::new(Self { line, context, siblings, state: Mutex::default(), actor: Mutex::default() })
    }

    pub(crate) fn attach(&self, actor: ActorRef<SenderMsg>) {
        *self.actor.lock() = Some(actor);
        self.state.lock().ticking = false;
    }

    #[allow(clippy::vec_box)] // they are handed from queue to queue, one by one
    pub(crate) fn enqueue(&self, items: Vec<Box<Item>>) {
        if let Some(permit) = items.first().and_then(|item| item.permit.as_ref()) {
            self.line.learn_lag(permit.granted_at());
        }
        self.state.lock().queue.extend(items);
    }

    /// A tick was handled: the next look arms a new one.
    pub(crate) fn tick_handled(&self) {
        self.state.lock().ticking = false;
    }

    /// Hands what is due to idle connections, opens connections where they are missing, withdraws what may not leave.
    pub(crate) fn pump(self: &Arc<Self>) {
        let mut withdrawn = Vec::new();
        let mut tick = None;
        {
            let mut state = self.state.lock();
            while let Some(front) = state.queue.front() {
                if !front.may_leave() {
                    withdrawn.extend(state.queue.pop_front());
                    continue;
                }
                // Stopped by the breaker: what waits goes back, and nobody knocks meanwhile.
                if !self.line.may_try() {
                    withdrawn.extend(state.queue.drain(..));
                    break;
                }
                if state.idle.is_empty() {
                    self.open_connections(&mut state);
                    break;
                }
                match self.line.aim(front.cost) {
                    Ok(()) => {
                        if let Some(item) = state.queue.pop_front() {
                            state.hand_to_idle(item);
                        }
                    }
                    Err(Some(due)) => {
                        tick = self.arm(&mut state, due);
                        break;
                    }
                    // Stopped this moment.
                    Err(None) => withdrawn.extend(state.queue.drain(..)),
                }
            }
        }
        // Outside the lock: withdrawing wakes others.
        withdrawn.into_iter().for_each(|item| item.withdraw());
        self.send_tick(tick);
    }

    /// A connection has nothing to do: what is due goes to it at once.
    pub(super) fn next(self: &Arc<Self>, id: u64, hand: &mpsc::Sender<Box<Item>>) -> Next {
        let mut tick = None;
        let next = {
            let mut state = self.state.lock();
            match state.queue.front() {
                Some(front) if front.may_leave() => match self.line.aim(front.cost) {
                    Ok(()) => state.queue.pop_front().map_or(Next::Wait, Next::Send),
                    Err(Some(due)) => {
                        tick = self.arm(&mut state, due);
                        Next::Wait
                    }
                    Err(None) => {
                        tick = self.arm(&mut state, self.context.clock.mono());
                        Next::Wait
                    }
                },
                Some(_) => {
                    tick = self.arm(&mut state, self.context.clock.mono());
                    Next::Wait
                }
                None => Next::Wait,
            }
            .or_wait(|| state.idle.push(Idle { id, hand: hand.clone() }))
        };
        self.send_tick(tick);
        next
    }

    /// A connection could not take its message: it goes back to the front.
    pub(super) fn give_back(self: &Arc<Self>, item: Box<Item>) {
        self.state.lock().queue.push_front(item);
        self.poke();
    }

    pub(super) fn connected(&self) {
        self.state.lock().connecting -= 1;
    }

    /// A connection ended, or could not be opened.
    pub(super) fn closed(self: &Arc<Self>, id: u64, connected: bool) {
        let mut state = self.state.lock();
        state.idle.retain(|idle| idle.id != id);
        state.open -= 1;
        state.connecting -= u32::from(!connected);
        drop(state);
        if connected {
            self.poke();
        } else {
            // No byte left, but a provider that nobody reaches is an outage all the same.
            self.learn(Outcome::Unclear, None);
            self.poke_later(Duration::from_millis(50));
        }
    }

    /// Learns how a request ended; a line that this stopped is told.
    pub(super) fn learn(&self, outcome: Outcome, latency: Option<Duration>) {
        if self.line.learn(outcome, latency) {
            tracing::warn!(line = %self.line.key, "the breaker stopped the line: too many unclear outcomes in a row");
            self.line.cast(LineMsg::Stopped);
        }
    }

    fn open_connections(self: &Arc<Self>, state: &mut State) {
        let limit = self.line.in_flight_limit().div_ceil(self.siblings).max(1);
        let waiting = u32::try_from(state.queue.len()).unwrap_or(u32::MAX);
        let missing = waiting.saturating_sub(state.connecting).min(limit.saturating_sub(state.open));
        for _ in 0..missing {
            state.next_id += 1;
            state.open += 1;
            state.connecting += 1;
            tokio::spawn(connection::run(Arc::clone(self), state.next_id));
        }
    }

    /// Arms a tick unless one is under way; returns after how long.
    fn arm(&self, state: &mut State, due: crate::domain::time::Mono) -> Option<Duration> {
        if std::mem::replace(&mut state.ticking, true) {
            return None;
        }
        let now = self.context.clock.mono();
        Some(due.since(now).clamp(Self::TICK_MIN, Duration::from_secs(1)))
    }

    fn send_tick(&self, after: Option<Duration>) {
        if let (Some(after), Some(actor)) = (after, self.actor.lock().as_ref()) {
            drop(actor.send_after(after, || SenderMsg::Tick));
        }
    }

    fn poke(&self) {
        if let Some(actor) = self.actor.lock().as_ref() {
            let _ = actor.cast(SenderMsg::Pump);
        }
    }

    fn poke_later(&self, after: Duration) {
        if let Some(actor) = self.actor.lock().as_ref() {
            drop(actor.send_after(after, || SenderMsg::Pump));
        }
    }
}

impl State {
    fn hand_to_idle(&mut self, mut item: Box<Item>) {
        while let Some(idle) = self.idle.pop() {
            match idle.hand.try_send(item) {
                Ok(()) => return,
                // It closed meanwhile.
                Err(mpsc::error::TrySendError::Closed(back) | mpsc::error::TrySendError::Full(back)) => item = back,
            }
        }
        self.queue.push_front(item);
    }
}

impl Next {
    fn or_wait(self, wait: impl FnOnce()) -> Self {
        if matches!(self, Self::Wait) {
            wait();
        }
        self
    }
}
