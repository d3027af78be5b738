//! The server itself.

use sluice_engine::domain::time::{Clock, Mono};
use sluice_proto::v1;
use sluice_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::convert::{nodes, span, timestamp};
use super::{Front, ServerInfo, enter};

/// Needs a little more than the other services: what the server says of itself.
pub(super) struct Admin {
    pub(super) front: Front,
    pub(super) info: ServerInfo,
    pub(super) clock: Clock,
    pub(super) started: Mono,
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let (caller, _) = enter(request)?;
        Ok(Response::new(v1::GetServerInfoResponse {
            version: self.info.version.to_owned(),
            node_id: self.info.node_id.clone(),
            store_kind: self.info.store_kind.to_owned(),
            schema_version: self.info.schema_version,
            uptime: Some(span(self.clock.mono().since(self.started))),
            now: Some(timestamp(self.clock.wall())),
            tenant_id: caller.tenant.as_str().to_owned(),
            scopes: caller.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
        }))
    }

    async fn get_nodes(&self, request: Request<v1::GetNodesRequest>) -> Result<Response<v1::GetNodesResponse>, Status> {
        let (caller, _) = enter(request)?;
        Ok(Response::new(nodes(self.front.control.nodes(), &caller.tenant, &self.info.node_id)))
    }

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<v1::BackupResponse>, Status> {
        let work = |control: sluice_engine::control::Control, _, request: v1::BackupRequest| async move {
            let backup = control.backup(&request.file_name).await?;
            Ok(v1::BackupResponse {
                path: backup.path.display().to_string(),
                size_bytes: backup.bytes,
                as_of: Some(timestamp(backup.as_of)),
            })
        };
        self.front.call(request, work).await
    }
}
