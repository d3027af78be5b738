//! Records of campaigns: the record itself by its key, its name in the tenant's home.

use std::collections::HashMap;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::cql::Cql;
use super::error::damaged;
use super::list;
use super::owner::RecordRow;
use super::requests::{self, Made};
use crate::domain::campaign::{Campaign, Sealed};
use crate::domain::ids::{CampaignId, CampaignKey, TenantId};
use crate::domain::stage::{End, Shown};
use crate::domain::time::UnixMillis;
use crate::store::moving::taken;
use crate::store::rules::{self, Kind};
use crate::store::text::{from_json, to_json};
use crate::store::{CampaignFilter, Created, StoreError, StoreResult};

/// `(key, tenant, id, version, body, ended_as, end_version, recipients, refused, next_seq, sealed_at, sealed_digest, duplicates)`.
#[rustfmt::skip]
pub(super) type CampaignRow = (
    i32, Option<String>, Option<String>, Option<i64>, Option<String>, Option<String>, Option<i64>,
    Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<String>, Option<i64>,
);

/// A record with what only this store asks of it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) record: Campaign,
    /// Version that its last end gave it; 0: it has not ended. A decision to send again is void once this has moved.
    pub(super) end_version: u64,
}

/// Records named in one read, and such reads under way at once.
const RECORDS_A_READ: usize = 64;
const READS: usize = 4;

fn missing() -> StoreError {
    StoreError::NotFound("campaign")
}

/// Home of the names of a tenant's campaigns.
pub(super) fn names(tenant: &TenantId) -> String {
    format!("campaigns/{tenant}")
}

fn count(number: Option<i64>) -> u64 {
    number.map_or(0, i64::unsigned_abs)
}

/// A record; `None`: it was removed, or only a late write is left of it.
fn read(row: CampaignRow) -> StoreResult<Option<Stored>> {
    let (key, _, _, version, body, ended, end_version, recipients, refused, next_seq, sealed_at, digest, duplicates) =
        row;
    let (Some(version), Some(body)) = (version, body) else { return Ok(None) };
    let mut campaign: Campaign = from_json(&body)?;
    let sealed_at = sealed_at.filter(|at| *at != list::NOT_SEALED);
    let duplicates = sealed_at.map_or(0, |_| count(duplicates));
    campaign.key = CampaignKey(key.cast_unsigned());
    campaign.version = version.unsigned_abs();
    campaign.recipients = count(recipients).saturating_sub(duplicates);
    campaign.refused = count(refused) + duplicates;
    campaign.next_seq = u32::try_from(count(next_seq)).map_err(damaged)?;
    campaign.sealed = match (sealed_at, digest) {
        (Some(at), Some(digest)) => Some(Sealed { recipients: campaign.recipients, digest, at: UnixMillis(at) }),
        _ => None,
    };
    campaign.end = match ended.as_deref() {
        None => None,
        Some("cancelled") => Some(End::Cancelled),
        Some("expired") => Some(End::Expired),
        Some(other) => return Err(damaged(format!("a campaign that ended as {other:?}"))),
    };
    Ok(Some(Stored { record: campaign, end_version: count(end_version) }))
}

async fn find(cql: &Cql, key: i64) -> StoreResult<Option<Stored>> {
    let Ok(key) = i32::try_from(key) else { return Ok(None) };
    cql.row(&cql.st.campaign, (key,)).await?.map_or(Ok(None), read)
}

/// The record as the server's decisions left it.
async fn decided(cql: &Cql, key: CampaignKey) -> StoreResult<Option<Stored>> {
    cql.decided_row(&cql.st.campaign, (key.0.cast_signed(),)).await?.map_or(Ok(None), read)
}

/// By its key.
pub(super) async fn by_key(cql: &Cql, key: CampaignKey) -> StoreResult<Campaign> {
    Ok(stored(cql, key).await?.record)
}

/// By its key, with what only this store asks.
pub(super) async fn stored(cql: &Cql, key: CampaignKey) -> StoreResult<Stored> {
    find(cql, i64::from(key.0)).await?.ok_or_else(missing)
}

/// The same as the server's decisions left it.
pub(super) async fn stored_decided(cql: &Cql, key: CampaignKey) -> StoreResult<Stored> {
    decided(cql, key).await?.ok_or_else(missing)
}

/// By its public id.
pub(super) async fn by_id(cql: &Cql, tenant: &TenantId, id: &CampaignId) -> StoreResult<Campaign> {
    let named = name(cql, tenant, id.as_str()).await?.ok_or_else(missing)?;
    find(cql, named).await?.map(|stored| stored.record).ok_or_else(missing)
}

/// The key that a name stands for.
async fn name(cql: &Cql, tenant: &TenantId, id: &str) -> StoreResult<Option<i64>> {
    let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (names(tenant), id)).await?;
    Ok(row.and_then(|(_, _, number, _)| number))
}

