//! One run of a scenario from its begin to its verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use sluice_proto::v1::CampaignState;
use tokio::time::Instant;

use super::campaigns::{self, Imported};
use super::ear::Ear;
use super::evidence::{Remains, figures};
use super::pairs;
use super::stage::{Stage, now_ns};
use crate::harness::config::{FLOOR_LINE, Lines};
use crate::harness::cql::CqlServer;
use crate::measure::histogram::Snapshot;
use crate::measure::limit::{Bounds, Flooded, Witnesses, objections};
use crate::measure::sampler::{Glance, Sampled, Sampler, Watched};
use crate::measure::series::AllSeries;
use crate::measure::visible::{Watch, latencies as visible_latencies};
use crate::report::data::{Condition, LineUse, Mark, Pair};
use crate::report::verdict::{Evidence, judge};
use crate::scenario::Scenario;
use crate::scenario::load::PROBE;
use crate::sim::rates::{LineRate, SECOND_NS};
use crate::sim::stats::{FirstPost, LatencyReport, Sample};
use crate::witness::fetch::{Wanted, control_json};
use crate::witness::watch::Follower;

/// Longest time for one call of the control API.
const CALL: Duration = Duration::from_secs(120);
/// Longest time until the watch stream has said the last counts.
const WATCHED: Duration = Duration::from_secs(15);
/// Longest time for statuses that are still due when everything was sent.
const ACKED: Duration = Duration::from_secs(300);

/// What one run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Conditions with their verdicts.
    pub conditions: Vec<Condition>,
    /// Figures.
    pub figures: BTreeMap<String, f64>,
    /// Values over time.
    pub series: AllSeries,
    /// Latencies.
    pub latencies: BTreeMap<String, Snapshot>,
    /// When disturbances fell.
    pub marks: Vec<Mark>,
    /// Floor and engine in turn.
    pub pairs: Vec<Pair>,
    /// The lines.
    pub lines: Vec<LineUse>,
    /// The check in words.
    pub check: String,
    /// What weakens the result.
    pub notes: Vec<String>,
}

/// Hears how a run goes.
pub trait Progress: Send + Sync {
    /// A step was taken.
    fn say(&self, words: &str);
    /// A reading while the load lasts.
    fn glance(&self, glance: &Glance);
}

/// What the load left, before the check.
struct Loaded {
    sampled: Sampled,
    latencies: LatencyReport,
    visible: Snapshot,
    accepted: u64,
    statuses: u64,
    given_up: u64,
    acked_ns: u64,
    took_s: f64,
    follower: Option<Follower>,
}

#[derive(Deserialize)]
struct Rates {
    lines: Vec<LineRate>,
}

/// Runs a scenario once.
///
/// # Errors
/// When something does not start or cannot be read; what a server does wrong is no error but part of the outcome.
pub async fn run(scenario: Scenario, progress: Arc<dyn Progress>) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set_up(scenario).await?;
    let say = |words: &str| progress.say(words);
    let imported = campaigns::make_all(&stage, &say).await?;
    stage.begin = Instant::now();
    let stage = Arc::new(stage);
    let loaded = load(&stage, Arc::clone(&progress)).await?;
    let mut pairs = Vec::new();
    if let Some(floor) = stage.scenario.floor.clone() {
        match pairs::run(&stage, &floor, &say).await {
            Ok(all) => pairs = all,
            Err(error) => stage.failed(error),
        }
    }
    progress.say("comparing the server's export with the simulator's ledger");
    let outcome = judged(&stage, &loaded, imported, pairs).await?;
    if outcome.conditions.iter().any(|condition| condition.verdict != crate::report::Verdict::Passed) {
        let mut world = stage.world.lock().await;
        progress.say(&format!("kept for a look: {}", world.keep().display()));
    }
    Ok(outcome)
}

