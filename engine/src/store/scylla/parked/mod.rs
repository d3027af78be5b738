//! Events that nobody can place yet, and orphans.
//!
//! Rows are marked and expire, none is deleted (`rows`). Which wait, and until when, is held in memory (`waiting`).
//!
//! A dead owner leaves thousands of events a second to whoever is left, so many are worked on at once, of one call and of several. What must
//! stay the same, row and memory, is so by event: each has its turn, in which its row is written and then what is held of it.

mod rows;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use self::rows::{EVENTS_KEPT, find, load, mark_orphaned, mark_placed, mark_waiting, write_orphan, write_waiting};
pub(super) use self::rows::{accounts, all, orphans, take, take_orphan, waiting};
use self::waiting::{Index, moved, rebased};
use super::cql::Cql;
use super::error::closed;
use crate::domain::time::{Mono, UnixMillis};
use crate::store::text::Report;
use crate::store::{ParkedCounts, ParkedEvent, ParkedMove, StoreError, StoreResult};

/// How often it is looked what other nodes parked; and of so much time at most one part is spent on it: all that waited lately is read.
/// But no less often than the last says: what took long may have been a server that was away, and what was acknowledged waits to be applied.
const REREAD: Duration = Duration::from_secs(2);
const REREAD_PART: u32 = 20;
const REREAD_MAX: Duration = Duration::from_secs(20);

/// Events written, read or marked at once, of all calls together. At 2 ms a write 16,000 a second; and half of the slots that there are for
/// writes by default, so that messages find one too.
pub(super) const AT_ONCE: usize = 32;

/// Turns. Two events that share one wait for each other, which does no harm; it is rare among [`AT_ONCE`].
const TURNS: usize = 1_024;

/// The parked events of the keyspace.
pub(super) struct Parked {
    index: OnceCell<Mutex<Index>>,
    /// When it is read next, where other nodes park too.
    read_at: tokio::sync::Mutex<Option<Mono>>,
    /// One at a time for each event: what is written and what is held stay the same, and each event is parked, placed or given up once.
    turns: Box<[tokio::sync::Mutex<()>]>,
    /// Slots for events that are worked on.
    pub(super) slots: Semaphore,
}

impl Default for Parked {
    fn default() -> Self {
        Self {
            index: OnceCell::new(),
            read_at: tokio::sync::Mutex::default(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            slots: Semaphore::new(AT_ONCE),
        }
    }
}

/// How long until the next reading, after one that took so long.
fn pause_after(took: Duration) -> Duration {
    (took * REREAD_PART).clamp(REREAD, REREAD_MAX)
}

impl Parked {
    async fn index(&self, cql: &Cql) -> StoreResult<&Mutex<Index>> {
        let first = || async {
            let mut index = load(cql).await?;
            finish_orphans(cql, std::mem::take(&mut index.given_up)).await?;
            index.begin(&cql.clock);
            Ok::<_, StoreError>(Mutex::new(index))
        };
        let index = self.index.get_or_try_init(first).await?;
        if !cql.owned.is_alone() {
            self.reread(cql, index).await?;
        }
        Ok(index)
    }

    /// Takes in what other nodes parked, and forgets what they settled. What is due when is each node's own.
    async fn reread(&self, cql: &Cql, index: &Mutex<Index>) -> StoreResult<()> {
        let Ok(mut read_at) = self.read_at.try_lock() else { return Ok(()) };
        let began = cql.clock.mono();
        if read_at.is_some_and(|at| began < at) {
            return Ok(());
        }
        let before: Vec<u64> = index.lock().waiting.keys().copied().collect();
        let read = load(cql).await?;
        let ended = cql.clock.mono();
        *read_at = Some(ended + pause_after(ended.since(began)));
        let mut index = index.lock();
        let now = index.now(&cql.clock);
        for id in before.iter().filter(|id| !read.waiting.contains_key(id)) {
            index.remove(*id);
        }
        for (id, (at, look_at)) in read.waiting {
            if !index.waiting.contains_key(&id) {
                let (at, look_at) = rebased((at, look_at), now, true);
                index.add(id, at, look_at);
            }
        }
        index.orphans = read.orphans;
        Ok(())
    }

    /// The turn of an event. Nobody waits for one who has another, so that they cannot wait for each other.
    #[allow(clippy::cast_possible_truncation)] // below TURNS
    fn turn(&self, id: u64) -> &tokio::sync::Mutex<()> {
        &self.turns[(id % TURNS as u64) as usize]
    }

    async fn slot(&self) -> StoreResult<SemaphorePermit<'_>> {
        self.slots.acquire().await.map_err(|_| closed())
    }

