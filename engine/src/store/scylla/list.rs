//! A campaign's list: where it ends, what it counts, whether it is sealed, and how far each import got.
//!
//! A batch whose outcome nobody knew may land when others were written since; then it must change nothing. So every batch about a list writes
//! where the list ends, whether it is sealed, and that there is no import behind the last; and before the first one of a term all imports are
//! written as they stand. Within a term nobody goes on before the outcome is known; whatever an earlier term left behind is dated before all
//! that. The list ends where its recipients do, no import is further than they are, and what was appended to is not sealed. Only the chunk of
//! such a batch can appear; it begins where its import goes on, so that nobody asks for it before the import went on there, with a chunk that
//! overwrites it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use tokio::sync::OwnedMutexGuard;

use super::campaigns;
use super::cql::{Cql, Unit};
use super::error::damaged;
use super::hot::Hot;
use super::imports::Import;
use crate::domain::ids::{CampaignKey, ImportId};
use crate::domain::time::UnixMillis;
use crate::store::{ImportRecord, StoreError, StoreResult};

/// Stands in the place of the time of a seal: the list is not sealed, whatever else is there of one.
pub(super) const NOT_SEALED: i64 = i64::MIN;

/// Imports in one batch, about 150 bytes each: servers warn from 5 KB on.
const IMPORTS_A_BATCH: usize = 25;

/// `(number, id, next_row, stored, refused, duplicates, created_at, updated_at)`, and of the list `(recipients, refused, next_seq)`.
#[rustfmt::skip]
type ImportRow = (
    i64, Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>,
    Option<i64>, Option<i64>, Option<i64>,
);

/// A list as it stands.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    /// Rows that were stored; the seal refuses some of them.
    pub(super) recipients: u64,
    /// Rows that were refused at their import.
    pub(super) refused: u64,
    pub(super) next_seq: u32,
    /// In order of their first chunk.
    pub(super) imports: Vec<Import>,
}

/// What seals a list.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    pub(super) at: UnixMillis,
    pub(super) digest: String,
    /// Rows that it refused, by import.
    pub(super) duplicates: BTreeMap<i32, u64>,
}

fn millis(at: Option<i64>) -> UnixMillis {
    UnixMillis(at.unwrap_or_default())
}

fn count(number: Option<i64>) -> u64 {
    number.map_or(0, i64::unsigned_abs)
}

/// Reads a list by one statement, so that each batch is in it whole or not at all. Without imports it is empty: the first one writes all
/// that there is.
pub(super) async fn read(cql: &Cql, key: CampaignKey) -> StoreResult<List> {
    let rows: Vec<ImportRow> = cql.rows(&cql.st.imports, (key.0.cast_signed(),)).await?;
    let mut list = List::default();
    for (
        number,
        id,
        next_row,
        stored,
        refused,
        duplicates,
        created_at,
        updated_at,
        recipients,
        all_refused,
        next_seq,
    ) in rows
    {
        // The number of the next import has a row that names none: see `unit`.
        let Some(id) = id.filter(|id| !id.is_empty()) else { continue };
        let record = ImportRecord {
            id: ImportId::new(&id).map_err(damaged)?,
            next_row: count(next_row),
            stored: count(stored),
            refused: count(refused),
            created_at: millis(created_at),
            updated_at: millis(updated_at),
        };
        let number = i32::try_from(number).map_err(damaged)?;
        list.imports.push(Import { number, record, duplicates: count(duplicates) });
        (list.recipients, list.refused) = (count(recipients), count(all_refused));
        list.next_seq = u32::try_from(count(next_seq)).map_err(damaged)?;
    }
    Ok(list)
}

