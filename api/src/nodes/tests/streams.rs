//! Streams: sent on as streams, bounded, and never read ahead of the owner.

use futures_util::StreamExt as _;
use sluice_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::house::{House, NOBODY, limits};
use crate::grpc::tests::bench;

#[tokio::test]
async fn an_import_goes_on_at_whoever_is_asked() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let (chunks, sent) = mpsc::channel(1);
    chunks.send(bench::header("a-campaign", "i")).await.unwrap();
    let mut answers = b.imports().await.import_recipients(ReceiverStream::new(sent)).await.unwrap().into_inner();
    let ready = answers.message().await.unwrap().unwrap();
    assert!(matches!(ready.part, Some(v1::import_recipients_response::Part::Ready(_))));
    for n in 0..3 {
        chunks.send(bench::part(bench::chunk(n * 10, n * 10 + 10))).await.unwrap();
        let ack = answers.message().await.unwrap().unwrap();
        let Some(v1::import_recipients_response::Part::Ack(ack)) = ack.part else { panic!("{ack:?}") };
        assert_eq!((ack.acked_rows, ack.stored), (n * 10 + 10, 10));
    }
    drop(chunks);
    assert!(answers.message().await.unwrap().is_none());
    // What was stored through one node is known to the other, and not stored again.
    assert_eq!(a.fill("a-").await, 30);
}

#[tokio::test]
async fn an_import_that_begins_without_an_owner_begins_when_there_is_one() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.sees("a-pool", NOBODY);
    let fill = async {
        let acked = b.fill("a-").await;
        assert_eq!(acked, 10);
    };
    let own = async {
        tokio::task::yield_now().await;
        a.sees("a-pool", "a");
    };
    tokio::join!(fill, own);
}

#[tokio::test]
async fn a_watch_comes_from_the_owner_and_ends_when_it_is_another() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let request = v1::WatchCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let mut watch = b.campaigns().await.watch_campaign(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert!(matches!(first.update, Some(v1::watch_campaign_response::Update::Snapshot(_))));
    a.sees("a-pool", "b");
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn streams_that_are_sent_on_are_bounded_and_their_places_come_back() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let request = || v1::WatchCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let mut client = b.campaigns().await;
    let mut open = Vec::new();
    for _ in 0..limits().streams_max {
        open.push(client.watch_campaign(request()).await.unwrap().into_inner());
    }
    let status = client.watch_campaign(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(open);
    loop {
        match client.watch_campaign(request()).await {
            Ok(watch) => break drop(watch),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
}

#[tokio::test]
async fn an_export_and_a_recount_of_everything_come_from_the_owners() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.sees("b-pool", "b");
    for prefix in ["a-", "b-"] {
        a.furnish(prefix).await;
        a.fill(prefix).await;
    }
    let export = v1::ExportMessagesRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let batches = b.messages().await.export_messages(export).await.unwrap().into_inner();
    let batches: Vec<_> = batches.map(Result::unwrap).collect().await;
    assert_eq!(batches.iter().map(|batch| batch.messages.len()).sum::<usize>(), 10);
    let recounts = b.campaigns().await.recount_tenant(v1::RecountTenantRequest {}).await.unwrap().into_inner();
    let mut ids: Vec<String> = recounts.map(|r| r.unwrap().recount.unwrap().campaign_id).collect().await;
    ids.sort_unstable();
    assert_eq!(ids, ["a-campaign", "b-campaign"]);
}
