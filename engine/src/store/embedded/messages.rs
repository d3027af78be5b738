//! Messages for people: one, a page, and the scan for provider ids.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::campaigns::{self, Head};
use super::counts::older;
use super::error::{Try, damaged};
use super::rows::{self, message_key, optional_text, read_state, row_id, row_ids, text};
use super::tallies::unsigned;
use crate::domain::ids::{CampaignKey, ImportId, LineKey, MessageKey, SEGMENT_LEN};
use crate::domain::message::MessageState;
use crate::domain::stage::{End, Shown, Stage};
use crate::store::paging;
use crate::store::rules;
use crate::store::{MessageFilter, MessageRecord, Page, Paged, StoreError};

/// Segments looked into for one page: half a million messages, about half a second. A page may come back short of its size,
/// even empty, with a mark to go on from.
const SEGMENTS_A_PAGE: u32 = 64;

fn select(prefix: &str) -> String {
    format!(
        "SELECT r.id, r.address, r.external_id, r.params, i.id, r.row, m.phase IS NOT NULL, {} FROM recipient AS r
         JOIN import AS i ON i.campaign = r.campaign AND i.number = r.import
         LEFT JOIN message AS m ON m.id = r.id WHERE {prefix}",
        rows::columns("m.")
    )
}

fn read(row: &Row<'_>, end: Option<End>) -> Try<MessageRecord> {
    let state = if row.get(6)? { read_state(row, 7)? } else { MessageState::default() };
    let import = ImportId::new(&text(row, 4)?).map_err(damaged)?;
    Ok(MessageRecord {
        key: message_key(row.get(0)?),
        address: text(row, 1)?,
        external_id: optional_text(row, 2)?,
        params: text(row, 3)?,
        origin: (import, unsigned(row, 5)?),
        shown: state.shown(end),
        state,
    })
}

/// One message with all its attempts.
pub(super) fn one(conn: &Connection, key: MessageKey) -> Try<MessageRecord> {
    let end = campaigns::head(conn, key.campaign)?.end;
    let mut statement = conn.prepare_cached(&select("r.id = ?1"))?;
    let mut found = statement.query([row_id(key)])?;
    let Some(row) = found.next()? else { return Err(StoreError::NotFound("message").into()) };
    let mut record = read(row, end)?;
    record.state.older = older(conn, row_id(key))?;
    Ok(record)
}

/// A condition on a segment's counts without which none of its messages can be one of the filter's.
fn segment_condition(filter: &MessageFilter) -> String {
    let mut wanted = vec!["TRUE".to_owned()];
    if !filter.shown.is_empty() {
        let counts: Vec<_> = filter.shown.iter().map(|shown| shown.name()).collect();
        wanted.push(format!("{} > 0", counts.join(" + ")));
    }
    match filter.reached {
        None | Some(Stage::Queued) => {}
        Some(Stage::Sent) => wanted.push("reached_sent > 0".to_owned()),
        Some(Stage::Delivered) => wanted.push("reached_delivered > 0".to_owned()),
        Some(Stage::Read) => wanted.push("reached_read > 0".to_owned()),
    }
    for (asked, column) in [
        (filter.conflict, "conflicts"),
        (filter.doubled, "doubles"),
        (filter.failure_code.is_some(), Shown::Failed.name()),
    ] {
        if asked {
            wanted.push(format!("{column} > 0"));
        }
    }
    wanted.join(" AND ")
}

/// The next segment worth a look, at or behind `from`.
fn next_segment(
    conn: &Connection,
    key: CampaignKey,
    head: &Head,
    filter: &MessageFilter,
    from: u32,
) -> Try<Option<u32>> {
    if !head.sealed {
        return Ok((from < head.next_seq.div_ceil(SEGMENT_LEN)).then_some(from));
    }
    let sql = format!(
        "SELECT segment FROM segment WHERE campaign = ?1 AND segment >= ?2 AND {} ORDER BY segment LIMIT 1",
        segment_condition(filter)
    );
    Ok(conn.prepare_cached(&sql)?.query_row([key.0, from], |row| row.get(0)).optional()?)
}

