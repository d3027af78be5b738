//! What is shown, at eighty columns.

use sluice_proto::v1::{self, CampaignState as State, MessageStatus, Stage};

use super::*;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_900_000_000 + seconds, nanos: 0 })
}

/// A campaign as it is in the middle of its life.
fn busy(campaign: &mut v1::Campaign) {
    let status = |status: MessageStatus, count| v1::StatusCount { status: status as i32, count };
    let stage = |stage: Stage, count| v1::StageCount { stage: stage as i32, count };
    campaign.labels.insert("team".into(), "growth".into());
    campaign.created_by = "ada".into();
    campaign.create_time = at(0);
    campaign.started_time = at(60);
    campaign.audience = Some(v1::Audience { count: 20_000, sha256: "ab".repeat(32), seal_time: at(50) });
    let settings = campaign.settings.get_or_insert_default();
    settings.rate = Some(v1::SendRate { count: 80, per: v1::RatePeriod::Second as i32, burst: Some(8) });
    settings.workers = Some(256);
    campaign.stats = Some(v1::CampaignStats {
        as_of: at(120),
        tally: Some(v1::Tally {
            total: 20_000,
            by_status: vec![
                status(MessageStatus::Pending, 7_000),
                status(MessageStatus::Queued, 655),
                status(MessageStatus::InDoubt, 0),
                status(MessageStatus::Sent, 4_345),
                status(MessageStatus::Delivered, 6_000),
                status(MessageStatus::Read, 1_900),
                status(MessageStatus::Failed, 100),
            ],
            by_stage: vec![stage(Stage::Sent, 12_345), stage(Stage::Delivered, 8_000), stage(Stage::Read, 1_900)],
            accepted: 12_900,
            conflicts: 1,
            doubles: 0,
        }),
        refused: 2,
        in_flight: 55,
        failures: vec![v1::FailureCount {
            provider: v1::Provider::Meta as i32,
            code: "131026".into(),
            title: "Message undeliverable".into(),
            class: v1::FailureClass::Recipient as i32,
            count: 100,
        }],
        remaining: 7_000,
        progress_percent: 65.0,
        delivery_rate_percent: 64.8,
        read_rate_percent: 23.75,
        current_rate: 79.9,
        average_rate: 78.2,
        estimated_end_time: at(207),
        binding_limit: v1::BindingLimit::Rate as i32,
    });
}

