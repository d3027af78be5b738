//! The one thread that writes. It takes everything that waits, applies it in one transaction, commits, answers, and begins
//! again at once: the slower the disk, the larger the groups.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use tokio::sync::{mpsc, oneshot};

use super::error::{Fail, Try, store_error, wants_reopening};
use super::ledger::Ledger;
use super::shared::Shared;
use crate::domain::ids::CampaignKey;
use crate::domain::time::{Clock, Mono};
use crate::metrics as names;
use crate::store::{Committed, Entry, EntryResult, StoreError, StoreResult};

/// Calls that may wait; more callers wait to be let in.
pub(super) const QUEUE_CALLS_MAX: usize = 1_024;

/// Groups of one call each that follow a group which failed by its content, so that the next time only the culprit fails.
const GROUPS_ALONE: u32 = 64;

/// Pages written to the log since the last checkpoint that ask for the next: 8 MiB.
const CHECKPOINT_PAGES: u64 = 2_000;

/// Pages in the log from which on the writer helps it to start anew: 32 MiB. Beside a writer that never rests, checkpoints on another
/// thread alone would never reach the log's end.
const LOG_PAGES_MAX: u64 = 8_000;

/// What the writer then copies itself, directly after the other thread copied the rest: so little that nobody waits long.
const TAIL_PAGES: u64 = 512;

/// Pages in the log at which it copies whatever there is: 256 MiB.
const LOG_PAGES_BEYOND: u64 = 64_000;

/// One call on its way to the writer.
pub(super) enum Command {
    /// Entries of the ledger.
    Commit(CommitCall),
    /// Anything else.
    Work(Box<dyn Work>),
}

/// A call of `Store::commit`.
pub(super) struct CommitCall {
    entries: Vec<Entry>,
    count: u64,
    asked_at: Mono,
    campaigns: Vec<CampaignKey>,
    results: Vec<EntryResult>,
    reply: oneshot::Sender<StoreResult<Committed>>,
}

/// A call with statements of its own. It shares the group's transaction, but fails alone.
pub(super) trait Work: Send {
    /// Does it, inside the group's transaction. An error fails the whole group.
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Try<()>;
    /// Answers after the commit; `failed`: nothing of the group was done.
    fn answer(self: Box<Self>, failed: Option<&StoreError>);
}

struct WorkCall<T, F> {
    work: Option<F>,
    result: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<T, F> Work for WorkCall<T, F>
where
    T: Send,
    F: FnOnce(&mut Ledger<'_>) -> Try<T> + Send,
{
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Try<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        // Its statements must see what the group did so far, and its failure must not undo that.
        ledger.flush()?;
        let conn = ledger.conn();
        let run = |sql: &str| conn.prepare_cached(sql)?.raw_execute();
        run("SAVEPOINT call")?;
        let result = match work(ledger) {
            Ok(value) => Ok(value),
            Err(Fail::Own(error)) => Err(error),
            Err(Fail::Sql(error)) => match store_error(&error) {
                defect @ StoreError::Bug(_) if !conn.is_autocommit() => Err(defect),
                _ => return Err(Fail::Sql(error)),
            },
        };
        if result.is_err() {
            run("ROLLBACK TO call")?;
        }
        run("RELEASE call")?;
        self.result = Some(result);
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<&StoreError>) {
        let result = match (failed, self.result) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(result)) => result,
            (None, None) => Err(StoreError::Bug("a call that was not run".to_owned())),
        };
        // A caller that went away has its effect nevertheless: it was asked for.
        let _ = self.reply.send(result);
    }
}

impl Command {
    /// A call of `Store::commit` and where its answer comes.
    pub(super) fn commit(entries: Vec<Entry>, now: Mono) -> (Self, oneshot::Receiver<StoreResult<Committed>>) {
        let (reply, answer) = oneshot::channel();
        let mut campaigns: Vec<CampaignKey> = Vec::new();
        for entry in &entries {
            if campaigns.last() != Some(&entry.key.campaign) && !campaigns.contains(&entry.key.campaign) {
                campaigns.push(entry.key.campaign);
            }
        }
        let count = entries.len() as u64;
        (Self::Commit(CommitCall { entries, count, asked_at: now, campaigns, results: Vec::new(), reply }), answer)
    }

    /// Any other call and where its answer comes.
    pub(super) fn work<T: Send + 'static>(
        work: impl FnOnce(&mut Ledger<'_>) -> Try<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<StoreResult<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self::Work(Box::new(WorkCall { work: Some(work), result: None, reply })), answer)
    }

