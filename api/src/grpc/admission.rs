//! Bounds the calls that are under way in the whole server: one too many is refused before any work is done.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::status;

/// Wraps all services of a server.
#[derive(Debug, Clone)]
pub(super) struct AdmissionLayer {
    places: Arc<Semaphore>,
}

impl AdmissionLayer {
    /// At most `calls_max` at a time. A stream counts until it is opened; open streams have places of their own.
    pub(super) fn new(calls_max: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(calls_max)) }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = AdmissionService<S>;

    fn layer(&self, inner: S) -> AdmissionService<S> {
        AdmissionService { inner, places: Arc::clone(&self.places) }
    }
}

/// What [`AdmissionLayer`] makes of a service.
#[derive(Debug, Clone)]
pub(super) struct AdmissionService<S> {
    inner: S,
    places: Arc<Semaphore>,
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
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let status = status::too_much("too many calls are under way: try again later");
            return Box::pin(std::future::ready(Ok(status.into_http())));
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tokio::sync::oneshot;
    use tonic::{Code, Status};
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
}
