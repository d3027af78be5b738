//! New campaigns: drafts from a specification or from another campaign, safe to repeat.

use std::sync::Arc;

use super::campaigns::{CampaignView, check_suits, warm_up_phones};
use super::error::{Error, Result, Violations};
use super::settings::{self, CampaignSpec, SettingsSpec};
use super::{Control, fresh_id, request_id};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignId, CampaignKey, TenantId};
use crate::domain::line::Pool;
use crate::store::{Created, TemplateRecord};

/// What a campaign refers to, checked to go together.
struct References {
    template: TemplateRecord,
    pool: Pool,
}

impl Control {
    /// Creates a draft.
    pub async fn create_campaign(&self, tenant: &TenantId, request: &str, spec: CampaignSpec) -> Result<CampaignView> {
        self.accepting()?;
        let request = request_id(request)?;
        if let Some(created) = self.created_before(tenant, request, &spec.id).await? {
            return Ok(created);
        }
        self.create_fresh(tenant, request, spec).await
    }

    /// Of a request that created nothing yet, as far as anybody knows.
    async fn create_fresh(&self, tenant: &TenantId, request: Option<&str>, spec: CampaignSpec) -> Result<CampaignView> {
        let now = self.now();
        let mut violations = Violations::default();
        let id = if spec.id.is_empty() { fresh_id("c-") } else { spec.id.clone() };
        let id = violations.id("campaign_id", CampaignId::new(&id));
        settings::check_texts(Some(&spec.name), Some(&spec.description), Some(&spec.labels), &mut violations);
        let checked = spec.settings.checked(&self.defaults.settings, now, &mut violations);
        let references = self.references(tenant, &spec.settings, &mut violations).await?;
        violations.check()?;
        let (Some(id), Some(references)) = (id, references) else {
            return Err(Error::Bug("a checked campaign lacks its references".to_owned()));
        };
        warm_up_phones(checked.region.as_deref()).await;
        let record = Campaign {
            key: CampaignKey(0),
            tenant: tenant.clone(),
            id,
            version: 0,
            name: spec.name,
            description: spec.description,
            labels: spec.labels,
            created_by: spec.created_by,
            created_at: now,
            updated_at: now,
            state: CampaignState::Draft,
            hold: None,
            pool: references.pool.id.clone(),
            template: references.template.id.clone(),
            template_version: references.template.version,
            template_definition: Arc::clone(&references.template.definition),
            settings: checked,
            recipients: 0,
            refused: 0,
            next_seq: 0,
            sealed: None,
            started_at: None,
            ended_at: None,
            settled_at: None,
            end: None,
        };
        let created = self.store.create_campaign(record, request).await?;
        self.view_created(created, &spec.id).await
    }

    /// A new draft with the settings of another campaign, its template and pool as they are now, without recipients and times.
    pub async fn clone_campaign(
        &self,
        tenant: &TenantId,
        request: &str,
        source: &str,
        id: String,
        name: String,
        created_by: String,
    ) -> Result<CampaignView> {
        let request = request_id(request)?;
        if let Some(created) = self.created_before(tenant, request, &id).await? {
            return Ok(created);
        }
        let source = self.campaign_record(tenant, source).await?;
        let settings = SettingsSpec {
            template: source.template.as_str().to_owned(),
            pool: source.pool.as_str().to_owned(),
            rate: source.settings.rate,
            workers: Some(source.settings.workers),
            policy: Some(source.settings.policy),
            retries_max: Some(u32::from(source.settings.retries_max)),
            region: source.settings.region.clone().unwrap_or_default(),
            start_at: None,
            stop_at: None,
            settle_window: Some(std::time::Duration::from_millis(source.settings.settle_window_ms)),
        };
        let name = if name.is_empty() { source.name } else { name };
        let spec =
            CampaignSpec { id, name, description: source.description, labels: source.labels, created_by, settings };
        self.accepting()?;
        self.create_fresh(tenant, request, spec).await
    }

    /// The answer to a creation that is repeated. Asked before anything is checked: what was right when it was created may be too late by
    /// now, or refer to what is gone.
    async fn created_before(
        &self,
        tenant: &TenantId,
        request: Option<&str>,
        asked: &str,
    ) -> Result<Option<CampaignView>> {
        let Some(request) = request else { return Ok(None) };
        let Some(record) = self.store.created_campaign(tenant, request).await? else { return Ok(None) };
        self.view_created(Created { record, fresh: false }, asked).await.map(Some)
    }

    /// The answer to a creation; a `request_id` that made something else under another id is refused.
    async fn view_created(&self, created: Created<Campaign>, asked: &str) -> Result<CampaignView> {
        if !created.fresh && !asked.is_empty() && created.record.id.as_str() != asked {
            return Err(Error::Exists {
                what: "campaign of this request_id",
                id: created.record.id.as_str().to_owned(),
            });
        }
        self.view(created.record).await
    }

    /// Template and pool of the settings; what is wrong with them is added to `violations`.
    async fn references(
        &self,
        tenant: &TenantId,
        spec: &SettingsSpec,
        violations: &mut Violations,
    ) -> Result<Option<References>> {
        let template = self.template_of(tenant, "settings.template_id", &spec.template, violations).await?;
        let pool = self.pool_of(tenant, "settings.pool_id", &spec.pool, violations).await?;
        let (Some(template), Some(pool)) = (template, pool) else { return Ok(None) };
        check_suits(&template.definition, pool.kind, "settings.template_id", violations)?;
        Ok(Some(References { template, pool }))
    }
}
