//! The ledger on a real CQL server: the same story, the same witness.

use std::time::Duration;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::{Lines, TENANT};
use sluice_loadtest::harness::cql::CqlServer;
use sluice_loadtest::harness::process::binary;
use sluice_loadtest::harness::world::{World, WorldPlan};

use crate::{QUICK, launch, named, one_campaign, prompt, sim, until_accepted};

/// The cluster stands still for longer than the lease: nothing leaves that is not written down, and everything goes on by itself. Then
/// kill -9 of the server: the next one takes the keyspace after the lease, finds what was in flight, and finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_cluster_and_a_killed_server_lose_nothing() {
    println!("seed 71");
    let cql = CqlServer::start().await.expect("a CQL server");
    let keyspace = format!("story_{}", std::process::id());
    let sections = cql.sections(&keyspace, 1_500);
    let told = cql.apply_schema(&binary().await.expect("the server's binary"), &sections).await.expect("tables");
    assert!(told.contains("tables made"), "{told}");
    let order = WorldPlan {
        lines: Lines { meta: vec![300], sms: Vec::new() },
        plan: prompt(),
        seed: 71,
        extra: format!("{QUICK}{sections}"),
        ..WorldPlan::default()
    };
    let mut world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    let campaign = CampaignPlan::new("cluster", "wa", "hello");
    launch(&customer, &campaign, 1, 3_000).await;
    until_accepted(&world, 500).await;
    assert_eq!(named(&world, "/campaigns/1").await, (200, format!("tenant {TENANT}\nid cluster\n")));
    assert_eq!(named(&world, "/lines/1").await, (200, format!("tenant {TENANT}\nid wa-0\n")));
    assert_eq!(named(&world, "/lines/9").await.0, 404);
    match cql.freeze() {
        Some(frozen) => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let stopped = sim(&world).accepted();
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(sim(&world).accepted(), stopped, "nothing is sent that cannot be written down");
            assert!(stopped < 3_000, "it had not finished");
            drop(frozen);
        }
        None => println!("this server is not ours to freeze (SLUICE_CQL_NODES): only the kill is tried"),
    }
    until_accepted(&world, 1_500).await;
    world.kill().await.expect("killed");
    world.start_server().await.expect("it starts from the cluster");
    let customer = world.customer().await.expect("connects");
    let report = one_campaign(&mut world, &customer, &campaign, 3_000).await;
    println!("{}", report.text());
}
