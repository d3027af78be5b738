//! The contract, verb by verb.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;

use super::campaigns::Stored;
use super::owned::elsewhere;
use super::owner::Owner;
use super::{
    ScyllaStore, campaigns, hot, imports, lines, mend, messages, parked, removal, seal, summary, templates, window,
};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{
    AccountId, CampaignId, CampaignKey, ImportId, LineId, LineKey, MessageKey, PoolId, TemplateId, TenantId,
};
use crate::domain::line::{Line, Pool};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::nodes::{Lease, Ownership, PoolRef};
use crate::store::*;

impl ScyllaStore {
    /// A campaign's tally, from memory if it is worked on, else from its partitions; nothing is taken into memory for it.
    async fn tally_of(&self, stored: &Stored) -> StoreResult<Tally> {
        let campaign = &stored.record;
        if let Some(hot) = self.cache.held(campaign.key) {
            return Ok(hot.counts(&self.cache.revision).tally);
        }
        if campaign.sealed.is_none() {
            return Ok(Tally::untouched(campaign.recipients, campaign.end));
        }
        let segments = hot::read_summaries(&self.cql, stored).await?;
        Ok(summary::ended(&summary::sum(segments.values()).0, campaign.end))
    }

    /// Fails where a campaign's pool is another node's, for all that this one can know.
    fn expect_owner(&self, campaign: &Campaign) -> StoreResult<()> {
        let pool = PoolRef::new(&campaign.tenant, &campaign.pool);
        let owned = &self.cql.owned;
        if owned.is_alone() || owned.has(&pool) && self.cql.stamps.are_allowed() {
            Ok(())
        } else {
            Err(elsewhere(&pool))
        }
    }

    async fn recorded(&self, campaign: CampaignKey) -> StoreResult<Campaign> {
        campaigns::by_key(&self.cql, campaign).await.map(|campaign| self.noticed(campaign))
    }

    /// A record that was read. What is held of the campaign follows it: a former owner may have decided it just before it lost the pool.
    fn noticed(&self, campaign: Campaign) -> Campaign {
        if let Some(hot) = self.cache.held(campaign.key).filter(|hot| hot.is_behind(campaign.version)) {
            hot.doubt_head();
        }
        campaign
    }
}

#[async_trait]
impl Store for ScyllaStore {
    async fn installation_secret(&self) -> StoreResult<[u8; 32]> {
        Ok(*self.secret.lock())
    }

    async fn backup(&self, _path: &Path) -> StoreResult<BackupReport> {
        Err(StoreError::Conflict(
            "this ledger is in a CQL cluster: back it up there (nodetool snapshot, or ScyllaDB Manager)".to_owned(),
        ))
    }

    async fn close(&self) -> StoreResult<()> {
        if self.cql.is_closed.load(Relaxed) {
            return Ok(());
        }
        let drained = self.cache.drain().await;
        let released = match (&drained, &self.shared) {
            (Err(_), _) => Ok(()),
            (Ok(()), None) => Owner::release(&self.cql).await,
            (Ok(()), Some((node, _))) => node.leave(&self.cql).await,
        };
        self.cql.is_closed.store(true, Relaxed);
        drained.and(released)
    }

    async fn create_campaign(&self, campaign: Campaign, request_id: Option<&str>) -> StoreResult<Created<Campaign>> {
        campaigns::create(&self.cql, campaign, request_id).await
    }

    async fn created_campaign(&self, tenant: &TenantId, request_id: &str) -> StoreResult<Option<Campaign>> {
        campaigns::created(&self.cql, tenant, Some(request_id)).await
    }

    async fn update_campaign(&self, campaign: Campaign) -> StoreResult<Campaign> {
        let stored = self.recorded(campaign.key).await?;
        let hot = if ImportRules::of(&stored) == ImportRules::of(&campaign) {
            None
        } else {
            Some(self.cache.hot(campaign.key).await?)
        };
        // Rules change between two chunks, so that no row slips in behind the look at where the list ends.
        let _turn = match &hot {
            Some(hot) => Some(hot.turn(self.cql.patience).await?),
            None => None,
        };
        if let Some(hot) = &hot {
            hot.expect_ours(&self.cql)?;
        }
        self.expect_owner(&stored)?;
        let updated = campaigns::update(&self.cql, &campaign, None).await?.record;
        // Decided while somebody else took over: it stands, and the new owner hears of it when it is asked for there.
        self.expect_owner(&stored)?;
        if stored.pool != updated.pool {
            // Its list goes on where the other pool is worked on.
            self.cache.forget(campaign.key);
        } else if let Some(hot) = self.cache.held(campaign.key) {
            // The policy may have changed.
            hot.doubt_head();
        }
        Ok(updated)
    }

    async fn campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Campaign> {
        campaigns::by_id(&self.cql, tenant, id).await.map(|campaign| self.noticed(campaign))
    }

    async fn campaign_by_key(&self, key: CampaignKey) -> StoreResult<Campaign> {
        self.recorded(key).await
    }