    /// What it counts against the bound of a group, in entries.
    fn weight(&self) -> usize {
        match self {
            Self::Commit(call) => call.entries.len(),
            // About what a chunk of an import costs.
            Self::Work(_) => 512,
        }
    }

    fn run(&mut self, ledger: &mut Ledger<'_>) -> Try<()> {
        match self {
            Self::Commit(call) => {
                call.results = ledger.apply(std::mem::take(&mut call.entries))?;
                Ok(())
            }
            Self::Work(work) => work.run(ledger),
        }
    }

    fn answer(self, ledger: &Ledger<'_>, shared: &Shared) {
        match self {
            Self::Commit(call) => {
                let tally = |key: &CampaignKey| ledger.total(*key).map(|tally| (*key, tally));
                let tallies = call.campaigns.iter().filter_map(tally).collect();
                shared.queued_entries.fetch_sub(call.count, Relaxed);
                let _ = call.reply.send(Ok(Committed {
                    results: call.results,
                    tallies,
                    revision: shared.commits.load(Relaxed),
                }));
            }
            Self::Work(work) => work.answer(None),
        }
    }

    fn refuse(self, error: &StoreError, shared: &Shared) {
        match self {
            Self::Commit(call) => {
                shared.queued_entries.fetch_sub(call.count, Relaxed);
                let _ = call.reply.send(Err(error.clone()));
            }
            Self::Work(work) => work.answer(Some(error)),
        }
    }
}

/// What the writer needs besides its queue.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    /// Asks the housekeeper for a checkpoint.
    pub(super) checkpoint: SyncSender<()>,
    pub(super) group_entries_max: usize,
    pub(super) group_interval: Duration,
    pub(super) rows_held_max: usize,
}

struct Meters {
    commit_seconds: metrics::Histogram,
    sync_seconds: metrics::Histogram,
    group_entries: metrics::Histogram,
    failed: metrics::Counter,
}

impl Meters {
    fn new() -> Self {
        Self {
            commit_seconds: metrics::histogram!(names::COMMIT_SECONDS),
            sync_seconds: metrics::histogram!(names::SYNC_SECONDS),
            group_entries: metrics::histogram!(names::GROUP_ENTRIES),
            failed: metrics::counter!(names::COMMITS_FAILED),
        }
    }
}

enum Served {
    /// The queue is closed and empty.
    All,
    /// The connection's state is unknown.
    Reopen,
}

impl Writer {
    /// Serves the queue until it is closed and empty. `conn`: the first connection; later ones it opens itself.
    pub(super) fn run(self, conn: Connection, mut queue: mpsc::Receiver<Command>) {
        let meters = Meters::new();
        let mut next = Some(conn);
        loop {
            let opened = next.take().map_or_else(|| self.shared.connect_writer(), Ok);
            let served = opened.and_then(|mut conn| {
                self.watch_log(&mut conn)?;
                self.serve(&conn, &mut queue, &meters)
            });
            match served {
                Ok(Served::All) => return,
                Ok(Served::Reopen) => {}
                Err(error) => {
                    // It cannot even be opened: whoever asks next is told so, and each asking tries again.
                    self.shared.writable.store(false, Relaxed);
                    let Some(command) = queue.blocking_recv() else { return };
                    command.refuse(&store_error(&error), &self.shared);
                }
            }
        }
    }

    /// Has each commit tell how long the log is, and asks for a checkpoint when it has grown enough.
    fn watch_log(&self, conn: &mut Connection) -> rusqlite::Result<()> {
        let (shared, checkpoint) = (Arc::clone(&self.shared), self.checkpoint.clone());
        let mut asked_at = 0;
        conn.wal_hook(Some(move |_: &mut Wal, pages: i32| {
            let pages = u64::try_from(pages).unwrap_or(0);
            if shared.log_pages.swap(pages, Relaxed) > pages {
                asked_at = 0;
                shared.log_copied.store(0, Relaxed);
            }
            // A full channel: it has been asked already.
            if pages >= asked_at + CHECKPOINT_PAGES && checkpoint.try_send(()).is_ok() {
                asked_at = pages;
            }
            Ok(())
        }))
    }

    /// A commit costs 0.10 to 0.15 ms of CPU whatever is in it (most of it the system's, for waiting on the disk). So groups begin no closer to each other than an interval, in
    /// which others join; a call that comes alone after a quiet time does not wait, nor does a group that is full.
    #[allow(clippy::disallowed_methods)] // the thread is the ledger's own: no runtime waits for it
    fn wait_for_company(&self, last_begun: Mono) {
        let full = self.shared.queued_entries.load(Relaxed) >= self.group_entries_max as u64;
        let rest = self.group_interval.saturating_sub(self.shared.clock.mono().since(last_begun));
        if !rest.is_zero() && !full {
            std::thread::sleep(rest);
        }
    }

