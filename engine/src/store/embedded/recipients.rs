//! Imports: chunks of recipients, appended in order, safe to repeat.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::campaigns;
use super::error::{Try, damaged};
use super::rows::{optional_text, row_id, text};
use super::tallies::unsigned;
use crate::domain::ids::{CampaignKey, ImportId, MessageKey};
use crate::domain::time::UnixMillis;
use crate::store::paging;
use crate::store::rules;
use crate::store::{ChunkStored, ImportChunk, ImportRecord, Page, Paged, RefusedRow, StoreError};

/// Most places of a campaign: the last `seq` stays free, so that "behind the last" can be written down.
const PLACES_MAX: u32 = u32::MAX;

struct Import {
    number: u32,
    record: ImportRecord,
}

/// Appends one chunk.
pub(super) fn append(conn: &Connection, chunk: &ImportChunk) -> Try<ChunkStored> {
    rules::expect_whole(chunk)?;
    let target = campaigns::by_key(conn, chunk.campaign)?;
    rules::expect_open(&target, chunk)?;
    let import = match find_import(conn, chunk.campaign, &chunk.import)? {
        Some(import) => import,
        None => new_import(conn, chunk)?,
    };
    if !rules::goes_on(chunk, import.record.next_row)? {
        return repeated(conn, chunk, &import);
    }
    let end_seq = rules::end_behind(target.next_seq, chunk, PLACES_MAX)?;
    let mut insert = conn.prepare_cached(
        "INSERT INTO recipient (id, address, external_id, params, import, row) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (seq, recipient) in (target.next_seq..).zip(&chunk.recipients) {
        insert.raw_bind_parameter(1, row_id(MessageKey { campaign: chunk.campaign, seq }))?;
        insert.raw_bind_parameter(2, recipient.address.as_ref())?;
        insert.raw_bind_parameter(3, recipient.external_id.as_deref())?;
        insert.raw_bind_parameter(4, recipient.params.as_ref())?;
        insert.raw_bind_parameter(5, import.number)?;
        insert.raw_bind_parameter(6, recipient.row.cast_signed())?;
        insert.raw_execute()?;
    }
    refuse(conn, chunk.campaign, target.refused, &chunk.refused)?;
    let stored = rules::stored_with(&import.record, chunk);
    let (good, bad) = (chunk.recipients.len() as u64, chunk.refused.len() as u64);
    conn.prepare_cached("UPDATE campaign SET recipients = ?2, refused = ?3, next_seq = ?4 WHERE key = ?1")?.execute(
        (chunk.campaign.0, (target.recipients + good).cast_signed(), (target.refused + bad).cast_signed(), end_seq),
    )?;
    note_chunk(conn, chunk, import.number, &stored)?;
    Ok(stored)
}

fn repeated(conn: &Connection, chunk: &ImportChunk, import: &Import) -> Try<ChunkStored> {
    let offset = chunk.offset.cast_signed();
    let first = conn
        .prepare_cached(
            "SELECT digest, rows, stored_after, refused_after FROM import_chunk
             WHERE campaign = ?1 AND import = ?2 AND offset = ?3",
        )?
        .query_row((chunk.campaign.0, import.number, offset), |row| {
            let stored = ChunkStored {
                next_row: chunk.offset + u64::from(row.get::<_, u32>(1)?),
                repeated: true,
                stored: unsigned(row, 2)?,
                refused: unsigned(row, 3)?,
            };
            Ok((row.get::<_, [u8; 32]>(0)?, stored))
        })
        .optional()?;
    Ok(rules::repeated(chunk, import.record.next_row, first)?)
}

fn note_chunk(conn: &Connection, chunk: &ImportChunk, import: u32, stored: &ChunkStored) -> Try<()> {
    conn.prepare_cached(
        "UPDATE import SET next_row = ?3, stored = ?4, refused = ?5, updated_at = ?6 WHERE campaign = ?1 AND number = ?2",
    )?
    .execute((
        chunk.campaign.0,
        import,
        stored.next_row.cast_signed(),
        stored.stored.cast_signed(),
        stored.refused.cast_signed(),
        chunk.at.0,
    ))?;
    if chunk.rows > 0 {
        conn.prepare_cached(
            "INSERT INTO import_chunk (campaign, import, offset, rows, digest, stored_after, refused_after)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            chunk.campaign.0,
            import,
            chunk.offset.cast_signed(),
            chunk.rows,
            chunk.digest,
            stored.stored.cast_signed(),
            stored.refused.cast_signed(),
        ))?;
    }
    Ok(())
}

