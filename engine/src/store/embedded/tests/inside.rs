//! What cannot be seen through the contract: isolation of a poisoned call, bounded memory of the seal, removals cut short.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::ids::SEGMENT_LEN;
use crate::domain::message::Reported;
use crate::store::StoreError;
use crate::store::conformance::*;
use crate::store::embedded::{counts, removal, seal};
use crate::store::{EntryResult, Page};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_panics_the_ledger_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let poisoned = running(&*store, "poisoned", 10).await.key;
    let sound = running(&*store, "sound", 2_000).await.key;
    // A count that moved without its ledger: the next intent would take it below zero.
    shell(dir.path()).execute("UPDATE segment SET pending = 0, sent = 10 WHERE campaign = ?1", [poisoned.0]).unwrap();
    let bad = store.commit(vec![entry(poisoned, 0, intent(1))]).await.unwrap_err();
    assert!(matches!(&bad, StoreError::Bug(text) if text.contains("tally")), "{bad}");
    // From now on it comes again and again, together with others; those in its first group may have to ask twice.
    let calls = (0..200).map(|i| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if i % 20 == 0 {
                let bad = store.commit(vec![entry(poisoned, 0, intent(1))]).await;
                assert!(matches!(bad, Err(StoreError::Bug(_))), "{bad:?}");
                return;
            }
            let entries = || (10 * i..10 * i + 10).map(|seq| entry(sound, seq, intent(1))).collect::<Vec<_>>();
            let mut tries = 1;
            while store.commit(entries()).await.is_err() {
                tries += 1;
                assert!(tries < 50, "the poison spreads");
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(checked_counts(&*store, sound).await.tally.open, 1_900);
    assert!(store.health().writable, "the data is to blame, not the disk");
}

#[tokio::test]
async fn a_failed_call_leaves_the_rest_of_its_group_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let seen = running(&*store, "group", 100).await;
    let mut stale = seen.clone();
    stale.version = 77;
    let (a, b, c) = tokio::join!(
        store.commit(vec![entry(seen.key, 0, intent(1))]),
        store.update_campaign(stale),
        store.commit(vec![entry(seen.key, 0, accepted(1, "w")), entry(seen.key, 1, intent(1))]),
    );
    assert_eq!(a.unwrap().results, [EntryResult::Applied]);
    assert!(matches!(b, Err(StoreError::Version { .. })));
    assert_eq!(c.unwrap().results, [EntryResult::Applied; 2]);
    assert_eq!(checked_counts(&*store, seen.key).await.tally.open, 1);
}

#[tokio::test]
async fn a_list_larger_than_memory_is_sealed_in_several_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = store.create_campaign(campaign("passes"), None).await.unwrap().record.key;
    // Each third address and each fifth id comes again later, some of them several times.
    let mut list = chunk(key, 0, 3_000);
    for (row, recipient) in list.recipients.iter_mut().enumerate() {
        if row % 3 == 2 {
            recipient.address = format!("+999{:09}", row % 700).into();
        }
        recipient.external_id = (row % 5 != 1).then(|| format!("id-{}", row % 1_900).into());
    }
    let recipients = list.recipients.clone();
    store.append_recipients(list).await.unwrap();
    let sealed = seal::seal_frozen(&store, key, at(1), 50).await.unwrap();

    // The plain way: keep the first of each, first by address, then by id.
    let (mut refused, mut by_address) = (BTreeSet::new(), BTreeMap::new());
    for r in &recipients {
        if by_address.insert(r.address.clone(), r.row).is_some() {
            refused.insert(r.row);
        }
        by_address.entry(r.address.clone()).and_modify(|row| *row = (*row).min(r.row));
    }
    let mut ids = BTreeSet::new();
    let left: Vec<_> = recipients.iter().filter(|r| !refused.contains(&r.row)).cloned().collect();
    refused.extend(left.iter().filter(|r| r.external_id.as_ref().is_some_and(|id| !ids.insert(id))).map(|r| r.row));
    assert!(refused.len() > 500, "the list has duplicates");
    let rows = store.refused_rows(key, Page { size: 10_000, after: None }).await.unwrap().items;
    let found: BTreeSet<_> = rows.iter().map(|row| row.row).collect();
    assert_eq!((found, rows.len()), (refused.clone(), refused.len()));
    assert!(rows.iter().all(|row| row.duplicate_of.as_ref().is_some_and(|(_, first)| *first < row.row)));
    assert_eq!(sealed.recipients, 3_000 - refused.len() as u64);
    checked_counts(&*store, key).await;
}

#[tokio::test]
async fn a_list_being_sealed_takes_no_recipients_until_the_seal_fails_or_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = store.create_campaign(campaign("frozen"), None).await.unwrap().record.key;
    store.append_recipients(chunk(key, 0, 10)).await.unwrap();
    let held = Arc::new(());
    store.frozen.lock().insert(key, Arc::downgrade(&held));
    let told = store.append_recipients(chunk(key, 10, 10)).await.unwrap_err().to_string();
    assert!(told.contains("being sealed"), "{told}");
    drop(held);
    // Its caller goes away as soon as the list is frozen.
    let is_frozen = std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if store.frozen.lock().get(&key).is_some_and(|hold| hold.strong_count() > 0) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    });
    tokio::select! {
        biased;
        () = is_frozen => {}
        sealed = store.seal(key, at(1)) => panic!("sealed before it was frozen: {sealed:?}"),
    }
    store.append_recipients(chunk(key, 10, 10)).await.unwrap();
    store.seal(key, at(1)).await.unwrap();
}

