//! Server, simulator and customer of a run, and what happened on them.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::harness::process::FileLimit;
use crate::harness::world::WorldPlan;
use crate::harness::{Customer, World};
use crate::measure::own_rate::Change;
use crate::report::data::Mark;
use crate::scenario::Scenario;
use crate::scenario::file::{Kind, StoreKind};
use crate::scenario::load::{self, Job, PROBE_POOL};
use crate::sim::faults::{Kind as Fault, Rule};
use crate::wire::client::once;
use crate::witness::audience::Audience;

/// The block that all recipients of a run come from, one after the other.
pub const BLOCK: u32 = 1;
/// The place of the faults that are on all the time among those of disturbances.
pub const STANDING: usize = usize::MAX;
/// Longest time for a call of the control API.
const CALL: Duration = Duration::from_secs(30);

/// A campaign that exists on the server.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it is.
    pub job: Job,
    /// Number of its first recipient.
    pub first: u32,
    /// When its start was due, ns since the epoch; 0 before.
    pub started_ns: u64,
}

impl Made {
    /// Its recipients' numbers.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.first as usize..self.first as usize + self.job.recipients as usize
    }

    /// Its recipients as they were imported.
    #[must_use]
    pub fn audience(&self) -> Audience {
        let Job { recipients, external_ids, long, .. } = self.job;
        Audience { block: BLOCK, first: self.first, count: recipients, external_ids, long }
    }
}

/// A pause of one campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The campaign.
    pub campaign: String,
    /// When it was answered, ns since the epoch.
    pub answered_ns: u64,
    /// When it was taken back.
    pub resumed_ns: u64,
    /// How many messages the answer said were in flight.
    pub said: u64,
}

impl Pause {
    /// How many of the campaign's messages arrived between answer and resumption beyond what may have been in flight: as many as were said, and
    /// never more than its in-flight maximum. `times` are all of its arrivals, ns since the epoch, sorted.
    #[must_use]
    pub fn left(&self, times: &[u64], in_flight_max: u32) -> u64 {
        let place = |at_ns: u64| times.partition_point(|at| *at < at_ns);
        let arrived = place(self.resumed_ns).saturating_sub(place(self.answered_ns)) as u64;
        arrived.saturating_sub(self.said.min(u64::from(in_flight_max)))
    }
}

/// What disturbances left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// In doubt after each kill, and the most that was allowed.
    pub doubts: Vec<(u64, u64)>,
    /// Start to ready, ms.
    pub ready_ms: Vec<f64>,
    /// Start to the next accepted message, ms.
    pub sending_ms: Vec<f64>,
    /// Pause call to its answer, ms.
    pub pause_ms: Vec<f64>,
    /// Pauses of campaigns.
    pub pauses: Vec<Pause>,
    /// Growth of resident memory during floods, MiB.
    pub flood_mib: Vec<f64>,
    /// What came of floods.
    pub floods: Vec<crate::measure::open_loop::Outcome>,
    /// Campaigns' own rates that were set.
    pub rates: Vec<Change>,
    /// From when to when (ns since the epoch) anything but a rate was disturbed.
    pub disturbed: Vec<(u64, u64)>,
    /// Lowered ceilings: from when to when (ns since the epoch) no more than this.
    pub lowered: Vec<(u64, u64, u32)>,
}

/// Everything that a run shares between its tasks.
#[derive(Debug)]
pub struct Stage {
    /// What is run.
    pub scenario: Scenario,
    /// Server and simulator; whoever starts, kills, fills or freezes the server holds it.
    pub world: tokio::sync::Mutex<World>,
    /// The simulator's control API.
    pub control: String,
    /// The server's process; 0 while it is down.
    pub pid: Arc<AtomicI32>,
    /// When the load began.
    pub begin: Instant,
    /// All campaigns so far.
    pub made: Mutex<Vec<Made>>,
    /// What disturbances left.
    pub left: Mutex<Left>,
    marks: Mutex<Vec<Mark>>,
    failures: Mutex<Vec<String>>,
    customer: Mutex<Customer>,
    faults: Mutex<Vec<(usize, Vec<Rule>)>>,
    numbers: AtomicU32,
}

