//! One shard's inbox and its commit. It outlives its actor: what was taken and not yet committed is taken up again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::around::{Done, commit_around};
use super::{Replied, StatusMsg};
use crate::campaign::registry::Registry;
use crate::campaign::shared::Slot;
use crate::config::EngineConfig;
use crate::domain::message::{Decision, Event};
use crate::domain::time::{Clock, UnixMillis};
use crate::store::{Entry, EntryResult, Store, StoreError, StoreResult};

/// Entries that belong together, and what follows their commit.
pub(crate) struct Job {
    pub(crate) entries: Vec<Entry>,
    pub(crate) then: Then,
}

/// What follows a commit.
pub(crate) enum Then {
    /// Somebody waits for the results, or for the error.
    Reply(oneshot::Sender<StoreResult<Replied>>),
    /// An outcome: kept until it is durable.
    Keep(Slot),
}

/// Taken from the inbox and not yet answered.
#[derive(Default)]
struct Taken {
    jobs: VecDeque<Job>,
    /// The first of their entries are committed: only the answers are missing. An intent offered a second time is refused, and
    /// whoever wrote it would take it for somebody else's.
    done: Done,
    /// When they were committed.
    at: UnixMillis,
}

impl Replied {
    fn of(entries: Vec<Entry>, results: &[EntryResult]) -> Self {
        let is_misfit = |result| matches!(result, EntryResult::Unknown | EntryResult::Refused);
        let misfits = if results.iter().any(|result| is_misfit(*result)) {
            let places = entries.into_iter().enumerate().zip(results);
            places.filter(|(_, result)| is_misfit(**result)).map(|(entry, _)| entry).collect()
        } else {
            Vec::new()
        };
        Self { results: results.to_vec(), misfits }
    }
}

impl Taken {
    /// The entries that have no result yet.
    fn not_done(&self) -> Vec<Entry> {
        let entries = self.jobs.iter().flat_map(|job| &job.entries);
        entries.skip(self.done.results.len()).cloned().collect()
    }
}

/// The inbox of one status actor.
pub(crate) struct Shard {
    index: usize,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    clock: Clock,
    tick: Duration,
    wait_max: Duration,
    entries_enough: usize,
    /// When the last commit began.
    begun: Mutex<Option<Instant>>,
    entries_max: usize,
    inbox: Mutex<Vec<Job>>,
    taken: tokio::sync::Mutex<Taken>,
    waiting: AtomicUsize,
    woken: AtomicBool,
    /// The store refused the last commit.
    refused: AtomicBool,
    pub(crate) actor: ArcSwapOption<ActorRef<StatusMsg>>,
}

impl Shard {
    /// Pause before kept outcomes are tried again on a store that refuses.
    pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(200);

    pub(crate) fn new(
        index: usize,
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        clock: Clock,
        config: &EngineConfig,
    ) -> Self {
        Self {
            index,
            store,
            registry,
            clock,
            tick: config.commit_tick,
            wait_max: config.commit_wait_max,
            entries_enough: config.commit_entries_enough,
            begun: Mutex::default(),
            entries_max: config.commit_entries_max,
            inbox: Mutex::default(),
            taken: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            actor: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn tick(&self) -> Duration {
        self.tick
    }

    /// Few entries wait, and the last commit began only a moment ago: more will come.
    pub(crate) fn expects_company(&self) -> bool {
        self.waiting() < self.entries_enough && self.begun.lock().is_some_and(|begun| begun.elapsed() < self.wait_max)
    }

    /// Notes whether the store refuses; returns whether it did before.
    pub(crate) fn refused(&self, refuses: bool) -> bool {
        self.refused.swap(refuses, Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds a job; wakes the actor if nobody has.
    pub(crate) fn push(&self, job: Job) {
        self.waiting.fetch_add(job.entries.len(), Ordering::Relaxed);
        self.inbox.lock().push(job);
        self.wake();
    }

    pub(crate) fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst)
            && let Some(actor) = self.actor.load().as_deref()
        {
            let _ = actor.cast(StatusMsg::Commit);
        }
    }

    /// A new actor: what an old one was woken for is due now.
    pub(crate) fn attach(&self, actor: ActorRef<StatusMsg>) {
        self.actor.store(Some(Arc::new(actor)));
        self.woken.store(false, Ordering::SeqCst);
        self.wake();
    }

    /// The actor is about to look into the inbox: from now on somebody has to wake it again.
    pub(crate) fn awake(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }

    /// Takes what is there and commits it. With `all`: everything that was there when it came to its turn, not what comes meanwhile, for on
    /// a busy node something always does. Else until nothing is left, or too little for another commit now. Or until the store refuses;
    /// false: it refused.
    ///
    /// Runs in a task of its own, which outlives the caller: a commit that was begun is answered, whoever is stopped meanwhile.
    pub(crate) async fn flush(self: &Arc<Self>, all: bool) -> bool {
        let shard = Arc::clone(self);
        match tokio::spawn(async move { shard.flush_here(all).await }).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => false,
            },
        }
    }

