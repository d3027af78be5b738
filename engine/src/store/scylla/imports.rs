//! Imports: chunks of recipients, appended in order, safe to repeat.
//!
//! First the recipients, at places behind the list's end where nobody looks; then, in one batch of the campaign's partition, the
//! list as it stands from then on ([`list`]) and the chunk. What a crash leaves behind the end is overwritten by the next chunk: all
//! columns are always written.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::cache::Cache;
use super::campaigns;
use super::cql::{Cql, Unit};
use super::error::{conflict, damaged};
use super::hot::Hot;
use super::list::{self, List};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, ImportId, SEGMENT_LEN};
use crate::store::paging;
use crate::store::rules;
use crate::store::{ChunkStored, ImportChunk, ImportRecord, Page, Paged, RefusedRow, StoreResult};

/// Most places of a campaign: `seq` is an `int`.
const PLACES_MAX: u32 = i32::MAX as u32;

/// Refused rows of one partition.
const REFUSED_A_BUCKET: u64 = 8_192;

/// Batches of one chunk under way at once.
const WRITES: usize = 8;

/// `(number, import, row, field, reason, first import, first row)`.
#[rustfmt::skip]
type RefusedRecord = (
    i64, Option<String>, Option<i64>, Option<String>, Option<String>, Option<String>, Option<i64>,
);

/// An import as it is stored.
#[derive(Debug, Clone)]
pub(super) struct Import {
    pub(super) number: i32,
    pub(super) record: ImportRecord,
    /// Rows of it that a seal refused. They count as stored in the record, and mean nothing as long as the list is not sealed.
    pub(super) duplicates: u64,
}

/// The partition of a refused row.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a campaign has fewer than 2^31 places
pub(super) fn refused_bucket(number: u64) -> i32 {
    (number / REFUSED_A_BUCKET) as i32
}

fn count(number: Option<i64>) -> u64 {
    number.map_or(0, i64::unsigned_abs)
}

/// All imports, in order of their first chunk; duplicates that the seal found count as refused.
pub(super) async fn all(cql: &Cql, campaign: &Campaign) -> StoreResult<Vec<ImportRecord>> {
    let imports = list::read(cql, campaign.key).await?.imports;
    let shown = |Import { mut record, duplicates, .. }: Import| {
        if campaign.sealed.is_some() {
            record.stored = record.stored.saturating_sub(duplicates);
            record.refused += duplicates;
        }
        record
    };
    Ok(imports.into_iter().map(shown).collect())
}

/// Ids of a campaign's imports by number, of all up to this one. They are read when one is asked for that is not known.
pub(super) async fn names(cql: &Cql, hot: &Hot, up_to: Option<i32>) -> StoreResult<Vec<ImportId>> {
    let known = hot.imports.lock().clone();
    let Some(up_to) = up_to.and_then(|number| usize::try_from(number).ok()).filter(|number| *number >= known.len())
    else {
        return Ok(known);
    };
    let campaign = campaigns::by_key(cql, hot.key).await?;
    let read: Vec<ImportId> = all(cql, &campaign).await?.into_iter().map(|import| import.id).collect();
    if up_to >= read.len() {
        return Err(damaged("a recipient without its import"));
    }
    hot.imports.lock().clone_from(&read);
    Ok(read)
}

