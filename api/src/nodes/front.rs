//! The layer in front of this node's services: calls about what another node owns go there.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::request::Parts;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::forward::{Call, Carried, is_unavailable, whole_answer};
use super::frame::Peeked;
use super::peers::Unanswered;
use super::routes::{self, Again, Route, Subject};
use super::{Nodes, deadline, frame};
use crate::auth::Principal;
use crate::grpc::is_stream;

/// Wraps all services of a server.
#[derive(Clone)]
pub(crate) struct OwnerLayer {
    nodes: Option<Arc<Nodes>>,
}

impl OwnerLayer {
    /// A layer that asks these nodes; none: it lets everything through.
    pub(crate) fn new(nodes: Option<Arc<Nodes>>) -> Self {
        Self { nodes }
    }
}

impl<S> Layer<S> for OwnerLayer {
    type Service = OwnerService<S>;

    fn layer(&self, inner: S) -> OwnerService<S> {
        OwnerService { inner, nodes: self.nodes.clone() }
    }
}

/// What [`OwnerLayer`] makes of a service.
#[derive(Clone)]
pub(crate) struct OwnerService<S> {
    inner: S,
    nodes: Option<Arc<Nodes>>,
}

type Answered = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for OwnerService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Answered>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(nodes) = &self.nodes else { return Either::Left(self.inner.call(request)) };
        // Without a caller there is nobody to ask for: the services refuse it.
        let caller = request.extensions().get::<Principal>().cloned();
        match (routes::route(request.uri().path()), caller) {
            ((path, Route::Owner(named, again)), Some(caller)) => {
                // The one that is ready, not the copy.
                let copy = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, copy);
                let nodes = Arc::clone(nodes);
                Either::Right(Box::pin(async move {
                    Ok(nodes.take(Arrived { path, named, again, caller, request, inner }).await)
                }))
            }
            _ => Either::Left(self.inner.call(request)),
        }
    }
}

/// A call that another node may have to answer.
struct Arrived<S> {
    path: &'static str,
    named: fn(Bytes) -> Result<Option<Subject>, prost::DecodeError>,
    again: Again,
    caller: Principal,
    request: Request<Body>,
    inner: S,
}

impl Nodes {
    async fn take<S>(&self, arrived: Arrived<S>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        let Arrived { path, named, again, caller, request, mut inner } = arrived;
        let began = Instant::now();
        let (head, body) = request.into_parts();
        let streamed = again == Again::Offsets;
        let peeked = match frame::peek(body, !streamed, self.limits.message_bytes_max, self.limits.idle).await {
            Ok(peeked) => peeked,
            Err(status) => return status.into_http(),
        };
        // What cannot be read, is too large or names nothing is answered by the services, which say why.
        let subject = frame::message(&peeked.read).and_then(|m| named(peeked.read.slice_ref(m)).ok().flatten());
        let Some(subject) = subject else {
            return answered(inner.call(Request::from_parts(head, peeked.into_body())).await);
        };
        let is_stream = is_stream(path);
        let (told, most) = (deadline::of(&head.headers), self.call_time(path));
        let call = Call {
            path,
            subject: &subject,
            again,
            caller: &caller,
            deadline: began + told.map_or(most, |told| told.min(most)),
            all: !is_stream,
        };
        if streamed {
            let Peeked { read: first, rest } = peeked;
            let mut carried = Streamed { head, first, rest: Some(rest), follows: None, inner };
            self.owner_answers(&call, &mut carried).await
        } else {
            let request = match (again, frame::message(&peeked.read)) {
                (Again::RequestId, Some(message)) => frame::framed(&routes::with_request_id(message)),
                _ => peeked.read,
            };
            let mut carried = Whole { head, request, one_answer: !is_stream, inner };
            self.owner_answers(&call, &mut carried).await
        }
    }
}

fn answered(answer: Result<Response<Body>, Infallible>) -> Response<Body> {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// A request of one message.
struct Whole<S> {
    head: Parts,
    request: Bytes,
    one_answer: bool,
    inner: S,
}

impl<S> Carried for Whole<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    async fn here(&mut self) -> Response<Body> {
        answered(self.inner.call(Request::from_parts(self.head.clone(), frame::whole(self.request.clone()))).await)
    }

    fn body(&mut self) -> Body {
        frame::whole(self.request.clone())
    }

    fn message(&self) -> &[u8] {
        frame::message(&self.request).unwrap_or_default()
    }

    async fn taken(&mut self, answer: Response<Body>) -> Result<Response<Body>, Unanswered> {
        if self.one_answer { whole_answer(answer).await } else { Ok(answer) }
    }
}

/// A stream of requests. Its first message is sent as often as it takes; the rest of it is not touched until somebody has answered that.
struct Streamed<S> {
    head: Parts,
    first: Bytes,
    rest: Option<Body>,
    follows: Option<oneshot::Sender<Body>>,
    inner: S,
}

impl<S> Carried for Streamed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    async fn here(&mut self) -> Response<Body> {
        let peeked = Peeked { read: self.first.clone(), rest: self.rest.take().unwrap_or_default() };
        answered(self.inner.call(Request::from_parts(self.head.clone(), peeked.into_body())).await)
    }

    fn body(&mut self) -> Body {
        let (body, follows) = frame::to_be_continued(self.first.clone());
        self.follows = Some(follows);
        body
    }

    fn message(&self) -> &[u8] {
        frame::message(&self.first).unwrap_or_default()
    }

    async fn taken(&mut self, answer: Response<Body>) -> Result<Response<Body>, Unanswered> {
        // Refused from the beginning: perhaps by a node that goes down, and another takes it.
        if !is_unavailable(&answer)
            && let (Some(follows), Some(rest)) = (self.follows.take(), self.rest.take())
        {
            // A node that is gone by now: its answer ends, too.
            let _ = follows.send(rest);
        }
        Ok(answer)
    }

    fn is_left(&self) -> bool {
        self.rest.is_some()
    }
}
