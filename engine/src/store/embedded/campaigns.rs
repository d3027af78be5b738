//! Records of campaigns. What the store itself counts (recipients, the seal, the end) stands in columns, the rest as JSON.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use super::error::{Fail, Try, conflict};
use super::ledger::Ledger;
use super::requests;
use super::rows::{end_name, end_named, optional_text, row_ids, text};
use super::tallies::{self, Segment, bind_segment, tally_columns, tally_sums, unsigned};
use crate::domain::campaign::{Campaign, CampaignState, Sealed};
use crate::domain::ids::{CampaignId, CampaignKey, SEGMENT_LEN, TenantId};
use crate::domain::message::Phase;
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::paging;
use crate::store::rules::{self, Kind};
use crate::store::step::SegmentCounts;
use crate::store::text::{from_json, to_json};
use crate::store::{CampaignFilter, Created, Page, Paged, StoreError};

const COLUMNS: &str = "key, version, recipients, refused, next_seq, sealed_at, sealed_digest, ended_as, body";

fn read(row: &Row<'_>) -> Try<Campaign> {
    let mut campaign: Campaign = from_json(&text(row, 8)?)?;
    campaign.key = CampaignKey(row.get(0)?);
    campaign.version = unsigned(row, 1)?;
    campaign.recipients = unsigned(row, 2)?;
    campaign.refused = unsigned(row, 3)?;
    campaign.next_seq = row.get(4)?;
    campaign.sealed = match (row.get::<_, Option<i64>>(5)?, optional_text(row, 6)?) {
        (Some(at), Some(digest)) => {
            Some(Sealed { recipients: campaign.recipients, digest: digest.into(), at: UnixMillis(at) })
        }
        _ => None,
    };
    campaign.end = end_named(optional_text(row, 7)?.as_deref())?;
    Ok(campaign)
}

fn find(conn: &Connection, wanted: &str, params: impl rusqlite::Params) -> Try<Option<Campaign>> {
    let mut statement = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM campaign WHERE {wanted}"))?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

fn missing() -> Fail {
    StoreError::NotFound("campaign").into()
}

/// By its key.
pub(super) fn by_key(conn: &Connection, key: CampaignKey) -> Try<Campaign> {
    find(conn, "key = ?1", [key.0])?.ok_or_else(missing)
}

/// By its public id.
pub(super) fn by_id(conn: &Connection, tenant: &TenantId, id: &CampaignId) -> Try<Campaign> {
    find(conn, "tenant = ?1 AND id = ?2", [tenant.as_str(), id.as_str()])?.ok_or_else(missing)
}

/// What this request created.
pub(super) fn created(conn: &Connection, tenant: &TenantId, request: Option<&str>) -> Try<Option<Campaign>> {
    let Some(made) = requests::made(conn, tenant, request, Kind::Campaign)? else { return Ok(None) };
    match find(conn, "key = ?1", [made.key])? {
        None => Ok(rules::request_made_deleted(&made.id)?),
        found => Ok(found),
    }
}

/// Stores a new campaign; the same request again gives the same campaign.
pub(super) fn create(conn: &Connection, mut campaign: Campaign, request: Option<&str>) -> Try<Created<Campaign>> {
    let tenant = campaign.tenant.clone();
    if let Some(record) = created(conn, &tenant, request)? {
        return Ok(Created { record, fresh: false });
    }
    if find(conn, "tenant = ?1 AND id = ?2", [tenant.as_str(), campaign.id.as_str()])?.is_some() {
        return Err(StoreError::Exists { what: "campaign", id: campaign.id.to_string() }.into());
    }
    campaign.version = 1;
    conn.execute(
        "INSERT INTO campaign (tenant, id, version, state, pool, created_at, settled_at, body)
         VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)",
        (
            tenant.as_str(),
            campaign.id.as_str(),
            campaign.state.name(),
            campaign.pool.as_str(),
            campaign.created_at.0,
            campaign.settled_at.map(|at| at.0),
            to_json(&campaign)?,
        ),
    )?;
    let key = u32::try_from(conn.last_insert_rowid()).ok().filter(|key| *key <= i32::MAX.cast_unsigned());
    let Some(key) = key else { return conflict("this installation has used up its campaign numbers") };
    requests::note(conn, &tenant, request, Kind::Campaign, campaign.id.as_str(), Some(key))?;
    Ok(Created { record: by_key(conn, CampaignKey(key))?, fresh: true })
}

