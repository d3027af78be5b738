//! Campaigns as records, and templates.

use super::super::testing::*;
use super::super::*;
use crate::domain::campaign::{CampaignState, DeliveryPolicy, Rate, RateUnit};
use crate::domain::line::ProviderKind;
use crate::domain::template::{Template, TemplateKind};
use std::time::Duration;

#[tokio::test]
async fn a_created_campaign_is_a_draft_with_defaults() {
    let bench = Bench::furnished().await;
    let view = bench.draft("spring").await;
    assert_eq!(view.record.state, CampaignState::Draft);
    assert_eq!((view.record.settings.workers, view.record.settings.retries_max), (256, 5));
    assert_eq!(view.record.created_by, "ada");
    assert_eq!(view.kind, ProviderKind::Meta);
    assert_eq!((view.stats.tally.recipients(), view.stats.binds), (0, Binds::Nothing));
}

#[tokio::test]
async fn everything_wrong_with_a_campaign_is_told_at_once() {
    let bench = Bench::furnished().await;
    let spec = CampaignSpec {
        id: "Not an id".to_owned(),
        settings: SettingsSpec {
            template: "nope".to_owned(),
            pool: "nope".to_owned(),
            rate: Some(Rate { count: 0, per: RateUnit::Second, burst: None }),
            ..SettingsSpec::default()
        },
        ..CampaignSpec::default()
    };
    assert_eq!(
        fields(bench.control.create_campaign(&acme(), "", spec).await),
        ["campaign_id", "name", "settings.rate.count", "settings.template_id", "settings.pool_id"]
    );
    let bad_request = bench.control.create_campaign(&acme(), &"x".repeat(65), campaign("a")).await;
    assert_eq!(fields(bad_request), ["request_id"]);
}

#[tokio::test]
async fn a_template_must_fit_the_lines() {
    let bench = Bench::furnished().await;
    let sms = LineSpec {
        account: "twilio".to_owned(),
        kind: Some(ProviderKind::TwilioWhatsapp),
        sender: Some(crate::domain::line::SenderIdentity::From("+15550100123".to_owned())),
        ..line("wa-2", "")
    };
    bench.control.create_line(&acme(), "", sms).await.unwrap();
    // Twilio's WhatsApp needs a content id, which `hello` lacks.
    let spec =
        CampaignSpec { settings: SettingsSpec { pool: "wa-2".to_owned(), ..campaign("").settings }, ..campaign("x") };
    assert_eq!(fields(bench.control.create_campaign(&acme(), "", spec).await), ["settings.template_id"]);
}

#[tokio::test]
async fn a_request_id_makes_creation_safe_to_repeat() {
    let bench = Bench::furnished().await;
    let first = bench.control.create_campaign(&acme(), "r-1", campaign("")).await.unwrap();
    let again = bench.control.create_campaign(&acme(), "r-1", campaign("")).await.unwrap();
    assert_eq!(first.record, again.record);
    let reused = bench.control.create_campaign(&acme(), "r-1", campaign("another")).await;
    assert!(matches!(reused, Err(Error::Exists { .. })), "{reused:?}");
    let taken = bench.control.create_campaign(&acme(), "r-2", campaign(first.record.id.as_str())).await;
    assert!(matches!(taken, Err(Error::Exists { .. })), "{taken:?}");
    let elsewhere = bench.control.create_campaign(&acme(), "", campaign("")).await.unwrap();
    assert_ne!(elsewhere.record.id, first.record.id);
}

