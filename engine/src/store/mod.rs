//! The ledger's contract: domain verbs, batch-shaped; no driver type leaks.
//!
//! What every implementation promises (and the conformance suite checks):
//! 1. A call that returned `Ok` is durable. A call that returned an error changed nothing that a repetition would not repeat.
//! 2. Messages and tallies move in one atomic step: after any crash, tally = recount.
//! 3. [`Store::commit`] applies its entries in order; each by [`crate::domain::message::MessageState::apply`].
//! 4. Records change only from the version the caller saw.
//! 5. Creations with a `request_id` already used by the tenant return what was created then.

#[cfg(test)]
pub(crate) mod conformance;
pub mod embedded;
pub mod moving;
mod paging;
pub mod record;
mod rules;
pub mod scylla;
mod step;
mod text;

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::campaign::Campaign;
use crate::domain::ids::{
    AccountId, CampaignId, CampaignKey, ImportId, LineId, LineKey, MessageKey, PoolId, TemplateId, TenantId,
};
use crate::domain::line::{Line, Pool};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::nodes::{Lease, Ownership};

pub use record::*;

/// Why a store call failed, by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store is away or full for now: stop sending, answer "unavailable", try again later. Nothing was changed.
    #[error("the ledger cannot be written or read now: {0}")]
    Unavailable(String),
    /// Another write came first, or the record is not what the caller saw: read again.
    #[error("the record changed meanwhile: version {found} is stored, {expected} was expected")]
    Version {
        /// What the caller saw.
        expected: u64,
        /// What is stored.
        found: u64,
    },
    /// No such record.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Something with this identity exists already.
    #[error("{what} {id:?} exists already")]
    Exists {
        /// The kind of record.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The call does not fit the record's state (for example an import into a sealed campaign); says what to do.
    #[error("{0}")]
    Conflict(String),
    /// What the call is about belongs to another node, now or since a moment: ask that one. Nothing was changed.
    #[error("not this node's: {0}")]
    Elsewhere(String),
    /// The data is damaged or of an unknown version: a person must look. Nothing was changed.
    #[error("the ledger is damaged or not readable: {0}")]
    Damaged(String),
    /// An error of our own.
    #[error("a defect in the ledger's code: {0}")]
    Bug(String),
}

/// Result of a store call.
pub type StoreResult<T> = Result<T, StoreError>;