    async fn flush_here(&self, all: bool) -> bool {
        let mut taken = self.taken.lock().await;
        let mut left = taken.jobs.len() + self.inbox.lock().len();
        loop {
            // Also what was committed before a panic.
            self.answer(&mut taken);
            if all && left == 0 {
                return true;
            }
            if !all && taken.jobs.is_empty() && self.expects_company() {
                if !self.inbox.lock().is_empty() {
                    self.wake();
                }
                return true;
            }
            self.take_more(&mut taken.jobs);
            if taken.jobs.is_empty() {
                return true;
            }
            left = left.saturating_sub(taken.jobs.len());
            *self.begun.lock() = Some(Instant::now());
            crate::faults::point("status.taken");
            if !self.commit(&mut taken).await {
                return false;
            }
            if !all {
                // Whoever waits for what is here has its turn.
                drop(taken);
                taken = self.taken.lock().await;
            }
        }
    }

    fn take_more(&self, taken: &mut VecDeque<Job>) {
        let mut inbox = self.inbox.lock();
        let mut entries: usize = taken.iter().map(|j| j.entries.len()).sum();
        let fits = inbox
            .iter()
            .take_while(|job| {
                entries += job.entries.len();
                entries <= self.entries_max
            })
            .count();
        // A job larger than a whole commit goes alone.
        let count = if taken.is_empty() { fits.max(1).min(inbox.len()) } else { fits };
        taken.extend(inbox.drain(..count));
    }

    /// One commit of all; where the ledger refuses it for what it holds, around the culprit. False when the store is away and
    /// something is left.
    async fn commit(&self, taken: &mut Taken) -> bool {
        let entries = taken.not_done();
        taken.at = self.clock.wall();
        let refused = match self.store.commit(entries).await {
            Ok(committed) => {
                taken.done.add(committed);
                Ok(())
            }
            Err(error @ StoreError::Unavailable(_)) => Err(error),
            Err(error) => {
                tracing::error!(%error, shard = self.index, "the ledger refused a commit: it is made in parts");
                let entries: Vec<Entry> = taken.jobs.iter().flat_map(|job| job.entries.iter().cloned()).collect();
                commit_around(&self.store, &entries, &mut taken.done).await
            }
        };
        crate::faults::point("status.committed");
        let Err(error) = refused else { return true };
        self.answer(taken);
        self.refuse(taken, &error);
        taken.jobs.is_empty()
    }

    /// Publishes the tallies of a commit and gives each job its results.
    fn answer(&self, taken: &mut Taken) {
        let Taken { jobs, done, at } = taken;
        self.registry.set_tallies(&std::mem::take(&mut done.tallies), done.revision, *at);
        let mut answered = 0;
        while let Some(job) = jobs.pop_front_if(|job| answered + job.entries.len() <= done.results.len()) {
            let from = answered;
            answered += job.entries.len();
            self.waiting.fetch_sub(job.entries.len(), Ordering::Relaxed);
            self.note_due(&job.entries, *at);
            match job.then {
                Then::Reply(reply) => drop(reply.send(Ok(Replied::of(job.entries, &done.results[from..answered])))),
                Then::Keep(slot) => drop(slot),
            }
        }
        // What is left belongs to the first job that is not done.
        done.results.drain(..answered);
    }

    /// Those who wait hear the error; outcomes are kept, and so is a job that is in the ledger in part.
    fn refuse(&self, taken: &mut Taken, error: &StoreError) {
        let in_part = !taken.done.results.is_empty();
        for (place, job) in std::mem::take(&mut taken.jobs).into_iter().enumerate() {
            match job.then {
                Then::Reply(reply) if !(in_part && place == 0) => {
                    self.waiting.fetch_sub(job.entries.len(), Ordering::Relaxed);
                    drop(reply.send(Err(error.clone())));
                }
                then => taken.jobs.push_back(Job { entries: job.entries, then }),
            }
        }
    }

    /// Campaigns hear of messages that may leave again.
    fn note_due(&self, entries: &[Entry], now: UnixMillis) {
        for entry in entries {
            let due = match &entry.event {
                Event::NotProcessed { due_at, .. } => *due_at,
                Event::Withdrawn { at, .. } | Event::DoubtExpired { at, resend_up_to: Some(_) } => *at,
                Event::Resolved { decision: Decision::SendAgain, .. } => now,
                _ => continue,
            };
            if let Some(campaign) = self.registry.get(entry.key.campaign) {
                campaign.note_due(due);
            }
        }
    }
}
