//! Failure stories: the real server, real sockets, the simulator as provider, and the check at the end of each.
//!
//! Each story is a file. Seeds are fixed and printed with what fails; the directory of a failed story is kept.

mod bad_requests;
mod cql;
mod disturbed;
mod fooled;
mod kills;
mod migrate;
mod nodes;
mod operations;
mod outages;
mod providers;
mod quorum;
mod restarts;
mod secure;
mod storage;
mod streams;
mod traces;
mod webhooks;

use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, Customer, shown};
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::process::FileLimit;
use sluice_loadtest::harness::world::{World, WorldPlan};
use sluice_loadtest::sim::SimHandle;
use sluice_loadtest::sim::plan::Plan;
use sluice_loadtest::wire::client::once;
use sluice_loadtest::witness::fetch::Wanted;
use sluice_loadtest::witness::report::Report;
use sluice_proto::v1::MessageStatus;

/// Longest time for anything that is waited for. Debug builds on a shared machine are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Server settings that make waits short.
pub(crate) const QUICK: &str = "[retry]\nbackoff_ms_min = 100\nbackoff_ms_max = 400\n\
    [breaker]\nbackoff_ms_min = 100\nbackoff_ms_max = 500\n[provider]\nread_timeout_ms = 1500\n";

/// A plan whose statuses come soon.
pub(crate) fn prompt() -> Plan {
    Plan::prompt()
}

/// What the server says of a campaign or line that metrics and logs call by a number, at `/campaigns/NUMBER` or `/lines/NUMBER`.
pub(crate) async fn named(world: &World, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", world.server().expect("it runs").addresses.ops);
    let (status, body) = once("GET", &url, b"", PATIENCE).await.expect("answered");
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// A world with one Meta line and one SMS line of this ceiling, furnished.
pub(crate) async fn world(ceiling: u32, plan: Plan, seed: u64) -> (World, Customer) {
    println!("seed {seed}");
    let order = WorldPlan {
        lines: Lines { meta: vec![ceiling], sms: vec![ceiling] },
        plan,
        seed,
        extra: QUICK.to_owned(),
        limits: FileLimit::AnError,
        ..WorldPlan::default()
    };
    let world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    (world, customer)
}

/// The simulator of a world, which runs in this process.
pub(crate) fn sim(world: &World) -> &SimHandle {
    world.sim.here().expect("in this process")
}

/// Creates, imports and starts a campaign.
pub(crate) async fn launch(customer: &Customer, plan: &CampaignPlan, block: u32, recipients: u32) {
    customer.create(plan).await.expect("created");
    customer.import(&plan.id, block, recipients).await.expect("imported");
    customer.start(&plan.id).await.expect("started");
}

/// Waits until more than `number` messages were accepted.
pub(crate) async fn until_accepted(world: &World, number: u64) {
    sluice_loadtest::runs::wait::more_than(&world.sim, number, PATIENCE).await.expect("more is accepted");
}

/// Waits until nothing can leave and nothing is in doubt.
pub(crate) async fn settled(customer: &Customer, campaign: &str) {
    customer
        .wait(campaign, PATIENCE, "end of sending and doubts", |c| {
            let tally = c.stats.as_ref().and_then(|s| s.tally.clone()).unwrap_or_default();
            let open = shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Pending);
            !matches!(c.state(), sluice_proto::v1::CampaignState::Running) && open == 0
        })
        .await
        .expect("it ends");
}

/// Compares everything with the ledger, and keeps the directory when something differs.
pub(crate) async fn verify(world: &mut World, customer: &Customer, campaigns: &[(&CampaignPlan, u32, u32)]) -> Report {
    let mut wanted = Wanted { window: Duration::from_secs(10), ..Wanted::default() };
    for (plan, block, recipients) in campaigns {
        wanted.campaigns.push(plan.id.clone());
        wanted.recipients.insert(plan.id.clone(), people::phones(*block, *recipients));
    }
    let report = world.check(customer, wanted).await.expect("both sides can be read");
    let log = std::fs::read_to_string(world.folder().join("server.log")).expect("the server's log");
    let number = log.split(|c: char| !c.is_ascii_digit()).find(|run| run.len() >= 12 && run.starts_with("999"));
    assert_eq!(number, None, "a recipient's number in {}", world.keep().join("server.log").display());
    if report.only_stalled() {
        println!("the machine stood still in the second above the ceiling: {}", report.text());
    } else if !report.ok {
        panic!("{}\nkept: {}", report.text(), world.keep().display());
    }
    report
}

/// One story from start to verdict: one campaign over a pool under faults that `spoil` brings and takes away.
pub(crate) async fn one_campaign(
    world: &mut World,
    customer: &Customer,
    plan: &CampaignPlan,
    recipients: u32,
) -> Report {
    settled(customer, &plan.id).await;
    verify(world, customer, &[(plan, 1, recipients)]).await
}
