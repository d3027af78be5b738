//! What is refused at opening, each with words that say what to do; and what can be done from outside while it is open.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::Command;

use super::*;
use crate::domain::campaign::{Campaign, CampaignState, HoldKind};
use crate::domain::ids::SEGMENT_LEN;
use crate::domain::message::{Decision, Event, Reported};
use crate::domain::stage::End;
use crate::store::StoreError;
use crate::store::conformance::*;
use crate::store::embedded::OpenError;

const SECOND_DIR: &str = "SLUICE_TEST_SECOND_ENGINE";

fn refusal(dir: &Path) -> OpenError {
    EmbeddedStore::open(EmbeddedConfig::new(dir), Clock::system()).err().expect("it must be refused")
}

#[tokio::test]
async fn a_second_engine_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let here = refusal(dir.path());
    assert!(matches!(&here, OpenError::InUse { .. }), "{here}");
    assert!(here.to_string().contains(&format!("process {}", std::process::id())), "{here}");
    let test = "store::embedded::tests::files::another_process";
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(SECOND_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(said.contains("refused: ") && said.contains("another engine"), "{said}");
    store.close().await.unwrap();
    drop(store);
    open(dir.path());
}

/// Not a test of its own: the second process of the test above.
#[test]
#[ignore = "run by a_second_engine_is_refused_at_once"]
fn another_process() {
    let Ok(dir) = std::env::var(SECOND_DIR) else { return };
    println!("refused: {}", refusal(Path::new(&dir)));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().await.unwrap();
    shell(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(dir.path().join(LEDGER_FILE)).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Newer { found: 99, known: 2, .. }), "{error}");
    assert!(error.to_string().contains("newer program"), "{error}");
    assert_eq!(std::fs::read(dir.path().join(LEDGER_FILE)).unwrap(), before);
}

/// The tables as version 1 made them, put back under a ledger of today.
#[tokio::test]
async fn a_ledger_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = running(&*store, "old", SEGMENT_LEN + 10).await.key;
    let seqs = [0, 1, 2, SEGMENT_LEN, SEGMENT_LEN + 1];
    all_apply(&*store, key, seqs.map(|seq| (seq, intent(1))).to_vec()).await;
    all_apply(&*store, key, seqs[1..].iter().map(|seq| (*seq, report(1, Reported::Failed))).collect()).await;
    let before = checked_counts(&*store, key).await;
    store.close().await.unwrap();
    drop(store);
    shell(dir.path())
        .execute_batch(
            "DROP TABLE failure;
             CREATE TABLE failure (campaign INTEGER NOT NULL, code INTEGER NOT NULL, count INTEGER NOT NULL,
                 PRIMARY KEY (campaign, code)) STRICT, WITHOUT ROWID;
             INSERT INTO failure VALUES (1, 131026, 4);
             PRAGMA user_version = 1;",
        )
        .unwrap();

    let store = open(dir.path());
    assert_eq!(before.failures.into_iter().collect::<Vec<_>>(), [(131_026, 4)]);
    assert_eq!(checked_counts(&*store, key).await.failures.into_iter().collect::<Vec<_>>(), [(131_026, 4)]);
    all_apply(&*store, key, vec![(0, report(1, Reported::Failed))]).await;
    assert_eq!(checked_counts(&*store, key).await.failures[&131_026], 5);
    let version: u32 = shell(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn damaged_files_are_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LEDGER_FILE);
    let store = open(dir.path());
    let key = running(&*store, "damage", 3_000).await.key;
    all_apply(&*store, key, (0..500).map(|seq| (seq, intent(1))).collect()).await;
    store.close().await.unwrap();
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let page = 4_096;
    let mut cases = vec![
        ("a letter to my aunt".repeat(1_000).into_bytes(), "no database"),
        (whole[..whole.len() / 2].to_vec(), "half of it"),
        (whole[..page + 100].to_vec(), "a torn second page"),
    ];
    for first in [page, 3 * page, whole.len() / page / 2 * page] {
        let mut hole = whole.clone();
        hole[first..first + page].fill(0xA5);
        cases.push((hole, "a page of rubbish"));
    }
    for (bytes, what) in cases {
        std::fs::write(&path, bytes).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, OpenError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains("backup"), "{what}: {error}");
    }
    std::fs::write(&path, whole).unwrap();
    assert_eq!(checked_counts(&*open(dir.path()), key).await.tally.open, 500);
}

#[tokio::test]
async fn a_foreign_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    shell(dir.path()).execute_batch("CREATE TABLE mine (x)").unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, OpenError::Refused { .. }) && error.to_string().contains("not a ledger"), "{error}");
}

#[tokio::test]
async fn a_ledger_that_was_lost_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LEDGER_FILE);
    // A start that was killed while it made the ledger, and before.
    std::fs::write(dir.path().join("ledger.db.new"), b"half of it").unwrap();
    std::fs::write(dir.path().join("ledger.lock"), b"process 1\n").unwrap();
    open(dir.path()).close().await.unwrap();
    assert!(!dir.path().join("ledger.db.new").exists());
    let whole = std::fs::read(&path).unwrap();
    let says = |what: &str| {
        let error = refusal(dir.path());
        assert!(matches!(&error, OpenError::Lost { .. }) && error.to_string().contains(what), "{error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
    };
    std::fs::write(&path, b"").unwrap();
    says("is empty");
    std::fs::remove_file(&path).unwrap();
    says("is gone");
    // Also by its log alone.
    std::fs::remove_file(dir.path().join("ledger.lock")).unwrap();
    std::fs::write(dir.path().join("ledger.db-wal"), b"").unwrap();
    says("is gone");
    std::fs::write(&path, whole).unwrap();
    open(dir.path());
}