/// All imports as they stand, with what a seal refused of each: a few to a batch.
pub(super) fn imports(cql: &Cql, key: CampaignKey, list: &List, seal: Option<&Seal>) -> Vec<Unit> {
    let some = |imports: &[Import]| {
        let mut unit = Unit::new();
        for import in imports {
            push_import(&mut unit, cql, key, import);
            if let Some(seal) = seal {
                let refused = seal.duplicates.get(&import.number).copied().unwrap_or_default();
                let values = (refused.cast_signed(), key.0.cast_signed(), i64::from(import.number));
                unit.push(&cql.st.write_import_duplicates, values);
            }
        }
        unit
    };
    list.imports.chunks(IMPORTS_A_BATCH).map(some).collect()
}

/// One import as it stands.
pub(super) fn push_import(unit: &mut Unit, cql: &Cql, key: CampaignKey, Import { number, record, .. }: &Import) {
    let (stored, refused) = (record.stored.cast_signed(), record.refused.cast_signed());
    let (next_row, from, to) = (record.next_row.cast_signed(), record.created_at.0, record.updated_at.0);
    let place = (key.0.cast_signed(), i64::from(*number));
    unit.push(&cql.st.write_import, (record.id.to_string(), next_row, stored, refused, from, to, place.0, place.1));
}

/// Where a list ends, that there is no import behind its last, and whether it is sealed.
pub(super) fn end(cql: &Cql, key: CampaignKey, list: &List, seal: Option<&Seal>) -> Unit {
    let key = key.0.cast_signed();
    let mut unit = Unit::new();
    let (recipients, refused) = (list.recipients.cast_signed(), list.refused.cast_signed());
    let sealed_at = seal.map_or(NOT_SEALED, |seal| seal.at.0);
    unit.push(&cql.st.write_list, (recipients, refused, i64::from(list.next_seq), sealed_at, key));
    if let Some(seal) = seal {
        let duplicates: u64 = seal.duplicates.values().sum();
        unit.push(&cql.st.write_seal, (seal.digest.clone(), duplicates.cast_signed(), key));
    }
    // An import that began and was never heard of again must not appear behind them.
    let next = list.imports.last().map_or(0, |import| i64::from(import.number) + 1);
    unit.push(&cql.st.write_import, (String::new(), 0_i64, 0_i64, 0_i64, 0_i64, 0_i64, key, next));
    unit
}

/// Writes what became of a list: `imports`, where they have to be written as they stand, then what changes it. It is held until the outcome
/// is known, so that nobody goes on from either; the caller waits no longer than patience lasts.
pub(super) async fn write(
    cql: &Arc<Cql>,
    hot: &Arc<Hot>,
    turn: OwnedMutexGuard<()>,
    imports: Vec<Unit>,
    end: Unit,
) -> StoreResult<()> {
    let task = tokio::spawn({
        let (cql, hot) = (Arc::clone(cql), Arc::clone(hot));
        async move {
            let _turn = turn;
            let written = write_all(&cql, &hot, imports, end).await;
            let _alone = hot.gate.write().await;
            match campaigns::stored(&cql, hot.key).await {
                Ok(now) if written.is_ok() && now.record.sealed.is_none() => hot.set_head(&now),
                _ => {
                    hot.doubt_head();
                    // Else whoever asks for it next reads it.
                    let _ = hot.refresh(&cql).await;
                }
            }
            written
        }
    });
    match tokio::time::timeout(cql.patience, task).await {
        Ok(Ok(written)) => written,
        Ok(Err(panic)) => Err(StoreError::Bug(panic.to_string())),
        Err(_) => Err(StoreError::Unavailable(
            "it is not known whether the campaign's list was written: try again".to_owned(),
        )),
    }
}

async fn write_all(cql: &Cql, hot: &Hot, imports: Vec<Unit>, mut end: Unit) -> StoreResult<()> {
    for mut unit in imports {
        cql.stamp_in(hot.term, &mut unit)?;
        cql.write_out(&unit, |_| {}).await?;
    }
    hot.imports_written.store(true, Release);
    cql.stamp_in(hot.term, &mut end)?;
    cql.write_out(&end, |_| {}).await
}
