//! Webhook entries kept for later features. Rows are never deleted: they expire, or are written once more with a second to live when
//! newer ones need their room. Which are kept, and in what order, is held in memory: 32 bytes of each.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::Mutex;

use super::cql::Cql;
use super::error::damaged;
use super::identity;
use crate::domain::ids::AccountId;
use crate::domain::time::{Mono, UnixMillis};
use crate::store::{InboundEvent, Page, Paged, StoreError, StoreResult, paging};

/// Partitions.
const BUCKETS: u64 = 64;

/// How long an entry is kept at most, seconds.
const KEPT: i32 = 30 * 86_400;

/// How long one that gives way is still there, seconds.
const GIVES_WAY: i32 = 1;

/// How often it is looked what other nodes keep.
const REREAD: Duration = Duration::from_secs(60);

/// Writes under way at once when entries give way.
const WRITES: usize = 32;

/// `(id, at)`.
type IndexRow = (i64, Option<i64>);

/// `(account, kind, provider_id, body, at)`.
type EntryRow = (Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);

/// The inbound events of the keyspace; one call at a time.
#[derive(Default)]
pub(super) struct Inbound {
    /// And when it was read.
    index: Mutex<Option<(Mono, Index)>>,
}

#[derive(Default)]
struct Index {
    ids: HashSet<u64>,
    /// Oldest first.
    order: VecDeque<(UnixMillis, u64)>,
}

impl Index {
    async fn load(cql: &Cql) -> StoreResult<Self> {
        let found = kept(cql).await?;
        Ok(Self { ids: found.iter().map(|(_, id)| *id).collect(), order: found.into() })
    }

    fn add(&mut self, at: UnixMillis, id: u64) {
        self.ids.insert(id);
        self.order.push_back((at, id));
    }

    fn forget_first(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.ids.remove(&id);
        }
    }

    /// Forgets what has expired by now.
    fn expire(&mut self, now: UnixMillis) {
        while self.order.front().is_some_and(|(at, _)| at.0.saturating_add(i64::from(KEPT) * 1_000) < now.0) {
            self.forget_first();
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // below 64
fn bucket_of(id: u64) -> i32 {
    (id % BUCKETS) as i32
}

/// What makes two entries the same, as a number; one without an id of the provider's gets one of ours.
fn identity(cql: &Cql, event: &InboundEvent) -> StoreResult<u64> {
    let ours = if event.provider_id.is_empty() { format!("#{}", cql.stamps.next()?) } else { String::new() };
    Ok(number_of(event, &ours))
}

fn number_of(event: &InboundEvent, ours: &str) -> u64 {
    identity::number_of([event.account.as_str(), &event.kind, &event.provider_id, ours])
}

/// All that is kept, oldest first.
pub(super) async fn kept(cql: &Cql) -> StoreResult<Vec<(UnixMillis, u64)>> {
    let mut found: Vec<(UnixMillis, u64)> = Vec::new();
    for bucket in 0..BUCKETS {
        let rows: Vec<IndexRow> = cql.rows(&cql.st.inbound_index, (bucket_of(bucket),)).await?;
        found.extend(rows.into_iter().filter_map(|(id, at)| Some((UnixMillis(at?), id.cast_unsigned()))));
    }
    found.sort_unstable();
    Ok(found)
}

/// A page of what is kept, oldest first, by place.
pub(super) async fn all(cql: &Cql, page: &Page) -> StoreResult<Paged<InboundEvent>> {
    let first = paging::number_after(page)?.map_or(0, |last| last.saturating_add(1));
    let size = page.size.max(1);
    let places = (0_i64..).zip(kept(cql).await?).skip(usize::try_from(first).unwrap_or(usize::MAX));
    let some: Vec<(i64, u64)> = places.map(|(place, (_, id))| (place, id)).take(size.saturating_add(1)).collect();
    let Paged { items, next } = paging::cut(some, size, |(place, _)| *place);
    let reads = items.into_iter().map(|(_, id)| async move {
        let row: Option<EntryRow> = cql.row(&cql.st.inbound, (bucket_of(id), id.cast_signed())).await?;
        let Some((Some(account), kind, provider_id, body, Some(at))) = row else { return Ok(None) };
        let text = |text: Option<String>| text.unwrap_or_default().into_boxed_str();
        let account = AccountId::new(&account).map_err(damaged)?;
        let (kind, provider_id, body) = (text(kind), text(provider_id), text(body));
        Ok::<_, StoreError>(Some(InboundEvent { account, kind, provider_id, body, at: UnixMillis(at) }))
    });
    let events: Vec<Option<InboundEvent>> = stream::iter(reads).buffered(WRITES).try_collect().await?;
    Ok(Paged { items: events.into_iter().flatten().collect(), next })
}

/// Writes an entry of another ledger, which stood at this place there. It is kept as long as one that comes now.
pub(super) async fn take(cql: &Cql, place: u64, event: &InboundEvent) -> StoreResult<()> {
    let ours = if event.provider_id.is_empty() { format!("moved #{place}") } else { String::new() };
    let id = number_of(event, &ours);
    let texts = (event.account.as_str(), event.kind.as_ref(), event.provider_id.as_ref(), event.body.as_ref());
    let values = (KEPT, texts.0, texts.1, texts.2, texts.3, event.at.0, bucket_of(id), id.cast_signed());
    cql.write(&cql.st.write_inbound, values).await
}

impl Inbound {
    /// Keeps events; one with a provider id that is kept already is not kept twice. Returns how many older ones gave way.
    pub(super) async fn keep(&self, cql: &Cql, events: Vec<InboundEvent>, kept_max: u64) -> StoreResult<u64> {
        let mut held = self.index.lock().await;
        let now = cql.clock.mono();
        // Other nodes keep theirs in the same room.
        if held.as_ref().is_some_and(|(at, _)| !cql.owned.is_alone() && now.since(*at) >= REREAD) {
            *held = None;
        }
        let (_, index) = match &mut *held {
            Some(held) => held,
            none => none.insert((now, Index::load(cql).await?)),
        };
        for event in events {
            index.expire(event.at);
            let id = identity(cql, &event)?;
            if index.ids.contains(&id) {
                continue;
            }
            let (account, kind) = (event.account.as_str(), event.kind.as_ref());
            let values = (
                KEPT,
                account,
                kind,
                event.provider_id.as_ref(),
                event.body.as_ref(),
                event.at.0,
                bucket_of(id),
                id.cast_signed(),
            );
            cql.write(&cql.st.write_inbound, values).await?;
            index.add(event.at, id);
        }
        let kept_max = usize::try_from(kept_max).unwrap_or(usize::MAX);
        let going = index.order.len().saturating_sub(kept_max);
        let ids: Vec<(UnixMillis, u64)> = index.order.iter().take(going).copied().collect();
        let writes = ids.into_iter().map(|(at, id)| async move {
            cql.write(&cql.st.write_inbound, (GIVES_WAY, "", "", "", "", at.0, bucket_of(id), id.cast_signed())).await
        });
        stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await?;
        (0..going).for_each(|_| index.forget_first());
        Ok(going as u64)
    }
}
