//! A customer of the server: what tests and runs do through the contract.

use std::time::Duration;

use anyhow::{Context as _, bail};
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::import_service_client::ImportServiceClient;
use sluice_proto::v1::line_service_client::LineServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use sluice_proto::v1::template_service_client::TemplateServiceClient;
use tokio::time::Instant;

use super::config::{LONG_TEXT, TEMPLATE_LANGUAGE, TEXT};
use crate::grpc::{Authed, connect};
use crate::witness::compare::Policy;

/// A customer with one connection.
#[derive(Debug, Clone)]
pub struct Customer {
    channel: Authed,
}

/// What a campaign is to be.
#[derive(Debug, Clone)]
pub struct CampaignPlan {
    /// Its id and name.
    pub id: String,
    /// The pool.
    pub pool: String,
    /// The template.
    pub template: String,
    /// The policy.
    pub policy: Policy,
    /// In-flight maximum.
    pub workers: u32,
    /// Own rate per second.
    pub rate: Option<u32>,
    /// Wait for an echo of what is in doubt.
    pub echo_wait: Duration,
}

impl CampaignPlan {
    /// At most once over this pool with this template.
    #[must_use]
    pub fn new(id: &str, pool: &str, template: &str) -> Self {
        Self {
            id: id.to_owned(),
            pool: pool.to_owned(),
            template: template.to_owned(),
            policy: Policy::AtMostOnce,
            workers: 256,
            rate: None,
            echo_wait: Duration::from_secs(2),
        }
    }

    /// With this policy.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// With this in-flight maximum.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// With an own rate per second.
    #[must_use]
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second);
        self
    }
}

fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 }
}

impl Customer {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached within ten seconds.
    pub async fn connect(address: &str, token: &str) -> anyhow::Result<Self> {
        let channel = connect(address, token, Duration::from_secs(10)).await?;
        Ok(Self { channel })
    }

    /// The authenticated channel, for calls that have no helper here.
    #[must_use]
    pub fn channel(&self) -> Authed {
        self.channel.clone()
    }

    /// The campaign service.
    #[must_use]
    pub fn campaigns(&self) -> CampaignServiceClient<Authed> {
        CampaignServiceClient::new(self.channel.clone())
    }

    /// The line service.
    #[must_use]
    pub fn lines(&self) -> LineServiceClient<Authed> {
        LineServiceClient::new(self.channel.clone())
    }

    /// The message service.
    #[must_use]
    pub fn messages(&self) -> MessageServiceClient<Authed> {
        MessageServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// The import service.
    #[must_use]
    pub fn imports(&self) -> ImportServiceClient<Authed> {
        ImportServiceClient::new(self.channel.clone())
    }

    /// The template service.
    #[must_use]
    pub fn templates(&self) -> TemplateServiceClient<Authed> {
        TemplateServiceClient::new(self.channel.clone())
    }

    /// Creates a Meta line in a pool.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn meta_line(
        &self,
        id: &str,
        pool: &str,
        account: &str,
        phone_number_id: &str,
        ceiling: u32,
    ) -> anyhow::Result<()> {
        let identity = v1::sender_identity::Identity::MetaPhoneNumberId(phone_number_id.to_owned());
        self.line(id, pool, account, v1::Provider::Meta, identity, ceiling).await
    }

