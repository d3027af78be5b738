//! Events that nobody can place yet, and orphans.
//!
//! Rows are marked and expire, none is deleted. Which wait, and until when, is held in memory (`waiting`).

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::cql::{Cql, Unit};
use super::error::damaged;
use super::waiting::{Index, moved, rebased};
use crate::domain::ids::{AccountId, CampaignKey, MessageKey};
use crate::domain::time::{Mono, UnixMillis};
use crate::store::paging;
use crate::store::text::{Report, from_json, to_json};
use crate::store::{Page, Paged, ParkedCounts, ParkedEvent, ParkedMove, StoreError, StoreResult};

/// Partitions of parked events.
const BUCKETS: i32 = 64;

/// How long after its deadline a parked row is kept, seconds.
const PARKED_KEPT: i64 = 86_400;

/// How long orphans are kept, seconds.
const EVENTS_KEPT: i32 = 30 * 86_400;

/// How often it is looked what other nodes parked; and of so much time at most one part is spent on it: all that waited lately is read.
/// But no less often than the last says: what took long may have been a server that was away, and what was acknowledged waits to be applied.
const REREAD: Duration = Duration::from_secs(2);
const REREAD_PART: u32 = 20;
const REREAD_MAX: Duration = Duration::from_secs(20);

const WAITS: i8 = 0;
const PLACED: i8 = 1;
const ORPHANED: i8 = 2;

/// `(id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline)`.
#[rustfmt::skip]
type EventRow = (
    i64, Option<String>, Option<String>, Option<String>, Option<i32>, Option<i32>, Option<i32>, Option<String>,
    Option<i64>, Option<i64>, Option<i64>,
);

/// The parked events of the keyspace.
#[derive(Default)]
pub(super) struct Parked {
    index: OnceCell<Mutex<Index>>,
    /// When it is read next, where other nodes park too.
    read_at: tokio::sync::Mutex<Option<Mono>>,
    /// One call at a time: what is written and what is held stay the same.
    turn: tokio::sync::Mutex<()>,
}

/// How long until the next reading, after one that took so long.
fn pause_after(took: Duration) -> Duration {
    (took * REREAD_PART).clamp(REREAD, REREAD_MAX)
}

