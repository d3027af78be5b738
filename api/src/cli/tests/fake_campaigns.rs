//! The fake's campaigns and server.

use std::pin::Pin;

use sluice_proto::v1::{
    admin_service_server::AdminService, campaign_selection::By, campaign_service_server::CampaignService, *,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, async_trait};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake::Service;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn moved(&self, id: &str, from: &[CampaignState], to: CampaignState) -> Result<Campaign, Status> {
        let found = self.found(id)?;
        if !from.contains(&found.state()) {
            let state = found.state().as_str_name();
            let details =
                ErrorDetails::with_precondition_failure_violation("CAMPAIGN_STATE", id, format!("it is in {state}"));
            return Err(Status::with_error_details(
                tonic::Code::FailedPrecondition,
                "the campaign cannot do that now",
                details,
            ));
        }
        let mut world = self.0.lock();
        let campaign = world.campaigns.get_mut(id).expect("found above");
        campaign.set_state(to);
        Ok(campaign.clone())
    }

    fn all_moved(
        &self,
        selection: Option<CampaignSelection>,
        from: &[CampaignState],
        to: CampaignState,
    ) -> Vec<CampaignOutcome> {
        let Some(By::Ids(ids)) = selection.and_then(|selection| selection.by) else { return Vec::new() };
        let outcome = |campaign_id: String| match self.moved(&campaign_id, from, to) {
            Ok(campaign) => CampaignOutcome { campaign_id, state: campaign.state, ..CampaignOutcome::default() },
            Err(status) => CampaignOutcome {
                campaign_id,
                code: status.code() as i32,
                message: status.message().to_owned(),
                ..CampaignOutcome::default()
            },
        };
        ids.campaign_ids.into_iter().map(outcome).collect()
    }
}

const STARTS_FROM: &[CampaignState] = &[CampaignState::Draft];
const PAUSES_FROM: &[CampaignState] = &[CampaignState::Running];
const RESUMES_FROM: &[CampaignState] = &[CampaignState::Paused];
const CANCELS_FROM: &[CampaignState] = &[CampaignState::Draft, CampaignState::Running, CampaignState::Paused];

#[async_trait]
impl CampaignService for Service {
    async fn create_campaign(
        &self,
        request: Request<CreateCampaignRequest>,
    ) -> Result<Response<CreateCampaignResponse>, Status> {
        self.asked("CreateCampaign", &request)?;
        let request = request.into_inner();
        let mut world = self.0.lock();
        let campaign = world.campaign(&request.campaign_id, CampaignState::Draft);
        campaign.settings = request.settings;
        campaign.labels = request.labels;
        Ok(Response::new(CreateCampaignResponse { campaign: Some(campaign.clone()) }))
    }

    async fn get_campaign(
        &self,
        request: Request<GetCampaignRequest>,
    ) -> Result<Response<GetCampaignResponse>, Status> {
        self.asked("GetCampaign", &request)?;
        let campaign = Some(self.found(&request.get_ref().campaign_id)?);
        Ok(Response::new(GetCampaignResponse { campaign }))
    }

    async fn list_campaigns(
        &self,
        request: Request<ListCampaignsRequest>,
    ) -> Result<Response<ListCampaignsResponse>, Status> {
        self.asked("ListCampaigns", &request)?;
        let request = request.into_inner();
        let from: usize = request.page_token.parse().unwrap_or(0);
        let world = self.0.lock();
        let wanted = |campaign: &&Campaign| {
            // Of filters the fake knows `state=` alone.
            request.filter.strip_prefix("state=").is_none_or(|states| {
                let state = campaign.state().as_str_name().trim_start_matches("CAMPAIGN_STATE_").to_lowercase();
                states.split(',').any(|wanted| wanted == state)
            })
        };
        let all: Vec<Campaign> = world.campaigns.values().filter(wanted).cloned().collect();
        let to = (from + request.page_size as usize).min(all.len());
        let next_page_token = if to < all.len() { to.to_string() } else { String::new() };
        Ok(Response::new(ListCampaignsResponse { campaigns: all[from..to].to_vec(), next_page_token, as_of: None }))
    }

