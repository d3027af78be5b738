//! A whole ledger into this store. What decisions are made about (records, names, numbers) is claimed; the rest is written like
//! everything on the way of the messages, so that writing it again changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::campaigns::{self, names};
use super::compact::Compact;
use super::cql::{Cql, Unit};
use super::hot::partition;
use super::imports::{Import, refused_units};
use super::list::{self, List, Seal};
use super::owner::RecordRow;
use super::requests::{self, Made};
use super::row::{self, Facts};
use super::segment::BatchLimits;
use super::summary::Summary;
use super::{inbound, lines, parked, templates};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, ImportId, LineKey};
use crate::domain::message::Attempt;
use crate::store::moving::{ChunkRecord, Numbers, Part, RequestRecord, number_of, taken};
use crate::store::rules::Kind;
use crate::store::step::{count_code, waits_again};
use crate::store::{ImportRecord, MessageRecord, StoreError, StoreResult};

/// Batches under way at once.
const WRITES: usize = 8;

/// Claims under way at once: decisions of one partition are made one after the other anyway.
const CLAIMS: usize = 4;

/// Chunks in one batch.
const CHUNKS: usize = 200;

/// Bytes of a message besides its texts.
const ROW_BYTES: usize = 160;

/// Takes over secret and numbers.
pub(super) async fn adopt(cql: &Cql, secret: [u8; 32], given: Numbers) -> StoreResult<()> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    put(cql, "secret", hex.as_str(), |(_, _, _, body)| body.as_deref() == Some(hex.as_str()), 1).await?;
    for (kind, number) in [(Kind::Campaign, given.campaign), (Kind::Line, given.line)] {
        let (slot, number) = (format!("next/{}", kind.name()), i64::from(number));
        if number > 0 {
            put(cql, &slot, "", |(_, last, ..)| last.unwrap_or_default() >= number, number).await?;
        }
    }
    Ok(())
}

/// Writes a slot of the installation with this version, unless what stands there will do.
async fn put(cql: &Cql, slot: &str, body: &str, will_do: impl Fn(&RecordRow) -> bool, version: i64) -> StoreResult<()> {
    const HOME: &str = "installation";
    loop {
        let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (HOME, slot)).await?;
        let settled = || async { Ok(Some(false)) };
        // Whether it was done is seen in the next round.
        match row {
            Some(row) if will_do(&row) => return Ok(()),
            Some((_, seen, ..)) => {
                let values = (version, 0_i64, body, HOME, slot, seen.unwrap_or_default());
                cql.decide(&cql.st.replace, values, settled).await?
            }
            None => cql.decide(&cql.st.claim, (HOME, slot, version, 0_i64, body), settled).await?,
        };
    }
}

/// Writes a piece over whatever a run before left of it.
pub(super) async fn take(cql: &Cql, limits: BatchLimits, part: Part) -> StoreResult<()> {
    match part {
        Part::Pools(pools) => each(pools, |pool| async move { lines::take_pool(cql, &pool).await }).await,
        Part::Lines(all) => each(all, |line| async move { lines::take(cql, &line).await }).await,
        Part::Templates(all) => each(all, |template| async move { templates::take(cql, &template).await }).await,
        Part::Requests(all) => each(all, |request| async move { take_request(cql, request).await }).await,
        Part::Campaign(campaign, imports) => take_campaign(cql, &campaign, &imports).await,
        Part::Chunks { campaign, import, chunks } => take_chunks(cql, campaign, import, &chunks).await,
        Part::Refused { campaign, from, rows } => write_all(cql, refused_units(cql, campaign, from, &rows)).await,
        Part::Segment { campaign, imports, number, messages } => {
            take_segment(cql, limits, &campaign, &imports, number, &messages).await
        }
        Part::Orphans { since, from, events } => {
            let numbered: Vec<_> = (from..).zip(events).collect();
            let put = |(place, event)| async move { parked::take_orphan(cql, since, place, &event).await };
            each(numbered, put).await
        }
        Part::Parked { since, events, .. } => {
            each(events, |event| async move { parked::take(cql, since, &event).await }).await
        }
        Part::Inbound { from, events } => {
            let numbered: Vec<_> = (from..).zip(events).collect();
            each(numbered, |(place, event)| async move { inbound::take(cql, place, &event).await }).await
        }
    }
}

