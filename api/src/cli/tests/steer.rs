//! Moving campaigns and deciding on messages.

use sluice_proto::v1::CampaignState as State;
use tonic::Status;

use super::*;

async fn three() -> Fake {
    Fake::start(|world| {
        world.campaign("a", State::Running);
        world.campaign("b", State::Running);
        world.campaign("c", State::Draft);
    })
    .await
}

#[tokio::test]
async fn one_campaign_is_moved_by_its_own_call() {
    let fake = three().await;
    let ran = run(&fake, ["pause", "a"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "campaign a is paused; 17 in flight, nothing else leaves\n"));
    assert_eq!(run(&fake, ["resume", "a"]).await.out, "campaign a is running\n");
    assert_eq!(run(&fake, ["start", "c"]).await.out, "campaign c is running\n");
    let ran = run(&fake, ["-o", "json", "cancel", "a"]).await;
    assert_eq!(ran.json()["campaign"]["state"], "CAMPAIGN_STATE_CANCELLED");
    assert_eq!(ran.json()["inFlight"], 3);
}

#[tokio::test]
async fn an_illegal_move_says_state_and_exits_with_4() {
    let fake = three().await;
    let ran = run(&fake, ["start", "a"]).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(ran.err, "error: the campaign cannot do that now\n  a: it is in CAMPAIGN_STATE_RUNNING\n");
    assert_eq!(ran.out, "");
    let ran = run(&fake, ["-o", "json", "start", "a"]).await;
    let error: serde_json::Value = serde_json::from_str(&ran.err).expect("JSON");
    assert_eq!(error["error"]["code"], "FAILED_PRECONDITION");
    assert_eq!(error["error"]["violations"][0]["field"], "a");
}