/// Appends one chunk.
pub(super) async fn append(cache: &Cache, chunk: &ImportChunk) -> StoreResult<ChunkStored> {
    rules::expect_whole(chunk)?;
    let hot = cache.hot(chunk.campaign).await?;
    let turn = match Arc::clone(&hot.list).try_lock_owned() {
        Ok(turn) => turn,
        Err(_) if hot.is_sealing() => return rules::being_sealed(),
        Err(_) => hot.turn(cache.cql.patience).await?,
    };
    let cql = &cache.cql;
    hot.expect_ours(cql)?;
    rules::expect_open(&campaigns::by_key(cql, chunk.campaign).await?, chunk)?;
    let mut list = list::read(cql, chunk.campaign).await?;
    let found = list.imports.iter().position(|import| import.record.id == chunk.import);
    let import = match found {
        Some(found) => list.imports[found].clone(),
        None => Import {
            number: i32::try_from(list.imports.len()).unwrap_or(i32::MAX),
            record: rules::new_import(chunk),
            duplicates: 0,
        },
    };
    if !rules::goes_on(chunk, import.record.next_row)? {
        return repeated(cql, chunk, &import).await;
    }
    let end_seq = rules::end_behind(list.next_seq, chunk, PLACES_MAX)?;
    write_recipients(cache, &hot, chunk, list.next_seq, import.number).await?;
    let refused = refused_units(cql, chunk.campaign, list.refused, &chunk.refused);
    stream::iter(refused)
        .map(|unit| cql.write_unit_in(hot.term, unit))
        .buffer_unordered(WRITES)
        .try_collect::<()>()
        .await?;
    let stored = rules::stored_with(&import.record, chunk);
    list.recipients += chunk.recipients.len() as u64;
    list.refused += chunk.refused.len() as u64;
    list.next_seq = end_seq;
    let as_read = if hot.imports_written.load(Acquire) { Vec::new() } else { list::imports(cql, hot.key, &list, None) };
    let record = ImportRecord {
        next_row: stored.next_row,
        stored: stored.stored,
        refused: stored.refused,
        updated_at: chunk.at,
        ..import.record
    };
    let import = Import { record, ..import };
    let end = list_unit(cql, chunk, &mut list, import, found);
    list::write(cql, &hot, turn, as_read, end).await?;
    Ok(stored)
}

async fn write_recipients(
    cache: &Cache,
    hot: &Hot,
    chunk: &ImportChunk,
    from_seq: u32,
    import: i32,
) -> StoreResult<()> {
    let cql = &cache.cql;
    let mut units: Vec<Unit> = Vec::new();
    let (mut bytes, mut of_segment) = (0, u32::MAX);
    for (seq, recipient) in (from_seq..).zip(&chunk.recipients) {
        let external_id = recipient.external_id.as_deref().unwrap_or_default();
        let room = recipient.address.len() + external_id.len() + recipient.params.len() + 100;
        if room > cache.limits.bytes_fail {
            return conflict(format!(
                "row {} has {room} bytes, a batch of this ledger at most {}: shorten its parameters, or raise [store.scylla] batch_kib_fail",
                recipient.row, cache.limits.bytes_fail
            ));
        }
        let full = units.last().is_none_or(|unit| unit.len() >= cache.limits.rows);
        if full || seq / SEGMENT_LEN != of_segment || bytes + room > cache.limits.bytes {
            units.push(Unit::new());
            (bytes, of_segment) = (0, seq / SEGMENT_LEN);
        }
        bytes += room;
        let (tenant, campaign, segment) = hot.partition(of_segment);
        // No cell may be left as it was: see above. The empty text stands for no external id.
        let values = (
            recipient.address.to_string(),
            external_id.to_owned(),
            recipient.params.to_string(),
            import,
            recipient.row.cast_signed(),
            false,
            tenant,
            campaign,
            segment,
            seq.cast_signed(),
        );
        if let Some(unit) = units.last_mut() {
            unit.push(&cql.st.write_recipient, values);
        }
    }
    stream::iter(units).map(|unit| cql.write_unit_in(hot.term, unit)).buffer_unordered(WRITES).try_collect::<()>().await
}

/// Refused rows as batches; `from`: how many the campaign has already.
pub(super) fn refused_units(cql: &Cql, campaign: CampaignKey, from: u64, rows: &[RefusedRow]) -> Vec<Unit> {
    let mut units: Vec<(i32, Unit)> = Vec::new();
    for (number, row) in (from..).zip(rows) {
        let bucket = refused_bucket(number);
        if units.last().is_none_or(|(of, unit)| *of != bucket || unit.len() >= 200) {
            units.push((bucket, Unit::new()));
        }
        let (first_import, first_row) = match &row.duplicate_of {
            Some((import, row)) => (import.to_string(), row.cast_signed()),
            None => (String::new(), 0),
        };
        let values = (
            row.import.to_string(),
            row.row.cast_signed(),
            row.field.to_string(),
            row.reason.to_string(),
            first_import,
            first_row,
            campaign.0.cast_signed(),
            bucket,
            number.cast_signed(),
        );
        if let Some((_, unit)) = units.last_mut() {
            unit.push(&cql.st.write_refused, values);
        }
    }
    units.into_iter().map(|(_, unit)| unit).collect()
}

