//! Duplicates inside a campaign, found in bounded memory: of a list's values only 64-bit keyed hashes are held, and of those no
//! more than a bound; a longer list is read several times, each time for another range of hashes. What two rows share by hash is
//! compared as text before the later row is refused.

use std::hash::{BuildHasher as _, RandomState};

use rusqlite::Connection;

use super::EmbeddedStore;
use super::error::{Try, damaged};
use super::recipients::refuse;
use super::rows::{optional_text, row_id, row_ids, text};
use super::seal::scan_page;
use super::tallies::unsigned;
use crate::domain::ids::{CampaignKey, ImportId, MessageKey};
use crate::store::StoreResult;
use crate::store::rules;

/// Duplicates that the writer moves at once.
const MOVED_MAX: usize = 2_000;

/// Refuses every later row whose address or external id an earlier one has. `hashes_max`: most hashes held at once, 8 bytes each.
pub(super) async fn refuse_all(store: &EmbeddedStore, key: CampaignKey, hashes_max: usize) -> StoreResult<()> {
    let hasher = RandomState::new();
    for unique in [Unique::Address, Unique::ExternalId] {
        let values = store.readers.read(move |conn| count(conn, key, unique)).await?;
        let passes = values.div_ceil(hashes_max as u64).max(1);
        for pass in 0..passes {
            let range = HashRange { pass, passes, values };
            let hashes = collect(store, key, unique, range, &hasher).await?;
            if !hashes.is_empty() {
                refuse_later(store, key, unique, hashes, &hasher).await?;
            }
        }
    }
    Ok(())
}

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

/// One of several equal parts of all hashes.
#[derive(Debug, Clone, Copy)]
struct HashRange {
    pass: u64,
    passes: u64,
    /// Values of the whole list.
    values: u64,
}

impl HashRange {
    /// Room for what the range will hold: growing by doubling would take three times as much. Hashes spread evenly; a 64th more
    /// is more than they ever stray where it matters.
    fn room(self) -> usize {
        let share = self.values.div_ceil(self.passes);
        usize::try_from(share + share / 64).unwrap_or(0)
    }

    fn holds(self, hash: u64) -> bool {
        self.passes == 1 || (u128::from(hash) * u128::from(self.passes)) >> 64 == u128::from(self.pass)
    }
}

fn count(conn: &Connection, key: CampaignKey, unique: Unique) -> Try<u64> {
    let (from, to) = row_ids(key, 0, u32::MAX);
    let sql = format!("SELECT count({}) FROM recipient WHERE id BETWEEN ?1 AND ?2", unique.column());
    Ok(conn.query_row(&sql, [from, to], |row| unsigned(row, 0))?)
}

/// The hashes of one range that occur more than once, sorted.
async fn collect(
    store: &EmbeddedStore,
    key: CampaignKey,
    unique: Unique,
    range: HashRange,
    hasher: &RandomState,
) -> StoreResult<Vec<u64>> {
    let (mut hashes, mut next) = (Vec::with_capacity(range.room()), Some(0));
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

/// Reads the list again and refuses each row that repeats an earlier one with one of these hashes.
async fn refuse_later(
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
        refused.push(rules::duplicate(import, row, unique.column(), (first_import, first_row)));
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