/// A page in order of `seq`.
pub(super) fn page(
    conn: &Connection,
    key: CampaignKey,
    filter: &MessageFilter,
    page: &Page,
) -> Try<Paged<MessageRecord>> {
    let head = campaigns::head(conn, key)?;
    let after = paging::number_after(page)?.map_or(0, |last| last.saturating_add(1));
    let Ok(mut from) = u32::try_from(after) else { return Ok(Paged { items: Vec::new(), next: None }) };
    let size = page.size.max(1);
    let mut items: Vec<MessageRecord> = Vec::with_capacity(size.min(1_024));
    for _ in 0..SEGMENTS_A_PAGE {
        let Some(number) = next_segment(conn, key, &head, filter, from / SEGMENT_LEN)? else {
            return Ok(Paged { items, next: None });
        };
        let first = from.max(number * SEGMENT_LEN);
        let last = (number * SEGMENT_LEN).saturating_add(SEGMENT_LEN - 1);
        scan_segment(conn, key, (first, last), &head, filter, size, &mut items)?;
        if items.len() >= size {
            let next = items.last().map(|record| paging::mark(i64::from(record.key.seq)));
            return Ok(Paged { items, next });
        }
        match last.checked_add(1) {
            Some(next) => from = next,
            None => return Ok(Paged { items, next: None }),
        }
    }
    Ok(Paged { items, next: Some(paging::mark(i64::from(from) - 1)) })
}

/// Adds a segment's messages until the page is full. One statement: one short snapshot.
fn scan_segment(
    conn: &Connection,
    key: CampaignKey,
    (first, last): (u32, u32),
    head: &Head,
    filter: &MessageFilter,
    size: usize,
    items: &mut Vec<MessageRecord>,
) -> Try<()> {
    let (first, last) = row_ids(key, first, last);
    let mut wanted = "r.id BETWEEN ?1 AND ?2".to_owned();
    let mut values: Vec<Value> = vec![first.into(), last.into()];
    for (column, value) in [("external_id", &filter.external_id), ("address", &filter.address)] {
        if let Some(value) = value {
            values.push(value.clone().into());
            wanted.push_str(&format!(" AND r.{column} = ?{}", values.len()));
        }
    }
    wanted.push_str(" ORDER BY r.id");
    let mut statement = conn.prepare_cached(&select(&wanted))?;
    let mut found = statement.query(params_from_iter(values))?;
    while items.len() < size
        && let Some(row) = found.next()?
    {
        let mut record = read(row, head.end)?;
        if rules::is_wanted(filter, &record, head.end) {
            if filter.all_attempts && record.state.newest.as_ref().is_some_and(|newest| newest.number > 1) {
                record.state.older = older(conn, row_id(record.key))?;
            }
            items.push(record);
        }
    }
    Ok(())
}

/// Campaigns that used any of these lines, newest first.
pub(super) fn campaigns_of(conn: &Connection, lines: &[LineKey]) -> Try<Vec<(CampaignKey, u32)>> {
    let mut statement = conn.prepare_cached(
        "SELECT u.campaign, c.next_seq FROM line_use AS u JOIN campaign AS c ON c.key = u.campaign WHERE u.line = ?1",
    )?;
    let mut found = Vec::new();
    for line in lines {
        for campaign in statement.query_map([line.0], |row| Ok((CampaignKey(row.get(0)?), row.get(1)?)))? {
            found.push(campaign?);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.dedup();
    Ok(found)
}

/// One match of the scan for provider ids.
pub(super) type FoundId = (Box<str>, MessageKey, u16);

/// Messages `[first, last]` whose newest or older attempts carry one of these provider ids, on one of these lines.
pub(super) fn find_ids(
    conn: &Connection,
    key: CampaignKey,
    (first, last): (u32, u32),
    lines: &[LineKey],
    ids: &HashSet<Box<str>>,
) -> Try<Vec<FoundId>> {
    let (first, last) = row_ids(key, first, last);
    let mut found = Vec::new();
    for sql in [
        "SELECT id, attempt, line, provider_id FROM message WHERE id BETWEEN ?1 AND ?2 AND provider_id IS NOT NULL",
        "SELECT message, attempt, line, provider_id FROM attempt WHERE message BETWEEN ?1 AND ?2 AND provider_id IS NOT NULL",
    ] {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query([first, last])?;
        while let Some(row) = rows.next()? {
            let id = row.get_ref(3)?.as_str().map_err(damaged)?;
            if let Some(id) = ids.get(id)
                && lines.contains(&LineKey(row.get(2)?))
            {
                found.push((id.clone(), message_key(row.get(0)?), row.get(1)?));
            }
        }
    }
    Ok(found)
}
