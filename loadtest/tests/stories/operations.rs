//! Pause, cancel and changes of rate under load.

use std::time::Duration;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::harness::config::TENANT;
use sluice_loadtest::witness::records::Shown;
use sluice_proto::v1;

use crate::{launch, named, one_campaign, prompt, sim, until_accepted, world};

/// After a pause nothing leaves but what was in flight, also when killed right after. (How soon it answers is a figure:
/// `loadtest run pause`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_is_a_promise() {
    let (mut world, mut customer) = world(2_000, prompt(), 71).await;
    let campaign = CampaignPlan::new("pause", "wa", "hello");
    launch(&customer, &campaign, 1, 8_000).await;
    for round in 0..6 {
        until_accepted(&world, sim(&world).accepted() + 300).await;
        let before = tokio::time::Instant::now();
        let in_flight = customer.pause("pause").await.expect("paused");
        let took = before.elapsed();
        let at_answer = sim(&world).accepted();
        println!("round {round}: answered in {took:?}, {in_flight} in flight");
        if round % 2 == 1 {
            world.kill().await.expect("killed");
            world.start_server().await.expect("started");
            customer = world.customer().await.expect("connects");
        }
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        let more = sim(&world).accepted() - at_answer;
        assert!(more <= in_flight, "round {round}: {more} left after the pause, {in_flight} were in flight");
        let state = customer.get("pause").await.expect("the campaign").state();
        assert_eq!(state, v1::CampaignState::Paused, "round {round}");
        customer.resume("pause").await.expect("resumed");
    }
    one_campaign(&mut world, &customer, &campaign, 8_000).await;
}

/// A cancel under load: what was not sent is cancelled, what was sent is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_under_load_adds_up() {
    let (mut world, customer) = world(1_000, prompt(), 72).await;
    let campaign = CampaignPlan::new("cancel", "wa", "hello");
    launch(&customer, &campaign, 1, 20_000).await;
    until_accepted(&world, 700).await;
    assert_eq!(named(&world, "/campaigns/1").await, (200, format!("tenant {TENANT}\nid cancel\n")));
    assert_eq!(named(&world, "/lines/2").await, (200, format!("tenant {TENANT}\nid sms-0\n")));
    assert_eq!(named(&world, "/campaigns/9").await.0, 404);
    let request = v1::CancelCampaignRequest { campaign_id: "cancel".to_owned(), etag: String::new() };
    let in_flight = customer.campaigns().cancel_campaign(request).await.expect("cancelled").into_inner().in_flight;
    let at_answer = sim(&world).accepted();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(sim(&world).accepted() - at_answer <= in_flight);
    let report = one_campaign(&mut world, &customer, &campaign, 20_000).await;
    let tally = &report.campaigns[0].tally;
    assert_eq!(tally.of(Shown::Cancelled) + report.ledger.accepted, 20_000);
    assert!(tally.of(Shown::Cancelled) > 10_000);
}

/// A new rate takes effect within a second and is held as a mean; a lower ceiling binds at once. The lower bounds leave room for a busy
/// machine; the figures measure how much is used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_rate_takes_effect() {
    // Above is exact; below only shows which limit binds, since a busy machine sends less. How near a rate comes is a figure.
    let (mut world, customer) = world(1_000, prompt(), 73).await;
    let campaign = CampaignPlan::new("rate", "wa", "hello").rate(300);
    launch(&customer, &campaign, 1, 3_000).await;
    until_accepted(&world, 300).await;
    let measured = |seconds: u64| {
        let sim = sim(&world);
        async move {
            let before = sim.accepted();
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (sim.accepted() - before) as f64 / seconds as f64
        }
    };
    let fast = measured(3).await;
    assert!((100.0..=330.0).contains(&fast), "{fast}/s at 300/s");
    let slower = v1::UpdateCampaignRequest {
        campaign_id: "rate".to_owned(),
        rate: Some(v1::SendRate { count: 50, per: v1::RatePeriod::Second.into(), burst: None }),
        ..v1::UpdateCampaignRequest::default()
    };
    customer.campaigns().update_campaign(slower).await.expect("updated");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slow = measured(3).await;
    assert!((10.0..=60.0).contains(&slow), "{slow}/s at 50/s");
    let free = v1::UpdateCampaignRequest {
        campaign_id: "rate".to_owned(),
        clear_rate: true,
        ..v1::UpdateCampaignRequest::default()
    };
    customer.campaigns().update_campaign(free).await.expect("updated");
    let lower = v1::UpdateLineRequest {
        line_id: "wa-0".to_owned(),
        ceiling_per_second: Some(400),
        ..v1::UpdateLineRequest::default()
    };
    customer.lines().update_line(lower).await.expect("updated");
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let capped = measured(2).await;
    assert!((75.0..=404.0).contains(&capped), "{capped}/s at a ceiling of 400/s");
    one_campaign(&mut world, &customer, &campaign, 3_000).await;
}