#[tokio::test]
async fn a_log_that_is_none_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    running(&*store, "log", 3).await;
    store.close().await.unwrap();
    drop(store);
    let log = dir.path().join("ledger.db-wal");
    std::fs::write(&log, [0x5A; 4_096]).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, OpenError::Damaged { .. }) && error.to_string().contains("write-ahead log"), "{error}");
    // Claimed from the disk, and not written when the power went.
    std::fs::write(&log, [0; 4_096]).unwrap();
    open(dir.path());
}

#[tokio::test]
async fn damage_found_while_running_is_told_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = running(&*store, "damage", 5_000).await.key;
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path());
    let path = dir.path().join(LEDGER_FILE);
    let pages = std::fs::metadata(&path).unwrap().len() / 4_096;
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(4_096 * (pages / 3))).unwrap();
    file.write_all(&vec![0x5A; 4_096 * (pages / 3) as usize]).unwrap();
    let error = store.recount(key).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn the_shell_sees_what_is_shown_while_the_engine_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let campaign = running(&*store, "shown", 30).await;
    let key = campaign.key;
    all_apply(&*store, key, (0..14).map(|seq| (seq, intent(1))).collect()).await;
    let again = Event::Resolved { decision: Decision::SendAgain, at: at(6_000) };
    let events = vec![
        (1, accepted(1, "w1")),
        (2, report(1, Reported::Sent)),
        (3, report(1, Reported::Delivered)),
        (4, report(1, Reported::Read)),
        (5, report(1, Reported::Read)),
        (5, report(1, Reported::Failed)),
        (6, Event::Rejected { attempt: 1, at: at(1), failure: failure(5) }),
        (7, doubt(1, 9_000)),
        (8, doubt(1, 9_000)),
        (8, Event::DoubtExpired { at: at(9_000), resend_up_to: None }),
        (9, doubt(1, 9_000)),
        (9, again),
        (10, Event::Withdrawn { attempt: 1, at: at(1) }),
        (11, doubt(1, 9_000)),
        (11, Event::DoubtExpired { at: at(9_000), resend_up_to: Some(5) }),
        (11, intent(2)),
        (11, report(1, Reported::Sent)),
        (11, Event::Withdrawn { attempt: 2, at: at(1) }),
    ];
    all_apply(&*store, key, events).await;
    for end in [None, Some(End::Expired)] {
        if let Some(end) = end {
            let now = store.campaign_by_key(key).await.unwrap();
            store.end_campaign(now, end).await.unwrap();
        }
        let shell = shell(dir.path());
        let mut statement = shell.prepare("SELECT seq, status FROM message_status ORDER BY seq").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
        let mut seen = 0;
        for row in rows {
            let (seq, status) = row.unwrap();
            let shown = store.message(message(key, seq)).await.unwrap().shown;
            assert_eq!(status, shown.name(), "message {seq}");
            seen += 1;
        }
        assert_eq!(seen, 30);
        let tally = store.tally(key).await.unwrap().tally;
        let (pending, expired, failed): (u64, u64, u64) = shell
            .query_row("SELECT pending, expired, failed FROM campaign_tally WHERE id = 'shown'", [], |row| {
                Ok((row.get::<_, u32>(0)?.into(), row.get::<_, u32>(1)?.into(), row.get::<_, u32>(2)?.into()))
            })
            .unwrap();
        use crate::domain::stage::Shown;
        assert_eq!([pending, expired, failed], [Shown::Pending, Shown::Expired, Shown::Failed].map(|s| tally.count(s)));
        let doubts: u32 = shell.query_row("SELECT count(*) FROM attempt_in_doubt", [], |row| row.get(0)).unwrap();
        assert_eq!(doubts, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_writing_opens_and_recounts() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let key = running(&*store, "backup", 5_000).await.key;
    let writing = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for first in (0..5_000).step_by(50) {
                all_apply(&*store, key, (first..first + 50).map(|seq| (seq, intent(1))).collect()).await;
            }
        })
    };
    let target = other.path().join(LEDGER_FILE);
    let report = store.backup(&target).await.unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&target).unwrap().len());
    writing.await.unwrap();
    let error = store.backup(&target).await.unwrap_err();
    assert!(matches!(&error, StoreError::Conflict(text) if text.contains("exists")), "{error}");
    assert!(matches!(store.backup(Path::new("/nowhere/at/all")).await, Err(StoreError::Unavailable(_))));
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1, "no half copies are left");

    let copy = open(other.path());
    let held = copy.campaign_by_key(key).await.unwrap();
    assert_eq!(held.hold.as_ref().map(|hold| hold.kind), Some(HoldKind::Restored), "what left since is not known");
    assert!(held.hold.unwrap().reason.contains("made at 20"), "it says when");
    let resumed = Campaign { state: CampaignState::Running, hold: None, ..copy.campaign_by_key(key).await.unwrap() };
    copy.update_campaign(resumed).await.unwrap();
    copy.close().await.unwrap();
    drop(copy);
    let copy = open(other.path());
    assert_eq!(copy.campaign_by_key(key).await.unwrap().state, CampaignState::Running, "a person's word holds");
    let tally = checked_counts(&*copy, key).await.tally;
    assert_eq!((tally.recipients(), tally.open % 50), (5_000, 0));
    assert_eq!(copy.installation_secret().await.unwrap(), store.installation_secret().await.unwrap());
    assert_eq!(checked_counts(&*store, key).await.tally.open, 5_000);
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    running(&*store, "private", 3).await;
    assert!(store.health().bytes > 0);
    store.backup(&dir.path().join("copy.db")).await.unwrap();
    for name in [LEDGER_FILE, "ledger.db-wal", "copy.db"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
