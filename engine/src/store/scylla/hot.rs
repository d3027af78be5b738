//! A campaign that is being worked on: its head, and the counts of all its segments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;

use super::campaigns::{self, Stored};
use super::cql::Cql;
use super::owned::elsewhere;
use super::summary::{self, Summary, SummaryRow};
use crate::domain::ids::{CampaignKey, ImportId, LineKey, SEGMENT_LEN, TenantId};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::nodes::PoolRef;
use crate::store::{Counts, StoreError, StoreResult};

/// Partitions named in one read of counts, and such reads under way at once.
const SEGMENTS_A_READ: usize = 64;
const READS: usize = 4;

/// What the ledger needs to know of a campaign all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Of the record. Imports and the seal leave it as it is, and move `next_seq` or `sealed` instead.
    version: u64,
    pub(super) sealed: bool,
    pub(super) end: Option<End>,
    /// See [`Stored::end_version`].
    pub(super) end_version: u64,
    pub(super) recipients: u64,
    pub(super) next_seq: u32,
    /// Its policy sends again what stays in doubt.
    pub(super) resends: bool,
}

impl From<&Stored> for Head {
    fn from(stored: &Stored) -> Self {
        let campaign = &stored.record;
        Self {
            version: campaign.version,
            sealed: campaign.sealed.is_some(),
            end: campaign.end,
            end_version: stored.end_version,
            recipients: campaign.recipients,
            next_seq: campaign.next_seq,
            resends: campaign.settings.policy.resends(),
        }
    }
}

/// One campaign.
#[derive(Debug)]
pub(super) struct Hot {
    pub(super) key: CampaignKey,
    tenant: TenantId,
    /// Who owns it decides who works on the campaign.
    pub(super) pool: PoolRef,
    /// When it was read, in changes of what is ours.
    pub(super) as_of: u64,
    /// The epoch of the term in which it was read: nothing that follows from it is written in another.
    pub(super) term: u64,
    /// It was given away.
    gone: AtomicBool,
    /// Shared by batches, taken alone by whatever changes the head: none of them overlap.
    pub(super) gate: tokio::sync::RwLock<()>,
    /// One chunk, or the seal, at a time.
    pub(super) list: Arc<tokio::sync::Mutex<()>>,
    /// All imports were written in this term as they stand: see `list.rs`.
    pub(super) imports_written: AtomicBool,
    sealing: AtomicBool,
    /// How often a decision about the record, or a batch about the list, had no known outcome or one that is not in the head, and up to
    /// which of these doubts the head was read again since.
    doubts: AtomicU64,
    cleared: AtomicU64,
    head: Mutex<Head>,
    segments: Mutex<BTreeMap<u32, Summary>>,
    /// Segments whose rows were read in this term.
    from_rows: Mutex<BTreeSet<u32>>,
    /// Lines that are known to have been used.
    pub(super) lines: Mutex<Vec<LineKey>>,
    /// Ids of its imports by number, as far as they are known; they never change.
    pub(super) imports: Mutex<Vec<ImportId>>,
}

impl Hot {
    /// Reads the head and all counts.
    pub(super) async fn load(cql: &Cql, key: CampaignKey) -> StoreResult<Self> {
        let (term, as_of) = (cql.stamps.epoch(), cql.owned.changes());
        let campaign = campaigns::stored(cql, key).await?;
        let this = Self {
            key,
            tenant: campaign.record.tenant.clone(),
            pool: PoolRef::new(&campaign.record.tenant, &campaign.record.pool),
            as_of,
            term,
            gone: AtomicBool::new(false),
            gate: tokio::sync::RwLock::default(),
            list: Arc::default(),
            imports_written: AtomicBool::new(false),
            sealing: AtomicBool::new(false),
            doubts: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            head: Mutex::new(Head::from(&campaign)),
            segments: Mutex::default(),
            from_rows: Mutex::default(),
            lines: Mutex::default(),
            imports: Mutex::default(),
        };
        if campaign.record.sealed.is_some() {
            let segments = read_summaries(cql, &campaign).await?;
            *this.segments.lock() = segments;
        }
        Ok(this)
    }

    /// The key of a segment's partition.
    pub(super) fn partition(&self, segment: u32) -> (String, i32, i32) {
        partition(&self.tenant, self.key, segment)
    }

