//! The table of figures: each with its goal, its CPU per message beside it, and how to repeat it.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::ceilings::ceilings;
use super::measure::{Stopwatch, Usage, all_through, median, more_than};
use crate::harness::client::{CampaignPlan, Customer};
use crate::harness::config::Lines;
use crate::harness::world::{World, WorldPlan};
use crate::sim::plan::Plan;

/// Longest time that one run may take.
pub(super) const RUN: Duration = Duration::from_secs(300);

/// Which figures to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Whole life cycle, one and ten statuses per POST.
    Cycle,
    /// Import over gRPC.
    Import,
    /// Line ceilings.
    Ceiling,
    /// CPU at 1,000 msg/s.
    Steady,
    /// Peak memory.
    Memory,
    /// Restart with a million unfinished.
    Restart,
    /// Pause.
    Pause,
}

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Runs of each figure; the median counts.
    pub runs: u32,
    /// Divides the numbers of messages, for a quick look.
    pub divide: u32,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What.
    pub what: String,
    /// The goal.
    pub goal: String,
    /// The median.
    pub measured: String,
    /// All runs.
    pub runs: Vec<f64>,
    /// CPU of the server beside it.
    pub cpu: String,
    /// Whether the goal was reached.
    pub ok: bool,
}

/// Takes the figures; `say` hears each as it is done.
///
/// # Errors
/// When a run does not start or end.
pub async fn run(which: &[Which], size: Size, mut say: impl FnMut(&Figure)) -> anyhow::Result<Vec<Figure>> {
    let mut all = Vec::new();
    for one in which {
        let figures = match one {
            Which::Cycle => vec![
                cycle(1, 60_000 / size.divide, 10_000.0, size.runs).await?,
                cycle(10, 150_000 / size.divide, 25_000.0, size.runs).await?,
            ],
            Which::Import => vec![import(500_000 / size.divide, size.runs).await?],
            Which::Ceiling => ceilings(size.runs).await?,
            Which::Steady => vec![steady(10, 15.0, size.runs).await?, steady(1, 25.0, size.runs).await?],
            Which::Memory => vec![
                memory(10_000, 50).await?,
                memory(100_000 / size.divide, 64).await?,
                memory(1_000_000 / size.divide, 96).await?,
            ],
            Which::Restart => vec![restart(1_000_000 / size.divide, size.runs).await?],
            Which::Pause => vec![pause(size.runs).await?],
        };
        for figure in figures {
            say(&figure);
            all.push(figure);
        }
    }
    Ok(all)
}

/// The figures as a table.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("| what | goal | measured | server CPU | |\n|---|---|---|---|---|\n");
    for figure in figures {
        let verdict = if figure.ok { "reached" } else { "**short**" };
        let _ =
            writeln!(out, "| {} | {} | {} | {} | {verdict} |", figure.what, figure.goal, figure.measured, figure.cpu);
    }
    out
}

pub(super) fn per_message(usage: &Usage, messages: u32) -> String {
    format!(
        "{:.1} µs/msg (simulator {:.1})",
        usage.server_s * 1e6 / f64::from(messages),
        usage.sim_s * 1e6 / f64::from(messages)
    )
}

pub(super) async fn furnished(plan: WorldPlan) -> anyhow::Result<(World, Customer)> {
    let world = World::start(WorldPlan { apart: true, ..plan }).await?;
    let customer = world.customer().await?;
    world.furnish(&customer).await?;
    Ok((world, customer))
}

pub(super) async fn prepared(
    customer: &Customer,
    campaign: &CampaignPlan,
    block: u32,
    recipients: u32,
) -> anyhow::Result<()> {
    customer.create(campaign).await?;
    customer.import(&campaign.id, block, recipients).await
}

