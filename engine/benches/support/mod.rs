//! What measurements of a ledger fill it with.

use sluice_engine::domain::campaign::{Campaign, CampaignState, Settings};
use sluice_engine::domain::ids::{CampaignId, CampaignKey, ImportId, PoolId, TemplateId, TenantId};
use sluice_engine::domain::time::UnixMillis;
use sluice_engine::store::{ImportChunk, ImportRules, NewRecipient};

/// Whatever goes wrong ends the measurement.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A draft without recipients.
pub(crate) fn campaign() -> Outcome<Campaign> {
    Ok(Campaign {
        key: CampaignKey(0),
        tenant: TenantId::new("bench")?,
        id: CampaignId::new("bench")?,
        version: 0,
        name: String::new(),
        description: String::new(),
        labels: std::collections::BTreeMap::new(),
        created_by: String::new(),
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        state: CampaignState::Draft,
        hold: None,
        pool: PoolId::new("main")?,
        template: TemplateId::new("hello")?,
        template_version: 1,
        template_definition: "{}".into(),
        settings: Settings::default(),
        recipients: 0,
        refused: 0,
        next_seq: 0,
        sealed: None,
        started_at: None,
        ended_at: None,
        settled_at: None,
        end: None,
    })
}

/// Recipients of its only list, from `offset` on.
pub(crate) fn chunk(campaign: CampaignKey, offset: u32, rows: u32) -> Outcome<ImportChunk> {
    let recipients = (offset..offset + rows).map(|row| NewRecipient {
        row: u64::from(row),
        address: format!("+999{row:09}").into(),
        external_id: None,
        params: format!("[\"Name {row}\",\"Code {row}\"]").into(),
    });
    let recipients = recipients.collect();
    let (import, offset, at) = (ImportId::new("list")?, u64::from(offset), UnixMillis(1));
    let rules = ImportRules::of(&self::campaign()?);
    Ok(ImportChunk { campaign, import, rules, offset, rows, digest: [0; 32], recipients, refused: Vec::new(), at })
}
