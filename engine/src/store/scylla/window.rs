//! What is to be sent, and when: untried recipients, waiting retries, attempts in doubt, attempts left open. What is held in memory
//! answers; a segment that waits for nothing is not even read.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::cache::Cache;
use super::compact::Compact;
use super::hot::Hot;
use super::messages;
use super::seal::RecipientRow;
use crate::domain::ids::{CampaignKey, MessageKey, SEGMENT_LEN};
use crate::domain::message::Phase;
use crate::domain::time::UnixMillis;
use crate::store::{OpenAttempt, StoreError, StoreResult, ToSend, Window};

/// Reads of single recipients under way at once.
const READS: usize = 32;

/// Never-tried recipients from `from_seq` on. Segments in which all were tried are passed over without a look inside.
pub(super) async fn read_window(cache: &Cache, key: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Window> {
    let hot = cache.hot(key).await?;
    let head = hot.head();
    if !head.sealed || head.end.is_some() {
        return Ok(Window::default());
    }
    let mut window = Window { messages: Vec::new(), next_seq: None };
    for number in hot.segments(from_seq / SEGMENT_LEN, |segment| segment.counts.untried > 0) {
        let room = limit - window.messages.len();
        if room == 0 {
            window.next_seq = Some(number * SEGMENT_LEN);
            break;
        }
        let untried: Vec<u32> = cache
            .with_segment(&hot, number, |segment| {
                let untried = |message: &Compact| message.is_somebody() && message.attempt() == 0;
                let from_here = segment.messages().filter(|(seq, message)| *seq >= from_seq && untried(message));
                from_here.map(|(seq, _)| seq).take(room + 1).collect()
            })
            .await?;
        let taken = untried.len().min(room);
        if let (Some(first), Some(last)) = (untried.first(), untried[..taken].last()) {
            let wanted = &untried[..taken];
            for (seq, address, params) in addresses(cache, &hot, number, *first, *last).await? {
                if wanted.binary_search(&seq).is_ok() {
                    let key = MessageKey { campaign: key, seq };
                    window.messages.push(ToSend { key, address, params, next_attempt: 1, retries: 0 });
                }
            }
        }
        if let Some(next) = untried.get(taken) {
            window.next_seq = Some(*next);
            break;
        }
    }
    Ok(window)
}

async fn addresses(
    cache: &Cache,
    hot: &Hot,
    number: u32,
    first: u32,
    last: u32,
) -> StoreResult<Vec<(u32, Box<str>, Box<str>)>> {
    let cql = &cache.cql;
    let rows: Vec<RecipientRow> = cql.rows(&cql.st.recipients, messages::range(hot, number, first, last)).await?;
    let found = |(seq, address, _, params, ..): RecipientRow| {
        Some((seq?.cast_unsigned(), address?.into_boxed_str(), params?.into_boxed_str()))
    };
    Ok(rows.into_iter().filter_map(found).collect())
}

/// Messages of a phase that are due, earliest first.
async fn due(
    cache: &Cache,
    hot: &Hot,
    phase: Phase,
    only_again: bool,
    until: UnixMillis,
    limit: usize,
) -> StoreResult<Vec<(u32, Compact)>> {
    let mut found: Vec<(u32, Compact)> = Vec::new();
    let numbers = hot.segments(0, |segment| {
        let due = match phase {
            Phase::InDoubt => segment.dues.doubt,
            _ if only_again => segment.dues.again,
            _ => segment.dues.pending,
        };
        due.is_some_and(|due| due <= until)
    });
    for number in numbers {
        let some: Vec<(u32, Compact)> = cache
            .with_segment(hot, number, |segment| {
                let due = segment.of_phase(phase, Some(until)).filter(|(_, message)| !only_again || message.again());
                due.map(|(seq, message)| (seq, *message)).collect()
            })
            .await?;
        found.extend(some);
    }
    found.sort_by_key(|(seq, message)| (message.due(), *seq));
    found.truncate(limit);
    Ok(found)
}

/// Pending messages that were tried before and are due; of an ended campaign only those that somebody decided to send again.
pub(super) async fn read_due(
    cache: &Cache,
    key: CampaignKey,
    until: UnixMillis,
    limit: usize,
) -> StoreResult<Vec<ToSend>> {
    let hot = cache.hot(key).await?;
    let only_again = hot.head().end.is_some();
    let due = due(cache, &hot, Phase::Pending, only_again, until, limit).await?;
    let hot = &hot;
    let reads = due.into_iter().map(|(seq, message)| async move {
        let found = addresses(cache, hot, seq / SEGMENT_LEN, seq, seq).await?.pop();
        let (_, address, params) =
            found.ok_or_else(|| StoreError::Damaged("a message without its recipient".to_owned()))?;
        let key = MessageKey { campaign: key, seq };
        let next_attempt = message.attempt().saturating_add(1);
        Ok(ToSend { key, address, params, next_attempt, retries: message.retries() })
    });
    stream::iter(reads).buffered(READS).try_collect().await
}

/// When the next waiting message is due.
pub(super) async fn next_due(cache: &Cache, key: CampaignKey) -> StoreResult<Option<UnixMillis>> {
    let hot = cache.hot(key).await?;
    let head = hot.head();
    let ended = head.end.is_some();
    Ok(hot.earliest(|segment| {
        let dues = &segment.dues;
        let pending = if ended { dues.again } else { dues.pending };
        let resent = dues.doubt.filter(|_| head.resends);
        [pending, resent].into_iter().flatten().min()
    }))
}

/// Messages in doubt whose wait is over.
pub(super) async fn doubt_due(
    cache: &Cache,
    key: CampaignKey,
    until: UnixMillis,
    limit: usize,
) -> StoreResult<Vec<MessageKey>> {
    let hot = cache.hot(key).await?;
    let due = due(cache, &hot, Phase::InDoubt, false, until, limit).await?;
    Ok(due.into_iter().map(|(seq, _)| MessageKey { campaign: key, seq }).collect())
}

/// Attempts with an intent and no outcome. Only segments that count one are looked into.
pub(super) async fn open_attempts(
    cache: &Cache,
    key: CampaignKey,
    from_seq: u32,
    limit: usize,
) -> StoreResult<Vec<OpenAttempt>> {
    let hot = cache.hot(key).await?;
    let mut open = Vec::new();
    for number in hot.segments(from_seq / SEGMENT_LEN, super::summary::Summary::has_open) {
        if open.len() >= limit {
            break;
        }
        let room = limit - open.len();
        let some: Vec<OpenAttempt> = cache
            .with_segment(&hot, number, |segment| {
                let in_flight = segment.of_phase(Phase::InFlight, None).filter(|(seq, _)| *seq >= from_seq);
                let attempt = |(seq, message): (u32, &Compact)| OpenAttempt {
                    key: MessageKey { campaign: key, seq },
                    attempt: message.attempt(),
                };
                in_flight.map(attempt).take(room).collect()
            })
            .await?;
        open.extend(some);
    }
    Ok(open)
}
