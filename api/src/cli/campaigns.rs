//! `campaigns …`, `clone`, `seal`, `totals`: making and looking at campaigns.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use prost_types::Timestamp;
use sluice_proto::v1::{
    AtLeastOnce, AtMostOnce, CampaignSettings, CloneCampaignRequest, CreateCampaignRequest, DeleteCampaignRequest,
    DeliveryPolicy, GetCampaignRequest, GetTenantTotalsRequest, Labels, ListCampaignsRequest, ListCampaignsResponse,
    RetryPolicy, SealCampaignRequest, SendRate, UpdateCampaignRequest, delivery_policy::Policy,
};

use super::campaign_view as view;
use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::output::{Console, collect};
use super::select::CampaignFilterArgs;
use super::values;

/// What to do with campaigns.
#[derive(Debug, Clone, Subcommand)]
pub enum CampaignsCommand {
    /// Make a draft
    Create(Box<CreateArgs>),
    /// List campaigns with their counts, the newest first
    List(ListArgs),
    /// Show one campaign with all its figures
    Show {
        /// The campaign
        campaign: String,
    },
    /// Change a campaign, while it runs too; only what is given changes
    Update(Box<UpdateArgs>),
    /// Remove a draft, or a campaign that has ended and settled, with all its recipients
    Delete {
        /// The campaign
        campaign: String,
        /// Only if this is still its version
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

/// What to do with attempts whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// Never twice: wait for the provider's echo, then for a person's decision
    AtMostOnce,
    /// Never not at all: send again after a short wait; some may arrive twice
    AtLeastOnce,
}

/// Settings that creation and change have in common.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsArgs {
    /// Own rate, e.g. 80/s or 6000/min [default: the lines' ceilings alone]
    #[arg(long, value_name = "RATE", value_parser = values::rate)]
    pub rate: Option<SendRate>,
    /// Messages that may leave at once after idle time
    #[arg(long, value_name = "N", requires = "rate")]
    pub burst: Option<u32>,
    /// The most messages in flight, 1 to 10,000 [default: the server's, 256 unless configured]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// What to do when it is not known whether a message went out [default: at-most-once]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub delivery: Option<Delivery>,
    /// How long to wait for the provider's echo, 1s to 7 days [default: the server's, 15m, or 60s with at-least-once]
    #[arg(long, value_name = "TIME", requires = "delivery", value_parser = values::duration)]
    pub echo_wait: Option<Duration>,
    /// Retries of a message that failed for a passing reason, 0 to 100 [default: the server's, 4 unless configured]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Region whose national phone format may be imported, e.g. DE [default: E.164 only]
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// When to start, with offset, e.g. 2031-05-01T09:00:00+02:00
    #[arg(long, value_name = "TIME", value_parser = values::timestamp)]
    pub start_at: Option<Timestamp>,
    /// When to stop; what is unsent then expires
    #[arg(long, value_name = "TIME", value_parser = values::timestamp)]
    pub stop_at: Option<Timestamp>,
    /// How long to await statuses after the last message has left, 1s to 30 days [default: the server's, 72h unless configured]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub settle_window: Option<Duration>,
}

impl SettingsArgs {
    fn rate(&self) -> Option<SendRate> {
        self.rate.map(|rate| SendRate { burst: self.burst, ..rate })
    }

    fn delivery_policy(&self) -> Option<DeliveryPolicy> {
        let wait = self.echo_wait.map(values::proto_duration);
        let policy = match self.delivery? {
            Delivery::AtMostOnce => Policy::AtMostOnce(AtMostOnce { echo_wait: wait }),
            Delivery::AtLeastOnce => Policy::AtLeastOnce(AtLeastOnce { grace: wait }),
        };
        Some(DeliveryPolicy { policy: Some(policy) })
    }

    fn retry_policy(&self) -> Option<RetryPolicy> {
        self.retries.map(|retries| RetryPolicy { retries_max: Some(retries) })
    }
}

