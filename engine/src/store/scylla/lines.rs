//! Records of lines and pools. They have one home, and so one partition: what must be unique among them (ids, and senders, whose
//! ceiling nobody may double) stands in slots of its own, and one decision moves record and slots together.

use super::cql::{Cql, Unit};
use super::owner::RecordRow;
use super::requests::{self, number};
use crate::domain::ids::{CampaignKey, LineId, LineKey, PoolId, TenantId};
use crate::domain::line::{Line, Pool};
use crate::domain::time::UnixMillis;
use crate::store::moving::taken;
use crate::store::rules::{self, Kind};
use crate::store::text::{from_json, to_json};
use crate::store::{Created, LineFilter, StoreError, StoreResult};

const HOME: &str = "lines";

/// Rounds of a decision that others keep overtaking.
const ROUNDS: usize = 16;

fn slot(key: LineKey) -> String {
    format!("line/{:010}", key.0)
}

fn id_slot(line: &Line) -> String {
    format!("id/{}/{}", line.tenant, line.id)
}

fn sender_slot(line: &Line) -> String {
    format!("sender/{}/{}", line.kind.as_str(), line.sender.text())
}

fn pool_slot(tenant: &TenantId, id: &PoolId) -> String {
    format!("pool/{tenant}/{id}")
}

fn missing() -> StoreError {
    StoreError::NotFound("line")
}

async fn at(cql: &Cql, slot: &str) -> StoreResult<Option<RecordRow>> {
    cql.decided_row(&cql.st.record, (HOME, slot)).await
}

fn read((_, version, key, body): RecordRow) -> StoreResult<Line> {
    let mut line: Line = from_json(&body.unwrap_or_default())?;
    line.key = LineKey(number(key)?);
    line.version = version.map_or(0, i64::unsigned_abs);
    Ok(line)
}

async fn by_key(cql: &Cql, key: LineKey) -> StoreResult<Option<Line>> {
    at(cql, &slot(key)).await?.map(read).transpose()
}

/// By its public id.
pub(super) async fn by_id(cql: &Cql, tenant: &TenantId, id: &LineId) -> StoreResult<Line> {
    let Some((_, _, key, _)) = at(cql, &format!("id/{tenant}/{id}")).await? else { return Err(missing()) };
    by_key(cql, LineKey(number(key)?)).await?.ok_or_else(missing)
}

/// All lines of the filter.
pub(super) async fn list(cql: &Cql, filter: &LineFilter) -> StoreResult<Vec<Line>> {
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (HOME,)).await?;
    let lines = rows.into_iter().filter(|(slot, ..)| slot.starts_with("line/")).map(read);
    let wanted = |line: &Line| {
        filter.tenant.as_ref().is_none_or(|tenant| *tenant == line.tenant)
            && filter.pool.as_ref().is_none_or(|pool| *pool == line.pool)
            && filter.account.as_ref().is_none_or(|account| *account == line.account)
    };
    let mut lines = lines.collect::<StoreResult<Vec<_>>>()?;
    lines.retain(wanted);
    Ok(lines)
}

/// Stores a new line, and its pool if that is new.
pub(super) async fn create(cql: &Cql, mut line: Line, request: Option<&str>) -> StoreResult<Created<Line>> {
    let tenant = line.tenant.clone();
    let mut noted = requests::made(cql, &tenant, request, Kind::Line).await?;
    if noted.is_none() {
        expect_free(cql, &line, true).await?;
        let key = requests::next_number(cql, Kind::Line).await?;
        noted = requests::note(cql, &tenant, request, Kind::Line, line.id.as_str(), i64::from(key)).await?;
        line.key = LineKey(key);
    }
    if let Some(made) = noted {
        line.key = LineKey(number(Some(made.number))?);
        if let Some(record) = by_key(cql, line.key).await? {
            return Ok(Created { record, fresh: false });
        }
    }
    line.version = 1;
    let inserted = insert(cql, &line).await;
    if let Err(StoreError::Exists { .. } | StoreError::Conflict(_)) = &inserted {
        requests::forget(cql, &tenant, request, i64::from(line.key.0)).await?;
    }
    inserted?;
    Ok(Created { record: by_key(cql, line.key).await?.ok_or_else(missing)?, fresh: true })
}

