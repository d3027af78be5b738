//! Sealing a list: the last duplicates are refused, then count and digest are fixed and the segments get their tallies.
//!
//! The scans run on a reader, in short pages; the writer only moves the duplicates, a page at a time, and writes the seal. Memory
//! is bounded by [`HASHES_MAX`]: a longer list is read several times, each time for another range of hashes.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::error::{Try, conflict, damaged};
use super::ledger::Ledger;
use super::recipients::refuse;
use super::rows::{message_key, optional_text, row_id, row_ids, text};
use super::tallies::{self, Segment, bind_segment, unsigned};
use super::{EmbeddedStore, campaigns};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, ImportId, MessageKey, SEGMENT_LEN};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::{RefusedRow, StoreResult};

/// Hashes held at once: 32 MB.
pub(super) const HASHES_MAX: usize = 4 << 20;

/// Recipients read in one snapshot.
const SCAN_ROWS: u32 = 8 * SEGMENT_LEN;

/// Duplicates that the writer moves at once.
const MOVED_MAX: usize = 2_000;

/// What must be unique in a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unique {
    Address,
    ExternalId,
}

impl Unique {
    fn column(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::ExternalId => "external_id",
        }
    }
}

/// A later row that repeats an earlier one.
#[derive(Debug, Clone, Copy)]
struct Duplicate {
    later: u32,
    first: u32,
}

/// Seals a campaign. The caller holds the store's seal lock: one list at a time, or the bound on memory would not hold.
pub(super) async fn seal(store: &EmbeddedStore, key: CampaignKey, now: UnixMillis) -> StoreResult<Campaign> {
    let campaign = store.readers.read(move |conn| campaigns::by_key(conn, key)).await?;
    if campaign.sealed.is_some() {
        return Ok(campaign);
    }
    expect_sealable(&campaign)?;
    // From here on the writer turns recipients away, or a chunk could slip in behind the scan.
    let frozen = Frozen { all: Arc::clone(&store.frozen), key };
    let all = Arc::clone(&store.frozen);
    store.write(move |ledger| freeze(ledger, &all, key)).await?;
    let sealed = seal_frozen(store, key, now, HASHES_MAX).await;
    drop(frozen);
    sealed
}

/// The campaigns whose lists are being sealed. Only the writer asks, in its order of calls.
pub(super) type FrozenLists = Arc<Mutex<HashSet<CampaignKey>>>;

/// Lets a list go, also when its caller went away half-way.
struct Frozen {
    all: FrozenLists,
    key: CampaignKey,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.all.lock().remove(&self.key);
    }
}

/// The scans and moves of a campaign that takes no more recipients.
pub(super) async fn seal_frozen(
    store: &EmbeddedStore,
    key: CampaignKey,
    now: UnixMillis,
    hashes_max: usize,
) -> StoreResult<Campaign> {
    let hasher = RandomState::new();
    for unique in [Unique::Address, Unique::ExternalId] {
        let rows = store.readers.read(move |conn| count(conn, key, unique)).await?;
        let passes = rows.div_ceil(hashes_max as u64).max(1);
        for pass in 0..passes {
            let range = HashRange { pass, passes };
            let hashes = collect(store, key, unique, range, &hasher).await?;
            if !hashes.is_empty() {
                refuse_duplicates(store, key, unique, hashes, &hasher).await?;
            }
        }
    }
    let (digest, segments) = digest(store, key).await?;
    store.write(move |ledger| write_seal(ledger, key, now, &digest, &segments)).await
}

fn expect_sealable(campaign: &Campaign) -> StoreResult<()> {
    let refused = match campaign.state {
        CampaignState::Draft if campaign.recipients > 0 => return Ok(()),
        CampaignState::Draft => "the campaign has no recipients: import some before starting it".to_owned(),
        state => format!("only a draft's list can be sealed; the campaign is {}", state.name()),
    };
    Err(crate::store::StoreError::Conflict(refused))
}

fn freeze(ledger: &mut Ledger<'_>, all: &FrozenLists, key: CampaignKey) -> Try<()> {
    expect_sealable(&campaigns::by_key(ledger.conn(), key)?)?;
    all.lock().insert(key);
    Ok(())
}

/// Refuses recipients for a list that is being sealed.
pub(super) fn expect_not_frozen(all: &FrozenLists, key: CampaignKey) -> Try<()> {
    if all.lock().contains(&key) {
        return conflict("the campaign's list is being sealed: it takes no more recipients");
    }
    Ok(())
}

/// One of several equal parts of all hashes.
#[derive(Debug, Clone, Copy)]
struct HashRange {
    pass: u64,
    passes: u64,
}

impl HashRange {
    fn holds(self, hash: u64) -> bool {
        self.passes == 1 || (u128::from(hash) * u128::from(self.passes)) >> 64 == u128::from(self.pass)
    }
}