    async fn get_tenant_totals(
        &self,
        request: Request<GetTenantTotalsRequest>,
    ) -> Result<Response<GetTenantTotalsResponse>, Status> {
        self.asked("GetTenantTotals", &request)?;
        let campaigns = vec![CampaignStateCount { state: CampaignState::Running as i32, count: 1_234 }];
        Ok(Response::new(GetTenantTotalsResponse { campaigns, ..GetTenantTotalsResponse::default() }))
    }

    async fn update_campaign(
        &self,
        request: Request<UpdateCampaignRequest>,
    ) -> Result<Response<UpdateCampaignResponse>, Status> {
        self.asked("UpdateCampaign", &request)?;
        if request.get_ref().etag == "old" {
            return Err(Status::aborted("the campaign has changed"));
        }
        Ok(Response::new(UpdateCampaignResponse { campaign: Some(self.found(&request.get_ref().campaign_id)?) }))
    }

    async fn delete_campaign(
        &self,
        request: Request<DeleteCampaignRequest>,
    ) -> Result<Response<DeleteCampaignResponse>, Status> {
        self.asked("DeleteCampaign", &request)?;
        self.found(&request.get_ref().campaign_id)?;
        Ok(Response::new(DeleteCampaignResponse {}))
    }

    async fn clone_campaign(
        &self,
        request: Request<CloneCampaignRequest>,
    ) -> Result<Response<CloneCampaignResponse>, Status> {
        self.asked("CloneCampaign", &request)?;
        Ok(Response::new(CloneCampaignResponse { campaign: Some(self.found(&request.get_ref().source_campaign_id)?) }))
    }

    async fn seal_campaign(
        &self,
        request: Request<SealCampaignRequest>,
    ) -> Result<Response<SealCampaignResponse>, Status> {
        self.asked("SealCampaign", &request)?;
        let mut campaign = self.found(&request.get_ref().campaign_id)?;
        campaign.audience = Some(Audience { count: 19_998, sha256: "ab12".into(), seal_time: None });
        campaign.stats.get_or_insert_default().refused = 2;
        Ok(Response::new(SealCampaignResponse { campaign: Some(campaign) }))
    }

    async fn start_campaign(
        &self,
        request: Request<StartCampaignRequest>,
    ) -> Result<Response<StartCampaignResponse>, Status> {
        self.asked("StartCampaign", &request)?;
        let campaign = Some(self.moved(&request.get_ref().campaign_id, STARTS_FROM, CampaignState::Running)?);
        Ok(Response::new(StartCampaignResponse { campaign }))
    }

    async fn pause_campaign(
        &self,
        request: Request<PauseCampaignRequest>,
    ) -> Result<Response<PauseCampaignResponse>, Status> {
        self.asked("PauseCampaign", &request)?;
        let campaign = Some(self.moved(&request.get_ref().campaign_id, PAUSES_FROM, CampaignState::Paused)?);
        Ok(Response::new(PauseCampaignResponse { campaign, in_flight: 17 }))
    }

    async fn resume_campaign(
        &self,
        request: Request<ResumeCampaignRequest>,
    ) -> Result<Response<ResumeCampaignResponse>, Status> {
        self.asked("ResumeCampaign", &request)?;
        let campaign = Some(self.moved(&request.get_ref().campaign_id, RESUMES_FROM, CampaignState::Running)?);
        Ok(Response::new(ResumeCampaignResponse { campaign }))
    }

    async fn cancel_campaign(
        &self,
        request: Request<CancelCampaignRequest>,
    ) -> Result<Response<CancelCampaignResponse>, Status> {
        self.asked("CancelCampaign", &request)?;
        let campaign = Some(self.moved(&request.get_ref().campaign_id, CANCELS_FROM, CampaignState::Cancelled)?);
        Ok(Response::new(CancelCampaignResponse { campaign, in_flight: 3 }))
    }

    async fn batch_start_campaigns(
        &self,
        request: Request<BatchStartCampaignsRequest>,
    ) -> Result<Response<BatchStartCampaignsResponse>, Status> {
        self.asked("BatchStartCampaigns", &request)?;
        let outcomes = self.all_moved(request.into_inner().selection, STARTS_FROM, CampaignState::Running);
        Ok(Response::new(BatchStartCampaignsResponse { outcomes }))
    }

