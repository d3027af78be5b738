//! Watching and exporting.

use sluice_proto::v1::{
    self, CampaignDelta, CampaignState as State, MessageStatus, StatusCount, WatchCampaignResponse,
    watch_campaign_response::Update,
};
use tonic::Status;

use super::*;

fn snapshot(state: State) -> Result<WatchCampaignResponse, Status> {
    let status = |status: MessageStatus, count| StatusCount { status: status as i32, count };
    let tally = v1::Tally {
        total: 10,
        by_status: vec![status(MessageStatus::Pending, 10), status(MessageStatus::Failed, 0)],
        ..v1::Tally::default()
    };
    let campaign = v1::Campaign {
        campaign_id: "a".into(),
        state: state as i32,
        stats: Some(v1::CampaignStats { tally: Some(tally), remaining: 10, ..v1::CampaignStats::default() }),
        ..v1::Campaign::default()
    };
    Ok(WatchCampaignResponse { update: Some(Update::Snapshot(campaign)) })
}

fn delta(state: State, failed: u64) -> Result<WatchCampaignResponse, Status> {
    let delta = CampaignDelta {
        state: state as i32,
        by_status: vec![StatusCount { status: MessageStatus::Failed as i32, count: failed }],
        remaining: 10 - failed,
        ..CampaignDelta::default()
    };
    Ok(WatchCampaignResponse { update: Some(Update::Delta(delta)) })
}

async fn watched(steps: Vec<Vec<Result<WatchCampaignResponse, Status>>>) -> Fake {
    Fake::start(|world| {
        world.campaign("a", State::Running);
        world.watches = steps.into();
    })
    .await
}

