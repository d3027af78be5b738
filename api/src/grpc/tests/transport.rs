//! Health, reflection, limits, scopes, shutdown.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use prost::Message as _;
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::bench::*;
use crate::grpc::GrpcLimits;

#[tokio::test]
async fn health_and_both_reflections_need_no_token() {
    let bench = Bench::new().await;
    let mut health = HealthClient::new(bench.channel().await);
    for service in ["", "sluice.v1.CampaignService"] {
        let check = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(health.check(check).await.unwrap().into_inner().status(), ServingStatus::Serving);
    }
    {
        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(bench.channel().await);
        let mut answers = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
        let answer: ServerReflectionResponse = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!() };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        for service in ["Admin", "Campaign", "Import", "Line", "Message", "Template"] {
            assert!(names.contains(&format!("sluice.v1.{service}Service")), "{names:?}");
        }
    }
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;
    let ask = tonic_reflection::pb::v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("sluice.v1.CampaignService".to_owned())),
    };
    let mut client = ServerReflectionClient::new(bench.channel().await);
    let mut answers = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert!(matches!(answer.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
}

#[tokio::test]
async fn without_token_or_scope_nobody_is_let_in() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let get = || v1::GetCampaignRequest { campaign_id: "a-campaign".to_owned() };
    let mut nobody = CampaignServiceClient::new(bench.channel().await);
    assert_eq!(nobody.get_campaign(get()).await.unwrap_err().code(), Code::Unauthenticated);
    let reader = InterceptedService::new(bench.channel().await, bearer("acme", "read"));
    let mut reader = CampaignServiceClient::new(reader);
    reader.get_campaign(get()).await.unwrap();
    let delete = v1::DeleteCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    assert_eq!(reader.delete_campaign(delete).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.campaigns("acme").await;
    let mut large = campaign("a-", "large");
    large.description = "x".repeat(limits().message_bytes_max + 1);
    assert_eq!(client.create_campaign(large).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn watches_are_bounded_and_end_when_the_server_goes_down() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.campaigns("acme").await;
    let request = || v1::WatchCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let mut watches = Vec::new();
    for _ in 0..limits().watches_max {
        let mut watch = client.watch_campaign(request()).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert!(matches!(first.update, Some(v1::watch_campaign_response::Update::Snapshot(_))));
        watches.push(watch);
    }
    assert_eq!(client.watch_campaign(request()).await.unwrap_err().code(), Code::ResourceExhausted);

    let mut health = HealthClient::new(bench.channel().await);
    let mut changes = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    bench.shutdown.cancel();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    }
    drop((client, health, changes));
    tokio::time::timeout(Duration::from_secs(10), bench.server).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn one_connection_too_many_waits_for_a_place() {
    let bench = Bench::with(GrpcLimits { connections_max: 1, ..limits() }).await;
    let first = bench.channel().await;
    HealthClient::new(first.clone()).check(HealthCheckRequest::default()).await.unwrap();
    // The kernel takes the second connection; nobody answers on it until the first is gone.
    let second = bench.channel().await;
    let mut waiting = HealthClient::new(second);
    let mut check = std::pin::pin!(waiting.check(HealthCheckRequest::default()));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut check).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    check.await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_of_an_export_holds_up_nobody() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let requests = stream::iter([header("a-campaign", "list"), part(chunk(0, 5_000))]);
    let answers = bench.imports("acme").await.import_recipients(requests).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 2);
    let seal = v1::SealCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    bench.campaigns("acme").await.seal_campaign(seal).await.unwrap();
    let export = || v1::ExportMessagesRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let mut messages = bench.messages("acme").await;
    let mut slow = messages.export_messages(export()).await.unwrap().into_inner();
    let first = slow.message().await.unwrap().unwrap();
    assert_eq!(first.messages.len(), 1_000);
    // Meanwhile another export runs through, and the slow one goes on where it stood, also by its token.
    let whole: Vec<_> = messages.export_messages(export()).await.unwrap().into_inner().collect().await;
    assert_eq!(whole.into_iter().map(|batch| batch.unwrap().messages.len()).sum::<usize>(), 5_000);
    let second = slow.message().await.unwrap().unwrap();
    let resumed = v1::ExportMessagesRequest { resume_token: first.resume_token, ..export() };
    drop(slow);
    let mut resumed = messages.export_messages(resumed).await.unwrap().into_inner();
    assert_eq!(resumed.message().await.unwrap().unwrap().messages, second.messages);
}

/// All connections that are allowed, without a word, or with no more than the greeting of HTTP/2.
#[tokio::test]
async fn who_says_nothing_loses_the_connection() {
    let first_call_timeout = Duration::from_millis(50);
    let bench = Bench::with(GrpcLimits { connections_max: 3, first_call_timeout, ..limits() }).await;
    let mut health = HealthClient::new(bench.channel().await);
    let mut changes = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut silent = Vec::new();
    for hello in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        stream.write_all(hello).await.unwrap();
        silent.push(stream);
    }
    for mut stream in silent {
        // Ends only because the server closes, in whatever way.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    // A token that is not believed is no call that is let in.
    let stranger = InterceptedService::new(bench.channel().await, bearer("", "read"));
    let get = v1::GetCampaignRequest { campaign_id: "x".to_owned() };
    let refused = CampaignServiceClient::new(stranger).get_campaign(get).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Their places are free, and who made a call before stays.
    HealthClient::new(bench.channel().await).check(HealthCheckRequest::default()).await.unwrap();
    assert!(changes.message().now_or_never().is_none(), "the watch goes on");
}

