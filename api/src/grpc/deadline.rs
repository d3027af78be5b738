//! How long a call may take until its answer begins. A few work through a whole campaign or ledger and have a longer limit.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::Status;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// Calls whose work grows with the list or with the ledger.
const LONG: [&str; 6] =
    ["Backup", "BatchStartCampaigns", "RecountCampaign", "ResolveMessages", "SealCampaign", "StartCampaign"];

/// Longest times until an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimes {
    /// Of an ordinary call.
    pub ordinary: Duration,
    /// Of a call that works through a whole campaign or ledger.
    pub long: Duration,
}

impl CallTimes {
    /// The longest for the call with this path.
    pub(crate) fn of(&self, path: &str) -> Duration {
        let is_long = path.rsplit('/').next().is_some_and(|method| LONG.contains(&method));
        if is_long { self.long.max(self.ordinary) } else { self.ordinary }
    }

    /// The longest of all.
    pub(super) fn longest(&self) -> Duration {
        self.long.max(self.ordinary)
    }
}

/// Wraps all services of a server. What a call began is finished all the same: only its caller is told not to wait.
#[derive(Clone, Copy)]
pub(super) struct DeadlineLayer(pub(super) CallTimes);

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { inner, times: self.0 }
    }
}

/// What [`DeadlineLayer`] makes of a service.
#[derive(Clone)]
pub(super) struct DeadlineService<S> {
    inner: S,
    times: CallTimes,
}

impl<S, B, R> Service<Request<B>> for DeadlineService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = self.times.of(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                let text = format!(
                    "no answer within {} s; what the call began goes on: look at it before you repeat it",
                    limit.as_secs_f64()
                );
                Ok(Status::deadline_exceeded(text).into_http())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tonic::Code;
    use tower::service_fn;

    #[test]
    fn the_long_calls_are_calls_of_the_contract() {
        for method in LONG {
            let known = crate::auth::scopes::calls().any(|path| path.rsplit('/').next() == Some(method));
            assert!(known, "{method}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_may_take_longer_than_other_calls() {
        let seconds = Duration::from_secs;
        let times = CallTimes { ordinary: seconds(30), long: seconds(900) };
        let mut service = DeadlineLayer(times).layer(service_fn(|request: Request<u64>| async move {
            tokio::time::sleep(Duration::from_secs(*request.body())).await;
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
        let mut code = async |method: &str, takes: u64| {
            let request = Request::builder().uri(format!("http://sluice/sluice.v1.X/{method}")).body(takes).unwrap();
            let answer = service.call(request).await.unwrap();
            Status::from_header_map(answer.headers()).map(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(code("Backup", 600).await, None);
        assert_eq!(code("GetCampaign", 29).await, None);
        for (method, takes) in [("Backup", 901), ("GetCampaign", 31)] {
            let (code, text) = code(method, takes).await.unwrap();
            assert_eq!(code, Code::DeadlineExceeded, "{method}");
            assert!(text.contains("goes on"), "{text}");
        }
    }
}
