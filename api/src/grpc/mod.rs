//! The gRPC front: maps between the contract and the façade, and nothing more.
//!
//! One file per service; `convert` holds the mapping of types, `status` that of errors, `server` the limits and the transport.
//! Every unary call runs in a task of its own, so that a caller who hangs up half-way leaves nothing half-told.

mod admin;
mod admission;
mod campaigns;
mod convert;
mod deadline;
mod imports;
mod incoming;
mod lines;
mod many;
mod messages;
mod pages;
mod places;
mod server;
pub(crate) mod status;
mod taken;
mod templates;
mod traced;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use admission::is_stream;
pub use deadline::CallTimes;
pub use server::{GrpcLimits, GrpcParts, GrpcServer, ServerInfo, tls_config};
pub use traced::CallTraces;

use std::sync::Arc;
use std::time::Duration;

use sluice_engine::control::{self, Control, detached};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::auth::Principal;
use crate::nodes::Nodes;
use places::Places;

/// What every service works with. Cheap to clone.
#[derive(Clone)]
struct Front {
    control: Control,
    shutdown: CancellationToken,
    streams: Arc<Streams>,
    /// About the most bytes of a page or batch.
    answer_bytes_max: usize,
    /// The other nodes, where there may be some.
    nodes: Option<Arc<Nodes>>,
}

/// Places for long-lived streams.
struct Streams {
    watches: Arc<Places>,
    imports: Arc<Places>,
    exports: Arc<Places>,
    /// Longest that the reader of an export may take nothing.
    export_idle: Duration,
}

impl Front {
    /// Runs one unary call to its end, whether or not the caller waits for it.
    async fn call<Q, A, F>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(Control, Principal, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = control::Result<A>> + Send + 'static,
        A: Send + 'static,
    {
        let (caller, request) = enter(request)?;
        match detached(work(self.control.clone(), caller, request)).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(error) => Err(status::of(&error)),
        }
    }
}

/// The verified caller and the message. The layer before the services put the caller there; without it nobody is let in.
fn enter<Q>(mut request: Request<Q>) -> Result<(Principal, Q), Status> {
    let caller = request
        .extensions_mut()
        .remove::<Principal>()
        .ok_or_else(|| Status::unauthenticated("a bearer token is required in the `authorization` metadata"))?;
    Ok((caller, request.into_inner()))
}
