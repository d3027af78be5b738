//! The plain records that go in and out of the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{AccountId, CampaignKey, ImportId, MessageKey, PoolId, TemplateId, TenantId};
use crate::domain::message::{Event, MessageState};
use crate::domain::stage::{Shown, Stage};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;

/// A creation's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Created<T> {
    /// What is stored.
    pub record: T,
    /// False: an earlier call with the same `request_id` made it.
    pub fresh: bool,
}

/// Which page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Most items; at least 1.
    pub size: usize,
    /// Where to go on: what the page before gave.
    pub after: Option<Vec<u8>>,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where to go on; `None`: this was the last.
    pub next: Option<Vec<u8>>,
}

/// Which campaigns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CampaignFilter {
    /// Whose; `None` only for the engine itself.
    pub tenant: Option<TenantId>,
    /// In any of these states; empty: all.
    pub states: Vec<CampaignState>,
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Created at or after.
    pub created_from: Option<UnixMillis>,
    /// Created before.
    pub created_before: Option<UnixMillis>,
    /// Ended, not yet settled (the engine's question at start).
    pub unsettled: bool,
}

/// Which lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineFilter {
    /// Whose; `None` only for the engine itself.
    pub tenant: Option<TenantId>,
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// Of this account.
    pub account: Option<AccountId>,
}

/// A template as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Its public id.
    pub id: TemplateId,
    /// Rises with every put; the etag.
    pub version: u64,
    /// JSON of `domain::template::Template`.
    pub definition: Arc<str>,
    /// First put.
    pub created_at: UnixMillis,
    /// Last put.
    pub updated_at: UnixMillis,
}

/// One validated recipient, on its way into the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecipient {
    /// The row of the import it came from.
    pub row: u64,
    /// E.164 with `+`.
    pub address: Box<str>,
    /// The caller's own id.
    pub external_id: Option<Box<str>>,
    /// Parameters in slot order, a JSON array of strings.
    pub params: Box<str>,
}

/// A row that is not a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// The import.
    pub import: ImportId,
    /// The row, from 0.
    pub row: u64,
    /// The field that is wrong.
    pub field: Box<str>,
    /// Why, for people.
    pub reason: Box<str>,
    /// A duplicate: the import and row of the first.
    pub duplicate_of: Option<(ImportId, u64)>,
}

/// What the rows of an import were checked against: as the campaign stood when the import was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRules {
    /// The template.
    pub template: TemplateId,
    /// Its version as frozen in the campaign.
    pub template_version: u64,
    /// The pool, whose kind says what a row may hold.
    pub pool: PoolId,
    /// The region whose national formats were read.
    pub region: Option<String>,
}

impl ImportRules {
    /// The rules of a campaign as it stands.
    pub fn of(campaign: &Campaign) -> Self {
        Self {
            template: campaign.template.clone(),
            template_version: campaign.template_version,
            pool: campaign.pool.clone(),
            region: campaign.settings.region.clone(),
        }
    }
}

/// One chunk of an import: rows `[offset, offset + rows)`, sorted into good and bad by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportChunk {
    /// The campaign.
    pub campaign: CampaignKey,
    /// The import.
    pub import: ImportId,
    /// What its rows were checked against.
    pub rules: ImportRules,
    /// First row.
    pub offset: u64,
    /// Rows in the chunk, good and bad together.
    pub rows: u32,
    /// SHA-256 over the rows as the caller sent them.
    pub digest: [u8; 32],
    /// The good ones, in order.
    pub recipients: Vec<NewRecipient>,
    /// The bad ones.
    pub refused: Vec<RefusedRow>,
    /// Now.
    pub at: UnixMillis,
}

/// The answer to a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkStored {
    /// All rows below this are durable: where to go on.
    pub next_row: u64,
    /// The chunk had been stored before.
    pub repeated: bool,
    /// Stored in this import so far.
    pub stored: u64,
    /// Refused in this import so far.
    pub refused: u64,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRecord {
    /// Its name.
    pub id: ImportId,
    /// All rows below this are durable.
    pub next_row: u64,
    /// Stored so far.
    pub stored: u64,
    /// Refused so far.
    pub refused: u64,
    /// First chunk.
    pub created_at: UnixMillis,
    /// Last chunk.
    pub updated_at: UnixMillis,
}

/// A message that may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSend {
    /// Which.
    pub key: MessageKey,
    /// E.164 with `+`.
    pub address: Box<str>,
    /// Parameters in slot order, a JSON array of strings.
    pub params: Box<str>,
    /// The number that its next intent carries.
    pub next_attempt: u16,
    /// What its retry budget has paid.
    pub retries: u8,
}

