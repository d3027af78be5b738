//! The kill story: kill -9 at random moments under load, restart, repeat; then everything must be accounted for.
//!
//! Two campaigns run at a time, one at most once and one at least once, over Meta and over Twilio in turn. After the last kill everything is
//! left to end, and the check compares all campaigns with the simulator's ledger: nothing lost, nothing accepted twice but
//! (at least once) what was in doubt.

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use sluice_proto::v1::MessageStatus;
use tokio::time::Instant;

use crate::harness::client::{CampaignPlan, Customer, shown};
use crate::harness::config::Lines;
use crate::harness::people;
use crate::harness::world::{World, WorldPlan};
use crate::sim::plan::{Dice, Plan};
use crate::witness::compare::Policy;
use crate::witness::fetch::Wanted;
use crate::witness::report::Report;

/// In-flight maximum of each campaign.
const WORKERS: u32 = 64;
/// Recipients of each campaign.
const RECIPIENTS: u32 = 4_000;
/// Longest time for everything to end after the last kill.
const END: Duration = Duration::from_secs(120);

/// What to do.
#[derive(Debug, Clone)]
pub struct KillPlan {
    /// How many kills.
    pub kills: u32,
    /// The seed of kill times and journeys.
    pub seed: u64,
    /// Messages per second of each line.
    pub ceiling: u32,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct KillReport {
    /// Kills.
    pub kills: u32,
    /// The seed.
    pub seed: u64,
    /// Campaigns.
    pub campaigns: usize,
    /// Recipients over all campaigns.
    pub recipients: u64,
    /// Requests that the simulator accepted.
    pub accepted: u64,
    /// Most messages found in doubt after a kill.
    pub in_doubt_most: u64,
    /// The mean of that.
    pub in_doubt_mean: f64,
    /// Most that were allowed: the in-flight maxima of the running campaigns.
    pub in_flight_max: u64,
    /// Times from start to ready, milliseconds, longest.
    pub ready_ms_longest: f64,
    /// Still unconfirmed at the end (at most once, no echo came).
    pub unconfirmed: u64,
    /// Messages accepted twice under at least once (only after a doubt).
    pub doubled_at_least_once: u64,
    /// How long it all took, seconds.
    pub took_s: f64,
    /// Kills after which more was in doubt than could be in flight.
    pub too_much_doubt: u32,
    /// The comparison.
    pub report: Report,
}

impl KillReport {
    /// Whether every promise held.
    #[must_use]
    pub fn ok(&self) -> bool {
        (self.report.ok || self.report.only_stalled()) && self.too_much_doubt == 0
    }

