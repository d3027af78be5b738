//! The inside listener's layer and service: what other nodes send on, and what they ask of this one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sluice_engine::control::Error;
use sluice_engine::domain::ids::TenantId;
use sluice_engine::nodes::Whereabouts;
use sluice_engine::webhook::WebhookSink;
use sluice_proto::internal::v1;
use sluice_proto::internal::v1::node_service_server::NodeService;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};

use super::forward::is_good;
use super::peers::headers;
use super::proof::Claim;
use super::routes::{self, Again, Route, Subject};
use super::{Nodes, events, frame};
use crate::auth::scopes::{Access, access};
use crate::auth::{Principal, Scope};
use crate::grpc::status;
use crate::metrics as names;

const SERVICE: &str = "/sluice.internal.v1.NodeService/";

/// Lets in what other nodes of this installation send on, and only what this node owns.
#[derive(Clone)]
pub(crate) struct InsideLayer {
    nodes: Arc<Nodes>,
}

impl InsideLayer {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }
}

impl<S> Layer<S> for InsideLayer {
    type Service = InsideService<S>;

    fn layer(&self, inner: S) -> InsideService<S> {
        InsideService { inner, nodes: Arc::clone(&self.nodes) }
    }
}

/// What [`InsideLayer`] makes of a service.
#[derive(Clone)]
pub(crate) struct InsideService<S> {
    inner: S,
    nodes: Arc<Nodes>,
}

impl<S> Service<Request<Body>> for InsideService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Whatever claims to be a principal before this point is not one.
        request.extensions_mut().remove::<Principal>();
        let (proof, caller) = match self.nodes.admit(request.uri().path(), request.headers()) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let nodes = Arc::clone(&self.nodes);
        Box::pin(async move {
            let mut response = match nodes.own(request, caller).await {
                Ok((request, changes)) => nodes.if_kept(changes, inner.call(request).await?).await,
                Err(refused) => refused,
            };
            response.headers_mut().insert(headers::PROOF, proof);
            Ok(response)
        })
    }
}

impl Nodes {
    /// The proof that goes with the answer, and the caller for whom another node asks.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(HeaderValue, Option<Principal>), Status> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let (from, to) = (text(headers::FROM), text(headers::TO));
        let caller = [headers::TENANT, headers::SUBJECT, headers::SCOPES].map(|name| text(name).as_bytes());
        if to != self.peers.name() && !to.is_empty() {
            metrics::counter!(names::NODE_STRANGERS, "side" => "asking").increment(1);
            let own = self.peers.name();
            if self.peers.may_say() {
                tracing::error!(from, to, "a call for another node arrived here: check [nodes] advertise of that node");
            }
            return Err(Status::unauthenticated(format!("this is {own}, not {to}: check [nodes] advertise of {to}")));
        }
        let claim = Claim { from, to, path, caller };
        let proof = self.peers.secret().accept(text(headers::PROOF), &claim);
        let proof = proof.and_then(|proof| HeaderValue::from_str(&proof).ok()).ok_or_else(|| {
            metrics::counter!(names::NODE_STRANGERS, "side" => "asking").increment(1);
            if self.peers.may_say() {
                tracing::error!(from, "a node without this installation's node secret was refused: [nodes] secret must be the same on all nodes");
            }
            Status::unauthenticated("the node secret is another here: [nodes] secret must be the same on all nodes")
        })?;
        if path.starts_with(SERVICE) {
            return Ok((proof, None));
        }
        let unreadable = || {
            Status::internal(
                "the caller that a node names cannot be read: do the nodes' versions differ by more than one?",
            )
        };
        let principal = principal(headers).ok_or_else(unreadable)?;
        match access(path) {
            Some(Access::Needs(scope)) if principal.scopes.contains(scope) => Ok((proof, Some(principal))),
            _ => Err(Status::permission_denied("the caller may not do that")),
        }
    }

    /// The request with its caller, if it is about what this node owns, and what it changes the record of; else the answer.
    async fn own(
        &self,
        request: Request<Body>,
        caller: Option<Principal>,
    ) -> Result<(Request<Body>, Option<(TenantId, Subject)>), Response<Body>> {
        let Some(caller) = caller else { return Ok((request, None)) };
        let (_, Route::Owner(named, again)) = routes::route(request.uri().path()) else {
            return Err(Status::unimplemented("this call is answered where it arrives").into_http());
        };
        let (mut head, body) = request.into_parts();
        let (streamed, limits) = (again == Again::Offsets, &self.limits);
        let peeked =
            frame::peek(body, !streamed, limits.message_bytes_max, limits.idle).await.map_err(Status::into_http)?;
        let subject = frame::message(&peeked.read).and_then(|m| named(peeked.read.slice_ref(m)).ok().flatten());
        if let Some(subject) = &subject {
            match self.whereabouts(&caller.tenant, subject).await {
                Ok(Whereabouts::Here) => {}
                Ok(_) => return Err(not_mine()),
                Err(error) => return Err(status::of(&error.into()).into_http()),
            }
        }
        let changes = matches!(again, Again::Settles | Again::Versioned | Again::RequestId);
        let changes = subject.filter(|_| changes).map(|subject| (caller.tenant.clone(), subject));
        head.extensions.insert(caller);
        Ok((Request::from_parts(head, peeked.into_body()), changes))
    }

    /// The answer, if what was changed is this node's still: else its owner may not know of the change, and has to be asked.
    async fn if_kept(&self, changed: Option<(TenantId, Subject)>, answer: Response<Body>) -> Response<Body> {
        let Some((tenant, subject)) = changed.filter(|_| is_good(&answer)) else { return answer };
        match self.whereabouts(&tenant, &subject).await {
            Ok(Whereabouts::Here) => answer,
            _ => status::of(&Error::Elsewhere(format!("{subject:?} went while it was changed"))).into_http(),
        }
    }
}

/// The answer to what this node does not own: nothing was done.
fn not_mine() -> Response<Body> {
    let mut response: Response<Body> = Status::unavailable("this node does not own it").into_http();
    response.headers_mut().insert(headers::NOT_MINE, HeaderValue::from_static("1"));
    response
}

fn principal(headers: &HeaderMap) -> Option<Principal> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let subject = STANDARD_NO_PAD.decode(text(headers::SUBJECT)?).ok()?;
    Some(Principal {
        tenant: TenantId::new(text(headers::TENANT)?).ok()?,
        subject: String::from_utf8(subject).ok()?.into(),
        // A scope that only a newer node knows allows nothing here.
        scopes: text(headers::SCOPES)?.split(' ').filter_map(Scope::from_name).collect(),
    })
}

/// What other nodes ask of this one for themselves.
pub(crate) struct NodeServer {
    engine: Arc<dyn WebhookSink>,
}

impl NodeServer {
    pub(crate) fn new(engine: Arc<dyn WebhookSink>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl NodeService for NodeServer {
    async fn apply_events(
        &self,
        request: tonic::Request<v1::ApplyEventsRequest>,
    ) -> Result<tonic::Response<v1::ApplyEventsResponse>, Status> {
        Ok(tonic::Response::new(events::apply(&*self.engine, request.into_inner()).await?))
    }
}