/// While messages of every segment move, between any two reads; and no read holds the log.
#[tokio::test]
async fn a_recount_under_way_says_the_truth_and_holds_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = running(&*store, "recount", 2 * SEGMENT_LEN + 50).await.key;
    let seqs = [0, 1, 2, SEGMENT_LEN, SEGMENT_LEN + 1, SEGMENT_LEN + 2, 2 * SEGMENT_LEN, 2 * SEGMENT_LEN + 1];
    all_apply(&*store, key, seqs.map(|seq| (seq, intent(1))).to_vec()).await;
    let failed = report(1, Reported::Failed);
    let mut recount = store.readers.read(move |conn| counts::Recount::begin(conn, key)).await.unwrap();
    let mut steps = 0;
    let (kept, counted) = loop {
        steps += 1;
        match store.readers.read_at_once(move |conn| recount.step(conn)).await.unwrap() {
            counts::Progress::Done(kept, counted) => break (kept, counted),
            counts::Progress::More(rest) => recount = rest,
        }
        // One of each segment fails, whether it is counted already or not.
        let moved = [0, SEGMENT_LEN, 2 * SEGMENT_LEN].map(|first| entry(key, first + steps - 1, failed.clone()));
        assert_eq!(store.commit(moved.to_vec()).await.unwrap().results, [EntryResult::Applied; 3]);
        let emptied: (u32, i64, i64) = shell(dir.path())
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!(emptied, (0, 0, 0), "a reader holds the log");
    };
    assert_eq!(steps, 3, "one read a segment");
    assert_eq!((&kept.tally, &kept.failures), (&counted.tally, &counted.failures));
    // Nothing in the first segment, one of the second, two of the third.
    assert_eq!(kept.failures.into_iter().collect::<Vec<_>>(), [(131_026, 3)]);
    assert_eq!(checked_counts(&*store, key).await.failures[&131_026], 6);
}

#[tokio::test]
async fn a_recount_of_a_list_that_grows_counts_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = store.create_campaign(campaign("growing"), None).await.unwrap().record.key;
    store.append_recipients(chunk(key, 0, SEGMENT_LEN + 10)).await.unwrap();
    let recount = store.readers.read(move |conn| counts::Recount::begin(conn, key)).await.unwrap();
    store.append_recipients(chunk(key, u64::from(SEGMENT_LEN) + 10, SEGMENT_LEN)).await.unwrap();
    let step = store.readers.read_at_once(move |conn| recount.step(conn)).await.unwrap();
    let counts::Progress::More(recount) = step else { panic!("two segments: {step:?}") };
    // Sealed half-way: it begins anew.
    store.seal(key, at(1)).await.unwrap();
    let mut rest = recount;
    let (kept, counted) = loop {
        match store.readers.read_at_once(move |conn| rest.step(conn)).await.unwrap() {
            counts::Progress::Done(kept, counted) => break (kept, counted),
            counts::Progress::More(more) => rest = more,
        }
    };
    assert_eq!((&kept.tally, kept.tally.recipients()), (&counted.tally, u64::from(2 * SEGMENT_LEN) + 10));
}

#[tokio::test]
async fn a_removal_cut_short_is_finished_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (gone, kept) = (running(&*store, "gone", 20_000).await, running(&*store, "kept", 50).await);
    all_apply(&*store, gone.key, (0..9_000).map(|seq| (seq, intent(1))).collect()).await;
    let (key, version) = (gone.key, gone.version);
    store.write(move |ledger| removal::begin(ledger, key, version)).await.unwrap();
    store.write(removal::next_step).await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let store = open(dir.path());
    let shell = shell(dir.path());
    let rest = || -> u32 {
        let sql = "SELECT (SELECT count(*) FROM removal) + (SELECT count(*) FROM recipient WHERE campaign = ?1)
            + (SELECT count(*) FROM message WHERE campaign = ?1) + (SELECT count(*) FROM segment WHERE campaign = ?1)";
        shell.query_row(sql, [key.0], |row| row.get(0)).unwrap()
    };
    let finished = async {
        while rest() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), finished).await.expect("the removal goes on");
    assert_eq!(checked_counts(&*store, kept.key).await.tally.recipients(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_bounded_under_steady_writing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = running(&*store, "log", 40_000).await.key;
    for round in [intent(1), accepted(1, "w"), report(1, Reported::Read)] {
        for first in (0..40_000).step_by(400) {
            let some = (first..first + 400).map(|seq| entry(key, seq, round.clone())).collect();
            store.commit(some).await.unwrap();
        }
    }
    let log = std::fs::metadata(dir.path().join("ledger.db-wal")).unwrap().len();
    assert!(log < 80 << 20, "the log has {log} bytes");
    assert!(store.counters().checkpoints > 0);
    checked_counts(&*store, key).await;
}