/// Stores a new campaign; the same request again gives the same campaign.
///
/// Record, note of the request, name: in this order, so that a note always has its record, a name too, and whatever a crash leaves
/// half done is finished by the repetition, or is out of everybody's sight.
pub(super) async fn create(cql: &Cql, mut campaign: Campaign, request: Option<&str>) -> StoreResult<Created<Campaign>> {
    let tenant = campaign.tenant.clone();
    if let Some(record) = created(cql, &tenant, request).await? {
        return Ok(Created { record, fresh: false });
    }
    let exists = || StoreError::Exists { what: "campaign", id: campaign.id.to_string() };
    if let Some(key) = name(cql, &tenant, campaign.id.as_str()).await?
        && find(cql, key).await?.is_some()
    {
        return Err(exists());
    }
    let key = requests::next_number(cql, Kind::Campaign).await?;
    (campaign.key, campaign.version) = (CampaignKey(key), 1);
    let body = to_json(&campaign)?;
    let settled = || async { Ok(decided(cql, CampaignKey(key)).await?.map(|_| true)) };
    let values = (key.cast_signed(), tenant.as_str(), campaign.id.as_str(), 1_i64, body);
    cql.decide(&cql.st.insert_campaign, values, settled).await?;
    let noted = requests::note(cql, &tenant, request, Kind::Campaign, campaign.id.as_str(), i64::from(key)).await?;
    if let Some(made) = noted {
        super::removal::remove_record(cql, CampaignKey(key)).await?;
        return finish(cql, &tenant, made).await;
    }
    // Where the campaigns of all tenants are looked for.
    cql.write(&cql.st.write_record, (1_i64, 0_i64, "", "tenants", tenant.as_str())).await?;
    if !claim_name(cql, &tenant, campaign.id.as_str(), i64::from(key)).await? {
        requests::forget(cql, &tenant, request, i64::from(key)).await?;
        super::removal::remove_record(cql, CampaignKey(key)).await?;
        return Err(exists());
    }
    Ok(Created { record: by_key(cql, CampaignKey(key)).await?, fresh: true })
}

/// What this request created.
pub(super) async fn created(cql: &Cql, tenant: &TenantId, request: Option<&str>) -> StoreResult<Option<Campaign>> {
    match requests::made(cql, tenant, request, Kind::Campaign).await? {
        Some(made) => Ok(Some(finish(cql, tenant, made).await?.record)),
        None => Ok(None),
    }
}

async fn claim_name(cql: &Cql, tenant: &TenantId, id: &str, key: i64) -> StoreResult<bool> {
    let settled = || async { Ok(name(cql, tenant, id).await?.map(|found| found == key)) };
    if cql.decide(&cql.st.claim, (names(tenant), id, 1_i64, key, ""), settled).await? {
        return Ok(true);
    }
    Ok(name(cql, tenant, id).await? == Some(key))
}

/// The version that the last end of a campaign from elsewhere counts as having given it: the one it has.
pub(super) fn end_version(campaign: &Campaign) -> u64 {
    campaign.end.map_or(0, |_| campaign.version)
}

/// Writes a campaign's record as it stands, with its key; the same record may be there already.
pub(super) async fn take(cql: &Cql, campaign: &Campaign) -> StoreResult<()> {
    let (key, version, body) = (campaign.key.0.cast_signed(), campaign.version.cast_signed(), to_json(campaign)?);
    let (tenant, id) = (campaign.tenant.as_str(), campaign.id.as_str());
    let same = || async {
        let row: Option<CampaignRow> = cql.decided_row(&cql.st.campaign, (key,)).await?;
        Ok::<_, StoreError>(row.map(|row| (row.3, row.4.as_deref()) == (Some(version), Some(body.as_str()))))
    };
    let ours = match campaign.end {
        None => cql.decide(&cql.st.insert_campaign, (key, tenant, id, version, body.as_str()), same).await?,
        Some(end) => {
            let last = end_version(campaign).cast_signed();
            let values = (key, tenant, id, version, body.as_str(), Shown::from(end).name(), last);
            cql.decide(&cql.st.insert_ended, values, same).await?
        }
    };
    if ours || same().await? == Some(true) { Ok(()) } else { taken("campaign") }
}

/// Whether a campaign is found by its name, or is gone altogether; false: its creation was cut short before it had one.
pub(super) async fn is_named_or_gone(cql: &Cql, tenant: &TenantId, id: &str, key: CampaignKey) -> StoreResult<bool> {
    Ok(name(cql, tenant, id).await? == Some(i64::from(key.0)) || decided(cql, key).await?.is_none())
}

/// What a request made: its name may not stand yet.
async fn finish(cql: &Cql, tenant: &TenantId, made: Made) -> StoreResult<Created<Campaign>> {
    let Some(Stored { record, .. }) = find(cql, made.number).await? else {
        return rules::request_made_deleted(&made.id);
    };
    if !claim_name(cql, tenant, &made.id, made.number).await? {
        return Err(StoreError::Exists { what: "campaign", id: made.id });
    }
    Ok(Created { record, fresh: false })
}

