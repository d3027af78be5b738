//! Imports: chunks of rows, checked row by row, durable before they are acknowledged, safe to repeat.

use std::sync::Arc;

use super::error::{Error, OrNotFound, Result, Violations};
use super::page::{PageOf, PageRequest, cut};
use super::row::{CHUNK_ROWS_MAX, RowChunk, Rules, digest};
use super::templates::shape_of;
use super::{Control, query};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, ImportId, TenantId};
use crate::store::{ImportChunk, ImportRecord, ImportRules, Paged, RefusedRow, StoreError};

/// Most recipients of a campaign: `seq` stays within 32 bits with room to spare.
const RECIPIENTS_MAX: u64 = 2_000_000_000;

/// An import that is open for chunks. Cheap to clone; the clones check rows side by side.
#[derive(Debug, Clone)]
pub struct ImportSession {
    campaign: CampaignKey,
    campaign_id: Arc<str>,
    import: ImportId,
    rules: Arc<Rules>,
    checked_against: ImportRules,
}

/// The answer to opening an import.
#[derive(Debug, Clone)]
pub struct ImportOpened {
    /// Takes the chunks.
    pub session: ImportSession,
    /// Rows that are durable already: go on from this one.
    pub acked_rows: u64,
}

/// A chunk whose rows are checked, ready to be stored.
#[derive(Debug)]
pub struct ReadyChunk {
    offset: u64,
    rows: u32,
    digest: [u8; 32],
    recipients: Vec<crate::store::NewRecipient>,
    refused: Vec<RefusedRow>,
}

/// The answer to a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkAck {
    /// Rows of the import that are durable now.
    pub acked_rows: u64,
    /// Rows of this chunk that became recipients.
    pub stored: u32,
    /// Rows of this chunk that were refused.
    pub refused: Vec<RefusedRow>,
    /// It was acknowledged before.
    pub repeated: bool,
}

impl Control {
    /// Opens an import, a new one or one that broke off.
    pub async fn open_import(&self, tenant: &TenantId, campaign: &str, import: &str) -> Result<ImportOpened> {
        self.accepting()?;
        let record = self.campaign_record(tenant, campaign).await?;
        let import = ImportId::new(import).map_err(|error| Error::invalid("header.import_id", error.to_string()))?;
        check_open(&record)?;
        let region = record.settings.region.as_deref().map(str::parse).transpose();
        let rules = Rules {
            shape: shape_of(&record.template_definition)?,
            kind: self.kind_of(&record).await?,
            region: region.map_err(|_| Error::Damaged("a stored region is not known".to_owned()))?,
        };
        let acked_rows = match self.store.import(record.key, &import).await {
            Ok(import) => import.next_row,
            Err(StoreError::NotFound(_)) => 0,
            Err(error) => return Err(error.into()),
        };
        let session = ImportSession {
            campaign: record.key,
            campaign_id: campaign.into(),
            import,
            rules: Arc::new(rules),
            checked_against: ImportRules::of(&record),
        };
        Ok(ImportOpened { session, acked_rows })
    }

    /// Stores a checked chunk. Chunks of one import are stored one after the other, in order.
    pub async fn store_chunk(&self, session: &ImportSession, acked_rows: u64, chunk: ReadyChunk) -> Result<ChunkAck> {
        self.accepting()?;
        if chunk.offset > acked_rows {
            let problem = format!("leaves a gap: rows up to {acked_rows} are stored, go on from there");
            return Err(Error::invalid("chunk.row_offset", problem));
        }
        let stored = u32::try_from(chunk.recipients.len()).unwrap_or(u32::MAX);
        let refused = chunk.refused.clone();
        let appended = self
            .store
            .append_recipients(ImportChunk {
                campaign: session.campaign,
                import: session.import.clone(),
                rules: session.checked_against.clone(),
                offset: chunk.offset,
                rows: chunk.rows,
                digest: chunk.digest,
                recipients: chunk.recipients,
                refused: chunk.refused,
                at: self.now(),
            })
            .await
            .map_err(|error| match error {
                StoreError::Conflict(problem) => {
                    Error::precondition("IMPORT", format!("campaign/{}", session.campaign_id), problem)
                }
                StoreError::NotFound(_) => Error::not_found("campaign", &*session.campaign_id),
                other => other.into(),
            })?;
        Ok(ChunkAck { acked_rows: acked_rows.max(appended.next_row), stored, refused, repeated: appended.repeated })
    }

