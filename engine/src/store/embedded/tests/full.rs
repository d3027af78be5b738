//! A full disk: nothing is half-written, nothing is lost, and writing goes on by itself when there is room again.

use super::*;
use crate::store::StoreError;
use crate::store::conformance::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_everything_and_resumes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = running(&*store, "full", 8_000).await.key;
    all_apply(&*store, key, (0..100).map(|seq| (seq, intent(1))).collect()).await;
    let before = checked_counts(&*store, key).await;

    // Less than it has: it may not grow at all.
    store.set_pages_max(1).await.unwrap();
    let entries = |from: u32| (from..from + 4_000).map(|seq| entry(key, seq, intent(1))).collect::<Vec<_>>();
    let (one, two) = tokio::join!(store.commit(entries(100)), store.commit(entries(4_000)));
    for refused in [one, two] {
        assert!(matches!(&refused, Err(StoreError::Unavailable(text)) if text.contains("full")), "{refused:?}");
    }
    assert!(!store.health().writable);
    assert_eq!(store.health().queued_entries, 0);
    assert_eq!(checked_counts(&*store, key).await, before, "nothing of it was done");
    let draft = store.create_campaign(campaign("draft"), None).await;
    if let Ok(draft) = draft {
        let mut list = chunk(draft.record.key, 0, 4_000);
        for recipient in &mut list.recipients {
            recipient.params = format!("[\"{}\"]", "x".repeat(200)).into();
        }
        assert!(matches!(store.append_recipients(list).await, Err(StoreError::Unavailable(_))));
        assert_eq!(store.imports(draft.record.key).await.unwrap(), []);
    }

    store.set_pages_max(0).await.unwrap();
    let resumes = async {
        while !store.health().writable {
            // Asked as a metrics page would: nobody writes but the housekeeper.
            store.tally(key).await.unwrap();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), resumes).await.expect("writing resumes by itself");
    assert_eq!(store.commit(entries(100)).await.unwrap().results.len(), 4_000);
    assert_eq!(checked_counts(&*store, key).await.tally.open, 4_100);
    assert!(store.counters().failed_groups > 0);
}
