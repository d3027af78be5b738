//! "Send again" on a campaign that is over: it goes back to work whatever comes between the decision and the record, and stops
//! again when it is told to.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::house::{House, Run, acme, unless};
use super::provider::Reply;
use super::{eventually, together};
use crate::control::ResolveSelection;
use crate::domain::campaign::{CampaignState, DeliveryPolicy};
use crate::domain::ids::MessageKey;
use crate::domain::message::{Decision, Event};
use crate::domain::stage::Shown;
use crate::domain::time::UnixMillis;
use crate::store::Entry;

/// A completed campaign of which three messages are unconfirmed; the provider took them.
async fn with_doubts(house: &House, stop_in: Option<Duration>) -> Run {
    house.line("line-1", "", 500).await;
    house.provider.answers(unless(|seen| (seen.number < 3).then_some(Reply::TakeAndCut)));
    let stop_at = stop_in.map(|span| house.control.now().after(span));
    let run = house
        .draft("campaign", "line-1", 20, |settings| {
            settings.policy = Some(DeliveryPolicy::AtMostOnce { echo_wait_ms: 1_000 });
            settings.stop_at = stop_at;
            settings.settle_window = Some(Duration::from_secs(3_600));
        })
        .await;
    house.start(&run).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.until_shown(&run, Shown::Unconfirmed, 3).await;
    run
}

/// The decision alone, as if the engine had ended directly after it.
async fn decide_only(house: &House, run: &Run, at: UnixMillis) {
    let doubtful = house.messages(run).await.into_iter().filter(|message| message.shown == Shown::Unconfirmed);
    let event = Event::Resolved { decision: Decision::SendAgain, at };
    let entry = |seq| Entry { key: MessageKey { campaign: run.key, seq }, event: event.clone() };
    house.store.commit(doubtful.map(|message| entry(message.key.seq)).collect()).await.unwrap();
}

async fn resolve(house: &House, run: &Run) -> u64 {
    let filter = ResolveSelection::Filter("status=unconfirmed".to_owned());
    house.control.resolve(&acme(), &run.id, filter, Decision::SendAgain).await.unwrap().resolved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_finds_what_was_decided_and_not_reopened_also_in_a_settled_campaign() {
    let _together = together().await;
    let house = House::open().await;
    let run = with_doubts(&house, None).await;
    let decided_at = house.control.now();
    house.step.store(3_601_000, Ordering::SeqCst);
    assert!(eventually(async || house.record(&run).await.settled_at.is_some()).await);
    let (dir, provider) = (Arc::clone(&house.dir), Arc::clone(&house.provider));
    assert_eq!(provider.count(), 20);
    decide_only(&house, &run, decided_at).await;
    house.close().await;

    let house = House::on(dir, provider, |_| {}).await;
    house.provider.until(23).await;
    house.until_shown(&run, Shown::Queued, 20).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_without_its_reopening_is_healed_while_the_engine_runs() {
    let _together = together().await;
    let house = House::open().await;
    let run = with_doubts(&house, None).await;
    let event = Event::Resolved { decision: Decision::SendAgain, at: house.control.now() };
    let doubtful = house.messages(&run).await.into_iter().filter(|message| message.shown == Shown::Unconfirmed);
    let entries = doubtful.map(|message| Entry { key: message.key, event: event.clone() }).collect();
    house.runtime.commit(entries).await.unwrap();
    house.provider.until(23).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.until_shown(&run, Shown::Queued, 20).await;
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_campaign_that_is_cancelled_sends_no_more() {
    let _together = together().await;
    let house = House::open().await;
    let run = with_doubts(&house, None).await;
    house.control.hold_line(&acme(), "line-1", None, "not now").await.unwrap();
    assert_eq!(resolve(&house, &run).await, 3);
    assert_eq!(house.record(&run).await.state, CampaignState::Running);
    house.control.cancel_campaign(&acme(), &run.id, None).await.unwrap();
    house.control.release_line(&acme(), "line-1", None).await.unwrap();
    let tally = house.tally(&run).await;
    assert_eq!((tally.count(Shown::Pending), tally.count(Shown::Cancelled)), (0, 3));
    house.assert_counts(&run).await;
    // Another campaign shows that the line sends.
    let other = house.started("other", "line-1", 10).await;
    house.assert_done(&other).await;
    assert_eq!(house.taken(&run).len(), 20);
    assert_eq!(house.record(&run).await.state, CampaignState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_campaign_expires_at_its_new_stop_at() {
    let _together = together().await;
    let house = House::open().await;
    let run = with_doubts(&house, Some(Duration::from_secs(600))).await;
    house.control.hold_line(&acme(), "line-1", None, "not now").await.unwrap();
    assert_eq!(resolve(&house, &run).await, 3);
    house.step.store(601_000, Ordering::SeqCst);
    house.until_state(&run, CampaignState::Completed).await;
    house.until_shown(&run, Shown::Expired, 3).await;
    assert_eq!(house.shown(&run, Shown::Pending).await, 0);
    house.assert_counts(&run).await;
}
