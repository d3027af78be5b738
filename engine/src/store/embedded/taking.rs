//! A whole ledger into this store: rows as they stand, over whatever is there.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::error::Try;
use super::ledger::Ledger;
use super::rows::{self, bind_facts, bind_register, end_name, row_id};
use super::tallies::{Segment, bind_segment, insert_segment_sql};
use super::{parked, recipients};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, ImportId};
use crate::domain::line::{Line, Pool};
use crate::store::moving::{ChunkRecord, Part, RequestRecord, number_of};
use crate::store::rules::Kind;
use crate::store::step::{SegmentCounts, count_code, waits_again};
use crate::store::text::to_json;
use crate::store::{ImportRecord, MessageRecord, TemplateRecord};

/// Above the numbers of all orphans that are moved here: the first of them is the newest. Later ones get larger numbers.
const ORPHANS_BELOW: i64 = 1_000_000_000;

/// Writes a piece over whatever is there.
pub(super) fn take(ledger: &mut Ledger<'_>, part: Part) -> Try<()> {
    let conn = ledger.conn();
    match part {
        Part::Pools(pools) => pools.iter().try_for_each(|pool| take_pool(conn, pool)),
        Part::Lines(lines) => lines.iter().try_for_each(|line| take_line(conn, line)),
        Part::Templates(templates) => templates.iter().try_for_each(|template| take_template(conn, template)),
        Part::Requests(requests) => requests.iter().try_for_each(|request| take_request(conn, request)),
        Part::Campaign(campaign, imports) => {
            ledger.forget_campaign(campaign.key);
            take_campaign(conn, &campaign, &imports)
        }
        Part::Chunks { campaign, import, chunks } => {
            chunks.iter().try_for_each(|chunk| take_chunk(conn, campaign, import, chunk))
        }
        Part::Refused { campaign, from, rows } => {
            let behind = from.saturating_add(rows.len() as u64);
            let here = (campaign.0, from.cast_signed(), behind.cast_signed());
            conn.execute("DELETE FROM refused WHERE campaign = ?1 AND number >= ?2 AND number < ?3", here)?;
            recipients::refuse(conn, campaign, from, &rows)
        }
        Part::Segment { campaign, imports, number, messages } => {
            ledger.forget_campaign(campaign.key);
            take_segment(conn, &campaign, &imports, number, &messages)
        }
        Part::Orphans { from, events, .. } => {
            // Downwards: the newest has the largest.
            for (place, event) in (from.cast_signed()..).zip(&events) {
                parked::put(conn, parked::Where::Orphans, ORPHANS_BELOW - place, event)?;
            }
            Ok(())
        }
        Part::Parked { from, events, .. } => {
            for (number, event) in (from.cast_signed() + 1..).zip(&events) {
                parked::put(conn, parked::Where::Parked, number, event)?;
            }
            Ok(())
        }
        Part::Inbound { from, events } => {
            for (number, event) in (from.cast_signed() + 1..).zip(&events) {
                parked::put_inbound(conn, number, event)?;
            }
            Ok(())
        }
    }
}

fn take_pool(conn: &Connection, pool: &Pool) -> Try<()> {
    conn.execute(
        "INSERT OR REPLACE INTO pool (tenant, id, version, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        (pool.tenant.as_str(), pool.id.as_str(), pool.version.cast_signed(), pool.kind.as_str(), to_json(pool)?),
    )?;
    Ok(())
}

fn take_line(conn: &Connection, line: &Line) -> Try<()> {
    conn.execute(
        "INSERT OR REPLACE INTO line (key, tenant, id, version, pool, account, kind, sender, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        (
            line.key.0,
            line.tenant.as_str(),
            line.id.as_str(),
            line.version.cast_signed(),
            line.pool.as_str(),
            line.account.as_str(),
            line.kind.as_str(),
            line.sender.text(),
            to_json(line)?,
        ),
    )?;
    Ok(())
}

fn take_template(conn: &Connection, template: &TemplateRecord) -> Try<()> {
    conn.execute(
        "INSERT OR REPLACE INTO template (tenant, id, version, created_at, updated_at, definition)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (
            template.tenant.as_str(),
            template.id.as_str(),
            template.version.cast_signed(),
            template.created_at.0,
            template.updated_at.0,
            template.definition.as_ref(),
        ),
    )?;
    Ok(())
}

fn take_request(conn: &Connection, request: &RequestRecord) -> Try<()> {
    conn.execute(
        "INSERT OR REPLACE INTO request (tenant, request_id, kind, id, key) VALUES (?1, ?2, ?3, ?4, ?5)",
        (
            request.tenant.as_str(),
            request.request_id.as_str(),
            request.kind.name(),
            request.id.as_str(),
            (request.kind != Kind::Template).then_some(request.key),
        ),
    )?;
    Ok(())
}

