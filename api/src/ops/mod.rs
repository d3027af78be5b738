//! The inside's page: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever restarts and routes, `/campaigns/NUMBER` and
//! `/lines/NUMBER` for whoever reads numbers in metrics and logs.

mod machine;
mod names;
mod recorder;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use metrics_exporter_prometheus::PrometheusHandle;
use sluice_engine::store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::listener::{self, Drained, ListenerLimits};

pub use machine::Machine;
pub use recorder::{RecorderError, builder, install, upkeep};

const HERE: &str = "here are /metrics, /livez, /readyz, /campaigns/NUMBER and /lines/NUMBER\n";

/// Appends series to the metrics page: for collectors that must be able to forget a series, which the recorder cannot (a running
/// campaign's), and for gauges that are read rather than kept. Called off the runtime's own threads, once for each scrape. Text in Prometheus' exposition format, whole lines.
pub type Append = Arc<dyn Fn(&mut String) + Send + Sync>;

/// What keeps the server from being ready; empty when nothing does. Called for each question, so it must be quick and not block.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the page shows.
#[derive(Clone)]
pub struct OpsPage {
    /// The recorder's side of `/metrics`.
    pub metrics: PrometheusHandle,
    /// What is appended to it.
    pub append: Vec<Append>,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Where numbers have names.
    pub ledger: Arc<dyn Store>,
}

/// Serves the page on `listener` until `stop`.
pub async fn serve(listener: TcpListener, page: OpsPage, limits: ListenerLimits, stop: CancellationToken) -> Drained {
    let page = Arc::new(page);
    let service = service_fn(move |request| {
        let page = Arc::clone(&page);
        async move { Ok::<_, Infallible>(page.answer(request).await) }
    });
    listener::serve("ops", listener, None, limits, service, stop).await
}

impl OpsPage {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, String::new());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.readiness(),
            path => match names::answer(self.ledger.as_ref(), path).await {
                Some((status, body)) => text(status, body),
                None => text(StatusCode::NOT_FOUND, HERE.to_owned()),
            },
        }
    }

    /// Rendering is CPU work of milliseconds: it has no place on a thread that answers webhooks.
    async fn metrics(self: Arc<Self>) -> Response<Full<Bytes>> {
        let rendered = tokio::task::spawn_blocking(move || {
            // Whoever appends also sets gauges of the recorder: rendered first, those would be of the scrape before.
            let mut appended = String::new();
            self.append.iter().for_each(|append| append(&mut appended));
            let mut page = self.metrics.render();
            page.push_str(&appended);
            page
        });
        match rendered.await {
            Ok(page) => {
                let mut response = text(StatusCode::OK, page);
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
                response
            }
            Err(error) => {
                tracing::error!(%error, "the metrics page could not be rendered");
                text(StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let hindrances = (self.readiness)();
        if hindrances.is_empty() {
            return text(StatusCode::OK, "ready\n".to_owned());
        }
        let mut body = String::from("not ready\n");
        for hindrance in hindrances {
            // Writing to a String cannot fail.
            let _ = writeln!(body, "{hindrance}");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, body)
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