    /// Creates a Twilio SMS line with a number.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sms_line(
        &self,
        id: &str,
        pool: &str,
        account: &str,
        number: &str,
        ceiling: u32,
    ) -> anyhow::Result<()> {
        let identity = v1::sender_identity::Identity::TwilioFromNumber(number.to_owned());
        self.line(id, pool, account, v1::Provider::TwilioSms, identity, ceiling).await
    }

    /// Creates a line of any kind.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn line(
        &self,
        id: &str,
        pool: &str,
        account: &str,
        provider: v1::Provider,
        identity: v1::sender_identity::Identity,
        ceiling: u32,
    ) -> anyhow::Result<()> {
        let request = v1::CreateLineRequest {
            request_id: format!("line-{id}"),
            line_id: id.to_owned(),
            pool_id: pool.to_owned(),
            account_id: account.to_owned(),
            provider: provider.into(),
            sender: Some(v1::SenderIdentity { identity: Some(identity) }),
            description: String::new(),
            ceiling_per_second: ceiling,
            in_flight_max: Some(4_096),
        };
        self.lines().create_line(request).await.with_context(|| format!("line {id}"))?;
        Ok(())
    }

    /// Puts a WhatsApp template with two body parameters.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn whatsapp_template(&self, id: &str, name: &str) -> anyhow::Result<()> {
        self.template(v1::Template {
            template_id: id.to_owned(),
            kind: v1::TemplateKind::Whatsapp.into(),
            name: name.to_owned(),
            language: TEMPLATE_LANGUAGE.to_owned(),
            body: TEXT.to_owned(),
            ..v1::Template::default()
        })
        .await
    }

    /// Puts the free texts `text` (one SMS part) and `long` (two), with two parameters each.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn text_templates(&self) -> anyhow::Result<()> {
        for (id, body) in [("text", TEXT), ("long", LONG_TEXT)] {
            self.template(v1::Template {
                template_id: id.to_owned(),
                kind: v1::TemplateKind::Text.into(),
                name: id.to_owned(),
                language: TEMPLATE_LANGUAGE.to_owned(),
                body: body.to_owned(),
                ..v1::Template::default()
            })
            .await?;
        }
        Ok(())
    }

    /// Puts a template of any kind.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn template(&self, template: v1::Template) -> anyhow::Result<()> {
        let request = v1::PutTemplateRequest {
            request_id: format!("template-{}", template.template_id),
            template: Some(template),
        };
        self.templates().put_template(request).await.context("template")?;
        Ok(())
    }

    /// Creates a draft.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn create(&self, plan: &CampaignPlan) -> anyhow::Result<()> {
        use v1::delivery_policy::Policy as Said;
        let policy = match plan.policy {
            Policy::AtMostOnce => Said::AtMostOnce(v1::AtMostOnce { echo_wait: Some(duration(plan.echo_wait)) }),
            Policy::AtLeastOnce => Said::AtLeastOnce(v1::AtLeastOnce { grace: Some(duration(plan.echo_wait)) }),
        };
        let rate = plan.rate.map(|count| v1::SendRate { count, per: v1::RatePeriod::Second.into(), burst: None });
        let request = v1::CreateCampaignRequest {
            request_id: format!("campaign-{}", plan.id),
            campaign_id: plan.id.clone(),
            name: plan.id.clone(),
            settings: Some(v1::CampaignSettings {
                template_id: plan.template.clone(),
                pool_id: plan.pool.clone(),
                rate,
                workers: Some(plan.workers),
                delivery_policy: Some(v1::DeliveryPolicy { policy: Some(policy) }),
                ..v1::CampaignSettings::default()
            }),
            ..v1::CreateCampaignRequest::default()
        };
        self.campaigns().create_campaign(request).await.with_context(|| format!("campaign {}", plan.id))?;
        Ok(())
    }

    /// Starts a campaign.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn start(&self, campaign: &str) -> anyhow::Result<()> {
        let request = v1::StartCampaignRequest { campaign_id: campaign.to_owned(), etag: String::new() };
        self.campaigns().start_campaign(request).await.with_context(|| format!("start of {campaign}"))?;
        Ok(())
    }

    /// Seals a campaign and schedules its start for `at_ms`, milliseconds since 1970.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn schedule(&self, campaign: &str, at_ms: u64) -> anyhow::Result<()> {
        let nanos = (at_ms % 1_000) as i32 * 1_000_000;
        let start_at = prost_types::Timestamp { seconds: (at_ms / 1_000).cast_signed(), nanos };
        let request = v1::UpdateCampaignRequest {
            campaign_id: campaign.to_owned(),
            start_at: Some(start_at),
            ..v1::UpdateCampaignRequest::default()
        };
        self.campaigns().update_campaign(request).await.with_context(|| format!("start time of {campaign}"))?;
        self.start(campaign).await
    }

    /// Pauses a campaign; returns how many messages were in flight.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn pause(&self, campaign: &str) -> anyhow::Result<u64> {
        let request = v1::PauseCampaignRequest { campaign_id: campaign.to_owned(), etag: String::new() };
        let answer = self.campaigns().pause_campaign(request).await.with_context(|| format!("pause of {campaign}"))?;
        Ok(answer.into_inner().in_flight)
    }

    /// Resumes a campaign.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn resume(&self, campaign: &str) -> anyhow::Result<()> {
        let request = v1::ResumeCampaignRequest { campaign_id: campaign.to_owned(), etag: String::new() };
        self.campaigns().resume_campaign(request).await.with_context(|| format!("resume of {campaign}"))?;
        Ok(())
    }

    /// Cancels a campaign.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn cancel(&self, campaign: &str) -> anyhow::Result<()> {
        let request = v1::CancelCampaignRequest { campaign_id: campaign.to_owned(), etag: String::new() };
        self.campaigns().cancel_campaign(request).await.with_context(|| format!("cancel of {campaign}"))?;
        Ok(())
    }

    /// Gives a campaign another own rate; 0 takes it away.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn set_rate(&self, campaign: &str, per_second: u32) -> anyhow::Result<()> {
        let rate = v1::SendRate { count: per_second, per: v1::RatePeriod::Second.into(), burst: None };
        let request = v1::UpdateCampaignRequest {
            campaign_id: campaign.to_owned(),
            rate: (per_second > 0).then_some(rate),
            clear_rate: per_second == 0,
            ..v1::UpdateCampaignRequest::default()
        };
        self.campaigns().update_campaign(request).await.with_context(|| format!("rate of {campaign}"))?;
        Ok(())
    }

    /// Gives a line another ceiling.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn set_ceiling(&self, line: &str, per_second: u32) -> anyhow::Result<()> {
        let request = v1::UpdateLineRequest {
            line_id: line.to_owned(),
            ceiling_per_second: Some(per_second),
            ..v1::UpdateLineRequest::default()
        };
        self.lines().update_line(request).await.with_context(|| format!("ceiling of {line}"))?;
        Ok(())
    }

    /// All campaigns with their counts.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn list(&self) -> anyhow::Result<Vec<v1::Campaign>> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListCampaignsRequest { page_size: 1_000, page_token, filter: String::new() };
            let answer = self.campaigns().list_campaigns(request).await.context("list of campaigns")?.into_inner();
            all.extend(answer.campaigns);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// A campaign with its counts.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn get(&self, campaign: &str) -> anyhow::Result<v1::Campaign> {
        let request = v1::GetCampaignRequest { campaign_id: campaign.to_owned() };
        let answer = self.campaigns().get_campaign(request).await.with_context(|| format!("campaign {campaign}"))?;
        answer.into_inner().campaign.with_context(|| format!("campaign {campaign} is empty"))
    }

    /// A campaign's tally.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn tally(&self, campaign: &str) -> anyhow::Result<v1::Tally> {
        Ok(self.get(campaign).await?.stats.and_then(|s| s.tally).unwrap_or_default())
    }

    /// Waits until a condition on a campaign holds.
    ///
    /// # Errors
    /// When it does not within `deadline`; the campaign as it was last seen is part of the message.
    pub async fn wait(
        &self,
        campaign: &str,
        deadline: Duration,
        what: &str,
        holds: impl Fn(&v1::Campaign) -> bool,
    ) -> anyhow::Result<v1::Campaign> {
        let end = Instant::now() + deadline;
        loop {
            let seen = self.get(campaign).await?;
            if holds(&seen) {
                return Ok(seen);
            }
            if Instant::now() >= end {
                bail!("{campaign}: no {what} within {deadline:?}; last seen: {seen:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until nothing can leave any more.
    ///
    /// # Errors
    /// When that takes longer than `deadline`.
    pub async fn dispatched(&self, campaign: &str, deadline: Duration) -> anyhow::Result<v1::Campaign> {
        self.wait(campaign, deadline, "end", |c| {
            matches!(c.state(), v1::CampaignState::Completed | v1::CampaignState::Cancelled | v1::CampaignState::Failed)
        })
        .await
    }
}

/// The count of one shown status in a tally.
#[must_use]
pub fn shown(tally: &v1::Tally, status: v1::MessageStatus) -> u64 {
    let found = tally.by_status.iter().find(|c| c.status == status as i32);
    found.map_or(0, |c| c.count)
}
