//! What every store asks before it writes, and in which words it refuses. One place for all of them, so that none refuses what
//! another takes.

use serde::{Deserialize, Serialize};

use super::{
    ChunkStored, ImportChunk, ImportRecord, ImportRules, MessageFilter, MessageRecord, RefusedRow, StoreError,
    StoreResult,
};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::ImportId;
use crate::domain::line::{Line, Pool};
use crate::domain::stage::End;
use crate::domain::time::UnixMillis;

/// Shorthand for a refusal that says what to do.
fn conflict<T>(text: impl Into<String>) -> StoreResult<T> {
    Err(StoreError::Conflict(text.into()))
}

/// Fails unless the stored version is the one the caller saw.
pub(super) fn expect_version(found: u64, expected: u64) -> StoreResult<()> {
    if found == expected { Ok(()) } else { Err(StoreError::Version { expected, found }) }
}

/// Fails unless `changed` was made from what is stored. Rows that came meanwhile were checked against the rules that it may change.
pub(super) fn expect_seen(stored: &Campaign, changed: &Campaign) -> StoreResult<()> {
    expect_version(stored.version, changed.version)?;
    if stored.next_seq != changed.next_seq && ImportRules::of(stored) != ImportRules::of(changed) {
        return Err(StoreError::Version { expected: changed.version, found: stored.version });
    }
    Ok(())
}

/// What a creation with a request id makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Campaign,
    Line,
    Template,
}

impl Kind {
    /// The kind of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Campaign, Self::Line, Self::Template].into_iter().find(|kind| kind.name() == name)
    }

    /// The word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Campaign => "campaign",
            Self::Line => "line",
            Self::Template => "template",
        }
    }
}

/// A request id that made something of another kind.
pub(super) fn request_made<T>(kind: &str, id: &str) -> StoreResult<T> {
    conflict(format!("this request_id made the {kind} {id:?}; use a new one for each creation"))
}

/// A request id that made a campaign which is gone.
pub(super) fn request_made_deleted<T>(id: &str) -> StoreResult<T> {
    conflict(format!("this request_id made campaign {id:?}, which has been deleted"))
}

/// Fails unless a line may join this pool.
pub(super) fn expect_joinable(pool: &Pool, line: &Line) -> StoreResult<()> {
    if pool.kind == line.kind {
        return Ok(());
    }
    let (id, of, own) = (&pool.id, pool.kind.as_str(), line.kind.as_str());
    conflict(format!("pool {id} is of kind {of}, the line is of kind {own}: name another pool"))
}

/// The pool that a line names and that is not there yet.
pub(super) fn pool_of(line: &Line, now: UnixMillis) -> Pool {
    Pool {
        tenant: line.tenant.clone(),
        id: line.pool.clone(),
        version: 1,
        description: String::new(),
        kind: line.kind,
        created_at: now,
        updated_at: now,
    }
}

/// Fails unless a pool may become this.
pub(super) fn expect_same_pool(stored: &Pool, changed: &Pool) -> StoreResult<()> {
    expect_version(stored.version, changed.version)?;
    if stored.kind == changed.kind { Ok(()) } else { conflict("a pool keeps its kind: make a new one") }
}

/// Two lines with one identity would double its ceiling. The answer names the identity, not the other line: that may be another
/// tenant's.
pub(super) fn sender_taken(line: &Line) -> StoreError {
    StoreError::Exists { what: "a line that sends as", id: line.sender.text().to_owned() }
}

/// Fails unless every row of a chunk was stored or refused.
pub(super) fn expect_whole(chunk: &ImportChunk) -> StoreResult<()> {
    let sorted = chunk.recipients.len() + chunk.refused.len();
    if sorted == chunk.rows as usize {
        return Ok(());
    }
    Err(StoreError::Bug(format!("a chunk of {} rows with {sorted} sorted", chunk.rows)))
}

/// Fails unless a campaign still takes recipients that were checked as these were.
pub(super) fn expect_open(campaign: &Campaign, chunk: &ImportChunk) -> StoreResult<()> {
    let (state, sealed) = (campaign.state, campaign.sealed.is_some());
    if state != CampaignState::Draft || sealed {
        return conflict(format!(
            "the campaign is {}{}: recipients can be added to a draft only; clone the campaign and import there",
            state.name(),
            if sealed { " and its list is sealed" } else { "" }
        ));
    }
    if ImportRules::of(campaign) != chunk.rules {
        return conflict(
            "the campaign's template, pool or region changed since this import was opened, so its rows were checked against old rules: \
             open the import again and go on where it stands",
        );
    }
    Ok(())
}