#[tokio::test]
async fn several_need_consent_and_each_gets_an_answer() {
    let fake = three().await;
    let ran = run(&fake, ["pause", "a", "b"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("pause 2 campaigns: a, b?") && ran.err.contains("--yes"), "{}", ran.err);
    assert!(fake.asked("BatchPauseCampaigns").is_empty(), "nothing was done");

    let ran = run(&fake, ["pause", "a", "b", "c", "nobody", "--yes"]).await;
    assert_eq!(ran.exit, Exit::Partial);
    assert_eq!(
        ran.out,
        "CAMPAIGN  STATE   IN FLIGHT  RESULT\n\
         a         paused          0  ok\n\
         b         paused          0  ok\n\
         c         -               0  FAILED_PRECONDITION: the campaign cannot do that\n\
         \x20                            now\n\
         nobody    -               0  NOT_FOUND: there is no campaign `nobody`\n"
    );
    assert_eq!(ran.err, "2 of 4 campaigns failed\n");
}

#[tokio::test]
async fn a_filter_is_looked_up_first_and_the_ids_are_sent() {
    let fake = three().await;
    let ran = run(&fake, ["cancel", "--state", "running", "--yes"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    let asked = fake.asked("BatchCancelCampaigns");
    assert!(asked[0].contains(r#"campaign_ids: ["a", "b"]"#), "{asked:?}");
    assert_eq!(run(&fake, ["cancel", "--state", "held", "--yes"]).await.exit, Exit::NotFound);
    assert_eq!(run(&fake, ["cancel", "--yes"]).await.exit, Exit::Usage);
    assert_eq!(run(&fake, ["cancel", "a", "--state", "running", "--yes"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn somebody_at_the_terminal_is_asked() {
    let fake = three().await;
    let answers = |input: &str| Around { input: input.into(), interactive: true, ..Around::default() };
    let ran = run_with(&fake, answers("n\n"), ["pause", "a", "b"]).await;
    assert_eq!((ran.exit, ran.err.starts_with("pause 2 campaigns: a, b? [y/N] ")), (Exit::Usage, true));
    assert_eq!(run_with(&fake, answers("y\n"), ["pause", "a", "b"]).await.exit, Exit::Ok);
    let ran = run_with(&fake, answers(""), ["campaigns", "delete", "a"]).await;
    assert_eq!(ran.exit, Exit::Usage, "no answer is no consent");
}

#[tokio::test]
async fn exit_codes_follow_the_servers_answer() {
    let fake = three().await;
    assert_eq!(run(&fake, ["campaigns", "show", "nobody"]).await.exit, Exit::NotFound);
    for (status, exit) in [
        (Status::invalid_argument("no"), Exit::Refused),
        (Status::permission_denied("no"), Exit::Refused),
        (Status::unauthenticated("no"), Exit::Refused),
        (Status::unavailable("later"), Exit::Unavailable),
        (Status::resource_exhausted("later"), Exit::Unavailable),
        (Status::deadline_exceeded("late"), Exit::Unavailable),
        (Status::internal("oops"), Exit::Failed),
    ] {
        fake.world.lock().failing = Some(status);
        assert_eq!(run(&fake, ["info"]).await.exit, exit);
    }
    let nobody = Fake { address: "http://127.0.0.1:1".into(), world: fake.world.clone() };
    let ran = run(&nobody, ["info"]).await;
    assert_eq!(ran.exit, Exit::Unavailable);
    assert!(ran.err.contains("refused"), "the reason is named: {}", ran.err);
    let strange = Fake { address: "localhost".into(), world: fake.world.clone() };
    assert_eq!(run(&strange, ["info"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn an_old_version_is_refused_with_advice() {
    let fake = three().await;
    let ran = run(&fake, ["campaigns", "update", "a", "--rate", "50/s", "--etag", "old"]).await;
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.contains("hint: it changed in the meantime"), "{}", ran.err);
    assert_eq!(run(&fake, ["campaigns", "update", "a"]).await.exit, Exit::Usage, "nothing to change");
    let ran =
        run(&fake, ["campaigns", "update", "a", "--rate", "6000/min", "--burst", "10", "--delivery", "at-least-once"])
            .await;
    assert_eq!(ran.exit, Exit::Ok);
    let asked = fake.asked("UpdateCampaign").pop().expect("asked");
    assert!(asked.contains("SendRate { count: 6000, per: Minute, burst: Some(10) }"), "{asked}");
    assert!(asked.contains("AtLeastOnce"), "{asked}");
}

#[tokio::test]
async fn the_token_comes_from_the_environment_or_a_file() {
    let fake = three().await;
    let around = || Around { token: Some("from-environment".into()), ..Around::default() };
    run_with(&fake, around(), ["info"]).await;
    assert_eq!(fake.world.lock().authorization.as_deref(), Some("Bearer from-environment"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "from-file\n").expect("written");
    let path = file.path().to_str().expect("text");
    run_with(&fake, around(), ["info", "--token-file", path]).await;
    assert_eq!(fake.world.lock().authorization.as_deref(), Some("Bearer from-file"));
    run(&fake, ["info"]).await;
    assert_eq!(fake.world.lock().authorization, None);
    let ran = run_with(&fake, Around { token: Some("se\ncret".into()), ..Around::default() }, ["info"]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(!ran.err.contains("cret"), "{}", ran.err);
    assert_eq!(run(&fake, ["info", "--token-file", "/nowhere"]).await.exit, Exit::Usage);
    // SLUICE_TOKEN_FILE= in the environment arrives as an empty name.
    run_with(&fake, around(), ["info", "--token-file", "", "--ca-file", ""]).await;
    assert_eq!(fake.world.lock().authorization.as_deref(), Some("Bearer from-environment"));
    std::fs::write(file.path(), "\n").expect("written");
    let ran = run_with(&fake, around(), ["info", "--token-file", path]).await;
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("is empty"), "{}", ran.err);
}

#[tokio::test]
async fn decisions_on_messages_in_doubt() {
    let fake = three().await;
    let ran = run(&fake, ["resolve", "a", "--as", "sent", "--seq", "8,7,8"]).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "2 messages decided\n"));
    assert!(fake.asked("ResolveMessages")[0].contains("seqs: [7, 8]"));
    let ran = run(&fake, ["resolve", "a", "--as", "failed", "--seq", "7,9"]).await;
    assert_eq!(ran.exit, Exit::Partial);
    assert!(ran.out.contains("it is not in doubt"), "{}", ran.out);
    assert_eq!(run(&fake, ["resolve", "a", "--as", "send-again", "--status", "unconfirmed"]).await.exit, Exit::Usage);
    let ran = run(&fake, ["resolve", "a", "--as", "send-again", "--status", "unconfirmed", "--yes"]).await;
    assert_eq!(ran.exit, Exit::Ok);
    assert!(fake.asked("ResolveMessages")[2].contains("status=unconfirmed"));
    assert_eq!(run(&fake, ["resolve", "a", "--as", "sent"]).await.exit, Exit::Usage);
}

#[tokio::test]
async fn an_interrupted_change_says_that_its_result_is_unknown() {
    let fake = three().await;
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let around = || Around { interrupt: interrupt.clone(), ..Around::default() };
    // Polled in random order, so either may win; what matters is what is said when the interruption does.
    let ran = run_with(&fake, around(), ["pause", "a"]).await;
    if ran.exit == Exit::Interrupted {
        assert!(ran.err.contains("is not known"), "{}", ran.err);
    }
    let ran = run_with(&fake, around(), ["campaigns", "show", "a"]).await;
    if ran.exit == Exit::Interrupted {
        assert_eq!(ran.err, "");
    }
}