/// One send and three statuses for each, from start to the last acknowledgement.
async fn cycle(batch: u16, messages: u32, goal: f64, runs: u32) -> anyhow::Result<Figure> {
    let mut rates = Vec::new();
    let mut last = None;
    for seed in 0..runs {
        let (world, customer) = furnished(WorldPlan {
            lines: Lines { meta: vec![10_000; 8], sms: vec![] },
            plan: Plan::straight(batch),
            seed: u64::from(seed),
            webhook_connections: if batch == 1 { 256 } else { 64 },
            ..WorldPlan::default()
        })
        .await?;
        let campaign = CampaignPlan::new("cycle", "wa", "hello").workers(2_048);
        prepared(&customer, &campaign, 1, messages).await?;
        customer.start("cycle").await?;
        // New lines are silent for a second; the cycle is measured from the first request on.
        more_than(&world.sim, 0, RUN).await?;
        let watch = Stopwatch::start(&world).await?;
        all_through(&world.sim, u64::from(messages), RUN).await?;
        let usage = watch.stop(&world).await?;
        rates.push(f64::from(messages) / usage.wall_s);
        last = Some(usage);
    }
    let measured = median(&rates);
    Ok(Figure {
        what: format!("whole life cycle (1 send, 3 statuses), {batch} per POST"),
        goal: format!("≥ {goal:.0} msg/s"),
        measured: format!("{measured:.0} msg/s"),
        runs: rates,
        cpu: last.map(|usage| per_message(&usage, messages)).unwrap_or_default(),
        ok: measured >= goal,
    })
}

async fn import(rows: u32, runs: u32) -> anyhow::Result<Figure> {
    let mut rates = Vec::new();
    let mut last = None;
    for seed in 0..runs {
        let (world, customer) = furnished(WorldPlan {
            lines: Lines { meta: vec![80], sms: vec![] },
            seed: u64::from(seed),
            ..WorldPlan::default()
        })
        .await?;
        customer.create(&CampaignPlan::new("import", "wa", "hello")).await?;
        let watch = Stopwatch::start(&world).await?;
        customer.import("import", 1, rows).await?;
        let usage = watch.stop(&world).await?;
        rates.push(f64::from(rows) / usage.wall_s);
        last = Some(usage);
    }
    let measured = median(&rates);
    Ok(Figure {
        what: "import over gRPC, durable".to_owned(),
        goal: "≥ 100,000 recipients/s".to_owned(),
        measured: format!("{measured:.0} recipients/s"),
        runs: rates,
        cpu: last.map(|usage| per_message(&usage, rows)).unwrap_or_default(),
        ok: measured >= 100_000.0,
    })
}

/// CPU of the server at a steady 1,000 msg/s.
async fn steady(batch: u16, goal: f64, runs: u32) -> anyhow::Result<Figure> {
    const RATE: u32 = 1_000;
    let mut shares = Vec::new();
    let mut refused = 0;
    let mut slowest = f64::MAX;
    let mut last = None;
    for seed in 0..runs {
        let (world, customer) = furnished(WorldPlan {
            lines: Lines { meta: vec![RATE], sms: vec![] },
            plan: Plan::straight(batch),
            seed: u64::from(seed),
            ..WorldPlan::default()
        })
        .await?;
        prepared(&customer, &CampaignPlan::new("steady", "wa", "hello"), 1, RATE * 17).await?;
        customer.start("steady").await?;
        more_than(&world.sim, u64::from(RATE), RUN).await?;
        let before = world.sim.accepted().await?;
        let watch = Stopwatch::start(&world).await?;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let usage = watch.stop(&world).await?;
        let sent = world.sim.accepted().await? - before;
        slowest = slowest.min(sent as f64 / usage.wall_s);
        shares.push(usage.server_s / usage.wall_s * 100.0);
        refused += world.sim.read("/ledger").await?["refused"].as_object().map_or(0, serde_json::Map::len);
        last = Some((usage, sent as u32));
    }
    let measured = median(&shares);
    Ok(Figure {
        what: format!("1,000 msg/s whole life cycle, {batch} per POST"),
        goal: format!("≤ {goal:.0} % of one core, no 429"),
        measured: format!("{measured:.1} % at {slowest:.0} msg/s, {refused} refused"),
        runs: shares,
        cpu: last.map(|(usage, sent)| per_message(&usage, sent)).unwrap_or_default(),
        ok: measured <= goal && refused == 0 && slowest >= 950.0,
    })
}

