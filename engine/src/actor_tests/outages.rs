//! A provider that is away: the line stops by its breaker, probes, and goes on by itself.

use super::house::{House, unless};
use super::provider::Reply;
use super::{eventually, together};
use crate::control::Binding;
use crate::domain::campaign::CampaignState;
use crate::domain::stage::Shown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_nobody_reaches_leaves_nothing_in_doubt() {
    let _together = together().await;
    let house = House::open().await;
    let line = house.line("line-1", "", 1_000).await;
    house.provider.set_up(false);
    let run = house.started("campaign", "line-1", 200).await;
    assert!(
        eventually(async || house.runtime.line_status(line.key).probing).await,
        "the breaker did not stop the line"
    );
    // What waits goes back: no more than the probe is in flight.
    assert!(eventually(async || house.tally(&run).await.open <= 1).await, "{:?}", house.tally(&run).await);
    let progress = house.runtime.progress(run.key).unwrap();
    assert!(eventually(async || progress.borrow().binding == Binding::LinesUnavailable).await);
    assert_eq!(house.tally(&run).await.count(Shown::InDoubt), 0);
    assert_eq!(house.tally(&run).await.accepted, 0);
    house.provider.set_up(true);
    house.assert_done(&run).await;
    assert_eq!(house.tally(&run).await.count(Shown::Queued), 200, "nothing was in doubt");
    assert!(!house.runtime.line_status(line.key).probing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_costs_tens_and_not_all() {
    let _together = together().await;
    let house = House::open().await;
    let line = house.line("line-1", "", 1_000).await;
    let well = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&well);
    house.provider.answers(unless(move |_| (!failing.load(Ordering::SeqCst)).then_some(Reply::TakeAndFail)));
    let run = house.started("campaign", "line-1", 1_000).await;
    assert!(
        eventually(async || house.runtime.line_status(line.key).probing).await,
        "the breaker did not stop the line"
    );
    let at_stop = house.provider.count();
    // Two probes more.
    house.provider.until(at_stop + 2).await;
    well.store(true, Ordering::SeqCst);
    house.until_state(&run, CampaignState::Completed).await;
    let doubtful = house.shown(&run, Shown::InDoubt).await;
    assert!((20..=70).contains(&doubtful), "{doubtful} in doubt");
    assert_eq!(house.shown(&run, Shown::Queued).await, 1_000 - doubtful);
    house.assert_once_each(&run);
    house.assert_counts(&run).await;
}
