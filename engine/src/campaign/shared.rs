//! What is known of a campaign while the engine runs: shared by its actor, the senders, the status actors and the façade.
//! It outlives the actor, so that a panic there loses neither the gate nor the count of what is in flight.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::CampaignRef;
use crate::control::{Binding, Progress};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::CampaignKey;
use crate::domain::provider_kind::ProviderKind;
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::domain::time::{Mono, UnixMillis};
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
    in_flight: AtomicU64,
    /// Earliest moment at which a message with a row is due (Unix ms); `i64::MAX`: none known.
    next_due: AtomicI64,
    /// The actor waits for a slot.
    slot_wanted: AtomicBool,
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

#[derive(Debug, Default)]
struct Counted {
    tally: Tally,
    as_of: UnixMillis,
    /// The commit that the tally comes from: an older one never replaces a newer.
    revision: u64,
    /// (when, accepted) now and a while ago, for the rate.
    marks: [(Mono, u64); 2],
    started: Option<(Mono, u64)>,
    /// Something changed since it was last published.
    dirty: bool,
    /// It stands in the registry's list of those whose tallies moved.
    listed: bool,
}

/// The same request error many times in a row.
#[derive(Debug, Default)]
struct ErrorRun {
    code: u32,
    run: u32,
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
            in_flight: AtomicU64::new(0),
            next_due: AtomicI64::new(i64::MAX),
            slot_wanted: AtomicBool::new(false),
            actor: ArcSwapOption::empty(),
            counts: Mutex::new(Counted { tally, as_of: now, revision, ..Counted::default() }),
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

    /// Whether its messages may pass to a provider. Asked directly before the write.
    pub(crate) fn gate_is_open(&self) -> bool {
        self.gate_open.load(Ordering::SeqCst)
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
    fn set_tally(&self, tally: Tally, revision: u64, at: UnixMillis) -> bool {
        let mut counts = self.counts.lock();
        if revision < counts.revision {
            return false;
        }
        (counts.tally, counts.revision, counts.as_of) = (tally, revision, at);
        counts.dirty = true;
        !std::mem::replace(&mut counts.listed, true)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.counts.lock().tally
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
    fn unlist(&self) {
        self.counts.lock().listed = false;
    }

    /// Publishes what changed since the last time.
    pub(crate) fn publish(&self, now: Mono, force: bool) {
        let binding = *self.binding.lock();
        let mut counts = self.counts.lock();
        if !counts.dirty && !force {
            return;
        }
        counts.dirty = false;
        let accepted = counts.tally.accepted;
        let (started_at, started_with) = *counts.started.get_or_insert((now, accepted));
        if now.since(counts.marks[1].0) >= RATE_OVER {
            counts.marks = [counts.marks[1], (now, accepted)];
        }
        let per_second = |since: Mono, before: u64| {
            let span = now.since(since).as_secs_f64();
            #[allow(clippy::cast_precision_loss)]
            if span > 0.0 { accepted.saturating_sub(before) as f64 / span } else { 0.0 }
        };
        let mark = if counts.marks[0].0 == Mono(0) { (started_at, started_with) } else { counts.marks[0] };
        let progress = Progress {
            tally: counts.tally,
            as_of: counts.as_of,
            rate_now: per_second(mark.0, mark.1),
            rate_average: per_second(started_at, started_with),
            binding,
            version: self.record.load().version,
        };
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

/// The rate shown is a mean over one to two of these.
const RATE_OVER: Duration = Duration::from_secs(2);
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
        // The last one matters too: the campaign may be complete.
        if self.0.slot_wanted.swap(false, Ordering::SeqCst) || before == 1 {
            self.0.wake();
        }
    }
}

/// All campaigns that are not settled.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    campaigns: RwLock<HashMap<CampaignKey, Arc<CampaignShared>>>,
    dirty: Mutex<Vec<Arc<CampaignShared>>>,
}

impl Registry {
    pub(crate) fn get(&self, key: CampaignKey) -> Option<Arc<CampaignShared>> {
        self.campaigns.read().get(&key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<CampaignShared>> {
        self.campaigns.read().values().cloned().collect()
    }

    /// Inserts a campaign. One that is there already stays, and takes over the record if it is newer: two who brought the same campaign
    /// at once, a start and a pause, came in any order.
    pub(crate) fn insert(&self, shared: CampaignShared, now: Mono) -> Arc<CampaignShared> {
        use std::collections::hash_map::Entry;
        match self.campaigns.write().entry(shared.key) {
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(shared))),
            Entry::Occupied(there) => {
                there.get().set_record(Campaign::clone(&shared.record()), now);
                Arc::clone(there.get())
            }
        }
    }

    /// Takes over a newer record of a campaign that is here.
    pub(crate) fn update(&self, record: &Campaign, now: Mono) -> Option<Arc<CampaignShared>> {
        // Under the lock: it is not removed as settled in the moment in which it is reopened.
        let campaigns = self.campaigns.read();
        let shared = campaigns.get(&record.key)?;
        shared.set_record(record.clone(), now);
        Some(Arc::clone(shared))
    }

    pub(crate) fn remove(&self, key: CampaignKey) {
        self.campaigns.write().remove(&key);
    }

    /// Removes a campaign unless it was reopened meanwhile.
    pub(crate) fn remove_settled(&self, key: CampaignKey) {
        let mut campaigns = self.campaigns.write();
        if campaigns.get(&key).is_some_and(|shared| shared.record().settled_at.is_some()) {
            campaigns.remove(&key);
        }
    }

    /// Takes over the tallies of a commit.
    pub(crate) fn set_tallies(&self, tallies: &[(CampaignKey, Tally)], revision: u64, at: UnixMillis) {
        for (key, tally) in tallies {
            if let Some(shared) = self.get(*key)
                && shared.set_tally(*tally, revision, at)
            {
                self.dirty.lock().push(shared);
            }
        }
    }

    /// Those whose tallies moved since the last time.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<CampaignShared>> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        dirty.iter().for_each(|shared| shared.unlist());
        dirty
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
