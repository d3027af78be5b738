//! A whole run: rounds of disturbances under load, and after each round a check of everything.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluice_proto::v1::{CampaignState, MessageStatus};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::act;
use super::owners::{self, Owners};
use super::plan::{Disturbance, What, disturbances};
use super::scene::{Scene, ScenePlan};
use super::work::{Asker, Books, on_pool, read};
use crate::harness::client::shown;
use crate::harness::config::Lines;
use crate::sim::plan::Plan;
use crate::witness::fetch::Wanted;
use crate::witness::report::Report;

/// Disturbances between two checks.
const ROUND: usize = 20;
/// Runtime threads of a server: after a stop each may have passed the gate with one message.
const THREADS: u32 = 2;
/// Longest until a campaign has come to its end after the last disturbance of a round.
const ENDS: Duration = Duration::from_secs(120);
/// How long what was set aside may still wait at the end: what misses its first looks is looked for again after two minutes.
const APPLIED: Duration = Duration::from_secs(150);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Order {
    /// How many disturbances.
    pub disturbances: usize,
    /// How many nodes.
    pub nodes: usize,
    /// Everything follows from it but the machine's own timing.
    pub seed: u64,
    /// Ceilings of the pools.
    pub pools: Vec<u32>,
    /// Recipients of each campaign.
    pub recipients: u32,
    /// Longest time for which a node is frozen.
    pub frozen_max: Duration,
    /// The lease.
    pub lease: Duration,
    /// Only these, by their place in the plan; empty: all.
    pub only: Vec<usize>,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// The last check.
    pub report: Report,
    /// Who owned what.
    pub owners: Owners,
    /// Disturbances by kind.
    pub happened: BTreeMap<&'static str, u64>,
    /// What went wrong, in words; empty: nothing.
    pub wrong: Vec<String>,
    /// How often checks saw counts that a recount had to mend.
    pub mended: u64,
}

impl Outcome {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let campaigns = &self.report.campaigns;
        let sum = |of: fn(&crate::witness::compare::CampaignReport) -> u64| campaigns.iter().map(of).sum::<u64>();
        let _ = writeln!(out, "\n{} campaigns, {} recipients", campaigns.len(), sum(|c| c.tally.total));
        let _ = writeln!(
            out,
            "accepted {} (simulator {}), accepted twice {}",
            sum(|c| c.tally.accepted),
            sum(|c| c.ledger.recipients),
            sum(|c| c.ledger.doubled)
        );
        for rate in &self.report.rates {
            let _ = writeln!(out, "{}: ceiling {}, highest in a second {}", rate.line, rate.ceiling, rate.highest);
        }
        let _ = writeln!(out, "disturbances {:?}\npools taken {:?}", self.happened, self.owners.taken);
        let _ = writeln!(out, "counts mended by a recount {}", self.mended);
        for (words, count) in &self.owners.errors {
            let _ = writeln!(out, "logged as an error × {count}: {words}");
        }
        for wrong in &self.wrong {
            let _ = writeln!(out, "WRONG: {wrong}");
        }
        out
    }
}

/// The configuration that every node has beside its own.
fn settings() -> String {
    format!(
        "[runtime]\nworker_threads = {THREADS}\n[retry]\nbackoff_ms_min = 100\nbackoff_ms_max = 400\n[breaker]\nbackoff_ms_min = 100\n\
         backoff_ms_max = 500\n[provider]\nread_timeout_ms = 1500\n[log]\nformat = \"json\"\n[metrics]\ndrift_pause_s = 1\n"
    )
}

/// Runs it; `say` hears what happens.
///
/// # Errors
/// When something cannot be started, done or read. What the check finds is in the outcome.
pub async fn run(order: &Order, say: impl Fn(&str)) -> anyhow::Result<Outcome> {
    let scene = Scene::start(&ScenePlan {
        nodes: order.nodes,
        pools: order.pools.clone(),
        statuses: Plan::prompt(),
        seed: order.seed,
        lease: order.lease,
        extra: settings(),
    })
    .await?;
    let scene = Arc::new(scene);
    let mut outcome = rounds(order, &scene, &say).await;
    if outcome.is_err() {
        // What ends a run may be its own server: one that ended by itself is nobody else's fault.
        let state = scene.ledger.lock().await.state().await.unwrap_or_else(|error| error.to_string());
        outcome = outcome.with_context(|| format!("the CQL server {state}"));
    }
    let is_well = outcome.as_ref().is_ok_and(|outcome| outcome.wrong.is_empty());
    if !is_well {
        say(&format!("kept: {}", scene.cluster.lock().await.keep().display()));
    }
    outcome
}