/// A run of never-tried recipients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Window {
    /// In order of `seq`.
    pub messages: Vec<ToSend>,
    /// Where to go on; `None`: no more.
    pub next_seq: Option<u32>,
}

/// An attempt with an intent and no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenAttempt {
    /// The message.
    pub key: MessageKey,
    /// The attempt.
    pub attempt: u16,
}

/// One change of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The message.
    pub key: MessageKey,
    /// What happened.
    pub event: Event,
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryResult {
    /// It changed the message.
    Applied,
    /// Nothing new.
    NoChange,
    /// It does not fit (see `Applied::Refused`); nothing was changed.
    Refused,
    /// There is no such message.
    Unknown,
    /// Another node owns its campaign: nothing was changed.
    Elsewhere,
}

/// A commit's result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// One per entry, in order.
    pub results: Vec<EntryResult>,
    /// The tallies after the commit, of every campaign that was touched.
    pub tallies: Vec<(CampaignKey, Tally)>,
    /// Number of the ledger's write that this was; rises within a process, so that an older tally never replaces a newer one.
    pub revision: u64,
}

/// A campaign's counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// The tally.
    pub tally: Tally,
    /// Messages shown as failed, by the provider's code.
    pub failures: BTreeMap<u32, u64>,
    /// The write after which they stood so; see [`Committed::revision`].
    pub revision: u64,
}

/// The sum over a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantTotals {
    /// Campaigns by state.
    pub campaigns: BTreeMap<CampaignState, u64>,
    /// Their tallies added up.
    pub tally: Tally,
    /// Rows that their imports and seals refused.
    pub refused: u64,
}

/// One message as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// Which.
    pub key: MessageKey,
    /// E.164 with `+`.
    pub address: Box<str>,
    /// The caller's own id.
    pub external_id: Option<Box<str>>,
    /// Parameters in slot order, a JSON array of strings.
    pub params: Box<str>,
    /// The import and the row of it, from 0, that it came from.
    pub origin: (ImportId, u64),
    /// What is shown, given how the campaign ended.
    pub shown: Shown,
    /// The state; `older` is filled where asked for.
    pub state: MessageState,
}

/// Which messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageFilter {
    /// Shown as any of these; empty: all.
    pub shown: Vec<Shown>,
    /// Reached at least this stage.
    pub reached: Option<Stage>,
    /// Failed with this code.
    pub failure_code: Option<u32>,
    /// With this external id.
    pub external_id: Option<String>,
    /// With this address (E.164 with `+`).
    pub address: Option<String>,
    /// Only conflicts.
    pub conflict: bool,
    /// Only doubles.
    pub doubled: bool,
    /// Load older attempts too.
    pub all_attempts: bool,
}

/// An event that nobody can place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Assigned by the store.
    pub id: u64,
    /// The verified account it came for.
    pub account: AccountId,
    /// The line's identity at the provider, if the event names it.
    pub sender: Option<Box<str>>,
    /// The provider's id of the message.
    pub provider_id: Box<str>,
    /// The message and attempt, when a correlation id of ours named them.
    pub attempt: Option<(MessageKey, u16)>,
    /// What was reported, as `Event::Report` or `Event::Echoed` (its attempt number is set when it is placed).
    pub event: Event,
    /// When it came.
    pub at: UnixMillis,
    /// Look again then.
    pub look_at: UnixMillis,
    /// Becomes an orphan then.
    pub deadline: UnixMillis,
}

/// What becomes of a parked event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedMove {
    /// It was placed.
    Placed,
    /// Look again then.
    LookAgain(UnixMillis),
    /// Its deadline passed.
    Orphaned,
}

/// Counts of events without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ParkedCounts {
    /// Waiting.
    pub parked: u64,
    /// Kept for people.
    pub orphans: u64,
    /// Age of the oldest waiting one.
    pub oldest: Duration,
}

/// A webhook entry kept for later features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundEvent {
    /// The verified account.
    pub account: AccountId,
    /// What it is: a word of [`OtherKind`](crate::webhook::OtherKind), or `bad`.
    pub kind: Box<str>,
    /// The provider's id, for de-duplication; empty: none.
    pub provider_id: Box<str>,
    /// JSON: `raw`, the text as it came, beside what was said around it (`field`, `owner`, `sender`, `service`, `provider_at`, `reason`).
    pub body: Box<str>,
    /// When it came.
    pub at: UnixMillis,
}

/// A backup's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Bytes written.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// What a store says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreHealth {
    /// False: writes fail now.
    pub writable: bool,
    /// Entries that wait for the commit under way.
    pub queued_entries: u64,
    /// Age of the oldest of them: the commit lag.
    pub commit_lag: Duration,
    /// Bytes on disk; 0 where only the servers know.
    pub bytes: u64,
}
