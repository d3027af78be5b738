//! What concerns more than its message stops what it concerns: a campaign, or the lines of an account.

use super::house::{House, acme, unless};
use super::provider::Reply;
use super::{eventually, together};
use crate::domain::campaign::{CampaignState, HoldKind};
use crate::domain::line::LineHoldKind;
use crate::domain::stage::Shown;
use crate::supervisor::release_line;

/// Most in flight of the campaigns here: what fails after the twentieth.
const WORKERS: u32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_request_errors_in_a_row_hold_the_campaign() {
    let _together = together().await;
    let house = House::with_line(1_000).await;
    let bad_parameters = Reply::Refuse { status: 400, code: 132_000 };
    house.provider.answers(unless(move |seen| (seen.number % 40 >= 20).then_some(bad_parameters)));
    let run = house.draft("campaign", "line-1", 300, |settings| settings.workers = Some(1)).await;
    house.start(&run).await;
    // Twenty, then a good one, then twenty again: the run is counted anew.
    house.until_state(&run, CampaignState::Held).await;
    house.until_quiet(&run).await;
    let hold = house.record(&run).await.hold.unwrap();
    assert_eq!((hold.kind, hold.until), (HoldKind::RequestErrors, None));
    assert!(hold.reason.contains("132000"), "{}", hold.reason);
    let tally = house.tally(&run).await;
    assert_eq!((tally.count(Shown::Queued), tally.count(Shown::Failed)), (20, 20));
    assert_eq!(tally.count(Shown::Pending), 260);

    // Resumed without a remedy, it is held again, not burnt down.
    house.provider.answers(move |_| bad_parameters);
    house.resume(&run).await;
    house.until_state(&run, CampaignState::Held).await;
    house.until_quiet(&run).await;
    let failed = house.shown(&run, Shown::Failed).await;
    assert!((40..40 + u64::from(WORKERS)).contains(&failed), "{failed} failed");

    house.provider.answers(|_| Reply::Accept);
    house.resume(&run).await;
    house.until_state(&run, CampaignState::Completed).await;
    assert_eq!(house.shown(&run, Shown::Queued).await, 300 - failed);
    assert_eq!(house.record(&run).await.hold, None);
    house.assert_counts(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_template_holds_the_campaign_with_its_messages() {
    let _together = together().await;
    let house = House::with_line(1_000).await;
    house.provider.answers(|_| Reply::Refuse { status: 404, code: 132_001 });
    let run = house.draft("campaign", "line-1", 100, |settings| settings.workers = Some(WORKERS)).await;
    house.start(&run).await;
    house.until_state(&run, CampaignState::Held).await;
    house.until_quiet(&run).await;
    assert_eq!(house.record(&run).await.hold.unwrap().kind, HoldKind::Template);
    assert_eq!(house.shown(&run, Shown::Pending).await, 100, "nobody fails for the template");
    assert!(house.provider.count() <= WORKERS as usize, "{} came", house.provider.count());
    house.provider.answers(|_| Reply::Accept);
    house.resume(&run).await;
    house.assert_done(&run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_holds_every_line_of_the_account() {
    let _together = together().await;
    let house = House::open().await;
    house.line("line-1", "both", 500).await;
    house.line("line-2", "both", 500).await;
    let refused = Reply::Refuse { status: 401, code: 190 };
    house.provider.answers(unless(move |seen| (seen.number >= 50).then_some(refused)));
    let run = house.started("campaign", "both", 300).await;
    for line in ["line-1", "line-2"] {
        assert!(eventually(async || house.line_record(line).await.hold.is_some()).await, "{line}");
        let hold = house.line_record(line).await.hold.unwrap();
        assert_eq!((hold.kind, hold.until), (LineHoldKind::Account, None));
        assert!(hold.reason.contains("190"), "{}", hold.reason);
    }
    house.until_quiet(&run).await;
    assert_eq!(house.record(&run).await.state, CampaignState::Running);
    assert_eq!(house.shown(&run, Shown::Queued).await, 50);
    assert_eq!(house.shown(&run, Shown::Pending).await, 250);
    house.provider.answers(|_| Reply::Accept);
    for line in ["line-1", "line-2"] {
        house.control.release_line(&acme(), line, None).await.unwrap();
    }
    house.assert_done(&run).await;
    assert!(house.messages(&run).await.iter().all(|message| message.state.retries == 0));
}

/// The tick asks for the release of a line every second, for as long as the ledger is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_of_a_line_waits_for_the_ledger_once() {
    let _together = together().await;
    let house = House::open().await;
    let line = house.line("line-1", "", 500).await;
    house.store.close().await.unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..200 {
        release_line(house.engine.context(), line.key);
    }
    // Whatever else the engine does meanwhile is far fewer.
    assert!(tasks() < before + 100, "{before} tasks before, {} after", tasks());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_the_provider_ends_by_itself() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let maintenance = Reply::Refuse { status: 400, code: 131_057 };
    house.provider.answers(unless(move |seen| (seen.number == 20).then_some(maintenance)));
    let run = house.started("campaign", "line-1", 100).await;
    assert!(eventually(async || house.line_record("line-1").await.hold.is_some()).await);
    let hold = house.line_record("line-1").await.hold.unwrap();
    assert_eq!(hold.kind, LineHoldKind::Line);
    assert!(hold.until.is_some());
    house.until_quiet(&run).await;
    // A minute later, by the wall.
    house.step.store(61_000, std::sync::atomic::Ordering::SeqCst);
    house.assert_done(&run).await;
    assert_eq!(house.line_record("line-1").await.hold, None);
}