    /// The report in words.
    #[must_use]
    pub fn text(&self) -> String {
        let verdict = if self.ok() { "held" } else { "BROKEN" };
        let totals = format!(
            "{} kills (seed {}), {} campaigns, {} recipients, {} requests accepted, {:.0} s\n\
             in doubt after a kill: mean {:.1}, most {} (at most {} could be in flight)\n\
             start to ready: at most {:.0} ms\n\
             unconfirmed at the end: {}; doubled under at least once: {}\n",
            self.kills,
            self.seed,
            self.campaigns,
            self.recipients,
            self.accepted,
            self.took_s,
            self.in_doubt_mean,
            self.in_doubt_most,
            self.in_flight_max,
            self.ready_ms_longest,
            self.unconfirmed,
            self.doubled_at_least_once
        );
        let mut text = totals;
        if self.report.ok {
            text.push_str(
                "0 recipients lost, 0 correlation ids accepted twice, 0 recipients doubled without a doubt\n",
            );
        } else {
            text.push_str(&self.report.text());
        }
        text.push_str(&format!("promises {verdict}\n"));
        text
    }
}

/// Statuses as they come in production, a little faster: any order, copies, some before the answer.
fn plan() -> Plan {
    Plan {
        shuffled: 0.2,
        duplicated: 0.2,
        before_answer: 0.02,
        sent_ms: [5, 60],
        delivered_ms: [5, 150],
        read_ms: [5, 300],
        failed_ms: [5, 100],
        // A code that nothing is sent again for, so that the newest attempt is the only one.
        meta_codes: vec![131_026],
        twilio_codes: vec![30_005],
        batch: [1, 50],
        unknown: 0.01,
        forged: 0.01,
        ..Plan::default()
    }
}

/// Runs the story; `say` hears how it goes.
///
/// # Errors
/// When something does not start or end; broken promises are no error but part of the report.
pub async fn run(order: &KillPlan, mut say: impl FnMut(&str)) -> anyhow::Result<KillReport> {
    let began = Instant::now();
    let lines = Lines { meta: vec![order.ceiling], sms: vec![order.ceiling] };
    let mut world = World::start(WorldPlan {
        lines,
        plan: plan(),
        seed: order.seed,
        extra: "[retry]\nbackoff_ms_min = 100\n[breaker]\nbackoff_ms_min = 100\nbackoff_ms_max = 500\n".to_owned(),
        ..WorldPlan::default()
    })
    .await?;
    let mut customer = world.customer().await?;
    world.furnish(&customer).await?;
    let mut dice = Dice::new(order.seed, &[0xdead]);
    let mut running: Vec<CampaignPlan> = Vec::new();
    let mut all: Vec<CampaignPlan> = Vec::new();
    let mut doubts: Vec<u64> = Vec::new();
    let mut ready_ms_longest: f64 = 0.0;
    let mut too_much_doubt = 0;
    for kill in 0..order.kills {
        refill(&customer, &mut running, &mut all).await?;
        // A line is silent for its first second; some kills fall into it, most into full load.
        let pause = Duration::from_millis(u64::from(dice.between([100, 2_500])));
        tokio::time::sleep(pause).await;
        let before = doubts_of(&customer, &running).await?;
        world.kill().await?;
        let started = Instant::now();
        world.start_server().await.with_context(|| format!("restart after kill {}", kill + 1))?;
        ready_ms_longest = ready_ms_longest.max(started.elapsed().as_secs_f64() * 1e3);
        customer = world.customer().await?;
        let doubt = doubts_of(&customer, &running).await?.saturating_sub(before);
        let limit = u64::from(WORKERS) * running.len() as u64;
        if doubt > limit {
            too_much_doubt += 1;
            say(&format!("kill {}: {doubt} in doubt, at most {limit} could be in flight", kill + 1));
        }
        doubts.push(doubt);
        if (kill + 1) % 10 == 0 || kill + 1 == order.kills {
            say(&format!(
                "{} of {} kills, {} campaigns, {} accepted, last in doubt {doubt}",
                kill + 1,
                order.kills,
                all.len(),
                world.sim.accepted().await?
            ));
        }
    }
    for campaign in &all {
        customer.dispatched(&campaign.id, END).await?;
    }
    let report = settle_and_check(&world, &customer, &all).await?;
    let mut unconfirmed = 0;
    for campaign in &report.campaigns {
        unconfirmed += campaign.tally.of(crate::witness::records::Shown::Unconfirmed);
    }
    let doubled = report.campaigns.iter().filter(|c| c.policy == Policy::AtLeastOnce).map(|c| c.ledger.doubled);
    let outcome = KillReport {
        kills: order.kills,
        seed: order.seed,
        campaigns: all.len(),
        recipients: report.campaigns.iter().map(|c| c.tally.total).sum(),
        accepted: report.ledger.accepted,
        in_doubt_most: doubts.iter().copied().max().unwrap_or(0),
        in_doubt_mean: doubts.iter().sum::<u64>() as f64 / doubts.len().max(1) as f64,
        in_flight_max: u64::from(WORKERS) * 2,
        ready_ms_longest,
        unconfirmed,
        doubled_at_least_once: doubled.sum(),
        took_s: began.elapsed().as_secs_f64(),
        too_much_doubt,
        report,
    };
    if !outcome.ok() {
        say(&format!("the directory is kept: {}", world.keep().display()));
    }
    Ok(outcome)
}

/// Messages of these campaigns that are in doubt, or were and are not resolved.
async fn doubts_of(customer: &Customer, campaigns: &[CampaignPlan]) -> anyhow::Result<u64> {
    let mut doubt = 0;
    for campaign in campaigns {
        let tally = customer.tally(&campaign.id).await?;
        doubt += shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Unconfirmed);
    }
    Ok(doubt)
}

/// Keeps two campaigns running, one of each policy.
async fn refill(
    customer: &Customer,
    running: &mut Vec<CampaignPlan>,
    all: &mut Vec<CampaignPlan>,
) -> anyhow::Result<()> {
    let mut still = Vec::new();
    for campaign in running.drain(..) {
        if customer.get(&campaign.id).await?.state() == sluice_proto::v1::CampaignState::Running {
            still.push(campaign);
        }
    }
    *running = still;
    for policy in [Policy::AtMostOnce, Policy::AtLeastOnce] {
        if running.iter().any(|c| c.policy == policy) {
            continue;
        }
        let number = all.len() as u32;
        let (pool, template) = if (number / 2).is_multiple_of(2) { ("wa", "hello") } else { ("sms", "text") };
        let campaign = CampaignPlan::new(&format!("kill-{number:03}"), pool, template).policy(policy).workers(WORKERS);
        customer.create(&campaign).await?;
        customer.import(&campaign.id, number, RECIPIENTS).await?;
        customer.start(&campaign.id).await?;
        running.push(campaign.clone());
        all.push(campaign);
    }
    Ok(())
}

async fn settle_and_check(world: &World, customer: &Customer, all: &[CampaignPlan]) -> anyhow::Result<Report> {
    let mut wanted = Wanted { window: Duration::from_secs(10), ..Wanted::default() };
    for (number, campaign) in all.iter().enumerate() {
        // What is in doubt waits for its echo, then stands as unconfirmed or has been sent again.
        customer
            .wait(&campaign.id, END, "end of doubts", |c| {
                let tally = c.stats.as_ref().and_then(|s| s.tally.as_ref());
                tally.is_some_and(|tally| {
                    shown(tally, MessageStatus::InDoubt) == 0 && shown(tally, MessageStatus::Pending) == 0
                })
            })
            .await?;
        wanted.campaigns.push(campaign.id.clone());
        wanted.recipients.insert(campaign.id.clone(), people::phones(number as u32, RECIPIENTS));
    }
    world.check(customer, wanted).await
}
