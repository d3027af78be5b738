//! What a provider reports of the past does not stop what somebody has mended since.

use std::time::Duration;

use super::house::{House, acme, status, unless};
use super::provider::{Reply, Seen};
use super::{eventually, together};
use crate::domain::campaign::CampaignState;
use crate::domain::line::LineHoldKind;
use crate::webhook::{Failure, Reported, StatusEvent};

/// The account is locked, says the provider of this message.
fn locked(seen: &Seen, provider_at: Option<i64>) -> StatusEvent {
    let failure = Failure { code: Some(131_031), ..Failure::default() };
    StatusEvent { failure: Some(Box::new(failure)), provider_at, ..status(seen, Reported::Failed) }
}

async fn until_held(house: &House) {
    assert!(eventually(async || house.line_record("line-1").await.hold.is_some()).await, "the line is not held");
}

/// Whatever was to follow has followed: the supervisor has handled what came before this.
async fn assert_sends(house: &House, id: &str) {
    let other = house.started(id, "line-1", 5).await;
    house.assert_done(&other).await;
    assert_eq!(house.line_record("line-1").await.hold, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_comes_again_does_not_hold_a_released_line() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 10).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    house.webhook(vec![locked(&seen[0], None)]).await;
    until_held(&house).await;
    assert_eq!(house.line_record("line-1").await.hold.unwrap().kind, LineHoldKind::Account);
    house.control.release_line(&acme(), "line-1", None).await.unwrap();

    // The same entry again, also as one of many.
    let mut again = vec![locked(&seen[0], None)];
    again.extend(seen[1..].iter().map(|seen| status(seen, Reported::Delivered)));
    house.webhook(again).await;
    assert_sends(&house, "other").await;

    // News of the time before the release: by the provider's clock, and by the attempt's where the provider names no time.
    let hour_ago = house.control.now().0 / 1_000 - 3_600;
    house.webhook(vec![locked(&seen[1], Some(hour_ago)), locked(&seen[2], None)]).await;
    assert_sends(&house, "third").await;

    // News of now.
    let soon = house.control.now().after(Duration::from_secs(1)).0 / 1_000;
    house.webhook(vec![locked(&seen[3], Some(soon))]).await;
    until_held(&house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_refusal_of_the_template_does_not_hold_a_campaign_that_was_resumed_since() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let late = Reply::RefuseAfter { pause: Duration::from_millis(700), status: 404, code: 132_001 };
    house.provider.answers(unless(move |seen| (seen.number == 0).then_some(late)));
    let run = house.started("campaign", "line-1", 10).await;
    house.provider.until(1).await;
    house.pause(&run).await;
    house.resume(&run).await;
    house.assert_done(&run).await;
    assert!(house.messages(&run).await.iter().any(|message| !message.state.older.is_empty()), "nothing was refused");

    // One that was asked for since then holds it.
    house.provider.answers(|_| Reply::Refuse { status: 404, code: 132_001 });
    let run = house.started("other", "line-1", 10).await;
    house.until_state(&run, CampaignState::Held).await;
}

/// The entries are in the ledger, and repeated they are no news: what follows must not be lost with the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_up_before_its_answer_has_been_heard() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let run = house.started("campaign", "line-1", 2).await;
    house.until_state(&run, CampaignState::Completed).await;
    let seen = house.taken(&run);
    let sink = house.engine.webhook_sink();
    let account = super::house::ACCOUNT.into();
    let mut call = Box::pin(sink.accept(&account, vec![crate::webhook::Event::Status(locked(&seen[0], None))]));
    // Begun, and dropped in the middle.
    assert!(futures_util::poll!(&mut call).is_pending());
    drop(call);
    until_held(&house).await;
}
