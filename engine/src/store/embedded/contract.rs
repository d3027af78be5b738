//! The contract, verb by verb: which run on the writer, which on a reader.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;

use super::writer::Command;
use super::{EmbeddedStore, backup, campaigns, closed, counts, lines, messages, parked, recipients, removal, seal};
use super::{templates, window};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{
    AccountId, CampaignId, CampaignKey, ImportId, LineId, LineKey, MessageKey, PoolId, SEGMENT_LEN, TemplateId,
    TenantId,
};
use crate::domain::line::{Line, Pool};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::domain::time::{Mono, UnixMillis};
use crate::store::*;

/// Messages read in one snapshot while looking for provider ids.
const SCAN_MESSAGES: u32 = 8 * SEGMENT_LEN;

#[async_trait]
impl Store for EmbeddedStore {
    async fn installation_secret(&self) -> StoreResult<[u8; 32]> {
        Ok(*self.secret.lock())
    }

    async fn backup(&self, path: &Path) -> StoreResult<BackupReport> {
        let (path, begun) = (path.to_owned(), self.shared.clock.mono());
        let now = self.shared.clock.wall();
        let bytes = self.readers.read_at_once(move |conn| backup::copy(conn, &path, now)).await?;
        Ok(BackupReport { bytes, took: self.shared.clock.mono().since(begun) })
    }