    /// One import.
    pub async fn import(&self, tenant: &TenantId, campaign: &str, import: &str) -> Result<ImportRecord> {
        let record = self.campaign_record(tenant, campaign).await?;
        let id = ImportId::new(import).map_err(|_| Error::not_found("import", import))?;
        self.store.import(record.key, &id).await.or_not_found("import", import)
    }

    /// A page of a campaign's imports in order of id.
    pub async fn list_imports(
        &self,
        tenant: &TenantId,
        campaign: &str,
        page: &PageRequest,
    ) -> Result<PageOf<ImportRecord>> {
        let record = self.campaign_record(tenant, campaign).await?;
        let query = query("imports", tenant, [campaign]);
        let page = self.tokens.page(&query, page)?;
        let imports = self.store.imports(record.key).await?;
        Ok(self.tokens.answer(&query, cut(imports, &page, |import| import.id.as_str().to_owned())))
    }

    /// A page of refused rows; of one import, or of all with an empty `import`.
    pub async fn refused_rows(
        &self,
        tenant: &TenantId,
        campaign: &str,
        import: &str,
        page: &PageRequest,
    ) -> Result<PageOf<RefusedRow>> {
        let record = self.campaign_record(tenant, campaign).await?;
        let query = query("refused", tenant, [campaign, import]);
        let mut page = self.tokens.page(&query, page)?;
        if import.is_empty() {
            let rows = self.store.refused_rows(record.key, page).await?;
            return Ok(self.tokens.answer(&query, rows));
        }
        self.import(tenant, campaign, import).await?;
        // The store keeps them in order of refusal over all imports: pages are read until one is full.
        let mut found = Vec::new();
        loop {
            let want = page.size - found.len();
            let rows =
                self.store.refused_rows(record.key, crate::store::Page { size: want, after: page.after }).await?;
            found.extend(rows.items.into_iter().filter(|row| row.import.as_str() == import));
            page.after = rows.next;
            if found.len() >= page.size || page.after.is_none() {
                return Ok(self.tokens.answer(&query, Paged { items: found, next: page.after }));
            }
        }
    }
}

impl ImportSession {
    /// Checks a chunk as a whole, and its rows one by one. CPU work of some milliseconds: not on a thread of the runtime.
    pub fn check(&self, mut chunk: RowChunk) -> Result<ReadyChunk> {
        let mut violations = Violations::default();
        let count = chunk.rows.len();
        let fits = (1..=CHUNK_ROWS_MAX).contains(&count);
        violations.require(fits, "chunk.rows", || format!("must be 1 to {CHUNK_ROWS_MAX}, are {count}"));
        let fits = chunk.offset <= RECIPIENTS_MAX;
        violations.require(fits, "chunk.row_offset", || format!("must be at most {RECIPIENTS_MAX}"));
        let computed = digest(&mut chunk.rows);
        let fits = chunk.digest == computed;
        violations.require(fits, "chunk.sha256", || {
            "is not the SHA-256 of the rows as the contract defines it: the chunk was changed on its way".to_owned()
        });
        violations.check()?;
        let mut recipients = Vec::with_capacity(count);
        let mut refused = Vec::new();
        for (row, number) in chunk.rows.iter().zip(chunk.offset..) {
            match self.rules.recipient(number, row) {
                Ok(recipient) => recipients.push(recipient),
                Err(fault) => refused.push(RefusedRow {
                    import: self.import.clone(),
                    row: number,
                    field: fault.field.into(),
                    reason: fault.reason.into(),
                    duplicate_of: None,
                }),
            }
        }
        let rows = u32::try_from(count).map_err(|_| Error::invalid("chunk.rows", "are too many"))?;
        Ok(ReadyChunk { offset: chunk.offset, rows, digest: computed, recipients, refused })
    }
}

/// Whether a campaign still takes recipients.
fn check_open(campaign: &Campaign) -> Result<()> {
    if campaign.state == CampaignState::Draft && campaign.sealed.is_none() {
        return Ok(());
    }
    let state = if campaign.sealed.is_some() && campaign.state == CampaignState::Draft {
        "sealed"
    } else {
        campaign.state.name()
    };
    let problem = format!("recipients can be imported only while the campaign is a draft; it is {state}");
    Err(Error::precondition("AUDIENCE_FROZEN", format!("campaign/{}", campaign.id), problem))
}