/// Peak memory over import, sending and statuses.
async fn memory(recipients: u32, goal_mib: u64) -> anyhow::Result<Figure> {
    let (world, customer) = furnished(WorldPlan {
        lines: Lines { meta: vec![10_000; 8], sms: vec![] },
        plan: Plan::straight(10),
        ..WorldPlan::default()
    })
    .await?;
    let campaign = CampaignPlan::new("memory", "wa", "hello").workers(512);
    prepared(&customer, &campaign, 1, recipients).await?;
    let watch = Stopwatch::start(&world).await?;
    customer.start("memory").await?;
    all_through(&world.sim, u64::from(recipients), RUN).await?;
    let usage = watch.stop(&world).await?;
    let peak = world.server()?.rss_peak_kib() as f64 / 1024.0;
    Ok(Figure {
        what: format!("peak RSS, {recipients} recipients"),
        goal: format!("≤ {goal_mib} MB"),
        measured: format!("{peak:.1} MB"),
        runs: vec![peak],
        cpu: per_message(&usage, recipients),
        ok: peak <= goal_mib as f64,
    })
}

/// From the start after a kill to the first new request at the provider.
async fn restart(recipients: u32, runs: u32) -> anyhow::Result<Figure> {
    let (mut world, customer) = furnished(WorldPlan {
        lines: Lines { meta: vec![1_000], sms: vec![] },
        plan: Plan::straight(10),
        ..WorldPlan::default()
    })
    .await?;
    prepared(&customer, &CampaignPlan::new("restart", "wa", "hello"), 1, recipients).await?;
    customer.start("restart").await?;
    let mut times = Vec::new();
    for _ in 0..runs {
        let before = world.sim.accepted().await?;
        more_than(&world.sim, before + 300, RUN).await?;
        world.kill().await?;
        // What was still in the socket has been read by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stopped = world.sim.accepted().await?;
        let began = Instant::now();
        world.start_server().await?;
        more_than(&world.sim, stopped, RUN).await?;
        times.push(began.elapsed().as_secs_f64());
    }
    let measured = median(&times);
    Ok(Figure {
        what: format!("restart after kill with {recipients} unfinished, sending again"),
        goal: "≤ 5 s".to_owned(),
        measured: format!("{measured:.2} s"),
        runs: times,
        cpu: "·".to_owned(),
        ok: measured <= 5.0,
    })
}

/// Time to the answer of a pause under load, and what still left.
async fn pause(runs: u32) -> anyhow::Result<Figure> {
    let (world, customer) = furnished(WorldPlan {
        lines: Lines { meta: vec![5_000], sms: vec![] },
        plan: Plan::straight(10),
        ..WorldPlan::default()
    })
    .await?;
    let rounds = runs.max(1) * 5;
    prepared(&customer, &CampaignPlan::new("pause", "wa", "hello"), 1, rounds * 10_000).await?;
    customer.start("pause").await?;
    let mut times = Vec::new();
    let mut broken = 0;
    for _ in 0..rounds {
        let before = world.sim.accepted().await?;
        more_than(&world.sim, before + 1_000, RUN).await?;
        let began = Instant::now();
        let in_flight = customer.pause("pause").await?;
        let took = began.elapsed();
        let at_answer = world.sim.accepted().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let after = world.sim.accepted().await? - at_answer;
        broken += u32::from(after > in_flight);
        times.push(took.as_secs_f64() * 1e3);
        customer.resume("pause").await?;
    }
    let longest = times.iter().copied().fold(0.0, f64::max);
    Ok(Figure {
        what: "pause acknowledged at 5,000 msg/s".to_owned(),
        goal: "≤ 100 ms, then only what was in flight".to_owned(),
        measured: format!(
            "{:.1} ms (longest {longest:.1}), more left than said in {broken} of {rounds}",
            median(&times)
        ),
        runs: times,
        cpu: "·".to_owned(),
        ok: longest <= 100.0 && broken == 0,
    })
}
