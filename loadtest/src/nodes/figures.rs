//! Figures of two nodes that take over from each other: how long a line is silent, how much of its ceiling is used, and what a webhook costs
//! that comes to the wrong node.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use super::act;
use super::plan::{Disturbance, What};
use super::scene::{Scene, ScenePlan};
use super::work::Asker;
use crate::harness::client::CampaignPlan;
use crate::harness::config::{Lines, META};
use crate::sim::plan::Plan;
use crate::sim::stats::LatencyReport;

/// Steady sending between two changes of owner.
const STEADY: Duration = Duration::from_secs(5);
/// After a change, use counts from here on: a full window of silence is part of a take-over.
const SETTLES: Duration = Duration::from_secs(1);
/// Longest until a line sends again.
const RESUMES: Duration = Duration::from_secs(120);
/// How long webhooks go to one node.
const WEBHOOKS: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(50);
const SECOND_NS: u64 = 1_000_000_000;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Ceilings, a pool each.
    pub pools: Vec<u32>,
    /// Changes of owner: a kill and a drain in turn, of whoever has the pools.
    pub changes: usize,
    /// The lease.
    pub lease: Duration,
    /// Statuses come.
    pub statuses: bool,
    /// The seed.
    pub seed: u64,
}

/// One change of owner.
#[derive(Debug, Clone, Copy)]
struct Change {
    is_kill: bool,
    /// When it began, and when all lines sent again, ns since the epoch.
    began: u64,
    resumed: u64,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// kill -9 → next byte, for each line and kill, milliseconds.
    pub killed_ms: Vec<u64>,
    /// Longest silence around a drain, for each line and drain, milliseconds.
    pub drained_ms: Vec<u64>,
    /// Share of the ceiling used between the changes, for each line and interval.
    pub used: Vec<f64>,
    /// Most in any second, and the ceiling, for each line.
    pub highest: Vec<(u64, u32)>,
    /// Medians of the answers to webhooks, at the owner and at the other node, milliseconds; how many of each.
    pub webhooks: Option<[(f64, u64); 2]>,
}

