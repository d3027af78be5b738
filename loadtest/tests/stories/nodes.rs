//! Two nodes on one ledger: campaigns on several pools, webhooks to whichever node, and nodes that die, freeze, leave and come back.

use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer};
use sluice_loadtest::harness::cluster::{Cluster, ClusterPlan};
use sluice_loadtest::harness::cql::CqlServer;
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::process::binary;
use sluice_loadtest::wire::client::once;
use sluice_loadtest::witness::fetch::Wanted;
use sluice_proto::v1;
use tokio::time::Instant;

use crate::{PATIENCE, QUICK, prompt, settled};

/// Milliseconds: a taker waits this long after the last sign of life.
const LEASE: u32 = 2_000;
/// Recipients of each campaign.
const RECIPIENTS: u32 = 1_200;
const POOLS: usize = 4;
/// How long what was set aside may still wait at the end: what misses its first look is looked for again after 20 s.
const APPLIED_WITHIN: Duration = Duration::from_secs(40);

struct Story {
    cluster: Cluster,
    campaigns: Vec<CampaignPlan>,
    _cql: CqlServer,
}

impl Story {
    /// Two nodes, four pools, a campaign on each, created at the one and imported at the other.
    async fn begin(name: &str, seed: u64) -> Self {
        println!("seed {seed}");
        let cql = CqlServer::start().await.expect("a CQL server");
        let keyspace = format!("nodes_{name}_{}", std::process::id());
        let sections = cql.sections(&keyspace, LEASE);
        cql.apply_schema(&binary().await.expect("the server's binary"), &sections).await.expect("tables");
        let cluster = Cluster::start(ClusterPlan {
            nodes: 2,
            pools: vec![60; POOLS],
            plan: prompt(),
            seed,
            extra: format!("{QUICK}{sections}"),
            nodes_extra: String::new(),
            own: Vec::new(),
        })
        .await
        .expect("the cluster starts");
        cluster.furnish().await.expect("lines and a template");
        let mut campaigns = Vec::new();
        for n in 0..POOLS {
            let plan = CampaignPlan::new(&format!("campaign-{n}"), &format!("pool-{n}"), "hello");
            let (one, other) = (cluster.customer(n % 2).await, cluster.customer((n + 1) % 2).await);
            one.expect("connects").create(&plan).await.expect("created");
            let (block, other) = (u32::try_from(n).expect("few") + 1, other.expect("connects"));
            // A pool that moves for balance breaks off the imports into it: they are repeated until all is acknowledged.
            let end = Instant::now() + PATIENCE;
            while let Err(error) = other.import(&plan.id, block, RECIPIENTS).await {
                assert!(Instant::now() < end, "{error:#}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            campaigns.push(plan);
        }
        Self { cluster, campaigns, _cql: cql }
    }

    /// Starts all campaigns by one call.
    async fn start_all(&self, node: usize) {
        let campaign_ids = self.campaigns.iter().map(|plan| plan.id.clone()).collect();
        let by = v1::campaign_selection::By::Ids(v1::CampaignIds { campaign_ids });
        let batch = v1::BatchStartCampaignsRequest { selection: Some(v1::CampaignSelection { by: Some(by) }) };
        let customer = self.cluster.customer(node).await.expect("connects");
        let answer = customer.campaigns().batch_start_campaigns(batch).await.expect("answered").into_inner();
        assert!(answer.outcomes.iter().all(|outcome| outcome.code == 0), "{:?}", answer.outcomes);
    }

    async fn until_accepted(&self, number: u64) {
        let end = Instant::now() + PATIENCE;
        while self.cluster.sim.accepted() < number {
            assert!(Instant::now() < end, "{} accepted\n{}", self.cluster.sim.accepted(), self.cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until everything of every pool goes on: each campaign has more accepted than when this began.
    async fn until_all_go_on(&self, node: usize) {
        let customer = self.cluster.customer(node).await.expect("connects");
        for plan in &self.campaigns {
            let before = accepted(&customer, &plan.id).await;
            let end = Instant::now() + PATIENCE;
            while accepted(&customer, &plan.id).await <= before && !is_over(&customer, &plan.id).await {
                assert!(Instant::now() < end, "{} stands still\n{}", plan.id, self.cluster.logs());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits for the end of all campaigns, each looked at through `node`, then compares with the witness. `spare`: how many more than
    /// the ceiling may arrive in a second, where a node stood still between its last look and its write.
    async fn end(self, node: usize, spare: u32) {
        let customer = self.cluster.customer(node).await.expect("connects");
        let mut wanted = Wanted { window: Duration::from_secs(10), ..Wanted::default() };
        for (plan, block) in self.campaigns.iter().zip(1..) {
            settled(&customer, &plan.id).await;
            wanted.campaigns.push(plan.id.clone());
            wanted.recipients.insert(plan.id.clone(), people::phones(block, RECIPIENTS));
        }
        if spare > 0 {
            use sluice_loadtest::harness::config::Lines;
            wanted.ceilings = (0..POOLS).map(|n| (Lines::meta_id(n), 60 + spare)).collect();
        }
        // What was acknowledged while a pool had no owner waits in the ledger; the next owner applies it.
        let applied_by = Instant::now() + APPLIED_WITHIN;
        let report = loop {
            let report = self.cluster.check(node, wanted.clone()).await.expect("both sides can be read");
            if report.ok || report.only_stalled() {
                break report;
            }
            assert!(Instant::now() < applied_by, "{}\n{}", report.text(), self.cluster.logs());
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        println!("{}", report.text());
    }
}

/// The metrics that are there only among nodes, by their reference page, which no node of these shows.
async fn missing_metrics(cluster: &Cluster, nodes: usize) -> Vec<String> {
    let mut shown = String::new();
    for n in 0..nodes {
        let url = format!("{}/metrics", cluster.ops(n).expect("it runs"));
        let (_, page) = once("GET", &url, b"", PATIENCE).await.expect("a page");
        shown.push_str(&String::from_utf8_lossy(&page));
    }
    let reference = include_str!("../../../dashboards/metrics.md");
    let named = reference.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let among = ["sluice_node_", "sluice_forwarded_", "sluice_late_facts_"];
    let of_nodes = named.filter(|name| among.iter().any(|prefix| name.starts_with(prefix)));
    let names: Vec<_> = of_nodes.map(str::to_owned).collect();
    assert!(names.len() > among.len(), "{names:?}");
    names.into_iter().filter(|name| !shown.contains(&format!("# TYPE {name} "))).collect()
}

async fn read(customer: &Customer, campaign: &str) -> v1::Campaign {
    let request = v1::GetCampaignRequest { campaign_id: campaign.to_owned() };
    customer.campaigns().get_campaign(request).await.expect("read").into_inner().campaign.expect("a campaign")
}

async fn accepted(customer: &Customer, campaign: &str) -> u64 {
    read(customer, campaign).await.stats.and_then(|stats| stats.tally).map_or(0, |tally| tally.accepted)
}

async fn is_over(customer: &Customer, campaign: &str) -> bool {
    read(customer, campaign).await.state() == v1::CampaignState::Completed
}

/// kill -9 of one node: the other takes its pools over after the lease, calls and webhooks that are about them wait or are set aside
/// meanwhile. Then the dead one comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_replaced_and_comes_back() {
    let mut story = Story::begin("kill", 81).await;
    story.start_all(1).await;
    story.until_accepted(400).await;
    story.cluster.kill(1).await.expect("killed");
    // Through the node that is left: who owns what is its business.
    story.until_all_go_on(0).await;
    story.cluster.start_node(1).await.expect("it comes back");
    story.until_all_go_on(1).await;
    story.end(1, 0).await;
}

/// A node that stands still for longer than its lease and wakes up believing that it owns what another does by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_does_no_harm_when_it_wakes() {
    let story = Story::begin("freeze", 82).await;
    story.start_all(0).await;
    story.until_accepted(400).await;
    story.cluster.freeze(0).expect("it runs");
    story.until_all_go_on(1).await;
    story.cluster.thaw(0).expect("it stands still");
    story.until_all_go_on(0).await;
    story.end(0, 2).await;
}

/// SIGTERM hands the pools over; the node leaves with nothing in doubt, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_leaves_nothing_in_doubt_and_rejoins() {
    let mut story = Story::begin("drain", 83).await;
    story.start_all(0).await;
    story.until_accepted(400).await;
    let code = story.cluster.drain(1, Duration::from_secs(60)).await.expect("it ends");
    assert_eq!(code, Some(0), "nothing is left in doubt\n{}", story.cluster.logs());
    story.until_all_go_on(0).await;
    story.cluster.start_node(1).await.expect("it comes back");
    story.until_all_go_on(1).await;
    assert_eq!(missing_metrics(&story.cluster, 2).await, Vec::<String>::new(), "named, and on no page");
    let code = story.cluster.drain(0, Duration::from_secs(60)).await.expect("it ends");
    assert_eq!(code, Some(0), "nothing is left in doubt\n{}", story.cluster.logs());
    story.until_all_go_on(1).await;
    story.end(1, 0).await;
}
