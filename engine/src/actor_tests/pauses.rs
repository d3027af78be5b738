//! Pause is a promise: what had not passed the gate does not leave, and nobody is lost or sent twice over it.

use std::time::Duration;

use super::house::{House, acme};
use super::provider::Reply;
use super::together;
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::stage::Shown;
use crate::supervisor::{move_in_time, release_line};

/// Requests that may be between the gate and their count, one for each thread.
const BETWEEN: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_passed_the_gate_stays() {
    let _together = together().await;
    let house = House::open().await;
    let line = house.line("line-1", "", 500).await;
    house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(20)));
    let run = house.started("campaign", "line-1", 600).await;
    house.provider.until(100).await;
    let shut = house.runtime.shut_gate(run.key);
    let passed = house.provider.count() + house.runtime.line_status(line.key).in_flight as usize + BETWEEN;
    let in_flight = house.pause(&run).await;
    drop(shut);
    assert_eq!(house.record(&run).await.state, CampaignState::Paused);
    assert!(house.provider.count() <= passed);
    house.until_quiet(&run).await;
    let seen = house.provider.count();
    assert!(seen <= passed, "{seen} came, {passed} had passed the gate");
    assert!(in_flight <= 600, "{in_flight}");
    let tally = house.tally(&run).await;
    assert_eq!((tally.count(Shown::Queued), tally.count(Shown::Pending)), (seen as u64, 600 - seen as u64));
    house.assert_counts(&run).await;
    house.resume(&run).await;
    house.assert_done(&run).await;
    assert_eq!(house.provider.count(), 600, "what was withdrawn had not left");
}

/// The pause, and later the resumption, stand in the ledger already, written by somebody who told nobody here: a node that lost the pool in
/// that moment, and whose caller asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_as_it_is_asked_for_is_in_force_when_it_is_answered() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 1_000).await;
    house.provider.until(50).await;
    let writes = async |state: CampaignState| {
        let record = Campaign { state, ..house.record(&run).await };
        house.store.update_campaign(record).await.unwrap();
    };
    writes(CampaignState::Paused).await;
    let in_flight = usize::try_from(house.pause(&run).await).unwrap();
    let most = house.provider.count() + in_flight;
    house.until_quiet(&run).await;
    assert!(house.provider.count() <= most, "{} came, at most {most} were announced", house.provider.count());
    writes(CampaignState::Running).await;
    house.resume(&run).await;
    house.provider.until(house.provider.count() + 50).await;
    // Whoever only looks is shown what is so.
    writes(CampaignState::Paused).await;
    let shown = house.control.campaign(&acme(), &run.id).await.unwrap();
    assert_eq!(shown.record.state, CampaignState::Paused);
    let most = house.provider.count() + usize::try_from(house.runtime.in_flight(run.key)).unwrap();
    house.until_quiet(&run).await;
    assert!(house.provider.count() <= most, "{} came, at most {most} were on their way", house.provider.count());
    house.resume(&run).await;
    house.assert_done(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_to_a_pause_bounds_what_still_leaves() {
    let _together = together().await;
    let house = House::with_line(2_000).await;
    let run = house.started("campaign", "line-1", 3_000).await;
    for round in 1..=5 {
        house.provider.until(round * 200).await;
        let in_flight = usize::try_from(house.pause(&run).await).unwrap();
        let most = house.provider.count() + in_flight;
        house.until_quiet(&run).await;
        assert!(house.provider.count() <= most, "{} came, at most {most} were announced", house.provider.count());
        house.resume(&run).await;
    }
    house.assert_done(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_pauses_and_resumptions_in_quick_succession() {
    let _together = together().await;
    let house = House::with_line(2_000).await;
    house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(3)));
    let run = house.started("campaign", "line-1", 3_000).await;
    for _ in 0..50 {
        house.provider.until(house.provider.count() + 3).await;
        house.pause(&run).await;
        house.resume(&run).await;
    }
    house.assert_done(&run).await;
}

/// A hold of the system ends by itself at the moment in which somebody pauses the campaign, or moves its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_does_not_overrule_what_somebody_wrote_meanwhile() {
    let _together = together().await;
    let house = House::with_line(500).await;
    house.control.hold_line(&acme(), "line-1", None, "by hand").await.unwrap();
    let run = house.started("campaign", "line-1", 5).await;
    house.pause(&run).await;
    let line = house.line_record("line-1").await;
    move_in_time(house.engine.context(), run.key);
    release_line(house.engine.context(), line.key);
    // Both are written by tasks of their own; what is asked for after them is handled after them.
    for _ in 0..50 {
        tokio::task::yield_now().await;
        house.store.parked_counts(house.control.now()).await.unwrap();
    }
    assert_eq!(house.record(&run).await.state, CampaignState::Paused);
    assert_eq!(house.line_record("line-1").await, line);
}
