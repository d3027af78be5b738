//! Reading both sides: the server through gRPC, the simulator through its control API.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::Instant;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::audience::Audience;
use super::compare::{CampaignFold, Comparison, Kind, Policy, Said};
use super::doubts::Traceless;
use super::records::{Counts, Entry, Refused};
use super::report::Report;
pub use super::server::{counts, exported};
use super::server::{failures, nanos};
use super::watch;
use crate::grpc::Bearer;
use crate::sim::rates::LineRate;
use crate::sim::records::{Record, RefusedRecord, Summary};
use crate::sim::stamp::Stamping;
use crate::wire::client::{once, split_url};

/// Longest time for one call of the control API.
const CALL: Duration = Duration::from_secs(120);

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The simulator's control API, `http://host:port`.
    pub control: String,
    /// Campaigns; empty: all of the tenant.
    pub campaigns: Vec<String>,
    /// First wait until every status is acknowledged.
    pub quiesce: Option<Duration>,
    /// Everything in the simulator's ledger must belong to one of the campaigns.
    pub strangers: bool,
    /// Other ceilings than the simulator's, by the line's identity at the provider.
    pub ceilings: HashMap<String, u32>,
    /// Share of the ceiling to be used in every window of `window`.
    pub use_min: Option<f64>,
    /// Window of that use.
    pub window: Duration,
    /// Recipients that a campaign must hold, exactly, each as it was imported.
    pub recipients: HashMap<String, Audience>,
    /// When the server was killed or stood still, ns since the epoch; without it what is in doubt without a trace is told, but not judged.
    pub interruptions: Option<Vec<u64>>,
    /// Most messages that may be in doubt without a trace at the provider, over all campaigns; for those who know it from elsewhere.
    pub traceless_max: Option<u64>,
    /// Lines (identities at the provider) that others than the server sent over: their part of the ledger is left out.
    pub foreign_lines: Vec<String>,
}

/// Hears everything that a check reads, as it goes by.
pub trait Listener: Send {
    /// An accepted message of the simulator's ledger. All of them come before the first message.
    fn accepted(&mut self, record: &Record);
    /// A message that the server exports.
    fn message(&mut self, campaign: &str, message: &v1::Message);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy)]
pub struct Deaf;

impl Listener for Deaf {
    fn accepted(&mut self, _: &Record) {}
    fn message(&mut self, _: &str, _: &v1::Message) {}
}

#[derive(Deserialize)]
struct Rates {
    lines: Vec<LineRate>,
    stamping: Stamping,
}

/// Reads both sides and compares.
///
/// # Errors
/// When one side cannot be read; differences are no error but part of the report.
pub async fn check(channel: InterceptedService<Channel, Bearer>, wanted: &Wanted) -> anyhow::Result<Report> {
    check_heard(channel, wanted, &mut Deaf).await
}

/// As [`check`]; `listener` hears everything that is read.
///
/// # Errors
/// As [`check`].
pub async fn check_heard(
    channel: InterceptedService<Channel, Bearer>,
    wanted: &Wanted,
    listener: &mut impl Listener,
) -> anyhow::Result<Report> {
    let mut notes = Vec::new();
    let mut outstanding = 0;
    if let Some(limit) = wanted.quiesce {
        let target = format!("{}/quiesce?timeout_ms={}", wanted.control, limit.as_millis());
        let quiet: serde_json::Value = control_json("POST", &target, limit + CALL).await?;
        outstanding = quiet["outstanding"].as_u64().unwrap_or(0);
    }
    let entries = read_ledger(wanted, listener).await?;
    let refused = read_refused(wanted).await?;
    let mut comparison = Comparison::new(entries).refused(refused).interrupted(wanted.interruptions.clone());
    if outstanding > 0 {
        comparison.note(Kind::NotQuiet, format!("{outstanding} statuses are not acknowledged"));
    }
    let listed = list_campaigns(channel.clone()).await?;
    for campaign in chosen(channel.clone(), &listed, &wanted.campaigns).await? {
        let list = listed.iter().find(|one| one.campaign_id == campaign.campaign_id);
        compare_campaign(channel.clone(), &mut comparison, &campaign, list, wanted, listener).await?;
    }
    if !compare_totals(channel, &mut comparison, &listed).await? {
        notes.push("campaigns moved while they were read: the tenant's totals are not compared".to_owned());
    }
    let target = format!("{}/rates?window_ms={}", wanted.control, wanted.window.as_millis().max(1));
    let mut rates: Rates = control_json("GET", &target, CALL).await?;
    rates.lines.retain(|rate| !wanted.foreign_lines.contains(&rate.line));
    comparison.rates(&rates.lines, &wanted.ceilings, wanted.use_min);
    for rate in rates.lines.iter().filter(|rate| rate.highest > u64::from(rate.ceiling)) {
        if rate.unexplained == 0 {
            notes.push(format!(
                "{}: the machine stood still in the second that exceeds the ceiling; repeat the run",
                rate.line
            ));
        }
    }
    let stats: serde_json::Value = control_json("GET", &format!("{}/stats", wanted.control), CALL).await?;
    let forged = stats["webhooks"]["forged_accepted"].as_u64().unwrap_or(0);
    if forged > 0 {
        comparison.note(Kind::ForgedAccepted, format!("{forged} webhooks with a bad signature were answered 200"));
    }
    let given_up = stats["webhooks"]["statuses_given_up"].as_u64().unwrap_or(0);
    if given_up > 0 {
        notes.push(format!(
            "{given_up} statuses were refused until Twilio's retries were used up: they may show or not, and nobody hears of them again"
        ));
    }
    if rates.stamping.by_read > 0 {
        notes.push(
            "some arrivals were stamped at the read, not by the kernel: rates may be off by the stall".to_owned(),
        );
    }
    let stall = rates.stamping.stall_ms_longest;
    if stall > 5.0 {
        notes.push(format!(
            "the simulator stood still for up to {stall:.1} ms; arrivals are stamped by the kernel all the same"
        ));
    }
    let mut ledger: Summary = control_json("GET", &format!("{}/ledger", wanted.control), CALL).await?;
    for line in &wanted.foreign_lines {
        ledger.accepted -= ledger.by_line.remove(line).unwrap_or(0).min(ledger.accepted);
        ledger.refused.remove(line);
    }
    if ledger.refused_unkept > 0 {
        notes.push(format!("{} refused requests are counted, but not booked one by one", ledger.refused_unkept));
    }
    let (mut differences, campaigns) = comparison.finish(wanted.strangers);
    let mut traceless = Traceless { allowed: Some(0), ..Traceless::default() };
    campaigns.iter().for_each(|campaign| traceless.add(&campaign.traceless));
    if let Some(most) = wanted.traceless_max.filter(|most| traceless.unseen > *most) {
        differences
            .note(Kind::Vanished, || format!("{} in doubt without a trace, at most {most} expected", traceless.unseen));
    }
    Ok(Report {
        traceless,
        ok: differences.is_empty(),
        campaigns,
        ledger,
        rates: rates.lines.into_iter().filter(|rate| rate.arrivals > 0).collect(),
        stamping: rates.stamping,
        differences,
        notes,
    })
}

