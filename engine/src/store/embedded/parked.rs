//! Events that nobody can place yet, orphans, and webhook entries kept for later.

use std::time::Duration;

use rusqlite::{Connection, Row};

use super::error::{Try, damaged};
use super::rows::{optional_text, text};
use super::tallies::unsigned;
use crate::domain::ids::{AccountId, CampaignKey, MessageKey};
use crate::domain::time::UnixMillis;
use crate::store::paging;
use crate::store::text::{Report, from_json, to_json};
use crate::store::{InboundEvent, Page, Paged, ParkedCounts, ParkedEvent, ParkedMove};

/// Orphans kept for people; the oldest give way.
const ORPHANS_MAX: u32 = 100_000;

const COLUMNS: &str = "id, account, sender, provider_id, campaign, seq, attempt, report, at, look_at, deadline";

/// Keeps events; one that is parked already is not parked twice. Returns how many were new.
pub(super) fn park(conn: &Connection, events: &[ParkedEvent]) -> Try<usize> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO parked (account, sender, provider_id, what, campaign, seq, attempt, report, at, look_at, deadline)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING",
    )?;
    let mut new = 0;
    for event in events {
        let report = Report::of(&event.event)?;
        let place = event.attempt;
        new += insert.execute((
            event.account.as_str(),
            event.sender.as_deref(),
            event.provider_id.as_ref(),
            report.name(),
            place.map(|(key, _)| key.campaign.0),
            place.map(|(key, _)| key.seq),
            place.map(|(_, attempt)| attempt),
            to_json(&report)?,
            event.at.0,
            event.look_at.0,
            event.deadline.0,
        ))?;
    }
    Ok(new)
}

fn read(row: &Row<'_>) -> Try<ParkedEvent> {
    let place = match (row.get::<_, Option<u32>>(4)?, row.get::<_, Option<u32>>(5)?, row.get::<_, Option<u16>>(6)?) {
        (Some(campaign), Some(seq), Some(attempt)) => {
            Some((MessageKey { campaign: CampaignKey(campaign), seq }, attempt))
        }
        _ => None,
    };
    Ok(ParkedEvent {
        id: unsigned(row, 0)?,
        account: AccountId::new(&text(row, 1)?).map_err(damaged)?,
        sender: optional_text(row, 2)?,
        provider_id: text(row, 3)?,
        attempt: place,
        event: from_json::<Report>(&text(row, 7)?)?.event(),
        at: UnixMillis(row.get(8)?),
        look_at: UnixMillis(row.get(9)?),
        deadline: UnixMillis(row.get(10)?),
    })
}

/// Parked events to look at again.
pub(super) fn due(conn: &Connection, until: UnixMillis, limit: usize) -> Try<Vec<ParkedEvent>> {
    let sql = format!("SELECT {COLUMNS} FROM parked WHERE look_at <= ?1 ORDER BY look_at, id LIMIT ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((until.0, i64::try_from(limit).unwrap_or(i64::MAX)))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(read(row)?);
    }
    Ok(events)
}

/// Moves parked events on; one that is not parked any more is passed over.
pub(super) fn settle(conn: &Connection, moves: &[(u64, ParkedMove)]) -> Try<()> {
    let mut look_again = conn.prepare_cached("UPDATE parked SET look_at = ?2 WHERE id = ?1")?;
    let mut remove = conn.prepare_cached("DELETE FROM parked WHERE id = ?1")?;
    let mut orphan = conn.prepare_cached(
        "INSERT INTO orphan (account, sender, provider_id, what, campaign, seq, attempt, report, at, look_at, deadline)
         SELECT account, sender, provider_id, what, campaign, seq, attempt, report, at, look_at, deadline
         FROM parked WHERE id = ?1",
    )?;
    let mut orphaned = false;
    for (id, fate) in moves {
        let id = id.cast_signed();
        match fate {
            ParkedMove::LookAgain(at) => {
                look_again.execute((id, at.0))?;
            }
            ParkedMove::Placed => {
                remove.execute([id])?;
            }
            ParkedMove::Orphaned => {
                orphan.execute([id])?;
                remove.execute([id])?;
                orphaned = true;
            }
        }
    }
    if orphaned {
        conn.prepare_cached(
            "DELETE FROM orphan WHERE id <= (SELECT id FROM orphan ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        )?
        .execute([ORPHANS_MAX])?;
    }
    Ok(())
}

/// A page of orphans of these accounts, newest first.
pub(super) fn orphans(conn: &Connection, accounts: &[AccountId], page: &Page) -> Try<Paged<ParkedEvent>> {
    let (size, before) = (page.size.max(1), paging::number_after(page)?.unwrap_or(i64::MAX));
    let names: Vec<&str> = accounts.iter().map(AccountId::as_str).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM orphan WHERE account IN (SELECT value FROM json_each(?1)) AND id < ?2
         ORDER BY id DESC LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query((to_json(&names)?, before))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read(row)?);
    }
    Ok(paging::cut(items, size, |event| event.id.cast_signed()))
}

