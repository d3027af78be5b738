//! Does the suite find anything? Copies of a store, each with one defect, of which every one must be caught.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use parking_lot::Mutex;

use super::{Factory, all_promises};
use crate::domain::campaign::Campaign;
use crate::domain::ids::*;
use crate::domain::line::{Line, Pool};
use crate::domain::message::Event;
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::domain::time::{Clock, UnixMillis};
use crate::store::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::store::*;

/// What a copy does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// None: the suite must pass then, or it proves nothing of the others.
    None,
    /// Every third commit moves messages without their tally, until the next commit writes it anew.
    DropsATallyWrite,
    /// A batch whose outcome is not known is applied again instead of written again.
    AppliesABatchTwice,
    /// The entries of a commit change places.
    Reorders,
    /// Every fifth intent is acknowledged and not stored.
    ForgetsAnIntent,
    /// What a commit says of the tally is of before it.
    AnswersTheTallyOfBefore,
    /// Chunks that are repeated are stored again.
    StoresAChunkTwice,
}

struct Broken {
    inner: Arc<dyn Store>,
    defect: Defect,
    commits: AtomicU64,
    intents: AtomicU64,
    stale: Mutex<HashMap<CampaignKey, Counts>>,
    /// The counts after the commit before.
    last: Mutex<HashMap<CampaignKey, Counts>>,
}

impl Broken {
    fn seen(&self, key: CampaignKey, counts: Counts) -> Counts {
        match self.stale.lock().get(&key) {
            Some(stale) => Counts { revision: counts.revision, ..stale.clone() },
            None => counts,
        }
    }

    /// The counts before a commit, where there was one before.
    async fn counts_before(&self, committed: &Committed) -> HashMap<CampaignKey, Counts> {
        let mut before = HashMap::new();
        for (key, _) in &committed.tallies {
            if let Ok(now) = self.inner.tally(*key).await
                && let Some(counts) = self.last.lock().insert(*key, now)
            {
                before.insert(*key, counts);
            }
        }
        before
    }

    async fn forgetting(&self, entries: Vec<Entry>) -> StoreResult<Committed> {
        let mut forgotten = Vec::new();
        let mut kept = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let is_intent = matches!(entry.event, Event::Intent { .. });
            if is_intent && self.intents.fetch_add(1, Relaxed) % 5 == 4 {
                forgotten.push(at);
            } else {
                kept.push(entry);
            }
        }
        let mut committed = self.inner.commit(kept).await?;
        for at in forgotten {
            committed.results.insert(at, EntryResult::Applied);
        }
        Ok(committed)
    }

    async fn reversed(&self, mut entries: Vec<Entry>) -> StoreResult<Committed> {
        entries.reverse();
        let mut committed = self.inner.commit(entries).await?;
        committed.results.reverse();
        Ok(committed)
    }
}

#[async_trait]
impl Store for Broken {
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Committed> {
        // Nothing is awaited before the commit: the order of commits is the order of the calls.
        match self.defect {
            Defect::AppliesABatchTwice => {
                self.inner.commit(entries.clone()).await?;
                self.inner.commit(entries).await
            }
            Defect::Reorders => self.reversed(entries).await,
            Defect::ForgetsAnIntent => self.forgetting(entries).await,
            Defect::DropsATallyWrite => {
                let committed = self.inner.commit(entries).await?;
                let drops = self.commits.fetch_add(1, Relaxed) % 3 == 2;
                for (key, before) in self.counts_before(&committed).await {
                    self.stale.lock().remove(&key);
                    if drops {
                        self.stale.lock().insert(key, before);
                    }
                }
                Ok(committed)
            }
            Defect::AnswersTheTallyOfBefore => {
                let mut committed = self.inner.commit(entries).await?;
                let before = self.counts_before(&committed).await;
                for (key, tally) in &mut committed.tallies {
                    *tally = before.get(key).map_or(*tally, |counts| counts.tally);
                }
                Ok(committed)
            }
            Defect::None | Defect::StoresAChunkTwice => self.inner.commit(entries).await,
        }
    }
    async fn append_recipients(&self, mut chunk: ImportChunk) -> StoreResult<ChunkStored> {
        if self.defect == Defect::StoresAChunkTwice
            && let Ok(import) = self.inner.import(chunk.campaign, &chunk.import).await
            && import.next_row > chunk.offset
        {
            chunk.offset = import.next_row;
        }
        self.inner.append_recipients(chunk).await
    }
    async fn tally(&self, campaign: CampaignKey) -> StoreResult<Counts> {
        Ok(self.seen(campaign, self.inner.tally(campaign).await?))
    }
    async fn recount(&self, campaign: CampaignKey) -> StoreResult<(Counts, Counts)> {
        let (kept, counted) = self.inner.recount(campaign).await?;
        Ok((self.seen(campaign, kept), counted))
    }