    async fn batch_pause_campaigns(
        &self,
        request: Request<BatchPauseCampaignsRequest>,
    ) -> Result<Response<BatchPauseCampaignsResponse>, Status> {
        self.asked("BatchPauseCampaigns", &request)?;
        let outcomes = self.all_moved(request.into_inner().selection, PAUSES_FROM, CampaignState::Paused);
        Ok(Response::new(BatchPauseCampaignsResponse { outcomes }))
    }

    async fn batch_resume_campaigns(
        &self,
        request: Request<BatchResumeCampaignsRequest>,
    ) -> Result<Response<BatchResumeCampaignsResponse>, Status> {
        self.asked("BatchResumeCampaigns", &request)?;
        let outcomes = self.all_moved(request.into_inner().selection, RESUMES_FROM, CampaignState::Running);
        Ok(Response::new(BatchResumeCampaignsResponse { outcomes }))
    }

    async fn batch_cancel_campaigns(
        &self,
        request: Request<BatchCancelCampaignsRequest>,
    ) -> Result<Response<BatchCancelCampaignsResponse>, Status> {
        self.asked("BatchCancelCampaigns", &request)?;
        let outcomes = self.all_moved(request.into_inner().selection, CANCELS_FROM, CampaignState::Cancelled);
        Ok(Response::new(BatchCancelCampaignsResponse { outcomes }))
    }

    type WatchCampaignStream = Answers<WatchCampaignResponse>;

    async fn watch_campaign(
        &self,
        request: Request<WatchCampaignRequest>,
    ) -> Result<Response<Self::WatchCampaignStream>, Status> {
        self.asked("WatchCampaign", &request)?;
        self.found(&request.get_ref().campaign_id)?;
        let mut world = self.0.lock();
        let steps = tokio_stream::iter(world.watches.pop_front().unwrap_or_default());
        if world.watch_stays_open {
            use tokio_stream::StreamExt as _;
            return Ok(Response::new(Box::pin(steps.chain(tokio_stream::pending()))));
        }
        Ok(Response::new(Box::pin(steps)))
    }

    async fn recount_campaign(
        &self,
        request: Request<RecountCampaignRequest>,
    ) -> Result<Response<RecountCampaignResponse>, Status> {
        self.asked("RecountCampaign", &request)?;
        let recount = self.0.lock().recounts.first().cloned();
        Ok(Response::new(RecountCampaignResponse { recount }))
    }

    type RecountTenantStream = Answers<RecountTenantResponse>;

    async fn recount_tenant(
        &self,
        request: Request<RecountTenantRequest>,
    ) -> Result<Response<Self::RecountTenantStream>, Status> {
        self.asked("RecountTenant", &request)?;
        let recounts = self.0.lock().recounts.clone();
        let answers = recounts.into_iter().map(|recount| Ok(RecountTenantResponse { recount: Some(recount) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(answers.collect::<Vec<_>>()))))
    }
}

#[async_trait]
impl AdminService for Service {
    async fn get_server_info(
        &self,
        request: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        self.asked("GetServerInfo", &request)?;
        Ok(Response::new(GetServerInfoResponse {
            version: "0.1.0".into(),
            node_id: "n1".into(),
            store_kind: "sqlite".into(),
            schema_version: 1,
            uptime: Some(prost_types::Duration { seconds: 3_661, nanos: 0 }),
            now: None,
            tenant_id: "acme".into(),
            scopes: vec!["read".into(), "send".into()],
        }))
    }

    async fn get_nodes(&self, request: Request<GetNodesRequest>) -> Result<Response<GetNodesResponse>, Status> {
        self.asked("GetNodes", &request)?;
        Ok(Response::new(self.0.lock().nodes.clone()))
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupResponse>, Status> {
        self.asked("Backup", &request)?;
        let path = format!("/backups/{}", request.get_ref().file_name);
        Ok(Response::new(BackupResponse { path, size_bytes: 1_048_576, as_of: None }))
    }
}
