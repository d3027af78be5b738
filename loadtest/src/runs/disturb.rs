//! What goes wrong, at its time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_proto::v1::CampaignState;
use tokio::process::Command;
use tokio::time::Instant;

use super::campaigns::doubts;
use super::flood;
use super::stage::{Pause, Stage, now_ns};
use super::wait::{more_than, progress};
use crate::measure::own_rate::Change;
use crate::scenario::file::{Disturbance, How, Kind};
use crate::scenario::load::{pauses, words};
use crate::sim::faults::{Body, Kind as Fault, Rule};

/// How long a disturbance lasts that says nothing of it.
const SHORT: Duration = Duration::from_millis(100);
/// Longest time for a graceful end.
const TERMINATE: Duration = Duration::from_secs(90);
/// Longest time from a restart to the next accepted message.
const SENDING: Duration = Duration::from_secs(120);
/// Between two tries of a call that another disturbance may have made fail.
const AGAIN: Duration = Duration::from_millis(200);

/// Lets everything happen; returns when the last disturbance is over.
pub async fn all(stage: &Arc<Stage>) {
    let mut tasks = tokio::task::JoinSet::new();
    for place in 0..stage.scenario.disturbances.len() {
        let stage = Arc::clone(stage);
        tasks.spawn(async move {
            let it = stage.scenario.disturbances[place].clone();
            let mut next = stage.begin;
            for pause in pauses(&stage.scenario, place) {
                tokio::time::sleep_until(next + pause).await;
                let (from_s, from_ns) = (stage.at_s(), now_ns());
                let done = one(&stage, place, &it).await;
                if it.kind != Kind::Rate {
                    stage.left.lock().disturbed.push((from_ns, now_ns()));
                }
                stage.mark(from_s, words(&it));
                next = Instant::now();
                if let Err(error) = done {
                    stage.failed(format!("{}: {error:#}", words(&it)));
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

async fn one(stage: &Stage, place: usize, it: &Disturbance) -> anyhow::Result<()> {
    let lasts = it.for_ms.map_or(SHORT, |ms| Duration::from_millis(u64::from(ms)));
    let share = it.share.unwrap_or(1.0);
    match it.kind {
        Kind::Kill => down(stage, it.for_ms.map_or(Duration::ZERO, |_| lasts), true).await,
        Kind::Restart => down(stage, it.for_ms.map_or(Duration::ZERO, |_| lasts), false).await,
        Kind::Stop => frozen(stage, lasts).await,
        Kind::StoreFull => full(stage, lasts).await,
        Kind::StoreStop => store_frozen(stage, lasts).await,
        Kind::Outage => faulty(stage, place, outage(it.how.unwrap_or_default(), share), lasts).await,
        Kind::RateLimit => faulty(stage, place, Rule::new(Fault::RateLimit).share(share), lasts).await,
        Kind::Slow => {
            let [low, high] = it.ms.unwrap_or_default();
            faulty(stage, place, Rule::new(Fault::Delay).ms(low, high).share(share), lasts).await
        }
        Kind::Ceiling => ceiling(stage, it.to.unwrap_or(1), it.for_ms.map(|_| lasts)).await,
        Kind::Rate => rate(stage, it, lasts).await,
        Kind::Pause => pause(stage, it.campaign.as_deref(), lasts).await,
        Kind::Flood => flood::run(stage, it, lasts).await,
    }
}

fn outage(how: How, share: f64) -> Rule {
    match how {
        How::Reset => Rule::new(Fault::ResetUnread).share(share),
        How::Hang => Rule::new(Fault::Hang).ms(30_000, 30_000).share(share),
        How::Error => Rule::new(Fault::Error).answering(503, 0, Body::Html).share(share),
        How::AcceptThenReset => Rule::new(Fault::AcceptThenReset).share(share),
    }
}

async fn faulty(stage: &Stage, place: usize, rule: Rule, lasts: Duration) -> anyhow::Result<()> {
    stage.faults(place, vec![rule]).await?;
    tokio::time::sleep(lasts).await;
    stage.faults(place, Vec::new()).await
}

/// Kills (or ends) the server and starts it again; counts doubts and times.
async fn down(stage: &Stage, pause: Duration, hard: bool) -> anyhow::Result<()> {
    let mut world = stage.world.lock().await;
    let (before, mut in_flight) = doubts(stage).await?;
    stage.down();
    if hard {
        world.kill().await?;
    } else {
        world.terminate(TERMINATE).await?;
    }
    tokio::time::sleep(pause).await;
    // What was still in the sockets has been read by now, unless the simulator stood still.
    let accepted = progress(&stage.control).await?.accepted;
    let began = Instant::now();
    world.start_server().await.context("restart")?;
    let ready_ms = began.elapsed().as_secs_f64() * 1e3;
    stage.up(&world).await?;
    // A campaign whose last messages were in flight has ended with the restart, others have begun meanwhile.
    let (after, others) = doubts(stage).await?;
    in_flight.extend(others);
    {
        let mut left = stage.left.lock();
        left.ready_ms.push(ready_ms);
        if hard {
            left.doubts.push((after.saturating_sub(before), in_flight.values().sum()));
        }
    }
    if running(stage).await? {
        more_than(&world.sim, accepted, SENDING).await?;
        stage.left.lock().sending_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Whether some campaign that runs has messages left to send.
async fn running(stage: &Stage) -> anyhow::Result<bool> {
    let campaigns = stage.customer().list().await?;
    let sends = |c: &sluice_proto::v1::Campaign| {
        let remaining = c.stats.as_ref().map_or(0, |stats| stats.remaining);
        c.state() == CampaignState::Running && remaining > 0
    };
    Ok(campaigns.iter().any(sends))
}

/// Freezes the CQL server.
async fn store_frozen(stage: &Stage, lasts: Duration) -> anyhow::Result<()> {
    let frozen = {
        let world = stage.world.lock().await;
        let cql = world.cql().context("the ledger is on no CQL server")?;
        cql.freeze().context("the CQL server is another's: SLUICE_CQL_NODES names it")?
    };
    tokio::time::sleep(lasts).await;
    drop(frozen);
    Ok(())
}

async fn frozen(stage: &Stage, lasts: Duration) -> anyhow::Result<()> {
    let world = stage.world.lock().await;
    let pid = Pid::from_raw(world.server()?.pid());
    kill(pid, Signal::SIGSTOP)?;
    tokio::time::sleep(lasts).await;
    kill(pid, Signal::SIGCONT)?;
    world.interrupted();
    Ok(())
}

/// No file of the server may grow: the limit stands for a full disk, which a run cannot fill.
async fn full(stage: &Stage, lasts: Duration) -> anyhow::Result<()> {
    let world = stage.world.lock().await;
    let pid = world.server()?.pid();
    limit_file_size(pid, "1024").await?;
    tokio::time::sleep(lasts).await;
    limit_file_size(pid, "unlimited").await
}

/// Sets the soft limit of file sizes of a running process (`prlimit` of util-linux).
///
/// # Errors
/// When there is no `prlimit` or it refuses.
pub async fn limit_file_size(pid: i32, soft: &str) -> anyhow::Result<()> {
    let order = [format!("--pid={pid}"), format!("--fsize={soft}:")];
    let status = Command::new("prlimit").args(order).status().await.context("prlimit (util-linux)")?;
    anyhow::ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

/// Lines of all campaigns (not the probe's) get another ceiling, for a while or for good.
async fn ceiling(stage: &Stage, to: u32, lasts: Option<Duration>) -> anyhow::Result<()> {
    let mut own = Vec::new();
    let lines = crate::scenario::load::lines(&stage.scenario);
    let probes = usize::from(stage.scenario.probe.is_some());
    for (n, ceiling) in lines.meta.iter().enumerate().take(lines.meta.len() - probes) {
        own.push((format!("wa-{n}"), *ceiling));
    }
    own.extend(lines.sms.iter().enumerate().map(|(n, ceiling)| (format!("sms-{n}"), *ceiling)));
    for (line, _) in &own {
        insist(|| async { stage.customer().set_ceiling(line, to).await }).await?;
    }
    let from = now_ns();
    let Some(lasts) = lasts else {
        stage.left.lock().lowered.push((from, u64::MAX, to));
        return Ok(());
    };
    tokio::time::sleep(lasts).await;
    stage.left.lock().lowered.push((from, now_ns(), to));
    for (line, ceiling) in &own {
        insist(|| async { stage.customer().set_ceiling(line, *ceiling).await }).await?;
    }
    Ok(())
}

/// Repeats a call while the server is down or its ledger away because of another disturbance.
async fn insist<F>(call: impl Fn() -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let until = Instant::now() + SENDING;
    loop {
        match call().await {
            Err(_) if Instant::now() < until => tokio::time::sleep(AGAIN).await,
            done => return done,
        }
    }
}

/// Ids of running campaigns of this entry, with the rates that they were made with.
async fn running_of(stage: &Stage, entry: Option<&str>) -> anyhow::Result<Vec<(String, u32)>> {
    let campaigns = stage.customer().list().await?;
    let made = stage.made.lock();
    let running = campaigns.iter().filter(|c| c.state() == CampaignState::Running);
    let named = running.filter_map(|campaign| {
        let job = &made.iter().find(|made| made.job.plan.id == campaign.campaign_id)?.job;
        let asked = entry.map_or(job.entry != crate::scenario::load::PROBE, |entry| job.entry == entry);
        asked.then(|| (campaign.campaign_id.clone(), job.plan.rate.unwrap_or(0)))
    });
    Ok(named.collect())
}

async fn rate(stage: &Stage, it: &Disturbance, lasts: Duration) -> anyhow::Result<()> {
    let campaigns = running_of(stage, it.campaign.as_deref()).await?;
    for (id, _) in &campaigns {
        insist_on_rate(stage, id, it.to.unwrap_or(0)).await?;
    }
    if it.for_ms.is_none() {
        return Ok(());
    }
    tokio::time::sleep(lasts).await;
    // Also of those that are paused by now.
    for (id, own) in &campaigns {
        insist_on_rate(stage, id, *own).await?;
    }
    Ok(())
}

/// Sets a campaign's rate, unless it has ended meanwhile.
async fn insist_on_rate(stage: &Stage, id: &str, rate: u32) -> anyhow::Result<()> {
    let asked_ns = now_ns();
    insist(|| async {
        let campaigns = stage.customer().list().await?;
        let state = campaigns.iter().find(|c| c.campaign_id == id).map(sluice_proto::v1::Campaign::state);
        if matches!(state, Some(CampaignState::Running | CampaignState::Paused | CampaignState::Held)) {
            stage.customer().set_rate(id, rate).await?;
        }
        Ok(())
    })
    .await?;
    let campaign = id.to_owned();
    stage.left.lock().rates.push(Change { campaign, asked_ns, answered_ns: now_ns(), rate });
    Ok(())
}

/// Pauses campaigns and resumes them; what left meanwhile is looked for in the simulator's ledger afterwards.
async fn pause(stage: &Stage, entry: Option<&str>, lasts: Duration) -> anyhow::Result<()> {
    // A kill meanwhile would count as a slow pause.
    let held = stage.world.lock().await;
    let campaigns = running_of(stage, entry).await?;
    let (mut pauses, mut longest) = (Vec::new(), 0.0f64);
    for (id, _) in &campaigns {
        let began = Instant::now();
        let said = stage.customer().pause(id).await?;
        longest = longest.max(began.elapsed().as_secs_f64() * 1e3);
        pauses.push(Pause { campaign: id.clone(), answered_ns: now_ns(), resumed_ns: 0, said });
    }
    tokio::time::sleep(lasts).await;
    for pause in &mut pauses {
        pause.resumed_ns = now_ns();
        stage.customer().resume(&pause.campaign).await?;
    }
    let mut left = stage.left.lock();
    if !pauses.is_empty() {
        left.pause_ms.push(longest);
        left.pauses.append(&mut pauses);
    }
    drop((left, held));
    Ok(())
}
