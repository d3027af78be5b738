//! In doubt: what nobody knows is not sent again under *at most once*, and is under *at least once*.

use std::time::Duration;

use super::house::{House, status, unless};
use super::provider::{Reply, Seen};
use super::together;
use crate::domain::campaign::{CampaignState, DeliveryPolicy};
use crate::domain::stage::Shown;
use crate::webhook::Reported;

fn seq_of(seen: &Seen) -> u32 {
    seen.to[seen.to.len() - 6..].parse().unwrap()
}

/// One in ten is answered 500 though it was taken, one in ten is taken and cut.
fn unclear(seen: &Seen) -> Option<Reply> {
    match seq_of(seen) % 10 {
        0 => Some(Reply::TakeAndFail),
        5 => Some(Reply::TakeAndCut),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_waits_for_the_echo() {
    let _together = together().await;
    let house = House::with_line(1_000).await;
    house.provider.answers(unless(unclear));
    let policy = DeliveryPolicy::AtMostOnce { echo_wait_ms: 2_000 };
    let run = house.draft("campaign", "line-1", 200, |settings| settings.policy = Some(policy)).await;
    house.start(&run).await;
    house.until_state(&run, CampaignState::Completed).await;
    assert_eq!(house.shown(&run, Shown::InDoubt).await, 40);
    let doubtful: Vec<Seen> = house.taken(&run).into_iter().filter(|seen| seq_of(seen).is_multiple_of(5)).collect();
    assert_eq!(doubtful.len(), 40);
    // Half of them are echoed in time, one too late.
    house.report(&doubtful[..20], Reported::Sent).await;
    assert_eq!(house.shown(&run, Shown::Sent).await, 20);
    house.until_shown(&run, Shown::Unconfirmed, 20).await;
    house.report(&doubtful[20..21], Reported::Delivered).await;
    assert_eq!(house.shown(&run, Shown::Delivered).await, 1);
    assert_eq!(house.shown(&run, Shown::Unconfirmed).await, 19);
    house.assert_once_each(&run);
    house.assert_counts(&run).await;
    assert_eq!(house.record(&run).await.state, CampaignState::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_sends_again_after_the_grace() {
    let _together = together().await;
    let house = House::with_line(1_000).await;
    house.provider.answers(unless(unclear));
    let policy = DeliveryPolicy::AtLeastOnce { grace_ms: 1_000 };
    let run = house.draft("campaign", "line-1", 200, |settings| settings.policy = Some(policy)).await;
    house.start(&run).await;
    house.until_shown(&run, Shown::InDoubt, 40).await;
    // The echo of the first attempt makes another needless.
    let echoed: Vec<Seen> = house.taken(&run).into_iter().filter(|seen| seq_of(seen) == 10).collect();
    house.report(&echoed, Reported::Sent).await;
    house.provider.answers(|_| Reply::Accept);
    house.until_state(&run, CampaignState::Completed).await;
    let taken = house.taken_by_recipient(&run);
    for seq in 0..run.recipients {
        let times = if seq % 5 == 0 && seq != 10 { 2 } else { 1 };
        assert_eq!(taken[&run.address(seq)], times, "{seq}");
    }
    let again: Vec<Seen> = house.taken(&run).into_iter().filter(|seen| house.attempt_of(seen).2 == 2).collect();
    assert_eq!(again.len(), 39);
    // Both attempts of one turn out to have been sent: a double, and counted as one.
    let twice: Vec<Seen> = house.taken(&run).into_iter().filter(|seen| seq_of(seen) == 20).collect();
    house.report(&twice, Reported::Sent).await;
    assert_eq!(house.tally(&run).await.doubles, 1);
    house.assert_counts(&run).await;
    assert_eq!(house.tally(&run).await.accepted, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_is_in_doubt() {
    let _together = together().await;
    let house = House::with(|config| config.answer_timeout = Duration::from_millis(200)).await;
    house.line("line-1", "", 1_000).await;
    house.provider.answers(unless(|seen| (seq_of(seen) == 7).then_some(Reply::Hang)));
    let run = house.started("campaign", "line-1", 50).await;
    house.until_state(&run, CampaignState::Completed).await;
    assert_eq!(house.shown(&run, Shown::InDoubt).await, 1);
    assert_eq!(house.shown(&run, Shown::Queued).await, 49);
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_providers_word_that_it_has_a_message_ends_the_doubt() {
    let _together = together().await;
    let house = House::with_line(1_000).await;
    house.provider.answers(unless(|seen| (seq_of(seen) == 7).then_some(Reply::TakeAndCut)));
    let run = house.started("campaign", "line-1", 20).await;
    house.until_state(&run, CampaignState::Completed).await;
    house.until_shown(&run, Shown::InDoubt, 1).await;
    let doubtful: Vec<Seen> = house.taken(&run).into_iter().filter(|seen| seq_of(seen) == 7).collect();
    let told = || vec![status(&doubtful[0], Reported::Accepted)];
    house.webhook_of("somebody-else", told()).await;
    assert_eq!(house.shown(&run, Shown::InDoubt).await, 1, "another account's word does not count");
    house.webhook(told()).await;
    assert_eq!((house.shown(&run, Shown::InDoubt).await, house.shown(&run, Shown::Queued).await), (0, 20));
    let message = house.messages(&run).await.into_iter().find(|message| message.key.seq == 7).unwrap();
    assert_eq!(message.state.newest.unwrap().provider_id.unwrap().as_ref(), doubtful[0].provider_id());
    house.assert_counts(&run).await;
}
