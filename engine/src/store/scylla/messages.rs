//! Messages for people, from their rows: one, a page, a recount, and the scan for provider ids.

use std::collections::{HashMap, HashSet};

use super::cache::Cache;
use super::compact;
use super::cql::Cql;
use super::error::damaged;
use super::hot::Hot;
use super::imports;
use super::row::{Fact, Register};
use super::summary::{self, Summary, SummaryRow};
use crate::domain::ids::{CampaignKey, LineKey, MessageKey, SEGMENT_LEN};
use crate::domain::message::{Attempt, MessageState};
use crate::domain::tally::Tally;
use crate::store::paging;
use crate::store::rules;
use crate::store::step::count_code;
use crate::store::{Counts, MessageFilter, MessageRecord, Page, Paged, StoreError, StoreResult};

/// Segments looked into for one page. A page may come back short of its size, even empty, with a mark to go on from.
const SEGMENTS_A_PAGE: usize = 64;

/// `(seq, address, external_id, params, import_no, row_no, refused, register, fact)`.
#[rustfmt::skip]
type MessageRow = (
    Option<i32>, Option<String>, Option<String>, Option<String>, Option<i32>, Option<i64>, Option<bool>,
    Option<Register>, Option<HashMap<i32, Fact>>,
);

/// The values of a read of places of one segment.
pub(super) fn range(hot: &Hot, number: u32, first: u32, last: u32) -> (String, i32, i32, i32, i32) {
    let (tenant, key, segment) = hot.partition(number);
    (tenant, key, segment, first.cast_signed(), last.cast_signed())
}

/// The messages of a run of one segment; `sealed`: rows that the seal refused are none.
async fn read(cql: &Cql, hot: &Hot, number: u32, first: u32, last: u32) -> StoreResult<Vec<MessageRecord>> {
    let head = hot.head();
    let last = last.min(head.next_seq.saturating_sub(1));
    if first > last || head.next_seq == 0 {
        return Ok(Vec::new());
    }
    let rows: Vec<MessageRow> = cql.rows(&cql.st.messages, range(hot, number, first, last)).await?;
    let last_import = rows.iter().filter_map(|row| row.4).max();
    let imports = imports::names(cql, hot, last_import).await?;
    let mut records = Vec::with_capacity(rows.len());
    for (seq, address, external_id, params, import, row, refused, register, facts) in rows {
        let (Some(seq), Some(address)) = (seq, address) else { continue };
        if head.sealed && refused == Some(true) {
            continue;
        }
        let state: MessageState = compact::read(register, facts.unwrap_or_default(), head.end_version)?;
        let import = import.and_then(|number| imports.get(usize::try_from(number).ok()?));
        let import = import.ok_or_else(|| damaged("a recipient without its import"))?;
        records.push(MessageRecord {
            key: MessageKey { campaign: hot.key, seq: seq.cast_unsigned() },
            address: address.into(),
            external_id: external_id.filter(|id| !id.is_empty()).map(Into::into),
            params: params.unwrap_or_default().into(),
            origin: (import.clone(), row.unwrap_or_default().unsigned_abs()),
            shown: state.shown(head.end),
            state,
        });
    }
    Ok(records)
}

/// One message with all its attempts.
pub(super) async fn one(cache: &Cache, key: MessageKey) -> StoreResult<MessageRecord> {
    let hot = cache.hot(key.campaign).await?;
    let found = read(&cache.cql, &hot, key.segment(), key.seq, key.seq).await?.pop();
    found.ok_or(StoreError::NotFound("message"))
}

/// A page in order of `seq`.
pub(super) async fn page(
    cache: &Cache,
    key: CampaignKey,
    filter: &MessageFilter,
    page: &Page,
) -> StoreResult<Paged<MessageRecord>> {
    let hot = cache.hot(key).await?;
    let head = hot.head();
    let after = paging::number_after(page)?.map_or(0, |last| last.saturating_add(1));
    let Ok(from) = u32::try_from(after) else { return Ok(Paged { items: Vec::new(), next: None }) };
    let size = page.size.max(1);
    let numbers = if head.sealed {
        hot.segments(from / SEGMENT_LEN, |segment| {
            let counts = crate::store::step::SegmentCounts { tally: segment.tally(head.end), ..segment.counts };
            counts.may_match(filter)
        })
    } else {
        (from / SEGMENT_LEN..head.next_seq.div_ceil(SEGMENT_LEN)).collect()
    };
    let mut items: Vec<MessageRecord> = Vec::new();
    for (looked, number) in numbers.into_iter().enumerate() {
        let first = from.max(number * SEGMENT_LEN);
        if looked == SEGMENTS_A_PAGE {
            return Ok(Paged { items, next: Some(paging::mark(i64::from(first) - 1)) });
        }
        let last = (number * SEGMENT_LEN).saturating_add(SEGMENT_LEN - 1);
        for mut record in read(&cache.cql, &hot, number, first, last).await? {
            if rules::is_wanted(filter, &record, head.end) {
                if !filter.all_attempts {
                    record.state.older.clear();
                }
                items.push(record);
                if items.len() >= size {
                    let next = items.last().map(|record| paging::mark(i64::from(record.key.seq)));
                    return Ok(Paged { items, next });
                }
            }
        }
    }
    Ok(Paged { items, next: None })
}

