//! Floor and engine in turn against the same simulator: A B A B. The machine's moods hit both alike, so their ratio stays.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

use super::floor::Worker;
use super::stage::{BLOCK, Made, STANDING, Stage, latency};
use super::wait::{all_through, progress};
use crate::harness::client::CampaignPlan;
use crate::harness::config::{FLOOR, META};
use crate::report::data::Pair;
use crate::scenario::file::Floor;
use crate::scenario::load::{Job, PAIR};
use crate::sim::stats::Sample;
use crate::wire::client::once;
use crate::witness::fetch::control_json;

/// Longest time for a call of the control API.
const CALL: Duration = Duration::from_secs(30);

/// Longest time for one half of a pair: a hundred messages a second, and a minute.
fn half(floor: &Floor) -> Duration {
    Duration::from_secs(60 + u64::from(floor.messages) / 100)
}

/// Runs all pairs.
///
/// # Errors
/// When a half does not come to its end, or statuses are missing at the floor.
pub async fn run(stage: &Stage, floor: &Floor, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Vec<Pair>> {
    let mut worker = Worker::start().await?;
    let url = format!("http://{}/webhooks/meta/{META}", worker.webhooks);
    let targets = serde_json::json!({ FLOOR: url }).to_string();
    let (status, _) = once("POST", &format!("{}/targets", stage.control), targets.as_bytes(), CALL).await?;
    anyhow::ensure!(status == 200, "the simulator refuses the floor's target: {status}");
    // Refusals are no part of what is compared; the provider's latency is.
    stage.faults(STANDING, latency(&stage.scenario)).await?;
    let api = stage.world.lock().await.sim.api();
    let mut pairs = Vec::new();
    for n in 0..floor.pairs {
        let first = n * floor.messages;
        let (floor_us, floor_rate) =
            bare(stage, &mut worker, &api, floor, first).await.with_context(|| format!("floor of pair {}", n + 1))?;
        let (engine_us, engine_rate) =
            engine(stage, floor, n).await.with_context(|| format!("engine of pair {}", n + 1))?;
        let pair = Pair { floor_us, engine_us, floor_rate, engine_rate };
        say(&format!(
            "pair {} of {}: floor {floor_us:.1} µs, engine {engine_us:.1} µs per message, efficiency {:.2}",
            n + 1,
            floor.pairs,
            pair.efficiency()
        ));
        pairs.push(pair);
    }
    Ok(pairs)
}

async fn bare(stage: &Stage, worker: &mut Worker, api: &str, floor: &Floor, first: u32) -> anyhow::Result<(f64, f64)> {
    let accepted = progress(&stage.control).await?.accepted;
    let statuses = worker.statuses().await?;
    let acked = sample(stage).await?.statuses_acked;
    let (cpu, began) = (worker.cpu_ns(), Instant::now());
    worker.send(api, first, floor.messages, floor.connections).await?;
    all_through(&stage.control, accepted + u64::from(floor.messages), half(floor)).await?;
    let figures = per_message(worker.cpu_ns() - cpu, began, floor.messages);
    let came = worker.statuses().await? - statuses;
    let acked = sample(stage).await?.statuses_acked - acked;
    anyhow::ensure!(came == acked, "the floor took {came} statuses, {acked} were acknowledged");
    Ok(figures)
}

async fn sample(stage: &Stage) -> anyhow::Result<Sample> {
    control_json("GET", &format!("{}/sample", stage.control), CALL).await
}

/// The same messages through the engine: from the start to the last acknowledged status. Importing is not part of it.
async fn engine(stage: &Stage, floor: &Floor, n: u32) -> anyhow::Result<(f64, f64)> {
    let customer = stage.customer();
    let plan = CampaignPlan::new(&format!("{PAIR}-{:04}", n + 1), "wa", "hello").workers(floor.workers);
    let id = plan.id.clone();
    customer.create(&plan).await?;
    let first = stage.numbers(floor.messages);
    customer.import_from(&id, BLOCK, first, floor.messages).await?;
    let job = Job::new(plan, PAIR, floor.messages);
    stage.made.lock().push(Made { job, first, started_ns: 0 });
    let accepted = progress(&stage.control).await?.accepted;
    let world = stage.world.lock().await;
    let (cpu, began) = (world.server()?.cpu_ns(), Instant::now());
    customer.start(&id).await?;
    all_through(&stage.control, accepted + u64::from(floor.messages), half(floor)).await?;
    let figures = per_message(world.server()?.cpu_ns() - cpu, began, floor.messages);
    customer.dispatched(&id, half(floor)).await?;
    Ok(figures)
}

fn per_message(cpu_ns: u64, began: Instant, messages: u32) -> (f64, f64) {
    let messages = f64::from(messages);
    (cpu_ns as f64 / 1e3 / messages, messages / began.elapsed().as_secs_f64())
}
