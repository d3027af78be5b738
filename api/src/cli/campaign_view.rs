//! Campaigns and their figures as text.

use sluice_proto::v1::{
    BindingLimit, Campaign, CampaignSettings, CampaignState, CampaignStats, GetTenantTotalsResponse, MessageStatus,
    RatePeriod, Stage, Tally, delivery_policy::Policy,
};

use super::output::{Table, or_dash};
use super::values;

/// Messages that show a status.
#[must_use]
pub fn shown(tally: Option<&Tally>, status: MessageStatus) -> u64 {
    let found = tally.and_then(|tally| tally.by_status.iter().find(|count| count.status() == status));
    found.map_or(0, |count| count.count)
}

/// Messages that reached a stage.
#[must_use]
pub fn reached(tally: Option<&Tally>, stage: Stage) -> u64 {
    let found = tally.and_then(|tally| tally.by_stage.iter().find(|count| count.stage() == stage));
    found.map_or(0, |count| count.count)
}

/// A list of campaigns.
#[must_use]
pub fn table(campaigns: &[Campaign], width: Option<u16>) -> String {
    let header = ["CAMPAIGN", "STATE", "TOTAL>", "SENT>", "DELIVERED>", "READ>", "FAILED>", "DONE>"];
    let mut table = Table::new(width, &header);
    for campaign in campaigns {
        let stats = campaign.stats.as_ref();
        let tally = stats.and_then(|stats| stats.tally.as_ref());
        table.row([
            campaign.campaign_id.clone(),
            values::campaign_state(campaign.state()),
            values::count(tally.map_or(0, |tally| tally.total)),
            values::count(reached(tally, Stage::Sent)),
            values::count(reached(tally, Stage::Delivered)),
            values::count(reached(tally, Stage::Read)),
            values::count(shown(tally, MessageStatus::Failed)),
            format!("{:.0}%", stats.map_or(0.0, |stats| stats.progress_percent)),
        ]);
    }
    table.text()
}

/// One campaign with everything.
#[must_use]
pub fn details(campaign: Option<&Campaign>, width: Option<u16>) -> String {
    let Some(campaign) = campaign else { return String::new() };
    let mut pairs =
        vec![("campaign", campaign.campaign_id.clone()), ("name", or_dash(&campaign.name)), ("state", state(campaign))];
    if !campaign.description.is_empty() {
        pairs.push(("description", campaign.description.clone()));
    }
    if !campaign.labels.is_empty() {
        let mut labels: Vec<String> = campaign.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        labels.sort_unstable();
        pairs.push(("labels", labels.join(", ")));
    }
    if let Some(settings) = &campaign.settings {
        pairs.extend(settings_pairs(settings));
    }
    pairs.push(("audience", audience(campaign)));
    let by = if campaign.created_by.is_empty() { String::new() } else { format!(" by {}", campaign.created_by) };
    pairs.push(("created", format!("{}{by}", values::time(campaign.create_time.as_ref()))));
    for (name, time) in
        [("started", &campaign.started_time), ("ended", &campaign.ended_time), ("settled", &campaign.settled_time)]
    {
        if time.is_some() {
            pairs.push((name, values::time(time.as_ref())));
        }
    }
    pairs.push(("etag", or_dash(&campaign.etag)));
    let mut text = Table::pairs(width, pairs);
    if let Some(stats) = &campaign.stats {
        text.push('\n');
        text.push_str(&figures(stats, width));
    }
    text
}

/// A state, and why when there is a reason.
#[must_use]
pub fn state(campaign: &Campaign) -> String {
    let word = values::campaign_state(campaign.state());
    match (&campaign.hold, campaign.failure_detail.as_str()) {
        (Some(hold), _) => format!("{word}: {} ({})", or_dash(&hold.detail), values::hold_reason(hold.reason())),
        (None, "") => word,
        (None, detail) => format!("{word}: {detail}"),
    }
}

