//! Reading both sides: the server through gRPC, the simulator through its control API.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::compare::{CampaignFold, Comparison, Kind, Policy};
use super::records::{Attempt, Counts, Entry, Exported, Phase, Shown};
use super::report::Report;
use crate::grpc::Bearer;
use crate::sim::rates::{LineRate, SECOND_NS};
use crate::sim::records::{Record, Summary};
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
    /// Recipients that a campaign must hold, exactly.
    pub recipients: HashMap<String, Vec<String>>,
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
    let mut comparison = Comparison::new(entries);
    if outstanding > 0 {
        comparison.note(Kind::NotQuiet, format!("{outstanding} statuses are not acknowledged"));
    }
    let campaigns = list_campaigns(channel.clone(), &wanted.campaigns).await?;
    for campaign in &campaigns {
        compare_campaign(channel.clone(), &mut comparison, campaign, wanted, listener).await?;
    }
    let target = format!("{}/rates?window_ms={}", wanted.control, wanted.window.as_millis().max(1));
    let mut rates: Rates = control_json("GET", &target, CALL).await?;
    rates.lines.retain(|rate| !wanted.foreign_lines.contains(&rate.line));
    comparison.rates(&rates.lines, &wanted.ceilings, wanted.use_min);
    for rate in rates.lines.iter().filter(|rate| rate.highest > u64::from(rate.ceiling)) {
        if rates.stamping.stalled_within(rate.highest_at_ns, rate.highest_at_ns + SECOND_NS) {
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
    let (differences, campaigns) = comparison.finish(wanted.strangers);
    Ok(Report {
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

async fn read_ledger(wanted: &Wanted, listener: &mut impl Listener) -> anyhow::Result<Vec<Entry>> {
    let address = split_url(&format!("{}/ledger/entries", wanted.control))?;
    let mut stream = tokio::net::TcpStream::connect(&address.authority)
        .await
        .with_context(|| format!("the simulator's control API at {}", address.authority))?;
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", address.target, address.authority);
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::with_capacity(1 << 16, stream).lines();
    // The head ends with an empty line.
    while lines.next_line().await?.context("the ledger ends in its head")?.trim() != "" {}
    let mut entries = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let record: Record = serde_json::from_str(&line).with_context(|| format!("ledger line {}", entries.len()))?;
        if !wanted.foreign_lines.contains(&record.line) {
            listener.accepted(&record);
            entries.push(record.into());
        }
    }
    Ok(entries)
}

async fn list_campaigns(
    channel: InterceptedService<Channel, Bearer>,
    ids: &[String],
) -> anyhow::Result<Vec<v1::Campaign>> {
    let mut client = CampaignServiceClient::new(channel);
    let mut all = Vec::new();
    if !ids.is_empty() {
        for id in ids {
            let request = v1::GetCampaignRequest { campaign_id: id.clone() };
            let answer = client.get_campaign(request).await.with_context(|| format!("campaign {id}"))?;
            all.push(answer.into_inner().campaign.with_context(|| format!("campaign {id} is empty"))?);
        }
        return Ok(all);
    }
    let mut page_token = String::new();
    loop {
        let request = v1::ListCampaignsRequest { page_size: 1_000, page_token, filter: String::new() };
        let answer = client.list_campaigns(request).await?.into_inner();
        all.extend(answer.campaigns);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

async fn compare_campaign(
    channel: InterceptedService<Channel, Bearer>,
    comparison: &mut Comparison,
    campaign: &v1::Campaign,
    wanted: &Wanted,
    listener: &mut impl Listener,
) -> anyhow::Result<()> {
    use v1::delivery_policy::Policy as Said;
    let id = &campaign.campaign_id;
    let said = campaign.settings.as_ref().and_then(|s| s.delivery_policy.as_ref()?.policy.as_ref());
    let policy = match said {
        Some(Said::AtLeastOnce(_)) => Policy::AtLeastOnce,
        Some(Said::AtMostOnce(_)) | None => Policy::AtMostOnce,
    };
    let recipients = wanted.recipients.get(id).map(Vec::as_slice);
    let mut fold = CampaignFold::new(id, policy, recipients);
    let mut messages = MessageServiceClient::new(channel.clone()).max_decoding_message_size(64 << 20);
    let request = v1::ExportMessagesRequest { campaign_id: id.clone(), ..v1::ExportMessagesRequest::default() };
    let mut stream = messages.export_messages(request).await.with_context(|| format!("export of {id}"))?.into_inner();
    while let Some(batch) = stream.message().await.with_context(|| format!("export of {id}"))? {
        for message in batch.messages {
            listener.message(id, &message);
            comparison.message(&mut fold, &exported(message));
        }
    }
    let mut campaigns = CampaignServiceClient::new(channel);
    let request = v1::RecountCampaignRequest { campaign_id: id.clone() };
    let recount = campaigns.recount_campaign(request).await.with_context(|| format!("recount of {id}"))?;
    let recount = recount.into_inner().recount.with_context(|| format!("recount of {id} is empty"))?;
    // Read after the export: what may have moved between both shows as a drift, so a check wants a quiet server.
    let request = v1::GetCampaignRequest { campaign_id: id.clone() };
    let now = campaigns.get_campaign(request).await?.into_inner().campaign.unwrap_or_default();
    let tally = now.stats.and_then(|s| s.tally).unwrap_or_default();
    for difference in &recount.differences {
        comparison.note(
            Kind::RecountDrift,
            format!("{id}: {} was {}, is {}", difference.name, difference.before, difference.after),
        );
    }
    comparison.campaign(fold, counts(&tally), counts(&recount.after.unwrap_or_default()));
    Ok(())
}

/// A tally of the contract as plain counts.
#[must_use]
pub fn counts(tally: &v1::Tally) -> Counts {
    let by_status: BTreeMap<i32, u64> = tally.by_status.iter().map(|c| (c.status, c.count)).collect();
    let by_stage: BTreeMap<i32, u64> = tally.by_stage.iter().map(|c| (c.stage, c.count)).collect();
    let status = |shown: Shown| by_status.get(&(status_of(shown) as i32)).copied().unwrap_or(0);
    let stage = |stage: v1::Stage| by_stage.get(&(stage as i32)).copied().unwrap_or(0);
    Counts {
        total: tally.total,
        shown: Shown::ALL.map(status),
        reached: [stage(v1::Stage::Sent), stage(v1::Stage::Delivered), stage(v1::Stage::Read)],
        accepted: tally.accepted,
        conflicts: tally.conflicts,
        doubles: tally.doubles,
    }
}

fn status_of(shown: Shown) -> v1::MessageStatus {
    match shown {
        Shown::Pending => v1::MessageStatus::Pending,
        Shown::Queued => v1::MessageStatus::Queued,
        Shown::InDoubt => v1::MessageStatus::InDoubt,
        Shown::Unconfirmed => v1::MessageStatus::Unconfirmed,
        Shown::Sent => v1::MessageStatus::Sent,
        Shown::Delivered => v1::MessageStatus::Delivered,
        Shown::Read => v1::MessageStatus::Read,
        Shown::Failed => v1::MessageStatus::Failed,
        Shown::Cancelled => v1::MessageStatus::Cancelled,
        Shown::Expired => v1::MessageStatus::Expired,
        Shown::Unknown => v1::MessageStatus::Unspecified,
    }
}

/// A message of the contract as a plain record.
#[must_use]
pub fn exported(message: v1::Message) -> Exported {
    let shown = Shown::ALL.into_iter().find(|shown| status_of(*shown) == message.status()).unwrap_or(Shown::Unknown);
    let reached = match message.stage_reached() {
        v1::Stage::Queued => 2,
        v1::Stage::Sent => 3,
        v1::Stage::Delivered => 4,
        v1::Stage::Read => 5,
        v1::Stage::Pending | v1::Stage::Failed | v1::Stage::Unspecified => 1,
    };
    let attempt = |attempt: v1::Attempt| Attempt {
        number: attempt.number,
        phase: match attempt.phase() {
            v1::AttemptPhase::Intent => Phase::Intent,
            v1::AttemptPhase::Withdrawn => Phase::Withdrawn,
            v1::AttemptPhase::Accepted => Phase::Accepted,
            v1::AttemptPhase::Failed => Phase::Failed,
            v1::AttemptPhase::InDoubt => Phase::InDoubt,
            v1::AttemptPhase::Unconfirmed => Phase::Unconfirmed,
            v1::AttemptPhase::Unspecified => Phase::Unknown,
        },
        accepted: attempt.accepted_time.is_some(),
        correlation: attempt.correlation_id,
        provider_id: attempt.provider_message_id,
    };
    Exported {
        seq: message.seq,
        address: message.address,
        shown,
        reached,
        conflict: message.conflict,
        double: message.double,
        attempts: message.attempts.into_iter().map(attempt).collect(),
    }
}