/// Replaces what is not the store's own.
pub(super) fn update(conn: &Connection, campaign: &Campaign) -> Try<Campaign> {
    let stored = by_key(conn, campaign.key)?;
    if (&stored.tenant, &stored.id) != (&campaign.tenant, &campaign.id) {
        return Err(missing());
    }
    rules::expect_seen(&stored, campaign)?;
    conn.prepare_cached(
        "UPDATE campaign SET version = version + 1, state = ?2, pool = ?3, settled_at = ?4, body = ?5 WHERE key = ?1",
    )?
    .execute((
        campaign.key.0,
        campaign.state.name(),
        campaign.pool.as_str(),
        campaign.settled_at.map(|at| at.0),
        to_json(campaign)?,
    ))?;
    by_key(conn, campaign.key)
}

/// A page, newest first, each with its tally of the same moment.
pub(super) fn list(conn: &Connection, filter: &CampaignFilter, page: &Page) -> Try<Paged<(Campaign, Tally)>> {
    let mut wanted = vec!["key < ?1".to_owned()];
    let mut values: Vec<Value> = vec![paging::number_after(page)?.unwrap_or(i64::MAX).into()];
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        wanted.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(tenant) = &filter.tenant {
        and("tenant = ?", tenant.as_str().to_owned().into());
    }
    if let Some(pool) = &filter.pool {
        and("pool = ?", pool.as_str().to_owned().into());
    }
    if let Some(from) = filter.created_from {
        and("created_at >= ?", from.0.into());
    }
    if let Some(before) = filter.created_before {
        and("created_at < ?", before.0.into());
    }
    for (label, value) in &filter.labels {
        let pair = serde_json::json!([label, value]).to_string();
        and(
            "EXISTS (SELECT 1 FROM json_each(body, '$.labels') AS l WHERE l.key = ? ->> 0 AND l.value = ? ->> 1)",
            pair.into(),
        );
    }
    let states = |states: &mut dyn Iterator<Item = CampaignState>| {
        states.map(|state| format!("'{}'", state.name())).collect::<Vec<_>>().join(", ")
    };
    if !filter.states.is_empty() {
        wanted.push(format!("state IN ({})", states(&mut filter.states.iter().copied())));
    }
    if filter.unsettled {
        let ended = states(&mut CampaignState::ALL.into_iter().filter(|state| state.is_ended()));
        wanted.push(format!("settled_at IS NULL AND state IN ({ended})"));
    }
    let size = page.size.max(1);
    let sql = format!(
        "SELECT {COLUMNS} FROM campaign WHERE {} ORDER BY key DESC LIMIT {}",
        wanted.join(" AND "),
        size.saturating_add(1)
    );
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        let campaign = read(row)?;
        let tally = tally(conn, campaign.key, &Head::from(&campaign))?;
        items.push((campaign, tally));
    }
    Ok(paging::cut(items, size, |(campaign, _)| i64::from(campaign.key.0)))
}

/// A campaign's tally: the sum of its segments; before the seal all recipients are untouched.
pub(super) fn tally(conn: &Connection, key: CampaignKey, head: &Head) -> Try<Tally> {
    if !head.sealed {
        return Ok(Tally::untouched(head.recipients, head.end));
    }
    let sql = format!("SELECT {} FROM segment WHERE campaign = ?1", tally_sums(""));
    Ok(conn.prepare_cached(&sql)?.query_row([key.0], |row| tallies::read_tally(row, 0))?)
}

impl From<&Campaign> for Head {
    fn from(campaign: &Campaign) -> Self {
        Self {
            sealed: campaign.sealed.is_some(),
            end: campaign.end,
            recipients: campaign.recipients,
            next_seq: campaign.next_seq,
        }
    }
}