async fn each<T, F>(items: Vec<T>, take: impl Fn(T) -> F) -> StoreResult<()>
where
    F: Future<Output = StoreResult<()>>,
{
    stream::iter(items).map(take).buffer_unordered(CLAIMS).try_collect().await
}

async fn write_all(cql: &Cql, units: Vec<Unit>) -> StoreResult<()> {
    stream::iter(units).map(|unit| cql.write_unit(unit)).buffer_unordered(WRITES).try_collect().await
}

/// Claims a slot for a record, or finds the same record there.
pub(super) async fn claim(
    cql: &Cql,
    what: &str,
    (home, slot): (&str, &str),
    (version, number, body): (u64, i64, &str),
) -> StoreResult<()> {
    let version = version.cast_signed();
    let same = || async {
        let row: Option<RecordRow> = cql.decided_row(&cql.st.record, (home, slot)).await?;
        let is_same = |(_, v, n, b): RecordRow| (v, n, b.as_deref()) == (Some(version), Some(number), Some(body));
        Ok::<_, StoreError>(row.map(is_same))
    };
    if cql.decide(&cql.st.claim, (home, slot, version, number, body), same).await? || same().await? == Some(true) {
        return Ok(());
    }
    taken(what)
}

async fn take_request(cql: &Cql, request: RequestRecord) -> StoreResult<()> {
    let RequestRecord { tenant, request_id, kind, id, key } = request;
    let made = Made::new(kind, id, i64::from(key));
    requests::take(cql, &tenant, &request_id, &made).await
}

/// The record first, its name at once: nobody looks yet.
async fn take_campaign(cql: &Cql, campaign: &Campaign, imports: &[ImportRecord]) -> StoreResult<()> {
    campaigns::take(cql, campaign).await?;
    let (tenant, id) = (campaign.tenant.as_str(), campaign.id.as_str());
    let numbered = (0..).zip(imports);
    let list = List {
        recipients: campaign.recipients,
        refused: campaign.refused,
        next_seq: campaign.next_seq,
        imports: numbered.map(|(number, record)| Import { number, record: record.clone(), duplicates: 0 }).collect(),
    };
    // What the seal found stands in the counts already.
    let seal = campaign.sealed.as_ref().map(|sealed| Seal {
        at: sealed.at,
        digest: sealed.digest.clone(),
        duplicates: BTreeMap::new(),
    });
    for unit in list::imports(cql, campaign.key, &list, seal.as_ref()) {
        cql.write_unit(unit).await?;
    }
    cql.write_unit(list::end(cql, campaign.key, &list, seal.as_ref())).await?;
    cql.write(&cql.st.write_record, (1_i64, 0_i64, "", "tenants", tenant)).await?;
    claim(cql, "campaign", (&names(&campaign.tenant), id), (1, i64::from(campaign.key.0), "")).await
}

async fn take_chunks(cql: &Cql, campaign: CampaignKey, import: u32, chunks: &[ChunkRecord]) -> StoreResult<()> {
    let (key, import) = (campaign.0.cast_signed(), import.cast_signed());
    let unit = |some: &[ChunkRecord]| {
        let mut unit = Unit::new();
        for chunk in some {
            let values = (
                chunk.rows.cast_signed(),
                chunk.digest.to_vec(),
                chunk.stored.cast_signed(),
                chunk.refused.cast_signed(),
                key,
                import,
                chunk.offset.cast_signed(),
            );
            unit.push(&cql.st.write_chunk, values);
        }
        unit
    };
    write_all(cql, chunks.chunks(CHUNKS).map(unit).collect()).await
}

