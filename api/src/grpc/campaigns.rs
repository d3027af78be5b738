//! Campaigns.

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use sluice_engine::control::{BatchMove, PageRequest, Update, WatchUntil, Watcher};
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_server::CampaignService;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::convert::{self, expected, timestamp};
use super::places::Place;
use super::{Front, enter, pages, status, taken};
use crate::auth::Principal;

#[tonic::async_trait]
impl CampaignService for Front {
    async fn create_campaign(
        &self,
        request: Request<v1::CreateCampaignRequest>,
    ) -> Result<Response<v1::CreateCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let request_id = request.request_id.clone();
            let spec = convert::campaign_spec(request, &caller.subject, control.defaults())?;
            let view = control.create_campaign(&caller.tenant, &request_id, spec).await?;
            Ok(v1::CreateCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn get_campaign(
        &self,
        request: Request<v1::GetCampaignRequest>,
    ) -> Result<Response<v1::GetCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let view = control.campaign(&caller.tenant, &request.campaign_id).await?;
            Ok(v1::GetCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn list_campaigns(
        &self,
        request: Request<v1::ListCampaignsRequest>,
    ) -> Result<Response<v1::ListCampaignsResponse>, Status> {
        let bytes_max = self.answer_bytes_max;
        self.call(request, move |control, caller, request| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page: PageRequest = convert::page(size, asked.page_token.clone());
                Ok(control.list_campaigns(tenant, &asked.filter, &page).await?.map(convert::campaign))
            });
            let page = page.await?;
            Ok(v1::ListCampaignsResponse {
                campaigns: page.items,
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }

    async fn get_tenant_totals(
        &self,
        request: Request<v1::GetTenantTotalsRequest>,
    ) -> Result<Response<v1::GetTenantTotalsResponse>, Status> {
        self.call(request, |control, caller, _| async move {
            Ok(convert::tenant_totals(control.tenant_totals(&caller.tenant).await?))
        })
        .await
    }

    async fn update_campaign(
        &self,
        request: Request<v1::UpdateCampaignRequest>,
    ) -> Result<Response<v1::UpdateCampaignResponse>, Status> {
        let nodes = self.nodes.clone();
        self.call(request, |control, caller, request| async move {
            let (id, version) = (request.campaign_id.clone(), expected(&request.etag)?);
            if let (Some(nodes), Some(pool)) = (nodes, &request.pool_id) {
                nodes.may_move_to(&caller.tenant, &id, pool)?;
            }
            let update = convert::campaign_update(request, control.defaults())?;
            let view = control.update_campaign(&caller.tenant, &id, version, update).await?;
            Ok(v1::UpdateCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn delete_campaign(
        &self,
        request: Request<v1::DeleteCampaignRequest>,
    ) -> Result<Response<v1::DeleteCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            control.delete_campaign(&caller.tenant, &request.campaign_id, expected(&request.etag)?).await?;
            Ok(v1::DeleteCampaignResponse {})
        })
        .await
    }

    async fn clone_campaign(
        &self,
        request: Request<v1::CloneCampaignRequest>,
    ) -> Result<Response<v1::CloneCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let copy = control
                .clone_campaign(
                    &caller.tenant,
                    &request.request_id,
                    &request.source_campaign_id,
                    request.campaign_id,
                    request.name,
                    caller.subject.to_string(),
                )
                .await?;
            Ok(v1::CloneCampaignResponse { campaign: Some(convert::campaign(copy)) })
        })
        .await
    }

    async fn seal_campaign(
        &self,
        request: Request<v1::SealCampaignRequest>,
    ) -> Result<Response<v1::SealCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let view = control.seal_campaign(&caller.tenant, &request.campaign_id, version).await?;
            Ok(v1::SealCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn start_campaign(
        &self,
        request: Request<v1::StartCampaignRequest>,
    ) -> Result<Response<v1::StartCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let view = control.start_campaign(&caller.tenant, &request.campaign_id, version).await?;
            Ok(v1::StartCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn pause_campaign(
        &self,
        request: Request<v1::PauseCampaignRequest>,
    ) -> Result<Response<v1::PauseCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let halted = control.pause_campaign(&caller.tenant, &request.campaign_id, version).await?;
            let campaign = Some(convert::campaign(halted.campaign));
            Ok(v1::PauseCampaignResponse { campaign, in_flight: halted.in_flight })
        })
        .await
    }