#[tokio::test]
async fn an_export_that_nobody_takes_gives_its_place_back() {
    let export_idle = Duration::from_millis(50);
    let answer_bytes_max = 64 * 1024;
    let bench = Bench::with(GrpcLimits { exports_max: 1, export_idle, answer_bytes_max, ..limits() }).await;
    bench.furnish("acme", "a-").await;
    let requests = stream::iter([header("a-campaign", "list"), part(chunk(0, 5_000))]);
    let answers = bench.imports("acme").await.import_recipients(requests).await.unwrap().into_inner();
    assert_eq!(answers.collect::<Vec<_>>().await.len(), 2);
    let export = || v1::ExportMessagesRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    // Several batches are more than the windows of this connection hold.
    let narrow = Channel::from_shared(format!("http://{}", bench.address)).unwrap();
    let narrow = narrow.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let narrow = InterceptedService::new(narrow.connect().await.unwrap(), bearer("acme", "read"));
    let mut slow = MessageServiceClient::new(narrow).export_messages(export()).await.unwrap().into_inner();
    let mut other = bench.messages("acme").await;
    let mut quick = loop {
        match other.export_messages(export()).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
        tokio::task::yield_now().await;
    };
    assert!(!quick.message().await.unwrap().unwrap().messages.is_empty());
    let mut token = String::new();
    let status = loop {
        match slow.message().await {
            Ok(Some(batch)) => token = batch.resume_token,
            Ok(None) => panic!("the export looks complete"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(!token.is_empty(), "and can be taken up behind what arrived");
}

#[tokio::test]
async fn answers_are_bounded_in_bytes() {
    const BYTES: usize = 4_096;
    let bench = Bench::with(GrpcLimits { answer_bytes_max: BYTES, ..limits() }).await;
    bench.furnish("acme", "a-").await;
    // A template with a parameter that the rows lack.
    let two = v1::Template { body: "Hello {{1}} of {{2}}".to_owned(), ..template("a-two") };
    let put = v1::PutTemplateRequest { template: Some(two), ..Default::default() };
    bench.templates("acme").await.put_template(put).await.unwrap();
    let mut refusing = campaign("a-", "refusing");
    refusing.settings.as_mut().unwrap().template_id = "a-two".to_owned();
    bench.campaigns("acme").await.create_campaign(refusing).await.unwrap();
    let mut imports = bench.imports("acme").await;
    let mut acks = Vec::new();
    for campaign in ["a-campaign", "a-refusing"] {
        let requests = stream::iter([header(campaign, "list"), part(chunk(0, 300))]);
        let mut answers = imports.import_recipients(requests).await.unwrap().into_inner();
        answers.message().await.unwrap();
        match answers.message().await.unwrap().unwrap().part {
            Some(v1::import_recipients_response::Part::Ack(ack)) => acks.push(ack),
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }
    assert_eq!((acks[0].stored, acks[0].refused_rows), (300, 0));
    assert_eq!((acks[1].stored, acks[1].refused_rows), (0, 300));
    assert!((1..300).contains(&acks[1].refused.len()), "{}", acks[1].refused.len());

    let mut largest = acks[1].encoded_len();
    let mut request =
        v1::ListRefusedRowsRequest { campaign_id: "a-refusing".to_owned(), page_size: 1_000, ..Default::default() };
    let mut rows = Vec::new();
    loop {
        let page = imports.list_refused_rows(request.clone()).await.unwrap().into_inner();
        largest = largest.max(page.encoded_len());
        rows.extend(page.rows.iter().map(|row| row.row));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert!(rows.iter().copied().eq(0..300), "{rows:?}");

    let mut messages = bench.messages("acme").await;
    let export = v1::ExportMessagesRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let batches: Vec<_> = messages.export_messages(export).await.unwrap().into_inner().collect().await;
    let batches: Vec<_> = batches.into_iter().map(Result::unwrap).collect();
    assert!(batches.len() > 1);
    largest = batches.iter().map(v1::ExportMessagesResponse::encoded_len).fold(largest, usize::max);
    assert!(batches.iter().flat_map(|batch| &batch.messages).map(|message| message.seq).eq(0..300));

    let list = v1::ListMessagesRequest { campaign_id: "a-campaign".to_owned(), page_size: 1_000, ..Default::default() };
    let page = messages.list_messages(list).await.unwrap().into_inner();
    largest = largest.max(page.encoded_len());
    assert!((1..300).contains(&page.messages.len()) && !page.next_page_token.is_empty());
    // Tags, lengths and tokens come on top of the items.
    assert!(largest < BYTES + BYTES / 4, "{largest}");
}