fn settings_pairs(settings: &CampaignSettings) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("template", or_dash(&settings.template_id)),
        ("pool", or_dash(&settings.pool_id)),
        ("rate", rate(settings)),
    ];
    pairs.push(("delivery", delivery(settings)));
    let retries = settings.retry_policy.as_ref().and_then(|policy| policy.retries_max);
    pairs.push(("retries", retries.map_or_else(|| "default".to_owned(), |retries| retries.to_string())));
    if !settings.region.is_empty() {
        pairs.push(("region", settings.region.clone()));
    }
    for (name, time) in [("start at", &settings.start_at), ("stop at", &settings.stop_at)] {
        if time.is_some() {
            pairs.push((name, values::time(time.as_ref())));
        }
    }
    if let Some(window) = &settings.settle_window {
        pairs.push(("settle window", seconds(window)));
    }
    pairs
}

fn rate(settings: &CampaignSettings) -> String {
    let own = settings.rate.as_ref().map_or_else(
        || "the lines' ceilings".to_owned(),
        |rate| {
            let per = if rate.per() == RatePeriod::Minute { "min" } else { "s" };
            let burst = rate.burst.map_or_else(String::new, |burst| format!(", burst {}", values::count(burst.into())));
            format!("{}/{per}{burst}", values::count(rate.count.into()))
        },
    );
    let workers =
        settings.workers.map_or_else(String::new, |workers| format!(", {} workers", values::count(workers.into())));
    format!("{own}{workers}")
}

fn delivery(settings: &CampaignSettings) -> String {
    let wait = |time: Option<&prost_types::Duration>| {
        time.map_or_else(String::new, |time| format!(", waits {}", seconds(time)))
    };
    match settings.delivery_policy.as_ref().and_then(|policy| policy.policy.as_ref()) {
        None => "at most once".to_owned(),
        Some(Policy::AtMostOnce(policy)) => format!("at most once{}", wait(policy.echo_wait.as_ref())),
        Some(Policy::AtLeastOnce(policy)) => format!("at least once{}", wait(policy.grace.as_ref())),
    }
}

fn seconds(duration: &prost_types::Duration) -> String {
    values::span(u64::try_from(duration.seconds).unwrap_or(0))
}

fn audience(campaign: &Campaign) -> String {
    match &campaign.audience {
        Some(audience) => format!(
            "{} recipients, sealed {}, sha256 {}",
            values::count(audience.count),
            values::time(audience.seal_time.as_ref()),
            or_dash(&audience.sha256)
        ),
        None => "open for imports".to_owned(),
    }
}

/// The figures of a campaign or of several together.
#[must_use]
pub fn figures(stats: &CampaignStats, width: Option<u16>) -> String {
    let tally = stats.tally.as_ref();
    let mut pairs = vec![
        ("progress", format!("{:.2} %, {} may still leave", stats.progress_percent, values::count(stats.remaining))),
        (
            "pace",
            format!(
                "{} now, {} on average{}",
                values::per_second(stats.current_rate),
                values::per_second(stats.average_rate),
                limited_by(stats.binding_limit())
            ),
        ),
    ];
    if stats.estimated_end_time.is_some() {
        pairs.push(("ends about", values::time(stats.estimated_end_time.as_ref())));
    }
    pairs.push(("in flight", values::count(stats.in_flight)));
    if stats.refused > 0 {
        pairs.push(("refused rows", values::count(stats.refused)));
    }
    for (name, count) in
        [("conflicts", tally.map_or(0, |tally| tally.conflicts)), ("doubles", tally.map_or(0, |tally| tally.doubles))]
    {
        if count > 0 {
            pairs.push((name, values::count(count)));
        }
    }
    pairs.push(("as of", values::time(stats.as_of.as_ref())));
    let mut text = Table::pairs(width, pairs);
    text.push('\n');
    text.push_str(&statuses(tally, width));
    text.push('\n');
    text.push_str(&stages(stats, width));
    if !stats.failures.is_empty() {
        text.push('\n');
        text.push_str(&failures(stats, width));
    }
    text
}

