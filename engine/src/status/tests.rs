//! A row that the ledger cannot read costs its own entry, and nobody else's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Ledger, commit_all_around};
use crate::campaign::registry::Registry;
use crate::campaign::shared::CampaignShared;
use crate::config::EngineConfig;
use crate::domain::campaign::Campaign;
use crate::domain::ids::CampaignKey;
use crate::domain::message::Reported;
use crate::domain::provider_kind::ProviderKind;
use crate::domain::stage::Shown;
use crate::domain::time::Clock;
use crate::store::conformance::*;
use crate::store::embedded::{EmbeddedConfig, EmbeddedStore, LEDGER_FILE};
use crate::store::{Entry, EntryResult, Store};

const ALL: u32 = 1_000;

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(EmbeddedConfig { synced: false, ..EmbeddedConfig::new(dir) }, Clock::system()).unwrap()
}

/// A campaign with everybody accepted, and the rows of these messages damaged behind the ledger's back.
async fn damaged(dir: &Path, seqs: &[u32]) -> (Arc<dyn Store>, Campaign) {
    let store = open(dir);
    let campaign = running(&*store, "damaged", ALL).await;
    all_apply(&*store, campaign.key, (0..ALL).map(|seq| (seq, intent(1))).collect()).await;
    store.close().await.unwrap();
    drop(store);
    let shell = rusqlite::Connection::open(dir.join(LEDGER_FILE)).unwrap();
    for seq in seqs {
        let changed = shell.execute("UPDATE message SET phase = 99 WHERE seq = ?1", [seq]).unwrap();
        assert_eq!(changed, 1);
    }
    drop(shell);
    (open(dir), campaign)
}

fn ledger(store: &Arc<dyn Store>, campaign: &Campaign) -> (Ledger, Arc<CampaignShared>) {
    let registry = Arc::new(Registry::default());
    let clock = Clock::system();
    let shared = CampaignShared::new(campaign.clone(), ProviderKind::Meta, Default::default(), 0, clock.wall());
    let shared = registry.insert(shared, clock.mono());
    let config = EngineConfig { status_shards: 1, ..EngineConfig::default() };
    (Ledger::new(store, &registry, &clock, &config), shared)
}

fn reports(key: CampaignKey, seqs: impl Iterator<Item = u32>) -> Vec<Entry> {
    seqs.map(|seq| entry(key, seq, report(1, Reported::Delivered))).collect()
}

/// There is no actor here: the ledger is flushed by hand until nothing is left.
async fn flushed<T>(ledger: &Ledger, asked: impl Future<Output = T>) -> T {
    let flush = async {
        loop {
            ledger.flush().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        answer = asked => answer,
        () = flush => unreachable!("it flushes for ever"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_statuses_with_bad_rows_the_others_apply() {
    let dir = tempfile::tempdir().unwrap();
    let bad = [0, 437, 438, 999];
    let (store, campaign) = damaged(dir.path(), &bad).await;
    let (ledger, _) = ledger(&store, &campaign);
    let results = flushed(&ledger, ledger.commit(reports(campaign.key, 0..ALL))).await.unwrap();
    for (seq, result) in results.iter().enumerate() {
        let expected = if bad.contains(&(seq as u32)) { EntryResult::Refused } else { EntryResult::Applied };
        assert_eq!(*result, expected, "{seq}");
    }
    let delivered = store.tally(campaign.key).await.unwrap().tally.count(Shown::Delivered);
    assert_eq!((delivered, ledger.waiting()), (u64::from(ALL) - 4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_written_holds_no_other_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, campaign) = damaged(dir.path(), &[7]).await;
    let (ledger, shared) = ledger(&store, &campaign);
    for seq in 0..20 {
        ledger.post(entry(campaign.key, seq, accepted(1, "wamid")), shared.take_slot());
    }
    let later = flushed(&ledger, ledger.commit(reports(campaign.key, 20..30))).await.unwrap();
    assert_eq!(later, [EntryResult::Applied; 10]);
    assert!(ledger.flush().await, "nothing is offered for ever");
    assert_eq!((ledger.waiting(), shared.in_flight()), (0, 0), "every slot is given back");
    assert_eq!(store.tally(campaign.key).await.unwrap().tally.open, u64::from(ALL) - 29);
}

/// Whoever gives a pool away waits for what was known then; on a busy node more keeps coming, and its lines are silent meanwhile.
#[tokio::test]
async fn a_flush_ends_although_more_keeps_coming() {
    let dir = tempfile::tempdir().unwrap();
    let (store, campaign) = damaged(dir.path(), &[]).await;
    let (ledger, shared) = ledger(&store, &campaign);
    let ledger = Arc::new(ledger);
    let more = tokio::spawn({
        let (ledger, shared, key) = (Arc::clone(&ledger), Arc::clone(&shared), campaign.key);
        async move {
            // While a commit is under way this has the only thread: there is always something left.
            for seq in (0..ALL).cycle() {
                if ledger.waiting() < 50 {
                    ledger.post(entry(key, seq, report(1, Reported::Delivered)), shared.take_slot());
                }
                tokio::task::yield_now().await;
            }
        }
    });
    ledger.post(entry(campaign.key, 3, accepted(1, "wamid")), shared.take_slot());
    let flushed = tokio::time::timeout(Duration::from_secs(60), ledger.flush()).await;
    assert_eq!(flushed, Ok(true));
    let known = store.message(message(campaign.key, 3)).await.unwrap().state.newest.unwrap();
    assert_eq!(known.provider_id.as_deref(), Some("wamid"), "what was there is in the ledger");
    more.abort();
}

/// What a start does with the attempts that were in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_goes_around_a_damaged_row() {
    let dir = tempfile::tempdir().unwrap();
    let (store, campaign) = damaged(dir.path(), &[500]).await;
    let doubts: Vec<Entry> = (0..ALL).map(|seq| entry(campaign.key, seq, doubt(1, 9_000))).collect();
    let results = commit_all_around(&store, &doubts).await.unwrap();
    assert_eq!(results.iter().filter(|result| **result == EntryResult::Applied).count(), 999);
    assert_eq!(results[500], EntryResult::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_takes_nothing_is_away_and_outcomes_wait() {
    let dir = tempfile::tempdir().unwrap();
    let seqs: Vec<u32> = (0..100).collect();
    let (store, campaign) = damaged(dir.path(), &seqs).await;
    let (ledger, shared) = ledger(&store, &campaign);
    for seq in 0..100 {
        ledger.post(entry(campaign.key, seq, accepted(1, "wamid")), shared.take_slot());
    }
    assert!(!ledger.flush().await, "it is tried again later");
    assert!(ledger.waiting() > 50, "{} of 100 wait", ledger.waiting());
}
