//! What is known of a campaign while the engine runs: shared by its actor, the senders, the status actors and the façade.
//! It outlives the actor, so that a panic there loses neither the gate nor the count of what is in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::CampaignRef;
use super::counted::Counted;
use crate::control::{Binding, Progress};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::CampaignKey;
use crate::domain::provider_kind::ProviderKind;
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::domain::time::{Clock, Mono, UnixMillis};
use crate::domain::trace::SpanRef;

/// One campaign that is not settled yet.
#[derive(Debug)]
pub(crate) struct CampaignShared {
    pub(crate) key: CampaignKey,
    pub(crate) kind: ProviderKind,
    record: ArcSwap<Campaign>,
    /// What the gate says; follows `gate` and the record.
    gate_open: AtomicBool,
    gate: Mutex<Gate>,
    /// Rises whenever the gate shuts or somebody asks to start over: what the actor read ahead before is void.
    epoch: AtomicU64,
    sweeping: AtomicBool,
    /// Somebody is writing that it expired.
    expiring: AtomicBool,
    /// The record's `stop_at` (Unix ms); `i64::MAX`: none.
    stop_at: AtomicI64,
    in_flight: AtomicU64,
    /// Earliest moment at which a message with a row is due (Unix ms); `i64::MAX`: none known.
    next_due: AtomicI64,
    /// The actor waits for a slot.
    slot_wanted: AtomicBool,
    /// The actor waits for the last message in flight.
    quiet_wanted: AtomicBool,
    /// The actor, while it runs.
    pub(crate) actor: ArcSwapOption<CampaignRef>,
    counts: Mutex<Counted>,
    progress: watch::Sender<Progress>,
    /// The traced call that last put it to work, as far as this process has seen it.
    put_to_work_by: ArcSwapOption<SpanRef>,
    binding: Mutex<Binding>,
    errors: Mutex<ErrorRun>,
    /// Pending messages when the campaign was last found not complete, and how often in a row.
    not_complete: Mutex<(u64, u32)>,
}

/// What keeps the gate shut beside the record: whatever else is written meanwhile does not open it.
#[derive(Debug, Default)]
struct Gate {
    /// Those who are about to write that the campaign stops ([`Shut`]).
    shut_by: u32,
    /// The supervisor is about to write a hold.
    hold_expected: bool,
    /// When it last began to run again.
    resumed_at: Option<Mono>,
}

/// The same request error many times in a row.
#[derive(Debug, Default)]
struct ErrorRun {
    code: u32,
    run: u32,
}

fn stop_at_of(record: &Campaign) -> i64 {
    record.settings.stop_at.map_or(i64::MAX, |stop_at| stop_at.0)
}

impl CampaignShared {
    pub(crate) fn new(record: Campaign, kind: ProviderKind, tally: Tally, revision: u64, now: UnixMillis) -> Self {
        let progress = Progress { tally, as_of: now, version: record.version, ..Progress::default() };
        Self {
            key: record.key,
            kind,
            gate_open: AtomicBool::new(record.state == CampaignState::Running),
            gate: Mutex::default(),
            epoch: AtomicU64::new(0),
            sweeping: AtomicBool::new(false),
            expiring: AtomicBool::new(false),
            stop_at: AtomicI64::new(stop_at_of(&record)),
            in_flight: AtomicU64::new(0),
            next_due: AtomicI64::new(i64::MAX),
            slot_wanted: AtomicBool::new(false),
            quiet_wanted: AtomicBool::new(false),
            actor: ArcSwapOption::empty(),
            counts: Mutex::new(Counted::new(tally, revision, now)),
            progress: watch::Sender::new(progress),
            put_to_work_by: ArcSwapOption::empty(),
            binding: Mutex::new(Binding::NotRunning),
            errors: Mutex::default(),
            not_complete: Mutex::default(),
            record: ArcSwap::from_pointee(record),
        }
    }

    pub(crate) fn record(&self) -> Arc<Campaign> {
        self.record.load_full()
    }

