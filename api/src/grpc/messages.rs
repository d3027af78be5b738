//! Messages.

use futures_util::stream::{self, BoxStream, StreamExt as _};
use sluice_engine::control::{Control, Error, MessageKeySpec, ResolveSelection};
use sluice_engine::domain::ids::TenantId;
use sluice_proto::v1;
use sluice_proto::v1::message_service_server::MessageService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::{self, timestamp};
use super::{Front, enter, pages, status, taken};

#[tonic::async_trait]
impl MessageService for Front {
    async fn get_message(
        &self,
        request: Request<v1::GetMessageRequest>,
    ) -> Result<Response<v1::GetMessageResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let key = match request.key {
                Some(v1::get_message_request::Key::Seq(seq)) => MessageKeySpec::Seq(seq),
                Some(v1::get_message_request::Key::ExternalId(id)) => MessageKeySpec::ExternalId(id),
                None => return Err(Error::invalid("key", "is required: seq or external_id")),
            };
            let view = control.message(&caller.tenant, &request.campaign_id, &key).await?;
            Ok(v1::GetMessageResponse { message: Some(convert::message(&request.campaign_id, view)) })
        })
        .await
    }

    async fn list_messages(
        &self,
        request: Request<v1::ListMessagesRequest>,
    ) -> Result<Response<v1::ListMessagesResponse>, Status> {
        let bytes_max = self.answer_bytes_max;
        self.call(request, move |control, caller, request| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page = convert::page(size, asked.page_token.clone());
                let page = control.list_messages(tenant, &asked.campaign_id, &asked.filter, &page).await?;
                Ok(page.map(|view| convert::message(&asked.campaign_id, view)))
            });
            let page = page.await?;
            Ok(v1::ListMessagesResponse {
                messages: page.items,
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }

    type ExportMessagesStream = BoxStream<'static, Result<v1::ExportMessagesResponse, Status>>;

    async fn export_messages(
        &self,
        request: Request<v1::ExportMessagesRequest>,
    ) -> Result<Response<Self::ExportMessagesStream>, Status> {
        let (caller, request) = enter(request)?;
        let place = self.streams.exports.take(&caller.tenant)?;
        let export = Export {
            control: self.control.clone(),
            tenant: caller.tenant,
            campaign: request.campaign_id,
            filter: request.filter,
            token: Some(request.resume_token),
            size: i32::MAX,
            bytes_max: self.answer_bytes_max,
            shutdown: self.shutdown.clone(),
        };
        // Driven by the reader: a batch is read when the one before has been taken.
        let steps = stream::unfold(Some(export), export_step).boxed();
        Ok(Response::new(taken::by_reader(steps, self.streams.export_idle, place)))
    }

    async fn list_in_doubt(
        &self,
        request: Request<v1::ListInDoubtRequest>,
    ) -> Result<Response<v1::ListInDoubtResponse>, Status> {
        let bytes_max = self.answer_bytes_max;
        self.call(request, move |control, caller, request| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page = convert::page(size, asked.page_token.clone());
                let page = control.list_in_doubt(tenant, &asked.campaign_id, &page).await?;
                Ok(page.map(|view| convert::message(&asked.campaign_id, view)))
            });
            let page = page.await?;
            Ok(v1::ListInDoubtResponse {
                messages: page.items,
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }

    async fn resolve_messages(
        &self,
        request: Request<v1::ResolveMessagesRequest>,
    ) -> Result<Response<v1::ResolveMessagesResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let decision = convert::decision(request.resolution)?;
            let selection = match request.by {
                Some(v1::resolve_messages_request::By::Seqs(seqs)) => ResolveSelection::Seqs(seqs.seqs),
                Some(v1::resolve_messages_request::By::Filter(filter)) => ResolveSelection::Filter(filter),
                None => return Err(Error::invalid("by", "is required: seqs or a filter")),
            };
            let resolved = control.resolve(&caller.tenant, &request.campaign_id, selection, decision).await?;
            Ok(v1::ResolveMessagesResponse {
                resolved: resolved.resolved,
                unresolved: resolved.unresolved.into_iter().map(convert::unresolved).collect(),
                as_of: Some(timestamp(resolved.as_of)),
            })
        })
        .await
    }

    async fn list_orphans(
        &self,
        request: Request<v1::ListOrphansRequest>,
    ) -> Result<Response<v1::ListOrphansResponse>, Status> {
        let bytes_max = self.answer_bytes_max;
        self.call(request, move |control, caller, request| async move {
            let (control, tenant, asked) = (&control, &caller.tenant, &request);
            let page = pages::fitting(bytes_max, request.page_size, |size| async move {
                let page = convert::page(size, asked.page_token.clone());
                let page = control.list_orphans(tenant, &asked.account_id, &page).await?;
                Ok(page.map(|event| convert::orphan(control, event)))
            });
            let page = page.await?;
            Ok(v1::ListOrphansResponse {
                orphans: page.items,
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }
}

/// An export under way.
struct Export {
    control: Control,
    tenant: TenantId,
    campaign: String,
    filter: String,
    /// Where the next batch begins; `None`: the last one was sent.
    token: Option<String>,
    /// How many messages the next batch should hold.
    size: i32,
    /// About the most bytes of a batch.
    bytes_max: usize,
    shutdown: CancellationToken,
}

async fn export_step(export: Option<Export>) -> Option<(Result<v1::ExportMessagesResponse, Status>, Option<Export>)> {
    let mut export = export?;
    let token = export.token.take()?;
    if export.shutdown.is_cancelled() {
        return Some((Err(status::shutting_down()), None));
    }
    let (Export { control, tenant, campaign, filter, bytes_max, size, .. }, token) = (&export, &token);
    let page = pages::fitting(*bytes_max, *size, |size| async move {
        let page = control.export_messages(tenant, campaign, filter, token, size).await?;
        Ok(page.map(|view| convert::message(campaign, view)))
    });
    match page.await {
        Err(error) => Some((Err(status::of(&error)), None)),
        Ok(page) => {
            export.size = pages::next_size(&page.items, export.bytes_max);
            let batch = v1::ExportMessagesResponse {
                messages: page.items,
                resume_token: page.next_token.clone(),
                as_of: Some(timestamp(export.control.now())),
            };
            export.token = Some(page.next_token).filter(|token| !token.is_empty());
            Some((Ok(batch), Some(export)))
        }
    }
}