async fn insert(cql: &Cql, line: &Line) -> StoreResult<()> {
    for _ in 0..ROUNDS {
        expect_free(cql, line, true).await?;
        let mut unit = Unit::new();
        let key = i64::from(line.key.0);
        unit.push(&cql.st.claim, (HOME, slot(line.key), 1_i64, key, to_json(line)?));
        unit.push(&cql.st.claim, (HOME, id_slot(line), 1_i64, key, String::new()));
        unit.push(&cql.st.claim, (HOME, sender_slot(line), 1_i64, key, String::new()));
        join_pool(cql, &mut unit, line, line.created_at).await?;
        let settled = || async { Ok(by_key(cql, line.key).await?.map(|_| true)) };
        if cql.decide_unit(unit, settled).await? {
            return Ok(());
        }
    }
    overtaken()
}

/// Whether there is a line of this number.
pub(super) async fn is_there(cql: &Cql, key: LineKey) -> StoreResult<bool> {
    Ok(by_key(cql, key).await?.is_some())
}

/// Writes a line as it stands, with its key; the same line may be there already.
pub(super) async fn take(cql: &Cql, line: &Line) -> StoreResult<()> {
    let (key, version) = (i64::from(line.key.0), line.version.cast_signed());
    let mut unit = Unit::new();
    unit.push(&cql.st.claim, (HOME, slot(line.key), version, key, to_json(line)?));
    unit.push(&cql.st.claim, (HOME, id_slot(line), 1_i64, key, String::new()));
    unit.push(&cql.st.claim, (HOME, sender_slot(line), 1_i64, key, String::new()));
    let same = || async { Ok::<_, StoreError>(by_key(cql, line.key).await?.map(|found| found == *line)) };
    if cql.decide_unit(unit, same).await? || same().await? == Some(true) { Ok(()) } else { taken("line") }
}

/// Writes a pool as it stands; the same pool may be there already.
pub(super) async fn take_pool(cql: &Cql, pool: &Pool) -> StoreResult<()> {
    let (slot, body) = (pool_slot(&pool.tenant, &pool.id), to_json(pool)?);
    super::taking::claim(cql, "pool", (HOME, &slot), (pool.version, 0, &body)).await
}

/// Replaces a line's record.
pub(super) async fn update(cql: &Cql, line: &Line) -> StoreResult<Line> {
    for _ in 0..ROUNDS {
        let stored = by_key(cql, line.key).await?.ok_or_else(missing)?;
        if (&stored.tenant, &stored.id) != (&line.tenant, &line.id) {
            return Err(missing());
        }
        rules::expect_version(stored.version, line.version)?;
        let (seen, next) = (line.version.cast_signed(), line.version.cast_signed() + 1);
        let (key, body) = (i64::from(line.key.0), to_json(line)?);
        let mut unit = Unit::new();
        unit.push(&cql.st.replace, (next, key, body.clone(), HOME, slot(line.key), seen));
        if sender_slot(&stored) != sender_slot(line) {
            expect_free(cql, line, false).await?;
            unit.push(&cql.st.claim, (HOME, sender_slot(line), 1_i64, key, String::new()));
            unit.push(&cql.st.remove_record, (HOME, sender_slot(&stored)));
        }
        join_pool(cql, &mut unit, line, line.updated_at).await?;
        let settled = || async {
            Ok(match at(cql, &slot(line.key)).await? {
                Some((_, Some(version), _, Some(found))) if version == next => Some(found == body),
                Some((_, Some(version), ..)) if version == seen => None,
                _ => Some(false),
            })
        };
        if cql.decide_unit(unit, settled).await? {
            return by_key(cql, line.key).await?.ok_or_else(missing);
        }
    }
    overtaken()
}

fn overtaken<T>() -> StoreResult<T> {
    Err(StoreError::Unavailable("others keep changing the lines: try again".to_owned()))
}