/// A new campaign.
#[derive(Debug, Clone, Args)]
pub struct CreateArgs {
    /// Its id [default: the server makes one]
    #[arg(default_value = "", hide_default_value = true)]
    pub campaign: String,
    /// Its name for people [default: the id]
    #[arg(long)]
    pub name: Option<String>,
    /// The template
    #[arg(long)]
    pub template: String,
    /// The pool of lines
    #[arg(long)]
    pub pool: String,
    /// Text for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub description: String,
    /// A label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub labels: Vec<(String, String)>,
    /// Makes the call safe to repeat: the same id with the same settings makes one campaign
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Which campaigns to list.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The most to list; 0 for all
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    #[command(flatten)]
    pub filter: CampaignFilterArgs,
}

/// What to change.
#[derive(Debug, Clone, Args)]
pub struct UpdateArgs {
    /// The campaign
    pub campaign: String,
    /// Only if this is still its version
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// New description
    #[arg(long)]
    pub description: Option<String>,
    /// New labels, all of them; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = values::key_value)]
    pub labels: Vec<(String, String)>,
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    pub clear_labels: bool,
    /// New template; only while a draft without recipients
    #[arg(long)]
    pub template: Option<String>,
    /// New pool; only before the start
    #[arg(long)]
    pub pool: Option<String>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Take the own rate away
    #[arg(long, conflicts_with = "rate")]
    pub clear_rate: bool,
    /// Take the start time away
    #[arg(long, conflicts_with = "start_at")]
    pub clear_start_at: bool,
    /// Take the stop time away
    #[arg(long, conflicts_with = "stop_at")]
    pub clear_stop_at: bool,
}

/// A copy of a campaign's settings.
#[derive(Debug, Clone, Args)]
pub struct CloneArgs {
    /// The campaign to copy
    pub source: String,
    /// The id of the copy [default: the server makes one]
    #[arg(default_value = "", hide_default_value = true)]
    pub campaign: String,
    /// The name of the copy [default: that of the source]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// Makes the call safe to repeat
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
}

/// Runs `campaigns …`.
pub async fn run(command: &CampaignsCommand, server: &Server, console: &mut Console) -> Outcome {
    match command {
        CampaignsCommand::Create(args) => create(args, server, console).await,
        CampaignsCommand::List(args) => list(args, server, console).await,
        CampaignsCommand::Show { campaign } => {
            let request = server.request(GetCampaignRequest { campaign_id: campaign.clone() });
            let answer = server.campaigns().get_campaign(request).await?.into_inner();
            console.answer(&answer, |answer, width| view::details(answer.campaign.as_ref(), width))?;
            Ok(Exit::Ok)
        }
        CampaignsCommand::Update(args) => update(args, server, console).await,
        CampaignsCommand::Delete { campaign, etag, yes } => {
            if !yes {
                console.confirm(&format!("delete campaign {campaign} with all its recipients and their history?"))?;
            }
            let request = DeleteCampaignRequest { campaign_id: campaign.clone(), etag: etag.clone() };
            let answer = server.campaigns().delete_campaign(server.request(request)).await?.into_inner();
            console.answer(&answer, |_, _| format!("campaign {campaign} is deleted\n"))?;
            Ok(Exit::Ok)
        }
    }
}

