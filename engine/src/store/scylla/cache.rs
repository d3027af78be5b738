//! What is held in memory: campaigns that are being worked on, and their segments; bounded, the longest quiet go first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::cql::Cql;
use super::error::closed;
use super::hot::Hot;
use super::place::{Call, Place};
use super::segment::{BatchLimits, Segment};
use super::{hand_over, lines};
use crate::domain::ids::{CampaignKey, LineKey};
use crate::nodes::PoolRef;
use crate::store::{Committed, Entry, EntryResult, StoreError, StoreResult};

/// A segment of a campaign.
pub(super) type PlaceKey = (CampaignKey, u32);

/// Campaigns held at once.
const CAMPAIGNS_HELD_MAX: usize = 1_024;

type HotCell = Arc<OnceCell<Arc<Hot>>>;

/// Everything held.
pub(super) struct Cache {
    pub(super) cql: Arc<Cql>,
    pub(super) limits: BatchLimits,
    segments_held_max: usize,
    campaigns: Mutex<HashMap<CampaignKey, HotCell>>,
    places: Mutex<HashMap<PlaceKey, Arc<Place>>>,
    /// Rises with every publication of counts.
    pub(super) revision: AtomicU64,
    /// Places whose batch is not known to be done.
    pub(super) stalled: AtomicU64,
    queued: AtomicU64,
    batches: AtomicU64,
    statements: AtomicU64,
    ticks: AtomicU64,
    seconds: metrics::Histogram,
    rows: metrics::Histogram,
}

impl Cache {
    pub(super) fn new(cql: Arc<Cql>, limits: BatchLimits, segments_held_max: usize) -> Self {
        Self {
            cql,
            limits,
            segments_held_max,
            campaigns: Mutex::default(),
            places: Mutex::default(),
            revision: AtomicU64::new(1),
            stalled: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            statements: AtomicU64::new(0),
            ticks: AtomicU64::new(1),
            seconds: metrics::histogram!(crate::metrics::COMMIT_SECONDS),
            rows: metrics::histogram!(crate::metrics::GROUP_ENTRIES),
        }
    }

    /// A campaign, read if it is not held.
    pub(super) async fn hot(&self, key: CampaignKey) -> StoreResult<Arc<Hot>> {
        loop {
            self.cql.expect_open()?;
            let cell = Arc::clone(self.campaigns.lock().entry(key).or_default());
            let found = cell.get_or_try_init(|| async { Hot::load(&self.cql, key).await.map(Arc::new) }).await;
            let hot = match found {
                Ok(hot) => Arc::clone(hot),
                Err(error) => {
                    // A number that nobody has must not take room.
                    self.drop_cell(key, |held| held.get().is_none());
                    return Err(error);
                }
            };
            if self.cql.owned.had(&hot.pool, hot.as_of) {
                self.cql.owned.forget_gone(key, &hot.pool);
                hot.refresh(&self.cql).await?;
                return Ok(hot);
            }
            // What another node works on moves without a word to us: it is read each time. What became ours meanwhile is read again.
            self.drop_cell(key, |held| Arc::ptr_eq(held, &cell));
            if !self.cql.owned.has(&hot.pool) {
                return Ok(hot);
            }
        }
    }

    fn drop_cell(&self, key: CampaignKey, is_it: impl Fn(&HotCell) -> bool) {
        let mut campaigns = self.campaigns.lock();
        if campaigns.get(&key).is_some_and(is_it) {
            campaigns.remove(&key);
        }
    }

    /// The campaign, if it is held.
    pub(super) fn held(&self, key: CampaignKey) -> Option<Arc<Hot>> {
        self.campaigns.lock().get(&key).and_then(|cell| cell.get().cloned())
    }

    /// Forgets a campaign and its segments: its record was removed or is not known.
    pub(super) fn forget(&self, key: CampaignKey) {
        self.campaigns.lock().remove(&key);
        let gone = self.places.lock().extract_if(|(campaign, _), _| *campaign == key).collect::<Vec<_>>();
        gone.iter().for_each(|(_, place)| place.close());
    }

    /// Forgets everything: nothing is ours any more.
    pub(super) fn forget_all(&self) {
        self.campaigns.lock().clear();
        let gone = std::mem::take(&mut *self.places.lock());
        gone.values().for_each(|place| place.close());
    }

    /// Campaigns of a pool that are held.
    pub(super) fn of_pool(&self, pool: &PoolRef) -> Vec<Arc<Hot>> {
        let campaigns = self.campaigns.lock();
        campaigns.values().filter_map(|cell| cell.get()).filter(|hot| hot.pool == *pool).cloned().collect()
    }

