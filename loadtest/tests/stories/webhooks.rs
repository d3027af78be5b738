//! Statuses as no provider should send them: one to five times, shuffled, before the answer, for messages whose outcome is in flight.

use sluice_loadtest::harness::client::CampaignPlan;
use sluice_loadtest::sim::faults::{Kind, Rule};
use sluice_loadtest::sim::plan::Plan;

use crate::{launch, one_campaign, prompt, settled, sim, verify, world};

fn rough() -> Plan {
    Plan {
        shuffled: 1.0,
        duplicated: 0.8,
        copies_max: 5,
        before_answer: 0.3,
        conflict: 0.2,
        failed: 0.2,
        unknown: 0.1,
        forged: 0.1,
        batch: [1, 1000],
        entries: 4,
        copy_ms: [1, 300],
        timestamps: sluice_loadtest::sim::plan::Timestamps::Mixed,
        ..prompt()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_order_any_number_before_the_answer() {
    let (mut world, customer) = world(2_000, rough(), 31).await;
    let whatsapp = CampaignPlan::new("rough-wa", "wa", "hello");
    let sms = CampaignPlan::new("rough-sms", "sms", "text");
    launch(&customer, &whatsapp, 1, 2_000).await;
    launch(&customer, &sms, 2, 1_000).await;
    settled(&customer, "rough-wa").await;
    settled(&customer, "rough-sms").await;
    let report = verify(&mut world, &customer, &[(&whatsapp, 1, 2_000), (&sms, 2, 1_000)]).await;
    let stats = sim(&world).stats();
    assert!(stats.forged > 0 && stats.unknown > 0, "{stats:?}");
    assert!(report.campaigns.iter().all(|c| c.tally.conflicts > 0), "conflicts were planned");
    assert!(report.campaigns.iter().all(|c| c.tally.doubles == 0), "nothing went out twice");
}

/// The answer is slow, and all statuses of half of the recipients are there before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_journey_before_the_answer() {
    let plan = Plan { sent_ms: [1, 5], delivered_ms: [1, 5], read_ms: [1, 5], before_answer: 0.5, ..prompt() };
    let (mut world, customer) = world(2_000, plan, 32).await;
    sim(&world).set_faults(vec![Rule::new(Kind::Delay).share(0.5).ms(100, 300)]);
    let campaign = CampaignPlan::new("late-answers", "wa", "hello");
    launch(&customer, &campaign, 1, 1_500).await;
    one_campaign(&mut world, &customer, &campaign, 1_500).await;
}