/// Fails if another line has this id or sends as this one.
async fn expect_free(cql: &Cql, line: &Line, new: bool) -> StoreResult<()> {
    if new && at(cql, &id_slot(line)).await?.is_some() {
        return Err(StoreError::Exists { what: "line", id: line.id.to_string() });
    }
    let own = |key: Option<i64>| !new && key == Some(i64::from(line.key.0));
    if at(cql, &sender_slot(line)).await?.is_some_and(|(_, _, key, _)| !own(key)) {
        return Err(rules::sender_taken(line));
    }
    Ok(())
}

/// The line's pool exists afterwards, and is of the line's kind.
async fn join_pool(cql: &Cql, unit: &mut Unit, line: &Line, now: UnixMillis) -> StoreResult<()> {
    match find_pool(cql, &line.tenant, &line.pool).await? {
        Some(pool) => rules::expect_joinable(&pool, line),
        None => {
            let pool = rules::pool_of(line, now);
            let slot = pool_slot(&pool.tenant, &pool.id);
            unit.push(&cql.st.claim, (HOME, slot, 1_i64, 0_i64, to_json(&pool)?));
            Ok(())
        }
    }
}

fn read_pool((_, version, _, body): RecordRow) -> StoreResult<Pool> {
    let mut pool: Pool = from_json(&body.unwrap_or_default())?;
    pool.version = version.map_or(0, i64::unsigned_abs);
    Ok(pool)
}

async fn find_pool(cql: &Cql, tenant: &TenantId, id: &PoolId) -> StoreResult<Option<Pool>> {
    at(cql, &pool_slot(tenant, id)).await?.map(read_pool).transpose()
}

/// By its public id.
pub(super) async fn pool(cql: &Cql, tenant: &TenantId, id: &PoolId) -> StoreResult<Pool> {
    find_pool(cql, tenant, id).await?.ok_or(StoreError::NotFound("pool"))
}

/// All pools of a tenant, in order of id.
pub(super) async fn pools(cql: &Cql, tenant: &TenantId) -> StoreResult<Vec<Pool>> {
    let prefix = format!("pool/{tenant}/");
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (HOME,)).await?;
    rows.into_iter().filter(|(slot, ..)| slot.starts_with(&prefix)).map(read_pool).collect()
}

/// Replaces a pool's record.
pub(super) async fn update_pool(cql: &Cql, changed: &Pool) -> StoreResult<Pool> {
    let stored = pool(cql, &changed.tenant, &changed.id).await?;
    rules::expect_same_pool(&stored, changed)?;
    let (seen, next) = (changed.version.cast_signed(), changed.version.cast_signed() + 1);
    let (slot, body) = (pool_slot(&changed.tenant, &changed.id), to_json(changed)?);
    let settled = || async {
        Ok(match at(cql, &slot).await? {
            Some((_, Some(version), _, Some(found))) if version == next => Some(found == body),
            Some((_, Some(version), ..)) if version == seen => None,
            _ => Some(false),
        })
    };
    let ours = cql.decide(&cql.st.replace, (next, 0_i64, body.as_str(), HOME, slot.as_str(), seen), settled).await?;
    let now = pool(cql, &changed.tenant, &changed.id).await?;
    if ours { Ok(now) } else { Err(StoreError::Version { expected: changed.version, found: now.version }) }
}

/// Remembers that a campaign used a line.
pub(super) async fn note_use(cql: &Cql, line: LineKey, campaign: CampaignKey) -> StoreResult<()> {
    let values = (1_i64, i64::from(campaign.0), "", format!("line/{}", line.0), campaign.0.to_string());
    cql.write(&cql.st.write_record, values).await
}

/// Campaigns that used any of these lines, newest first.
pub(super) async fn uses(cql: &Cql, lines: &[LineKey]) -> StoreResult<Vec<CampaignKey>> {
    let mut campaigns = Vec::new();
    for line in lines {
        let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (format!("line/{}", line.0),)).await?;
        for (_, _, campaign, _) in rows {
            campaigns.push(CampaignKey(number(campaign)?));
        }
    }
    campaigns.sort_unstable_by(|a, b| b.cmp(a));
    campaigns.dedup();
    Ok(campaigns)
}
