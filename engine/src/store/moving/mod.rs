//! Moving a whole ledger from one store into another: what a store must be able to do for it ([`Movable`]), the copying (`carry`)
//! and the proof that both hold the same (`compare`).
//!
//! Nothing is served meanwhile, and never both: before anything is copied the source is marked as leaving and the target as being
//! filled, and a marked ledger does not open for an engine. Everything is written as it stands, keys and the installation's secret
//! too, because correlation ids of messages long sent carry them. Whatever is written twice is the same twice, so a move that was
//! cut short is begun anew and goes on where it was.

mod carry;
mod compare;
mod segments;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::rules::Kind;
use super::{ImportRecord, InboundEvent, MessageRecord, Page, Paged, ParkedEvent, RefusedRow, Store, StoreError};
use super::{StoreResult, TemplateRecord};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, ImportId, TenantId};
use crate::domain::line::{Line, Pool};
use crate::domain::time::UnixMillis;

pub use self::carry::{Move, MoveError, Moved, Progress, Told, abandon, move_ledger};

/// What a move has to do with a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is being copied: still the truth, and closed to engines until the move is finished or given up.
    Leaving,
    /// It was copied and is not the truth any more.
    Left,
    /// It is being filled.
    Filling,
}

/// A ledger's part in a move. It stands in the ledger itself, so that no engine opens it by mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of this move: the same in both ledgers.
    pub id: String,
    /// What becomes of this one.
    pub role: Role,
    /// The other one, for people.
    pub other: String,
    /// When the move began.
    pub at: UnixMillis,
    /// While it is filled: the campaign under way, all before which are whole; 0: none yet.
    pub campaign: u32,
    /// And its first place that is not there yet.
    pub next_seq: u32,
}

impl Mark {
    /// Why an engine may not open the ledger, and what to do.
    pub(super) fn refusal(&self) -> String {
        let other = &self.other;
        match self.role {
            Role::Leaving => format!(
                "it is being moved to {other}: finish that with `sluice migrate`, or give it up with `sluice migrate --abandon` and go on here"
            ),
            Role::Left => format!(
                "it was moved to {other}, which is the ledger now: point [store] there; to come back, move that one into an empty place"
            ),
            Role::Filling => format!(
                "it holds a part of {other}, whose move is not finished: run `sluice migrate` again, or use an empty one"
            ),
        }
    }
}

/// The highest numbers that were given: none of them may be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Of campaigns.
    pub campaign: u32,
    /// Of lines.
    pub line: u32,
}

/// What a creation with a request id made: its repetition makes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Whose.
    pub tenant: TenantId,
    /// The id that the caller chose.
    pub request_id: String,
    /// What it made.
    pub(super) kind: Kind,
    /// The public id of that.
    pub id: String,
    /// Its key; of a template 0.
    pub key: u32,
}

/// A chunk of an import, as its repetition is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRecord {
    /// First row.
    pub offset: u64,
    /// Rows.
    pub rows: u32,
    /// SHA-256 over the rows as the caller sent them.
    pub digest: [u8; 32],
    /// What was answered: rows of the import stored so far.
    pub stored: u64,
    /// And refused.
    pub refused: u64,
}

/// A piece of a ledger, written as it stands over whatever a run before left of it.
#[derive(Debug, Clone)]
pub enum Part {
    /// Pools.
    Pools(Vec<Pool>),
    /// Lines with their keys; their pools are there.
    Lines(Vec<Line>),
    /// Templates.
    Templates(Vec<TemplateRecord>),
    /// Notes of creations.
    Requests(Vec<RequestRecord>),
    /// A campaign's record with its imports in order; none of its messages is there yet.
    Campaign(Box<Campaign>, Vec<ImportRecord>),
    /// Chunks of one import of a campaign.
    Chunks {
        /// The campaign.
        campaign: CampaignKey,
        /// Which of its imports, from 0.
        import: u32,
        /// In order.
        chunks: Vec<ChunkRecord>,
    },
    /// Refused rows of a campaign, from this number on.
    Refused {
        /// The campaign.
        campaign: CampaignKey,
        /// Number of the first.
        from: u64,
        /// In order.
        rows: Vec<RefusedRow>,
    },
    /// All messages of one segment, with all attempts; the counts follow from them.
    Segment {
        /// Its campaign.
        campaign: Arc<Campaign>,
        /// The ids of the campaign's imports, in order.
        imports: Arc<[ImportId]>,
        /// Which segment.
        number: u32,
        /// In order of `seq`.
        messages: Vec<MessageRecord>,
    },
    /// Orphans, newest first, from this place on.
    Orphans {
        /// When the move began: what the target dates them by.
        since: UnixMillis,
        /// Place of the first.
        from: u64,
        /// Newest first.
        events: Vec<ParkedEvent>,
    },
    /// Parked events, from this place on.
    Parked {
        /// When the move began.
        since: UnixMillis,
        /// Place of the first.
        from: u64,
        /// In any order.
        events: Vec<ParkedEvent>,
    },
    /// Entries kept for later features, oldest first, from this place on.
    Inbound {
        /// Place of the first.
        from: u64,
        /// Oldest first.
        events: Vec<InboundEvent>,
    },
}

/// What moving a ledger needs beside [`Store`]: the few things that no question of the engine names, and writing as it stands.
#[async_trait]
pub trait Movable: Store {
    /// Its part in a move.
    async fn mark(&self) -> StoreResult<Option<Mark>>;
    /// Writes its part in a move.
    async fn set_mark(&self, mark: Option<&Mark>) -> StoreResult<()>;
    /// Whether it holds nothing, and never gave a number away.
    async fn is_empty(&self) -> StoreResult<bool>;

    /// Everybody who has anything here.
    async fn tenants(&self) -> StoreResult<Vec<TenantId>>;
    /// The highest numbers given.
    async fn numbers(&self) -> StoreResult<Numbers>;
    /// A page of the notes of creations, in an order of the store's. Notes of creations that were cut short are none.
    async fn requests(&self, page: Page) -> StoreResult<Paged<RequestRecord>>;
    /// A page of the chunks of a campaign's import (from 0), in order of their rows.
    async fn chunks(&self, campaign: CampaignKey, import: u32, page: Page) -> StoreResult<Paged<ChunkRecord>>;
    /// A page of all orphans, newest first.
    async fn all_orphans(&self, page: Page) -> StoreResult<Paged<ParkedEvent>>;
    /// A page of all parked events.
    async fn all_parked(&self, page: Page) -> StoreResult<Paged<ParkedEvent>>;
    /// A page of all entries kept for later features, oldest first.
    async fn all_inbound(&self, page: Page) -> StoreResult<Paged<InboundEvent>>;

    /// Takes over the identity of another ledger: its secret for correlation ids, and the numbers that it has given.
    async fn adopt(&self, secret: [u8; 32], numbers: Numbers) -> StoreResult<()>;
    /// Writes a piece, durably; written again it changes nothing.
    async fn take(&self, part: Part) -> StoreResult<()>;
}

/// Something in the target's place that is not what is to be written there.
pub(super) fn taken<T>(what: &str) -> StoreResult<T> {
    Err(StoreError::Conflict(format!(
        "another {what} stands where this one belongs: use an empty ledger as the target"
    )))
}

/// Finds an import's number by its id.
pub(super) fn number_of(imports: &[ImportId], id: &ImportId) -> StoreResult<u32> {
    let found = imports.iter().position(|import| import == id).and_then(|number| u32::try_from(number).ok());
    found.ok_or_else(|| StoreError::Damaged("a recipient without its import".to_owned()))
}
