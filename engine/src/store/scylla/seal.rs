//! Sealing a list: every later row whose address or external id an earlier one has is refused, then count and digest are fixed and
//! the segments get their counts.
//!
//! Nothing of it shows before the last batch, which writes the seal. A seal that is cut short is begun anew, finds the same, and
//! writes the same places again.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::cache::Cache;
use super::cql::Unit;
use super::error::damaged;
use super::hot::Hot;
use super::imports::{Import, refused_units};
use super::list::{self, Seal};
use super::segment::push_summary;
use super::summary::Summary;
use super::{campaigns, messages};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{ImportId, SEGMENT_LEN};
use crate::domain::time::UnixMillis;
use crate::store::rules;
use crate::store::{RefusedRow, StoreResult};

/// Hashes held at once, 8 bytes each; a longer list is read several times, each time for another range of hashes.
const HASHES_MAX: u64 = 2 << 20;

/// Refused rows written together.
const REFUSED_AT_ONCE: usize = 2_000;

/// `(seq, address, external_id, params, import_no, row_no, refused)`.
#[rustfmt::skip]
pub(super) type RecipientRow = (
    Option<i32>, Option<String>, Option<String>, Option<String>, Option<i32>, Option<i64>, Option<bool>,
);

/// A recipient of a list that is not sealed yet.
struct Listed {
    seq: u32,
    address: String,
    external_id: Option<String>,
    params: String,
    origin: (i32, u64),
}

/// What the last batch writes.
struct Refusals {
    /// Places whose rows are refused, one bit each.
    places: Vec<u64>,
    by_import: BTreeMap<i32, u64>,
    count: u64,
    waiting: Vec<(u32, RefusedRow)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unique {
    Address,
    ExternalId,
}

impl Unique {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::ExternalId => "external_id",
        }
    }

    fn of(self, row: &Listed) -> Option<&str> {
        match self {
            Self::Address => Some(&row.address),
            Self::ExternalId => row.external_id.as_deref(),
        }
    }
}

/// Seals a campaign. The caller holds the store's turn for sealing: one list at a time, or the bound on memory would not hold.
pub(super) async fn seal(cache: &Cache, hot: &Arc<Hot>, now: UnixMillis) -> StoreResult<Campaign> {
    let cql = &cache.cql;
    let campaign = campaigns::by_key(cql, hot.key).await?;
    if campaign.sealed.is_some() {
        return seen(cache, hot, campaign).await;
    }
    rules::expect_sealable(&campaign)?;
    let _sealing = hot.begin_sealing();
    let turn = hot.turn(cql.patience).await?;
    hot.expect_ours(cql)?;
    let mut campaign = campaigns::by_key(cql, hot.key).await?;
    if campaign.sealed.is_some() {
        return seen(cache, hot, campaign).await;
    }
    let list = list::read(cql, hot.key).await?;
    (campaign.recipients, campaign.refused, campaign.next_seq) = (list.recipients, list.refused, list.next_seq);
    rules::expect_sealable(&campaign)?;
    let mut refusals = Refusals {
        places: vec![0; (campaign.next_seq as usize).div_ceil(64)],
        by_import: BTreeMap::new(),
        count: 0,
        waiting: Vec::new(),
    };
    let hasher = RandomState::new();
    for unique in [Unique::Address, Unique::ExternalId] {
        let passes = u64::from(campaign.next_seq).div_ceil(HASHES_MAX).max(1);
        for pass in 0..passes {
            let in_pass = |hash: u64| (u128::from(hash) * u128::from(passes)) >> 64 == u128::from(pass);
            refuse_repeats(cache, hot, &campaign, &list.imports, unique, &hasher, in_pass, &mut refusals).await?;
        }
    }
    let (digest, segments) = digest(cache, hot, &campaign, &refusals).await?;
    let counted: u64 = segments.values().map(|s| s.counts.untried).sum();
    rules::expect_counted(counted, campaign.recipients - refusals.count)?;
    for (number, summary) in &segments {
        let mut unit = Unit::new();
        push_summary(&mut unit, cql, hot, *number, summary);
        cql.write_unit_in(hot.term, unit).await?;
    }
    let seal = Seal { at: now, digest, duplicates: refusals.by_import };
    let imports = list::imports(cql, hot.key, &list, Some(&seal));
    list::write(cql, hot, turn, imports, list::end(cql, hot.key, &list, Some(&seal))).await?;
    campaigns::by_key(cql, hot.key).await
}

/// A campaign that is sealed already. If what is held does not know it, then by a batch whose outcome was not known until now.
async fn seen(cache: &Cache, hot: &Hot, campaign: Campaign) -> StoreResult<Campaign> {
    if !hot.head().sealed {
        hot.doubt_head();
        hot.refresh(&cache.cql).await?;
    }
    Ok(campaign)
}

/// Runs `each` over the list in order of `seq`, a segment at a time.
async fn scan(cache: &Cache, hot: &Hot, number: u32, next_seq: u32) -> StoreResult<Vec<Listed>> {
    let (first, last) =
        (number * SEGMENT_LEN, (number * SEGMENT_LEN).saturating_add(SEGMENT_LEN - 1).min(next_seq - 1));
    let cql = &cache.cql;
    let rows: Vec<RecipientRow> = cql.rows(&cql.st.recipients, messages::range(hot, number, first, last)).await?;
    let listed = |(seq, address, external_id, params, import, row, _): RecipientRow| {
        Some(Listed {
            seq: seq?.cast_unsigned(),
            address: address?,
            external_id: external_id.filter(|id| !id.is_empty()),
            params: params?,
            origin: (import?, row?.unsigned_abs()),
        })
    };
    Ok(rows.into_iter().filter_map(listed).collect())
}

