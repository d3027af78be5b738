//! Orderly stops, and restarts at the worst moment for a ceiling.

use std::time::Duration;

use sluice_loadtest::harness::client::{CampaignPlan, shown};
use sluice_proto::v1::MessageStatus;

use crate::{launch, one_campaign, prompt, sim, until_accepted, world};

/// SIGTERM under load: exit code 0, nothing in doubt, everything goes on after the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_leaves_nothing_in_doubt() {
    let (mut world, _) = world(1_000, prompt(), 51).await;
    let customer = world.customer().await.expect("connects");
    let campaign = CampaignPlan::new("term", "wa", "hello");
    launch(&customer, &campaign, 1, 4_000).await;
    for round in 1..=3 {
        until_accepted(&world, round * 400).await;
        let code = world.terminate(Duration::from_secs(60)).await.expect("it ends");
        assert_eq!(code, Some(0));
        world.start_server().await.expect("it starts again");
        let customer = world.customer().await.expect("connects");
        let tally = customer.tally("term").await.expect("a tally");
        let doubt = shown(&tally, MessageStatus::InDoubt) + shown(&tally, MessageStatus::Unconfirmed);
        assert_eq!(doubt, 0, "round {round}");
    }
    let customer = world.customer().await.expect("connects");
    let report = one_campaign(&mut world, &customer, &campaign, 4_000).await;
    assert_eq!(report.ledger.accepted, 4_000);
}

/// Killed and started again within a second of a full window, again and again: the ceiling holds over the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_within_a_second_of_a_full_window_keeps_the_ceiling() {
    let (mut world, customer) = world(400, prompt(), 52).await;
    let campaign = CampaignPlan::new("window", "wa", "hello");
    launch(&customer, &campaign, 1, 4_000).await;
    for round in 1..=5 {
        until_accepted(&world, sim(&world).accepted() + 450).await;
        world.kill().await.expect("killed");
        world.start_server().await.unwrap_or_else(|e| panic!("round {round}: {e:#}"));
    }
    let customer = world.customer().await.expect("connects");
    let report = one_campaign(&mut world, &customer, &campaign, 4_000).await;
    let rate = &report.rates[0];
    assert!(rate.highest <= 400 || report.only_stalled(), "{} in one second, ceiling 400", rate.highest);
}
