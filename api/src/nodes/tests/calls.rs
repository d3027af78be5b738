//! Calls with one answer: at whichever node, done by the owner.

use std::sync::Arc;

use sluice_proto::v1;
use tonic::{Code, Request};

use super::house::{House, NOBODY};
use crate::grpc::tests::bench;

fn start(campaign: &str) -> v1::StartCampaignRequest {
    v1::StartCampaignRequest { campaign_id: campaign.to_owned(), ..Default::default() }
}

fn pause(campaign: &str) -> v1::PauseCampaignRequest {
    v1::PauseCampaignRequest { campaign_id: campaign.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_call_anywhere_is_done_by_the_owner_for_its_caller() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    b.furnish("a-").await;
    assert_eq!(b.fill("a-").await, 10);
    let started = b.campaigns().await.start_campaign(start("a-campaign")).await.unwrap().into_inner();
    let campaign = started.campaign.unwrap();
    assert_eq!(campaign.state(), v1::CampaignState::Running);
    assert!(!campaign.created_by.is_empty(), "the caller's name came along");
    assert_eq!(a.told(), ["line a-line", "campaign a-campaign running"]);
    assert_eq!(b.told(), [""; 0]);
    // Another tenant's token finds nothing at the owner either.
    let mut stranger = v1::campaign_service_client::CampaignServiceClient::with_interceptor(
        b.channel().await,
        bench::bearer("other", "read send admin"),
    );
    assert_eq!(stranger.start_campaign(start("a-campaign")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn errors_of_the_owner_arrive_with_their_details() {
    use tonic_types::StatusExt as _;
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let status = b.campaigns().await.pause_campaign(pause("a-campaign")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(status.get_details_error_info().unwrap().metadata["state"], "draft");
}

/// Each node believes that the pool is the other's; then the other learns that it is its own.
#[tokio::test]
async fn who_does_not_own_it_says_so_and_the_call_goes_on_to_who_does() {
    let (_house, a, b) = House::with_two_apart().await;
    a.furnish("a-").await;
    a.fill("a-").await;
    a.told();
    a.sees("a-pool", "b");
    let mut client = b.campaigns().await;
    let call = tokio::spawn(async move { client.start_campaign(start("a-campaign")).await });
    // It is asked again and again, until somebody says that it is its own.
    let owners = Arc::clone(&b.owners);
    while !call.is_finished() {
        tokio::task::yield_now().await;
        owners.lock().insert("a-pool".to_owned(), "b".to_owned());
    }
    call.await.unwrap().unwrap();
    assert_eq!(b.told(), ["campaign a-campaign running"]);
    assert_eq!(a.told(), [""; 0], "what is not its own is not touched");
}

#[tokio::test]
async fn without_an_owner_the_caller_is_told_within_its_deadline() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    b.sees("a-pool", NOBODY);
    let mut request = Request::new(start("a-campaign"));
    request.set_timeout(std::time::Duration::from_secs(2));
    let status = b.campaigns().await.start_campaign(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "no node answers for it now: try again"));
}

#[tokio::test]
async fn what_does_not_exist_is_answered_where_it_is_asked_for() {
    let (_house, _a, b) = House::with_two().await;
    assert_eq!(b.campaigns().await.start_campaign(start("nope")).await.unwrap_err().code(), Code::NotFound);
    let mut campaign = bench::campaign("a-", "campaign");
    let status = b.campaigns().await.create_campaign(campaign.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "no such pool");
    campaign.settings = None;
    assert_eq!(b.campaigns().await.create_campaign(campaign).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_batch_is_split_by_owner_and_answered_in_order() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.sees("b-pool", "b");
    for prefix in ["a-", "b-"] {
        b.furnish(prefix).await;
        b.fill(prefix).await;
    }
    a.told();
    b.told();
    let ids = ["a-campaign", "nope", "b-campaign"].map(str::to_owned).to_vec();
    let by = v1::campaign_selection::By::Ids(v1::CampaignIds { campaign_ids: ids });
    let selection = Some(v1::CampaignSelection { by: Some(by) });
    let batch = v1::BatchStartCampaignsRequest { selection: selection.clone() };
    let outcomes = b.campaigns().await.batch_start_campaigns(batch).await.unwrap().into_inner().outcomes;
    let told: Vec<_> = outcomes.iter().map(|o| (&*o.campaign_id, o.state(), o.code)).collect();
    let running = v1::CampaignState::Running;
    let nowhere = v1::CampaignState::Unspecified;
    assert_eq!(
        told,
        [("a-campaign", running, 0), ("nope", nowhere, Code::NotFound as i32), ("b-campaign", running, 0)]
    );
    assert_eq!(a.told(), ["campaign a-campaign running"]);
    assert_eq!(b.told(), ["campaign b-campaign running"]);
    // A second start changes nothing; a resume of what runs neither; what does not fit says the state.
    let batch = v1::BatchCancelCampaignsRequest { selection: selection.clone() };
    let outcomes = b.campaigns().await.batch_cancel_campaigns(batch).await.unwrap().into_inner().outcomes;
    assert_eq!(outcomes[0].state(), v1::CampaignState::Cancelled);
    let batch = v1::BatchPauseCampaignsRequest { selection };
    let outcomes = b.campaigns().await.batch_pause_campaigns(batch).await.unwrap().into_inner().outcomes;
    let refused = (outcomes[0].state(), outcomes[0].code);
    assert_eq!(refused, (v1::CampaignState::Cancelled, Code::FailedPrecondition as i32));
}

#[tokio::test]
async fn a_campaign_stays_with_the_node_of_its_pool() {
    let (_house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.sees("b-pool", "b");
    for prefix in ["a-", "b-"] {
        a.furnish(prefix).await;
    }
    let update = v1::UpdateCampaignRequest {
        campaign_id: "a-campaign".to_owned(),
        pool_id: Some("b-pool".to_owned()),
        ..Default::default()
    };
    let status = b.campaigns().await.update_campaign(update).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
}
