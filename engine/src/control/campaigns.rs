//! Campaigns: read, change, remove.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::{Error, OrNotFound, Result, Violations};
use super::page::{PageOf, PageRequest};
use super::settings::{self, CampaignUpdate};
use super::stats::Stats;
use super::{Control, filter, query, same_version};
use crate::domain::campaign::{Campaign, CampaignState, Move, next_state};
use crate::domain::ids::{CampaignId, PoolId, TemplateId, TenantId};
use crate::domain::line::{Pool, ProviderKind};
use crate::domain::phone;
use crate::domain::template::Template;
use crate::store::{StoreError, TemplateRecord};

/// How often a change without an etag is tried again when the record moved meanwhile.
const CHANGES_MAX: usize = 8;

/// A campaign with its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct CampaignView {
    /// The record.
    pub record: Campaign,
    /// The channel of its pool.
    pub kind: ProviderKind,
    /// Its figures.
    pub stats: Stats,
}

impl Control {
    pub(super) async fn template_of(
        &self,
        tenant: &TenantId,
        field: &str,
        id: &str,
        violations: &mut Violations,
    ) -> Result<Option<TemplateRecord>> {
        let Some(id) = violations.id(field, TemplateId::new(id)) else { return Ok(None) };
        match self.store.template(tenant, &id).await {
            Ok(template) => Ok(Some(template)),
            Err(StoreError::NotFound(_)) => {
                violations.add(field, format!("there is no template {:?}", id.as_str()));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn pool_of(
        &self,
        tenant: &TenantId,
        field: &str,
        id: &str,
        violations: &mut Violations,
    ) -> Result<Option<Pool>> {
        let Some(id) = violations.id(field, PoolId::new(id)) else { return Ok(None) };
        match self.store.pool(tenant, &id).await {
            Ok(pool) => Ok(Some(pool)),
            Err(StoreError::NotFound(_)) => {
                violations.add(field, format!("there is no pool {:?}; every line is in one", id.as_str()));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One campaign. What is shown of it is so: actors that do not know this record hear of it.
    pub async fn campaign(&self, tenant: &TenantId, id: &str) -> Result<CampaignView> {
        let record = self.campaign_record(tenant, id).await?;
        if self.known(record.key).is_some_and(|version| version < record.version) {
            self.runtime.campaign_changed(&record).await;
        }
        self.view(record).await
    }

    /// A page of campaigns, the newest first. Failures by code are left out.
    pub async fn list_campaigns(
        &self,
        tenant: &TenantId,
        filter_text: &str,
        page: &PageRequest,
    ) -> Result<PageOf<CampaignView>> {
        let filter = filter::campaigns(tenant, filter_text)?;
        let query = query("campaigns", tenant, [filter_text]);
        let page = self.store.list_campaigns(&filter, self.tokens.page(&query, page)?).await?;
        let page = self.tokens.answer(&query, page);
        let kinds = self.pool_kinds(tenant).await?;
        let now = self.now();
        let mut items = Vec::with_capacity(page.items.len());
        for (record, tally) in page.items {
            let kind = kinds.get(&record.pool).copied().ok_or_else(|| missing_pool(&record))?;
            let progress = self.runtime.progress(record.key);
            let stats = Stats::of(&record, tally, progress.as_ref().map(|p| p.borrow().clone()).as_ref(), now);
            items.push(CampaignView { record, kind, stats });
        }
        Ok(PageOf { items, next_token: page.next_token })
    }

    async fn pool_kinds(&self, tenant: &TenantId) -> Result<HashMap<PoolId, ProviderKind>> {
        Ok(self.store.pools(tenant).await?.into_iter().map(|pool| (pool.id, pool.kind)).collect())
    }

    /// Changes what is given. A change without an etag holds against whatever else changes the record.
    pub async fn update_campaign(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        update: CampaignUpdate,
    ) -> Result<CampaignView> {
        let now = self.now();
        let mut violations = Violations::default();
        settings::check_texts(
            update.name.as_deref(),
            update.description.as_deref(),
            update.labels.as_ref(),
            &mut violations,
        );
        let region = update.region.as_ref().map(|region| settings::region(region, "region", &mut violations));
        let mut template = None;
        if let Some(id) = &update.template {
            template = self.template_of(tenant, "template_id", id, &mut violations).await?;
        }
        let mut pool = None;
        if let Some(id) = &update.pool {
            pool = self.pool_of(tenant, "pool_id", id, &mut violations).await?;
        }
        violations.check()?;
        let kinds = if template.is_some() || pool.is_some() { self.pool_kinds(tenant).await? } else { HashMap::new() };
        warm_up_phones(region.as_ref().and_then(Option::as_deref)).await;
        let changed = self
            .change_campaign(tenant, id, expected, |campaign| {
                refuse_late_changes(campaign, &update)?;
                let kind_before = kinds.get(&campaign.pool).copied();
                apply(campaign, &update, region.as_ref());
                if let Some(template) = &template {
                    campaign.template = template.id.clone();
                    campaign.template_version = template.version;
                    campaign.template_definition = Arc::clone(&template.definition);
                }
                if let Some(pool) = &pool {
                    if campaign.next_seq > 0 && kind_before != Some(pool.kind) {
                        return Err(other_kind(campaign, kind_before, pool.kind));
                    }
                    campaign.pool = pool.id.clone();
                }
                let mut violations = Violations::default();
                settings::check_limits("", &campaign.settings, update.retries_max, &mut violations);
                if update.start_at.is_some() || update.stop_at.is_some() {
                    settings::check_times("", &campaign.settings, now, &mut violations);
                }
                if template.is_some() || pool.is_some() {
                    let field = if template.is_some() { "template_id" } else { "pool_id" };
                    let kind = kinds.get(&campaign.pool).copied().ok_or_else(|| missing_pool(campaign))?;
                    check_suits(&campaign.template_definition, kind, field, &mut violations)?;
                }
                violations.check()
            })
            .await?;
        self.runtime.campaign_changed(&changed).await;
        self.view(changed).await
    }

    /// Removes a draft, or a campaign that has ended and has nothing in flight.
    pub async fn delete_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<()> {
        let campaign = self.campaign_record(tenant, id).await?;
        same_version(expected, campaign.version)?;
        next_state(campaign.state, Move::Delete, false)?;
        let in_flight = self.runtime.in_flight(campaign.key);
        if in_flight > 0 {
            let problem = format!("{in_flight} messages are still in flight: try again when they are done");
            return Err(Error::precondition("IN_FLIGHT", format!("campaign/{id}"), problem));
        }
        let deleted = self.store.delete_campaign(campaign.key, campaign.version).await;
        // It is unknown from the first step on, also when a later one failed.
        if deleted.is_ok() || matches!(self.store.campaign_by_key(campaign.key).await, Err(StoreError::NotFound(_))) {
            self.runtime.campaign_removed(campaign.key).await;
        }
        deleted.or_not_found("campaign", id)
    }

    /// The record; another tenant's is no record.
    pub(super) async fn campaign_record(&self, tenant: &TenantId, id: &str) -> Result<Campaign> {
        let parsed = CampaignId::new(id).map_err(|_| Error::not_found("campaign", id))?;
        self.store.campaign(tenant, &parsed).await.or_not_found("campaign", id)
    }

    /// The channel of the campaign's pool.
    pub(super) async fn kind_of(&self, campaign: &Campaign) -> Result<ProviderKind> {
        match self.store.pool(&campaign.tenant, &campaign.pool).await {
            Ok(pool) => Ok(pool.kind),
            Err(StoreError::NotFound(_)) => Err(missing_pool(campaign)),
            Err(error) => Err(error.into()),
        }
    }

    /// The record with its figures as they are now.
    pub(super) async fn view(&self, record: Campaign) -> Result<CampaignView> {
        let kind = self.kind_of(&record).await?;
        let counts = self.store.tally(record.key).await?;
        let progress = self.runtime.progress(record.key).map(|progress| progress.borrow().clone());
        let stats = Stats::of(&record, counts.tally, progress.as_ref(), self.now()).with_failures(kind, &counts);
        Ok(CampaignView { record, kind, stats })
    }

    /// Reads, changes and writes the record; again when it moved meanwhile and the caller did not insist on a version.
    pub(super) async fn change_campaign(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        change: impl Fn(&mut Campaign) -> Result<()>,
    ) -> Result<Campaign> {
        for _ in 0..CHANGES_MAX {
            let stored = self.campaign_record(tenant, id).await?;
            same_version(expected, stored.version)?;
            let mut changed = stored.clone();
            change(&mut changed)?;
            if changed == stored {
                return Ok(stored);
            }
            changed.updated_at = self.now();
            match self.store.update_campaign(changed).await {
                Err(StoreError::Version { .. }) if expected.is_none() => {}
                result => return result.or_not_found("campaign", id),
            }
        }
        Err(Error::Stale)
    }
}

fn missing_pool(campaign: &Campaign) -> Error {
    Error::Bug(format!("campaign {} names pool {}, which is gone", campaign.id, campaign.pool))
}

/// The rows were checked for the channel that they were imported for.
fn other_kind(campaign: &Campaign, is: Option<ProviderKind>, asked: ProviderKind) -> Error {
    let problem = format!(
        "its recipients were checked for {}, the pool's lines are of {}: clone the campaign and import there",
        is.map_or("another channel", ProviderKind::as_str),
        asked.as_str()
    );
    Error::precondition("TOO_LATE", format!("campaign/{}", campaign.id), problem)
}

/// The phone library takes most of a second to load its tables: not when the first row waits for it, and not on a runtime thread.
pub(super) async fn warm_up_phones(region: Option<&str>) {
    if region.is_some() {
        // A panic there would show again, and be told, with the first row.
        let _ = tokio::task::spawn_blocking(phone::warm_up).await;
    }
}

/// Whether the template can be sent over lines of this kind.
pub(super) fn check_suits(
    definition: &str,
    kind: ProviderKind,
    field: &str,
    violations: &mut Violations,
) -> Result<()> {
    let template: Template = serde_json::from_str(definition).map_err(|error| Error::Damaged(error.to_string()))?;
    let shape = template.compile().map_err(|_| Error::Damaged("a stored template is not valid".to_owned()))?;
    if let Err(error) = shape.suits(kind) {
        violations.add(field, error.to_string());
    }
    Ok(())
}

/// Changes that come too late for where the campaign stands.
fn refuse_late_changes(campaign: &Campaign, update: &CampaignUpdate) -> Result<()> {
    let draft = campaign.state == CampaignState::Draft;
    let unstarted = matches!(campaign.state, CampaignState::Draft | CampaignState::Scheduled);
    let unfilled = draft && campaign.next_seq == 0;
    let rules: BTreeMap<&str, (bool, bool, &str)> = BTreeMap::from([
        ("template_id", (update.template.is_some(), unfilled, "only while it is a draft without recipients")),
        ("region", (update.region.is_some(), draft, "only while it is a draft")),
        ("pool_id", (update.pool.is_some(), unstarted, "only before it starts")),
        ("start_at", (update.start_at.is_some(), unstarted, "only before it starts")),
    ]);
    for (field, (asked, allowed, when)) in rules {
        if asked && !allowed {
            let problem = format!("{field} can be changed {when}; the campaign is {}", campaign.state.name());
            return Err(Error::precondition("TOO_LATE", format!("campaign/{}", campaign.id), problem));
        }
    }
    let waiting = campaign.state == CampaignState::Scheduled;
    if waiting && update.start_at == Some(None) {
        let problem =
            "a scheduled campaign needs its start_at: pause it, or give a start_at that has passed to start it now";
        return Err(Error::precondition("SCHEDULED", format!("campaign/{}", campaign.id), problem));
    }
    Ok(())
}

fn apply(campaign: &mut Campaign, update: &CampaignUpdate, region: Option<&Option<String>>) {
    fn set<T: Clone>(field: &mut T, new: Option<&T>) {
        if let Some(new) = new {
            field.clone_from(new);
        }
    }
    set(&mut campaign.name, update.name.as_ref());
    set(&mut campaign.description, update.description.as_ref());
    set(&mut campaign.labels, update.labels.as_ref());
    let settings = &mut campaign.settings;
    set(&mut settings.rate, update.rate.as_ref());
    set(&mut settings.workers, update.workers.as_ref());
    set(&mut settings.policy, update.policy.as_ref());
    set(&mut settings.region, region);
    set(&mut settings.start_at, update.start_at.as_ref());
    set(&mut settings.stop_at, update.stop_at.as_ref());
    set(&mut settings.retries_max, update.retries_max.map(settings::narrow).as_ref());
    set(&mut settings.settle_window_ms, update.settle_window.map(settings::millis).as_ref());
}
