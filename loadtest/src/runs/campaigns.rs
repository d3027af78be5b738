//! Campaigns of a run: made before the begin, started by schedule, followed by others where the scenario asks for it, waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use sluice_proto::v1::{self, CampaignState, MessageStatus};
use tokio::time::Instant;

use super::stage::{Made, Stage, now_ns};
use super::wait::progress;
use crate::harness::client::{CampaignPlan, shown};
use crate::scenario::load::{self, Job, PROBE, PROBE_POOL};

/// Longest time until a start that fails (the server is down) is given up.
const START: Duration = Duration::from_secs(60);
/// How often ends are looked for, once nothing moves.
const LOOK: Duration = Duration::from_millis(250);

/// What importing took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Imported {
    /// Rows.
    pub rows: u64,
    /// Seconds.
    pub took_s: f64,
    /// Highest resident memory of the server until then, KiB.
    pub peak_kib: u64,
}

/// Makes all campaigns of the scenario and imports their recipients.
///
/// # Errors
/// When the server refuses.
pub async fn make_all(stage: &Stage, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Imported> {
    let mut imported = Imported::default();
    let jobs = load::jobs(&stage.scenario);
    let number = jobs.len();
    for (n, job) in jobs.into_iter().enumerate() {
        let began = Instant::now();
        imported.rows += u64::from(job.recipients);
        make(stage, job).await?;
        imported.took_s += began.elapsed().as_secs_f64();
        if (n + 1) % 100 == 0 || n + 1 == number {
            say(&format!("{} of {number} campaigns made, {} recipients imported", n + 1, imported.rows));
        }
    }
    if let Some(probe) = &stage.scenario.probe {
        let plan = CampaignPlan::new(PROBE, PROBE_POOL, "hello").rate(probe.rate).workers(64);
        let recipients = load::probe_recipients(&stage.scenario);
        make(stage, Job::new(plan, PROBE, recipients)).await?;
    }
    imported.peak_kib = stage.world.lock().await.server()?.rss_peak_kib();
    Ok(imported)
}

async fn make(stage: &Stage, job: Job) -> anyhow::Result<usize> {
    let customer = stage.customer();
    customer.create(&job.plan).await?;
    let first = stage.numbers(job.recipients);
    let campaign = Made { job, first, started_ns: 0 };
    customer.import_audience(&campaign.job.plan.id, campaign.audience()).await?;
    if campaign.job.repeated > 0 {
        customer.import_again(&campaign.job.plan.id, campaign.audience(), campaign.job.repeated).await?;
    }
    let mut made = stage.made.lock();
    made.push(campaign);
    Ok(made.len() - 1)
}

/// Starts every campaign at its time, counted from the begin; returns when the last has its time behind it.
pub async fn start_all(stage: &Arc<Stage>) {
    let mut starts = tokio::task::JoinSet::new();
    let begin_ms = (now_ns() - stage.begin.elapsed().as_nanos() as u64) / 1_000_000;
    let jobs: Vec<(Duration, bool)> =
        stage.made.lock().iter().map(|made| (made.job.start, made.job.scheduled)).collect();
    for (place, (after, scheduled)) in jobs.iter().copied().enumerate() {
        let stage = Arc::clone(stage);
        starts.spawn(async move {
            let at_ms = scheduled.then(|| begin_ms + after.as_millis() as u64);
            if !scheduled {
                tokio::time::sleep_until(stage.begin + after).await;
            }
            if let Err(error) = start(&stage, place, at_ms).await {
                stage.failed(error);
            }
        });
    }
    while starts.join_next().await.is_some() {}
    let last = jobs.iter().map(|(after, _)| *after).max().unwrap_or_default();
    tokio::time::sleep_until(stage.begin + last).await;
}

/// Starts one campaign, or schedules it for `at_ms`; its latency counts from now or from then, however often the call has to be made.
async fn start(stage: &Stage, place: usize, at_ms: Option<u64>) -> anyhow::Result<()> {
    let id = {
        let made = &mut stage.made.lock()[place];
        made.started_ns = at_ms.map_or_else(now_ns, |at| at * 1_000_000);
        made.job.plan.id.clone()
    };
    let end = Instant::now() + START;
    loop {
        let customer = stage.customer();
        let asked = match at_ms {
            Some(at_ms) => customer.schedule(&id, at_ms).await,
            None => customer.start(&id).await,
        };
        let Err(error) = asked else { return at_ms.map_or(Ok(()), in_time) };
        // The call may have been taken and its answer lost with the server.
        let state = customer.get(&id).await.map(|campaign| campaign.state());
        if state.is_ok_and(|state| !matches!(state, CampaignState::Draft | CampaignState::Unspecified)) {
            return at_ms.map_or(Ok(()), in_time);
        }
        if Instant::now() >= end {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What was sealed after its time begins by itself, and not beside the others.
fn in_time(at_ms: u64) -> anyhow::Result<()> {
    let late_ms = (now_ns() / 1_000_000).saturating_sub(at_ms);
    anyhow::ensure!(
        late_ms == 0,
        "a campaign was sealed {late_ms} ms after the time it was scheduled for: raise its start_s"
    );
    Ok(())
}

/// Follows campaigns that are to be followed by others, until `over`.
pub async fn refill(stage: &Arc<Stage>, over: Arc<AtomicBool>) {
    let mut slots = tokio::task::JoinSet::new();
    for (place, entry) in stage.scenario.campaigns.iter().enumerate().filter(|(_, entry)| entry.refill) {
        for n in 0..entry.count {
            let (stage, over) = (Arc::clone(stage), Arc::clone(&over));
            let count = entry.count;
            slots.spawn(async move {
                if let Err(error) = follow(&stage, place, n, count, &over).await {
                    stage.failed(error);
                }
            });
        }
    }
    while slots.join_next().await.is_some() {}
}

/// One slot: as soon as its campaign has ended, the next one.
async fn follow(stage: &Stage, place: usize, n: u32, count: u32, over: &AtomicBool) -> anyhow::Result<()> {
    let mut n = n;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
        let id = load::job(&stage.scenario, place, n).plan.id;
        // A server that is down or frozen is asked again.
        let Ok(campaign) = stage.customer().get(&id).await else { continue };
        if !ended(campaign.state()) || over.load(Ordering::Relaxed) {
            continue;
        }
        // Nobody kills the server while a campaign is made: what is disturbed is the sending.
        let _held = stage.world.lock().await;
        n += count;
        let made = make(stage, load::job(&stage.scenario, place, n)).await.context("refill")?;
        start(stage, made, None).await.context("refill")?;
    }
    Ok(())
}

fn ended(state: CampaignState) -> bool {
    matches!(state, CampaignState::Completed | CampaignState::Cancelled | CampaignState::Failed)
}

/// Whether nothing of a campaign can leave or come into doubt any more.
fn quiet(campaign: &v1::Campaign) -> bool {
    let tally = campaign.stats.as_ref().and_then(|stats| stats.tally.clone()).unwrap_or_default();
    ended(campaign.state()) && shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Pending) == 0
}

/// Waits until all campaigns but the probe have ended and nothing of them is in doubt. The server is asked only when nothing more seems to
/// come, so that asking costs nothing while it is measured.
///
/// # Errors
/// When that is not so by `end`; says what is open.
pub async fn all_ended(stage: &Stage, end: Instant) -> anyhow::Result<()> {
    let mut before = 0;
    loop {
        let accepted = progress(&stage.control).await?.accepted;
        let started: u64 = {
            let made = stage.made.lock();
            let started = made.iter().filter(|made| made.started_ns > 0 && made.job.entry != PROBE);
            started.map(|made| u64::from(made.job.recipients)).sum()
        };
        let moving = accepted < started && accepted > before;
        before = accepted;
        if !moving && let Ok(campaigns) = stage.customer().list().await {
            let open: Vec<&v1::Campaign> =
                campaigns.iter().filter(|campaign| campaign.campaign_id != PROBE && !quiet(campaign)).collect();
            if open.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                let first = open.first().map(|campaign| format!("{} ({:?})", campaign.campaign_id, campaign.state()));
                anyhow::bail!(
                    "{} of {} campaigns have not ended in time, e.g. {}",
                    open.len(),
                    campaigns.len(),
                    first.unwrap_or_default()
                );
            }
        }
        anyhow::ensure!(Instant::now() < end + START, "the server does not say whether campaigns have ended");
        tokio::time::sleep(LOOK).await;
    }
}

/// Cancels the probe and waits until nothing of it is in doubt.
///
/// # Errors
/// When the server refuses or does not come to an end.
pub async fn end_probe(stage: &Stage) -> anyhow::Result<()> {
    let customer = stage.customer();
    if customer.get(PROBE).await.is_ok_and(|campaign| !ended(campaign.state())) {
        customer.cancel(PROBE).await?;
    }
    customer.wait(PROBE, START, "end of the probe", quiet).await?;
    Ok(())
}

/// Waits until every status is acknowledged.
///
/// # Errors
/// When some are not by `end`.
pub async fn all_acked(stage: &Stage, end: Instant) -> anyhow::Result<()> {
    loop {
        let open = progress(&stage.control).await?.outstanding;
        if open == 0 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "{open} statuses are not acknowledged in time");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// In doubt now, or was and is not resolved, over all campaigns that are not drafts; and how much each that has not ended may have in
/// flight at most.
///
/// # Errors
/// When the server does not answer.
pub async fn doubts(stage: &Stage) -> anyhow::Result<(u64, BTreeMap<String, u64>)> {
    let campaigns = stage.customer().list().await?;
    let made = stage.made.lock();
    let (mut doubt, mut in_flight) = (0, BTreeMap::new());
    let not_yet = |state| matches!(state, CampaignState::Draft | CampaignState::Scheduled);
    for campaign in &campaigns {
        let tally = campaign.stats.as_ref().and_then(|stats| stats.tally.clone()).unwrap_or_default();
        doubt += shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Unconfirmed);
        if !ended(campaign.state()) && !not_yet(campaign.state()) {
            let job = made.iter().find(|made| made.job.plan.id == campaign.campaign_id);
            in_flight.insert(campaign.campaign_id.clone(), job.map_or(0, |made| u64::from(made.job.plan.workers)));
        }
    }
    Ok((doubt, in_flight))
}