    async fn close(&self) -> StoreResult<()> {
        self.queue.lock().take();
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok())).await;
        self.readers.close();
        match joined {
            Ok(true) => Ok(()),
            _ => Err(StoreError::Bug("a thread of the ledger panicked".to_owned())),
        }
    }

    async fn create_campaign(&self, campaign: Campaign, request_id: Option<&str>) -> StoreResult<Created<Campaign>> {
        let request = request_id.map(str::to_owned);
        self.write(move |ledger| campaigns::create(ledger.conn(), campaign, request.as_deref())).await
    }

    async fn created_campaign(&self, tenant: &TenantId, request_id: &str) -> StoreResult<Option<Campaign>> {
        let (tenant, request) = (tenant.clone(), request_id.to_owned());
        self.readers.read(move |conn| campaigns::created(conn, &tenant, Some(&request))).await
    }

    async fn update_campaign(&self, campaign: Campaign) -> StoreResult<Campaign> {
        self.write(move |ledger| campaigns::update(ledger.conn(), &campaign)).await
    }

    async fn campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Campaign> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.readers.read(move |conn| campaigns::by_id(conn, &tenant, &id)).await
    }

    async fn campaign_by_key(&self, key: CampaignKey) -> StoreResult<Campaign> {
        self.readers.read(move |conn| campaigns::by_key(conn, key)).await
    }

    async fn list_campaigns(&self, filter: &CampaignFilter, page: Page) -> StoreResult<Paged<(Campaign, Tally)>> {
        let filter = filter.clone();
        self.readers.read_at_once(move |conn| campaigns::list(conn, &filter, &page)).await
    }

    async fn delete_campaign(&self, key: CampaignKey, version: u64) -> StoreResult<()> {
        self.write(move |ledger| removal::begin(ledger, key, version)).await?;
        while self.write(removal::next_step).await? {}
        Ok(())
    }

    async fn create_line(&self, line: Line, request_id: Option<&str>) -> StoreResult<Created<Line>> {
        let request = request_id.map(str::to_owned);
        self.write(move |ledger| lines::create(ledger.conn(), line, request.as_deref())).await
    }

    async fn update_line(&self, line: Line) -> StoreResult<Line> {
        self.write(move |ledger| lines::update(ledger.conn(), &line)).await
    }

    async fn line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Line> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.readers.read(move |conn| lines::by_id(conn, &tenant, &id)).await
    }

    async fn lines(&self, filter: &LineFilter) -> StoreResult<Vec<Line>> {
        let filter = filter.clone();
        self.readers.read(move |conn| lines::list(conn, &filter)).await
    }

    async fn pool(&self, tenant: &TenantId, id: &PoolId) -> StoreResult<Pool> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.readers.read(move |conn| lines::pool(conn, &tenant, &id)).await
    }

    async fn pools(&self, tenant: &TenantId) -> StoreResult<Vec<Pool>> {
        let tenant = tenant.clone();
        self.readers.read(move |conn| lines::pools(conn, &tenant)).await
    }

    async fn update_pool(&self, pool: Pool) -> StoreResult<Pool> {
        self.write(move |ledger| lines::update_pool(ledger.conn(), &pool)).await
    }

    async fn put_template(
        &self,
        template: TemplateRecord,
        expected: Option<u64>,
        request_id: Option<&str>,
    ) -> StoreResult<TemplateRecord> {
        let request = request_id.map(str::to_owned);
        self.write(move |ledger| templates::put(ledger.conn(), &template, expected, request.as_deref())).await
    }

    async fn template(&self, tenant: &TenantId, id: &TemplateId) -> StoreResult<TemplateRecord> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.readers.read(move |conn| templates::by_id(conn, &tenant, &id)).await
    }

    async fn list_templates(&self, tenant: &TenantId, page: Page) -> StoreResult<Paged<TemplateRecord>> {
        let tenant = tenant.clone();
        self.readers.read(move |conn| templates::list(conn, &tenant, &page)).await
    }

    async fn append_recipients(&self, chunk: ImportChunk) -> StoreResult<ChunkStored> {
        let frozen = Arc::clone(&self.frozen);
        self.write(move |ledger| {
            seal::expect_not_frozen(&frozen, chunk.campaign)?;
            recipients::append(ledger.conn(), &chunk)
        })
        .await
    }

    async fn import(&self, campaign: CampaignKey, import: &ImportId) -> StoreResult<ImportRecord> {
        let import = import.clone();
        self.readers.read(move |conn| recipients::import(conn, campaign, &import)).await
    }

    async fn imports(&self, campaign: CampaignKey) -> StoreResult<Vec<ImportRecord>> {
        self.readers.read(move |conn| recipients::imports(conn, campaign)).await
    }

    async fn refused_rows(&self, campaign: CampaignKey, page: Page) -> StoreResult<Paged<RefusedRow>> {
        self.readers.read(move |conn| recipients::refused_rows(conn, campaign, &page)).await
    }

    async fn seal(&self, campaign: CampaignKey, now: UnixMillis) -> StoreResult<Campaign> {
        // One at a time: each may hold as many hashes as its bound allows.
        let _turn = self.sealing.lock().await;
        seal::seal(self, campaign, now).await
    }

    async fn read_window(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Window> {
        self.readers.read(move |conn| window::read_window(conn, campaign, from_seq, limit)).await
    }

    async fn read_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<ToSend>> {
        self.readers.read(move |conn| window::read_due(conn, campaign, until, limit)).await
    }

    async fn next_due(&self, campaign: CampaignKey) -> StoreResult<Option<UnixMillis>> {
        self.readers.read(move |conn| window::next_due(conn, campaign)).await
    }

    async fn doubt_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<MessageKey>> {
        self.readers.read(move |conn| window::doubt_due(conn, campaign, until, limit)).await
    }

    async fn open_attempts(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Vec<OpenAttempt>> {
        self.readers.read(move |conn| window::open_attempts(conn, campaign, from_seq, limit)).await
    }

    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Committed> {
        if entries.is_empty() {
            return Ok(Committed::default());
        }
        let queue = self.queue()?;
        let (count, asked_at) = (entries.len() as u64, self.shared.clock.mono());
        let (command, answer) = Command::commit(entries, asked_at);
        // Counted only once there is room: a caller that goes away while it waits for room must not be counted for ever.
        let room = queue.reserve().await.map_err(|_| closed())?;
        self.shared.queued_entries.fetch_add(count, Relaxed);
        room.send(command);
        answer.await.map_err(|_| closed())?
    }

    async fn end_campaign(&self, campaign: Campaign, end: End) -> StoreResult<(Campaign, Tally)> {
        self.write(move |ledger| campaigns::end(ledger, &campaign, end)).await
    }

    async fn tally(&self, campaign: CampaignKey) -> StoreResult<Counts> {
        // Taken before the view is: the view is at least that new.
        let revision = self.shared.commits.load(Relaxed);
        let counts = self.readers.read_at_once(move |conn| counts::kept(conn, campaign)).await?;
        Ok(Counts { revision, ..counts })
    }

    async fn tenant_totals(&self, tenant: &TenantId) -> StoreResult<TenantTotals> {
        let tenant = tenant.clone();
        self.readers.read_at_once(move |conn| counts::tenant_totals(conn, &tenant)).await
    }

    async fn recount(&self, campaign: CampaignKey) -> StoreResult<(Counts, Counts)> {
        let revision = self.shared.commits.load(Relaxed);
        let mut recount = self.readers.read(move |conn| counts::Recount::begin(conn, campaign)).await?;
        loop {
            match self.readers.read_at_once(move |conn| recount.step(conn)).await? {
                counts::Progress::More(rest) => recount = rest,
                counts::Progress::Done(kept, counted) => {
                    return Ok((Counts { revision, ..kept }, Counts { revision, ..counted }));
                }
            }
        }
    }

    async fn message(&self, key: MessageKey) -> StoreResult<MessageRecord> {
        self.readers.read_at_once(move |conn| messages::one(conn, key)).await
    }

    async fn messages(
        &self,
        campaign: CampaignKey,
        filter: &MessageFilter,
        page: Page,
    ) -> StoreResult<Paged<MessageRecord>> {
        let filter = filter.clone();
        self.readers.read(move |conn| messages::page(conn, campaign, &filter, &page)).await
    }

    async fn park(&self, events: Vec<ParkedEvent>) -> StoreResult<usize> {
        self.write(move |ledger| parked::park(ledger.conn(), &events)).await
    }

    async fn parked(&self, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>> {
        self.readers.read(move |conn| parked::due(conn, until, limit)).await
    }

    async fn settle_parked(&self, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()> {
        self.write(move |ledger| parked::settle(ledger.conn(), &moves)).await
    }

    async fn orphans(&self, accounts: &[AccountId], page: Page) -> StoreResult<Paged<ParkedEvent>> {
        let accounts = accounts.to_vec();
        self.readers.read(move |conn| parked::orphans(conn, &accounts, &page)).await
    }

    async fn parked_counts(&self, now: UnixMillis) -> StoreResult<ParkedCounts> {
        self.readers.read_at_once(move |conn| parked::counts(conn, now)).await
    }

    async fn find_provider_ids(
        &self,
        lines: &[LineKey],
        ids: &[Box<str>],
    ) -> StoreResult<Vec<(Box<str>, MessageKey, u16)>> {
        let lines: Arc<[LineKey]> = lines.into();
        let mut wanted: HashSet<Box<str>> = ids.iter().cloned().collect();
        let mut found = Vec::new();
        let of_lines = Arc::clone(&lines);
        let campaigns = self.readers.read(move |conn| messages::campaigns_of(conn, &of_lines)).await?;
        for (campaign, next_seq) in campaigns {
            for first in (0..next_seq).step_by(SCAN_MESSAGES as usize) {
                if wanted.is_empty() {
                    return Ok(found);
                }
                let (run, of_lines) = ((first, first.saturating_add(SCAN_MESSAGES - 1)), Arc::clone(&lines));
                let some;
                (wanted, some) = self
                    .readers
                    .read(move |conn| {
                        let some = messages::find_ids(conn, campaign, run, &of_lines, &wanted)?;
                        Ok((wanted, some))
                    })
                    .await?;
                for (id, ..) in &some {
                    wanted.remove(id);
                }
                found.extend(some);
            }
        }
        Ok(found)
    }

    async fn keep_inbound(&self, events: Vec<InboundEvent>, kept_max: u64) -> StoreResult<u64> {
        self.write(move |ledger| parked::keep_inbound(ledger.conn(), &events, kept_max)).await
    }

    fn health(&self) -> StoreHealth {
        let since = self.shared.waiting_since.load(Relaxed);
        let lag = if since == 0 { Duration::ZERO } else { self.shared.clock.mono().since(Mono(since)) };
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        StoreHealth {
            writable: self.shared.writable.load(Relaxed) && self.queue.lock().is_some(),
            queued_entries: self.shared.queued_entries.load(Relaxed),
            commit_lag: lag,
            bytes: bytes(&self.shared.path) + bytes(&self.shared.log_path()),
        }
    }
}