    /// Keeps events; one that is parked already is not parked twice. Returns how many were new.
    pub(super) async fn park(&self, cql: &Cql, events: Vec<ParkedEvent>) -> StoreResult<usize> {
        let index = self.index(cql).await?;
        let mut once: BTreeMap<u64, ParkedEvent> = BTreeMap::new();
        for event in events {
            once.entry(rows::identity(&event, Report::of(&event.event)?.name())).or_insert(event);
        }
        stream::iter(once)
            .map(|(id, event)| async move { self.park_one(cql, index, id, &event).await })
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |new, is_new| future::ok(new + usize::from(is_new)))
            .await
    }

    async fn park_one(&self, cql: &Cql, index: &Mutex<Index>, id: u64, event: &ParkedEvent) -> StoreResult<bool> {
        let _turn = self.turn(id).lock().await;
        if index.lock().waiting.contains_key(&id) {
            return Ok(false);
        }
        let _slot = self.slot().await?;
        write_waiting(cql, id, event).await?;
        let mut index = index.lock();
        let step = index.step(&cql.clock);
        index.add(id, moved(event.at, -step), moved(event.look_at, -step));
        Ok(true)
    }

    /// Parked events to look at again, earliest first.
    pub(super) async fn due(&self, cql: &Cql, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>> {
        let index = self.index(cql).await?;
        let ids: Vec<u64> = {
            let index = index.lock();
            let until = moved(until, -index.step(&cql.clock));
            index.by_look.range(..=(until, u64::MAX)).take(limit).map(|(_, id)| *id).collect()
        };
        stream::iter(ids)
            .map(|id| async move { self.due_one(cql, index, id).await })
            .buffered(AT_ONCE)
            .try_filter_map(future::ok)
            .try_collect()
            .await
    }

    async fn due_one(&self, cql: &Cql, index: &Mutex<Index>, id: u64) -> StoreResult<Option<ParkedEvent>> {
        let _slot = self.slot().await?;
        let found = find(cql, id).await?;
        let mut index = index.lock();
        let Some(event) = found else {
            // It expired.
            index.remove(id);
            return Ok(None);
        };
        let step = index.step(&cql.clock);
        // Settled meanwhile by another call, it is as it was written.
        let (at, look_at) = index.waiting.get(&id).copied().unwrap_or((event.at, event.look_at));
        let (at, look_at) = (moved(at, step), moved(look_at, step));
        let deadline = moved(event.deadline, at.0 - event.at.0);
        Ok(Some(ParkedEvent { at, look_at, deadline, ..event }))
    }

    /// Moves parked events on; one that is not parked any more is passed over.
    pub(super) async fn settle(&self, cql: &Cql, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()> {
        let index = self.index(cql).await?;
        stream::iter(moves)
            .map(|(id, fate)| {
                // Orphans are numbered in the order in which they are given up, whichever is written first.
                let orphan = if fate == ParkedMove::Orphaned { cql.stamps.next() } else { Ok(0) };
                async move { self.settle_one(cql, index, id, fate, orphan?).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn settle_one(
        &self,
        cql: &Cql,
        index: &Mutex<Index>,
        id: u64,
        fate: ParkedMove,
        orphan: i64,
    ) -> StoreResult<()> {
        let _turn = self.turn(id).lock().await;
        let Some((at, look_at)) = index.lock().waiting.get(&id).copied() else { return Ok(()) };
        match fate {
            ParkedMove::LookAgain(look_at) => {
                // Several look at the same event: when each looks again concerns nobody else.
                if cql.owned.is_alone() {
                    let _slot = self.slot().await?;
                    mark_waiting(cql, id, look_at).await?;
                }
                let mut index = index.lock();
                let step = index.step(&cql.clock);
                index.add(id, at, moved(look_at, -step));
            }
            ParkedMove::Placed => {
                let _slot = self.slot().await?;
                mark_placed(cql, id, look_at).await?;
                index.lock().remove(id);
            }
            ParkedMove::Orphaned => {
                let _slot = self.slot().await?;
                let Some(event) = find(cql, id).await? else { return Ok(()) };
                // Marked first, with the orphan's number: what a crash leaves out is written again at the next start.
                mark_orphaned(cql, id, look_at, orphan).await?;
                write_orphan(cql, orphan, &event).await?;
                let mut index = index.lock();
                index.remove(id);
                index.orphans.push_back(UnixMillis(cql.stamps.now() / 1_000 + i64::from(EVENTS_KEPT) * 1_000));
            }
        }
        Ok(())
    }

    /// Counts, and the age of the oldest parked event.
    pub(super) async fn counts(&self, cql: &Cql, now: UnixMillis) -> StoreResult<ParkedCounts> {
        let mut index = self.index(cql).await?.lock();
        let wall = UnixMillis(cql.stamps.now() / 1_000);
        while index.orphans.front().is_some_and(|expires| *expires < wall) {
            index.orphans.pop_front();
        }
        let now = moved(now, -index.step(&cql.clock));
        let oldest = index.by_age.first().map_or(Duration::ZERO, |(at, _)| now.since(*at));
        Ok(ParkedCounts { parked: index.waiting.len() as u64, orphans: index.orphans.len() as u64, oldest })
    }
}

/// Writes orphans again: a crash may have come between the mark of one and itself. Once, at the start: there may be many.
async fn finish_orphans(cql: &Cql, given_up: Vec<(i64, u64, bool)>) -> StoreResult<()> {
    let whole = given_up.into_iter().filter(|(.., is_whole)| *is_whole);
    stream::iter(whole)
        .map(|(orphan, id, _)| async move {
            match find(cql, id).await? {
                Some(event) => write_orphan(cql, orphan, &event).await,
                None => Ok(()),
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_took_long_does_not_put_off_the_next_for_minutes() {
        assert_eq!(pause_after(Duration::from_millis(5)), REREAD);
        assert_eq!(pause_after(Duration::from_millis(500)), Duration::from_secs(10));
        assert_eq!(pause_after(Duration::from_secs(30)), REREAD_MAX);
    }
}
