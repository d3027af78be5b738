//! Removing a campaign: out of sight first, by its name and record; then its partitions one by one. What is being removed is noted
//! before, so that a crash only delays it.

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::campaigns;
use super::cql::Cql;
use super::hot::partition;
use super::imports::refused_bucket;
use super::owner::RecordRow;
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, SEGMENT_LEN, TenantId};
use crate::store::StoreResult;
use crate::store::rules;
use crate::store::text::{from_json, to_json};

const HOME: &str = "removals";

/// How much later than any write of ours a removal is dated: the servers' own times, which decisions carry, may run ahead. The keys
/// are never used again, so that it can hide nothing.
const LATER: i64 = 3_600_000_000;

#[derive(Serialize, Deserialize)]
struct Removal {
    tenant: TenantId,
    segments: u32,
    refused: u64,
}

/// Removes a campaign.
pub(super) async fn remove(cache: &Cache, key: CampaignKey, version: u64) -> StoreResult<()> {
    let cql = &cache.cql;
    let hot = cache.hot(key).await?;
    let list = hot.turn(cql.patience).await?;
    let alone = hot.gate.write().await;
    hot.expect_ours(cql)?;
    let campaign = campaigns::by_key(cql, key).await?;
    rules::expect_version(campaign.version, version)?;
    note(cql, &campaign).await?;
    campaigns::remove_name(cql, &campaign).await?;
    remove_record(cql, key).await?;
    cache.forget(key);
    drop((alone, list));
    finish(cql, key).await
}

async fn note(cql: &Cql, campaign: &Campaign) -> StoreResult<()> {
    let removal = Removal {
        tenant: campaign.tenant.clone(),
        segments: campaign.next_seq.div_ceil(SEGMENT_LEN),
        refused: campaign.refused,
    };
    let (slot, body) = (campaign.key.0.to_string(), to_json(&removal)?);
    cql.write(&cql.st.write_record, (1_i64, i64::from(campaign.key.0), body, HOME, slot)).await
}

/// Removes a record by its key.
pub(super) async fn remove_record(cql: &Cql, key: CampaignKey) -> StoreResult<()> {
    cql.write_later(&cql.st.remove_campaign, (key.0.cast_signed(),), LATER).await
}

/// Removes what belongs to a campaign that is out of sight.
async fn finish(cql: &Cql, key: CampaignKey) -> StoreResult<()> {
    let slot = key.0.to_string();
    let row: Option<RecordRow> = cql.row(&cql.st.record, (HOME, slot.as_str())).await?;
    let Some((.., Some(body))) = row else { return Ok(()) };
    let removal: Removal = from_json(&body)?;
    for segment in 0..removal.segments {
        cql.write_later(&cql.st.remove_segment, partition(&removal.tenant, key, segment), LATER).await?;
    }
    for bucket in 0..=refused_bucket(removal.refused) {
        cql.write_later(&cql.st.remove_refused, (key.0.cast_signed(), bucket), LATER).await?;
    }
    cql.write(&cql.st.remove_record, (HOME, slot)).await
}

/// Goes on with what a crash cut short.
pub(super) async fn finish_all(cql: &Cql) -> StoreResult<()> {
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (HOME,)).await?;
    for (slot, ..) in rows {
        if let Ok(key) = slot.parse().map(CampaignKey) {
            // The note may be older than the last step that hides the campaign.
            if let Ok(campaign) = campaigns::by_key(cql, key).await {
                campaigns::remove_name(cql, &campaign).await?;
                remove_record(cql, key).await?;
            }
            finish(cql, key).await?;
        }
    }
    Ok(())
}
