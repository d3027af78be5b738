//! A campaign's way through the contract, and what errors look like from outside.

use futures_util::{StreamExt as _, stream};
use sluice_proto::v1;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::bench::*;
use crate::grpc::GrpcLimits;

async fn filled(bench: &Bench, recipients: u64) {
    bench.furnish("acme", "a-").await;
    let requests = stream::iter([header("a-campaign", "list"), part(chunk(0, recipients))]);
    let answers = bench.imports("acme").await.import_recipients(requests).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect().await;
    assert!(answers.len() == 2 && answers.iter().all(Result::is_ok), "{answers:?}");
}

fn id() -> String {
    "a-campaign".to_owned()
}

#[tokio::test]
async fn a_campaign_from_draft_to_export() {
    let bench = Bench::new().await;
    filled(&bench, 30).await;
    let mut client = bench.campaigns("acme").await;
    let started = client.start_campaign(v1::StartCampaignRequest { campaign_id: id(), ..Default::default() }).await;
    let started = started.unwrap().into_inner().campaign.unwrap();
    assert_eq!(started.state(), v1::CampaignState::Running);
    assert_eq!(started.audience.as_ref().unwrap().count, 30);
    let stats = started.stats.unwrap();
    let tally = stats.tally.unwrap();
    assert_eq!((tally.total, stats.remaining), (30, 30));
    assert_eq!(tally.by_status.iter().map(|count| count.count).sum::<u64>(), 30);

    let list = v1::ListCampaignsRequest { filter: "state=running".to_owned(), ..Default::default() };
    let listed = client.list_campaigns(list).await.unwrap().into_inner();
    assert_eq!(listed.campaigns.len(), 1);
    assert!(listed.as_of.is_some());

    let pause = v1::PauseCampaignRequest { campaign_id: id(), ..Default::default() };
    let paused = client.pause_campaign(pause).await.unwrap().into_inner();
    assert_eq!((paused.campaign.unwrap().state(), paused.in_flight), (v1::CampaignState::Paused, 0));

    let recount = v1::RecountCampaignRequest { campaign_id: id() };
    let recount = client.recount_campaign(recount).await.unwrap().into_inner().recount.unwrap();
    assert_eq!((recount.messages, recount.differences.len()), (30, 0));
    let all = client.recount_tenant(v1::RecountTenantRequest {}).await.unwrap().into_inner();
    assert_eq!(all.collect::<Vec<_>>().await.len(), 1);

    let mut messages = bench.messages("acme").await;
    let export = v1::ExportMessagesRequest { campaign_id: id(), ..Default::default() };
    let batches: Vec<_> = messages.export_messages(export).await.unwrap().into_inner().collect().await;
    let exported: Vec<v1::Message> = batches.into_iter().flat_map(|batch| batch.unwrap().messages).collect();
    assert_eq!(exported.len(), 30);
    assert_eq!((exported[7].seq, exported[7].address.as_str()), (7, "+999000000007"));
    assert_eq!(
        (exported[7].parameters.as_slice(), exported[7].status()),
        (&["Ada".to_owned()][..], v1::MessageStatus::Pending)
    );
    let key = Some(v1::get_message_request::Key::ExternalId("crm-7".to_owned()));
    let get = v1::GetMessageRequest { campaign_id: id(), key };
    assert_eq!(messages.get_message(get).await.unwrap().into_inner().message.unwrap(), exported[7]);

    let cancel = v1::CancelCampaignRequest { campaign_id: id(), ..Default::default() };
    let cancelled = client.cancel_campaign(cancel).await.unwrap().into_inner().campaign.unwrap();
    assert_eq!(cancelled.state(), v1::CampaignState::Cancelled);
    let totals = client.get_tenant_totals(v1::GetTenantTotalsRequest {}).await.unwrap().into_inner();
    assert_eq!((totals.tally.unwrap().total, totals.remaining), (30, 0));
}

/// `exports_max` of the configuration, at a limit that one call more reaches at once.
#[tokio::test]
async fn exports_and_recounts_of_a_tenant_have_places_of_their_own() {
    let bench = Bench::with(GrpcLimits { exports_max: 0, ..limits() }).await;
    filled(&bench, 3).await;
    let export = v1::ExportMessagesRequest { campaign_id: id(), ..Default::default() };
    let export = bench.messages("acme").await.export_messages(export).await.map(drop).unwrap_err();
    let mut campaigns = bench.campaigns("acme").await;
    let recount = campaigns.recount_tenant(v1::RecountTenantRequest {}).await.map(drop).unwrap_err();
    for status in [export, recount] {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("exports"), "{status:?}");
    }
    // A watch and a recount of one campaign are none of them.
    let watch = v1::WatchCampaignRequest { campaign_id: id(), ..Default::default() };
    assert!(campaigns.watch_campaign(watch).await.is_ok());
    let one = v1::RecountCampaignRequest { campaign_id: id() };
    assert!(campaigns.recount_campaign(one).await.is_ok());
}