/// The load itself: starts, disturbances, refills, until everything has left and every status is acknowledged.
async fn load(stage: &Arc<Stage>, progress: Arc<dyn Progress>) -> anyhow::Result<Loaded> {
    // Latencies of what came before (nothing should) do not count.
    let _: LatencyReport = control_json("GET", &format!("{}/latencies?anew=1", stage.control), CALL).await?;
    let (metrics, simulator, ledger) = {
        let world = stage.world.lock().await;
        (
            format!("http://{}/metrics", world.server()?.addresses.ops),
            world.sim.pid(),
            world.cql().and_then(CqlServer::pid),
        )
    };
    let watched = Watched {
        server: Arc::clone(&stage.pid),
        metrics,
        simulator,
        ledger,
        control: stage.control.clone(),
        beat: Duration::from_millis(stage.scenario.witness.sample_ms),
    };
    let sampler = Sampler::start(watched, move |glance| progress.glance(glance));
    let watch = stage.scenario.probe.as_ref().map(|_| Watch::open(stage.customer(), PROBE.to_owned()));
    let first = stage.made.lock().iter().find(|made| made.job.entry != PROBE).map(|made| made.job.plan.id.clone());
    let follower = first.map(|id| Follower::start(stage.customer().channel(), &id));
    let end = stage.begin + Duration::from_secs(u64::from(stage.scenario.top.end_s));

    let over = Arc::new(AtomicBool::new(false));
    let disturbed = async {
        super::disturb::all(stage).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(campaigns::start_all(stage), disturbed, campaigns::refill(stage, Arc::clone(&over)));
    let mut failures = Vec::new();
    failures.extend(campaigns::all_ended(stage, end).await.err());
    if watch.is_some() {
        failures.extend(campaigns::end_probe(stage).await.err());
    }
    failures.extend(campaigns::all_acked(stage, end.max(Instant::now() + ACKED)).await.err());
    failures.iter().for_each(|error| stage.failed(error));
    let (acked_ns, took_s) = (now_ns(), stage.at_s());
    let sampled = sampler.stop().await?;
    let sample: Sample = control_json("GET", &format!("{}/sample", stage.control), CALL).await?;
    let latencies = control_json("GET", &format!("{}/latencies", stage.control), CALL).await?;
    let visible = match &watch {
        Some(watch) => {
            let posts: Vec<FirstPost> = control_json("GET", &format!("{}/posts", stage.control), CALL).await?;
            visible_latencies(&posts, &watch.seen())
        }
        None => Snapshot::default(),
    };
    Ok(Loaded {
        sampled,
        latencies,
        visible,
        accepted: sample.accepted,
        statuses: sample.statuses_acked,
        given_up: sample.statuses_given_up,
        acked_ns,
        took_s,
        follower,
    })
}

async fn judged(stage: &Stage, loaded: &Loaded, imported: Imported, pairs: Vec<Pair>) -> anyhow::Result<Outcome> {
    let scenario = &stage.scenario;
    let made = stage.made.lock().clone();
    let window = Duration::from_secs(u64::from(scenario.top.window_s));
    let lines = demand(stage, window).await?;
    let mut wanted = Wanted { window, foreign_lines: vec![FLOOR_LINE.to_owned()], ..Wanted::default() };
    for one in &made {
        wanted.campaigns.push(one.job.plan.id.clone());
        wanted.recipients.insert(one.job.plan.id.clone(), one.audience());
    }
    let probe_line =
        scenario.probe.as_ref().map(|_| Lines::meta_id(crate::scenario::load::lines(scenario).meta.len() - 1));
    let mut ear = Ear::new(stage.recipients(), stage.left.lock().lowered.clone(), probe_line.clone());
    let world = stage.world.lock().await;
    let check = world.check_heard(&stage.customer(), wanted, &mut ear).await?;
    if let Some(follower) = &loaded.follower {
        let campaign = check.campaigns.iter().find(|campaign| campaign.campaign == follower.campaign());
        let tally = campaign.map(|campaign| campaign.tally.clone()).unwrap_or_default();
        if let Err(said) = follower.says(&tally, WATCHED).await {
            let id = follower.campaign();
            stage.failed(format!("the watch stream of {id} said {said:?} last, the tally says {tally:?}"));
        }
    }
    // Nobody but the run ends campaigns: one that was cancelled or failed has given up messages that it should have sent.
    for campaign in stage.customer().list().await? {
        if campaign.campaign_id != PROBE && campaign.state() != CampaignState::Completed {
            stage.failed(format!("{} ended as {:?}", campaign.campaign_id, campaign.state()));
        }
    }
    let data_bytes = world.cql().is_none().then(|| size_of(&world.folder().join("data")));
    drop(world);
    for words in ear.above_lowered() {
        stage.failed(words);
    }
    let main = lines.iter().filter(|line| line.arrivals > 0 && Some(&line.line) != probe_line.as_ref());
    let first_ns = main.clone().map(|line| line.first_ns).min().unwrap_or(0);
    let last_ns = main.clone().map(|line| line.last_ns).max().unwrap_or(0);
    let span = |to: u64| if first_ns > 0 { to.saturating_sub(first_ns) as f64 / 1e9 } else { 0.0 };
    let left = stage.left.lock();
    let own_rates = ear.own_rates(&made, &left, &check.stamping.stalls);
    let remains = Remains {
        check: &check,
        sampled: &loaded.sampled,
        latencies: &loaded.latencies,
        visible: &loaded.visible,
        lines: &lines,
        own_rates: &own_rates,
        made: &made,
        left: &left,
        pairs: &pairs,
        imported,
        accepted: loaded.accepted,
        statuses: loaded.statuses,
        given_up: loaded.given_up,
        sending_s: span(last_ns),
        cycle_s: if loaded.accepted > 0 { span(loaded.acked_ns) } else { 0.0 },
        took_s: loaded.took_s,
        data_bytes,
        probe_line: probe_line.as_deref(),
    };
    let (figures, latencies) = figures(&remains, &mut ear);
    let witness = &scenario.witness;
    let seen = witnesses(loaded, &left.floods);
    let bounds = Bounds { lag_ms_max: witness.lag_ms_max, busy_max: witness.busy_max, stolen_max: witness.stolen_max };
    let failures = stage.failures();
    let conditions = judge(
        &Evidence {
            check: &check,
            figures: &figures,
            objections: &objections(&seen, &bounds),
            failures: &failures,
            recipients: u64::from(stage.recipients()),
            stalls_excused: witness.stalls_excused,
        },
        &scenario.pass,
    );
    let used = |line: &LineRate| LineUse {
        line: line.line.clone(),
        ceiling: line.ceiling,
        arrivals: line.arrivals,
        highest: line.highest,
        mean: line.mean,
        used_min: line.lowest_window_used,
    };
    Ok(Outcome {
        conditions,
        figures,
        series: loaded.sampled.series.clone(),
        latencies,
        marks: stage.marks(),
        pairs,
        lines: lines.iter().filter(|line| line.arrivals > 0).map(used).collect(),
        check: check.text(),
        notes: check.notes.into_iter().chain(own_rates.words).collect(),
    })
}

/// Rates of all lines of the load, their use looked at while there was demand: from a second after the first arrival until a twentieth of
/// the time was left.
async fn demand(stage: &Stage, window: Duration) -> anyhow::Result<Vec<LineRate>> {
    let url = format!("{}/rates?window_ms={}", stage.control, window.as_millis());
    let whole: Rates = control_json("GET", &url, CALL).await?;
    let ours = |line: &LineRate| line.line != FLOOR_LINE;
    let first = whole.lines.iter().filter(|l| ours(l) && l.arrivals > 0).map(|l| l.first_ns).min();
    let last = whole.lines.iter().filter(|l| ours(l)).map(|l| l.last_ns).max();
    let (Some(first), Some(last)) = (first, last) else { return Ok(Vec::new()) };
    let (from, to) = (first + SECOND_NS, last - last.saturating_sub(first) / 20);
    let rates: Rates = control_json("GET", &format!("{url}&from_ns={from}&to_ns={to}"), CALL).await?;
    Ok(rates.lines.into_iter().filter(ours).collect())
}

fn witnesses(loaded: &Loaded, floods: &[crate::measure::open_loop::Outcome]) -> Witnesses {
    let mut generator = Snapshot::default();
    floods.iter().for_each(|flood| generator.add(&flood.own_lag));
    let flooded = |flood: &crate::measure::open_loop::Outcome| {
        let crate::measure::open_loop::Outcome { ordered, rate, late, all_busy, .. } = *flood;
        Flooded { ordered, rate, late, all_busy }
    };
    let stolen = loaded.sampled.series.values("machine.stolen", 0.0, f64::MAX);
    let most = stolen.windows(10.min(stolen.len().max(1))).map(|ten| ten.iter().sum::<f64>() / ten.len() as f64);
    Witnesses {
        simulator_busy: loaded.sampled.simulator_busy.clone(),
        harness_busy: loaded.sampled.harness_busy.clone(),
        simulator_lag_ms: loaded.latencies.own_lag.quantile_ms(0.99),
        harness_lag_ms: loaded.sampled.harness_lag.quantile_ms(0.99),
        generator_lag_ms: generator.quantile_ms(0.99),
        floods: floods.iter().map(flooded).collect(),
        stolen_most: most.reduce(f64::max).map(|percent| percent / 100.0),
    }
}

/// Bytes of all files of a directory.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}
