//! Five panics in a row stop the one that panics, and no other.

use super::house::{House, acme};
use super::{alone, eventually};
use crate::control::{CampaignUpdate, LineUpdate};
use crate::domain::campaign::{CampaignState, HoldKind};
use crate::domain::line::LineHoldKind;
use crate::domain::stage::Shown;
use crate::faults;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_that_panics_is_held_and_another_goes_on() {
    let _alone = alone().await;
    let house = House::with_line(300).await;
    let bad = house.started("bad", "line-1", 300).await;
    let good = house.started("good", "line-1", 300).await;
    house.provider.until(20).await;
    faults::arm("campaign.changed", 5);
    // Only this campaign hears of its updates; one that comes while it starts anew is not heard at all.
    let mut workers = 100;
    while faults::owed("campaign.changed") > 0 {
        workers += 1;
        let update = CampaignUpdate { workers: Some(workers), ..CampaignUpdate::default() };
        house.control.update_campaign(&acme(), "bad", None, update).await.unwrap();
    }
    house.until_state(&bad, CampaignState::Held).await;
    let hold = house.record(&bad).await.hold.unwrap();
    assert_eq!((hold.kind, hold.until), (HoldKind::Panics, None));
    assert!(hold.reason.contains("5 times in a row"), "{}", hold.reason);
    house.assert_done(&good).await;
    house.until_quiet(&bad).await;
    assert!(house.shown(&bad, Shown::Pending).await > 0);
    house.assert_counts(&bad).await;
    house.resume(&bad).await;
    house.assert_done(&bad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_panics_is_held_and_another_goes_on() {
    for point in ["line.stopped", "sender.pump"] {
        let _alone = alone().await;
        let house = House::open().await;
        let first = house.line("line-1", "both", 200).await;
        house.line("line-2", "both", 200).await;
        // Held or not, a line that has nothing to do does not panic.
        house.control.hold_line(&acme(), "line-2", None, "later").await.unwrap();
        let run = house.started("campaign", "both", 300).await;
        house.provider.until(20).await;
        faults::arm(point, 5);
        let mut ceiling = 200;
        while faults::owed(point) > 0 {
            ceiling += 1;
            let update = LineUpdate { ceiling: Some(ceiling), ..LineUpdate::default() };
            house.control.update_line(&acme(), "line-1", None, update).await.unwrap();
        }
        assert!(eventually(async || house.line_record("line-1").await.hold.is_some()).await, "{point}");
        let hold = house.line_record("line-1").await.hold.unwrap();
        assert_eq!((hold.kind, hold.until), (LineHoldKind::Panics, None));
        assert!(hold.reason.contains("5 times in a row"), "{}", hold.reason);
        assert_eq!(house.runtime.line_status(first.key).allowed, 0.0);
        assert_eq!(house.record(&run).await.state, CampaignState::Running);
        house.control.release_line(&acme(), "line-2", None).await.unwrap();
        house.assert_done(&run).await;
        assert!(house.line_record("line-2").await.hold.is_none());
    }
}