    // Everything else as the store beneath does it.
    async fn installation_secret(&self) -> StoreResult<[u8; 32]> {
        self.inner.installation_secret().await
    }
    async fn backup(&self, path: &Path) -> StoreResult<BackupReport> {
        self.inner.backup(path).await
    }
    async fn close(&self) -> StoreResult<()> {
        self.inner.close().await
    }
    async fn create_campaign(&self, campaign: Campaign, request_id: Option<&str>) -> StoreResult<Created<Campaign>> {
        self.inner.create_campaign(campaign, request_id).await
    }
    async fn created_campaign(&self, tenant: &TenantId, request_id: &str) -> StoreResult<Option<Campaign>> {
        self.inner.created_campaign(tenant, request_id).await
    }
    async fn update_campaign(&self, campaign: Campaign) -> StoreResult<Campaign> {
        self.inner.update_campaign(campaign).await
    }
    async fn campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Campaign> {
        self.inner.campaign(tenant, id).await
    }
    async fn campaign_by_key(&self, key: CampaignKey) -> StoreResult<Campaign> {
        self.inner.campaign_by_key(key).await
    }
    async fn list_campaigns(&self, filter: &CampaignFilter, page: Page) -> StoreResult<Paged<(Campaign, Tally)>> {
        self.inner.list_campaigns(filter, page).await
    }
    async fn delete_campaign(&self, key: CampaignKey, version: u64) -> StoreResult<()> {
        self.inner.delete_campaign(key, version).await
    }
    async fn create_line(&self, line: Line, request_id: Option<&str>) -> StoreResult<Created<Line>> {
        self.inner.create_line(line, request_id).await
    }
    async fn update_line(&self, line: Line) -> StoreResult<Line> {
        self.inner.update_line(line).await
    }
    async fn line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Line> {
        self.inner.line(tenant, id).await
    }
    async fn lines(&self, filter: &LineFilter) -> StoreResult<Vec<Line>> {
        self.inner.lines(filter).await
    }
    async fn pool(&self, tenant: &TenantId, id: &PoolId) -> StoreResult<Pool> {
        self.inner.pool(tenant, id).await
    }
    async fn pools(&self, tenant: &TenantId) -> StoreResult<Vec<Pool>> {
        self.inner.pools(tenant).await
    }
    async fn update_pool(&self, pool: Pool) -> StoreResult<Pool> {
        self.inner.update_pool(pool).await
    }
    async fn put_template(
        &self,
        template: TemplateRecord,
        expected: Option<u64>,
        request_id: Option<&str>,
    ) -> StoreResult<TemplateRecord> {
        self.inner.put_template(template, expected, request_id).await
    }
    async fn template(&self, tenant: &TenantId, id: &TemplateId) -> StoreResult<TemplateRecord> {
        self.inner.template(tenant, id).await
    }
    async fn list_templates(&self, tenant: &TenantId, page: Page) -> StoreResult<Paged<TemplateRecord>> {
        self.inner.list_templates(tenant, page).await
    }
    async fn import(&self, campaign: CampaignKey, import: &ImportId) -> StoreResult<ImportRecord> {
        self.inner.import(campaign, import).await
    }
    async fn imports(&self, campaign: CampaignKey) -> StoreResult<Vec<ImportRecord>> {
        self.inner.imports(campaign).await
    }
    async fn refused_rows(&self, campaign: CampaignKey, page: Page) -> StoreResult<Paged<RefusedRow>> {
        self.inner.refused_rows(campaign, page).await
    }
    async fn seal(&self, campaign: CampaignKey, now: UnixMillis) -> StoreResult<Campaign> {
        self.inner.seal(campaign, now).await
    }
    async fn read_window(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Window> {
        self.inner.read_window(campaign, from_seq, limit).await
    }
    async fn read_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<ToSend>> {
        self.inner.read_due(campaign, until, limit).await
    }
    async fn next_due(&self, campaign: CampaignKey) -> StoreResult<Option<UnixMillis>> {
        self.inner.next_due(campaign).await
    }
    async fn doubt_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<MessageKey>> {
        self.inner.doubt_due(campaign, until, limit).await
    }
    async fn open_attempts(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Vec<OpenAttempt>> {
        self.inner.open_attempts(campaign, from_seq, limit).await
    }
    async fn end_campaign(&self, campaign: Campaign, end: End) -> StoreResult<(Campaign, Tally)> {
        self.inner.end_campaign(campaign, end).await
    }
    async fn tenant_totals(&self, tenant: &TenantId) -> StoreResult<TenantTotals> {
        self.inner.tenant_totals(tenant).await
    }
    async fn message(&self, key: MessageKey) -> StoreResult<MessageRecord> {
        self.inner.message(key).await
    }
    async fn messages(
        &self,
        campaign: CampaignKey,
        filter: &MessageFilter,
        page: Page,
    ) -> StoreResult<Paged<MessageRecord>> {
        self.inner.messages(campaign, filter, page).await
    }
    async fn park(&self, events: Vec<ParkedEvent>) -> StoreResult<usize> {
        self.inner.park(events).await
    }
    async fn parked(&self, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>> {
        self.inner.parked(until, limit).await
    }
    async fn settle_parked(&self, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()> {
        self.inner.settle_parked(moves).await
    }
    async fn orphans(&self, accounts: &[AccountId], page: Page) -> StoreResult<Paged<ParkedEvent>> {
        self.inner.orphans(accounts, page).await
    }
    async fn parked_counts(&self, now: UnixMillis) -> StoreResult<ParkedCounts> {
        self.inner.parked_counts(now).await
    }
    async fn find_provider_ids(
        &self,
        lines: &[LineKey],
        ids: &[Box<str>],
    ) -> StoreResult<Vec<(Box<str>, MessageKey, u16)>> {
        self.inner.find_provider_ids(lines, ids).await
    }
    async fn keep_inbound(&self, events: Vec<InboundEvent>, kept_max: u64) -> StoreResult<u64> {
        self.inner.keep_inbound(events, kept_max).await
    }
    fn health(&self) -> StoreHealth {
        self.inner.health()
    }
}

struct BrokenFactory {
    dir: tempfile::TempDir,
    defect: Defect,
}

impl Factory for BrokenFactory {
    fn open(&self) -> Arc<dyn Store> {
        let inner = EmbeddedStore::open(EmbeddedConfig::new(self.dir.path()), Clock::system()).unwrap();
        let (commits, intents) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Broken {
            inner,
            defect: self.defect,
            commits,
            intents,
            stale: Mutex::default(),
            last: Mutex::default(),
        })
    }
}

/// The first promise that a copy with this defect breaks.
async fn caught_by(defect: Defect) -> Option<&'static str> {
    for (name, promise) in all_promises() {
        let factory = BrokenFactory { dir: tempfile::tempdir().unwrap(), defect };
        if AssertUnwindSafe(promise(&factory)).catch_unwind().await.is_err() {
            return Some(name);
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_defect_is_caught() {
    assert_eq!(caught_by(Defect::None).await, None, "a copy without a defect passes");
    for defect in [
        Defect::DropsATallyWrite,
        Defect::AppliesABatchTwice,
        Defect::Reorders,
        Defect::ForgetsAnIntent,
        Defect::AnswersTheTallyOfBefore,
        Defect::StoresAChunkTwice,
    ] {
        let caught = caught_by(defect).await.unwrap_or_else(|| panic!("nothing catches {defect:?}"));
        println!("{defect:?} is caught by {caught}");
    }
}