/// Calls the control API and reads JSON.
///
/// # Errors
/// When the call fails or answers anything but 200 with JSON of this shape.
pub async fn control_json<T: for<'a> Deserialize<'a>>(
    method: &str,
    url: &str,
    deadline: Duration,
) -> anyhow::Result<T> {
    let (status, body) = once(method, url, b"", deadline).await.with_context(|| format!("{method} {url}"))?;
    if status != 200 {
        bail!("{method} {url}: {status} {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body).with_context(|| format!("{method} {url}"))
}

/// Reads a list of the control API, one JSON object a line.
async fn read_lines<T: for<'a> Deserialize<'a>>(
    control: &str,
    path: &str,
    mut each: impl FnMut(T),
) -> anyhow::Result<()> {
    let address = split_url(&format!("{control}{path}"))?;
    let mut stream = tokio::net::TcpStream::connect(&address.authority)
        .await
        .with_context(|| format!("the simulator's control API at {}", address.authority))?;
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", address.target, address.authority);
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::with_capacity(1 << 16, stream).lines();
    // The head ends with an empty line.
    let status = lines.next_line().await?.with_context(|| format!("{path} has no head"))?;
    anyhow::ensure!(status.contains(" 200 "), "{path}: {status}");
    while lines.next_line().await?.with_context(|| format!("{path} ends in its head"))?.trim() != "" {}
    let mut number = 0;
    while let Some(line) = lines.next_line().await? {
        each(serde_json::from_str(&line).with_context(|| format!("{path}, line {number}"))?);
        number += 1;
    }
    Ok(())
}

async fn read_ledger(wanted: &Wanted, listener: &mut impl Listener) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let each = |record: Record| {
        if !wanted.foreign_lines.contains(&record.line) {
            listener.accepted(&record);
            entries.push(record.into());
        }
    };
    read_lines(&wanted.control, "/ledger/entries", each).await?;
    Ok(entries)
}

async fn read_refused(wanted: &Wanted) -> anyhow::Result<Vec<Refused>> {
    let mut refused = Vec::new();
    let each = |record: RefusedRecord| {
        if !wanted.foreign_lines.contains(&record.line) {
            refused.push(record.into());
        }
    };
    read_lines(&wanted.control, "/ledger/refused", each).await?;
    Ok(refused)
}

async fn list_campaigns(channel: InterceptedService<Channel, Bearer>) -> anyhow::Result<Vec<v1::Campaign>> {
    let mut client = CampaignServiceClient::new(channel);
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListCampaignsRequest { page_size: 1_000, page_token, filter: String::new() };
        let answer = client.list_campaigns(request).await.context("list of campaigns")?.into_inner();
        all.extend(answer.campaigns);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// The campaigns to compare: all that are listed, or those that are named, listed or not.
async fn chosen(
    channel: InterceptedService<Channel, Bearer>,
    listed: &[v1::Campaign],
    ids: &[String],
) -> anyhow::Result<Vec<v1::Campaign>> {
    if ids.is_empty() {
        return Ok(listed.to_vec());
    }
    let mut client = CampaignServiceClient::new(channel);
    let mut all = Vec::new();
    for id in ids {
        let request = v1::GetCampaignRequest { campaign_id: id.clone() };
        let answer = client.get_campaign(request).await.with_context(|| format!("campaign {id}"))?;
        all.push(answer.into_inner().campaign.with_context(|| format!("campaign {id} is empty"))?);
    }
    Ok(all)
}

fn tally(campaign: &v1::Campaign) -> Counts {
    campaign.stats.as_ref().and_then(|stats| stats.tally.as_ref()).map(counts).unwrap_or_default()
}

/// The tenant's totals against the sum of the list; false when the list moved meanwhile, so that nothing can be said.
async fn compare_totals(
    channel: InterceptedService<Channel, Bearer>,
    comparison: &mut Comparison,
    before: &[v1::Campaign],
) -> anyhow::Result<bool> {
    let mut client = CampaignServiceClient::new(channel.clone());
    let totals = client.get_tenant_totals(v1::GetTenantTotalsRequest {}).await.context("totals")?.into_inner();
    let after = list_campaigns(channel).await?;
    let sum = |all: &[v1::Campaign]| all.iter().map(tally).fold(Counts::default(), |sum, one| sum.plus(&one));
    let (sum, later) = (sum(before), sum(&after));
    if sum != later {
        return Ok(false);
    }
    comparison.totals(&counts(&totals.tally.unwrap_or_default()), &sum);
    Ok(true)
}

async fn compare_campaign(
    channel: InterceptedService<Channel, Bearer>,
    comparison: &mut Comparison,
    campaign: &v1::Campaign,
    listed: Option<&v1::Campaign>,
    wanted: &Wanted,
    listener: &mut impl Listener,
) -> anyhow::Result<()> {
    let id = &campaign.campaign_id;
    let mut fold = fold_of(campaign, wanted.recipients.get(id).copied());
    let mut messages = MessageServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    let request = v1::ExportMessagesRequest { campaign_id: id.clone(), ..v1::ExportMessagesRequest::default() };
    let mut stream = messages.export_messages(request).await.with_context(|| format!("export of {id}"))?.into_inner();
    while let Some(batch) = stream.message().await.with_context(|| format!("export of {id}"))? {
        for message in batch.messages {
            listener.message(id, &message);
            comparison.message(&mut fold, &exported(message));
        }
    }
    let mut campaigns = CampaignServiceClient::new(channel.clone());
    let (request, began) = (v1::RecountCampaignRequest { campaign_id: id.clone() }, Instant::now());
    let recount = campaigns.recount_campaign(request).await.with_context(|| format!("recount of {id}"))?;
    let recount = recount.into_inner().recount.with_context(|| format!("recount of {id} is empty"))?;
    let recount_s = began.elapsed().as_secs_f64();
    // Read after the export: what may have moved between both shows as a drift, so a check wants a quiet server.
    let request = v1::GetCampaignRequest { campaign_id: id.clone() };
    let now = campaigns.get_campaign(request).await?.into_inner().campaign.unwrap_or_default();
    for difference in &recount.differences {
        comparison.note(
            Kind::RecountDrift,
            format!("{id}: {} was {}, is {}", difference.name, difference.before, difference.after),
        );
    }
    let watched = watch::snapshot(channel, id).await?;
    let said = Said {
        tally: tally(&now),
        recount: counts(&recount.after.unwrap_or_default()),
        recount_s,
        failures: now.stats.as_ref().map(|stats| failures(&stats.failures)),
        // What is not in the list at all has no counts there.
        listed: Some(listed.map(tally).unwrap_or_default()),
        watched: Some(watched.said()),
        audience: now.audience.as_ref().map(|audience| audience.count),
    };
    comparison.campaign(fold, said);
    Ok(())
}

/// A fold for this campaign, with all of its settings that matter.
fn fold_of(campaign: &v1::Campaign, audience: Option<Audience>) -> CampaignFold {
    use v1::delivery_policy::Policy as Said;
    // The contract's default for `workers`.
    const WORKERS: u32 = 256;
    let settings = campaign.settings.as_ref();
    let policy = match settings.and_then(|s| s.delivery_policy.as_ref()?.policy.as_ref()) {
        Some(Said::AtLeastOnce(_)) => Policy::AtLeastOnce,
        Some(Said::AtMostOnce(_)) | None => Policy::AtMostOnce,
    };
    let workers = settings.and_then(|settings| settings.workers).unwrap_or(WORKERS);
    let from = campaign.started_time.as_ref().map_or(0, nanos);
    let to = campaign.ended_time.as_ref().map_or(u64::MAX, nanos);
    CampaignFold::new(&campaign.campaign_id, policy, audience)
        .in_flight(u64::from(workers))
        .unsent(campaign.state() != v1::CampaignState::Completed)
        .under_way(from, to)
}