    /// Whether nothing is under way for a campaign.
    pub(super) fn is_idle(&self, key: CampaignKey) -> bool {
        self.places.lock().iter().filter(|((campaign, _), _)| *campaign == key).all(|(_, place)| place.is_idle())
    }

    /// The place of a segment.
    pub(super) fn place(&self, key: PlaceKey) -> Arc<Place> {
        let mut places = self.places.lock();
        let place = places.entry(key).or_insert_with(|| Arc::new(Place::new(key)));
        place.touched.store(self.ticks.fetch_add(1, Relaxed), Relaxed);
        Arc::clone(place)
    }

    /// Runs `work` on a segment as it stands between two batches, reading it if it is not held. Another node's is not kept: it would have
    /// to be read again anyway.
    pub(super) async fn with_segment<T>(
        &self,
        hot: &Hot,
        number: u32,
        work: impl FnOnce(&Segment) -> T,
    ) -> StoreResult<T> {
        let place = self.place((hot.key, number));
        let mut held = self.between_batches(&place).await?;
        let segment = self.current(hot, number, &mut held).await?;
        segment.end_with(hot.head().end_version);
        let answer = work(segment);
        if !self.cql.owned.has(&hot.pool) {
            *held = None;
        }
        Ok(answer)
    }

    /// The segment, read unless what is held was read since its pool is ours: what another node works on moves without a word to us.
    pub(super) async fn current<'s>(
        &self,
        hot: &Hot,
        number: u32,
        held: &'s mut Option<Segment>,
    ) -> StoreResult<&'s mut Segment> {
        if held.as_ref().is_some_and(|segment| !self.cql.owned.had(&hot.pool, segment.as_of)) {
            *held = None;
        }
        match held {
            Some(segment) => Ok(segment),
            None => Ok(held.insert(self.load(hot, number).await?)),
        }
    }

    /// A segment while no batch of it is under way. Waits no longer than callers of writes do.
    pub(super) async fn between_batches<'p>(
        &self,
        place: &'p Place,
    ) -> StoreResult<tokio::sync::MutexGuard<'p, Option<Segment>>> {
        let waited = tokio::time::timeout(self.cql.patience, place.segment.lock()).await;
        waited.map_err(|_| StoreError::Unavailable("a batch of the segment is not known to be written".to_owned()))
    }

    /// Reads a segment, makes room for it, and corrects the counts kept of it: the rows are the truth.
    async fn load(&self, hot: &Hot, number: u32) -> StoreResult<Segment> {
        self.make_room();
        let mut segment = Segment::load(&self.cql, hot, number).await?;
        let known = hot.segment(number);
        let is_void = hot.knows_none_open(number);
        segment.judge_foreign(|_| !is_void);
        hot.read_from_rows(number);
        if known.as_ref() != Some(&segment.summary) {
            // Another node's moves between the two readings.
            if self.cql.owned.has(&hot.pool) {
                tracing::warn!(
                    campaign = hot.key.0,
                    segment = number,
                    "a segment's counts were not those of its rows: counted anew"
                );
            }
            hot.publish(number, &segment.summary, &self.revision);
        }
        Ok(segment)
    }

    fn make_room(&self) {
        let mut places = self.places.lock();
        if places.len() >= self.segments_held_max {
            // What is left of a place whose segment went already takes no room to speak of.
            let takes_room = |place: &Place| !place.is_empty() || place.unclaimed.lock().is_empty();
            let large = places.iter().filter(|(_, place)| takes_room(place));
            let mut ages: Vec<_> = large.map(|(key, place)| (place.touched.load(Relaxed), *key)).collect();
            ages.sort_unstable();
            let most = self.segments_held_max - self.segments_held_max / 8 - 1;
            let mut surplus = if ages.len() < self.segments_held_max { 0 } else { ages.len() - most };
            for (_, key) in ages {
                if surplus == 0 {
                    break;
                }
                // Two: the map's, and nobody else's; whoever takes one takes it under this lock.
                let is_quiet = |place: &Arc<Place>| Arc::strong_count(place) == 1 && place.is_idle();
                let Some(place) = places.get(&key).filter(|place| is_quiet(place)) else { continue };
                if place.unclaimed.lock().is_empty() {
                    places.remove(&key);
                } else {
                    place.empty();
                }
                surplus -= 1;
            }
        }
        let mut campaigns = self.campaigns.lock();
        if campaigns.len() > CAMPAIGNS_HELD_MAX {
            let used: std::collections::HashSet<CampaignKey> = places.keys().map(|(campaign, _)| *campaign).collect();
            campaigns.retain(|key, cell| used.contains(key) || cell.get().is_none_or(|hot| Arc::strong_count(hot) > 1));
        }
    }

    /// Applies entries: those of one segment in order, segments beside each other.
    pub(super) async fn commit(self: &Arc<Self>, entries: Vec<Entry>) -> StoreResult<Committed> {
        self.cql.expect_open()?;
        let (count, now) = (entries.len(), self.cql.clock.mono());
        let mut campaigns: Vec<CampaignKey> = Vec::new();
        let mut by_segment: HashMap<PlaceKey, VecDeque<(usize, Entry)>> = HashMap::new();
        let (mut passed, any_passing) = (Vec::new(), self.cql.owned.is_any_passing());
        for (at, entry) in entries.into_iter().enumerate() {
            if any_passing && let Some(passage) = self.cql.owned.passage(entry.key.campaign, now) {
                passed.push((at, entry, passage));
                continue;
            }
            if campaigns.last() != Some(&entry.key.campaign) && !campaigns.contains(&entry.key.campaign) {
                campaigns.push(entry.key.campaign);
            }
            by_segment.entry((entry.key.campaign, entry.key.segment())).or_default().push_back((at, entry));
        }
        // Before anything is awaited: the order of commits is the order of the calls.
        let _queued = Queued::new(&self.queued, count as u64);
        let mut answers = Vec::with_capacity(by_segment.len());
        for (key, entries) in by_segment {
            let (call, answer) = Call::new(entries, now);
            self.place(key).enqueue(self, call);
            answers.push((key, answer));
        }
        let mut results = vec![EntryResult::Unknown; count];
        let (mut written, mut failed) = (Vec::with_capacity(answers.len()), None);
        for (at, entry, passage) in passed {
            match hand_over::pass_on(&self.cql, entry, passage).await {
                Ok(result) => results[at] = result,
                Err(error) => {
                    // Each may wait for as long as patience lasts, and all of them are offered again.
                    failed = Some(error);
                    break;
                }
            }
        }
        for (key, answer) in answers {
            let Ok(answer) = answer.await else {
                failed = Some(StoreError::Bug("a batch was not finished".to_owned()));
                continue;
            };
            match answer.done {
                Ok(()) => {
                    answer.results.into_iter().for_each(|(at, result)| results[at] = result);
                    written.push((key, answer.intents));
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            // Of segments that were written nobody sends anything now, so that the next who offers it may. Those that failed remember it themselves.
            for (key, intents) in written {
                self.place(key).unclaimed.lock().extend(intents);
            }
            return Err(error);
        }
        let revision = self.revision.load(Relaxed);
        let tally = |key: &CampaignKey| self.held(*key).map(|hot| (*key, hot.counts(&self.revision).tally));
        Ok(Committed { results, tallies: campaigns.iter().filter_map(tally).collect(), revision })
    }

    /// Remembers that lines were used by a campaign, before the first intent that names them: provider ids are looked for there.
    pub(super) async fn note_lines(&self, hot: &Hot, used: &[LineKey]) -> StoreResult<()> {
        let new: Vec<LineKey> = {
            let known = hot.lines.lock();
            used.iter().filter(|line| !known.contains(line)).copied().collect()
        };
        for line in new {
            lines::note_use(&self.cql, line, hot.key).await?;
            hot.lines.lock().push(line);
        }
        Ok(())
    }

    /// Notes a batch that is done.
    pub(super) fn written(&self, statements: usize, took: Duration) {
        self.batches.fetch_add(1, Relaxed);
        self.statements.fetch_add(statements as u64, Relaxed);
        self.seconds.record(took);
        #[allow(clippy::cast_precision_loss)] // hundreds
        self.rows.record(statements as f64);
    }

    /// Batches and rows written since the store was opened; the counts of a segment are one row of each batch.
    pub(super) fn figures(&self) -> (u64, u64) {
        (self.batches.load(Relaxed), self.statements.load(Relaxed))
    }

    /// Entries that wait, and since when the oldest does.
    pub(super) fn waiting(&self) -> (u64, Option<crate::domain::time::Mono>) {
        let oldest = self.places.lock().values().filter_map(|place| place.waiting_since()).min();
        (self.queued.load(Relaxed), oldest)
    }

    /// Waits until nothing is under way, at most as long as patience lasts.
    pub(super) async fn drain(&self) -> StoreResult<()> {
        let begun = self.cql.clock.mono();
        while self.places.lock().values().any(|place| !place.is_idle()) {
            if self.cql.clock.mono().since(begun) > self.cql.patience {
                return Err(closed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

struct Queued<'c> {
    counter: &'c AtomicU64,
    count: u64,
}

impl<'c> Queued<'c> {
    fn new(counter: &'c AtomicU64, count: u64) -> Self {
        counter.fetch_add(count, Relaxed);
        Self { counter, count }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.count, Relaxed);
    }
}