    async fn list_campaigns(&self, filter: &CampaignFilter, page: Page) -> StoreResult<Paged<(Campaign, Tally)>> {
        let (size, before) = (page.size.max(1), paging::number_after(&page)?.unwrap_or(i64::MAX));
        let keys = campaigns::keys(&self.cql, filter.tenant.as_ref(), before).await?;
        let found = campaigns::some(&self.cql, &keys, filter, size.saturating_add(1)).await?;
        let Paged { items, next } = paging::cut(found, size, |stored| i64::from(stored.record.key.0));
        let mut listed = Vec::with_capacity(items.len());
        for stored in items {
            let tally = self.tally_of(&stored).await?;
            listed.push((stored.record, tally));
        }
        Ok(Paged { items: listed, next })
    }

    async fn delete_campaign(&self, key: CampaignKey, version: u64) -> StoreResult<()> {
        removal::remove(&self.cache, key, version).await
    }

    async fn create_line(&self, line: Line, request_id: Option<&str>) -> StoreResult<Created<Line>> {
        lines::create(&self.cql, line, request_id).await
    }

    async fn update_line(&self, line: Line) -> StoreResult<Line> {
        lines::update(&self.cql, &line).await
    }

    async fn line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Line> {
        lines::by_id(&self.cql, tenant, id).await
    }

    async fn lines(&self, filter: &LineFilter) -> StoreResult<Vec<Line>> {
        lines::list(&self.cql, filter).await
    }

    async fn pool(&self, tenant: &TenantId, id: &PoolId) -> StoreResult<Pool> {
        lines::pool(&self.cql, tenant, id).await
    }

    async fn pools(&self, tenant: &TenantId) -> StoreResult<Vec<Pool>> {
        lines::pools(&self.cql, tenant).await
    }

    async fn update_pool(&self, pool: Pool) -> StoreResult<Pool> {
        lines::update_pool(&self.cql, &pool).await
    }

    async fn put_template(
        &self,
        template: TemplateRecord,
        expected: Option<u64>,
        request_id: Option<&str>,
    ) -> StoreResult<TemplateRecord> {
        templates::put(&self.cql, &template, expected, request_id).await
    }

    async fn template(&self, tenant: &TenantId, id: &TemplateId) -> StoreResult<TemplateRecord> {
        templates::by_id(&self.cql, tenant, id).await
    }

    async fn list_templates(&self, tenant: &TenantId, page: Page) -> StoreResult<Paged<TemplateRecord>> {
        templates::list(&self.cql, tenant, &page).await
    }

    async fn append_recipients(&self, chunk: ImportChunk) -> StoreResult<ChunkStored> {
        imports::append(&self.cache, &chunk).await
    }

    async fn import(&self, campaign: CampaignKey, import: &ImportId) -> StoreResult<ImportRecord> {
        let imports = self.imports(campaign).await?;
        imports.into_iter().find(|record| record.id == *import).ok_or(StoreError::NotFound("import"))
    }

    async fn imports(&self, campaign: CampaignKey) -> StoreResult<Vec<ImportRecord>> {
        let campaign = self.recorded(campaign).await?;
        imports::all(&self.cql, &campaign).await
    }

    async fn refused_rows(&self, campaign: CampaignKey, page: Page) -> StoreResult<Paged<RefusedRow>> {
        imports::refused_rows(&self.cql, campaign, &page).await
    }

    async fn seal(&self, campaign: CampaignKey, now: UnixMillis) -> StoreResult<Campaign> {
        // One at a time: each may hold as many hashes as its bound allows.
        let _turn = self.sealing.lock().await;
        let hot = self.cache.hot(campaign).await?;
        seal::seal(&self.cache, &hot, now).await
    }