/// What limits the pace, when anything does.
fn limited_by(limit: BindingLimit) -> String {
    match limit {
        BindingLimit::Unspecified => String::new(),
        limit => format!("; limited by {}", values::binding_words(limit)),
    }
}

fn statuses(tally: Option<&Tally>, width: Option<u16>) -> String {
    let mut table = Table::new(width, &["SHOWN STATUS", "MESSAGES>"]);
    for count in tally.map(|tally| tally.by_status.as_slice()).unwrap_or_default() {
        // Zeros say nothing but for the statuses that everybody looks for.
        use MessageStatus as S;
        let always = matches!(count.status(), S::Pending | S::Queued | S::Sent | S::Delivered | S::Read | S::Failed);
        if always || count.count > 0 {
            table.row([values::status(count.status()), values::count(count.count)]);
        }
    }
    table.row(["total".to_owned(), values::count(tally.map_or(0, |tally| tally.total))]);
    table.text()
}

fn stages(stats: &CampaignStats, width: Option<u16>) -> String {
    let tally = stats.tally.as_ref();
    let mut table = Table::new(width, &["REACHED", "MESSAGES>", "RATE>"]);
    table.row(["accepted".to_owned(), values::count(tally.map_or(0, |tally| tally.accepted)), String::new()]);
    for (stage, rate) in [
        (Stage::Sent, String::new()),
        (Stage::Delivered, format!("{:.2} % of sent", stats.delivery_rate_percent)),
        (Stage::Read, format!("{:.2} % of delivered", stats.read_rate_percent)),
    ] {
        table.row([values::stage(stage), values::count(reached(tally, stage)), rate]);
    }
    table.text()
}

fn failures(stats: &CampaignStats, width: Option<u16>) -> String {
    let mut table = Table::new(width, &["FAILURE", "CLASS", "MESSAGES>", "MEANING"]);
    for failure in &stats.failures {
        table.row([
            format!("{} {}", values::provider(failure.provider()), failure.code),
            values::failure_class(failure.class()),
            values::count(failure.count),
            failure.title.clone(),
        ]);
    }
    table.text()
}

/// What sealing found.
#[must_use]
pub fn sealed(campaign: Option<&Campaign>) -> String {
    let Some(campaign) = campaign else { return String::new() };
    let refused = campaign.stats.as_ref().map_or(0, |stats| stats.refused);
    let mut text = format!("campaign {}: {}\n", campaign.campaign_id, audience(campaign));
    if refused > 0 {
        text.push_str(&format!(
            "{} rows were refused; `sluice refused {}` lists them\n",
            values::count(refused),
            campaign.campaign_id
        ));
    }
    text
}

/// The sums of a tenant.
#[must_use]
pub fn totals(answer: &GetTenantTotalsResponse, width: Option<u16>) -> String {
    let mut table = Table::new(width, &["CAMPAIGNS", "COUNT>"]);
    for count in answer.campaigns.iter().filter(|count| count.state() != CampaignState::Unspecified) {
        table.row([values::campaign_state(count.state()), values::count(count.count)]);
    }
    let mut text = table.text();
    text.push('\n');
    let stats = CampaignStats {
        tally: answer.tally.clone(),
        delivery_rate_percent: answer.delivery_rate_percent,
        read_rate_percent: answer.read_rate_percent,
        ..CampaignStats::default()
    };
    text.push_str(&Table::pairs(
        width,
        [
            ("may still leave", values::count(answer.remaining)),
            ("in flight", values::count(answer.in_flight)),
            ("refused at import", values::count(answer.refused)),
            ("pace", values::per_second(answer.current_rate)),
            ("as of", values::time(answer.as_of.as_ref())),
        ],
    ));
    text.push('\n');
    text.push_str(&statuses(answer.tally.as_ref(), width));
    text.push('\n');
    text.push_str(&stages(&stats, width));
    text
}
