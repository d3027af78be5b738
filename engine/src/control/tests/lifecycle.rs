//! The moves of a campaign.

use super::super::testing::*;
use super::super::*;
use crate::domain::campaign::CampaignState as S;
use crate::domain::stage::Shown;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

#[tokio::test]
async fn a_start_seals_and_runs() {
    let bench = Bench::furnished().await;
    bench.filled("spring", 3).await;
    let started = bench.control.start_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(started.record.state, S::Running);
    assert_eq!(started.record.started_at, Some(bench.control.now()));
    assert_eq!(started.record.sealed.as_ref().unwrap().recipients, 3);
    assert_eq!((started.stats.remaining, started.stats.progress_percent), (3, 0.0));
    assert_eq!(bench.runtime.take_told(), [format!("changed {} running", started.record.key)]);
    // Again: nothing happens, and it is no error. Actors that do not know the record hear of it.
    let again = bench.control.start_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(again.record, started.record);
    assert_eq!(bench.runtime.take_told(), [format!("changed {} running", started.record.key)]);
    let (key, version) = (started.record.key.0, started.record.version);
    bench.runtime.progress.lock().insert(key, watch::Sender::new(Progress { version, ..Progress::default() }));
    bench.control.start_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(bench.runtime.take_told(), [""; 0]);
}

#[tokio::test]
async fn a_start_needs_recipients_lines_and_time() {
    let bench = Bench::furnished().await;
    bench.draft("empty").await;
    assert_eq!(obstacle(bench.control.start_campaign(&acme(), "empty", None).await), "AUDIENCE_EMPTY");
    assert_eq!(obstacle(bench.control.seal_campaign(&acme(), "empty", None).await), "AUDIENCE_EMPTY");

    let mut spec = campaign("late");
    spec.settings.stop_at = Some(bench.control.now().after(Duration::from_secs(60)));
    bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    bench.import("late", "list", 0, 1).await.unwrap();
    bench.advance(Duration::from_secs(60));
    assert_eq!(obstacle(bench.control.start_campaign(&acme(), "late", None).await), "STOP_AT_PASSED");

    // A pool whose only line moved away.
    bench.control.create_line(&acme(), "", line("line-2", "1002")).await.unwrap();
    bench.filled("poolless", 1).await;
    bench.control.hold_line(&acme(), "line-1", None, "moving").await.unwrap();
    bench.control.move_line(&acme(), "line-1", None, "line-2").await.unwrap();
    assert_eq!(obstacle(bench.control.start_campaign(&acme(), "poolless", None).await), "POOL_EMPTY");
}

#[tokio::test]
async fn a_start_ahead_of_its_time_is_scheduled() {
    let bench = Bench::furnished().await;
    let mut spec = campaign("spring");
    spec.settings.start_at = Some(bench.control.now().after(Duration::from_secs(3_600)));
    bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    bench.import("spring", "list", 0, 1).await.unwrap();
    let started = bench.control.start_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!((started.record.state, started.stats.binds), (S::Scheduled, Binds::Schedule));
    assert!(started.record.sealed.is_some() && started.record.started_at.is_none());
    let needed = CampaignUpdate { start_at: Some(None), ..CampaignUpdate::default() };
    assert_eq!(obstacle(bench.control.update_campaign(&acme(), "spring", None, needed).await), "SCHEDULED");
    // What starts it now instead is a time that has passed.
    let passed = CampaignUpdate { start_at: Some(Some(bench.control.now())), ..CampaignUpdate::default() };
    let moved = bench.control.update_campaign(&acme(), "spring", None, passed).await.unwrap();
    assert_eq!(moved.record.settings.start_at, Some(bench.control.now()));
    let again = Some(Some(bench.control.now().after(Duration::from_secs(3_600))));
    let again = CampaignUpdate { start_at: again, ..CampaignUpdate::default() };
    bench.control.update_campaign(&acme(), "spring", None, again).await.unwrap();
    // Paused and resumed it waits again; after its time it runs.
    bench.control.pause_campaign(&acme(), "spring", None).await.unwrap();
    let resumed = bench.control.resume_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(resumed.record.state, S::Scheduled);
    bench.control.pause_campaign(&acme(), "spring", None).await.unwrap();
    bench.advance(Duration::from_secs(3_601));
    let resumed = bench.control.resume_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!((resumed.record.state, resumed.record.started_at), (S::Running, Some(bench.control.now())));
}

#[tokio::test]
async fn a_pause_shuts_the_gate_before_it_writes() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    bench.runtime.take_told();
    bench.runtime.in_flight.lock().insert(view.record.key.0, 2);
    let halted = bench.control.pause_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!((halted.campaign.record.state, halted.in_flight), (S::Paused, 2));
    let key = view.record.key;
    assert_eq!(bench.runtime.take_told(), [format!("close {key}"), format!("changed {key} paused")]);
    // Durable: the store alone knows it.
    assert_eq!(bench.store.campaign_by_key(key).await.unwrap().state, S::Paused);
    assert_eq!(bench.control.pause_campaign(&acme(), "spring", None).await.unwrap().in_flight, 2);
    let resumed = bench.control.resume_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(resumed.record.state, S::Running);
}