/// Replaces what is not the store's own; `end`: the campaign ends with it, or, having ended before, once more as it did.
///
/// One decision is all that an end takes: the counts follow from `ended_as`, and every decision to send again that was made
/// before is void because `end_version` has moved.
pub(super) async fn update(cql: &Cql, campaign: &Campaign, end: Option<End>) -> StoreResult<Stored> {
    let stored = by_key(cql, campaign.key).await?;
    if (&stored.tenant, &stored.id) != (&campaign.tenant, &campaign.id) {
        return Err(missing());
    }
    rules::expect_seen(&stored, campaign)?;
    let end = end.map(|end| stored.end.unwrap_or(end));
    let (seen, next) = (campaign.version.cast_signed(), campaign.version.cast_signed() + 1);
    let (key, body) = (campaign.key.0.cast_signed(), to_json(campaign)?);
    let settled = || async {
        let row: Option<CampaignRow> = cql.decided_row(&cql.st.campaign, (key,)).await?;
        Ok(match row {
            Some((_, _, _, Some(version), Some(found), ..)) if version == next => Some(found == body),
            Some((_, _, _, Some(version), ..)) if version == seen => None,
            _ => Some(false),
        })
    };
    let ours = match end {
        None => cql.decide(&cql.st.update_campaign, (next, body.as_str(), key, seen), settled).await?,
        Some(end) => {
            let values = (next, body.as_str(), Shown::from(end).name(), next, key, seen);
            cql.decide(&cql.st.end_campaign, values, settled).await?
        }
    };
    let now = stored_decided(cql, campaign.key).await?;
    if ours { Ok(now) } else { Err(StoreError::Version { expected: campaign.version, found: now.record.version }) }
}

/// Keys of a tenant's campaigns, or of all, newest first, those before one.
pub(super) async fn keys(cql: &Cql, tenant: Option<&TenantId>, before: i64) -> StoreResult<Vec<i32>> {
    let homes = match tenant {
        Some(tenant) => vec![names(tenant)],
        None => {
            let tenants: Vec<RecordRow> = cql.rows(&cql.st.records, ("tenants",)).await?;
            tenants.into_iter().map(|(tenant, ..)| format!("campaigns/{tenant}")).collect()
        }
    };
    let mut keys = Vec::new();
    for home in homes {
        let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (home,)).await?;
        let found = rows.into_iter().filter_map(|(_, _, number, _)| number).filter(|key| *key < before);
        keys.extend(found.filter_map(|key| i32::try_from(key).ok()));
    }
    keys.sort_unstable_by(|a, b| b.cmp(a));
    Ok(keys)
}

async fn read_some(cql: &Cql, keys: Vec<i32>) -> StoreResult<Vec<Stored>> {
    let rows: Vec<CampaignRow> = cql.rows(&cql.st.campaigns, (keys.clone(),)).await?;
    let mut found = HashMap::new();
    for row in rows {
        let key = row.0;
        found.insert(key, read(row)?);
    }
    Ok(keys.into_iter().filter_map(|key| found.remove(&key).flatten()).collect())
}

/// The records of these keys that pass, in order, at most `limit`.
pub(super) async fn some(cql: &Cql, keys: &[i32], filter: &CampaignFilter, limit: usize) -> StoreResult<Vec<Stored>> {
    let some: Vec<Vec<i32>> = keys.chunks(RECORDS_A_READ).map(<[i32]>::to_vec).collect();
    let reads = some.into_iter().map(|some| read_some(cql, some));
    let mut reads = stream::iter(reads).buffered(READS);
    let mut campaigns = Vec::new();
    while let Some(found) = reads.try_next().await? {
        campaigns.extend(found.into_iter().filter(|stored| matches(filter, &stored.record)));
        if campaigns.len() >= limit {
            break;
        }
    }
    campaigns.truncate(limit);
    Ok(campaigns)
}

/// Whether a campaign is one of the filter's; the tenant was settled before.
fn matches(filter: &CampaignFilter, campaign: &Campaign) -> bool {
    (filter.states.is_empty() || filter.states.contains(&campaign.state))
        && filter.pool.as_ref().is_none_or(|pool| *pool == campaign.pool)
        && filter.created_from.is_none_or(|from| campaign.created_at >= from)
        && filter.created_before.is_none_or(|before| campaign.created_at < before)
        && filter.labels.iter().all(|(label, value)| campaign.labels.get(label) == Some(value))
        && (!filter.unsettled || (campaign.settled_at.is_none() && campaign.state.is_ended()))
}

/// Takes the name away, if it still stands for this campaign.
pub(super) async fn remove_name(cql: &Cql, campaign: &Campaign) -> StoreResult<()> {
    let (tenant, id, key) = (&campaign.tenant, campaign.id.as_str(), i64::from(campaign.key.0));
    let settled = || async { Ok(Some(name(cql, tenant, id).await? != Some(key)).filter(|gone| *gone)) };
    cql.decide(&cql.st.unclaim, (names(tenant), id, key), settled).await.map(drop)
}
