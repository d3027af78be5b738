//! The ledger has three copies on three CQL nodes, and one of those dies: two copies are a quorum, so everything goes on.
//!
//! It wants a server of its own with three nodes, so it is not run beside the others:
//! `.ci/cql run --nodes 3 -- cargo test -p sluice-loadtest --test stories quorum -- --ignored`.

use std::process::Stdio;
use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer, shown};
use sluice_loadtest::harness::cluster::{Cluster, ClusterPlan};
use sluice_loadtest::harness::cql::CqlServer;
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::process::binary;
use sluice_loadtest::witness::audience::Audience;
use sluice_loadtest::witness::compare::Policy;
use sluice_loadtest::witness::fetch::Wanted;
use sluice_proto::v1::{CampaignState, MessageStatus};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::{QUICK, prompt};

const POOLS: usize = 4;
/// Recipients of the campaigns that are running when the node dies, and of those that begin while it is away.
const RECIPIENTS: [u32; 2] = [1_500, 300];
/// The default: three servers, two nodes and the simulator share this machine, and what is looked at here is not a lease that ended.
const LEASE_MS: u32 = 6_000;
/// Longest for anything that is waited for, all of them on one busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// The CQL node that dies: the first contact point of both, and the one by which the other CQL nodes found each other.
const DIES: &str = "1";

/// `.ci/cql` has a word with the server around this test.
async fn tell(word: &str, node: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/cql");
    let said = Command::new("bash").args([script, word, node]).stderr(Stdio::inherit()).output().await.expect("bash");
    assert!(said.status.success(), "`.ci/cql {word} {node}` says above why");
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

/// Asks until it is answered well: while a node of the ledger goes, a call may have to be repeated.
async fn again<T, F>(what: &str, ask: impl Fn() -> F) -> T
where
    F: Future<Output = anyhow::Result<T>>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < end, "{what}: {error:#}"),
        }
        sleep(LOOK).await;
    }
}

struct Story {
    cluster: Cluster,
    campaigns: Vec<(CampaignPlan, Audience)>,
}

impl Story {
    async fn customer(&self, node: usize) -> Customer {
        self.cluster.customer(node).await.expect("connects")
    }

    /// A campaign on each pool, of both policies in turn: created at one node, imported and started at the other.
    async fn launch(&mut self, wave: usize) {
        for pool in 0..POOLS {
            let policy = if pool.is_multiple_of(2) { Policy::AtMostOnce } else { Policy::AtLeastOnce };
            let plan =
                CampaignPlan::new(&format!("wave-{wave}-{pool}"), &format!("pool-{pool}"), "hello").policy(policy);
            let block = u32::try_from(wave * POOLS + pool).expect("few") + 1;
            let (one, other) = (self.customer(pool % 2).await, self.customer((pool + 1) % 2).await);
            let (id, recipients) = (plan.id.as_str(), RECIPIENTS[wave]);
            again("creation", || one.create(&plan)).await;
            again("import", || other.import(id, block, recipients)).await;
            change(&other, id, CampaignState::Draft).await;
            self.campaigns.push((plan, people::phones(block, recipients)));
        }
    }

    /// Waits until every campaign has sent more than when this began, or has nothing to send any more.
    async fn until_all_go_on(&self, node: usize) {
        let customer = self.customer(node).await;
        for (plan, _) in &self.campaigns {
            let look = || again("look", || customer.tally(&plan.id));
            let (before, end) = (look().await.accepted, Instant::now() + PATIENCE);
            loop {
                let now = look().await;
                if now.accepted > before || shown(&now, MessageStatus::Pending) == 0 {
                    break;
                }
                assert!(Instant::now() < end, "{} stands still\n{}", plan.id, self.cluster.logs());
                sleep(LOOK).await;
            }
        }
    }

    /// Waits for the end of all campaigns, then compares everything with the simulator.
    async fn end(self, node: usize) {
        let customer = self.customer(node).await;
        let mut wanted = Wanted { window: Duration::from_secs(10), ..Wanted::default() };
        for (plan, audience) in &self.campaigns {
            let end = Instant::now() + PATIENCE;
            loop {
                let seen = again("look", || customer.get(&plan.id)).await;
                let tally = seen.stats.as_ref().and_then(|stats| stats.tally.clone()).unwrap_or_default();
                let open = shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Pending);
                if seen.state() == CampaignState::Completed && open == 0 {
                    break;
                }
                assert!(Instant::now() < end, "{seen:?}\n{}", self.cluster.logs());
                sleep(LOOK).await;
            }
            wanted.campaigns.push(plan.id.clone());
            wanted.recipients.insert(plan.id.clone(), *audience);
        }
        // A status that was set aside is looked for at most some minutes later.
        let end = Instant::now() + PATIENCE;
        let report = loop {
            let report = again("check", || self.cluster.check(node, wanted.clone())).await;
            if report.ok || report.only_stalled() {
                break report;
            }
            assert!(Instant::now() < end, "{}\n{}", report.text(), self.cluster.logs());
            sleep(LOOK).await;
        };
        println!("{}", report.text());
    }
}

/// Takes a campaign out of this state, by start, pause or resume. The answer of a call before may have been lost.
async fn change(customer: &Customer, id: &str, from: CampaignState) {
    again("change", || async move {
        let done = match from {
            CampaignState::Draft => customer.start(id).await,
            CampaignState::Paused => customer.resume(id).await,
            _ => customer.pause(id).await.map(drop),
        };
        if customer.get(id).await?.state() == from { done } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three CQL nodes to itself: `.ci/test` runs it by itself"]
async fn one_of_three_cql_nodes_dies_and_comes_back() {
    println!("seed 84");
    let cql = CqlServer::start().await.expect("a CQL server");
    assert_eq!(cql.nodes().len(), 3, "run it by `.ci/cql run --nodes 3 -- …`");
    let keyspace = format!("quorum_{}", std::process::id());
    let sections = cql.sections(&keyspace, LEASE_MS).replace("replication = 1", "replication = 3");
    assert!(sections.contains("replication = 3"), "{sections}");
    let program = binary().await.expect("the server's binary");
    again("tables", || cql.apply_schema(&program, &sections)).await;
    let cluster = Cluster::start(ClusterPlan {
        nodes: 2,
        pools: vec![60; POOLS],
        plan: prompt(),
        seed: 84,
        extra: format!("{QUICK}{sections}"),
        nodes_extra: String::new(),
        own: Vec::new(),
    })
    .await
    .expect("the cluster starts");
    again("lines and a template", || cluster.furnish()).await;
    let mut story = Story { cluster, campaigns: Vec::new() };
    story.launch(0).await;
    story.until_all_go_on(0).await;

    assert_eq!(tell("kill", DIES).await, "killed");
    story.until_all_go_on(1).await;
    // Decisions and imports too.
    story.launch(1).await;
    let (customer, (paused, _)) = (story.customer(0).await, &story.campaigns[0]);
    if customer.get(&paused.id).await.is_ok_and(|campaign| campaign.state() == CampaignState::Running) {
        change(&customer, &paused.id, CampaignState::Running).await;
        change(&customer, &paused.id, CampaignState::Paused).await;
    }
    story.until_all_go_on(0).await;

    let group = tell("start", DIES).await;
    assert!(group.parse::<u32>().is_ok(), "{group}");
    story.until_all_go_on(1).await;
    story.end(0).await;
}
