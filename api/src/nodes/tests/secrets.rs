//! Who may speak to whom.

use std::sync::Arc;

use sluice_proto::internal::v1::ApplyEventsRequest;
use sluice_proto::internal::v1::node_service_client::NodeServiceClient;
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use tonic::Code;
use tonic::transport::Channel;

use super::house::{House, Owners};
use crate::grpc::tests::bench;

#[tokio::test]
async fn another_secret_is_refused_and_nothing_is_done() {
    let house = House::new();
    let owners = Owners::default();
    let a = house.node("a", 's', Arc::clone(&owners)).await;
    let b = house.node("b", 't', owners).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    a.told();
    let start = v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let status = b.campaigns().await.start_campaign(start).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("operator"), "{status:?}");
    assert_eq!((a.told(), b.told()), (Vec::<String>::new(), Vec::new()));
}

const AUTHORITY: &str = include_str!("../../../testdata/tls-ca.pem");

/// Between nodes that speak TLS a call finds its owner; one that speaks plainly, or trusts another authority, is not spoken to.
#[tokio::test]
async fn nodes_speak_over_tls() {
    let house = House::new();
    let owners = Owners::default();
    let a = house.node_over("a", 's', Arc::clone(&owners), Some(AUTHORITY)).await;
    let b = house.node_over("b", 's', Arc::clone(&owners), Some(AUTHORITY)).await;
    let plain = house.node("c", 's', Arc::clone(&owners)).await;
    let strange = house.node_over("d", 's', owners, Some(include_str!("../../../testdata/tls-cert.pem"))).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    a.told();
    let start = || v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    for other in [&plain, &strange] {
        let mut request = tonic::Request::new(start());
        request.set_timeout(std::time::Duration::from_millis(500));
        let status = other.campaigns().await.start_campaign(request).await.unwrap_err();
        assert!([Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status:?}");
    }
    assert_eq!(a.told(), Vec::<String>::new());
    b.campaigns().await.start_campaign(start()).await.unwrap();
    assert_eq!(a.told(), ["campaign a-campaign running"]);
}

/// The address of one node leads to another of the same installation.
#[tokio::test]
async fn a_call_for_another_node_is_refused() {
    let (house, a, b) = House::with_two().await;
    let c = house.node("c", 's', Arc::clone(&a.owners)).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    house.enrol("a", c.inside);
    let start = v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let status = b.campaigns().await.start_campaign(start).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn the_inside_takes_no_token_and_the_public_listener_no_node() {
    let (_house, a, _b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let inside = Channel::from_shared(format!("http://{}", a.inside)).unwrap().connect().await.unwrap();
    let get = v1::GetCampaignRequest { campaign_id: "a-campaign".to_owned() };
    let mut caller = CampaignServiceClient::with_interceptor(inside.clone(), bench::bearer("acme", "read send admin"));
    assert_eq!(caller.get_campaign(get).await.unwrap_err().code(), Code::Unauthenticated);
    let apply = ApplyEventsRequest::default;
    let status = NodeServiceClient::new(inside).apply_events(apply()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = NodeServiceClient::new(a.channel().await).apply_events(apply()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}