#[tokio::test]
async fn without_a_terminal_lines_are_written_and_the_last_word_always() {
    let fake =
        watched(vec![vec![snapshot(State::Running), delta(State::Running, 3), delta(State::Completed, 10)]]).await;
    let ran = run(&fake, ["watch", "a", "--until", "dispatched", "--every", "1h"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.out);
    assert!(lines[0].contains("state=running") && lines[0].contains("left=10"), "{}", lines[0]);
    assert!(lines[1].contains("state=completed") && lines[1].contains("failed=10"), "{}", lines[1]);
    assert!(fake.asked("WatchCampaign")[0].contains("until: Dispatched"));
}

#[tokio::test]
async fn programs_get_every_step() {
    let fake = watched(vec![vec![snapshot(State::Running), delta(State::Completed, 10)]]).await;
    let ran = run(&fake, ["watch", "a", "-o", "ndjson"]).await;
    let steps: Vec<serde_json::Value> = ran.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(steps[0]["snapshot"]["campaignId"], "a");
    assert_eq!(steps[1]["delta"]["byStatus"][0]["count"], 10);
}

#[tokio::test]
async fn a_watch_survives_a_restart_of_the_server() {
    let fake = watched(vec![
        vec![snapshot(State::Running), Err(Status::unavailable("restarting"))],
        vec![snapshot(State::Running), delta(State::Completed, 10)],
    ])
    .await;
    let ran = run(&fake, ["watch", "a"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert_eq!(fake.asked("WatchCampaign").len(), 2);
}

#[tokio::test]
async fn watches_end_as_their_campaigns_do() {
    let fake = watched(vec![vec![snapshot(State::Failed)]]).await;
    assert_eq!(run(&fake, ["watch", "a"]).await.exit, Exit::Failed, "the campaign failed");
    let ran = run(&fake, ["watch", "nobody"]).await;
    assert_eq!(ran.exit, Exit::NotFound);
    assert!(ran.err.contains("campaign nobody: there is no campaign"), "{}", ran.err);
    assert_eq!(run(&fake, ["watch", "nobody", "nobody-else"]).await.exit, Exit::Partial);
    assert_eq!(run(&fake, ["watch", "a", "--updates", "50"]).await.exit, Exit::Usage);
    let fake = watched(vec![vec![snapshot(State::Running), Err(Status::unavailable("gone"))]]).await;
    assert_eq!(run(&fake, ["watch", "a", "--retry-for", "0s"]).await.exit, Exit::Unavailable);
}

#[tokio::test]
async fn an_interrupted_watch_says_that_the_server_goes_on() {
    let fake = watched(vec![vec![snapshot(State::Running)]]).await;
    fake.world.lock().watch_stays_open = true;
    let interrupt = CancellationToken::new();
    let around = Around { interrupt: interrupt.clone(), ..Around::default() };
    let world = fake.world.clone();
    tokio::spawn(async move {
        while world.lock().asked.is_empty() {
            tokio::task::yield_now().await;
        }
        interrupt.cancel();
    });
    let ran = run_with(&fake, around, ["watch", "a"]).await;
    assert_eq!(ran.exit, Exit::Interrupted);
    assert!(ran.err.contains("the server goes on by itself. `sluice pause a` stops the sending."), "{}", ran.err);
}

fn batch(seqs: std::ops::Range<u32>, resume_token: &str) -> Result<v1::ExportMessagesResponse, Status> {
    let message = |seq| v1::Message {
        campaign_id: "a".into(),
        seq,
        external_id: format!("id, \"{seq}\""),
        address: "+9991".into(),
        status: MessageStatus::Sent as i32,
        stage_reached: v1::Stage::Sent as i32,
        ..v1::Message::default()
    };
    let messages = seqs.map(message).collect();
    Ok(v1::ExportMessagesResponse { messages, resume_token: resume_token.into(), as_of: None })
}

async fn exported(batches: Vec<Vec<Result<v1::ExportMessagesResponse, Status>>>) -> Fake {
    Fake::start(|world| world.exports = batches.into()).await
}

#[tokio::test]
async fn an_export_goes_on_behind_the_last_batch() {
    let fake = exported(vec![
        vec![batch(0..2, "t1"), Err(Status::unavailable("restarting"))],
        vec![batch(2..3, "t2"), batch(3..4, "")],
    ])
    .await;
    let ran = run(&fake, ["export", "a"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    let mut reader = csv::Reader::from_reader(ran.out.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    let seqs: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(seqs, ["0", "1", "2", "3"]);
    assert_eq!((&rows[1][1], &rows[1][3], &rows[1][4]), ("id, \"1\"", "sent", "sent"));
    assert!(fake.asked("ExportMessages")[1].contains(r#"resume_token: "t1""#));
}

#[tokio::test]
async fn a_file_is_whole_or_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.ndjson");
    let name = path.to_str().expect("text");
    let fake = exported(vec![vec![batch(0..2, "t1"), Err(Status::internal("oops"))]]).await;
    assert_eq!(run(&fake, ["export", "a", "--to", name]).await.exit, Exit::Failed);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "not even a part is left");
    let fake = exported(vec![vec![batch(0..2, "")]]).await;
    let ran = run(&fake, ["export", "a", "--to", name, "--status", "sent"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.err.starts_with("2 messages written to "), "{}", ran.err);
    let text = std::fs::read_to_string(&path).expect("the file");
    let second: serde_json::Value = serde_json::from_str(text.lines().nth(1).expect("two lines")).expect("JSON");
    assert_eq!((&second["seq"], &second["status"]), (&1.into(), &"MESSAGE_STATUS_SENT".into()));
    assert!(fake.asked("ExportMessages")[0].contains("status=sent"));
}

#[tokio::test]
async fn an_earlier_export_is_replaced_only_when_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.csv");
    let name = path.to_str().expect("text");
    std::fs::write(&path, "last month\n").expect("written");
    let fake = exported(vec![vec![batch(0..2, "")]]).await;
    let ran = run(&fake, ["export", "a", "--to", name]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("--force"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "last month\n");
    assert!(fake.asked("ExportMessages").is_empty(), "refused before anything is read");
    assert_eq!(run(&fake, ["export", "a", "--to", name, "--force"]).await.exit, Exit::Ok);
    assert!(std::fs::read_to_string(&path).expect("the file").starts_with("seq,"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    // What is no plain file is never replaced.
    let ran = run(&fake, ["export", "a", "--to", "/dev/null", "--force"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(!parses(["export", "a", "--force"]));
}