#[tokio::test]
async fn a_pause_that_cannot_be_written_opens_the_gate_again() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 1).await;
    bench.runtime.take_told();
    bench.store.close().await.unwrap();
    let refused = bench.control.pause_campaign(&acme(), "spring", None).await;
    assert!(matches!(refused, Err(Error::Ledger(_))), "{refused:?}");
    // The record could not even be read, so the gate was never shut.
    assert_eq!(bench.runtime.take_told(), [""; 0]);
    assert_eq!(view.record.state, S::Running);
}

#[tokio::test]
async fn a_cancelled_campaign_has_no_pending_message() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    bench.doubt(&view, 1).await;
    let halted = bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    let tally = halted.campaign.stats.tally;
    assert_eq!((tally.count(Shown::Cancelled), tally.count(Shown::InDoubt)), (2, 1));
    assert_eq!((halted.campaign.stats.remaining, halted.campaign.stats.progress_percent), (0, 100.0));
    assert!(halted.campaign.record.ended_at.is_some() && halted.campaign.record.settled_at.is_none());
    let recount = bench.control.recount(&acme(), "spring").await.unwrap();
    assert_eq!(recount.differences, []);
    // A draft that is cancelled has nothing to wait for.
    bench.filled("draft", 2).await;
    let halted = bench.control.cancel_campaign(&acme(), "draft", None).await.unwrap();
    assert!(halted.campaign.record.settled_at.is_some());
    assert_eq!(halted.campaign.stats.tally.count(Shown::Cancelled), 2);
}

#[tokio::test]
async fn illegal_moves_name_state_and_allowed_moves() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    let refused = bench.control.pause_campaign(&acme(), "spring", None).await.unwrap_err();
    assert_eq!(refused.to_string(), "cannot pause a campaign that is draft; allowed now: start, cancel, delete");
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    assert!(matches!(bench.control.resume_campaign(&acme(), "spring", None).await, Err(Error::Move(_))));
    assert!(matches!(bench.control.start_campaign(&acme(), "spring", None).await, Err(Error::Move(_))));
}

#[tokio::test]
async fn a_batch_answers_for_each() {
    let bench = Bench::furnished().await;
    for id in ["a", "b", "c"] {
        bench.running(id, 1).await;
    }
    bench.draft("d").await;
    let ids = ["a", "d", "nope"].map(str::to_owned).to_vec();
    let outcomes = bench.control.batch(&acme(), Selection::Ids(ids), BatchMove::Pause).await.unwrap();
    assert_eq!(outcomes[0].result, Ok((S::Paused, 0)));
    assert!(matches!(outcomes[1].result, Err(Error::Move(_))));
    assert_eq!(outcomes[2].result, Err(Error::not_found("campaign", "nope")));
    let running = Selection::Filter("state=running".to_owned());
    let outcomes = bench.control.batch(&acme(), running, BatchMove::Cancel).await.unwrap();
    assert_eq!(outcomes.len(), 2);
    assert_eq!(bench.state("a").await, S::Paused);
    assert_eq!(bench.state("b").await, S::Cancelled);
}

#[tokio::test]
async fn a_batch_must_say_whom_it_means() {
    let bench = Bench::furnished().await;
    let tenant = acme();
    let batch = |selection| bench.control.batch(&tenant, selection, BatchMove::Cancel);
    assert_eq!(fields(batch(Selection::Ids(vec![])).await), ["selection.ids"]);
    assert_eq!(fields(batch(Selection::Ids(vec!["a".to_owned(); 2])).await), ["selection.ids"]);
    assert_eq!(fields(batch(Selection::Filter(" ".to_owned())).await), ["selection.filter"]);
    assert_eq!(fields(batch(Selection::Filter("colour=red".to_owned())).await), ["filter"]);
}

#[tokio::test]
async fn nothing_new_begins_while_the_server_goes_down() {
    let bench = Bench::furnished().await;
    bench.running("spring", 1).await;
    bench.filled("next", 1).await;
    bench.runtime.draining.store(true, Ordering::SeqCst);
    let unavailable = |result: Result<CampaignView>| assert!(matches!(result, Err(Error::Unavailable(_))));
    unavailable(bench.control.create_campaign(&acme(), "", campaign("x")).await);
    unavailable(bench.control.start_campaign(&acme(), "next", None).await);
    assert!(matches!(bench.import("next", "more", 0, 1).await, Err(Error::Unavailable(_))));
    // What stops sending still works.
    bench.control.pause_campaign(&acme(), "spring", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_and_a_change_at_the_same_time_both_hold() {
    let bench = Bench::furnished().await;
    for round in 0..30 {
        let id = format!("c{round}");
        bench.filled(&id, 3).await;
        let later = bench.control.now().after(Duration::from_secs(3_600));
        let update = CampaignUpdate { start_at: Some(Some(later)), ..CampaignUpdate::default() };
        let tenant = acme();
        let (started, changed) = tokio::join!(
            bench.control.start_campaign(&tenant, &id, None),
            bench.control.update_campaign(&tenant, &id, None, update),
        );
        let started = started.unwrap().record;
        let stored = bench.control.campaign(&acme(), &id).await.unwrap().record;
        match changed {
            // The change came first: the start waits for it. Or it came to a campaign that is running.
            Ok(_) => assert_eq!((started.state, stored.state), (S::Scheduled, S::Scheduled), "round {round}"),
            Err(_) => assert_eq!((started.state, stored.settings.start_at), (S::Running, None), "round {round}"),
        }
    }
}