#[tokio::test]
async fn errors_carry_their_details_over_the_wire() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.campaigns("acme").await;
    let mut wrong = campaign("a-", "x");
    wrong.name = String::new();
    wrong.settings.as_mut().unwrap().rate =
        Some(v1::SendRate { count: 0, per: v1::RatePeriod::Second.into(), burst: None });
    let status = client.create_campaign(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let fields: Vec<String> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["name", "settings.rate.count"]);

    let pause = v1::PauseCampaignRequest { campaign_id: id(), ..Default::default() };
    let status = client.pause_campaign(pause).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.metadata["state"].as_str(), info.metadata["allowed"].as_str()), ("draft", "start,cancel,delete"));

    let update = |etag: &str, name: &str| v1::UpdateCampaignRequest {
        campaign_id: id(),
        etag: etag.to_owned(),
        name: Some(name.to_owned()),
        ..Default::default()
    };
    let etag = client.update_campaign(update("", "first")).await.unwrap().into_inner().campaign.unwrap().etag;
    client.update_campaign(update(&etag, "second")).await.unwrap();
    assert_eq!(client.update_campaign(update(&etag, "third")).await.unwrap_err().code(), Code::Aborted);
    assert_eq!(client.update_campaign(update("bogus", "x")).await.unwrap_err().code(), Code::InvalidArgument);
    let both = v1::UpdateCampaignRequest {
        rate: Some(v1::SendRate { count: 1, per: v1::RatePeriod::Second.into(), burst: None }),
        clear_rate: true,
        ..update("", "x")
    };
    assert_eq!(client.update_campaign(both).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_template_goes_there_and_back() {
    let bench = Bench::new().await;
    let mut client = bench.templates("acme").await;
    let full = v1::Template {
        header: Some(v1::TemplateHeader {
            content: Some(v1::template_header::Content::Media(v1::MediaHeader {
                kind: v1::MediaKind::Image.into(),
                ..Default::default()
            })),
        }),
        footer: "Bye".to_owned(),
        buttons: vec![
            v1::TemplateButton {
                kind: Some(v1::template_button::Kind::Url(v1::UrlButton {
                    label: "Open".to_owned(),
                    url: "https://example.com/{{1}}".to_owned(),
                })),
            },
            v1::TemplateButton {
                kind: Some(v1::template_button::Kind::QuickReply(v1::QuickReplyButton {
                    label: "Stop".to_owned(),
                    payload: String::new(),
                })),
            },
        ],
        ..template("hello")
    };
    let put = v1::PutTemplateRequest { template: Some(full.clone()), ..Default::default() };
    let stored = client.put_template(put).await.unwrap().into_inner().template.unwrap();
    assert_eq!(stored.columns, ["header_param_1", "body_param_1", "button_url_param_1"]);
    let mut same = stored.clone();
    same.columns.clear();
    same.etag.clear();
    (same.create_time, same.update_time) = (None, None);
    same.parameter_format = full.parameter_format;
    assert_eq!(same, full);
    let render = v1::RenderTemplateRequest {
        template_id: "hello".to_owned(),
        provider: v1::Provider::Meta.into(),
        parameters: Some(v1::TemplateParameters {
            header: vec!["https://example.com/a.jpg".to_owned()],
            body: vec!["Ada".to_owned()],
            buttons: vec!["x7".to_owned()],
            ..Default::default()
        }),
    };
    let text = client.render_template(render).await.unwrap().into_inner().text;
    assert!(text.contains("Hello Ada") && text.contains("https://example.com/x7"), "{text}");
}

#[tokio::test]
async fn batches_answer_for_each_campaign() {
    let bench = Bench::new().await;
    filled(&bench, 1).await;
    let mut client = bench.campaigns("acme").await;
    let by = |by| Some(v1::CampaignSelection { by: Some(by) });
    let ids = v1::CampaignIds { campaign_ids: vec![id(), "nope".to_owned()] };
    let selection = by(v1::campaign_selection::By::Ids(ids));
    let outcomes = client.batch_start_campaigns(v1::BatchStartCampaignsRequest { selection }).await;
    let outcomes = outcomes.unwrap().into_inner().outcomes;
    assert_eq!((outcomes[0].state(), outcomes[0].code), (v1::CampaignState::Running, 0));
    assert_eq!((outcomes[1].state(), outcomes[1].code), (v1::CampaignState::Unspecified, Code::NotFound.into()));
    let selection = by(v1::campaign_selection::By::Filter("state=running".to_owned()));
    let outcomes = client.batch_cancel_campaigns(v1::BatchCancelCampaignsRequest { selection }).await;
    assert_eq!(outcomes.unwrap().into_inner().outcomes.len(), 1);
    let status = client.batch_pause_campaigns(v1::BatchPauseCampaignsRequest { selection: None }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
