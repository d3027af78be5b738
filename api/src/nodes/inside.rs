//! The inside listener's layer and service: what other nodes send on, and what they ask of this one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost_reflect::MessageDescriptor;
use sluice_engine::control::Error;
use sluice_engine::domain::ids::TenantId;
use sluice_engine::nodes::Whereabouts;
use sluice_engine::nodes::protocol::{FIRST, work_together};
use sluice_engine::webhook::WebhookSink;
use sluice_proto::internal::v1;
use sluice_proto::internal::v1::node_service_server::NodeService;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, Service};

use super::forward::is_good;
use super::once::Came;
use super::peers::{self, headers};
use super::proof::{Claim, Ticket, digest};
use super::routes::{self, Again, Route, Subject};
use super::{Nodes, events, frame, newer};
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
        let admitted = match self.nodes.admit(request.uri().path(), request.headers()) {
            Ok(admitted) => admitted,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let nodes = Arc::clone(&self.nodes);
        Box::pin(async move {
            let proof = admitted.proof.clone();
            let mut response = match nodes.own(request, admitted).await {
                Ok((request, changes)) => nodes.if_kept(changes, inner.call(request).await?).await,
                Err(refused) => refused,
            };
            response.headers_mut().insert(headers::PROOF, proof);
            Ok(response)
        })
    }
}

/// A call that another node of this installation made, for the first time.
struct Admitted {
    /// Goes with the answer.
    proof: HeaderValue,
    /// For whom it asks; `None`: for itself.
    caller: Option<Principal>,
    /// Of the call's first message.
    digest: String,
    /// What its messages may hold, where the asker's version is newer.
    known: Option<MessageDescriptor>,
}