impl Stage {
    /// Starts server and simulator and makes lines and templates.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn set_up(scenario: Scenario) -> anyhow::Result<Self> {
        let faults = standing_faults(&scenario);
        let full = scenario.disturbances.iter().any(|it| it.kind == Kind::StoreFull);
        let world = World::start(WorldPlan {
            lines: load::lines(&scenario),
            plan: scenario.statuses.clone(),
            seed: scenario.top.seed,
            extra: toml::to_string(&scenario.server.config)?,
            on_cql: scenario.server.store == StoreKind::Scylla,
            apart: true,
            webhook_connections: scenario.witness.webhook_connections,
            limits: if full { FileLimit::AnError } else { FileLimit::Deadly },
            faults: faults.clone(),
            api_threads: scenario.witness.api_threads,
            probe_pool: scenario.probe.as_ref().map(|_| PROBE_POOL),
            floor: scenario.floor.is_some(),
            ..WorldPlan::default()
        })
        .await?;
        let customer = world.customer().await?;
        world.furnish(&customer).await?;
        Ok(Self {
            control: world.sim.control(),
            pid: Arc::new(AtomicI32::new(world.server()?.pid())),
            world: tokio::sync::Mutex::new(world),
            begin: Instant::now(),
            made: Mutex::new(Vec::new()),
            left: Mutex::new(Left::default()),
            marks: Mutex::new(Vec::new()),
            failures: Mutex::new(Vec::new()),
            customer: Mutex::new(customer),
            faults: Mutex::new(vec![(STANDING, faults)]),
            numbers: AtomicU32::new(0),
            scenario,
        })
    }

    /// The customer, as connected last.
    #[must_use]
    pub fn customer(&self) -> Customer {
        self.customer.lock().clone()
    }

    /// Takes note that the server runs (again), and connects to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn up(&self, world: &World) -> anyhow::Result<()> {
        let customer = world.customer().await?;
        *self.customer.lock() = customer;
        self.pid.store(world.server()?.pid(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes note that the server is down.
    pub fn down(&self) {
        self.pid.store(0, Ordering::Relaxed);
    }

    /// Allots numbers to so many recipients; returns the first.
    pub fn numbers(&self, recipients: u32) -> u32 {
        self.numbers.fetch_add(recipients, Ordering::Relaxed)
    }

    /// How many recipients there are so far.
    #[must_use]
    pub fn recipients(&self) -> u32 {
        self.numbers.load(Ordering::Relaxed)
    }

    /// Seconds since the begin.
    #[must_use]
    pub fn at_s(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Notes what happened from `from_s` until now.
    pub fn mark(&self, from_s: f64, what: impl Into<String>) {
        self.marks.lock().push(Mark { from_s, to_s: self.at_s(), what: what.into() });
    }

    /// Notes what could not be done; it fails the run.
    pub fn failed(&self, what: impl Display) {
        self.failures.lock().push(format!("{what:#}"));
    }

    /// All marks in the order of their begin.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let mut all = self.marks.lock().clone();
        all.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
        all
    }

    /// What could not be done.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().clone()
    }

    /// Puts the rules of one disturbance in force beside all others, or takes them away when there are none.
    ///
    /// # Errors
    /// When the simulator does not take them.
    pub async fn faults(&self, place: usize, rules: Vec<Rule>) -> anyhow::Result<()> {
        let all: Vec<Rule> = {
            let mut held = self.faults.lock();
            held.retain(|(other, _)| *other != place);
            // What disturbs is looked at before what always stands.
            held.insert(0, (place, rules));
            held.iter().flat_map(|(_, rules)| rules.clone()).collect()
        };
        let body = serde_json::json!({ "rules": all }).to_string();
        let url = format!("{}/faults", self.control);
        let (status, answer) = once("POST", &url, body.as_bytes(), CALL).await?;
        anyhow::ensure!(status == 200, "{url}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(())
    }
}

/// The provider's latency.
#[must_use]
pub fn latency(scenario: &Scenario) -> Vec<Rule> {
    let delay = scenario.provider.latency_ms.map(|[low, high]| Rule::new(Fault::Delay).ms(low, high));
    delay.into_iter().collect()
}

/// Faults that are on all the time, the provider's latency first.
fn standing_faults(scenario: &Scenario) -> Vec<Rule> {
    let mut all = latency(scenario);
    all.extend(scenario.provider.faults.iter().cloned());
    all
}

/// Now, ns since the epoch: the clock that the simulator stamps by.
#[must_use]
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrives_after_a_pause_was_in_flight() {
        let pause = Pause { campaign: "c".to_owned(), answered_ns: 100, resumed_ns: 200, said: 3 };
        // Before the answer and from the resumption on everything may arrive.
        let mut times = vec![90, 99, 100, 150, 199, 200, 201];
        assert_eq!(pause.left(&times, 64), 0);
        times.insert(3, 120);
        assert_eq!(pause.left(&times, 64), 1, "one too many");
        assert_eq!(Pause { said: 4, ..pause.clone() }.left(&times, 64), 0);
        // Saying more than can be in flight excuses nothing.
        assert_eq!(Pause { said: 1_000, ..pause.clone() }.left(&times, 2), 2);
        assert_eq!(Pause { said: 0, ..pause }.left(&[], 64), 0);
    }
}
