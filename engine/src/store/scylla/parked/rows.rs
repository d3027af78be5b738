//! How events that wait, and orphans, stand in the ledger.

use futures_util::future;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::AT_ONCE;
use super::waiting::Index;
use crate::domain::ids::{AccountId, CampaignKey, MessageKey};
use crate::domain::time::UnixMillis;
use crate::store::paging;
use crate::store::scylla::cql::{Cql, Unit};
use crate::store::scylla::error::damaged;
use crate::store::scylla::identity::number_of;
use crate::store::text::{Report, from_json, to_json};
use crate::store::{Page, Paged, ParkedEvent, StoreResult};

/// Partitions of parked events.
const BUCKETS: i32 = 64;

/// Partitions read at once: each is a page or more of all that waited lately.
const BUCKETS_AT_ONCE: usize = 8;

/// How long after its deadline a parked row is kept, seconds.
const PARKED_KEPT: i64 = 86_400;

/// How long orphans are kept, seconds.
pub(super) const EVENTS_KEPT: i32 = 30 * 86_400;

const WAITS: i8 = 0;
const PLACED: i8 = 1;
const ORPHANED: i8 = 2;

/// `(id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline)`.
#[rustfmt::skip]
type EventRow = (
    i64, Option<String>, Option<String>, Option<String>, Option<i32>, Option<i32>, Option<i32>, Option<String>,
    Option<i64>, Option<i64>, Option<i64>,
);

