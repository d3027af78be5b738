//! The import stream.

use futures_util::stream;
use sluice_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use v1::import_recipients_response::Part;

use super::bench::*;

async fn next(answers: &mut Streaming<v1::ImportRecipientsResponse>) -> Result<Option<Part>, Status> {
    Ok(answers.message().await?.and_then(|answer| answer.part))
}

async fn ack(answers: &mut Streaming<v1::ImportRecipientsResponse>) -> v1::ImportAck {
    match next(answers).await.unwrap() {
        Some(Part::Ack(ack)) => ack,
        other => panic!("expected an acknowledgement, got {other:?}"),
    }
}

async fn ready(answers: &mut Streaming<v1::ImportRecipientsResponse>) -> u64 {
    match next(answers).await.unwrap() {
        Some(Part::Ready(ready)) => ready.acked_rows,
        other => panic!("expected ready, got {other:?}"),
    }
}

#[tokio::test]
async fn chunks_are_acknowledged_in_order_and_taken_up_after_a_break() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.imports("acme").await;
    let (send, chunks) = mpsc::channel(8);
    send.send(header("a-campaign", "list")).await.unwrap();
    let mut answers = client.import_recipients(ReceiverStream::new(chunks)).await.unwrap().into_inner();
    assert_eq!(ready(&mut answers).await, 0);
    // Several under way at once.
    for from in [0, 100, 200] {
        send.send(part(chunk(from, from + 100))).await.unwrap();
    }
    for to in [100, 200, 300] {
        let ack = ack(&mut answers).await;
        assert_eq!((ack.acked_rows, ack.stored, ack.repeated), (to, 100, false));
    }
    // The importer vanishes without a word and comes again.
    drop((send, answers));
    let requests = stream::iter([header("a-campaign", "list"), part(chunk(200, 300)), part(chunk(300, 310))]);
    let mut answers = client.import_recipients(requests).await.unwrap().into_inner();
    assert_eq!(ready(&mut answers).await, 300);
    let again = ack(&mut answers).await;
    assert_eq!((again.acked_rows, again.repeated), (300, true));
    assert_eq!(ack(&mut answers).await.acked_rows, 310);
    assert!(next(&mut answers).await.unwrap().is_none());
    let request = v1::GetImportRequest { campaign_id: "a-campaign".to_owned(), import_id: "list".to_owned() };
    let import = client.get_import(request).await.unwrap().into_inner().import.unwrap();
    assert_eq!((import.acked_rows, import.stored_rows, import.refused_rows), (310, 310, 0));
}

#[tokio::test]
async fn a_wrong_chunk_ends_the_stream_after_the_good_ones_are_acknowledged() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.imports("acme").await;
    let mut torn = chunk(10, 20);
    torn.rows[3].external_id = "changed".to_owned();
    let wrong: [(v1::ImportRecipientsRequest, Code); 4] = [
        (part(torn), Code::InvalidArgument),
        (part(chunk(11, 20)), Code::InvalidArgument),
        (header("a-campaign", "list"), Code::InvalidArgument),
        (v1::ImportRecipientsRequest { part: None }, Code::InvalidArgument),
    ];
    for (wrong, code) in wrong {
        let requests = stream::iter([header("a-campaign", "list"), part(chunk(0, 10)), wrong, part(chunk(20, 30))]);
        let mut answers = client.import_recipients(requests).await.unwrap().into_inner();
        ready(&mut answers).await;
        assert_eq!(ack(&mut answers).await.acked_rows, 10);
        let status = next(&mut answers).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    let request = v1::GetImportRequest { campaign_id: "a-campaign".to_owned(), import_id: "list".to_owned() };
    assert_eq!(client.get_import(request).await.unwrap().into_inner().import.unwrap().stored_rows, 10);
}

#[tokio::test]
async fn the_first_message_is_a_header_and_places_are_bounded() {
    let bench = Bench::new().await;
    bench.furnish("acme", "a-").await;
    let mut client = bench.imports("acme").await;
    let status = client.import_recipients(stream::iter([part(chunk(0, 1))])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.import_recipients(stream::iter([])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let mut open = Vec::new();
    for n in 0..limits().imports_max {
        let (send, chunks) = mpsc::channel(1);
        send.send(header("a-campaign", &format!("list-{n}"))).await.unwrap();
        let mut answers = client.import_recipients(ReceiverStream::new(chunks)).await.unwrap().into_inner();
        ready(&mut answers).await;
        open.push((send, answers));
    }
    let status = client.import_recipients(stream::iter([header("a-campaign", "more")])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // An end frees its place.
    let (send, mut answers) = open.pop().unwrap();
    drop(send);
    assert!(next(&mut answers).await.unwrap().is_none());
    let again = client.import_recipients(stream::iter([header("a-campaign", "more")])).await;
    let mut answers = again.unwrap().into_inner();
    ready(&mut answers).await;
}