/// Which of the two tables of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// Those that wait.
    Parked,
    /// Those that were given up.
    Orphans,
}

/// A page of all events of a table: those that wait by number, orphans newest first.
pub(super) fn all(conn: &Connection, place: Where, page: &Page) -> Try<Paged<ParkedEvent>> {
    let (size, after) = (page.size.max(1), paging::number_after(page)?);
    let (table, beyond, order, first) = match place {
        Where::Parked => ("parked", ">", "ASC", i64::MIN),
        Where::Orphans => ("orphan", "<", "DESC", i64::MAX),
    };
    let limit = size.saturating_add(1);
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE id {beyond} ?1 ORDER BY id {order} LIMIT {limit}");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([after.unwrap_or(first)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read(row)?);
    }
    Ok(paging::cut(items, size, |event| event.id.cast_signed()))
}

/// Writes an event under a number of the caller's.
pub(super) fn put(conn: &Connection, place: Where, number: i64, event: &ParkedEvent) -> Try<()> {
    let table = if place == Where::Parked { "parked" } else { "orphan" };
    let report = Report::of(&event.event)?;
    let of = event.attempt;
    conn.prepare_cached(&format!(
        "INSERT OR REPLACE INTO {table} (id, account, sender, provider_id, what, campaign, seq, attempt, report, at, look_at, deadline)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
    ))?
    .execute((
        number,
        event.account.as_str(),
        event.sender.as_deref(),
        event.provider_id.as_ref(),
        report.name(),
        of.map(|(key, _)| key.campaign.0),
        of.map(|(key, _)| key.seq),
        of.map(|(_, attempt)| attempt),
        to_json(&report)?,
        event.at.0,
        event.look_at.0,
        event.deadline.0,
    ))?;
    Ok(())
}

/// Counts, and the age of the oldest parked event.
pub(super) fn counts(conn: &Connection, now: UnixMillis) -> Try<ParkedCounts> {
    let (parked, oldest) = conn.query_row("SELECT count(*), min(at) FROM parked", [], |row| {
        Ok((unsigned(row, 0)?, row.get::<_, Option<i64>>(1)?))
    })?;
    let orphans = conn.query_row("SELECT count(*) FROM orphan", [], |row| unsigned(row, 0))?;
    let oldest = oldest.map_or(Duration::ZERO, |at| now.since(UnixMillis(at)));
    Ok(ParkedCounts { parked, orphans, oldest })
}

/// Keeps inbound events; one with a provider id that is kept already is not kept twice. Returns how many older ones gave way.
pub(super) fn keep_inbound(conn: &Connection, events: &[InboundEvent], kept_max: u64) -> Try<u64> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO inbound (account, kind, provider_id, body, at) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
    )?;
    for event in events {
        insert.execute((
            event.account.as_str(),
            event.kind.as_ref(),
            event.provider_id.as_ref(),
            event.body.as_ref(),
            event.at.0,
        ))?;
    }
    // Numbered without gaps and removed from the front only: no need to count.
    let kept_max = i64::try_from(kept_max).unwrap_or(i64::MAX);
    let gone = conn
        .prepare_cached("DELETE FROM inbound WHERE id <= (SELECT max(id) FROM inbound) - ?1")?
        .execute([kept_max])?;
    Ok(gone as u64)
}

/// A page of what is kept for later, oldest first.
pub(super) fn all_inbound(conn: &Connection, page: &Page) -> Try<Paged<InboundEvent>> {
    let size = page.size.max(1);
    let sql = format!(
        "SELECT id, account, kind, provider_id, body, at FROM inbound WHERE id > ?1 ORDER BY id LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([paging::number_after(page)?.unwrap_or(i64::MIN)])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let event = InboundEvent {
            account: AccountId::new(&text(row, 1)?).map_err(damaged)?,
            kind: text(row, 2)?,
            provider_id: text(row, 3)?,
            body: text(row, 4)?,
            at: UnixMillis(row.get(5)?),
        };
        items.push((row.get::<_, i64>(0)?, event));
    }
    let Paged { items, next } = paging::cut(items, size, |(number, _)| *number);
    Ok(Paged { items: items.into_iter().map(|(_, event)| event).collect(), next })
}

/// Writes an entry under a number of the caller's.
pub(super) fn put_inbound(conn: &Connection, number: i64, event: &InboundEvent) -> Try<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO inbound (id, account, kind, provider_id, body, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        number,
        event.account.as_str(),
        event.kind.as_ref(),
        event.provider_id.as_ref(),
        event.body.as_ref(),
        event.at.0,
    ))?;
    Ok(())
}