fn take_campaign(conn: &Connection, campaign: &Campaign, imports: &[ImportRecord]) -> Try<()> {
    let sealed = campaign.sealed.as_ref();
    conn.execute(
        "INSERT OR REPLACE INTO campaign (key, tenant, id, version, state, pool, created_at, settled_at,
             recipients, refused, next_seq, sealed_at, sealed_digest, ended_as, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        (
            campaign.key.0,
            campaign.tenant.as_str(),
            campaign.id.as_str(),
            campaign.version.cast_signed(),
            campaign.state.name(),
            campaign.pool.as_str(),
            campaign.created_at.0,
            campaign.settled_at.map(|at| at.0),
            campaign.recipients.cast_signed(),
            campaign.refused.cast_signed(),
            campaign.next_seq,
            sealed.map(|sealed| sealed.at.0),
            sealed.map(|sealed| sealed.digest.as_str()),
            campaign.end.map(end_name),
            to_json(campaign)?,
        ),
    )?;
    for (number, import) in (0_u32..).zip(imports) {
        conn.execute(
            "INSERT OR REPLACE INTO import (campaign, number, id, next_row, stored, refused, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            (
                campaign.key.0,
                number,
                import.id.as_str(),
                import.next_row.cast_signed(),
                import.stored.cast_signed(),
                import.refused.cast_signed(),
                import.created_at.0,
                import.updated_at.0,
            ),
        )?;
    }
    Ok(())
}

fn take_chunk(conn: &Connection, campaign: CampaignKey, import: u32, chunk: &ChunkRecord) -> Try<()> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO import_chunk (campaign, import, offset, rows, digest, stored_after, refused_after)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        campaign.0,
        import,
        chunk.offset.cast_signed(),
        chunk.rows,
        chunk.digest,
        chunk.stored.cast_signed(),
        chunk.refused.cast_signed(),
    ))?;
    Ok(())
}

/// Messages, attempts, counts, and the lines that were used: all of one segment.
fn take_segment(
    conn: &Connection,
    campaign: &Campaign,
    imports: &[ImportId],
    number: u32,
    messages: &[MessageRecord],
) -> Try<()> {
    let marks = |count: usize| (1..=count).map(|i| format!("?{i}")).collect::<Vec<_>>().join(", ");
    let mut recipient = conn.prepare_cached(
        "INSERT OR REPLACE INTO recipient (id, address, external_id, params, import, row) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (columns, facts) = (rows::columns(""), rows::FACTS.join(", "));
    let (all, of_facts) = (rows::REGISTER.len() + rows::FACTS.len(), rows::FACTS.len());
    let mut message =
        conn.prepare_cached(&format!("INSERT OR REPLACE INTO message ({columns}, id) VALUES ({})", marks(all + 1)))?;
    let mut attempt = conn.prepare_cached(&format!(
        "INSERT OR REPLACE INTO attempt ({facts}, message) VALUES ({})",
        marks(of_facts + 1)
    ))?;
    let mut used = conn.prepare_cached("INSERT OR IGNORE INTO line_use (line, campaign) VALUES (?1, ?2)")?;
    let (mut counts, mut failures) = (SegmentCounts::default(), BTreeMap::new());
    let mut lines = BTreeSet::new();
    for record in messages {
        let (id, state) = (row_id(record.key), &record.state);
        recipient.execute((
            id,
            record.address.as_ref(),
            record.external_id.as_deref(),
            record.params.as_ref(),
            number_of(imports, &record.origin.0)?,
            record.origin.1.cast_signed(),
        ))?;
        if let Some(newest) = &state.newest {
            bind_register(&mut message, state)?;
            bind_facts(&mut message, rows::REGISTER.len() + 1, newest)?;
            message.raw_bind_parameter(all + 1, id)?;
            message.raw_execute()?;
        }
        for older in &state.older {
            bind_facts(&mut attempt, 1, older)?;
            attempt.raw_bind_parameter(of_facts + 1, id)?;
            attempt.raw_execute()?;
        }
        lines.extend(state.newest.iter().chain(&state.older).map(|attempt| attempt.line.0));
        let facets = state.facets(campaign.end);
        counts.tally.add(&facets);
        counts.again += u64::from(waits_again(state));
        counts.untried += u64::from(state.newest.is_none());
        if let Some(code) = facets.failure_code {
            count_code(&mut failures, code, 1);
        }
    }
    for line in lines {
        used.execute((line, campaign.key.0))?;
    }
    let here = (campaign.key.0, number);
    conn.execute("DELETE FROM segment WHERE campaign = ?1 AND segment = ?2", here)?;
    conn.execute("DELETE FROM failure WHERE campaign = ?1 AND segment = ?2", here)?;
    if campaign.sealed.is_none() {
        return Ok(());
    }
    let mut insert = conn.prepare_cached(&insert_segment_sql())?;
    bind_segment(&mut insert, campaign.key, number, &Segment { counts, dirty: false })?;
    insert.raw_execute()?;
    for (code, count) in failures {
        conn.execute(
            "INSERT INTO failure (campaign, segment, code, count) VALUES (?1, ?2, ?3, ?4)",
            (campaign.key.0, number, code, count.cast_signed()),
        )?;
    }
    Ok(())
}