impl Figures {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (what, ms) in [("kill -9 → next byte", &self.killed_ms), ("drain, longest silence", &self.drained_ms)] {
            let mut ms = ms.clone();
            ms.sort_unstable();
            if let (Some(middle), Some(most)) = (ms.get(ms.len() / 2), ms.last()) {
                let _ = writeln!(out, "{what}: median {middle} ms, highest {most} ms, of {}", ms.len());
            }
        }
        if !self.used.is_empty() {
            let (sum, least) =
                self.used.iter().fold((0.0, f64::MAX), |(sum, least), used| (sum + used, least.min(*used)));
            let mean = sum / self.used.len() as f64;
            let _ = writeln!(out, "used between changes: mean {mean:.4}, lowest {least:.4}, of {}", self.used.len());
        }
        for (highest, ceiling) in &self.highest {
            let _ = writeln!(out, "highest in a second {highest}, ceiling {ceiling}");
        }
        if let Some([(local, of_local), (other, of_other)]) = self.webhooks {
            let ratio = other / local;
            let _ = writeln!(
                out,
                "webhook answered, median: owner {local:.2} ms (of {of_local}), other node {other:.2} ms (of {of_other}), ratio {ratio:.2}"
            );
        }
        out
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Measures.
///
/// # Errors
/// When something does not start, or a line does not send again.
pub async fn measure(order: &Measure, say: impl Fn(&str)) -> anyhow::Result<Figures> {
    let quick = Plan { sent_ms: [2, 30], delivered_ms: [5, 60], read_ms: [5, 100], ..Plan::default() };
    let statuses = if order.statuses { quick } else { Plan { silent: 1.0, ..quick } };
    let plan = ScenePlan {
        nodes: 2,
        pools: order.pools.clone(),
        statuses,
        seed: order.seed,
        lease: order.lease,
        extra: "[log]\nformat = \"json\"\n".to_owned(),
    };
    let scene = Arc::new(Scene::start(&plan).await?);
    let asker = Asker::new(Arc::clone(&scene), order.seed);
    // All pools to the first: who comes back gets nothing while the other sends, as long as balance is not due.
    happen(&scene, 1, What::Drain(Duration::ZERO)).await?;
    let seconds = u32::try_from(order.changes)? * 20 + 40;
    for (pool, ceiling) in order.pools.iter().enumerate() {
        let plan = CampaignPlan::new(&format!("steady-{pool}"), &format!("pool-{pool}"), "hello").workers(1_024);
        let (plan, block) = (&plan, u32::try_from(pool)? + 1);
        asker.ask("creation", |customer| async move { customer.create(plan).await }).await?;
        asker
            .ask("import", |customer| async move { customer.import(&plan.id, block, ceiling * seconds).await })
            .await?;
        asker.ask("start", |customer| async move { customer.start(&plan.id).await }).await?;
    }
    resumed(&scene, order).await?;
    sleep(SETTLES).await;
    let begun = now_ns();
    let mut figures = Figures::default();
    if order.statuses {
        figures.webhooks = Some(webhooks(&scene).await?);
    }
    let mut changes: Vec<Change> = Vec::new();
    for number in 0..order.changes {
        sleep(STEADY).await;
        let (owner, is_kill) = (number % 2, number / 2 % 2 == 0);
        let began = now_ns();
        // Whoever goes comes back at once, and the other has the pools by then or soon.
        let what = if is_kill { What::Kill(order.lease * 3) } else { What::Drain(Duration::from_secs(1)) };
        say(&format!("change {number}: node-{owner} {}", if is_kill { "killed" } else { "drained" }));
        let (gone, back) = tokio::join!(resumed(&scene, order), happen(&scene, owner, what));
        back?;
        changes.push(Change { is_kill, began, resumed: gone? });
    }
    sleep(STEADY).await;
    let ended = now_ns();
    let cluster = scene.cluster.lock().await;
    let records = cluster.sim.records();
    for (pool, ceiling) in order.pools.iter().enumerate() {
        let line = Lines::meta_id(pool);
        let mut arrivals: Vec<u64> = records.iter().filter(|r| r.line == line).map(|r| r.at_ns).collect();
        arrivals.sort_unstable();
        add(&mut figures, &arrivals, *ceiling, &changes, begun, ended);
    }
    figures.highest = cluster.sim.rates(10).iter().map(|rate| (rate.highest, rate.ceiling)).collect();
    Ok(figures)
}

async fn happen(scene: &Scene, node: usize, what: What) -> anyhow::Result<()> {
    act::happen(scene, &Disturbance { node, what, after: Duration::ZERO, beside: false }).await
}

/// Waits until two seconds of sending have arrived since; the time, ns since the epoch. All pools are one node's, so that whatever arrives
/// was sent by the next owner, but for what was on its way.
async fn resumed(scene: &Scene, order: &Measure) -> anyhow::Result<u64> {
    let end = Instant::now() + RESUMES;
    let two_seconds = 2 * order.pools.iter().map(|ceiling| u64::from(*ceiling)).sum::<u64>();
    let before = scene.cluster.lock().await.sim.accepted();
    while scene.cluster.lock().await.sim.accepted() < before + two_seconds {
        anyhow::ensure!(Instant::now() < end, "the lines do not send again within {RESUMES:?}");
        sleep(LOOK).await;
    }
    Ok(now_ns())
}

/// Adds what the arrivals of one line say.
fn add(figures: &mut Figures, arrivals: &[u64], ceiling: u32, changes: &[Change], begun: u64, ended: u64) {
    let mut from = begun;
    for (change, next) in changes.iter().zip(changes.iter().skip(1).map(|c| c.began).chain([ended])) {
        figures.used.extend(used(arrivals, ceiling, from, change.began));
        // The silence is the longest pause around it.
        let until = next.min(change.resumed + SECOND_NS);
        let around: Vec<u64> =
            arrivals.iter().copied().filter(|at| (change.began - SECOND_NS / 4..until).contains(at)).collect();
        if let Some(pause) = around.windows(2).max_by_key(|pair| pair[1] - pair[0]) {
            if change.is_kill {
                figures.killed_ms.push(pause[1].saturating_sub(change.began) / 1_000_000);
            } else {
                figures.drained_ms.push((pause[1] - pause[0]) / 1_000_000);
            }
            from = pause[1] + u64::try_from(SETTLES.as_nanos()).unwrap_or(0);
        }
    }
    figures.used.extend(used(arrivals, ceiling, from, ended));
}

/// The share of the ceiling that was used in a span of at least two seconds.
fn used(arrivals: &[u64], ceiling: u32, from: u64, to: u64) -> Option<f64> {
    let span = to.checked_sub(from).filter(|span| *span >= 2 * SECOND_NS)?;
    let count = arrivals.iter().filter(|at| (from..to).contains(at)).count();
    Some(count as f64 * SECOND_NS as f64 / (f64::from(ceiling) * span as f64))
}

/// Medians of webhooks at the owner, which is the first node, and at the other.
async fn webhooks(scene: &Scene) -> anyhow::Result<[(f64, u64); 2]> {
    let (control, targets, balanced) = {
        let cluster = scene.cluster.lock().await;
        let target = |n: usize| anyhow::Ok(format!("http://{}/webhooks/meta/{META}", cluster.webhooks(n)?));
        (cluster.sim.control_url(), [target(0)?, target(1)?], cluster.balanced())
    };
    let url = format!("{control}/latencies?anew=1");
    let mut found = [(0.0, 0); 2];
    for (target, found) in targets.iter().zip(&mut found) {
        let point = |to: &str| {
            let to = to.to_owned();
            async move { scene.cluster.lock().await.sim.set_target(META, &to).map_err(anyhow::Error::msg) }
        };
        point(target).await?;
        sleep(Duration::from_secs(1)).await;
        let _: LatencyReport = crate::witness::fetch::control_json("GET", &url, RESUMES).await?;
        sleep(WEBHOOKS).await;
        let seen: LatencyReport = crate::witness::fetch::control_json("GET", &url, RESUMES).await?;
        *found = (seen.answer.quantile_ms(0.5).context("no webhook was answered")?, seen.answer.count());
        point(&balanced).await?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_use_are_read_off_the_arrivals() {
        // Ten a second for five seconds, a kill, silence for 3.3 s, ten a second for six.
        let tenth = SECOND_NS / 10;
        let arrivals: Vec<u64> = (100..150).chain(183..243).map(|n| n * tenth).collect();
        let change = Change { is_kill: true, began: 150 * tenth, resumed: 190 * tenth };
        let mut figures = Figures::default();
        add(&mut figures, &arrivals, 10, &[change], 100 * tenth, 240 * tenth);
        assert_eq!(figures.killed_ms, [3_300]);
        assert_eq!(figures.used.len(), 2);
        assert!(figures.used.iter().all(|used| (0.99..1.03).contains(used)), "{:?}", figures.used);
    }
}