async fn create(args: &CreateArgs, server: &Server, console: &mut Console) -> Outcome {
    let settings = &args.settings;
    let request = CreateCampaignRequest {
        request_id: args.request_id.clone(),
        campaign_id: args.campaign.clone(),
        name: args.name.clone().unwrap_or_else(|| args.campaign.clone()),
        description: args.description.clone(),
        labels: args.labels.iter().cloned().collect(),
        settings: Some(CampaignSettings {
            template_id: args.template.clone(),
            pool_id: args.pool.clone(),
            rate: settings.rate(),
            workers: settings.workers,
            delivery_policy: settings.delivery_policy(),
            retry_policy: settings.retry_policy(),
            region: settings.region.clone().unwrap_or_default(),
            start_at: settings.start_at,
            stop_at: settings.stop_at,
            settle_window: settings.settle_window.map(values::proto_duration),
        }),
    };
    let answer = server.campaigns().create_campaign(server.request(request)).await?.into_inner();
    console.answer(&answer, |answer, width| view::details(answer.campaign.as_ref(), width))?;
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs, server: &Server, console: &mut Console) -> Outcome {
    let filter = args.filter.text();
    let page = |page_size, page_token| {
        let request = ListCampaignsRequest { page_size, page_token, filter: filter.clone() };
        async move {
            let answer = server.campaigns().list_campaigns(server.request(request)).await?.into_inner();
            let as_of = answer.as_of;
            Ok((answer.campaigns.into_iter().map(|campaign| (campaign, as_of)).collect(), answer.next_page_token))
        }
    };
    let (found, next_page_token) = collect(args.limit, page).await?;
    // Pages are read one after the other: what holds for all of them is the time of the first.
    let as_of = found.first().and_then(|(_, as_of)| *as_of);
    let campaigns = found.into_iter().map(|(campaign, _)| campaign).collect();
    let answer = ListCampaignsResponse { campaigns, next_page_token, as_of };
    console.list(&answer, &answer.campaigns, view::table)?;
    if !answer.next_page_token.is_empty() && console.for_people() {
        console.note(&format!("there are more than {}; --limit 0 lists all", args.limit));
    }
    Ok(Exit::Ok)
}

async fn update(args: &UpdateArgs, server: &Server, console: &mut Console) -> Outcome {
    let settings = &args.settings;
    let labels = (args.clear_labels || !args.labels.is_empty())
        .then(|| Labels { entries: args.labels.iter().cloned().collect() });
    let request = UpdateCampaignRequest {
        campaign_id: args.campaign.clone(),
        etag: args.etag.clone(),
        name: args.name.clone(),
        description: args.description.clone(),
        labels,
        rate: settings.rate(),
        clear_rate: args.clear_rate,
        workers: settings.workers,
        delivery_policy: settings.delivery_policy(),
        retry_policy: settings.retry_policy(),
        region: settings.region.clone(),
        start_at: settings.start_at,
        clear_start_at: args.clear_start_at,
        stop_at: settings.stop_at,
        clear_stop_at: args.clear_stop_at,
        settle_window: settings.settle_window.map(values::proto_duration),
        template_id: args.template.clone(),
        pool_id: args.pool.clone(),
    };
    let nothing = UpdateCampaignRequest {
        campaign_id: args.campaign.clone(),
        etag: args.etag.clone(),
        ..UpdateCampaignRequest::default()
    };
    if request == nothing {
        return Err(Failure::usage("nothing to change was given"));
    }
    let answer = server.campaigns().update_campaign(server.request(request)).await?.into_inner();
    console.answer(&answer, |answer, width| view::details(answer.campaign.as_ref(), width))?;
    Ok(Exit::Ok)
}

/// Runs `clone`.
pub async fn clone(args: &CloneArgs, server: &Server, console: &mut Console) -> Outcome {
    let request = CloneCampaignRequest {
        request_id: args.request_id.clone(),
        source_campaign_id: args.source.clone(),
        campaign_id: args.campaign.clone(),
        name: args.name.clone(),
    };
    let answer = server.campaigns().clone_campaign(server.request(request)).await?.into_inner();
    console.answer(&answer, |answer, width| view::details(answer.campaign.as_ref(), width))?;
    Ok(Exit::Ok)
}

/// Runs `seal`.
pub async fn seal(campaign: &str, etag: &str, server: &Server, console: &mut Console) -> Outcome {
    let request = SealCampaignRequest { campaign_id: campaign.to_owned(), etag: etag.to_owned() };
    let answer = server.campaigns().seal_campaign(server.long_request(request)).await?.into_inner();
    console.answer(&answer, |answer, _| view::sealed(answer.campaign.as_ref()))?;
    Ok(Exit::Ok)
}

/// Runs `totals`.
pub async fn totals(server: &Server, console: &mut Console) -> Outcome {
    let answer = server.campaigns().get_tenant_totals(server.request(GetTenantTotalsRequest {})).await?.into_inner();
    console.answer(&answer, view::totals)?;
    Ok(Exit::Ok)
}