    fn serve(
        &self,
        conn: &Connection,
        queue: &mut mpsc::Receiver<Command>,
        meters: &Meters,
    ) -> rusqlite::Result<Served> {
        let mut ledger = Ledger::new(conn, self.rows_held_max)?;
        let mut group = Vec::new();
        let mut groups_alone = 0_u32;
        let mut helped_at = 0;
        let mut last_begun = Mono(0);
        while let Some(first) = queue.blocking_recv() {
            self.wait_for_company(last_begun);
            let begun = self.shared.clock.mono();
            last_begun = begun;
            let mut weight = first.weight();
            group.push(first);
            while weight < self.group_entries_max && groups_alone == 0 {
                let Ok(command) = queue.try_recv() else { break };
                weight += command.weight();
                group.push(command);
            }
            groups_alone = groups_alone.saturating_sub(1);
            let waiting_since = group.iter().find_map(|command| match command {
                Command::Commit(call) => Some(call.asked_at),
                Command::Work(_) => None,
            });
            self.shared.waiting_since.store(waiting_since.map_or(0, |at| at.0), Relaxed);
            let done = run_group(&mut ledger, &mut group, &self.shared.clock, meters);
            self.shared.waiting_since.store(0, Relaxed);
            match done {
                Ok(()) => {
                    self.shared.writable.store(true, Relaxed);
                    self.shared.commits.fetch_add(1, Relaxed);
                    meters.commit_seconds.record(self.shared.clock.mono().since(begun));
                    #[allow(clippy::cast_precision_loss)] // thousands
                    meters.group_entries.record(weight as f64);
                    group.drain(..).for_each(|command| command.answer(&ledger, &self.shared));
                    ledger.trim();
                }
                Err(failure) => {
                    tracing::warn!(error = %failure.error, calls = group.len(), "a group was not committed");
                    self.shared.failed_groups.fetch_add(1, Relaxed);
                    meters.failed.increment(1);
                    if failure.spoils_writing {
                        self.shared.writable.store(false, Relaxed);
                    } else {
                        groups_alone = GROUPS_ALONE;
                    }
                    // Only the file knows now what is true.
                    ledger.forget_all();
                    let rolled_back = conn.is_autocommit() || conn.execute_batch("ROLLBACK").is_ok();
                    group.drain(..).for_each(|command| command.refuse(&failure.error, &self.shared));
                    if failure.reopen || !rolled_back {
                        return Ok(Served::Reopen);
                    }
                }
            }
            let (pages, copied) = (self.shared.log_pages.load(Relaxed), self.shared.log_copied.load(Relaxed));
            let tail = pages.saturating_sub(copied);
            if pages >= LOG_PAGES_MAX && (tail <= TAIL_PAGES || pages >= LOG_PAGES_BEYOND) && pages > helped_at {
                // A reader that holds the log's end keeps it from starting anew; then not again at each group.
                helped_at = pages + TAIL_PAGES;
                // Busy: the housekeeper is at it; a failure shows at the next commit.
                let _ = conn.wal_checkpoint_v2(rusqlite::DEFAULT_NAME, CheckpointMode::PASSIVE);
            } else if pages < LOG_PAGES_MAX {
                helped_at = 0;
            }
        }
        Ok(Served::All)
    }
}

struct GroupFailure {
    error: StoreError,
    /// Writes fail; not the group's content is to blame.
    spoils_writing: bool,
    reopen: bool,
}

/// All of the group in one transaction, or nothing.
fn run_group(
    ledger: &mut Ledger<'_>,
    group: &mut [Command],
    clock: &Clock,
    meters: &Meters,
) -> Result<(), GroupFailure> {
    let conn = ledger.conn();
    let run = |sql: &str| conn.prepare_cached(sql)?.raw_execute();
    let attempted = catch_unwind(AssertUnwindSafe(|| -> Try<()> {
        run("BEGIN IMMEDIATE")?;
        for command in group.iter_mut() {
            command.run(ledger)?;
        }
        ledger.flush()?;
        let begun = clock.mono();
        run("COMMIT")?;
        meters.sync_seconds.record(clock.mono().since(begun));
        Ok(())
    }));
    match attempted {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Fail::Sql(error))) => {
            Err(GroupFailure { error: store_error(&error), spoils_writing: true, reopen: wants_reopening(&error) })
        }
        Ok(Err(Fail::Own(error))) => Err(GroupFailure { error, spoils_writing: false, reopen: false }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            let error = StoreError::Bug(text.to_owned());
            Err(GroupFailure { error, spoils_writing: false, reopen: false })
        }
    }
}
