//! Sealing a list: the last duplicates are refused (see `duplicates`), then count and digest are fixed and the segments get
//! their tallies. The scans run on a reader, in short pages; the writer only moves the duplicates and writes the seal.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use rusqlite::Connection;

use super::duplicates;
use super::error::{Try, damaged};
use super::ledger::Ledger;
use super::rows::{message_key, row_ids};
use super::tallies::{self, Segment, bind_segment};
use super::{EmbeddedStore, campaigns};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{CampaignKey, SEGMENT_LEN};
use crate::domain::time::UnixMillis;
use crate::store::StoreResult;
use crate::store::rules;
use crate::store::step::SegmentCounts;

/// Hashes held at once: 32 MB.
pub(super) const HASHES_MAX: usize = 4 << 20;

/// Recipients read in one snapshot.
const SCAN_ROWS: u32 = 8 * SEGMENT_LEN;

/// Seals a campaign. The caller holds the store's seal lock: one list at a time, or the bound on memory would not hold.
pub(super) async fn seal(store: &EmbeddedStore, key: CampaignKey, now: UnixMillis) -> StoreResult<Campaign> {
    let campaign = store.readers.read(move |conn| campaigns::by_key(conn, key)).await?;
    if campaign.sealed.is_some() {
        return Ok(campaign);
    }
    rules::expect_sealable(&campaign)?;
    // From here on the writer turns recipients away, or a chunk could slip in behind the scan.
    let held = Arc::new(());
    let (lists, hold) = (Arc::clone(&store.frozen), Arc::downgrade(&held));
    store.write(move |ledger| freeze(ledger, &lists, key, hold)).await?;
    let sealed = seal_frozen(store, key, now, HASHES_MAX).await;
    drop(held);
    sealed
}

/// The campaigns whose lists are being sealed, each as long as its sealer lives: one that went away half-way lets its list go. Only
/// the writer looks, in its order of calls.
pub(super) type FrozenLists = Arc<Mutex<HashMap<CampaignKey, Weak<()>>>>;

/// The scans and moves of a campaign that takes no more recipients.
pub(super) async fn seal_frozen(
    store: &EmbeddedStore,
    key: CampaignKey,
    now: UnixMillis,
    hashes_max: usize,
) -> StoreResult<Campaign> {
    duplicates::refuse_all(store, key, hashes_max).await?;
    let (digest, segments) = digest(store, key).await?;
    store.write(move |ledger| write_seal(ledger, key, now, &digest, &segments)).await
}

fn freeze(ledger: &mut Ledger<'_>, lists: &FrozenLists, key: CampaignKey, hold: Weak<()>) -> Try<()> {
    rules::expect_sealable(&campaigns::by_key(ledger.conn(), key)?)?;
    let mut lists = lists.lock();
    lists.retain(|_, hold| hold.strong_count() > 0);
    lists.insert(key, hold);
    Ok(())
}

/// Refuses recipients for a list that is being sealed.
pub(super) fn expect_not_frozen(lists: &FrozenLists, key: CampaignKey) -> Try<()> {
    if lists.lock().get(&key).is_some_and(|hold| hold.strong_count() > 0) {
        return Ok(rules::being_sealed()?);
    }
    Ok(())
}

/// Runs `each` over one page of the list; returns where the next begins.
pub(super) fn scan_page(
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

/// SHA-256 over address, external id and parameters in order of `seq`, each behind its length (8 bytes, big-endian; a missing
/// external id as length 2^64 - 1), in hex; and the recipients of each segment.
async fn digest(store: &EmbeddedStore, key: CampaignKey) -> StoreResult<(String, Vec<u32>)> {
    let (mut sha, mut segments, mut next) = (Context::new(&SHA256), Vec::<u32>::new(), Some(0));
    while let Some(from) = next {
        (sha, segments, next) = store
            .readers
            .read(move |conn| {
                let next = scan_page(conn, key, "address, external_id, params", from, |seq, row| {
                    for column in 1..=3 {
                        let value = row.get_ref(column)?.as_str_or_null().map_err(damaged)?;
                        sha.update(&value.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
                        sha.update(value.unwrap_or_default().as_bytes());
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
    let hex = sha.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
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
    rules::expect_sealable(&campaign)?;
    let counted: u64 = segments.iter().map(|recipients| u64::from(*recipients)).sum();
    rules::expect_counted(counted, campaign.recipients)?;
    let mut insert = conn.prepare(&tallies::insert_segment_sql())?;
    for (number, recipients) in (0_u32..).zip(segments).filter(|(_, recipients)| **recipients > 0) {
        let untried = u64::from(*recipients);
        let counts = SegmentCounts::untouched(untried, campaign.end);
        bind_segment(&mut insert, key, number, &Segment { counts, dirty: false })?;
        insert.raw_execute()?;
    }
    conn.execute("UPDATE campaign SET sealed_at = ?2, sealed_digest = ?3 WHERE key = ?1", (key.0, now.0, digest))?;
    ledger.forget_campaign(key);
    campaigns::by_key(ledger.conn(), key)
}