/// Messages first, then the counts that follow from them.
async fn take_segment(
    cql: &Cql,
    limits: BatchLimits,
    campaign: &Campaign,
    imports: &[ImportId],
    number: u32,
    messages: &[MessageRecord],
) -> StoreResult<()> {
    let end_version = campaigns::end_version(campaign);
    let mut summary = Summary { end_version, ..Summary::default() };
    let mut used = BTreeSet::new();
    let mut units: Vec<Unit> = Vec::new();
    let mut bytes = 0;
    for record in messages {
        let room = room_of(record);
        if room > limits.bytes_fail {
            return Err(StoreError::Conflict(format!(
                "message {} of {} has {room} bytes, a batch of this ledger at most {}: raise [store.scylla] batch_kib_fail",
                record.key.seq, campaign.id, limits.bytes_fail
            )));
        }
        if units.last().is_none_or(|unit| unit.len() >= limits.rows) || bytes + room > limits.bytes {
            units.push(Unit::new());
            bytes = 0;
        }
        bytes += room;
        if let Some(unit) = units.last_mut() {
            push(unit, cql, campaign, number, record, number_of(imports, &record.origin.0)?, end_version)?;
        }
        note(&mut summary, record);
        used.extend(record.state.newest.iter().chain(&record.state.older).map(|attempt| attempt.line));
    }
    write_all(cql, units).await?;
    for line in used {
        let line: LineKey = line;
        lines::note_use(cql, line, campaign.key).await?;
    }
    if campaign.sealed.is_none() {
        return Ok(());
    }
    let mut unit = Unit::new();
    let (tally, failures) = summary.cells();
    let (tenant, key, segment) = partition(&campaign.tenant, campaign.key, number);
    unit.push(&cql.st.write_segment, (tally, failures, tenant, key, segment));
    cql.write_unit(unit).await
}

fn room_of(record: &MessageRecord) -> usize {
    let text = |text: Option<&str>| text.map_or(0, str::len);
    let attempt = |attempt: &Attempt| {
        let failure = attempt.failure.as_ref();
        let failure = failure.map_or(0, |f| f.class.len() + f.title.len() + f.message.len() + f.details.len() + 80);
        ROW_BYTES + text(attempt.provider_id.as_deref()) + failure
    };
    let attempts: usize = record.state.newest.iter().chain(&record.state.older).map(attempt).sum();
    record.address.len() + text(record.external_id.as_deref()) + record.params.len() + 100 + attempts
}

fn push(
    unit: &mut Unit,
    cql: &Cql,
    campaign: &Campaign,
    number: u32,
    record: &MessageRecord,
    import: u32,
    end_version: u64,
) -> StoreResult<()> {
    let (tenant, key, segment) = partition(&campaign.tenant, campaign.key, number);
    let seq = record.key.seq.cast_signed();
    let values = (
        record.address.to_string(),
        record.external_id.as_deref().unwrap_or_default().to_owned(),
        record.params.to_string(),
        import.cast_signed(),
        record.origin.1.cast_signed(),
        false,
        tenant.clone(),
        key,
        segment,
        seq,
    );
    unit.push(&cql.st.write_recipient, values);
    let state = &record.state;
    if state.newest.is_some() {
        let (mut facts, term) = (Facts::new(), cql.stamps.tag());
        for attempt in state.newest.iter().chain(&state.older) {
            row::learn(None, attempt, &term, &mut facts)?;
        }
        unit.push(&cql.st.write_message, (row::register(state, end_version), facts, tenant, key, segment, seq));
    }
    Ok(())
}

/// Counts a message, as reading its row would.
fn note(summary: &mut Summary, record: &MessageRecord) {
    let facets = record.state.facets(None);
    summary.counts.tally.add(&facets);
    summary.counts.again += u64::from(waits_again(&record.state));
    summary.counts.untried += u64::from(record.state.newest.is_none());
    if let Some(code) = facets.failure_code {
        count_code(&mut summary.failures, code, 1);
    }
    summary.dues.meet(&Compact::of(&record.state));
}
