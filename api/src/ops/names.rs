//! Metrics and logs call campaigns and lines by their numbers: here people on call learn which those are, whatever the ledger is.

use hyper::StatusCode;
use sluice_engine::domain::ids::{CampaignKey, LineKey};
use sluice_engine::store::{LineFilter, Store, StoreError, StoreResult};

/// The answer at `/campaigns/NUMBER` or `/lines/NUMBER`; `None`: the path is neither.
pub(super) async fn answer(store: &dyn Store, path: &str) -> Option<(StatusCode, String)> {
    let (what, number) = path.strip_prefix('/')?.split_once('/')?;
    let number: u32 = number.parse().ok()?;
    let found = match what {
        "campaigns" => campaign(store, CampaignKey(number)).await,
        "lines" => line(store, LineKey(number)).await,
        _ => return None,
    };
    Some(match found {
        Ok(Some((tenant, id))) => (StatusCode::OK, format!("tenant {tenant}\nid {id}\n")),
        Ok(None) => (StatusCode::NOT_FOUND, format!("nothing in {what} has the number {number}\n")),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("the ledger cannot be read: {error}\n")),
    })
}

async fn campaign(store: &dyn Store, key: CampaignKey) -> StoreResult<Option<(String, String)>> {
    match store.campaign_by_key(key).await {
        Ok(campaign) => Ok(Some((campaign.tenant.to_string(), campaign.id.to_string()))),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn line(store: &dyn Store, key: LineKey) -> StoreResult<Option<(String, String)>> {
    let lines = store.lines(&LineFilter::default()).await?;
    let found = lines.into_iter().find(|line| line.key == key);
    Ok(found.map(|line| (line.tenant.to_string(), line.id.to_string())))
}
