//! The campaign's actor: keeps its window filled, asks its lines for what it may and can send, and finds the end.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::asks::Asks;
use super::hand_out::HandOut;
use super::shared::CampaignShared;
use super::{CampaignMsg, CampaignRef};
use crate::control::Binding;
use crate::domain::pacer::Pacer;
use crate::domain::time::UnixMillis;
use crate::line::permits::Permits;
use crate::metrics::delays;
use crate::store::{StoreResult, ToSend, Window};
use crate::supervisor::{Context, SupervisorMsg};

/// What a campaign's actor is made of.
pub(crate) struct CampaignArgs {
    pub(crate) shared: Arc<CampaignShared>,
    pub(crate) context: Arc<Context>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
}

pub(crate) struct CampaignWork {
    args: CampaignArgs,
    myself: CampaignRef,
    pacer: Pacer,
    /// Never-tried messages read ahead, in order.
    window: VecDeque<ToSend>,
    /// Messages that are due again.
    due: VecDeque<ToSend>,
    /// Due messages that are read or being handed out: not to be read twice.
    due_taken: HashSet<u32>,
    /// Where the window goes on; `None`: at the end of the list.
    cursor: Option<u32>,
    reading: bool,
    reading_due: bool,
    checking: bool,
    /// When the actor comes by without being called, at the latest.
    tick_at: Option<Instant>,
    asks: Asks,
    plans: crate::supervisor::Plans,
    line_binding: Binding,
    /// More could leave now if the campaign's own rate allowed it.
    rate_binds: bool,
    /// The epoch that `window`, `due` and `cursor` belong to.
    epoch: u64,
}

/// Pause after a read that the ledger refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// While everything that is due is taken, the ledger is asked again this much later: what becomes due is announced, too.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How often an actor comes by that nobody calls.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// The same while too much waits for the ledger: nobody says when that is over.
const LEDGER_TICK: Duration = Duration::from_millis(50);
/// The same while lines were asked and have not granted everything.
const ASKED_TICK: Duration = Duration::from_millis(100);
/// A tick that comes so much later than wished is not worth another.
const TICK_GRAIN: Duration = Duration::from_millis(2);

