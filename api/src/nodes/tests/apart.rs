//! Nodes of different versions.

use prost::Message as _;
use sluice_proto::internal::v1::ApplyEventsRequest;
use sluice_proto::internal::v1::node_service_client::NodeServiceClient;
use sluice_proto::v1;
use tonic::codegen::http::{HeaderValue, Method, Request, Uri};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::house::{House, Node};
use super::webhooks::{applied, set_aside};
use crate::nodes::frame;

fn start(campaign: &str) -> v1::StartCampaignRequest {
    v1::StartCampaignRequest { campaign_id: campaign.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn one_apart_they_do_each_others_work() {
    let house = House::new();
    let [a, b] = house.and_of([("a", 2), ("b", 1)]).await;
    for (owner, other, name) in [(&a, &b, "a"), (&b, &a, "b")] {
        let prefix = format!("{name}-");
        owner.sees(&format!("{name}-pool"), name);
        other.furnish(&prefix).await;
        assert_eq!(other.fill(&prefix).await, 10, "a stream");
        let campaign = format!("{name}-campaign");
        other.campaigns().await.start_campaign(start(&campaign)).await.unwrap();
        assert_eq!(owner.told(), [format!("line {name}-line"), format!("campaign {campaign} running")]);
        other.accept(vec![house.status(&prefix, "1").await]).await.unwrap();
        assert_eq!(owner.took(), applied(&["1"]));
    }
}

#[tokio::test]
async fn two_apart_they_refuse_each_other_and_events_are_set_aside() {
    let house = House::hasty();
    let [a, b] = house.and_of([("a", 3), ("b", 1)]).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    a.told();
    // As b reads it in the ledger, and as a says it where b has not read it yet.
    for seen in [3, 1] {
        house.roll.lock().entry("a".to_owned()).and_modify(|peer| peer.protocol = seen);
        let status = b.campaigns().await.start_campaign(start("a-campaign")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("version is too far"), "{status:?}");
        b.accept(vec![house.status("a-", "1").await]).await.unwrap();
        assert_eq!((a.took(), b.took(), a.told()), (Vec::new(), set_aside(&["1"]), Vec::new()));
    }
}

#[tokio::test]
async fn whoever_is_refused_hears_both_numbers() {
    let house = House::new();
    let [a] = house.and_of([("a", 3)]).await;
    let inside = Channel::from_shared(format!("http://{}", a.inside)).unwrap().connect().await.unwrap();
    for theirs in ["1", "5"] {
        let mut request = tonic::Request::new(ApplyEventsRequest::default());
        request.metadata_mut().insert("sluice-node-protocol", theirs.parse().unwrap());
        request.metadata_mut().insert("sluice-node", "z".parse().unwrap());
        let status = NodeServiceClient::new(inside.clone()).apply_events(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let numbers = format!("node a speaks protocol 3, z speaks {theirs}, and they may differ by one");
        assert!(status.message().starts_with(&numbers), "{status:?}");
        assert_eq!(status.metadata().get("sluice-node-protocol").unwrap(), "3");
    }
}

/// A start with a field that no version so far knows.
async fn start_as_newer(node: &Node) -> Option<Status> {
    const NEW: [u8; 3] = [0xa0, 0x1f, 0x07]; // 500: 7
    let message = [&start("a-campaign").encode_to_vec()[..], &NEW].concat();
    let mut request = Request::new(frame::whole(frame::framed(&message)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/sluice.v1.CampaignService/StartCampaign");
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let answer = node.authorised().await.oneshot(request).await.unwrap();
    Status::from_header_map(answer.headers())
}

/// What the newer node may know and the owner does not is refused; between nodes of one version it is what it is to all of them.
#[tokio::test]
async fn the_older_node_refuses_what_it_does_not_understand() {
    let house = House::new();
    let [a, newer, same] = house.and_of([("a", 1), ("b", 2), ("c", 1)]).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    a.told();
    let refused = start_as_newer(&newer).await.unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("field 500 of sluice.v1.StartCampaignRequest"), "{refused:?}");
    assert_eq!(a.told(), Vec::<String>::new());
    assert!(start_as_newer(&same).await.is_none(), "done");
    assert_eq!(a.told(), ["campaign a-campaign running"]);
}
