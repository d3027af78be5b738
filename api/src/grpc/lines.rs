//! Lines, pools, accounts.

use sluice_engine::control::LineUpdate;
use sluice_proto::v1;
use sluice_proto::v1::line_service_server::LineService;
use tonic::{Request, Response, Status};

use super::Front;
use super::convert::{self, expected, timestamp};

#[tonic::async_trait]
impl LineService for Front {
    async fn create_line(
        &self,
        request: Request<v1::CreateLineRequest>,
    ) -> Result<Response<v1::CreateLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let request_id = request.request_id.clone();
            let line = control.create_line(&caller.tenant, &request_id, convert::line_spec(request)?).await?;
            Ok(v1::CreateLineResponse { line: Some(convert::line(line)) })
        })
        .await
    }

    async fn get_line(&self, request: Request<v1::GetLineRequest>) -> Result<Response<v1::GetLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let line = control.line(&caller.tenant, &request.line_id).await?;
            Ok(v1::GetLineResponse { line: Some(convert::line(line)) })
        })
        .await
    }

    async fn list_lines(
        &self,
        request: Request<v1::ListLinesRequest>,
    ) -> Result<Response<v1::ListLinesResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let page = convert::page(request.page_size, request.page_token);
            let page = control.list_lines(&caller.tenant, &request.pool_id, &page).await?;
            Ok(v1::ListLinesResponse {
                lines: page.items.into_iter().map(convert::line).collect(),
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }

    async fn update_line(
        &self,
        request: Request<v1::UpdateLineRequest>,
    ) -> Result<Response<v1::UpdateLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let update = LineUpdate {
                description: request.description,
                ceiling: request.ceiling_per_second,
                in_flight_max: request.in_flight_max,
            };
            let version = expected(&request.etag)?;
            let line = control.update_line(&caller.tenant, &request.line_id, version, update).await?;
            Ok(v1::UpdateLineResponse { line: Some(convert::line(line)) })
        })
        .await
    }

    async fn hold_line(&self, request: Request<v1::HoldLineRequest>) -> Result<Response<v1::HoldLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let line = control.hold_line(&caller.tenant, &request.line_id, version, &request.reason).await?;
            let in_flight = line.status.in_flight;
            Ok(v1::HoldLineResponse { line: Some(convert::line(line)), in_flight })
        })
        .await
    }

    async fn release_line(
        &self,
        request: Request<v1::ReleaseLineRequest>,
    ) -> Result<Response<v1::ReleaseLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let line = control.release_line(&caller.tenant, &request.line_id, version).await?;
            Ok(v1::ReleaseLineResponse { line: Some(convert::line(line)) })
        })
        .await
    }

    async fn move_line(&self, request: Request<v1::MoveLineRequest>) -> Result<Response<v1::MoveLineResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let line = control.move_line(&caller.tenant, &request.line_id, version, &request.pool_id).await?;
            Ok(v1::MoveLineResponse { line: Some(convert::line(line)) })
        })
        .await
    }

    async fn get_pool(&self, request: Request<v1::GetPoolRequest>) -> Result<Response<v1::GetPoolResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let pool = control.pool(&caller.tenant, &request.pool_id).await?;
            Ok(v1::GetPoolResponse { pool: Some(convert::pool(pool)) })
        })
        .await
    }

    async fn list_pools(
        &self,
        request: Request<v1::ListPoolsRequest>,
    ) -> Result<Response<v1::ListPoolsResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let page = convert::page(request.page_size, request.page_token);
            let page = control.list_pools(&caller.tenant, &page).await?;
            Ok(v1::ListPoolsResponse {
                pools: page.items.into_iter().map(convert::pool).collect(),
                next_page_token: page.next_token,
                as_of: Some(timestamp(control.now())),
            })
        })
        .await
    }

    async fn update_pool(
        &self,
        request: Request<v1::UpdatePoolRequest>,
    ) -> Result<Response<v1::UpdatePoolResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let version = expected(&request.etag)?;
            let pool = control.update_pool(&caller.tenant, &request.pool_id, version, request.description).await?;
            Ok(v1::UpdatePoolResponse { pool: Some(convert::pool(pool)) })
        })
        .await
    }

    async fn list_accounts(
        &self,
        request: Request<v1::ListAccountsRequest>,
    ) -> Result<Response<v1::ListAccountsResponse>, Status> {
        self.call(request, |control, caller, request| async move {
            let page = convert::page(request.page_size, request.page_token);
            let page = control.list_accounts(&caller.tenant, &page)?;
            Ok(v1::ListAccountsResponse {
                accounts: page.items.into_iter().map(convert::account).collect(),
                next_page_token: page.next_token,
            })
        })
        .await
    }
}
