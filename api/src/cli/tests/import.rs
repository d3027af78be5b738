//! Importing files.

use std::path::PathBuf;

use sluice_proto::v1::{CampaignState as State, Provider};

use super::*;

/// A folder with a file in it.
fn file(text: &[u8]) -> (tempfile::TempDir, String, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("list.csv");
    std::fs::write(&path, text).expect("written");
    let name = path.to_str().expect("text").to_owned();
    (folder, name, path.with_extension("refused.csv"))
}

async fn server() -> Fake {
    Fake::start(|world| {
        world.campaign("spring", State::Draft);
        world.template_columns = vec!["body_param_1".into()];
    })
    .await
}

fn rows(count: usize) -> String {
    (0..count).fold("phone,body_param_1\n".to_owned(), |text, n| format!("{text}+999{n:08},name {n}\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_file_arrives_in_order() {
    let fake = server().await;
    let (_folder, name, report) = file(rows(25_001).as_bytes());
    let ran = run(&fake, ["import", "spring", &name, "-o", "json"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let summary = ran.json();
    assert_eq!(
        (&summary["rows"], &summary["stored"], &summary["importId"]),
        (&25_001.into(), &25_001.into(), &"list".into())
    );
    let world = fake.world.lock();
    assert_eq!(world.import.rows.len(), 25_001);
    assert_eq!(world.import.rows[25_000].body_params, ["name 25000"]);
    assert_eq!(world.import.chunks.len(), 13, "chunks of 2,000");
    assert!(!report.exists(), "nothing was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_rows_are_listed_with_line_column_and_reason() {
    let fake = server().await;
    fake.world.lock().import.chunk_rows_max = 3;
    let text = "notes,phone,external_id,body_param_1\n\
                \"two\nlines\",+99900000001,ok,a\n\
                x,+99900000002,bad,\n\
                x,+99900000003\n\
                \n\
                x,+99900000004,ok,d\n\
                x,+99900000005,bad,e\n\
                x,+99900000006,bad,f,g\n";
    let (_folder, name, report) = file(text.as_bytes());
    let ran = run(&fake, ["import", "spring", &name]).await;
    assert_eq!(ran.exit, Exit::Partial, "{}", ran.err);
    assert!(ran.out.starts_with("import list: 6 rows, 2 stored, 4 refused"), "{}", ran.out);
    assert!(ran.out.contains("list.refused.csv"), "{}", ran.out);
    assert!(ran.err.contains("ignored columns, which mean nothing to the template: notes"), "{}", ran.err);
    assert_eq!(
        std::fs::read_to_string(report).expect("the report"),
        "row,line,column,reason\n\
         2,4,body_param_1,is missing\n\
         3,5,external_id,\"the row has 2 fields, the header has 4\"\n\
         5,8,body_param_1,is missing\n\
         6,9,5,\"the row has 5 fields, the header has 4\"\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_is_survived_and_nothing_is_stored_twice() {
    let fake = server().await;
    fake.world.lock().import.break_after = Some(5);
    let (_folder, name, _) = file(rows(20_000).as_bytes());
    let ran = run(&fake, ["import", "spring", &name]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(ran.err.contains("the connection broke (restarting)"), "{}", ran.err);
    let world = fake.world.lock();
    assert_eq!(world.import.rows.len(), 20_000);
    assert!(world.import.rows.iter().enumerate().all(|(n, row)| row.body_params == [format!("name {n}")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_import_says_what_stays_and_goes_on_from_there() {
    let fake = server().await;
    fake.world.lock().import.stall_at = Some(6_000);
    let (_folder, name, _) = file(rows(20_000).as_bytes());
    let interrupt = CancellationToken::new();
    let around = Around { interrupt: interrupt.clone(), ..Around::default() };
    let world = fake.world.clone();
    let stop = tokio::spawn(async move {
        while world.lock().import.rows.len() < 8_000 {
            tokio::task::yield_now().await;
        }
        interrupt.cancel();
    });
    let ran = run_with(&fake, around, ["import", "spring", &name]).await;
    stop.await.expect("stopped");
    assert_eq!(ran.exit, Exit::Interrupted);
    assert!(ran.err.contains("of 20,000 rows are stored durably in import list"), "{}", ran.err);
    assert!(ran.err.contains("The same command again goes on behind what is stored"), "{}", ran.err);

    {
        let import = &mut fake.world.lock().import;
        import.stall_at = None;
        import.chunks.clear();
    }
    let ran = run(&fake, ["import", "spring", &name, "-o", "json"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let held = ran.json()["resumedFrom"].as_u64().expect("a number");
    assert_eq!(held, 8_000, "durable, though the word of it never came");
    let world = fake.world.lock();
    assert_eq!(world.import.rows.len(), 20_000);
    assert_eq!(
        world.import.chunks[..5],
        [(0, 2_000), (2_000, 2_000), (4_000, 2_000), (6_000, 2_000), (8_000, 2_000)],
        "all of what is held is compared, and then it goes on"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_file_under_the_same_name_is_found() {
    let fake = server().await;
    let (_folder, name, _) = file(rows(5_000).as_bytes());
    assert_eq!(run(&fake, ["import", "spring", &name]).await.exit, Exit::Ok);
    // In the first chunk, in one between, and in the last.
    for (changed, rows_of_it) in [(7, "rows 1 to 2000"), (3_007, "rows 2001 to 4000"), (4_999, "rows 4001 to 5000")] {
        let (_other, other, _) = file(rows(5_000).replace(&format!("name {changed}\n"), "name seven\n").as_bytes());
        let ran = run(&fake, ["import", "spring", &other]).await;
        assert_eq!(ran.exit, Exit::Refused, "row {changed}: {}", ran.out);
        assert!(ran.err.contains("made from another file") && ran.err.contains("--import-id"), "{}", ran.err);
        assert!(ran.err.contains(rows_of_it), "{}", ran.err);
        let ran = run(&fake, ["import", "spring", &other, "--no-compare"]).await;
        assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    }
    let (_short, short, _) = file(rows(10).as_bytes());
    let ran = run(&fake, ["import", "spring", &short]).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.contains("has 5000 rows, the file only 10"), "{}", ran.err);
    let ran = run(&fake, ["import", "spring", &name]).await;
    assert_eq!(ran.exit, Exit::Ok, "the same file again is no mistake: {}", ran.err);
    assert_eq!(fake.world.lock().import.rows.len(), 5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_broken_anywhere_sends_nothing() {
    let fake = server().await;
    let mut latin = rows(3_000).into_bytes();
    latin.extend(b"+999,M\xFCller\n");
    let cases: [(&[u8], &str); 8] = [
        (&latin, ":3002:7: not UTF-8 (byte 0xFC)"),
        (b"phone,body_param_1\n+999,\"open\n", ":2:6: the quote that opens here is never closed"),
        (b"phone;body_param_1\n+999;a\n", "--delimiter ';'"),
        (b"body_param_1\na\n", "there is no column `phone`"),
        (b"phone\n+999\n", "the template needs a column `body_param_1`"),
        (b"phone,body_param_1\n", "there is no row after the header"),
        (b"", "the file is empty"),
        (b"\xFF\xFEp\0", "UTF-16"),
    ];
    for (text, expected) in cases {
        let (_folder, name, _) = file(text);
        let ran = run(&fake, ["import", "spring", &name]).await;
        assert!(matches!(ran.exit, Exit::Refused | Exit::Usage), "{ran:?}");
        assert!(ran.err.contains(expected) && ran.err.contains("list.csv"), "{expected}: {}", ran.err);
    }
    assert!(fake.asked("ImportRecipients").is_empty());
    assert_eq!(run(&fake, ["import", "spring", "/nowhere.csv"]).await.exit, Exit::Usage);
    assert_eq!(run(&fake, ["import", "nobody", "/nowhere.csv"]).await.exit, Exit::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_sms_a_missing_column_is_a_remark() {
    let fake = server().await;
    fake.world.lock().provider = Provider::TwilioSms;
    let (_folder, name, _) = file(b"phone\tname\n+99900000001\tx\n");
    let ran = run(&fake, ["import", "spring", &name, "--delimiter", "tab"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert!(ran.err.contains("columns of the template that the file lacks: body_param_1"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_is_imported_like_a_file() {
    let fake = server().await;
    let piped = |input: String| Around { input, ..Around::default() };
    let ran = run_with(&fake, piped(rows(5)), ["import", "spring", "-"]).await;
    assert_eq!(ran.exit, Exit::Usage, "{}", ran.err);
    assert!(ran.err.contains("--import-id"), "{}", ran.err);
    let line = ["import", "spring", "-", "--import-id", "piped", "-o", "json"];
    let ran = run_with(&fake, piped(rows(5_001)), line).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let summary = ran.json();
    assert_eq!((&summary["rows"], &summary["importId"]), (&5_001.into(), &"piped".into()));
    assert_eq!(fake.world.lock().import.rows.len(), 5_001);
    let ran = run_with(&fake, piped("phone,body_param_1\n\"open".to_owned()), line).await;
    assert_eq!(ran.exit, Exit::Refused, "{}", ran.err);
    assert!(ran.err.contains("standard input:2"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_never_takes_the_place_of_the_list() {
    let fake = server().await;
    let text = "phone,external_id,body_param_1\n+99900000001,ok,a\n+99900000002,bad,\n";
    let (folder, name, _) = file(text.as_bytes());
    let link = folder.path().join("link.csv");
    std::os::unix::fs::symlink(&name, &link).expect("linked");
    let link = link.to_str().expect("text");
    let inside = folder.path().join("nowhere/report.csv");
    let (inside, folder_name) = (inside.to_str().expect("text"), folder.path().to_str().expect("text"));
    for (refused, expected) in [
        (name.as_str(), "is the file to import"),
        (link, "is the file to import"),
        (inside, "a folder that is not there"),
        (folder_name, "is a folder"),
    ] {
        let ran = run(&fake, ["import", "spring", &name, "--refused", refused]).await;
        assert_eq!(ran.exit, Exit::Usage, "{}", ran.err);
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
    assert!(fake.asked("ImportRecipients").is_empty(), "nothing was done");
    assert_eq!(std::fs::read_to_string(&name).expect("there"), text);

    // What a link leads to is replaced, whole; nothing else is left behind.
    let report = folder.path().join("earlier.csv");
    std::fs::write(&report, "an earlier report").expect("written");
    std::fs::remove_file(link).expect("removed");
    std::os::unix::fs::symlink(&report, link).expect("linked");
    let ran = run(&fake, ["import", "spring", &name, "--refused", link]).await;
    assert_eq!(ran.exit, Exit::Partial, "{}", ran.err);
    let written = std::fs::read_to_string(&report).expect("there");
    assert!(written.starts_with("row,line,column,reason\n2,3,body_param_1"), "{written}");
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("read").file_name()).collect();
    left.sort();
    assert_eq!(left, ["earlier.csv", "link.csv", "list.csv"]);
}