/// What makes two parked events the same.
pub(super) fn identity(event: &ParkedEvent, what: &str) -> u64 {
    let place = event.attempt.map(|(key, attempt)| format!("{}/{}/{attempt}", key.campaign.0, key.seq));
    number_of([event.account.as_str(), &event.provider_id, what, place.as_deref().unwrap_or("-")])
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

/// Writes the row of an event that came now and waits.
pub(super) async fn write_waiting(cql: &Cql, id: u64, event: &ParkedEvent) -> StoreResult<()> {
    write(cql, id, event, kept_from(event, event.at), (WAITS, 0)).await
}

/// Parks an event of another ledger, as it stood there at `since`.
pub(in crate::store::scylla) async fn take(cql: &Cql, since: UnixMillis, event: &ParkedEvent) -> StoreResult<()> {
    let id = identity(event, Report::of(&event.event)?.name());
    write(cql, id, event, kept_from(event, since), (WAITS, 0)).await
}

/// Writes an orphan of another ledger. It counts as given up when the move began, the later in the listing the earlier; so it has the
/// same number whenever it is written.
pub(in crate::store::scylla) async fn take_orphan(
    cql: &Cql,
    since: UnixMillis,
    place: u64,
    event: &ParkedEvent,
) -> StoreResult<()> {
    let id = identity(event, Report::of(&event.event)?.name());
    let orphan = since.0.saturating_mul(1_000).saturating_sub_unsigned(place);
    write(cql, id, event, EVENTS_KEPT, (ORPHANED, orphan)).await?;
    write_orphan(cql, orphan, event).await
}

/// Accounts that have orphans.
pub(in crate::store::scylla) async fn accounts(cql: &Cql) -> StoreResult<Vec<AccountId>> {
    let rows: Vec<(String,)> = cql.rows(&cql.st.orphan_accounts, ()).await?;
    rows.into_iter().map(|(account,)| AccountId::new(&account).map_err(damaged)).collect()
}

/// Numbers of the events that wait, in order.
pub(in crate::store::scylla) async fn waiting(cql: &Cql) -> StoreResult<Vec<u64>> {
    let mut waiting = Vec::new();
    let mut add = |row: MarkRow| {
        if row.3 == Some(WAITS) && row.1.is_some() {
            waiting.push(row.0.cast_unsigned());
        }
    };
    each_mark(cql, &mut add).await?;
    waiting.sort_unstable();
    Ok(waiting)
}

/// A page of the events that wait.
pub(in crate::store::scylla) async fn all(cql: &Cql, page: &Page) -> StoreResult<Paged<ParkedEvent>> {
    let (size, after) = (page.size.max(1), paging::number_after(page)?.map(i64::cast_unsigned));
    let waiting = waiting(cql).await?;
    let behind = waiting.into_iter().filter(|id| after.is_none_or(|after| *id > after));
    let ids: Vec<u64> = behind.take(size.saturating_add(1)).collect();
    let Paged { items, next } = paging::cut(ids, size, |id| id.cast_signed());
    let events = stream::iter(items).map(|id| find(cql, id)).buffered(AT_ONCE);
    Ok(Paged { items: events.try_filter_map(future::ok).try_collect().await?, next })
}

/// `(id, at, look_at, mark, orphan)`.
type MarkRow = (i64, Option<i64>, Option<i64>, Option<i8>, Option<i64>);

/// Runs `each` over the marks of all events, several partitions at a time, in no order.
async fn each_mark(cql: &Cql, each: &mut (dyn FnMut(MarkRow) + Send)) -> StoreResult<()> {
    let reads = (0..BUCKETS).map(|bucket| async move { cql.rows::<MarkRow>(&cql.st.parked_index, (bucket,)).await });
    let mut read = stream::iter(reads).buffer_unordered(BUCKETS_AT_ONCE);
    while let Some(rows) = read.try_next().await? {
        rows.into_iter().for_each(&mut *each);
    }
    Ok(())
}

/// All that waits and all orphans, with the times that stand in the rows.
pub(super) async fn load(cql: &Cql) -> StoreResult<Index> {
    let mut index = Index::default();
    let mut add = |(id, at, look_at, mark, orphan): MarkRow| {
        let id = id.cast_unsigned();
        match (mark, at, look_at, orphan) {
            (Some(WAITS), Some(at), Some(look_at), _) => drop(index.add(id, UnixMillis(at), UnixMillis(look_at))),
            (Some(ORPHANED), at, _, Some(orphan)) => index.given_up.push((orphan, id, at.is_some())),
            _ => {}
        }
    };
    each_mark(cql, &mut add).await?;
    index.given_up.sort_unstable();
    let expires = |(orphan, _, _): &(i64, u64, bool)| UnixMillis(orphan / 1_000 + i64::from(EVENTS_KEPT) * 1_000);
    index.orphans = index.given_up.iter().map(expires).collect();
    Ok(index)
}

pub(super) async fn find(cql: &Cql, id: u64) -> StoreResult<Option<ParkedEvent>> {
    let row: Option<EventRow> = cql.row(&cql.st.parked, (bucket(id), id.cast_signed())).await?;
    // What is left of a row that expired are its marks.
    row.filter(|row| row.7.is_some()).map(read).transpose()
}

/// It waits until then.
pub(super) async fn mark_waiting(cql: &Cql, id: u64, look_at: UnixMillis) -> StoreResult<()> {
    mark(cql, id, EVENTS_KEPT, look_at, WAITS, 0).await
}

/// It waits no more.
pub(super) async fn mark_placed(cql: &Cql, id: u64, look_at: UnixMillis) -> StoreResult<()> {
    mark(cql, id, i32::try_from(PARKED_KEPT).unwrap_or(EVENTS_KEPT), look_at, PLACED, 0).await
}

/// It is given up, as the orphan of this number.
pub(super) async fn mark_orphaned(cql: &Cql, id: u64, look_at: UnixMillis, orphan: i64) -> StoreResult<()> {
    mark(cql, id, EVENTS_KEPT, look_at, ORPHANED, orphan).await
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

pub(super) async fn write_orphan(cql: &Cql, id: i64, event: &ParkedEvent) -> StoreResult<()> {
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
pub(in crate::store::scylla) async fn orphans(
    cql: &Cql,
    accounts: &[AccountId],
    page: &Page,
) -> StoreResult<Paged<ParkedEvent>> {
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