/// As kept, and as counted from the rows: each segment at one moment between two batches. A segment is kept twice, in its partition and, of a
/// campaign of ours, in memory, which is what is shown; where they differ, that which is not what its rows say is told. A former owner's batch may
/// have landed whole, with its counts, since memory read them.
pub(super) async fn recount(cache: &Cache, key: CampaignKey) -> StoreResult<(Counts, Counts)> {
    let hot = cache.hot(key).await?;
    let head = hot.head();
    let revision = hot.counts(&cache.revision).revision;
    if !head.sealed {
        let mut counted = 0;
        for number in 0..head.next_seq.div_ceil(SEGMENT_LEN) {
            let first = number * SEGMENT_LEN;
            counted += read(&cache.cql, &hot, number, first, first.saturating_add(SEGMENT_LEN - 1)).await?.len() as u64;
        }
        let counts =
            |recipients| Counts { tally: Tally::untouched(recipients, head.end), revision, ..Counts::default() };
        return Ok((counts(head.recipients), counts(counted)));
    }
    let (mut kept, mut counted) = (Vec::new(), Vec::new());
    for number in 0..head.next_seq.div_ceil(SEGMENT_LEN) {
        let place = cache.place((key, number));
        // No batch of this segment while all of them are read.
        let _held = cache.between_batches(&place).await?;
        // Another node's moves without a word to us. What is held of another end is of another moment.
        let held = hot.segment(number).filter(|held| held.end_version == head.end_version);
        let held = held.filter(|_| hot.expect_ours(&cache.cql).is_ok());
        let row: Option<SummaryRow> = cache.cql.row(&cache.cql.st.segment_tally, hot.partition(number)).await?;
        let stored = match row {
            Some((_, Some(tally), failures)) => {
                Some(Summary::of_cells(&tally, failures.unwrap_or_default(), head.end_version)?)
            }
            _ => None,
        };
        let mut summary = Summary { end_version: head.end_version, ..Summary::default() };
        let first = number * SEGMENT_LEN;
        for record in read(&cache.cql, &hot, number, first, first.saturating_add(SEGMENT_LEN - 1)).await? {
            let facets = record.state.facets(None);
            summary.counts.tally.add(&facets);
            summary.counts.again += u64::from(crate::store::step::waits_again(&record.state));
            if let Some(code) = facets.failure_code {
                count_code(&mut summary.failures, code, 1);
            }
        }
        let says = |s: &Summary| (s.counts.tally, s.counts.again, s.failures.clone());
        let is_right = stored.as_ref().is_some_and(|stored| says(stored) == says(&summary));
        kept.extend(held.filter(|_| is_right).or(stored));
        counted.push(summary);
    }
    let counts = |segments: &[Summary]| {
        let (counts, failures) = summary::sum(segments.iter());
        Counts { tally: summary::ended(&counts, head.end), failures, revision }
    };
    Ok((counts(&kept), counts(&counted)))
}

/// One match of the scan for provider ids.
pub(super) type FoundId = (Box<str>, MessageKey, u16);

/// Messages of a campaign whose attempts carry one of these provider ids, on one of these lines; newest attempts first.
pub(super) async fn find_ids(
    cache: &Cache,
    key: CampaignKey,
    lines: &[LineKey],
    wanted: &mut HashSet<Box<str>>,
) -> StoreResult<Vec<FoundId>> {
    let hot = cache.hot(key).await?;
    let cql = &cache.cql;
    let mut found = Vec::new();
    for number in 0..hot.head().next_seq.div_ceil(SEGMENT_LEN) {
        if wanted.is_empty() {
            break;
        }
        type StateRow = (Option<i32>, Option<String>, Option<bool>, Option<Register>, Option<HashMap<i32, Fact>>);
        let mut matches: Vec<(bool, FoundId)> = Vec::new();
        let mut damage = None;
        cql.each_page(&cql.st.segment_states, hot.partition(number), |rows: Vec<StateRow>| {
            for (seq, _, _, register, facts) in rows {
                let (Some(seq), Some(register), Some(facts)) = (seq, register, facts) else { continue };
                let any = |(_, _, text): &Fact| text.as_deref().is_some_and(|text| wanted.contains(text));
                if !facts.values().any(any) {
                    continue;
                }
                let state = match compact::read(Some(register), facts, hot.head().end_version) {
                    Ok(state) => state,
                    Err(error) => {
                        damage.get_or_insert(error);
                        continue;
                    }
                };
                let message = MessageKey { campaign: key, seq: seq.cast_unsigned() };
                let newest = state.newest.iter().map(|attempt| (false, attempt));
                for (older, attempt) in newest.chain(state.older.iter().map(|attempt| (true, attempt))) {
                    let attempt: &Attempt = attempt;
                    if let Some(id) = attempt.provider_id.as_ref().filter(|id| wanted.contains(*id))
                        && lines.contains(&attempt.line)
                    {
                        matches.push((older, (id.clone(), message, attempt.number)));
                    }
                }
            }
        })
        .await?;
        if let Some(error) = damage {
            return Err(error);
        }
        matches.sort_by_key(|(older, _)| *older);
        for (_, (id, ..)) in &matches {
            wanted.remove(id);
        }
        found.extend(matches.into_iter().map(|(_, found)| found));
    }
    Ok(found)
}