impl Nodes {
    /// Lets a call in by what stands in its head.
    ///
    /// # Errors
    /// What is wrong with it; with a proof once the asker has proven its own.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Admitted, Status> {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let (from, to, own) = (text(headers::FROM), text(headers::TO), self.peers.name());
        // Before anything whose form may be another in another protocol.
        let theirs = peers::protocol(headers).unwrap_or(FIRST);
        if !work_together(self.peers.protocol(), theirs) {
            return Err(self.apart(from, theirs));
        }
        if to != own && !to.is_empty() {
            self.stranger(from, "a call for another node arrived here: check [nodes] advertise of that node");
            return Err(Status::unauthenticated(format!("this is {own}, not {to}: check [nodes] advertise of {to}")));
        }
        let caller = [headers::TENANT, headers::SUBJECT, headers::SCOPES].map(|name| text(name).as_bytes());
        let (protocol, ticket) = (text(headers::PROTOCOL), text(headers::TICKET));
        let claim = Claim { from, to, path, caller, protocol, ticket };
        let proof = self.peers.secret().accept(text(headers::PROOF), &claim);
        let proof = proof.and_then(|proof| HeaderValue::from_str(&proof).ok()).ok_or_else(|| {
            self.stranger(from, "a node without this installation's node secret was refused: [nodes] secret must be the same on all nodes");
            Status::unauthenticated("the node secret is another here: [nodes] secret must be the same on all nodes")
        })?;
        let proven = |mut status: Status| {
            status.metadata_mut().as_mut().insert(headers::PROOF, proof.clone());
            status
        };
        let digest = self.expect_first(from, ticket).map_err(proven)?;
        let known = if theirs > self.peers.protocol() {
            Some(newer::request_of(path).ok_or_else(|| proven(newer::refused(path)))?)
        } else {
            None
        };
        let caller = if path.starts_with(SERVICE) { None } else { Some(permitted(path, headers).map_err(proven)?) };
        Ok(Admitted { proof, caller, digest, known })
    }

    /// The digest of the call's first message, if the call is for this term of this node and was not let in before.
    fn expect_first(&self, from: &str, ticket: &str) -> Result<String, Status> {
        let unreadable =
            || Status::internal("the ticket that a node sends cannot be read: it is not what its version says");
        let ticket = Ticket::parse(ticket).ok_or_else(unreadable)?;
        if ticket.to_epoch != self.directory.epoch() {
            // The asker has not heard yet that this node began anew, or knew it before this one.
            return Err(not_mine());
        }
        match self.once.enter(from, ticket.from_epoch, ticket.number) {
            Came::First => Ok(ticket.digest),
            Came::Again => {
                self.stranger(from, REPEATED);
                Err(not_mine())
            }
            Came::TooLate => {
                if self.peers.may_say(from) {
                    tracing::info!(from, "a call from a term of the node that is over was not done");
                }
                Err(not_mine())
            }
        }
    }

    /// The request with its caller, if it is what the asker sealed, and about what this node owns, and what it changes the record of; else
    /// the answer.
    async fn own(
        &self,
        request: Request<Body>,
        admitted: Admitted,
    ) -> Result<(Request<Body>, Option<(TenantId, Subject)>), Response<Body>> {
        let (mut head, body) = request.into_parts();
        let Admitted { caller, digest: sealed, known, .. } = admitted;
        let route = match (&caller, routes::route(head.uri.path())) {
            (Some(caller), (_, Route::Owner(named, again))) => Some((caller, named, again)),
            (Some(_), _) => return Err(Status::unimplemented("this call is answered where it arrives").into_http()),
            (None, _) => None,
        };
        let streamed = matches!(route, Some((.., Again::Offsets)));
        let bytes_max = route.map_or(events::MESSAGE_BYTES_MAX, |_| self.limits.message_bytes_max);
        let peeked = frame::peek(body, !streamed, bytes_max, self.limits.idle).await.map_err(Status::into_http)?;
        let Some(message) = frame::message(&peeked.read) else {
            let text = "larger than this node takes: [grpc] message_bytes_max must be the same on all nodes";
            return Err(Status::resource_exhausted(text).into_http());
        };
        if digest(message) != sealed {
            let from = head.headers.get(headers::FROM).and_then(|name| name.to_str().ok());
            self.stranger(from.unwrap_or_default(), CHANGED);
            return Err(not_mine().into_http());
        }
        let mut changes = None;
        if let Some((caller, named, again)) = route
            && let Ok(Some(subject)) = named(peeked.read.slice_ref(message))
        {
            match self.whereabouts(&caller.tenant, &subject).await {
                Ok(Whereabouts::Here) => {
                    let is_change = matches!(again, Again::Settles | Again::Versioned | Again::RequestId);
                    changes = is_change.then(|| (caller.tenant.clone(), subject));
                }
                Ok(_) => return Err(not_mine().into_http()),
                Err(error) => return Err(status::of(&error.into()).into_http()),
            }
        }
        if let Some(caller) = caller {
            head.extensions.insert(caller);
        }
        let body = match known {
            Some(request) => peeked.into_checked(move |message| newer::expect_known(&request, message)),
            None => peeked.into_body(),
        };
        Ok((Request::from_parts(head, body), changes))
    }

    /// The answer, if what was changed is this node's still: else its owner may not know of the change, and has to be asked.
    async fn if_kept(&self, changed: Option<(TenantId, Subject)>, answer: Response<Body>) -> Response<Body> {
        let Some((tenant, subject)) = changed.filter(|_| is_good(&answer)) else { return answer };
        match self.whereabouts(&tenant, &subject).await {
            Ok(Whereabouts::Here) => answer,
            _ => status::of(&Error::Elsewhere(format!("{subject:?} went while it was changed"))).into_http(),
        }
    }

    /// Counts a call of somebody who does not belong here, and says so once in a while.
    fn stranger(&self, from: &str, what: &'static str) {
        metrics::counter!(names::NODE_STRANGERS, "side" => "asking").increment(1);
        if self.peers.may_say(from) {
            tracing::error!(from, "{what}");
        }
    }

    /// The answer to a node whose version is too far from this one's.
    fn apart(&self, from: &str, theirs: u32) -> Status {
        let (name, own) = (self.peers.name(), self.peers.protocol());
        if self.peers.may_say(from) {
            tracing::error!(
                from,
                theirs,
                own,
                "a call of a node whose protocol is more than one from this one's was refused: bring the older of the two to the next version"
            );
        }
        let mut status = Status::failed_precondition(format!(
            "node {name} speaks protocol {own}, {from} speaks {theirs}, and they may differ by one: bring the older of the two to the next version"
        ));
        status.metadata_mut().as_mut().insert(headers::PROTOCOL, own.into());
        status
    }
}

/// What is said of a call whose number was let in before.
const REPEATED: &str = "a node's call came a second time and was not done again: somebody may be listening to what the nodes say and sending it again; on such a network use [tls.nodes]";

/// What is said of a call with another message than the one that was sealed.
const CHANGED: &str = "a call arrived with another message than its sender sealed, and was not done: somebody may be changing what the nodes say on its way; on such a network use [tls.nodes]";

/// The answer to what this node does not own, or cannot take for the first time: nothing was done, and the asker looks again.
fn not_mine() -> Status {
    let mut status = Status::unavailable("this node does not own it");
    status.metadata_mut().as_mut().insert(headers::NOT_MINE, HeaderValue::from_static("1"));
    status
}

/// The caller for whom a node asks, if he may ask that.
fn permitted(path: &str, headers: &HeaderMap) -> Result<Principal, Status> {
    let unreadable = || {
        Status::internal("the caller that a node names cannot be read: do the nodes' versions differ by more than one?")
    };
    let principal = principal(headers).ok_or_else(unreadable)?;
    match access(path) {
        Some(Access::Needs(scope)) if principal.scopes.contains(scope) => Ok(principal),
        _ => Err(Status::permission_denied("the caller may not do that")),
    }
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