const IMPORT_COLUMNS: &str = "number, id, next_row, stored, refused, created_at, updated_at";

fn read_import(row: &Row<'_>) -> Try<Import> {
    let id = ImportId::new(&text(row, 1)?).map_err(damaged)?;
    let record = ImportRecord {
        id,
        next_row: unsigned(row, 2)?,
        stored: unsigned(row, 3)?,
        refused: unsigned(row, 4)?,
        created_at: UnixMillis(row.get(5)?),
        updated_at: UnixMillis(row.get(6)?),
    };
    Ok(Import { number: row.get(0)?, record })
}

fn find_import(conn: &Connection, campaign: CampaignKey, id: &ImportId) -> Try<Option<Import>> {
    let sql = format!("SELECT {IMPORT_COLUMNS} FROM import WHERE campaign = ?1 AND id = ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query((campaign.0, id.as_str()))?;
    rows.next()?.map(read_import).transpose()
}

fn new_import(conn: &Connection, chunk: &ImportChunk) -> Try<Import> {
    let number =
        conn.query_row("SELECT count(*) FROM import WHERE campaign = ?1", [chunk.campaign.0], |row| row.get(0))?;
    conn.execute(
        "INSERT INTO import (campaign, number, id, next_row, stored, refused, created_at, updated_at)
         VALUES (?1, ?2, ?3, 0, 0, 0, ?4, ?4)",
        (chunk.campaign.0, number, chunk.import.as_str(), chunk.at.0),
    )?;
    Ok(Import { number, record: rules::new_import(chunk) })
}

/// One import.
pub(super) fn import(conn: &Connection, campaign: CampaignKey, id: &ImportId) -> Try<ImportRecord> {
    campaigns::expect(conn, campaign)?;
    find_import(conn, campaign, id)?.map(|import| import.record).ok_or_else(|| StoreError::NotFound("import").into())
}

/// All imports of a campaign, in order of their first chunk.
pub(super) fn imports(conn: &Connection, campaign: CampaignKey) -> Try<Vec<ImportRecord>> {
    campaigns::expect(conn, campaign)?;
    let sql = format!("SELECT {IMPORT_COLUMNS} FROM import WHERE campaign = ?1 ORDER BY number");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([campaign.0])?;
    let mut imports = Vec::new();
    while let Some(row) = rows.next()? {
        imports.push(read_import(row)?.record);
    }
    Ok(imports)
}

/// Lists refused rows; `from`: how many the campaign has already.
pub(super) fn refuse(conn: &Connection, campaign: CampaignKey, from: u64, rows: &[RefusedRow]) -> Try<()> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO refused (campaign, number, import, row, field, reason, duplicate_import, duplicate_row)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (number, row) in (from..).zip(rows) {
        let (import, first_row) = row.duplicate_of.as_ref().map(|(import, row)| (import.as_str(), *row)).unzip();
        insert.execute((
            campaign.0,
            number.cast_signed(),
            row.import.as_str(),
            row.row.cast_signed(),
            row.field.as_ref(),
            row.reason.as_ref(),
            import,
            first_row.map(u64::cast_signed),
        ))?;
    }
    Ok(())
}

/// A page of refused rows, in order of refusal.
pub(super) fn refused_rows(conn: &Connection, campaign: CampaignKey, page: &Page) -> Try<Paged<RefusedRow>> {
    campaigns::expect(conn, campaign)?;
    let size = page.size.max(1);
    let sql = format!(
        "SELECT import, row, field, reason, duplicate_import, duplicate_row, number FROM refused
         WHERE campaign = ?1 AND number > ?2 ORDER BY number LIMIT {}",
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query((campaign.0, paging::number_after(page)?.unwrap_or(-1)))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let import = |name: Box<str>| ImportId::new(&name).map_err(damaged);
        let duplicate_of = match optional_text(row, 4)? {
            Some(name) => Some((import(name)?, unsigned(row, 5)?)),
            None => None,
        };
        let refused = RefusedRow {
            import: import(text(row, 0)?)?,
            row: unsigned(row, 1)?,
            field: text(row, 2)?,
            reason: text(row, 3)?,
            duplicate_of,
        };
        items.push((row.get::<_, i64>(6)?, refused));
    }
    let Paged { items, next } = paging::cut(items, size, |(number, _)| *number);
    Ok(Paged { items: items.into_iter().map(|(_, row)| row).collect(), next })
}
