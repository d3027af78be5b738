//! A ledger from SQLite into this store and back: the same file again.

use super::server::{drop_keyspace, fresh_keyspace};
use super::*;
use crate::store::moving::tests::{assert_same_files, assert_same_order, embedded, furnish, moved, moved_in_steps};
use crate::store::moving::{Movable, Role};

fn open_to_move(config: &ScyllaConfig) -> Arc<ScyllaStore> {
    let config = config.clone();
    server::block(async move { ScyllaStore::open_to_move(config, Clock::system()).await.expect("it opens") })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_it_is_the_same() {
    let config = fresh_keyspace();
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = embedded(old.path());
    furnish(source.as_ref()).await;
    source.close().await.unwrap();
    drop(source);
    // Cut short again and again on the way there.
    moved_in_steps(|| embedded(old.path()), || open_to_move(&config)).await;
    // It is the ledger now.
    open(&config).close().await.unwrap();

    let (middle, target) = (open_to_move(&config), embedded(new.path()));
    moved(middle.as_ref(), target.as_ref()).await.unwrap();
    assert_same_order(middle.as_ref(), target.as_ref()).await;
    assert_eq!(middle.mark().await.unwrap().unwrap().role, Role::Left);
    middle.close().await.unwrap();
    target.close().await.unwrap();
    assert_same_files(old.path(), new.path());
    let told = ScyllaStore::open(config.clone(), Clock::system()).await.map(drop).unwrap_err().to_string();
    assert!(told.contains("the new one") && !told.contains('\n'), "{told}");
    drop_keyspace(&config);
}

/// What was moved is worked on like what was made here: windows, retries, decisions to send again, reports, a further import.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_goes_on() {
    use crate::domain::ids::CampaignKey;
    use crate::domain::message::Reported;
    use crate::store::conformance::{accepted, all_apply, at, checked_counts, chunk, intent, report, running};
    let config = fresh_keyspace();
    let old = tempfile::tempdir().unwrap();
    let source = embedded(old.path());
    furnish(source.as_ref()).await;
    let target = open_to_move(&config);
    moved(source.as_ref(), target.as_ref()).await.unwrap();
    target.close().await.unwrap();
    drop(target);
    let store = open(&config);
    let (long, again, paused, draft) = (CampaignKey(1), CampaignKey(2), CampaignKey(3), CampaignKey(5));
    for key in [long, again, paused] {
        assert_eq!(store.mend(key).await.unwrap(), 0, "rows and counts agree");
        let due = store.read_due(key, at(i64::MAX), 99).await.unwrap();
        assert_eq!(due, source.read_due(key, at(i64::MAX), 99).await.unwrap());
        let window = store.read_window(key, 0, 20).await.unwrap();
        assert_eq!(window.messages, source.read_window(key, 0, 20).await.unwrap().messages);
        let doubts = store.doubt_due(key, at(i64::MAX), 9).await.unwrap();
        assert_eq!(doubts, source.doubt_due(key, at(i64::MAX), 9).await.unwrap());
        assert_eq!(store.next_due(key).await.unwrap(), source.next_due(key).await.unwrap());
    }
    assert_eq!(store.read_due(again, at(i64::MAX), 9).await.unwrap().len(), 1, "it was decided to be sent again");
    all_apply(store.as_ref(), again, vec![(1, intent(2)), (1, accepted(2, "again"))]).await;
    all_apply(store.as_ref(), paused, vec![(2, report(1, Reported::Delivered)), (7, intent(1))]).await;
    checked_counts(store.as_ref(), again).await;
    checked_counts(store.as_ref(), paused).await;
    let repeated = store.append_recipients(chunk(draft, 0, 70)).await.unwrap();
    assert!(repeated.repeated, "a chunk that was stored before the move");
    assert_eq!(store.append_recipients(chunk(draft, 70, 5)).await.unwrap().next_row, 75);
    let fresh = running(store.as_ref(), "fresh", 3).await;
    assert_eq!(fresh.key, CampaignKey(7));
    drop_keyspace(&config);
}