/// The durable record of campaigns, messages, attempts and tallies: the one truth.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    // --- installation ---

    /// The installation's secret for correlation ids: 32 random bytes made with the ledger and never changed.
    async fn installation_secret(&self) -> StoreResult<[u8; 32]>;

    /// Writes a consistent copy to `path` on this machine while running; refuses an existing file.
    async fn backup(&self, path: &std::path::Path) -> StoreResult<BackupReport>;

    /// Finishes what is queued and closes. Later calls fail with [`StoreError::Unavailable`].
    async fn close(&self) -> StoreResult<()>;

    // --- records ---

    /// Stores a new campaign and assigns its key; `key`, `version` of the argument are ignored.
    async fn create_campaign(&self, campaign: Campaign, request_id: Option<&str>) -> StoreResult<Created<Campaign>>;
    /// What an earlier call with this `request_id` created; `None`: nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it made something else, or the campaign was deleted since.
    async fn created_campaign(&self, tenant: &TenantId, request_id: &str) -> StoreResult<Option<Campaign>>;
    /// Replaces the record if the stored version is `campaign.version`; returns it with the next version.
    /// The fields `recipients`, `refused`, `next_seq`, `sealed` and `end` are the store's own and are kept as stored; when they
    /// move (an import, the seal), the version stays, so that callers need not read again for what they did not change. One who
    /// changes the rules of imports ([`ImportRules`]) must have seen every row: where `next_seq` is not the stored one, that is
    /// [`StoreError::Version`] too.
    async fn update_campaign(&self, campaign: Campaign) -> StoreResult<Campaign>;
    /// By its public id.
    async fn campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Campaign>;
    /// By its key.
    async fn campaign_by_key(&self, key: CampaignKey) -> StoreResult<Campaign>;
    /// A page in order of key, newest first. Counts are those of the returned moment.
    async fn list_campaigns(&self, filter: &CampaignFilter, page: Page) -> StoreResult<Paged<(Campaign, Tally)>>;
    /// Removes a campaign and all that belongs to it, in steps that leave the rest usable: it is unknown from the first step on, and
    /// removed altogether when this returns, or some time after the next start if that comes between.
    async fn delete_campaign(&self, key: CampaignKey, version: u64) -> StoreResult<()>;

    /// Stores a new line, and its pool if that is new; assigns its key. The sender identity must be new to the installation.
    async fn create_line(&self, line: Line, request_id: Option<&str>) -> StoreResult<Created<Line>>;
    /// Replaces the record if the stored version is `line.version`.
    async fn update_line(&self, line: Line) -> StoreResult<Line>;
    /// By its public id.
    async fn line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Line>;
    /// All lines of the filter, in order of key; there are thousands at most.
    async fn lines(&self, filter: &LineFilter) -> StoreResult<Vec<Line>>;
    /// By its public id.
    async fn pool(&self, tenant: &TenantId, id: &PoolId) -> StoreResult<Pool>;
    /// All pools of a tenant, in order of id.
    async fn pools(&self, tenant: &TenantId) -> StoreResult<Vec<Pool>>;
    /// Replaces the record if the stored version is `pool.version`.
    async fn update_pool(&self, pool: Pool) -> StoreResult<Pool>;

    /// Stores a template or its next version. `expected`: the version to replace (`None`: whatever is there; 0: none yet).
    async fn put_template(
        &self,
        template: TemplateRecord,
        expected: Option<u64>,
        request_id: Option<&str>,
    ) -> StoreResult<TemplateRecord>;
    /// By its public id.
    async fn template(&self, tenant: &TenantId, id: &TemplateId) -> StoreResult<TemplateRecord>;
    /// A page in order of id.
    async fn list_templates(&self, tenant: &TenantId, page: Page) -> StoreResult<Paged<TemplateRecord>>;

    // --- recipients ---

    /// Appends one chunk of an import, durably; repeated with the same digest it answers as the first time. Rows that were checked
    /// against other rules than the campaign has by now are refused ([`StoreError::Conflict`]): the import is to be opened again.
    async fn append_recipients(&self, chunk: ImportChunk) -> StoreResult<ChunkStored>;
    /// One import.
    async fn import(&self, campaign: CampaignKey, import: &ImportId) -> StoreResult<ImportRecord>;
    /// All imports of a campaign.
    async fn imports(&self, campaign: CampaignKey) -> StoreResult<Vec<ImportRecord>>;
    /// A page of the refused rows of a campaign, in order of refusal.
    async fn refused_rows(&self, campaign: CampaignKey, page: Page) -> StoreResult<Paged<RefusedRow>>;
    /// Settles the last duplicates (later rows are refused, naming the earlier), fixes count and digest, makes the segments'
    /// tallies. Sealing again returns the record.
    async fn seal(&self, campaign: CampaignKey, now: UnixMillis) -> StoreResult<Campaign>;

    // --- the way of the messages ---

    /// Never-tried recipients from `from_seq` on, in order; at most `limit`. `next_seq` is where to go on; `None`: no more.
    async fn read_window(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Window>;
    /// Pending messages that have a row and are due by `until`, earliest first; at most `limit`.
    async fn read_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<ToSend>>;
    /// When the next such message is due; in doubt ones that will be resent count too.
    async fn next_due(&self, campaign: CampaignKey) -> StoreResult<Option<UnixMillis>>;
    /// Messages in doubt whose wait is over by `until`; at most `limit`.
    async fn doubt_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<MessageKey>>;
    /// Attempts with an intent and no outcome; at most `limit`, from `from_seq` on. Asked at start, when nobody works on them any more.
    async fn open_attempts(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Vec<OpenAttempt>>;

    /// Applies the entries in order, in one atomic durable step with the tallies they move.
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Committed>;

    /// The campaign ends: its pending messages become cancelled or expired in one step with its record (state and version as in
    /// [`Store::update_campaign`]). In the same step every decision to send again is taken back, also of messages in flight and in
    /// doubt ([`crate::domain::message::MessageState::end_again`]). A campaign ends once: ended again after a reopening, it keeps
    /// the end it has.
    async fn end_campaign(&self, campaign: Campaign, end: End) -> StoreResult<(Campaign, Tally)>;

    // --- counts ---

    /// The campaign's tally and its failures by code.
    async fn tally(&self, campaign: CampaignKey) -> StoreResult<Counts>;
    /// The sum over a tenant's campaigns.
    async fn tenant_totals(&self, tenant: &TenantId) -> StoreResult<TenantTotals>;
    /// Counts again from the messages: (as kept, as counted). Both are read of each segment at the same moment, so they differ only
    /// where the ledger is wrong, whatever is written meanwhile; different segments may be of different moments.
    async fn recount(&self, campaign: CampaignKey) -> StoreResult<(Counts, Counts)>;

    /// Counts what writes of former owners left that landed after their campaign was taken over, each as the transition that it is, and
    /// takes back their intents that nobody sends. Returns how many messages it found them at. A ledger that only one process ever
    /// writes has none.
    async fn mend(&self, campaign: CampaignKey) -> StoreResult<u64> {
        let _ = campaign;
        Ok(0)
    }

    // --- messages ---

    /// One message with all its attempts.
    async fn message(&self, key: MessageKey) -> StoreResult<MessageRecord>;
    /// A page of a campaign's messages in order of `seq`; the newest attempt only, unless `filter.all_attempts`. A page bounds the work
    /// too: it may come back short, even empty, with a mark to go on from.
    async fn messages(
        &self,
        campaign: CampaignKey,
        filter: &MessageFilter,
        page: Page,
    ) -> StoreResult<Paged<MessageRecord>>;

    // --- events nobody can place yet, and events for later features ---

    /// Keeps events until `deadline`; returns how many were new. Bounded by the caller.
    async fn park(&self, events: Vec<ParkedEvent>) -> StoreResult<usize>;
    /// Parked events to look at again by `until`, earliest first; at most `limit`.
    async fn parked(&self, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>>;
    /// Moves parked events on: placed (removed), looked at (next look), or orphaned (kept for people).
    async fn settle_parked(&self, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()>;
    /// A page of the orphans, newest first, of the accounts given.
    async fn orphans(&self, accounts: &[AccountId], page: Page) -> StoreResult<Paged<ParkedEvent>>;
    /// Counts of parked and orphaned events, and the age of the oldest parked one.
    async fn parked_counts(&self, now: UnixMillis) -> StoreResult<ParkedCounts>;
    /// Which of these provider ids belong to messages of lines of this account; scans, so ask rarely and for many at once.
    async fn find_provider_ids(
        &self,
        lines: &[LineKey],
        ids: &[Box<str>],
    ) -> StoreResult<Vec<(Box<str>, MessageKey, u16)>>;
    /// Keeps inbound messages and other webhook fields for later features; about `kept_max` in all, of which the oldest give way.
    /// Returns how many did.
    async fn keep_inbound(&self, events: Vec<InboundEvent>, kept_max: u64) -> StoreResult<u64>;

    /// What the store says of itself, for metrics.
    fn health(&self) -> StoreHealth;

    /// The lease under which this engine has the ledger, asked before anything is sent; `None`: it cannot end.
    fn lease(&self) -> Option<Arc<Lease>> {
        None
    }

    /// Where it is written down which node owns what; `None`: nobody shares this ledger, everything is this engine's.
    fn ownership(&self) -> Option<Arc<dyn Ownership>> {
        None
    }
}