    /// Nothing of it is written any more from here: its pool is given away. With its list and its gate held.
    pub(super) fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Release);
    }

    /// Fails where its pool is another node's, or about to be. With its list or its gate held.
    pub(super) fn expect_ours(&self, cql: &Cql) -> StoreResult<()> {
        if self.gone.load(Acquire) || self.term != cql.stamps.epoch() {
            return Err(elsewhere(&self.pool));
        }
        cql.owned.expect(&self.pool, self.key)
    }

    /// Its list is being sealed and takes no more recipients.
    pub(super) fn is_sealing(&self) -> bool {
        self.sealing.load(Acquire)
    }

    /// Says that the list is being sealed, as long as the answer lives.
    pub(super) fn begin_sealing(&self) -> Sealing<'_> {
        self.sealing.store(true, Release);
        Sealing(self)
    }

    /// The list to oneself, between two chunks.
    pub(super) async fn turn(&self, patience: Duration) -> StoreResult<tokio::sync::OwnedMutexGuard<()>> {
        let waited = tokio::time::timeout(patience, Arc::clone(&self.list).lock_owned()).await;
        waited.map_err(|_| StoreError::Unavailable("the campaign's list is being written: try again".to_owned()))
    }

    pub(super) fn head(&self) -> Head {
        *self.head.lock()
    }

    /// Whether a record of this version is newer than what is held.
    pub(super) fn is_behind(&self, version: u64) -> bool {
        self.head().version < version
    }

    /// The head may not be what is stored.
    pub(super) fn doubt_head(&self) {
        self.doubts.fetch_add(1, AcqRel);
    }

    /// Reads the head again if it is in doubt.
    pub(super) async fn refresh(&self, cql: &Cql) -> StoreResult<()> {
        let doubts = self.doubts.load(Acquire);
        if self.cleared.load(Acquire) < doubts {
            // Decided by whoever reads: what is still being decided must not be missed for good.
            let stored = campaigns::stored_decided(cql, self.key).await?;
            if stored.record.sealed.is_some() && self.segments.lock().is_empty() {
                // Counts stand before anybody sees that it is sealed. Nothing is published of a campaign that has none.
                let segments = read_summaries(cql, &stored).await?;
                let mut held = self.segments.lock();
                if held.is_empty() {
                    *held = segments;
                }
            }
            self.set_head(&stored);
            // Not those that came since it was read.
            self.cleared.fetch_max(doubts, AcqRel);
        }
        Ok(())
    }

    /// Takes a record's head, unless what is held is of a later moment: records are read beside what changes them.
    /// Where the campaign has ended meanwhile, the counts follow before anybody sees the head.
    pub(super) fn set_head(&self, campaign: &Stored) {
        let (mut held, read) = (self.head.lock(), Head::from(campaign));
        let moment = |head: &Head| (head.version, head.sealed, head.next_seq);
        if moment(&read) >= moment(&held) {
            if read.end_version != held.end_version {
                self.segments.lock().values_mut().for_each(|summary| summary.end_with(read.end_version));
            }
            *held = read;
        }
    }

    /// One segment's counts; `None`: it has no recipients.
    pub(super) fn segment(&self, number: u32) -> Option<Summary> {
        self.segments.lock().get(&number).cloned()
    }

    /// A segment's rows were read in this term.
    pub(super) fn read_from_rows(&self, number: u32) {
        self.from_rows.lock().insert(number);
    }

    /// Whether it is certain that no attempt of a former owner was open in a segment when its campaign was taken over, and none is now:
    /// an intent of another term that shows up was never acknowledged. By its rows alone: its counts, read at another moment, may be of a
    /// batch whose rows the next read misses.
    pub(super) fn knows_none_open(&self, number: u32) -> bool {
        self.from_rows.lock().contains(&number) && self.segment(number).is_some_and(|summary| !summary.has_open())
    }

    /// Numbers of the segments from one on that pass.
    pub(super) fn segments(&self, from: u32, wanted: impl Fn(&Summary) -> bool) -> Vec<u32> {
        self.segments.lock().range(from..).filter(|(_, summary)| wanted(summary)).map(|(number, _)| *number).collect()
    }

    /// The earliest of something over all segments.
    pub(super) fn earliest<T: Ord>(&self, of: impl Fn(&Summary) -> Option<T>) -> Option<T> {
        self.segments.lock().values().filter_map(of).min()
    }

    /// Publishes a segment's counts; every publication has a number of its own.
    pub(super) fn publish(&self, number: u32, summary: &Summary, revision: &AtomicU64) {
        let mut summary = summary.clone();
        let head = self.head.lock();
        summary.end_with(head.end_version);
        let mut segments = self.segments.lock();
        segments.insert(number, summary);
        revision.fetch_add(1, Relaxed);
    }

    /// The campaign's counts. The number is taken before they are: they are at least that new.
    pub(super) fn counts(&self, revision: &AtomicU64) -> Counts {
        let (revision, head) = (revision.load(Acquire), self.head());
        if !head.sealed {
            return Counts { tally: Tally::untouched(head.recipients, head.end), revision, ..Counts::default() };
        }
        let (counts, failures) = summary::sum(self.segments.lock().values());
        Counts { tally: summary::ended(&counts, head.end), failures, revision }
    }
}

/// A seal under way.
pub(super) struct Sealing<'h>(&'h Hot);

impl Drop for Sealing<'_> {
    fn drop(&mut self) {
        self.0.sealing.store(false, Release);
    }
}

/// The key of a segment's partition.
pub(super) fn partition(tenant: &TenantId, key: CampaignKey, segment: u32) -> (String, i32, i32) {
    (tenant.as_str().to_owned(), key.0.cast_signed(), segment.cast_signed())
}

/// The counts of all segments of a sealed campaign.
pub(super) async fn read_summaries(cql: &Cql, stored: &Stored) -> StoreResult<BTreeMap<u32, Summary>> {
    let campaign = &stored.record;
    let numbers: Vec<i32> = (0..campaign.next_seq.div_ceil(SEGMENT_LEN)).map(u32::cast_signed).collect();
    let (tenant, key) = (campaign.tenant.as_str(), campaign.key.0.cast_signed());
    let some: Vec<Vec<i32>> = numbers.chunks(SEGMENTS_A_READ).map(<[i32]>::to_vec).collect();
    let reads = some
        .into_iter()
        .map(|some| async move { cql.rows::<SummaryRow>(&cql.st.segment_tallies, (tenant, key, some)).await });
    let rows: Vec<Vec<SummaryRow>> = stream::iter(reads).buffer_unordered(READS).try_collect().await?;
    let mut segments = BTreeMap::new();
    for (number, tally, failures) in rows.into_iter().flatten() {
        if let Some(tally) = tally {
            let summary = Summary::of_cells(&tally, failures.unwrap_or_default(), stored.end_version)?;
            segments.insert(number.cast_unsigned(), summary);
        }
    }
    Ok(segments)
}
