//! The spans of gRPC calls. Inside the check of tokens: who is not let in makes no span.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::Either;
use opentelemetry_sdk::trace::{IdGenerator as _, RandomIdGenerator};
use sluice_engine::domain::trace::{SpanId, SpanRef, TraceId};
use sluice_engine::trace::{self, Kind, Span, SpanSink};
use tokio::time::Instant;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::admission;
use crate::auth::scopes;

/// How calls are traced.
#[derive(Clone)]
pub struct CallTraces {
    /// Where spans go.
    pub sink: Arc<dyn SpanSink>,
    /// Share of calls that are traced when their caller does not say, 0 to 1.
    pub ratio: f64,
}

/// Wraps all services of a server; `None`: as if it were not there.
#[derive(Clone)]
pub(super) struct TraceLayer(pub(super) Option<CallTraces>);

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner, traces: self.0.clone() }
    }
}

/// What [`TraceLayer`] makes of a service.
#[derive(Clone)]
pub(super) struct TraceService<S> {
    inner: S,
    traces: Option<CallTraces>,
}

impl<S, B, R> Service<Request<B>> for TraceService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let begun = self.traces.as_ref().and_then(|traces| Some((traces, traces.begin(&request)?)));
        let Some((traces, call)) = begun else { return Either::Left(self.inner.call(request)) };
        let sink = Arc::clone(&traces.sink);
        let answer = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let answer = trace::within(call.place, answer).await;
            if let Ok(answer) = &answer {
                sink.finished(call.ended(answer.headers()));
            }
            answer
        }))
    }
}

/// A traced call that is under way.
struct Call {
    path: &'static str,
    place: SpanRef,
    parent: Option<SpanId>,
    began: (SystemTime, Instant),
}

impl CallTraces {
    fn begin<B>(&self, request: &Request<B>) -> Option<Call> {
        // Health and reflection are asked for all day long.
        let path = scopes::calls().find(|path| *path == request.uri().path())?;
        let ids = RandomIdGenerator::default();
        let span = SpanId(u64::from_be_bytes(ids.new_span_id().to_bytes()));
        let (trace, parent) = match caller(request.headers()) {
            Some((_, false)) => return None,
            Some((caller, true)) => (caller.trace, Some(caller.span)),
            None => {
                let trace = u128::from_be_bytes(ids.new_trace_id().to_bytes());
                (kept(trace, self.ratio).then_some(TraceId(trace))?, None)
            }
        };
        let began = (SystemTime::now(), Instant::now());
        Some(Call { path, place: SpanRef { trace, span }, parent, began })
    }
}

impl Call {
    fn ended(self, answer: &HeaderMap) -> Span {
        // A call that fails has its status in the head; one that does not, in the trailers.
        let code = Status::from_header_map(answer).map_or(Code::Ok, |status| status.code());
        let method = self.path.trim_start_matches('/');
        let (began, clock) = self.began;
        Span {
            name: method,
            kind: Kind::Server,
            place: self.place,
            parent: self.parent,
            link: None,
            began,
            took: clock.elapsed(),
            facts: vec![
                ("rpc.system", "grpc".into()),
                ("rpc.method", method.into()),
                ("rpc.grpc.status_code", u32::try_from(i32::from(code)).unwrap_or_default().into()),
            ],
            trouble: (code != Code::Ok).then(|| admission::name(code)),
        }
    }
}

/// Whether a trace is among this share of all, by the 56 bits that W3C Trace Context takes to be random.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a share needs no more than a float's bits
fn kept(trace: u128, ratio: f64) -> bool {
    const BITS: u32 = 56;
    ((trace as u64 & ((1 << BITS) - 1)) as f64) < ratio * (1_u64 << BITS) as f64
}

/// The caller's span and whether it is traced, by the header `traceparent` of W3C Trace Context, version 00 (later versions begin
/// the same way).
fn caller(headers: &HeaderMap) -> Option<(SpanRef, bool)> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if !(hex(version, 2) && version != "ff" && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
        return None;
    }
    let place = SpanRef {
        trace: TraceId(u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?),
        span: SpanId(u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?),
    };
    Some((place, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(u128, u64, bool)> {
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), text.parse().unwrap())]);
        caller(&headers).map(|(place, sampled)| (place.trace.0, place.span.0, sampled))
    }

    /// The example of the specification, and what it forbids.
    #[test]
    fn the_caller_is_read_by_the_letter() {
        let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span) = (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(parsed(example), Some((trace, span, true)));
        assert_eq!(parsed(&example.replace("-01", "-00")), Some((trace, span, false)));
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_of_calls() {
        let ids = RandomIdGenerator::default();
        let count =
            |ratio| (0..1_000).filter(|_| kept(u128::from_be_bytes(ids.new_trace_id().to_bytes()), ratio)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 1_000));
    }
}