    async fn resume_campaign(
        &self,
        request: Request<v1::ResumeCampaignRequest>,
    ) -> Result<Response<v1::ResumeCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let view = control.resume_campaign(&caller.tenant, &request.campaign_id, version).await?;
            Ok(v1::ResumeCampaignResponse { campaign: Some(convert::campaign(view)) })
        })
        .await
    }

    async fn cancel_campaign(
        &self,
        request: Request<v1::CancelCampaignRequest>,
    ) -> Result<Response<v1::CancelCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let halted = control.cancel_campaign(&caller.tenant, &request.campaign_id, version).await?;
            let campaign = Some(convert::campaign(halted.campaign));
            Ok(v1::CancelCampaignResponse { campaign, in_flight: halted.in_flight })
        })
        .await
    }

    async fn batch_start_campaigns(
        &self,
        request: Request<v1::BatchStartCampaignsRequest>,
    ) -> Result<Response<v1::BatchStartCampaignsResponse>, Status> {
        let outcomes = self.batch(request, |request| request.selection, BatchMove::Start).await?;
        Ok(Response::new(v1::BatchStartCampaignsResponse { outcomes }))
    }

    async fn batch_pause_campaigns(
        &self,
        request: Request<v1::BatchPauseCampaignsRequest>,
    ) -> Result<Response<v1::BatchPauseCampaignsResponse>, Status> {
        let outcomes = self.batch(request, |request| request.selection, BatchMove::Pause).await?;
        Ok(Response::new(v1::BatchPauseCampaignsResponse { outcomes }))
    }

    async fn batch_resume_campaigns(
        &self,
        request: Request<v1::BatchResumeCampaignsRequest>,
    ) -> Result<Response<v1::BatchResumeCampaignsResponse>, Status> {
        let outcomes = self.batch(request, |request| request.selection, BatchMove::Resume).await?;
        Ok(Response::new(v1::BatchResumeCampaignsResponse { outcomes }))
    }

    async fn batch_cancel_campaigns(
        &self,
        request: Request<v1::BatchCancelCampaignsRequest>,
    ) -> Result<Response<v1::BatchCancelCampaignsResponse>, Status> {
        let outcomes = self.batch(request, |request| request.selection, BatchMove::Cancel).await?;
        Ok(Response::new(v1::BatchCancelCampaignsResponse { outcomes }))
    }

    type WatchCampaignStream = BoxStream<'static, Result<v1::WatchCampaignResponse, Status>>;

    async fn watch_campaign(
        &self,
        request: Request<v1::WatchCampaignRequest>,
    ) -> Result<Response<Self::WatchCampaignStream>, Status> {
        let (caller, request) = enter(request)?;
        let until = match v1::WatchUntil::try_from(request.until) {
            Ok(v1::WatchUntil::Unspecified | v1::WatchUntil::Settled) => WatchUntil::Settled,
            Ok(v1::WatchUntil::Dispatched) => WatchUntil::Dispatched,
            Err(_) => return Err(Status::invalid_argument("until: is not a value that this server knows")),
        };
        let place = self.streams.watches.take(&caller.tenant)?;
        let watcher = self
            .control
            .watch(&caller.tenant, &request.campaign_id, request.max_updates_per_second, until)
            .await
            .map_err(|error| status::of(&error))?;
        // Driven by the reader: the next step is worked out when the one before has been taken.
        let open = metrics::gauge!(crate::metrics::GRPC_WATCHES);
        open.increment(1.0);
        let lost = match self.nodes.clone() {
            Some(nodes) => nodes.lost(caller.tenant, request.campaign_id).boxed(),
            None => std::future::pending().boxed(),
        };
        let watch = Watch { watcher, shutdown: self.shutdown.clone(), lost, open, _place: place };
        Ok(Response::new(stream::unfold(Some(watch), watch_step).boxed()))
    }

    async fn recount_campaign(
        &self,
        request: Request<v1::RecountCampaignRequest>,
    ) -> Result<Response<v1::RecountCampaignResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let recount = control.recount(&caller.tenant, &request.campaign_id).await?;
            Ok(v1::RecountCampaignResponse { recount: Some(convert::recount(recount)) })
        })
        .await
    }

    type RecountTenantStream = BoxStream<'static, Result<v1::RecountTenantResponse, Status>>;

    async fn recount_tenant(
        &self,
        request: Request<v1::RecountTenantRequest>,
    ) -> Result<Response<Self::RecountTenantStream>, Status> {
        let (caller, _) = enter(request)?;
        let place = self.streams.exports.take(&caller.tenant)?;
        let walk = Walk { front: self.clone(), caller, ids: Vec::new(), next: Some(None) };
        let steps = stream::unfold(Some(walk), walk_step).boxed();
        Ok(Response::new(taken::by_reader(steps, self.streams.export_idle, place)))
    }
}