/// What makes two events the same, as a number: the events need no index of their own.
fn identity(event: &ParkedEvent, what: &str) -> u64 {
    let mut sha = Sha256::new();
    let place = event.attempt.map(|(key, attempt)| format!("{}/{}/{attempt}", key.campaign.0, key.seq));
    for text in [event.account.as_str(), &event.provider_id, what, place.as_deref().unwrap_or("-")] {
        sha.update((text.len() as u64).to_be_bytes());
        sha.update(text);
    }
    let digest = sha.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // Not negative, so that it is the same number in a bigint.
    u64::from_be_bytes(first) >> 1
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // below 64
fn bucket(id: u64) -> i32 {
    (id % BUCKETS.unsigned_abs() as u64) as i32
}

fn place_of(event: &ParkedEvent) -> (i32, i32, i32) {
    match event.attempt {
        Some((key, attempt)) => (key.campaign.0.cast_signed(), key.seq.cast_signed(), i32::from(attempt)),
        None => (-1, -1, -1),
    }
}

fn read(row: EventRow) -> StoreResult<ParkedEvent> {
    let (id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline) = row;
    let attempt = match (campaign, seq, attempt.and_then(|attempt| u16::try_from(attempt).ok())) {
        (Some(campaign), Some(seq), Some(attempt)) => {
            let campaign = CampaignKey(campaign.cast_unsigned());
            Some((MessageKey { campaign, seq: seq.cast_unsigned() }, attempt))
        }
        _ => None,
    };
    let millis = |at: Option<i64>| UnixMillis(at.unwrap_or_default());
    Ok(ParkedEvent {
        id: id.cast_unsigned(),
        account: AccountId::new(&account.unwrap_or_default()).map_err(damaged)?,
        sender: sender.filter(|sender| !sender.is_empty()).map(Into::into),
        provider_id: provider_id.unwrap_or_default().into(),
        attempt,
        event: from_json::<Report>(&report.unwrap_or_default())?.event(),
        at: millis(at),
        look_at: millis(look_at),
        deadline: millis(deadline),
    })
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

    /// Keeps events; one that is parked already is not parked twice. Returns how many were new.
    pub(super) async fn park(&self, cql: &Cql, events: Vec<ParkedEvent>) -> StoreResult<usize> {
        let index = self.index(cql).await?;
        let _turn = self.turn.lock().await;
        let mut new: BTreeMap<u64, ParkedEvent> = BTreeMap::new();
        for event in events {
            let id = identity(&event, Report::of(&event.event)?.name());
            if !index.lock().waiting.contains_key(&id) {
                new.entry(id).or_insert(event);
            }
        }
        for (id, event) in &new {
            write(cql, *id, event, kept_from(event, event.at), (WAITS, 0)).await?;
            let mut index = index.lock();
            let step = index.step(&cql.clock);
            index.add(*id, moved(event.at, -step), moved(event.look_at, -step));
        }
        Ok(new.len())
    }

    /// Parked events to look at again, earliest first.
    pub(super) async fn due(&self, cql: &Cql, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>> {
        let ids: Vec<u64> = {
            let index = self.index(cql).await?.lock();
            let until = moved(until, -index.step(&cql.clock));
            index.by_look.range(..=(until, u64::MAX)).take(limit).map(|(_, id)| *id).collect()
        };
        let mut events = Vec::with_capacity(ids.len());
        for id in ids {
            match find(cql, id).await? {
                Some(event) => {
                    let index = self.index(cql).await?.lock();
                    let step = index.step(&cql.clock);
                    // Settled meanwhile by another call, it is as it was written.
                    let (at, look_at) = index.waiting.get(&id).copied().unwrap_or((event.at, event.look_at));
                    let (at, look_at) = (moved(at, step), moved(look_at, step));
                    let deadline = moved(event.deadline, at.0 - event.at.0);
                    events.push(ParkedEvent { at, look_at, deadline, ..event });
                }
                // It expired.
                None => drop(self.index(cql).await?.lock().remove(id)),
            }
        }
        Ok(events)
    }

    /// Moves parked events on; one that is not parked any more is passed over.
    pub(super) async fn settle(&self, cql: &Cql, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()> {
        let index = self.index(cql).await?;
        let _turn = self.turn.lock().await;
        for (id, fate) in moves {
            let Some((at, look_at)) = index.lock().waiting.get(&id).copied() else { continue };
            let step = index.lock().step(&cql.clock);
            let kept = i32::try_from(PARKED_KEPT).unwrap_or(EVENTS_KEPT);
            match fate {
                // Several look at the same event: when each looks again concerns nobody else.
                ParkedMove::LookAgain(look_at) => {
                    if cql.owned.is_alone() {
                        mark(cql, id, EVENTS_KEPT, look_at, WAITS, 0).await?;
                    }
                    index.lock().add(id, at, moved(look_at, -step));
                }
                ParkedMove::Placed => {
                    mark(cql, id, kept, look_at, PLACED, 0).await?;
                    index.lock().remove(id);
                }
                ParkedMove::Orphaned => {
                    let Some(event) = find(cql, id).await? else { continue };
                    // Marked first, with the orphan's number: what a crash leaves out is written again at the next start.
                    let orphan = cql.stamps.next()?;
                    mark(cql, id, EVENTS_KEPT, look_at, ORPHANED, orphan).await?;
                    write_orphan(cql, orphan, &event).await?;
                    let mut index = index.lock();
                    index.remove(id);
                    index.orphans.push_back(UnixMillis(cql.stamps.now() / 1_000 + i64::from(EVENTS_KEPT) * 1_000));
                }
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

/// How many seconds a row of an event is kept from this moment on.
fn kept_from(event: &ParkedEvent, at: UnixMillis) -> i32 {
    let wait = (event.deadline.0 - at.0) / 1_000 + PARKED_KEPT;
    i32::try_from(wait.max(PARKED_KEPT)).unwrap_or(EVENTS_KEPT)
}

/// Writes the row of an event. No column is left out: a row of the same number may be there, marked.
async fn write(cql: &Cql, id: u64, event: &ParkedEvent, kept: i32, (mark, orphan): (i8, i64)) -> StoreResult<()> {
    let (campaign, seq, attempt) = place_of(event);
    let mut unit = Unit::new();
    let values = (
        kept,
        event.account.to_string(),
        event.sender.as_deref().unwrap_or_default().to_owned(),
        event.provider_id.to_string(),
        campaign,
        seq,
        attempt,
        to_json(&Report::of(&event.event)?)?,
        event.at.0,
        event.look_at.0,
        event.deadline.0,
        mark,
        orphan,
        bucket(id),
        id.cast_signed(),
    );
    unit.push(&cql.st.write_parked, values);
    cql.write_unit(unit).await
}

/// Parks an event of another ledger, as it stood there at `since`.
pub(super) async fn take(cql: &Cql, since: UnixMillis, event: &ParkedEvent) -> StoreResult<()> {
    let id = identity(event, Report::of(&event.event)?.name());
    write(cql, id, event, kept_from(event, since), (WAITS, 0)).await
}

/// Writes an orphan of another ledger. It counts as given up when the move began, the later in the listing the earlier; so it has the
/// same number whenever it is written.
pub(super) async fn take_orphan(cql: &Cql, since: UnixMillis, place: u64, event: &ParkedEvent) -> StoreResult<()> {
    let id = identity(event, Report::of(&event.event)?.name());
    let orphan = since.0.saturating_mul(1_000).saturating_sub_unsigned(place);
    write(cql, id, event, EVENTS_KEPT, (ORPHANED, orphan)).await?;
    write_orphan(cql, orphan, event).await
}

/// Accounts that have orphans.
pub(super) async fn accounts(cql: &Cql) -> StoreResult<Vec<AccountId>> {
    let rows: Vec<(String,)> = cql.rows(&cql.st.orphan_accounts, ()).await?;
    rows.into_iter().map(|(account,)| AccountId::new(&account).map_err(damaged)).collect()
}

/// Numbers of the events that wait, in order.
pub(super) async fn waiting(cql: &Cql) -> StoreResult<Vec<u64>> {
    let mut waiting = Vec::new();
    for bucket in 0..BUCKETS {
        let rows: Vec<MarkRow> = cql.rows(&cql.st.parked_index, (bucket,)).await?;
        waiting.extend(rows.into_iter().filter(|row| row.3 == Some(WAITS) && row.1.is_some()).map(|row| row.0));
    }
    waiting.sort_unstable();
    Ok(waiting.into_iter().map(i64::cast_unsigned).collect())
}

/// A page of the events that wait.
pub(super) async fn all(cql: &Cql, page: &Page) -> StoreResult<Paged<ParkedEvent>> {
    let (size, after) = (page.size.max(1), paging::number_after(page)?.map(i64::cast_unsigned));
    let waiting = waiting(cql).await?;
    let behind = waiting.into_iter().filter(|id| after.is_none_or(|after| *id > after));
    let ids: Vec<u64> = behind.take(size.saturating_add(1)).collect();
    let Paged { items, next } = paging::cut(ids, size, |id| id.cast_signed());
    let mut events = Vec::with_capacity(items.len());
    for id in items {
        events.extend(find(cql, id).await?);
    }
    Ok(Paged { items: events, next })
}

/// `(id, at, look_at, mark, orphan)`.
type MarkRow = (i64, Option<i64>, Option<i64>, Option<i8>, Option<i64>);

/// All that waits and all orphans, with the times that stand in the rows.
async fn load(cql: &Cql) -> StoreResult<Index> {
    let mut index = Index::default();
    for bucket in 0..BUCKETS {
        let rows: Vec<MarkRow> = cql.rows(&cql.st.parked_index, (bucket,)).await?;
        for (id, at, look_at, mark, orphan) in rows {
            let id = id.cast_unsigned();
            match (mark, at, look_at, orphan) {
                (Some(WAITS), Some(at), Some(look_at), _) => drop(index.add(id, UnixMillis(at), UnixMillis(look_at))),
                (Some(ORPHANED), at, _, Some(orphan)) => index.given_up.push((orphan, id, at.is_some())),
                _ => {}
            }
        }
    }
    index.given_up.sort_unstable();
    let expires = |(orphan, _, _): &(i64, u64, bool)| UnixMillis(orphan / 1_000 + i64::from(EVENTS_KEPT) * 1_000);
    index.orphans = index.given_up.iter().map(expires).collect();
    Ok(index)
}

/// Writes orphans again: a crash may have come between the mark of one and itself. Once, at the start: there may be many.
async fn finish_orphans(cql: &Cql, given_up: Vec<(i64, u64, bool)>) -> StoreResult<()> {
    for (orphan, id, is_whole) in given_up {
        if is_whole && let Some(event) = find(cql, id).await? {
            write_orphan(cql, orphan, &event).await?;
        }
    }
    Ok(())
}

async fn find(cql: &Cql, id: u64) -> StoreResult<Option<ParkedEvent>> {
    let row: Option<EventRow> = cql.row(&cql.st.parked, (bucket(id), id.cast_signed())).await?;
    // What is left of a row that expired are its marks.
    row.filter(|row| row.7.is_some()).map(read).transpose()
}

async fn mark(cql: &Cql, id: u64, kept: i32, look_at: UnixMillis, mark: i8, orphan: i64) -> StoreResult<()> {
    // Another node may have parked it, with a clock ahead of ours.
    let written: Option<(Option<i64>,)> = match cql.owned.is_alone() {
        true => None,
        false => cql.row(&cql.st.parked_written, (bucket(id), id.cast_signed())).await?,
    };
    let above = written.and_then(|(at,)| at).map_or(0, |at| at.saturating_add(1));
    let values = (kept, look_at.0, mark, orphan, bucket(id), id.cast_signed());
    cql.write_above(&cql.st.mark_parked, values, above).await
}

async fn write_orphan(cql: &Cql, id: i64, event: &ParkedEvent) -> StoreResult<()> {
    let (campaign, seq, attempt) = place_of(event);
    let values = (
        EVENTS_KEPT,
        event.sender.as_deref().unwrap_or_default(),
        event.provider_id.as_ref(),
        campaign,
        seq,
        attempt,
        to_json(&Report::of(&event.event)?)?,
        event.at.0,
        event.look_at.0,
        event.deadline.0,
        event.account.as_str(),
        id,
    );
    cql.write(&cql.st.write_orphan, values).await
}

/// A page of orphans of these accounts, newest first.
pub(super) async fn orphans(cql: &Cql, accounts: &[AccountId], page: &Page) -> StoreResult<Paged<ParkedEvent>> {
    let (size, before) = (page.size.max(1), paging::number_after(page)?.unwrap_or(i64::MAX));
    let limit = i32::try_from(size.saturating_add(1)).unwrap_or(i32::MAX);
    let mut items = Vec::new();
    for account in accounts {
        let rows: Vec<EventRow> = cql.rows(&cql.st.orphans, (account.as_str(), before, limit)).await?;
        for row in rows {
            items.push(read(row)?);
        }
    }
    items.sort_by_key(|event| std::cmp::Reverse(event.id));
    Ok(paging::cut(items, size, |event| event.id.cast_signed()))
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