#[tokio::test]
async fn one_campaign() {
    let fake = Fake::start(|world| busy(world.campaign("spring", State::Running))).await;
    let ran = run(&fake, ["campaigns", "show", "spring"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert_eq!(ran.out, include_str!("campaign.txt"));
}

#[tokio::test]
async fn lists_fit_eighty_columns() {
    let fake = Fake::start(|world| {
        busy(world.campaign("spring-sale-2031", State::Running));
        busy(world.campaign("autumn", State::Completed));
        world.messages = vec![message()];
    })
    .await;
    let ran = run(&fake, ["campaigns", "list"]).await;
    assert_eq!(
        ran.out,
        "CAMPAIGN          STATE       TOTAL    SENT  DELIVERED   READ  FAILED  DONE\n\
         autumn            completed  20,000  12,345      8,000  1,900     100   65%\n\
         spring-sale-2031  running    20,000  12,345      8,000  1,900     100   65%\n"
    );
    for line in [
        &["lines", "list"][..],
        &["lines", "show", "eu-1"],
        &["pools", "list"],
        &["accounts"],
        &["messages", "spring"],
        &["message", "spring", "17"],
        &["in-doubt", "spring"],
        &["orphans"],
        &["imports", "spring"],
        &["totals"],
        &["info"],
        &["campaigns", "show", "autumn"],
    ] {
        let ran = match line {
            [a] => run(&fake, [a]).await,
            [a, b] => run(&fake, [a, b]).await,
            [a, b, c] => run(&fake, [a, b, c]).await,
            _ => unreachable!("no longer lines above"),
        };
        assert_eq!(ran.exit, Exit::Ok, "{line:?}: {}", ran.err);
        let longest = ran.out.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(longest <= 81 && longest > 0, "{line:?} takes {longest} columns:\n{}", ran.out);
    }
}

#[tokio::test]
async fn who_owns_what_and_why() {
    let span = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let node = |name: &str, state: v1::NodeState| v1::Node {
        node_id: name.into(),
        address: "10.0.0.7:7403".into(),
        version: "0.1.0".into(),
        protocol: 1,
        state: state.into(),
        load: 161,
        pools: 2,
        ..v1::Node::default()
    };
    let pool = |id: &str, node: &str, to: &str| v1::PoolOwnership {
        pool_id: id.into(),
        node_id: node.into(),
        reason: v1::OwnershipReason::TakenOver.into(),
        since_time: at(0),
        state: v1::OwnershipState::Owned.into(),
        to_node_id: to.into(),
    };
    let fake = Fake::start(|world| {
        world.nodes = v1::GetNodesResponse {
            node_id: "a".into(),
            nodes: vec![
                v1::Node { lease_left: span(5, 250_000_000), ..node("a", v1::NodeState::Alive) },
                v1::Node {
                    silent_for: span(0, 300_000_000),
                    clock_ahead: span(-1, -250_000_000),
                    protocol: 3,
                    ..node("b", v1::NodeState::Draining)
                },
                v1::Node { load: 0, pools: 0, protocol: 7, ..node("c", v1::NodeState::Gone) },
                v1::Node { protocol: 2, ..node("d", v1::NodeState::Alive) },
            ],
            pools: vec![pool("sms", "a", ""), pool("wa", "b", "a")],
            ..v1::GetNodesResponse::default()
        };
    })
    .await;
    let ran = run(&fake, ["nodes"]).await;
    assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
    assert_eq!(ran.out, include_str!("nodes.txt"));
    let fake = Fake::start(|world| world.nodes.node_id = "local".into()).await;
    assert_eq!(run(&fake, ["nodes"]).await.out, "local has its ledger for itself: everything is its own.\n");
}

#[tokio::test]
async fn lists_for_programs() {
    let fake = Fake::start(|world| {
        for number in 0..2_500 {
            world.campaign(&format!("c{number:04}"), State::Draft);
        }
    })
    .await;
    let ran = run(&fake, ["campaigns", "list", "-o", "json", "--limit", "0"]).await;
    assert_eq!(ran.json()["campaigns"].as_array().map(Vec::len), Some(2_500), "all pages in one answer");
    assert_eq!(ran.json()["nextPageToken"], "");
    assert_eq!(fake.asked("ListCampaigns").len(), 3);
    let ran = run(&fake, ["campaigns", "list", "-o", "ndjson", "--limit", "3"]).await;
    assert_eq!(ran.out.lines().count(), 3);
    let first: serde_json::Value = serde_json::from_str(ran.out.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["campaignId"], &first["state"]), (&"c0000".into(), &"CAMPAIGN_STATE_DRAFT".into()));
    let ran = run(&fake, ["campaigns", "list", "--limit", "3"]).await;
    assert_eq!(ran.err, "there are more than 3; --limit 0 lists all\n");
}

fn message() -> v1::Message {
    let stage = |stage: Stage, seconds| v1::StageTime {
        stage: stage as i32,
        first_seen_time: at(seconds),
        provider_time: at(seconds - 1),
    };
    v1::Message {
        campaign_id: "spring".into(),
        seq: 17,
        external_id: "cust-17".into(),
        address: "+99912345678".into(),
        parameters: vec!["Ada".into(), "25 %".into()],
        status: MessageStatus::Delivered as i32,
        stage_reached: Stage::Delivered as i32,
        retries: 1,
        attempts: vec![
            v1::Attempt {
                number: 1,
                correlation_id: "AQAAAAEAAAARAAHw1x2y3z4a5b6c".into(),
                line_id: "eu-1".into(),
                phase: v1::AttemptPhase::Failed as i32,
                intent_time: at(0),
                failure: Some(v1::Failure {
                    code: "131016".into(),
                    title: "Service overloaded".into(),
                    message: "try later".into(),
                    details: String::new(),
                    class: v1::FailureClass::Retry as i32,
                }),
                ..v1::Attempt::default()
            },
            v1::Attempt {
                number: 2,
                correlation_id: "AQAAAAEAAAARAALx1x2y3z4a5b6c".into(),
                line_id: "eu-2".into(),
                phase: v1::AttemptPhase::Accepted as i32,
                provider_message_id: "wamid.1".into(),
                intent_time: at(10),
                accepted_time: at(11),
                stages: vec![stage(Stage::Sent, 12), stage(Stage::Delivered, 15)],
                ..v1::Attempt::default()
            },
        ],
        origin: Some(v1::RowReference { import_id: "list".into(), row: 41 }),
        ..v1::Message::default()
    }
}

#[tokio::test]
async fn one_message_with_its_history() {
    let fake = Fake::start(|world| world.messages = vec![message()]).await;
    let ran = run(&fake, ["message", "spring", "--external-id", "cust-17"]).await;
    assert_eq!(ran.out, include_str!("message.txt"));
    assert!(fake.asked("GetMessage")[0].contains(r#"ExternalId("cust-17")"#));
    let ran = run(&fake, ["message", "spring", "17", "-o", "json"]).await;
    assert_eq!(ran.json()["message"]["attempts"][1]["stages"][0]["stage"], "STAGE_SENT");
    assert_eq!(ran.json()["message"]["attempts"][0]["failure"]["class"], "FAILURE_CLASS_RETRY");
}

#[tokio::test]
async fn filters_reach_the_server() {
    let fake = Fake::start(|_| {}).await;
    run(&fake, ["messages", "spring", "--status", "failed,in-doubt", "--stage", "sent"]).await;
    let asked = fake.asked("ListMessages").pop().expect("asked");
    assert!(asked.contains(r#"filter: "status=failed,in_doubt stage>=sent""#), "{asked}");
    run(&fake, ["campaigns", "list", "--label", "team=growth", "--pool", "eu"]).await;
    let asked = fake.asked("ListCampaigns").pop().expect("asked");
    assert!(asked.contains(r#"filter: "label.team=growth pool=eu""#), "{asked}");
}

#[tokio::test]
async fn creating_things() {
    let fake = Fake::start(|_| {}).await;
    let line = [
        "lines",
        "create",
        "eu-1",
        "--account",
        "acct",
        "--provider",
        "twilio-sms",
        "--short-code",
        "12345",
        "--ceiling",
        "80",
    ];
    assert_eq!(run(&fake, line).await.exit, Exit::Ok);
    let asked = fake.asked("CreateLine").pop().expect("asked");
    assert!(asked.contains("TwilioShortCode(\"12345\")") && asked.contains("provider: TwilioSms"), "{asked}");

    let campaign = [
        "campaigns",
        "create",
        "spring",
        "--template",
        "hello",
        "--pool",
        "eu",
        "--label",
        "team=growth",
        "--rate",
        "80/s",
        "--start-at",
        "2031-05-01T09:00:00+02:00",
        "--settle-window",
        "24h",
    ];
    assert_eq!(run(&fake, campaign).await.exit, Exit::Ok);
    let asked = fake.asked("CreateCampaign").pop().expect("asked");
    assert!(asked.contains(r#"name: "spring""#) && asked.contains("seconds: 86400"), "{asked}");

    let template = ["templates", "put", "hello", "--kind", "text", "--body", "Hello {{name}}"];
    assert_eq!(run(&fake, template).await.exit, Exit::Ok);
    let asked = fake.asked("PutTemplate").pop().expect("asked");
    assert!(asked.contains("parameter_format: Named") && asked.contains("kind: Text"), "{asked}");
}

#[tokio::test]
async fn a_template_goes_out_as_json_and_comes_back() {
    let fake = Fake::start(|_| {}).await;
    let shown = run(&fake, ["templates", "show", "hello", "-o", "json"]).await;
    let around = Around { input: shown.out.clone(), ..Around::default() };
    assert_eq!(run_with(&fake, around, ["templates", "put", "--file", "-"]).await.exit, Exit::Ok);
    let asked = fake.asked("PutTemplate").pop().expect("asked");
    assert!(asked.contains(r#"template_id: "hello""#) && asked.contains(r#"etag: """#), "{asked}");
    let around = Around { input: r#"{"templateId": "x", "bodi": "y"}"#.into(), ..Around::default() };
    let ran = run_with(&fake, around, ["templates", "put", "--file", "-"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("bodi"), "{}", ran.err);
}

#[tokio::test]
async fn recounts_that_differ_fail() {
    let fake = Fake::start(|world| {
        let right = v1::Recount { campaign_id: "a".into(), messages: 1_000, ..v1::Recount::default() };
        world.recounts = vec![right];
    })
    .await;
    let ran = run(&fake, ["recount", "a"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "campaign a: 1,000 messages counted, the tally is right\n"));
    let difference = v1::TallyDifference { name: "by_status.sent".into(), before: 3, after: 2 };
    let wrong = v1::Recount { campaign_id: "b".into(), differences: vec![difference], ..v1::Recount::default() };
    fake.world.lock().recounts.push(wrong);
    let ran = run(&fake, ["recount", "--all"]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.out.contains("by_status.sent"), "{}", ran.out);
    assert!(ran.err.contains("campaigns counted: 2, that differ: 1"), "{}", ran.err);
}

#[tokio::test]
async fn completions_need_no_server() {
    let fake = Fake::start(|_| {}).await;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&fake, ["completions", shell]).await;
        assert!(ran.exit == Exit::Ok && ran.out.contains("in-doubt"), "{shell}");
    }
    assert!(fake.world.lock().asked.is_empty());
}

#[tokio::test]
async fn sealing_and_backing_up() {
    let fake = Fake::start(|world| {
        world.campaign("spring", State::Draft);
    })
    .await;
    let ran = run(&fake, ["seal", "spring"]).await;
    assert_eq!(
        ran.out,
        "campaign spring: 19,998 recipients, sealed -, sha256 ab12\n2 rows were refused; `sluice refused spring` lists them\n"
    );
    assert_eq!(run(&fake, ["backup", "b1"]).await.out, "/backups/b1 on the server, 1,048,576 bytes, as of -\n");
}
