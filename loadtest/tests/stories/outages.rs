//! The provider misbehaves: too fast, down, hanging, resetting after it accepted.

use std::time::Duration;

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::sim::faults::{Body, Kind, Rule};
use sluice_loadtest::witness::compare::Policy;

use crate::{PATIENCE, launch, one_campaign, prompt, sim, until_accepted, world};

/// A storm of rate-limit answers: the line slows and grows back, nothing is lost, no retry budget is charged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storm_of_429() {
    let (mut world, customer) = world(1_000, prompt(), 41).await;
    let campaign = CampaignPlan::new("storm", "wa", "hello");
    launch(&customer, &campaign, 1, 3_000).await;
    until_accepted(&world, 500).await;
    let mut storm = Rule::new(Kind::RateLimit).share(0.7);
    storm.for_ms = Some(2_000);
    sim(&world).set_faults(vec![storm]);
    let report = one_campaign(&mut world, &customer, &campaign, 3_000).await;
    let refused = report.ledger.refused.values().flatten().filter(|(code, _)| **code == 130_429);
    assert!(refused.map(|(_, n)| n).sum::<u64>() > 10, "the storm was felt: {:?}", report.ledger.refused);
    assert_eq!(report.ledger.accepted, 3_000, "everybody exactly once");
}

/// The provider is down and comes back. Every attempt that had begun is in doubt; the breaker keeps them few.
async fn outage(rule: Rule, seed: u64) {
    let (mut world, customer) = world(1_000, prompt(), seed).await;
    let campaign = CampaignPlan::new("outage", "wa", "hello").workers(64);
    launch(&customer, &campaign, 1, 4_000).await;
    until_accepted(&world, 300).await;
    sim(&world).set_faults(vec![rule]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    sim(&world).set_faults(vec![]);
    let report = one_campaign(&mut world, &customer, &campaign, 4_000).await;
    let tally = &report.campaigns[0].tally;
    let unconfirmed = tally.of(sluice_loadtest::witness::records::Shown::Unconfirmed);
    // What was in flight when it went down, the run that trips the breaker, and one probe for each pause.
    assert!(unconfirmed <= 64 + 20 + 50, "{unconfirmed} unconfirmed of an outage");
    assert_eq!(report.campaigns[0].ledger.recipients + unconfirmed, 4_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_with_resets() {
    outage(Rule::new(Kind::ResetUnread), 42).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_with_502_pages() {
    outage(Rule::new(Kind::Error).answering(502, 0, Body::Html), 43).await;
}

/// Accepted, but the connection is reset or hangs, or an error is answered: at most once waits for the echo and never sends again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_and_then_silence() {
    let (mut world, customer) = world(1_000, prompt(), 44).await;
    sim(&world).set_faults(vec![
        Rule::new(Kind::AcceptThenReset).share(0.02),
        Rule::new(Kind::AcceptThenHang).share(0.005).ms(3_000, 3_000),
        Rule::new(Kind::AcceptThenError).share(0.02).answering(500, 0, Body::Empty),
    ]);
    let campaign = CampaignPlan::new("silence", "wa", "hello").workers(512);
    launch(&customer, &campaign, 1, 3_000).await;
    let report = one_campaign(&mut world, &customer, &campaign, 3_000).await;
    assert_eq!(report.ledger.accepted, 3_000, "each was accepted, none again");
    assert!(report.ledger.spoilt.values().sum::<u64>() > 30, "{:?}", report.ledger.spoilt);
    let tally = &report.campaigns[0].tally;
    assert_eq!(tally.of(sluice_loadtest::witness::records::Shown::Unconfirmed), 0, "every echo came");
}

/// The same without any echo: at most once leaves them unconfirmed; at least once sends them again after its grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_without_an_echo() {
    let plan = sluice_loadtest::sim::plan::Plan::silent();
    let (mut world, customer) = world(1_000, plan, 45).await;
    sim(&world).set_faults(vec![Rule::new(Kind::AcceptThenReset).share(0.05)]);
    let once = CampaignPlan::new("once", "wa", "hello").workers(512);
    let again = CampaignPlan::new("again", "sms", "text").policy(Policy::AtLeastOnce).workers(512);
    launch(&customer, &once, 1, 600).await;
    launch(&customer, &again, 2, 600).await;
    crate::settled(&customer, "once").await;
    crate::settled(&customer, "again").await;
    let report = crate::verify(&mut world, &customer, &[(&once, 1, 600), (&again, 2, 600)]).await;
    let [once, again] = &report.campaigns[..] else { panic!("two campaigns") };
    assert_eq!(once.ledger.doubled, 0);
    assert!(once.tally.of(sluice_loadtest::witness::records::Shown::Unconfirmed) > 5);
    assert!(again.ledger.doubled > 5, "at least once has sent again");
}

/// A refused token holds every line of the account; messages stay pending; released, everything goes out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_holds_the_account_and_loses_nothing() {
    let (mut world, customer) = world(500, prompt(), 46).await;
    let campaign = CampaignPlan::new("token", "wa", "hello");
    launch(&customer, &campaign, 1, 1_500).await;
    until_accepted(&world, 300).await;
    sim(&world).set_faults(vec![Rule::new(Kind::Error).answering(401, 190, Body::Json)]);
    let end = tokio::time::Instant::now() + PATIENCE;
    let line = loop {
        let request = sluice_proto::v1::GetLineRequest { line_id: "wa-0".to_owned() };
        let line = customer.lines().get_line(request).await.expect("the line").into_inner().line.expect("a line");
        if line.health.as_ref().is_some_and(|h| h.state() == sluice_proto::v1::LineState::Held) {
            break line;
        }
        assert!(tokio::time::Instant::now() < end, "the line was not held: {line:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let hold = line.health.and_then(|h| h.hold).expect("a reason");
    assert_eq!(hold.reason(), sluice_proto::v1::HoldReason::Account, "{hold:?}");
    sim(&world).set_faults(vec![]);
    // Refusals that were under way would hold the line again after the release.
    let quiet = |c: &sluice_proto::v1::Campaign| c.stats.as_ref().is_some_and(|s| s.in_flight == 0);
    customer.wait("token", PATIENCE, "end of what was in flight", quiet).await.expect("quiet");
    let release = sluice_proto::v1::ReleaseLineRequest { line_id: "wa-0".to_owned(), etag: String::new() };
    customer.lines().release_line(release).await.expect("released");
    let report = one_campaign(&mut world, &customer, &campaign, 1_500).await;
    assert_eq!(report.ledger.accepted, 1_500);
}
