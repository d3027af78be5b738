//! How campaigns end: completed, cancelled, expired; and how they begin again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::house::{House, acme, unless};
use super::provider::Reply;
use super::{eventually, together};
use crate::control::{Binding, ResolveSelection};
use crate::domain::campaign::{Campaign, CampaignState, DeliveryPolicy};
use crate::domain::message::Decision;
use crate::domain::stage::Shown;
use crate::store::embedded::LEDGER_FILE;
use crate::webhook::Reported;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_campaign_sends_no_more() {
    let _together = together().await;
    let house = House::with_line(500).await;
    house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(20)));
    let run = house.started("campaign", "line-1", 500).await;
    house.provider.until(100).await;
    let halted = house.control.cancel_campaign(&acme(), &run.id, None).await.unwrap();
    let most = house.provider.count() as u64 + halted.in_flight;
    house.until_quiet(&run).await;
    let seen = house.provider.count() as u64;
    assert!(seen <= most, "{seen} came, at most {most} were announced");
    let tally = house.tally(&run).await;
    assert_eq!((tally.count(Shown::Queued), tally.count(Shown::Cancelled)), (seen, 500 - seen));
    house.assert_counts(&run).await;
    // Statuses still apply, and settle it.
    house.report(&house.taken(&run), Reported::Read).await;
    assert_eq!(house.shown(&run, Shown::Read).await, seen);
    assert!(eventually(async || house.record(&run).await.settled_at.is_some()).await);
    house.assert_counts(&run).await;
}

/// The end stands in the ledger already, written by somebody who told nobody here: a former owner of the pool, in the moment in which it lost
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_somebody_else_wrote_is_followed() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 20).await;
    let ended = Campaign { state: CampaignState::Completed, ..house.record(&run).await };
    house.store.update_campaign(ended).await.unwrap();
    let registry = &house.engine.context().registry;
    let state = || registry.get(run.key).map(|shared| shared.record().state);
    assert!(eventually(async || state() == Some(CampaignState::Completed)).await, "{:?}", state());
    house.assert_once_each(&run);
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unsent_at_stop_at_expires() {
    let _together = together().await;
    let house = House::with_line(200).await;
    let stop_at = house.control.now().after(Duration::from_secs(600));
    let run = house.draft("campaign", "line-1", 1_000, |settings| settings.stop_at = Some(stop_at)).await;
    house.start(&run).await;
    house.provider.until(50).await;
    house.step.store(601_000, Ordering::SeqCst);
    house.until_state(&run, CampaignState::Completed).await;
    house.until_quiet(&run).await;
    let seen = house.provider.count() as u64;
    assert!(seen < 1_000);
    let tally = house.tally(&run).await;
    assert_eq!((tally.count(Shown::Queued), tally.count(Shown::Expired)), (seen, 1_000 - seen));
    house.assert_once_each_of(&run, seen);
    house.assert_counts(&run).await;
}

/// The ledger takes everything but the end, as one that comes and goes does; the supervisor looks once a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_after_stop_at_while_the_end_cannot_be_written() {
    let _together = together().await;
    let house = House::with_line(200).await;
    house.provider.answers(|_| Reply::AcceptAfter(Duration::from_millis(5)));
    let stop_at = house.control.now().after(Duration::from_secs(600));
    let run = house.draft("campaign", "line-1", 400, |settings| settings.stop_at = Some(stop_at)).await;
    house.start(&run).await;
    house.provider.until(50).await;
    let shell = rusqlite::Connection::open(house.dir.path().join("ledger").join(LEDGER_FILE)).unwrap();
    shell
        .execute_batch(
            "CREATE TRIGGER no_end BEFORE UPDATE OF ended_as ON campaign BEGIN SELECT RAISE(FAIL, 'no'); END",
        )
        .unwrap();
    house.step.store(601_000, Ordering::SeqCst);
    // In this order: what is taken in between counts twice, not never.
    let in_flight = house.runtime.in_flight(run.key);
    let most = house.taken(&run).len() as u64 + in_flight;
    // As many seconds pass as a campaign of the same pace needs for a longer list.
    house.line("line-2", "", 200).await;
    let other = house.started("other", "line-2", 500).await;
    house.assert_done(&other).await;
    house.until_quiet(&run).await;
    let seen = house.taken(&run).len() as u64;
    assert!(seen <= most, "{seen} came, {most} at most were on their way at stop_at");
    assert_eq!(house.record(&run).await.state, CampaignState::Running);
    shell.execute_batch("DROP TRIGGER no_end").unwrap();
    house.until_state(&run, CampaignState::Completed).await;
    assert_eq!(house.shown(&run, Shown::Expired).await, 400 - seen);
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_campaign_begins_by_itself() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let start_at = house.control.now().after(Duration::from_secs(600));
    let run = house.draft("campaign", "line-1", 50, |settings| settings.start_at = Some(start_at)).await;
    house.start(&run).await;
    assert_eq!(house.record(&run).await.state, CampaignState::Scheduled);
    house.step.store(601_000, Ordering::SeqCst);
    house.assert_done(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_campaign_waits_for_its_last_retry() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let pair = Reply::Refuse { status: 400, code: 131_056 };
    house.provider.answers(unless(move |seen| (seen.number == 3).then_some(pair)));
    let run = house.started("campaign", "line-1", 50).await;
    house.provider.until(50).await;
    let progress = house.runtime.progress(run.key).unwrap();
    assert!(eventually(async || progress.borrow().binding == Binding::WaitingForRetry).await);
    assert_eq!(house.record(&run).await.state, CampaignState::Running);
    house.assert_done(&run).await;
    let seen = house.provider.seen();
    let times: Vec<Duration> = seen.iter().filter(|again| again.to == seen[3].to).map(|again| again.at).collect();
    assert_eq!(times.len(), 2);
    assert!(times[1] - times[0] >= Duration::from_millis(990), "the pair rests for a second: {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_again_reopens_a_completed_campaign() {
    let _together = together().await;
    let house = House::with_line(500).await;
    house.provider.answers(unless(|seen| (seen.number < 3).then_some(Reply::TakeAndCut)));
    let policy = DeliveryPolicy::AtMostOnce { echo_wait_ms: 1_000 };
    let run = house.draft("campaign", "line-1", 50, |settings| settings.policy = Some(policy)).await;
    house.start(&run).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.until_shown(&run, Shown::Unconfirmed, 3).await;
    let first: Vec<_> = house.provider.seen().into_iter().take(3).collect();
    let filter = ResolveSelection::Filter("status=unconfirmed".to_owned());
    let resolved = house.control.resolve(&acme(), &run.id, filter, Decision::SendAgain).await.unwrap();
    assert_eq!(resolved.resolved, 3);
    house.provider.until(53).await;
    house.until_shown(&run, Shown::Queued, 50).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.assert_counts(&run).await;
    assert_eq!(house.taken(&run).len(), 53);
    // The echo of an old attempt shows that one recipient has it twice.
    house.report(&first[..1], Reported::Delivered).await;
    let newest: Vec<_> = house.taken(&run).into_iter().filter(|seen| seen.to == first[0].to).collect();
    house.report(&newest, Reported::Delivered).await;
    assert_eq!(house.tally(&run).await.doubles, 1);
    house.assert_counts(&run).await;
}