struct Watch {
    watcher: Watcher,
    shutdown: CancellationToken,
    /// Ends when another node owns the campaign: only its owner knows how it does.
    lost: BoxFuture<'static, ()>,
    open: metrics::Gauge,
    _place: Place,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

async fn watch_step(watch: Option<Watch>) -> Option<(Result<v1::WatchCampaignResponse, Status>, Option<Watch>)> {
    let mut watch = watch?;
    let step = tokio::select! {
        step = watch.watcher.next() => step,
        () = watch.shutdown.cancelled() => return Some((Err(status::shutting_down()), None)),
        () = &mut watch.lost => return Some((Err(status::handed_over()), None)),
    };
    let update = match step {
        Ok(Some(Update::Snapshot(view))) => v1::watch_campaign_response::Update::Snapshot(convert::campaign(*view)),
        Ok(Some(Update::Change { before, now })) => {
            v1::watch_campaign_response::Update::Delta(convert::delta(&before, &now))
        }
        Ok(None) => return None,
        Err(error) => return Some((Err(status::of(&error)), None)),
    };
    Some((Ok(v1::WatchCampaignResponse { update: Some(update) }), Some(watch)))
}

/// A walk over all campaigns of a tenant.
struct Walk {
    front: Front,
    caller: Principal,
    /// Of the page at hand, the next one last.
    ids: Vec<String>,
    /// Where the next page begins; `None`: there is none.
    next: Option<Option<Vec<u8>>>,
}

async fn walk_step(walk: Option<Walk>) -> Option<(Result<v1::RecountTenantResponse, Status>, Option<Walk>)> {
    let mut walk = walk?;
    if walk.front.shutdown.is_cancelled() {
        return Some((Err(status::shutting_down()), None));
    }
    match walk.recount().await {
        Ok(None) => None,
        Ok(Some(recount)) => Some((Ok(v1::RecountTenantResponse { recount: Some(recount) }), Some(walk))),
        Err(status) => Some((Err(status), None)),
    }
}

impl Walk {
    /// Recounts the next campaign that still exists.
    async fn recount(&mut self) -> Result<Option<v1::Recount>, Status> {
        loop {
            let Some(id) = self.ids.pop() else {
                let Some(after) = self.next.take() else { return Ok(None) };
                let page = self.front.control.campaign_ids(&self.caller.tenant, after).await;
                let (mut ids, next) = page.map_err(|error| status::of(&error))?;
                ids.reverse();
                self.ids = ids;
                self.next = next.map(Some);
                continue;
            };
            match self.front.recount(&self.caller, id).await {
                // Removed since the page was read.
                Err(status) if status.code() == Code::NotFound => {}
                result => return result,
            }
        }
    }
}