/// Ends a campaign: its record, every segment's pending messages, and every decision to send again, in one step.
///
/// A campaign ends once: ended again, after a reopening, it keeps the end it has.
pub(super) fn end(ledger: &mut Ledger<'_>, campaign: &Campaign, end: End) -> Try<(Campaign, Tally)> {
    let conn = ledger.conn();
    let stored = update(conn, campaign)?;
    ledger.forget_campaign(campaign.key);
    if stored.end.is_none() {
        conn.execute("UPDATE campaign SET ended_as = ?2 WHERE key = ?1", (campaign.key.0, end_name(end)))?;
    }
    take_back_again(conn, campaign.key)?;
    let sql = format!(
        "SELECT {}, untried, segment FROM segment WHERE campaign = ?1 AND pending > 0",
        tally_columns().join(", ")
    );
    let width = tally_columns().len();
    let mut segments: Vec<(u32, Segment)> = Vec::new();
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([campaign.key.0])?;
    while let Some(row) = rows.next()? {
        let mut tally = tallies::read_tally(row, 0)?;
        tally.end_pending(stored.end.unwrap_or(end));
        let counts = SegmentCounts { tally, again: 0, untried: unsigned(row, width)? };
        segments.push((row.get(width + 1)?, Segment { counts, dirty: false }));
    }
    let mut save = conn.prepare(&tallies::update_segment_sql())?;
    for (number, segment) in &segments {
        bind_segment(&mut save, campaign.key, *number, segment)?;
        save.raw_execute()?;
    }
    let ended = by_key(conn, campaign.key)?;
    let tally = tally(conn, ended.key, &Head::from(&ended))?;
    Ok((ended, tally))
}

/// Takes back every decision to send again: of what waits and what is in doubt by the index of what is due, of what is in flight in
/// the segments that count such.
fn take_back_again(conn: &Connection, key: CampaignKey) -> Try<()> {
    conn.execute(
        "UPDATE message INDEXED BY message_due SET again = 0
         WHERE campaign = ?1 AND phase IN (?2, ?3) AND due_at IS NOT NULL AND again",
        (key.0, Phase::Pending as u8, Phase::InDoubt as u8),
    )?;
    let mut segments = conn.prepare("SELECT segment FROM segment WHERE campaign = ?1 AND open > 0")?;
    let numbers: Vec<u32> = segments.query_map([key.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut in_flight =
        conn.prepare("UPDATE message SET again = 0 WHERE id BETWEEN ?1 AND ?2 AND phase = ?3 AND again")?;
    for number in numbers {
        let first = number * SEGMENT_LEN;
        let (first, last) = row_ids(key, first, first.saturating_add(SEGMENT_LEN - 1));
        in_flight.execute((first, last, Phase::InFlight as u8))?;
    }
    Ok(())
}

/// What the ledger needs to know of a campaign: cheaper than the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) sealed: bool,
    pub(super) end: Option<End>,
    pub(super) recipients: u64,
    pub(super) next_seq: u32,
}

/// A campaign's head.
pub(super) fn head(conn: &Connection, key: CampaignKey) -> Try<Head> {
    let mut statement = conn
        .prepare_cached("SELECT sealed_at IS NOT NULL, ended_as, recipients, next_seq FROM campaign WHERE key = ?1")?;
    let mut rows = statement.query([key.0])?;
    let Some(row) = rows.next()? else { return Err(missing()) };
    let end = end_named(optional_text(row, 1)?.as_deref())?;
    Ok(Head { sealed: row.get(0)?, end, recipients: unsigned(row, 2)?, next_seq: row.get(3)? })
}

/// The key of a campaign that exists.
pub(super) fn expect(conn: &Connection, key: CampaignKey) -> Try<()> {
    let found =
        conn.prepare_cached("SELECT 1 FROM campaign WHERE key = ?1")?.query_row([key.0], |_| Ok(())).optional()?;
    found.ok_or_else(missing)
}