/// An answer may be lost for long: a repetition finds what was created then, whatever has changed since.
#[tokio::test]
async fn a_repetition_needs_nothing_of_what_the_creation_needed() {
    let bench = Bench::furnished().await;
    let mut spec = campaign("");
    spec.settings.stop_at = Some(UnixMillis(START + 60_000));
    let first = bench.control.create_campaign(&acme(), "r-1", spec.clone()).await.unwrap().record;
    let clone = async || {
        let (id, name) = (String::new(), String::new());
        bench.control.clone_campaign(&acme(), "r-2", first.id.as_str(), id, name, "ada".to_owned()).await
    };
    let cloned = clone().await.unwrap().record;
    bench.wall.fetch_add(61_000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(fields(bench.control.create_campaign(&acme(), "", spec.clone()).await), ["settings.stop_at"]);
    assert_eq!(bench.control.create_campaign(&acme(), "r-1", spec.clone()).await.unwrap().record.key, first.key);
    bench.control.delete_campaign(&acme(), first.id.as_str(), None).await.unwrap();
    assert_eq!(clone().await.unwrap().record.key, cloned.key);
    let gone = bench.control.create_campaign(&acme(), "r-1", spec).await.unwrap_err();
    assert!(gone.to_string().contains("deleted"), "{gone}");
}

#[tokio::test]
async fn an_update_changes_what_is_given_and_tells_the_actor() {
    let bench = Bench::furnished().await;
    let view = bench.running("spring", 3).await;
    bench.runtime.take_told();
    let rate = Rate { count: 30, per: RateUnit::Minute, burst: Some(2) };
    let update = CampaignUpdate {
        rate: Some(Some(rate)),
        workers: Some(7),
        policy: Some(DeliveryPolicy::AtLeastOnce { grace_ms: 5_000 }),
        ..CampaignUpdate::default()
    };
    let changed = bench.control.update_campaign(&acme(), "spring", Some(view.record.version), update).await.unwrap();
    assert_eq!(changed.record.settings.rate, Some(rate));
    assert_eq!((changed.record.settings.workers, changed.record.name.as_str()), (7, "Spring"));
    assert_eq!(bench.runtime.take_told(), [format!("changed {} running", view.record.key)]);
    let taken_away = CampaignUpdate { rate: Some(None), ..CampaignUpdate::default() };
    let changed = bench.control.update_campaign(&acme(), "spring", None, taken_away).await.unwrap();
    assert_eq!(changed.record.settings.rate, None);
}

#[tokio::test]
async fn an_update_with_an_old_version_changes_nothing() {
    let bench = Bench::furnished().await;
    let old = bench.draft("spring").await.record.version;
    let rename = |name: &str| CampaignUpdate { name: Some(name.to_owned()), ..CampaignUpdate::default() };
    bench.control.update_campaign(&acme(), "spring", Some(old), rename("first")).await.unwrap();
    let late = bench.control.update_campaign(&acme(), "spring", Some(old), rename("second")).await;
    assert_eq!(late, Err(Error::Stale));
    assert_eq!(bench.control.delete_campaign(&acme(), "spring", Some(old)).await, Err(Error::Stale));
    assert_eq!(bench.control.campaign(&acme(), "spring").await.unwrap().record.name, "first");
}

#[tokio::test]
async fn what_comes_too_late_is_refused() {
    let bench = Bench::furnished().await;
    bench.control.put_template(&acme(), "", template("bye", "Bye {{1}}"), None).await.unwrap();
    bench.running("spring", 1).await;
    let late = [
        CampaignUpdate { template: Some("bye".to_owned()), ..CampaignUpdate::default() },
        CampaignUpdate { pool: Some("line-1".to_owned()), ..CampaignUpdate::default() },
        CampaignUpdate { region: Some("DE".to_owned()), ..CampaignUpdate::default() },
        CampaignUpdate { start_at: Some(None), ..CampaignUpdate::default() },
    ];
    for update in late {
        assert_eq!(obstacle(bench.control.update_campaign(&acme(), "spring", None, update).await), "TOO_LATE");
    }
    bench.filled("filled", 1).await;
    let update = CampaignUpdate { template: Some("bye".to_owned()), ..CampaignUpdate::default() };
    assert_eq!(obstacle(bench.control.update_campaign(&acme(), "filled", None, update.clone()).await), "TOO_LATE");
    bench.draft("empty").await;
    let changed = bench.control.update_campaign(&acme(), "empty", None, update).await.unwrap();
    assert!(changed.record.template_definition.contains("Bye"));
}

#[tokio::test]
async fn a_clone_has_the_settings_and_nothing_else() {
    let bench = Bench::furnished().await;
    let stop_at = bench.control.now().after(Duration::from_secs(60));
    let mut spec = campaign("spring");
    spec.settings.stop_at = Some(stop_at);
    spec.settings.workers = Some(9);
    bench.control.create_campaign(&acme(), "", spec).await.unwrap();
    bench.import("spring", "list", 0, 5).await.unwrap();
    let copy = bench
        .control
        .clone_campaign(&acme(), "", "spring", "summer".to_owned(), String::new(), "bob".to_owned())
        .await
        .unwrap();
    assert_eq!((copy.record.recipients, copy.record.state), (0, CampaignState::Draft));
    assert_eq!((copy.record.settings.workers, copy.record.settings.stop_at), (9, None));
    assert_eq!((copy.record.created_by.as_str(), copy.record.name.as_str()), ("bob", "Spring"));
}

#[tokio::test]
async fn pages_hold_together_and_their_tokens_belong_to_their_query() {
    let bench = Bench::furnished().await;
    for n in 0..5 {
        bench.draft(&format!("c{n}")).await;
    }
    let page = |token: &str| PageRequest { size: 2, token: token.to_owned() };
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let found = bench.control.list_campaigns(&acme(), "state=draft", &page(&token)).await.unwrap();
        seen.extend(found.items.into_iter().map(|view| view.record.id.as_str().to_owned()));
        if found.next_token.is_empty() {
            break;
        }
        let elsewhere = bench.control.list_campaigns(&acme(), "state=paused", &page(&found.next_token)).await;
        assert_eq!(fields(elsewhere), ["page_token"]);
        let elsewhere = bench.control.list_pools(&acme(), &page(&found.next_token)).await;
        assert_eq!(fields(elsewhere), ["page_token"]);
        token = found.next_token;
    }
    assert_eq!(seen, ["c4", "c3", "c2", "c1", "c0"]);
    assert_eq!(fields(bench.control.list_campaigns(&acme(), "colour=red", &page("")).await), ["filter"]);
    let negative = PageRequest { size: -1, token: String::new() };
    assert_eq!(fields(bench.control.list_campaigns(&acme(), "", &negative).await), ["page_size"]);
}