    /// Takes over a newer record. The gate follows its state, unless somebody is about to write that the campaign stops.
    pub(crate) fn set_record(&self, record: Campaign, now: Mono) {
        // Held throughout: of two records that come at once, the newer stays.
        let mut counts = self.counts.lock();
        let before = self.record.load();
        if record.version < before.version {
            return;
        }
        let (ran, runs) = (before.state == CampaignState::Running, record.state == CampaignState::Running);
        self.stop_at.store(stop_at_of(&record), Ordering::SeqCst);
        self.record.store(Arc::new(record));
        let mut gate = self.gate.lock();
        if runs && !ran {
            gate.resumed_at = Some(now);
        }
        if !runs {
            // Held, or stopped otherwise: what was expected has come, or is not needed.
            gate.hold_expected = false;
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.follow(&gate);
        counts.dirty = true;
    }

    /// Sets the gate as the record and those who shut it say.
    fn follow(&self, gate: &Gate) {
        let runs = self.record.load().state == CampaignState::Running;
        self.gate_open.store(runs && gate.shut_by == 0 && !gate.hold_expected, Ordering::SeqCst);
    }

    /// Whether its messages may pass to a provider, for all that people and the system decided ([`Self::may_leave`] is what is asked).
    pub(crate) fn gate_is_open(&self) -> bool {
        self.gate_open.load(Ordering::SeqCst)
    }

    /// Whether its messages may leave now, `stop_at` included, whoever has noted by then that it came: a ledger that is away cannot take
    /// the expiry, and nothing leaves meanwhile.
    pub(crate) fn may_leave(&self, clock: &Clock) -> bool {
        self.gate_is_open() && !self.is_past_stop(clock)
    }

    /// Whether `stop_at` has come. Only a campaign that has one asks the clock.
    fn is_past_stop(&self, clock: &Clock) -> bool {
        let stop_at = self.stop_at.load(Ordering::SeqCst);
        stop_at != i64::MAX && stop_at <= clock.wall().0
    }

    /// Shuts the gate at once, for as long as what is returned is held: until it is written that the campaign stops, or not.
    pub(crate) fn shut(self: &Arc<Self>) -> Shut {
        let mut gate = self.gate.lock();
        gate.shut_by += 1;
        self.follow(&gate);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        Shut(Arc::clone(self))
    }

    /// Shuts the gate for a hold that the supervisor is about to write.
    pub(crate) fn shut_for_hold(&self) {
        let mut gate = self.gate.lock();
        gate.hold_expected = true;
        self.follow(&gate);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The hold is written, or will not be: the gate follows the record again. Also when the supervisor may have lost what it was
    /// told; the next outcome of that kind asks for the hold anew.
    pub(crate) fn forget_expected_hold(&self) {
        let mut gate = self.gate.lock();
        gate.hold_expected = false;
        self.follow(&gate);
    }

    /// Whether somebody, or time, put it back to work since `began`: an answer to a request from before says nothing of the
    /// campaign as it is now.
    pub(crate) fn was_resumed_since(&self, began: Mono) -> bool {
        self.gate.lock().resumed_at.is_some_and(|at| at >= began)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The actor forgets what it read ahead and reads again from the beginning.
    pub(crate) fn start_over(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Shuts the gate for an expiry that is to be written; `None`: somebody is at it.
    pub(crate) fn begin_expiry(self: &Arc<Self>) -> Option<Expiry> {
        (!self.expiring.swap(true, Ordering::SeqCst))
            .then(|| Expiry { shut: Some(self.shut()), campaign: Arc::clone(self) })
    }

    /// Begins a task that must not run twice at once; `None`: one is under way.
    pub(crate) fn begin_sweep(self: &Arc<Self>) -> Option<Sweep> {
        (!self.sweeping.swap(true, Ordering::SeqCst)).then(|| Sweep(Arc::clone(self)))
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// A slot for one message in flight: from before its intent until after its durable outcome.
    pub(crate) fn take_slot(self: &Arc<Self>) -> Slot {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Slot(Arc::clone(self))
    }

    /// The actor wants to hear when a slot becomes free.
    pub(crate) fn want_slot(&self) {
        self.slot_wanted.store(true, Ordering::SeqCst);
    }

    /// Whether nothing is in flight; otherwise the actor hears when the last is back.
    pub(crate) fn want_quiet(&self) -> bool {
        self.in_flight() == 0 || {
            self.quiet_wanted.store(true, Ordering::SeqCst);
            // The last may have come back in between, and have told nobody.
            self.in_flight() == 0
        }
    }

    /// A message became due at `at`; wakes the actor.
    pub(crate) fn note_due(&self, at: UnixMillis) {
        if self.next_due.fetch_min(at.0, Ordering::SeqCst) > at.0 {
            self.wake();
        }
    }

    pub(crate) fn next_due(&self) -> Option<UnixMillis> {
        Some(UnixMillis(self.next_due.load(Ordering::SeqCst))).filter(|at| at.0 != i64::MAX)
    }

    /// Forgets what is due, before reading it anew from the ledger.
    pub(crate) fn clear_due(&self) {
        self.next_due.store(i64::MAX, Ordering::SeqCst);
    }

    /// Tells the actor to look again.
    pub(crate) fn wake(&self) {
        if let Some(actor) = self.actor.load().as_deref() {
            let _ = actor.cast(super::CampaignMsg::Wake);
        }
    }

    pub(crate) fn set_binding(&self, binding: Binding) {
        let mut held = self.binding.lock();
        if *held != binding {
            *held = binding;
            drop(held);
            self.counts.lock().dirty = true;
        }
    }

    /// Takes over a tally of a commit, unless a later commit's is known already. True: it has to be listed for publishing.
    pub(super) fn set_tally(&self, tally: Tally, revision: u64, at: UnixMillis) -> bool {
        self.counts.lock().take(tally, revision, at)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.counts.lock().tally()
    }

    pub(crate) fn put_to_work_by(&self) -> Option<SpanRef> {
        self.put_to_work_by.load().as_deref().copied()
    }

    pub(crate) fn set_put_to_work_by(&self, caller: SpanRef) {
        self.put_to_work_by.store(Some(Arc::new(caller)));
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// It was taken from the list.
    pub(super) fn unlist(&self) {
        self.counts.lock().listed = false;
    }

    /// Publishes what changed since the last time.
    pub(crate) fn publish(&self, now: Mono, force: bool) {
        let binding = *self.binding.lock();
        let mut counts = self.counts.lock();
        if !counts.dirty && !force {
            return;
        }
        let progress = counts.progress(now, binding, self.record.load().version);
        drop(counts);
        self.progress.send_replace(progress);
    }

    /// Counts a request error; true when it is the `most`-th of its code in a row. The run then begins anew, so that a campaign
    /// that is resumed without a remedy is held again.
    pub(crate) fn count_error(&self, code: u32, most: u32) -> bool {
        let mut errors = self.errors.lock();
        if errors.code != code {
            *errors = ErrorRun { code, run: 0 };
        }
        errors.run += 1;
        let over = errors.run >= most;
        if over {
            errors.run = 0;
        }
        over
    }

    /// The actor found nothing to send, the ledger somebody pending. How long to wait before looking again: soon at first, since the
    /// two only raced; seldom when nothing moves, as with a message whose row the ledger cannot take.
    pub(crate) fn look_again_after(&self) -> Duration {
        let pending = self.tally().count(Shown::Pending);
        let mut found = self.not_complete.lock();
        *found = if found.0 == pending { (pending, found.1 + 1) } else { (pending, 0) };
        LOOK_AGAIN * (1 << found.1.min(LOOK_AGAIN_DOUBLINGS))
    }

    /// Something of this campaign was accepted: the run of errors is over.
    pub(crate) fn clear_errors(&self) {
        self.errors.lock().run = 0;
    }
}

/// A task of which there is one at a time; over when dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Sweep(Arc<CampaignShared>);

impl Drop for Sweep {
    fn drop(&mut self) {
        self.0.sweeping.store(false, Ordering::SeqCst);
    }
}

/// The end of a campaign that is being written because `stop_at` came; over when dropped, also by a panic. Its gate is shut until then.
#[derive(Debug)]
pub(crate) struct Expiry {
    campaign: Arc<CampaignShared>,
    shut: Option<Shut>,
}

impl Drop for Expiry {
    fn drop(&mut self) {
        // First, so that the next look finds nobody at it when it finds the gate as the record says.
        self.campaign.expiring.store(false, Ordering::SeqCst);
        self.shut.take();
    }
}

/// Keeps a campaign's gate shut; dropped, the gate follows the record.
#[derive(Debug)]
pub(crate) struct Shut(Arc<CampaignShared>);

impl Drop for Shut {
    fn drop(&mut self) {
        let mut gate = self.0.gate.lock();
        gate.shut_by -= 1;
        self.0.follow(&gate);
        drop(gate);
        self.0.wake();
    }
}

/// First pause before a campaign that was not complete is looked at again, and how often it doubles: to 12.8 s.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN_DOUBLINGS: u32 = 7;

/// One message in flight; dropped when its outcome is durable.
#[derive(Debug)]
pub(crate) struct Slot(Arc<CampaignShared>);

impl Slot {
    pub(crate) fn campaign(&self) -> &Arc<CampaignShared> {
        &self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "a slot is given back once");
        let is_awaited = self.0.slot_wanted.swap(false, Ordering::SeqCst);
        // The last one matters too: the campaign may be complete.
        if is_awaited || (before == 1 && self.0.quiet_wanted.swap(false, Ordering::SeqCst)) {
            self.0.wake();
        }
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
