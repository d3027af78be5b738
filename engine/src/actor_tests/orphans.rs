//! Events that find no message end as orphans, with whatever names whose they are; what is provably ours comes first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::house::{ACCOUNT, House, acme, status};
use super::provider::Seen;
use super::{eventually, together};
use crate::control::PageRequest;
use crate::domain::campaign::CampaignState;
use crate::domain::stage::Shown;
use crate::store::ParkedEvent;
use crate::webhook::{CorrelationText, Reported, SinkError, StatusEvent};

/// A status of a stranger's message, sent by one of our numbers.
fn strangers(seen: &Seen, number: usize) -> StatusEvent {
    let provider_id = format!("wamid.stranger-{number}").into();
    StatusEvent { correlation: None, provider_id, ..status(seen, Reported::Delivered) }
}

async fn orphans(house: &House) -> Vec<ParkedEvent> {
    house.control.list_orphans(&acme(), ACCOUNT, &PageRequest::default()).await.unwrap().items
}

async fn parked(house: &House) -> u64 {
    house.store.parked_counts(house.control.now()).await.unwrap().parked
}

/// The account of this house is everybody's: an orphan is listed only if something in it names the tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_of_a_shared_account_are_listed_by_their_line_or_their_campaign() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 3).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    // Of a number of ours; of a number that is nobody's here; of an attempt that was never made.
    let foreign = Seen { line: "999".to_owned(), ..seen[0].clone() };
    let (campaign, seq, _) = house.attempt_of(&seen[1]);
    let never = house.correlation.encode(campaign.0, seq, 9);
    let ours = StatusEvent {
        correlation: CorrelationText::parse(never.as_str()),
        provider_id: "wamid.never".into(),
        ..status(&foreign, Reported::Read)
    };
    house.webhook(vec![strangers(&seen[0], 1), strangers(&foreign, 2), ours.clone()]).await;
    assert_eq!(parked(&house).await, 3);
    house.webhook(vec![ours]).await;
    assert_eq!(parked(&house).await, 3, "repeated, it is parked once");
    house.step.store(3_600_000, Ordering::SeqCst);
    assert!(eventually(async || parked(&house).await == 0).await, "they are not looked at");
    let mut listed: Vec<_> =
        orphans(&house).await.into_iter().map(|event| (event.provider_id, event.attempt)).collect();
    listed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let of_attempt = Some((crate::domain::ids::MessageKey { campaign, seq }, 9));
    assert_eq!(listed, [("wamid.never".into(), of_attempt), ("wamid.stranger-1".into(), None)]);
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_deleted_campaign_is_listed_by_its_line() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 2).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    house.control.delete_campaign(&acme(), &run.id, None).await.unwrap();
    house.report(&seen, Reported::Delivered).await;
    house.step.store(3_600_000, Ordering::SeqCst);
    assert!(eventually(async || orphans(&house).await.len() == 2).await, "{:?}", orphans(&house).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_leave_room_for_what_is_ours() {
    let _together = together().await;
    let house = House::with(|config| config.parked_max = 8).await;
    house.line("line-1", "", 500).await;
    let run = house.started("campaign", "line-1", 20).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    house.control.delete_campaign(&acme(), &run.id, None).await.unwrap();
    house.webhook((0..20).map(|number| strangers(&seen[0], number)).collect()).await;
    assert_eq!(parked(&house).await, 6);
    house.report(&seen[..2], Reported::Read).await;
    assert_eq!(parked(&house).await, 8);
    // Full: counted and dropped, and answered all the same.
    house.report(&seen[2..4], Reported::Read).await;
    assert_eq!(parked(&house).await, 8);
}

/// While nobody owns their campaign, or its owner is not reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_aside_is_applied_later_and_what_finds_no_room_is_refused() {
    let _together = together().await;
    let house = House::with(|config| config.parked_max = 3).await;
    house.line("line-1", "", 500).await;
    let run = house.started("campaign", "line-1", 5).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    let (sink, account) = (house.engine.webhook_sink(), Arc::from(ACCOUNT));
    let aside = |events| sink.set_aside(&account, events);
    // Also what moves no stage and only proves that the provider has it.
    aside(vec![status(&seen[0], Reported::Delivered), status(&seen[1], Reported::Accepted)]).await.unwrap();
    assert_eq!(parked(&house).await, 2);
    assert_eq!(house.shown(&run, Shown::Delivered).await, 0);
    let two = vec![status(&seen[2], Reported::Delivered), status(&seen[3], Reported::Delivered)];
    assert_eq!(aside(two).await, Err(SinkError::Busy), "the provider keeps them and comes again");
    house.step.store(3_600_000, Ordering::SeqCst);
    assert!(eventually(async || parked(&house).await == 0).await, "they are not looked at");
    assert_eq!(house.shown(&run, Shown::Delivered).await, 1);
    assert_eq!(orphans(&house).await, []);
    house.assert_counts(&run).await;
}
