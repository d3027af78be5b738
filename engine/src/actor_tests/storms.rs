//! A provider that says "slow down": the line does, nobody pays for it, and everything is sent in the end.

use std::time::Duration;

use super::house::{House, unless};
use super::provider::Reply;
use super::{eventually, together};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_429_slows_the_line_and_charges_nobody() {
    let _together = together().await;
    let house = House::open().await;
    let line = house.line("line-1", "", 1_000).await;
    let over = house.provider.now() + Duration::from_millis(1_500);
    let refused = Reply::Refuse { status: 429, code: 130_429 };
    house.provider.answers(unless(move |seen| (seen.at < over).then_some(refused)));
    let run = house.started("campaign", "line-1", 400).await;
    assert!(eventually(async || house.runtime.line_status(line.key).slowed).await);
    assert!(house.runtime.line_status(line.key).allowed <= 600.0);
    house.assert_done(&run).await;
    let messages = house.messages(&run).await;
    assert!(messages.iter().all(|message| message.state.retries == 0), "a 429 charged somebody's retry budget");
    let again = messages.iter().filter(|message| message.state.next_attempt() > 2).count();
    assert!(again > 0, "the storm hit nobody");
    assert!(house.provider.seen().iter().any(|seen| !seen.took));
}