/// A list that is being sealed.
pub(super) fn being_sealed<T>() -> StoreResult<T> {
    conflict("the campaign's list is being sealed: it takes no more recipients")
}

/// An import of which nothing is stored yet.
pub(super) fn new_import(chunk: &ImportChunk) -> ImportRecord {
    ImportRecord {
        id: chunk.import.clone(),
        next_row: 0,
        stored: 0,
        refused: 0,
        created_at: chunk.at,
        updated_at: chunk.at,
    }
}

/// Whether a chunk goes on where its import stands; false: it begins before that, and may be a repetition.
pub(super) fn goes_on(chunk: &ImportChunk, next_row: u64) -> StoreResult<bool> {
    if chunk.offset > next_row {
        return conflict(format!(
            "import {} goes on at row {next_row}, not at row {}: send the rows between first",
            chunk.import, chunk.offset
        ));
    }
    Ok(chunk.offset == next_row)
}

/// Where the list ends behind a chunk; `places_max`: the store's most.
pub(super) fn end_behind(next_seq: u32, chunk: &ImportChunk, places_max: u32) -> StoreResult<u32> {
    let good = u32::try_from(chunk.recipients.len()).unwrap_or(u32::MAX);
    match next_seq.checked_add(good).filter(|end| *end < places_max) {
        Some(end) => Ok(end),
        None => {
            conflict(format!("a campaign holds at most {places_max} recipients: put the rest into another campaign"))
        }
    }
}

/// What a chunk comes to behind what its import holds.
pub(super) fn stored_with(import: &ImportRecord, chunk: &ImportChunk) -> ChunkStored {
    ChunkStored {
        next_row: import.next_row + u64::from(chunk.rows),
        repeated: false,
        stored: import.stored + chunk.recipients.len() as u64,
        refused: import.refused + chunk.refused.len() as u64,
    }
}

/// The answer to a chunk from before `next_row`. `first`: the digest of the stored chunk that begins there, and what was answered.
pub(super) fn repeated(
    chunk: &ImportChunk,
    next_row: u64,
    first: Option<([u8; 32], ChunkStored)>,
) -> StoreResult<ChunkStored> {
    let (offset, import) = (chunk.offset, &chunk.import);
    match first {
        Some((digest, stored)) if digest == chunk.digest => Ok(stored),
        Some(_) => conflict(format!(
            "rows from {offset} of import {import} are stored with other content: an import is not changed, make a new campaign for a new list"
        )),
        None => conflict(format!(
            "rows up to {next_row} of import {import} are stored, and no stored chunk begins at row {offset}: go on at row {next_row}"
        )),
    }
}

/// A row that repeats an earlier one: `first` is that one's import and row.
pub(super) fn duplicate(import: ImportId, row: u64, field: &str, first: (ImportId, u64)) -> RefusedRow {
    RefusedRow {
        import,
        row,
        field: field.into(),
        reason: format!("the same as row {} of import {}", first.1, first.0).into(),
        duplicate_of: Some(first),
    }
}

/// Fails unless a campaign's list can be sealed.
pub(super) fn expect_sealable(campaign: &Campaign) -> StoreResult<()> {
    match campaign.state {
        CampaignState::Draft if campaign.recipients > 0 => Ok(()),
        CampaignState::Draft => conflict("the campaign has no recipients: import some before starting it"),
        state => conflict(format!("only a draft's list can be sealed; the campaign is {}", state.name())),
    }
}

/// Fails unless the list that was read has as many recipients as are counted.
pub(super) fn expect_counted(read: u64, counted: u64) -> StoreResult<()> {
    if read == counted {
        return Ok(());
    }
    Err(StoreError::Damaged(format!("a list of {read} recipients, counted as {counted}")))
}

/// Whether a message is one of the filter's.
pub(super) fn is_wanted(filter: &MessageFilter, record: &MessageRecord, end: Option<End>) -> bool {
    (filter.shown.is_empty() || filter.shown.contains(&record.shown))
        && filter.reached.is_none_or(|stage| record.state.reached >= stage)
        && (!filter.conflict || record.state.conflict)
        && (!filter.doubled || record.state.doubled)
        && filter.failure_code.is_none_or(|code| record.state.facets(end).failure_code == Some(code))
        && filter.external_id.as_deref().is_none_or(|id| record.external_id.as_deref() == Some(id))
        && filter.address.as_deref().is_none_or(|address| &*record.address == address)
}
