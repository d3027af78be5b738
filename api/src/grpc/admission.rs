//! The outermost layer: bounds the calls that are under way in the whole server, one too many being refused before any work is
//! done; and counts and times all of them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use metrics::{Counter, Gauge, Histogram};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status;
use crate::auth::scopes;
use crate::metrics as names;

/// Calls that answer with a stream: counted when they are opened, not timed.
const STREAMS: [&str; 4] = ["ExportMessages", "ImportRecipients", "RecountTenant", "WatchCampaign"];

/// Whether the call with this path answers with a stream.
pub(crate) fn is_stream(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|method| STREAMS.contains(&method))
}

/// Wraps all services of a server.
#[derive(Clone)]
pub(super) struct AdmissionLayer {
    shared: Arc<Shared>,
}

struct Shared {
    places: Arc<Semaphore>,
    calls: HashMap<&'static str, Call>,
    in_flight: Gauge,
    refused: Counter,
}

/// The handles of one call of the contract.
#[derive(Clone)]
struct Call {
    method: &'static str,
    good: Counter,
    /// `None` for streams.
    duration: Option<Histogram>,
}

impl Call {
    fn new(method: &'static str) -> Self {
        let duration = || metrics::histogram!(names::GRPC_REQUEST_DURATION, "method" => method);
        Self {
            method,
            good: metrics::counter!(names::GRPC_REQUESTS, "method" => method, "code" => "ok"),
            duration: (!STREAMS.contains(&method)).then(duration),
        }
    }

    fn ended(&self, code: Code, began: Instant) {
        match code {
            Code::Ok => self.good.increment(1),
            code => metrics::counter!(names::GRPC_REQUESTS, "method" => self.method, "code" => name(code)).increment(1),
        }
        if let Some(duration) = &self.duration {
            duration.record(began.elapsed());
        }
    }
}

impl AdmissionLayer {
    /// At most `calls_max` at a time. A stream counts until it is opened; open streams have places of their own.
    pub(super) fn new(calls_max: usize) -> Self {
        let calls = scopes::calls().map(|path| (path, Call::new(path.rsplit('/').next().unwrap_or(path)))).collect();
        Self::with(calls_max, calls, "requests")
    }

    /// The same for what other nodes send on: each call is counted and timed where its caller is.
    pub(super) fn inside(calls_max: usize) -> Self {
        Self::with(calls_max, HashMap::new(), "node_requests")
    }

    fn with(calls_max: usize, calls: HashMap<&'static str, Call>, refused_as: &'static str) -> Self {
        Self {
            shared: Arc::new(Shared {
                places: Arc::new(Semaphore::new(calls_max)),
                calls,
                in_flight: metrics::gauge!(names::GRPC_REQUESTS_IN_FLIGHT),
                refused: metrics::counter!(names::GRPC_REFUSED, "reason" => refused_as),
            }),
        }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> AdmissionService<S> {
        AdmissionService { inner, shared: Arc::clone(&self.shared) }
    }
}

/// What [`AdmissionLayer`] makes of a service.
#[derive(Clone)]
pub(super) struct AdmissionService<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// Counts a call as under way as long as it lives, also when its connection is cut.
struct UnderWay(Gauge);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl<S, B, R> Service<Request<B>> for AdmissionService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default + Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            shared.refused.increment(1);
            let status = status::too_much("too many calls are under way: try again later");
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        let call = shared.calls.get(request.uri().path()).cloned();
        shared.in_flight.increment(1.0);
        let under_way = UnderWay(shared.in_flight.clone());
        let began = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop((place, under_way));
            if let (Some(call), Ok(answer)) = (call, &answer) {
                // A call that fails has its status in the head; one that does not, in the trailers.
                let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
                call.ended(code, began);
            }
            answer
        })
    }
}

/// The code as a label.
pub(super) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::convert::Infallible;
    use tokio::sync::oneshot;
    use tower::service_fn;

    #[tokio::test]
    async fn one_too_many_is_refused_at_once_and_a_place_comes_back() {
        let (release, wait) = oneshot::channel::<()>();
        let wait = Arc::new(tokio::sync::Mutex::new(Some(wait)));
        let inner = service_fn(move |_: Request<()>| {
            let wait = Arc::clone(&wait);
            async move {
                if let Some(wait) = wait.lock().await.take() {
                    let _ = wait.await;
                }
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        let mut service = AdmissionLayer::new(1).layer(inner);
        let code = |response: Response<String>| Status::from_header_map(response.headers()).map(|status| status.code());
        let first = tokio::spawn(service.call(Request::new(())));
        assert_eq!(code(service.call(Request::new(())).await.unwrap()), Some(Code::ResourceExhausted));
        release.send(()).unwrap();
        assert_eq!(code(first.await.unwrap().unwrap()), None);
        assert_eq!(code(service.call(Request::new(())).await.unwrap()), None);
    }

    #[test]
    fn the_streams_are_those_of_the_contract() {
        let set = prost_types::FileDescriptorSet::decode(sluice_proto::FILE_DESCRIPTOR_SET).unwrap();
        let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let mut streams: Vec<&str> = methods.filter(|m| m.server_streaming()).map(|m| m.name()).collect();
        streams.sort_unstable();
        assert_eq!(streams, STREAMS);
    }
}
