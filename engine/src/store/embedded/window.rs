//! What is to be sent, and when: pages of untried recipients, waiting retries, attempts in doubt, attempts left open.

use rusqlite::{Connection, OptionalExtension as _};

use super::campaigns;
use super::error::Try;
use super::rows::{message_key, row_ids, text};
use crate::domain::ids::{CampaignKey, MessageKey, SEGMENT_LEN};
use crate::domain::message::Phase;
use crate::domain::time::UnixMillis;
use crate::store::{OpenAttempt, ToSend, Window};

/// Segments read in one snapshot when they give nothing: each costs up to 8,192 look-ups.
const SEGMENTS_READ_MAX: u32 = 16;

/// Never-tried recipients from `from_seq` on. Segments in which all were tried are passed over without a look inside.
pub(super) fn read_window(conn: &Connection, key: CampaignKey, from_seq: u32, limit: usize) -> Try<Window> {
    let head = campaigns::head(conn, key)?;
    if !head.sealed || head.end.is_some() {
        return Ok(Window::default());
    }
    let mut segments = conn.prepare_cached(
        "SELECT segment FROM segment WHERE campaign = ?1 AND segment >= ?2 AND untried > 0 ORDER BY segment LIMIT 1",
    )?;
    let mut untried = conn.prepare_cached(
        "SELECT id, address, params FROM recipient AS r WHERE id BETWEEN ?1 AND ?2
         AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = r.id) ORDER BY id LIMIT ?3",
    )?;
    let mut window = Window { messages: Vec::with_capacity(limit.min(4_096)), next_seq: Some(from_seq) };
    for _ in 0..SEGMENTS_READ_MAX {
        let Some(from) = window.next_seq.filter(|_| window.messages.len() < limit) else { break };
        let wanted = (key.0, from / SEGMENT_LEN);
        let Some(number) = segments.query_row(wanted, |row| row.get::<_, u32>(0)).optional()? else {
            window.next_seq = None;
            break;
        };
        let first = from.max(number * SEGMENT_LEN);
        let last = (number * SEGMENT_LEN).saturating_add(SEGMENT_LEN - 1);
        let (first, last_id) = row_ids(key, first, last);
        let room = limit - window.messages.len();
        let mut rows = untried.query((first, last_id, i64::try_from(room).unwrap_or(i64::MAX)))?;
        let mut found = 0;
        while let Some(row) = rows.next()? {
            window.messages.push(ToSend {
                key: message_key(row.get(0)?),
                address: text(row, 1)?,
                params: text(row, 2)?,
                next_attempt: 1,
                retries: 0,
            });
            found += 1;
        }
        let filled = found == room;
        window.next_seq = match window.messages.last() {
            Some(message) if filled => message.key.seq.checked_add(1),
            _ => last.checked_add(1),
        };
    }
    Ok(window)
}

/// Pending messages that were tried before and are due; of an ended campaign only those that somebody decided to send again.
pub(super) fn read_due(conn: &Connection, key: CampaignKey, until: UnixMillis, limit: usize) -> Try<Vec<ToSend>> {
    let only_again = campaigns::head(conn, key)?.end.is_some();
    let mut statement = conn.prepare_cached(
        "SELECT m.id, r.address, r.params, m.attempt, m.retries
         FROM message AS m INDEXED BY message_due JOIN recipient AS r ON r.id = m.id
         WHERE m.campaign = ?1 AND m.phase = ?2 AND m.due_at <= ?3 AND (NOT ?4 OR m.again) ORDER BY m.due_at LIMIT ?5",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query((key.0, Phase::Pending as u8, until.0, only_again, limit))?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        due.push(ToSend {
            key: message_key(row.get(0)?),
            address: text(row, 1)?,
            params: text(row, 2)?,
            next_attempt: row.get::<_, u16>(3)?.saturating_add(1),
            retries: row.get(4)?,
        });
    }
    Ok(due)
}

/// When the next waiting message is due.
pub(super) fn next_due(conn: &Connection, key: CampaignKey) -> Try<Option<UnixMillis>> {
    let campaign = campaigns::by_key(conn, key)?;
    let mut statement = conn.prepare_cached(
        "SELECT min(due_at) FROM message INDEXED BY message_due
         WHERE campaign = ?1 AND phase = ?2 AND due_at IS NOT NULL AND (NOT ?3 OR again)",
    )?;
    let mut earliest = |phase: Phase, only_again: bool| -> Try<Option<i64>> {
        Ok(statement.query_row((key.0, phase as u8, only_again), |row| row.get(0))?)
    };
    let pending = earliest(Phase::Pending, campaign.end.is_some())?;
    let resent = if campaign.settings.policy.resends() { earliest(Phase::InDoubt, false)? } else { None };
    Ok([pending, resent].into_iter().flatten().min().map(UnixMillis))
}

/// Messages in doubt whose wait is over.
pub(super) fn doubt_due(conn: &Connection, key: CampaignKey, until: UnixMillis, limit: usize) -> Try<Vec<MessageKey>> {
    campaigns::expect(conn, key)?;
    let mut statement = conn.prepare_cached(
        "SELECT id FROM message INDEXED BY message_due WHERE campaign = ?1 AND phase = ?2 AND due_at <= ?3
         ORDER BY due_at LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let due = statement.query_map((key.0, Phase::InDoubt as u8, until.0, limit), |row| Ok(message_key(row.get(0)?)))?;
    Ok(due.collect::<Result<_, _>>()?)
}

/// Attempts with an intent and no outcome. Only segments that count one are looked into.
pub(super) fn open_attempts(conn: &Connection, key: CampaignKey, from_seq: u32, limit: usize) -> Try<Vec<OpenAttempt>> {
    campaigns::expect(conn, key)?;
    let mut segments = conn.prepare_cached(
        "SELECT segment FROM segment WHERE campaign = ?1 AND segment >= ?2 AND open > 0 ORDER BY segment",
    )?;
    let numbers: Vec<u32> =
        segments.query_map((key.0, from_seq / SEGMENT_LEN), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement = conn.prepare_cached(
        "SELECT id, attempt FROM message WHERE id BETWEEN ?1 AND ?2 AND phase = ?3 ORDER BY id LIMIT ?4",
    )?;
    let mut open = Vec::new();
    for number in numbers {
        if open.len() >= limit {
            break;
        }
        let last = (number * SEGMENT_LEN).saturating_add(SEGMENT_LEN - 1);
        let (first, last) = row_ids(key, from_seq.max(number * SEGMENT_LEN), last);
        let room = i64::try_from(limit - open.len()).unwrap_or(i64::MAX);
        let found = statement.query_map((first, last, Phase::InFlight as u8, room), |row| {
            Ok(OpenAttempt { key: message_key(row.get(0)?), attempt: row.get(1)? })
        })?;
        for attempt in found {
            open.push(attempt?);
        }
    }
    Ok(open)
}