async fn pause_after<T>(read: &StoreResult<T>) {
    if read.is_err() {
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

/// A campaign's actor.
pub(crate) struct CampaignActor;

impl Actor for CampaignActor {
    type Msg = CampaignMsg;
    type State = CampaignWork;
    type Arguments = CampaignArgs;

    async fn pre_start(&self, myself: CampaignRef, args: CampaignArgs) -> Result<CampaignWork, ActorProcessingErr> {
        args.shared.actor.store(Some(Arc::new(myself.clone())));
        let record = args.shared.record();
        let plans = args.context.plans(&record);
        let _ = myself.cast(CampaignMsg::Wake);
        // Where an actor before this one stood is not known: the ledger is asked from the beginning, and for what is due.
        args.shared.note_due(UnixMillis(0));
        let asks = Asks::new(args.shared.key, myself.clone(), args.context.config.look_ahead);
        Ok(CampaignWork {
            pacer: Pacer::new(record.settings.rate),
            epoch: args.shared.epoch(),
            args,
            myself,
            window: VecDeque::new(),
            due: VecDeque::new(),
            due_taken: HashSet::new(),
            cursor: Some(0),
            reading: false,
            reading_due: false,
            checking: false,
            tick_at: None,
            asks,
            plans,
            line_binding: Binding::LineCeiling,
            rate_binds: false,
        })
    }

    async fn handle(
        &self,
        _: CampaignRef,
        message: CampaignMsg,
        work: &mut CampaignWork,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CampaignMsg::Changed(reply) => {
                crate::faults::point("campaign.changed");
                work.changed();
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            CampaignMsg::Granted(permits) => {
                crate::faults::point("campaign.granted");
                work.granted(permits);
            }
            CampaignMsg::LineBinds(binding) => {
                crate::faults::point("campaign.line_binds");
                work.line_binding = binding;
            }
            CampaignMsg::WindowRead(epoch, window) => {
                crate::faults::point("campaign.window_read");
                work.window_read(epoch, window);
            }
            CampaignMsg::DueRead(epoch, due) => {
                crate::faults::point("campaign.due_read");
                work.due_read(epoch, due);
            }
            CampaignMsg::Wake => crate::faults::point("campaign.wake"),
            CampaignMsg::Tick => {
                crate::faults::point("campaign.tick");
                work.ticked();
            }
            CampaignMsg::Checked(next_due) => {
                crate::faults::point("campaign.checked");
                work.checked(next_due);
            }
            CampaignMsg::Handed(seqs) => {
                crate::faults::point("campaign.handed");
                for seq in seqs {
                    work.due_taken.remove(&seq);
                }
                if work.due_taken.is_empty() {
                    // What comes next was hidden behind them.
                    work.args.shared.note_due(UnixMillis(0));
                }
            }
        }
        work.go_on();
        Ok(())
    }

    async fn post_stop(&self, _: CampaignRef, work: &mut CampaignWork) -> Result<(), ActorProcessingErr> {
        work.leave();
        Ok(())
    }
}

impl CampaignWork {
    fn shared(&self) -> &Arc<CampaignShared> {
        &self.args.shared
    }

    fn changed(&mut self) {
        let record = self.shared().record();
        self.pacer.set(record.settings.rate);
        self.plans = self.args.context.plans(&record);
        self.asks.forget();
    }

    /// Everything that follows from the state as it is; called after each message.
    fn go_on(&mut self) {
        if self.epoch != self.shared().epoch() {
            self.start_over();
        }
        if !self.shared().may_leave(&self.args.context.clock) {
            self.want_nothing();
            self.shared().set_binding(Binding::NotRunning);
            return;
        }
        self.read_ahead();
        self.read_due_now();
        let binding = self.ask_lines();
        self.shared().set_binding(binding);
        self.arm_tick(binding);
        self.check_end();
    }

    /// The gate was shut meanwhile, or intents were dropped: what was read ahead may be stale. Reading something twice is
    /// harmless, since no second intent stands.
    fn start_over(&mut self) {
        self.epoch = self.args.shared.epoch();
        self.window.clear();
        self.due.clear();
        self.due_taken.clear();
        self.cursor = Some(0);
        self.checking = false;
        // A read under way belongs to the old epoch; its answer is dropped.
        self.reading = false;
        self.reading_due = false;
        self.args.shared.note_due(UnixMillis(0));
    }

    fn read_ahead(&mut self) {
        let Some(from) = self.cursor else { return };
        let len = self.args.context.config.window_len;
        if self.reading || self.window.len() > len / 2 {
            return;
        }
        self.reading = true;
        let (store, key, myself) = (Arc::clone(&self.args.context.store), self.shared().key, self.myself.clone());
        let epoch = self.epoch;
        tokio::spawn(async move {
            let window = store.read_window(key, from, len).await;
            pause_after(&window).await;
            let _ = myself.cast(CampaignMsg::WindowRead(epoch, window));
        });
    }

    fn window_read(&mut self, epoch: u64, window: StoreResult<Window>) {
        if epoch != self.epoch {
            return;
        }
        self.reading = false;
        match window {
            Ok(window) => {
                self.window.extend(window.messages);
                self.cursor = window.next_seq;
            }
            Err(error) => self.read_failed(&error),
        }
    }

    fn read_failed(&mut self, error: &crate::store::StoreError) {
        tracing::warn!(campaign = %self.shared().key, %error, "the ledger could not be read; trying again");
        self.shared().set_binding(Binding::Ledger);
    }

    /// Whether a message with a row is due now.
    fn is_due(&self) -> bool {
        self.shared().next_due().is_some_and(|at| at <= self.args.context.clock.wall())
    }

    fn read_due_now(&mut self) {
        if self.reading_due || self.due.len() > self.args.context.config.window_len / 2 || !self.is_due() {
            return;
        }
        self.reading_due = true;
        let (context, key, myself) = (Arc::clone(&self.args.context), self.shared().key, self.myself.clone());
        // Extra, since those that are taken already come again.
        let limit = context.config.window_len + self.due_taken.len();
        let epoch = self.epoch;
        self.shared().clear_due();
        tokio::spawn(async move {
            let until = context.clock.wall();
            let read = async {
                let due = context.store.read_due(key, until, limit).await?;
                let next = if due.len() < limit { context.store.next_due(key).await? } else { Some(until) };
                Ok((due, next))
            };
            let read = read.await;
            pause_after(&read).await;
            let _ = myself.cast(CampaignMsg::DueRead(epoch, read));
        });
    }

    fn due_read(&mut self, epoch: u64, read: StoreResult<(Vec<ToSend>, Option<UnixMillis>)>) {
        if epoch != self.epoch {
            return;
        }
        self.reading_due = false;
        match read {
            Ok((due, next)) => {
                let now = self.args.context.clock.wall();
                let mut fresh = 0;
                for message in due {
                    if self.due_taken.insert(message.key.seq) {
                        self.due.push_back(message);
                        fresh += 1;
                    }
                }
                // What is due now and was read needs no second look until it is handed out; the next one does.
                if let Some(next) = next {
                    self.shared().note_due(if fresh == 0 && next <= now { now.after(LOOK_AGAIN) } else { next });
                }
            }
            Err(error) => {
                self.shared().note_due(UnixMillis(0));
                self.read_failed(&error);
            }
        }
    }

    /// Tells each line what the campaign can use; returns what binds.
    fn ask_lines(&mut self) -> Binding {
        let record = self.shared().record();
        let ready = u32::try_from(self.window.len() + self.due.len()).unwrap_or(u32::MAX);
        let free = u64::from(record.settings.workers).saturating_sub(self.shared().in_flight());
        let free = u32::try_from(free).unwrap_or(u32::MAX);
        let able = ready.min(free);
        let wants = self.pacer.available(able);
        self.rate_binds = wants < able;
        // Where most slots are free, what was asked for keeps the lines busy until the next grant, which comes here too.
        if free < ready && free < (record.settings.workers / 4).max(1) {
            self.shared().want_slot();
        }
        let waits_for_ledger = self.args.context.ledger.waiting() > self.args.context.config.waiting_entries_max / 2;
        let wants = if waits_for_ledger { 0 } else { wants };
        if self.plans.lines().is_empty() {
            return Binding::LinesUnavailable;
        }
        self.asks.ask(wants, self.plans.lines());
        match () {
            () if waits_for_ledger => Binding::Ledger,
            () if ready == 0 && self.cursor.is_none() && self.shared().next_due().is_some() => Binding::WaitingForRetry,
            () if ready == 0 && self.cursor.is_none() => Binding::Drained,
            () if free == 0 => Binding::Workers,
            () if self.rate_binds => Binding::CampaignRate,
            () => self.line_binding,
        }
    }

    fn want_nothing(&mut self) {
        self.asks.ask(0, self.plans.lines());
    }

    /// The lines forget the campaign, whatever they were told last.
    fn leave(&mut self) {
        self.asks.forget();
        self.want_nothing();
    }

    /// Hands out as many messages as the permits, the slots and the bucket allow; what is not used is given back at once.
    fn granted(&mut self, mut permits: Permits) {
        let line = permits.line().key;
        self.asks.granted(line, permits.count());
        if !self.shared().may_leave(&self.args.context.clock) {
            return;
        }
        let Some(plan) = self.plans.plan(line) else { return };
        let workers = u64::from(self.shared().record().settings.workers);
        let most = self.pacer.available(permits.count());
        let (mut messages, mut slots) = (Vec::new(), Vec::new());
        while messages.len() < most as usize && self.shared().in_flight() < workers {
            // Messages that waited go first.
            let Some(message) = self.due.pop_front().or_else(|| self.window.pop_front()) else { break };
            slots.push(self.shared().take_slot());
            messages.push(message);
        }
        if messages.is_empty() {
            return;
        }
        let used = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        self.pacer.spend(used);
        let kept = permits.keep(used);
        let hand_out = HandOut {
            shared: Arc::clone(self.shared()),
            plan,
            ledger: self.args.context.ledger.clone(),
            clock: self.args.context.clock.clone(),
            correlation: Arc::clone(&self.args.context.correlation),
            actor: self.myself.clone(),
            traces: self.args.context.senders.traces.clone(),
        };
        tokio::spawn(hand_out.run(messages, slots, kept));
    }

    /// While there is a bucket to refill, a moment to wait for, or a read to try again, the actor comes by.
    fn arm_tick(&mut self, binding: Binding) {
        let mut after = match binding {
            Binding::Ledger => LEDGER_TICK,
            // Another line may have room by then.
            _ if self.asks.are_open() => ASKED_TICK,
            _ => IDLE_TICK,
        };
        if self.rate_binds {
            after = after.min(self.pacer.asks_after());
        }
        if let Some(due) = self.shared().next_due() {
            let rest = due.since(self.args.context.clock.wall());
            after = after.min(rest.max(Duration::from_millis(5)));
        }
        let at = Instant::now() + after;
        // The one under way is early enough.
        if self.tick_at.is_some_and(|armed| armed <= at + TICK_GRAIN) {
            return;
        }
        self.tick_at = Some(at);
        drop(self.myself.send_after(after, || CampaignMsg::Tick));
    }

    /// The tick that was armed last is over. One that an earlier moment overtook changes nothing: else each would go on for ever.
    fn ticked(&mut self) {
        let now = Instant::now();
        if let Some(at) = self.tick_at.filter(|at| *at <= now + TICK_GRAIN) {
            self.tick_at = None;
            delays::note(delays::Of::Campaign, self.args.context.clock.mono(), now.saturating_duration_since(at));
        }
    }

    /// Nothing read, nothing waiting, nothing in flight: is anything left at all? The ledger knows.
    fn check_end(&mut self) {
        let idle = self.cursor.is_none() && self.window.is_empty() && self.due.is_empty() && !self.reading;
        let idle = idle && !self.reading_due && self.shared().next_due().is_none();
        if !idle || self.checking || !self.shared().want_quiet() {
            return;
        }
        self.checking = true;
        let (store, key, myself) = (Arc::clone(&self.args.context.store), self.shared().key, self.myself.clone());
        tokio::spawn(async move {
            let next_due = store.next_due(key).await;
            pause_after(&next_due).await;
            let _ = myself.cast(CampaignMsg::Checked(next_due));
        });
    }

    fn checked(&mut self, next_due: StoreResult<Option<UnixMillis>>) {
        match next_due {
            Ok(None) if self.shared().in_flight() == 0 && self.shared().next_due().is_none() => {
                // `checking` stays: the supervisor stops this actor when the record is written.
                let _ = self.args.supervisor.cast(SupervisorMsg::Dispatched(self.shared().key));
            }
            Ok(next) => {
                self.checking = false;
                if let Some(next) = next {
                    self.shared().note_due(next);
                }
            }
            Err(_) => self.checking = false,
        }
    }
}