async fn rounds(order: &Order, scene: &Arc<Scene>, say: &impl Fn(&str)) -> anyhow::Result<Outcome> {
    let plan = disturbances(order.seed, order.disturbances, order.nodes, order.lease, order.frozen_max);
    let chosen = |place: &usize| order.only.is_empty() || order.only.contains(place);
    let plan: Vec<(usize, Disturbance)> = plan.into_iter().enumerate().filter(|(place, _)| chosen(place)).collect();
    let (books, begun) = (Arc::new(Books::default()), Instant::now());
    let asker = Asker::new(Arc::clone(scene), order.seed);
    let (mut happened, mut mended, mut spare) = (BTreeMap::new(), 0, 0);
    let mut last = None;
    for round in plan.chunks(ROUND) {
        books.open();
        let mut work = JoinSet::new();
        for pool in 0..order.pools.len() {
            let (asker, books) = (Asker::new(Arc::clone(scene), order.seed + 1 + pool as u64), Arc::clone(&books));
            let recipients = order.recipients;
            work.spawn(async move { on_pool(&asker, &books, pool, recipients).await });
        }
        let (reader, open) = (Asker::new(Arc::clone(scene), order.seed), Arc::clone(&books));
        work.spawn(async move { read(&reader, &open).await });
        let mut under_way: JoinSet<anyhow::Result<()>> = JoinSet::new();
        for (place, it) in round {
            // Those before are over, unless this one comes beside them.
            while !it.beside
                && let Some(done) = under_way.join_next().await
            {
                done??;
            }
            sleep(it.after).await;
            say(&format!("{:7.1} s  {place}: {it}", begun.elapsed().as_secs_f64()));
            *happened.entry(it.what.kind()).or_default() += 1;
            let stops = matches!(it.what, What::Freeze(_) | What::Late(..));
            spare = spare.max(if stops { THREADS } else { 0 });
            let (scene, it) = (Arc::clone(scene), it.clone());
            under_way.spawn(async move { act::happen(&scene, &it).await.with_context(|| it.to_string()) });
        }
        while let Some(done) = under_way.join_next().await {
            done??;
        }
        scene.calm()?;
        books.close();
        while let Some(done) = work.join_next().await {
            done??;
        }
        let (report, by_recount) = check(order, scene, &asker, &books, spare).await?;
        mended += by_recount;
        say(&format!(
            "{:7.1} s  {}",
            begun.elapsed().as_secs_f64(),
            if report.ok { "all agrees" } else { "DIFFERENCES" }
        ));
        let is_over = !(report.ok || report.only_stalled());
        last = Some(report);
        if is_over {
            break;
        }
    }
    let report = last.context("no disturbance was asked for")?;
    let cluster = scene.cluster.lock().await;
    let logs = (0..order.nodes).map(|n| cluster.log(n)).collect::<anyhow::Result<Vec<_>>>()?;
    let owners = owners::read(logs.iter().map(String::as_str).enumerate());
    let mut wrong: Vec<String> = owners.wrong.iter().chain(&owners.panics).cloned().collect();
    if !(report.ok || report.only_stalled()) {
        wrong.push(report.text());
    }
    Ok(Outcome { report, owners, happened, wrong, mended })
}

/// Waits until every campaign has come to its end, then compares everything with the simulator; also returns how many counts a recount
/// had to mend.
async fn check(
    order: &Order,
    scene: &Scene,
    asker: &Asker,
    books: &Books,
    spare: u32,
) -> anyhow::Result<(Report, u64)> {
    let campaigns = books.campaigns();
    for campaign in &campaigns {
        let end = Instant::now() + ENDS;
        loop {
            let seen = asker.ask("look", |customer| async move { customer.get(&campaign.plan.id).await }).await?;
            let tally = seen.stats.as_ref().and_then(|stats| stats.tally.clone()).unwrap_or_default();
            let open = shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Pending);
            if seen.state() == CampaignState::Completed && open == 0 {
                break;
            }
            anyhow::ensure!(Instant::now() < end, "{} does not end within {ENDS:?}: {seen:?}", campaign.plan.id);
            sleep(LOOK).await;
        }
    }
    let wanted = Wanted {
        window: Duration::from_secs(10),
        campaigns: campaigns.iter().map(|campaign| campaign.plan.id.clone()).collect(),
        recipients: campaigns.iter().map(|campaign| (campaign.plan.id.clone(), campaign.recipients)).collect(),
        ceilings: order
            .pools
            .iter()
            .enumerate()
            .map(|(n, ceiling)| (Lines::meta_id(n), ceiling + spare))
            .collect::<HashMap<_, _>>(),
        ..Wanted::default()
    };
    let (end, mut mended) = (Instant::now() + APPLIED, 0);
    loop {
        let checked = scene.cluster.lock().await.check(0, wanted.clone()).await;
        let report = match checked {
            Ok(report) => report,
            // A ledger that was just killed may be slow to come back; nothing was compared.
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => {
                sleep(LOOK).await;
                continue;
            }
        };
        mended += report.differences.of(crate::witness::compare::Kind::RecountDrift);
        if report.ok || report.only_stalled() || Instant::now() >= end {
            return Ok((report, mended));
        }
        sleep(LOOK).await;
    }
}