fn segments_of(campaign: &Campaign) -> std::ops::Range<u32> {
    0..campaign.next_seq.div_ceil(SEGMENT_LEN)
}

#[allow(clippy::too_many_arguments)] // one step of the seal, with all that it knows
async fn refuse_repeats(
    cache: &Cache,
    hot: &Hot,
    campaign: &Campaign,
    imports: &[Import],
    unique: Unique,
    hasher: &RandomState,
    in_pass: impl Fn(u64) -> bool,
    refusals: &mut Refusals,
) -> StoreResult<()> {
    let mut hashes = Vec::new();
    for number in segments_of(campaign) {
        for row in scan(cache, hot, number, campaign.next_seq).await? {
            if let Some(text) = unique.of(&row).filter(|_| !refusals.has(row.seq)) {
                hashes.push(hasher.hash_one(text));
                if !hashes.last().is_some_and(|hash| in_pass(*hash)) {
                    hashes.pop();
                }
            }
        }
    }
    hashes.sort_unstable();
    let repeated: std::collections::HashSet<u64> =
        hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    drop(hashes);
    if repeated.is_empty() {
        return Ok(());
    }
    let mut firsts: HashMap<String, (i32, u64)> = HashMap::new();
    for number in segments_of(campaign) {
        for row in scan(cache, hot, number, campaign.next_seq).await? {
            let Some(text) = unique.of(&row).filter(|_| !refusals.has(row.seq)) else { continue };
            if !repeated.contains(&hasher.hash_one(text)) {
                continue;
            }
            match firsts.get(text) {
                None => {
                    firsts.insert(text.to_owned(), row.origin);
                }
                Some(first) => refusals.add(&row, *first, unique, imports)?,
            }
        }
        if refusals.waiting.len() >= REFUSED_AT_ONCE {
            refusals.write(cache, hot, campaign).await?;
        }
    }
    refusals.write(cache, hot, campaign).await
}

impl Refusals {
    fn has(&self, seq: u32) -> bool {
        self.places.get(seq as usize / 64).is_some_and(|bits| bits & (1 << (seq % 64)) != 0)
    }

    fn add(&mut self, later: &Listed, first: (i32, u64), unique: Unique, imports: &[Import]) -> StoreResult<()> {
        let name = |number: i32| -> StoreResult<ImportId> {
            let found = imports.iter().find(|import| import.number == number);
            found.map(|import| import.record.id.clone()).ok_or_else(|| damaged("a recipient without its import"))
        };
        let (first_import, first_row) = (name(first.0)?, first.1);
        if let Some(bits) = self.places.get_mut(later.seq as usize / 64) {
            *bits |= 1 << (later.seq % 64);
        }
        *self.by_import.entry(later.origin.0).or_default() += 1;
        let row = rules::duplicate(name(later.origin.0)?, later.origin.1, unique.name(), (first_import, first_row));
        self.waiting.push((later.seq, row));
        Ok(())
    }

    /// Writes what was found, behind the counts that show.
    async fn write(&mut self, cache: &Cache, hot: &Hot, campaign: &Campaign) -> StoreResult<()> {
        let cql = &cache.cql;
        let (seqs, rows): (Vec<u32>, Vec<RefusedRow>) = std::mem::take(&mut self.waiting).into_iter().unzip();
        for unit in refused_units(cql, hot.key, campaign.refused + self.count, &rows) {
            cql.write_unit_in(hot.term, unit).await?;
        }
        let mut by_segment: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        seqs.iter().for_each(|seq| by_segment.entry(seq / SEGMENT_LEN).or_default().push(*seq));
        for (number, seqs) in by_segment {
            for some in seqs.chunks(cache.limits.rows) {
                let mut unit = Unit::new();
                for seq in some {
                    let (tenant, key, segment) = hot.partition(number);
                    unit.push(&cql.st.refuse_recipient, (true, tenant, key, segment, seq.cast_signed()));
                }
                cql.write_unit_in(hot.term, unit).await?;
            }
        }
        self.count += rows.len() as u64;
        Ok(())
    }
}

/// SHA-256 over address, external id and parameters in order of `seq`, each behind its length (8 bytes, big-endian; a missing
/// external id as length 2^64 - 1), in hex, as the embedded store makes it; and the segments that have recipients.
async fn digest(
    cache: &Cache,
    hot: &Hot,
    campaign: &Campaign,
    refusals: &Refusals,
) -> StoreResult<(String, BTreeMap<u32, Summary>)> {
    let (mut sha, mut segments) = (Context::new(&SHA256), BTreeMap::new());
    for number in segments_of(campaign) {
        let mut recipients = 0;
        for row in scan(cache, hot, number, campaign.next_seq).await? {
            if refusals.has(row.seq) {
                continue;
            }
            recipients += 1;
            for text in [Some(row.address), row.external_id, Some(row.params)] {
                sha.update(&text.as_ref().map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
                sha.update(text.unwrap_or_default().as_bytes());
            }
        }
        if recipients > 0 {
            segments.insert(number, Summary::untouched(recipients));
        }
    }
    Ok((sha.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect(), segments))
}
