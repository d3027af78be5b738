//! A stop in good order leaves nothing in doubt; a hard one leaves in doubt what was in flight, and no more.

use std::sync::Arc;
use std::time::Duration;

use super::house::House;
use super::provider::Reply;
use super::together;
use crate::domain::campaign::CampaignState;
use crate::domain::stage::Shown;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_answers() {
    let _together = together().await;
    let house = House::with_line(500).await;
    house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(100)));
    let run = house.started("campaign", "line-1", 400).await;
    house.provider.until(100).await;
    let (dir, provider) = (Arc::clone(&house.dir), Arc::clone(&house.provider));
    let stopped = house.close().await;
    assert_eq!((stopped.in_doubt, stopped.flushed), (0, true));
    let seen = provider.count();

    let house = House::on(dir, provider, |_| {}).await;
    assert_eq!(house.shown(&run, Shown::Queued).await, seen as u64, "every answer reached the ledger");
    assert_eq!(house.shown(&run, Shown::InDoubt).await, 0);
    house.assert_counts(&run).await;
    house.assert_done(&run).await;
}

/// The first engine lives in a runtime of its own, which ends under it as in a kill: nothing that was not in the ledger is left.
#[test]
fn after_a_hard_stop_what_was_in_flight_is_in_doubt() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let first = runtime();
    let (together, run, dir, provider, in_flight) = first.block_on(async {
        let together = together().await;
        let house = House::with_line(500).await;
        house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(100)));
        let run = house.started("campaign", "line-1", 400).await;
        house.provider.until(100).await;
        let (dir, provider) = (Arc::clone(&house.dir), Arc::clone(&house.provider));
        let most = house.runtime.in_flight(run.key) + 50;
        let store = Arc::clone(&house.store);
        drop(house);
        // No answer and no outcome reaches the ledger after this.
        store.close().await.unwrap();
        (together, run, dir, provider, most)
    });
    first.shutdown_timeout(Duration::from_secs(10));
    let seen = provider.count() as u64;

    runtime().block_on(async {
        let house = House::on(dir, provider, |_| {}).await;
        let doubtful = house.shown(&run, Shown::InDoubt).await;
        assert!((1..=in_flight).contains(&doubtful), "{doubtful} in doubt, {in_flight} in flight");
        house.assert_counts(&run).await;
        house.until_state(&run, CampaignState::Completed).await;
        let tally = house.tally(&run).await;
        assert_eq!(tally.count(Shown::InDoubt), doubtful);
        assert_eq!(tally.count(Shown::Queued), 400 - doubtful);
        // Whoever was not in doubt was sent once; who was in doubt, once or not at all.
        let taken = house.taken_by_recipient(&run);
        assert!(taken.values().all(|times| *times == 1), "sent twice");
        assert!(taken.len() as u64 >= 400 - doubtful);
        assert!(seen <= 400);
        house.assert_counts(&run).await;
    });
    drop(together);
}
