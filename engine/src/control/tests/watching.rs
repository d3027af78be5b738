//! Watching a campaign.

use super::super::testing::*;
use super::super::*;
use crate::domain::campaign::CampaignState as S;
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use std::time::Duration;
use tokio::sync::watch;

fn progress(view: &CampaignView, delivered: u64) -> Progress {
    let mut tally = Tally::untouched(100 - delivered, None);
    tally.shown[Shown::Delivered as usize] = delivered;
    Progress { tally, as_of: view.stats.as_of, version: view.record.version, ..Progress::default() }
}

async fn change(watcher: &mut Watcher) -> (CampaignView, CampaignView) {
    match watcher.next().await.unwrap() {
        Some(Update::Change { before, now }) => (*before, *now),
        other => panic!("expected a change, got {other:?}"),
    }
}

/// The store answers from threads of its own, so time cannot be paused; the watch asks for the highest rate instead.
#[tokio::test]
async fn a_snapshot_then_changes_then_the_end() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 100).await;
    let (publish, _keep) = watch::channel(progress(&view, 0));
    bench.runtime.progress.lock().insert(view.record.key.0, publish.clone());
    let mut watcher = bench.control.watch(&acme(), "spring", 20.0, WatchUntil::Dispatched).await.unwrap();
    let Some(Update::Snapshot(first)) = watcher.next().await.unwrap() else { panic!("no snapshot") };
    assert_eq!(first.record.state, S::Running);

    // Many steps while the reader is away: it sees the last one only.
    for delivered in 1..=50 {
        publish.send_replace(progress(&view, delivered));
    }
    let (before, now) = change(&mut watcher).await;
    assert_eq!(before.stats.tally.count(Shown::Delivered), 0);
    assert_eq!(now.stats.tally.count(Shown::Delivered), 50);

    let halted = bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    publish.send_replace(progress(&halted.campaign, 50));
    let (_, now) = change(&mut watcher).await;
    assert_eq!(now.record.state, S::Cancelled);
    assert_eq!(watcher.next().await.unwrap(), None);
}

#[tokio::test]
async fn nothing_is_told_where_nothing_changed() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 100).await;
    let (publish, _keep) = watch::channel(progress(&view, 0));
    bench.runtime.progress.lock().insert(view.record.key.0, publish.clone());
    let mut watcher = bench.control.watch(&acme(), "spring", 20.0, WatchUntil::Settled).await.unwrap();
    watcher.next().await.unwrap();
    let later = Progress { as_of: UnixMillis(START + 50), ..progress(&view, 0) };
    publish.send_replace(later);
    let step = tokio::time::timeout(Duration::from_millis(300), watcher.next()).await;
    assert!(step.is_err(), "{step:?}");
}

#[tokio::test]
async fn an_actor_that_goes_and_comes_is_followed() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 100).await;
    let (publish, keep) = watch::channel(progress(&view, 0));
    bench.runtime.progress.lock().insert(view.record.key.0, publish.clone());
    let mut watcher = bench.control.watch(&acme(), "spring", 20.0, WatchUntil::Settled).await.unwrap();
    watcher.next().await.unwrap();
    bench.runtime.progress.lock().clear();
    drop((publish, keep));
    let (next, _keep) = watch::channel(progress(&view, 10));
    bench.runtime.progress.lock().insert(view.record.key.0, next);
    let (_, now) = change(&mut watcher).await;
    assert!(now.record.state == S::Running);
}

#[tokio::test]
async fn a_watched_campaign_that_is_removed_ends_the_watch() {
    let bench = Bench::furnished().await;
    bench.draft("spring").await;
    let mut watcher = bench.control.watch(&acme(), "spring", 20.0, WatchUntil::Settled).await.unwrap();
    watcher.next().await.unwrap();
    bench.control.delete_campaign(&acme(), "spring", None).await.unwrap();
    assert_eq!(watcher.next().await, Err(Error::not_found("campaign", "spring")));
}

#[tokio::test]
async fn a_settled_campaign_gives_a_snapshot_and_ends() {
    let bench = Bench::furnished().await;
    bench.filled("spring", 1).await;
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    let mut watcher = bench.control.watch(&acme(), "spring", 0.0, WatchUntil::Settled).await.unwrap();
    assert!(matches!(watcher.next().await, Ok(Some(Update::Snapshot(_)))));
    assert_eq!(watcher.next().await, Ok(None));
    let missing = bench.control.watch(&acme(), "nope", 0.0, WatchUntil::Settled).await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}