#[tokio::test]
async fn only_drafts_and_ended_campaigns_are_deleted() {
    let bench = Bench::furnished().await;
    let running = bench.running("spring", 1).await;
    assert!(matches!(bench.control.delete_campaign(&acme(), "spring", None).await, Err(Error::Move(_))));
    bench.control.cancel_campaign(&acme(), "spring", None).await.unwrap();
    bench.runtime.in_flight.lock().insert(running.record.key.0, 1);
    assert_eq!(obstacle(bench.control.delete_campaign(&acme(), "spring", None).await), "IN_FLIGHT");
    bench.runtime.in_flight.lock().clear();
    bench.control.delete_campaign(&acme(), "spring", None).await.unwrap();
    assert!(bench.runtime.take_told().contains(&format!("removed {}", running.record.key)));
    assert_eq!(bench.control.campaign(&acme(), "spring").await, Err(Error::not_found("campaign", "spring")));
    bench.draft("draft").await;
    bench.control.delete_campaign(&acme(), "draft", None).await.unwrap();
}

#[tokio::test]
async fn templates_are_checked_replaced_and_previewed() {
    let bench = Bench::furnished().await;
    let wrong = Template { id: "Bad Id".to_owned(), ..template("good", "Hello {{2}}") };
    assert_eq!(
        fields(bench.control.put_template(&acme(), "", wrong, None).await),
        ["template.template_id", "template.body"]
    );
    let kind = TemplateKind::Text;
    let shown = Template { kind, name: "two lines".to_owned(), ..template("text", "Two\nlines\tof {{1}}") };
    bench.control.put_template(&acme(), "", shown.clone(), None).await.unwrap();
    let escapes = Template { name: "a\x1b[2J".to_owned(), body: "Hello {{1}}\0".to_owned(), ..shown };
    assert_eq!(
        fields(bench.control.put_template(&acme(), "", escapes, None).await),
        ["template.name", "template.body"]
    );
    let stored = bench.control.template(&acme(), "hello").await.unwrap();
    assert_eq!(stored.columns, ["body_param_1"]);
    let version = stored.record.version;
    let tenant = acme();
    let put = |text: &str, expected| bench.control.put_template(&tenant, "", template("hello", text), expected);
    let changed = put("Hi {{1}}", Some(version)).await.unwrap();
    assert!(changed.record.version > version);
    assert_eq!(put("Ho {{1}}", Some(version)).await, Err(Error::Stale));

    let given = ParametersSpec { body: vec!["Ada".to_owned()], ..ParametersSpec::default() };
    let render = |kind, given: ParametersSpec| {
        let control = bench.control.clone();
        async move { control.render(&acme(), "hello", kind, &given).await }
    };
    assert_eq!(render(ProviderKind::Meta, given.clone()).await.unwrap().text(), "Hi Ada");
    assert_eq!(fields(render(ProviderKind::Meta, ParametersSpec::default()).await), ["parameters.body_param_1"]);
    assert_eq!(fields(render(ProviderKind::TwilioWhatsapp, given).await), ["provider"]);
}

#[tokio::test]
async fn a_backup_goes_where_the_operator_said() {
    let bench = Bench::furnished().await;
    for bad in ["", "../x", "a/b", "/etc/x", ".hidden", &"x".repeat(129)] {
        assert_eq!(fields(bench.control.backup(bad).await), ["file_name"], "{bad}");
    }
    let backup = bench.control.backup("copy.sqlite").await.unwrap();
    assert!(backup.path.exists() && backup.bytes > 0);
    assert_eq!(obstacle(bench.control.backup("copy.sqlite").await), "BACKUP");
}