fn count(conn: &Connection, key: CampaignKey, unique: Unique) -> Try<u64> {
    let (from, to) = row_ids(key, 0, u32::MAX);
    let sql = format!("SELECT count({}) FROM recipient WHERE id BETWEEN ?1 AND ?2", unique.column());
    Ok(conn.query_row(&sql, [from, to], |row| unsigned(row, 0))?)
}

/// Runs `each` over one page of the list; returns where the next begins.
fn scan_page(
    conn: &Connection,
    key: CampaignKey,
    columns: &str,
    from_seq: u32,
    mut each: impl FnMut(u32, &rusqlite::Row<'_>) -> Try<()>,
) -> Try<Option<u32>> {
    let (from, to) = row_ids(key, from_seq, u32::MAX);
    let sql = format!("SELECT id, {columns} FROM recipient WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT {SCAN_ROWS}");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([from, to])?;
    let (mut read, mut last) = (0, from_seq);
    while let Some(row) = rows.next()? {
        last = message_key(row.get(0)?).seq;
        each(last, row)?;
        read += 1;
    }
    Ok((read == SCAN_ROWS).then(|| last + 1))
}

/// The hashes of one range that occur more than once, sorted.
async fn collect(
    store: &EmbeddedStore,
    key: CampaignKey,
    unique: Unique,
    range: HashRange,
    hasher: &RandomState,
) -> StoreResult<Vec<u64>> {
    let (mut hashes, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let (hasher, mut held) = (hasher.clone(), std::mem::take(&mut hashes));
        (hashes, next) = store
            .readers
            .read(move |conn| {
                let next = scan_page(conn, key, unique.column(), from, |_, row| {
                    if let Some(text) = row.get_ref(1)?.as_str_or_null().map_err(damaged)? {
                        let hash = hasher.hash_one(text);
                        if range.holds(hash) {
                            held.push(hash);
                        }
                    }
                    Ok(())
                })?;
                Ok((held, next))
            })
            .await?;
    }
    hashes.sort_unstable();
    let mut kept = 0;
    for i in 1..hashes.len() {
        let repeats = hashes[i] == hashes[i - 1];
        if repeats && (kept == 0 || hashes[kept - 1] != hashes[i]) {
            hashes[kept] = hashes[i];
            kept += 1;
        }
    }
    hashes.truncate(kept);
    hashes.shrink_to_fit();
    Ok(hashes)
}

/// First rows by hash, while the list is read a second time. Equal hashes of different texts are kept apart by their text.
struct Firsts {
    hashes: Vec<u64>,
    /// The first row of each hash; `u32::MAX`: not met yet.
    rows: Vec<u32>,
    /// Further first rows of a hash that several texts share: next to never any.
    shared: Vec<(usize, u32)>,
}

impl Firsts {
    /// The earlier row with this text, if there is one; otherwise notes this row as the first.
    fn meet(
        &mut self,
        conn: &Connection,
        key: CampaignKey,
        unique: Unique,
        hash: u64,
        seq: u32,
        text: &str,
    ) -> Try<Option<u32>> {
        let Ok(place) = self.hashes.binary_search(&hash) else { return Ok(None) };
        if self.rows[place] == u32::MAX {
            self.rows[place] = seq;
            return Ok(None);
        }
        let others = self.shared.iter().filter(|(at, _)| *at == place).map(|(_, seq)| *seq);
        for first in std::iter::once(self.rows[place]).chain(others) {
            if value_of(conn, key, unique, first)?.as_deref() == Some(text) {
                return Ok(Some(first));
            }
        }
        self.shared.push((place, seq));
        Ok(None)
    }
}

fn value_of(conn: &Connection, campaign: CampaignKey, unique: Unique, seq: u32) -> Try<Option<Box<str>>> {
    let sql = format!("SELECT {} FROM recipient WHERE id = ?1", unique.column());
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([row_id(MessageKey { campaign, seq })])?;
    rows.next()?.map_or(Ok(None), |row| optional_text(row, 0))
}

async fn refuse_duplicates(
    store: &EmbeddedStore,
    key: CampaignKey,
    unique: Unique,
    hashes: Vec<u64>,
    hasher: &RandomState,
) -> StoreResult<()> {
    let rows = vec![u32::MAX; hashes.len()];
    let (mut firsts, mut next) = (Firsts { hashes, rows, shared: Vec::new() }, Some(0));
    while let Some(from) = next {
        let hasher = hasher.clone();
        let found;
        (firsts, found, next) = store
            .readers
            .read(move |conn| {
                let mut found = Vec::new();
                let next = scan_page(conn, key, unique.column(), from, |seq, row| {
                    if let Some(text) = row.get_ref(1)?.as_str_or_null().map_err(damaged)?
                        && let Some(first) = firsts.meet(conn, key, unique, hasher.hash_one(text), seq, text)?
                    {
                        found.push(Duplicate { later: seq, first });
                    }
                    Ok(())
                })?;
                Ok((firsts, found, next))
            })
            .await?;
        for some in found.chunks(MOVED_MAX) {
            let some = some.to_vec();
            store.write(move |ledger| refuse_some(ledger.conn(), key, unique, &some)).await?;
        }
    }
    Ok(())
}

/// Turns recipients into refused rows, in one step with the counts of campaign and imports.
fn refuse_some(conn: &Connection, campaign: CampaignKey, unique: Unique, duplicates: &[Duplicate]) -> Try<()> {
    let mut origin = conn.prepare_cached(
        "SELECT r.import, i.id, r.row FROM recipient r JOIN import i ON i.campaign = ?2 AND i.number = r.import WHERE r.id = ?1",
    )?;
    let mut origin_of = |seq: u32| -> Try<(u32, ImportId, u64)> {
        let mut rows = origin.query((row_id(MessageKey { campaign, seq }), campaign.0))?;
        let Some(row) = rows.next()? else { return Err(damaged("a recipient without its import")) };
        Ok((row.get(0)?, ImportId::new(&text(row, 1)?).map_err(damaged)?, unsigned(row, 2)?))
    };
    let mut remove = conn.prepare_cached("DELETE FROM recipient WHERE id = ?1")?;
    let mut count = conn.prepare_cached(
        "UPDATE import SET stored = stored - 1, refused = refused + 1 WHERE campaign = ?1 AND number = ?2",
    )?;
    let mut refused = Vec::with_capacity(duplicates.len());
    for duplicate in duplicates {
        let (number, import, row) = origin_of(duplicate.later)?;
        let (_, first_import, first_row) = origin_of(duplicate.first)?;
        let reason = format!("the same as row {first_row} of import {first_import}");
        refused.push(RefusedRow {
            import,
            row,
            field: unique.column().into(),
            reason: reason.into(),
            duplicate_of: Some((first_import, first_row)),
        });
        remove.execute([row_id(MessageKey { campaign, seq: duplicate.later })])?;
        count.execute((campaign.0, number))?;
    }
    let before = conn.query_row("SELECT refused FROM campaign WHERE key = ?1", [campaign.0], |row| unsigned(row, 0))?;
    refuse(conn, campaign, before, &refused)?;
    conn.execute(
        "UPDATE campaign SET recipients = recipients - ?2, refused = refused + ?2 WHERE key = ?1",
        (campaign.0, u32::try_from(refused.len()).unwrap_or(u32::MAX)),
    )?;
    Ok(())
}

/// SHA-256 over address, external id and parameters in order of `seq`, each behind its length (8 bytes, big-endian; a missing
/// external id as length 2^64 - 1), in hex; and the recipients of each segment.
async fn digest(store: &EmbeddedStore, key: CampaignKey) -> StoreResult<(String, Vec<u32>)> {
    let (mut sha, mut segments, mut next) = (Sha256::new(), Vec::<u32>::new(), Some(0));
    while let Some(from) = next {
        (sha, segments, next) = store
            .readers
            .read(move |conn| {
                let next = scan_page(conn, key, "address, external_id, params", from, |seq, row| {
                    for column in 1..=3 {
                        let value = row.get_ref(column)?.as_str_or_null().map_err(damaged)?;
                        sha.update(value.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
                        sha.update(value.unwrap_or_default());
                    }
                    let segment = (seq / SEGMENT_LEN) as usize;
                    if segments.len() <= segment {
                        segments.resize(segment + 1, 0);
                    }
                    segments[segment] += 1;
                    Ok(())
                })?;
                Ok((sha, segments, next))
            })
            .await?;
    }
    let hex = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hex, segments))
}

fn write_seal(
    ledger: &mut Ledger<'_>,
    key: CampaignKey,
    now: UnixMillis,
    digest: &str,
    segments: &[u32],
) -> Try<Campaign> {
    let conn = ledger.conn();
    let campaign = campaigns::by_key(conn, key)?;
    expect_sealable(&campaign)?;
    let counted: u64 = segments.iter().map(|recipients| u64::from(*recipients)).sum();
    if counted != campaign.recipients {
        return Err(damaged(format!("a list of {counted} recipients, counted as {}", campaign.recipients)));
    }
    let mut insert = conn.prepare(&tallies::insert_segment_sql())?;
    for (number, recipients) in (0_u32..).zip(segments).filter(|(_, recipients)| **recipients > 0) {
        let untried = u64::from(*recipients);
        let tally = Tally::untouched(untried, campaign.end);
        bind_segment(&mut insert, key, number, &Segment { tally, again: 0, untried, dirty: false })?;
        insert.raw_execute()?;
    }
    conn.execute("UPDATE campaign SET sealed_at = ?2, sealed_digest = ?3 WHERE key = ?1", (key.0, now.0, digest))?;
    ledger.forget_campaign(key);
    campaigns::by_key(ledger.conn(), key)
}
