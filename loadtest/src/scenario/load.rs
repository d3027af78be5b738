//! What a scenario comes to under its seed: campaigns with their sizes, and the times of everything that disturbs. Plain functions; the
//! same seed gives the same load.

use std::time::Duration;

use super::file::{Campaign, Channel, Disturbance, Kind, Scenario, Span};
use crate::harness::client::CampaignPlan;
use crate::harness::config::Lines;
use crate::sim::plan::Dice;

/// The pool of the probe's line.
pub const PROBE_POOL: &str = "probe";
/// The id of the probe campaign.
pub const PROBE: &str = "probe";
/// Name of the campaigns that are compared with the floor.
pub const PAIR: &str = "pair";

/// One campaign to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// The campaign.
    pub plan: CampaignPlan,
    /// Name of its entry in the file.
    pub entry: String,
    /// How many recipients.
    pub recipients: u32,
    /// When it starts, after the begin.
    pub start: Duration,
    /// It is scheduled for that moment, not started at it.
    pub scheduled: bool,
    /// Another follows when it has ended.
    pub refill: bool,
    /// Its recipients have external ids.
    pub external_ids: bool,
    /// Its text messages are two SMS parts long.
    pub long: bool,
    /// How many of its recipients are imported a second time.
    pub repeated: u32,
}

impl Job {
    /// A campaign of an entry that starts at the begin, of recipients without anything special.
    #[must_use]
    pub fn new(plan: CampaignPlan, entry: &str, recipients: u32) -> Self {
        Self {
            plan,
            entry: entry.to_owned(),
            recipients,
            start: Duration::ZERO,
            scheduled: false,
            refill: false,
            external_ids: false,
            long: false,
            repeated: 0,
        }
    }
}

/// The lines of a scenario, the probe's last.
#[must_use]
pub fn lines(scenario: &Scenario) -> Lines {
    let of = |channel: Channel| -> Vec<u32> {
        let lines = scenario.lines.iter().filter(|line| line.channel == channel);
        lines.flat_map(|line| vec![line.ceiling; line.count as usize]).collect()
    };
    let mut meta = of(Channel::Meta);
    if let Some(probe) = &scenario.probe {
        // Twice the rate: what binds is the campaign, so that a probe leaves when it is due.
        meta.push(probe.rate * 2);
    }
    Lines { meta, sms: of(Channel::Sms) }
}

/// Recipients of each campaign of an entry, before they are drawn.
#[must_use]
pub fn recipients_of(scenario: &Scenario, campaign: &Campaign) -> Span {
    let Some(seconds) = campaign.lasts_s else {
        return campaign.recipients.unwrap_or(Span::One(1));
    };
    let rate = campaign.rate.unwrap_or_else(|| {
        let ceilings = scenario.lines.iter().filter(|line| line.channel == campaign.channel);
        let pool: u64 = ceilings.map(|line| u64::from(line.ceiling) * u64::from(line.count)).sum();
        let share = pool / u64::from(campaign.count.max(1));
        Span::One(u32::try_from(share).unwrap_or(u32::MAX).max(1))
    });
    Span::Between(rate.ends().map(|rate| rate.saturating_mul(seconds)))
}

/// The `n`-th campaign of an entry (beyond its count: a refill).
#[must_use]
pub fn job(scenario: &Scenario, place: usize, n: u32) -> Job {
    let entry = &scenario.campaigns[place];
    let mut dice = Dice::new(scenario.top.seed, &[0xca3b, place as u64, u64::from(n)]);
    let rate = entry.rate.map(|span| span.draw(&mut dice));
    let recipients = match (entry.lasts_s, rate) {
        (Some(seconds), Some(rate)) => rate.saturating_mul(seconds),
        _ => recipients_of(scenario, entry).draw(&mut dice),
    };
    let recipients = recipients.max(1);
    let (pool, template) = match entry.channel {
        Channel::Meta => ("wa", "hello"),
        Channel::Sms if entry.long => ("sms", "long"),
        Channel::Sms => ("sms", "text"),
    };
    let mut plan = CampaignPlan::new(&format!("{}-{:04}", entry.name, n + 1), pool, template)
        .policy(entry.delivery.of(n))
        .workers(entry.workers);
    plan.rate = rate;
    plan.echo_wait = Duration::from_secs(u64::from(entry.echo_wait_s));
    let start =
        Duration::from_secs_f64(entry.start_s) + Duration::from_millis(u64::from(entry.stagger_ms) * u64::from(n));
    Job {
        start,
        scheduled: entry.scheduled,
        refill: entry.refill,
        external_ids: entry.external_ids,
        long: entry.long,
        repeated: (f64::from(recipients) * entry.repeated).ceil() as u32,
        ..Job::new(plan, &entry.name, recipients)
    }
}

/// All campaigns that are there from the begin, in the order of their starts.
#[must_use]
pub fn jobs(scenario: &Scenario) -> Vec<Job> {
    let mut all = Vec::new();
    for (place, entry) in scenario.campaigns.iter().enumerate() {
        all.extend((0..entry.count).map(|n| job(scenario, place, n)));
    }
    all.sort_by_key(|job| job.start);
    all
}

/// Recipients that the probe could ever need: it is cancelled at the end.
#[must_use]
pub fn probe_recipients(scenario: &Scenario) -> u32 {
    scenario.probe.as_ref().map_or(0, |probe| probe.rate.saturating_mul(scenario.top.end_s.min(7_200)))
}

/// Pauses between repetitions of one disturbance: the first one is the time to its begin.
#[must_use]
pub fn pauses(scenario: &Scenario, place: usize) -> Vec<Duration> {
    let it: &Disturbance = &scenario.disturbances[place];
    let mut dice = Dice::new(scenario.top.seed, &[0xd157, place as u64]);
    let mut all = vec![Duration::from_secs_f64(it.at_s)];
    if let Some(span) = it.every_ms {
        let again = it.times.unwrap_or(1).saturating_sub(1);
        all.extend((0..again).map(|_| Duration::from_millis(u64::from(span.draw(&mut dice)))));
    }
    all
}

/// In words, for marks and progress.
#[must_use]
pub fn words(it: &Disturbance) -> String {
    let share = it.share.filter(|share| *share < 1.0).map_or_else(String::new, |s| format!(" {:.0} %", s * 100.0));
    match it.kind {
        Kind::Kill => "kill -9".to_owned(),
        Kind::Restart => "restart".to_owned(),
        Kind::Stop => "server stopped".to_owned(),
        Kind::Outage => format!("provider outage ({:?}){share}", it.how.unwrap_or_default()).to_lowercase(),
        Kind::RateLimit => format!("429 storm{share}"),
        Kind::Slow => format!("slow provider{share}"),
        Kind::StoreFull => "store full".to_owned(),
        Kind::StoreStop => "store stopped".to_owned(),
        Kind::Ceiling => format!("ceiling {}", it.to.unwrap_or(0)),
        Kind::Rate => format!("rate {}", it.to.unwrap_or(0)),
        Kind::Pause => "pause".to_owned(),
        Kind::Flood => format!("flood {}/s", it.per_second.unwrap_or(0)),
    }
}