/// Where the list ends with this import as it is now, and the chunk.
fn list_unit(cql: &Cql, chunk: &ImportChunk, list: &mut List, import: Import, found: Option<usize>) -> Unit {
    let (number, stored, refused) = (import.number, import.record.stored, import.record.refused);
    match found {
        Some(found) => list.imports[found] = import.clone(),
        None => list.imports.push(import.clone()),
    }
    let mut unit = list::end(cql, chunk.campaign, list, None);
    list::push_import(&mut unit, cql, chunk.campaign, &import);
    if chunk.rows > 0 {
        let values = (
            chunk.rows.cast_signed(),
            chunk.digest.to_vec(),
            stored.cast_signed(),
            refused.cast_signed(),
            chunk.campaign.0.cast_signed(),
            number,
            chunk.offset.cast_signed(),
        );
        unit.push(&cql.st.write_chunk, values);
    }
    unit
}

async fn repeated(cql: &Cql, chunk: &ImportChunk, import: &Import) -> StoreResult<ChunkStored> {
    type ChunkRow = (Option<i32>, Option<Vec<u8>>, Option<i64>, Option<i64>);
    let values = (chunk.campaign.0.cast_signed(), import.number, chunk.offset.cast_signed());
    let row: Option<ChunkRow> = cql.row(&cql.st.chunk, values).await?;
    let first = match row {
        Some((rows, Some(digest), stored, refused)) => {
            let digest = <[u8; 32]>::try_from(digest).map_err(|_| damaged("a chunk's digest of another length"))?;
            let next_row = chunk.offset + u64::from(rows.map_or(0, i32::unsigned_abs));
            Some((digest, ChunkStored { next_row, repeated: true, stored: count(stored), refused: count(refused) }))
        }
        _ => None,
    };
    rules::repeated(chunk, import.record.next_row, first)
}

/// A page of refused rows, in order of refusal.
pub(super) async fn refused_rows(cql: &Cql, key: CampaignKey, page: &Page) -> StoreResult<Paged<RefusedRow>> {
    let campaign = campaigns::by_key(cql, key).await?;
    let size = page.size.max(1);
    let mut number = paging::number_after(page)?.map_or(0, |last| last.unsigned_abs() + 1);
    let mut items = Vec::new();
    // Rows behind the count are of a chunk that was not finished.
    while items.len() <= size && number < campaign.refused {
        let (bucket, room) = (refused_bucket(number), i32::try_from(size + 1 - items.len()).unwrap_or(i32::MAX));
        let values = (key.0.cast_signed(), bucket, number.cast_signed(), room);
        let rows: Vec<RefusedRecord> = cql.rows(&cql.st.refused, values).await?;
        for (at, import, row, field, reason, first_import, first_row) in rows {
            if at.cast_unsigned() >= campaign.refused {
                break;
            }
            let import_of = |name: Option<String>| ImportId::new(&name.unwrap_or_default()).map_err(damaged);
            let duplicate_of = match first_import.filter(|name| !name.is_empty()) {
                Some(name) => Some((import_of(Some(name))?, count(first_row))),
                None => None,
            };
            let refused = RefusedRow {
                import: import_of(import)?,
                row: count(row),
                field: field.unwrap_or_default().into(),
                reason: reason.unwrap_or_default().into(),
                duplicate_of,
            };
            items.push((at, refused));
        }
        number = (u64::from(bucket.unsigned_abs()) + 1) * REFUSED_A_BUCKET;
    }
    let Paged { items, next } = paging::cut(items, size, |(number, _)| *number);
    Ok(Paged { items: items.into_iter().map(|(_, row)| row).collect(), next })
}