    async fn read_window(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Window> {
        window::read_window(&self.cache, campaign, from_seq, limit).await
    }

    async fn read_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<ToSend>> {
        window::read_due(&self.cache, campaign, until, limit).await
    }

    async fn next_due(&self, campaign: CampaignKey) -> StoreResult<Option<UnixMillis>> {
        window::next_due(&self.cache, campaign).await
    }

    async fn doubt_due(&self, campaign: CampaignKey, until: UnixMillis, limit: usize) -> StoreResult<Vec<MessageKey>> {
        window::doubt_due(&self.cache, campaign, until, limit).await
    }

    async fn open_attempts(&self, campaign: CampaignKey, from_seq: u32, limit: usize) -> StoreResult<Vec<OpenAttempt>> {
        window::open_attempts(&self.cache, campaign, from_seq, limit).await
    }

    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Committed> {
        if entries.is_empty() {
            return Ok(Committed::default());
        }
        self.cache.commit(entries).await
    }

    async fn end_campaign(&self, campaign: Campaign, end: End) -> StoreResult<(Campaign, Tally)> {
        let hot = self.cache.hot(campaign.key).await?;
        // No batch is under way while the end is decided, so that no intent stands behind it.
        let alone = tokio::time::timeout(self.cql.patience, hot.gate.write()).await;
        let _alone = alone
            .map_err(|_| StoreError::Unavailable("a batch of the campaign is not known to be written".to_owned()))?;
        hot.expect_ours(&self.cql)?;
        match campaigns::update(&self.cql, &campaign, Some(end)).await {
            Ok(ended) => {
                self.expect_owner(&ended.record)?;
                hot.set_head(&ended);
                Ok((ended.record, hot.counts(&self.cache.revision).tally))
            }
            Err(error) => {
                hot.doubt_head();
                Err(error)
            }
        }
    }

    async fn tally(&self, campaign: CampaignKey) -> StoreResult<Counts> {
        Ok(self.cache.hot(campaign).await?.counts(&self.cache.revision))
    }

    async fn tenant_totals(&self, tenant: &TenantId) -> StoreResult<TenantTotals> {
        let keys = campaigns::keys(&self.cql, Some(tenant), i64::MAX).await?;
        let mut totals = TenantTotals::default();
        for stored in campaigns::some(&self.cql, &keys, &CampaignFilter::default(), usize::MAX).await? {
            *totals.campaigns.entry(stored.record.state).or_default() += 1;
            totals.refused += stored.record.refused;
            totals.tally.absorb(&self.tally_of(&stored).await?);
        }
        Ok(totals)
    }

    async fn recount(&self, campaign: CampaignKey) -> StoreResult<(Counts, Counts)> {
        messages::recount(&self.cache, campaign).await
    }

    async fn mend(&self, campaign: CampaignKey) -> StoreResult<u64> {
        mend::mend(&self.cache, campaign).await
    }

    async fn message(&self, key: MessageKey) -> StoreResult<MessageRecord> {
        messages::one(&self.cache, key).await
    }

    async fn messages(
        &self,
        campaign: CampaignKey,
        filter: &MessageFilter,
        page: Page,
    ) -> StoreResult<Paged<MessageRecord>> {
        messages::page(&self.cache, campaign, filter, &page).await
    }

    async fn park(&self, events: Vec<ParkedEvent>) -> StoreResult<usize> {
        self.parked.park(&self.cql, events).await
    }

    async fn parked(&self, until: UnixMillis, limit: usize) -> StoreResult<Vec<ParkedEvent>> {
        self.parked.due(&self.cql, until, limit).await
    }

    async fn settle_parked(&self, moves: Vec<(u64, ParkedMove)>) -> StoreResult<()> {
        self.parked.settle(&self.cql, moves).await
    }

    async fn orphans(&self, accounts: &[AccountId], page: Page) -> StoreResult<Paged<ParkedEvent>> {
        parked::orphans(&self.cql, accounts, &page).await
    }

    async fn parked_counts(&self, now: UnixMillis) -> StoreResult<ParkedCounts> {
        self.parked.counts(&self.cql, now).await
    }

    async fn find_provider_ids(
        &self,
        lines: &[LineKey],
        ids: &[Box<str>],
    ) -> StoreResult<Vec<(Box<str>, MessageKey, u16)>> {
        let mut wanted: HashSet<Box<str>> = ids.iter().cloned().collect();
        let mut found = Vec::new();
        for campaign in lines::uses(&self.cql, lines).await? {
            if wanted.is_empty() {
                break;
            }
            // Each node looks into its own; of the others' no more is read than whose they are.
            let pool = match self.cache.held(campaign) {
                Some(hot) => hot.pool.clone(),
                None => match self.recorded(campaign).await {
                    Ok(record) => PoolRef::new(&record.tenant, &record.pool),
                    Err(StoreError::NotFound(_)) => continue,
                    Err(error) => return Err(error),
                },
            };
            if !self.cql.owned.has(&pool) {
                continue;
            }
            match messages::find_ids(&self.cache, campaign, lines, &mut wanted).await {
                Ok(some) => found.extend(some),
                // It was removed.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn keep_inbound(&self, events: Vec<InboundEvent>, kept_max: u64) -> StoreResult<u64> {
        self.inbound.keep(&self.cql, events, kept_max).await
    }

    fn lease(&self) -> Option<Arc<Lease>> {
        Some(self.cql.stamps.lease())
    }

    fn ownership(&self) -> Option<Arc<dyn Ownership>> {
        self.shared.as_ref().map(|(_, pools)| Arc::clone(pools) as Arc<dyn Ownership>)
    }

    fn health(&self) -> StoreHealth {
        let (queued_entries, oldest) = self.cache.waiting();
        let is_open = !self.cql.is_closed.load(Relaxed);
        StoreHealth {
            writable: is_open && self.cache.stalled.load(Relaxed) == 0 && self.cql.stamps.are_allowed(),
            queued_entries,
            commit_lag: oldest.map_or(Duration::ZERO, |since| self.cql.clock.mono().since(since)),
            // Known to the servers only.
            bytes: 0,
        }
    }
}

/// An engine that is gone without a word holds the keyspace for a lease's time: whoever closes lets it go.
impl Drop for ScyllaStore {
    fn drop(&mut self) {
        self.cql.is_closed.store(true, Relaxed);
        debug_assert!(Arc::strong_count(&self.cache) >= 1);
    }
}
