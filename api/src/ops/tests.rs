//! The page on a real socket.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use sluice_engine::domain::time::Clock;
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

struct Page {
    _folder: tempfile::TempDir,
    address: std::net::SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
}

fn ledger() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = EmbeddedConfig { synced: false, ..EmbeddedConfig::new(folder.path().join("ledger")) };
    (EmbeddedStore::open(config, Clock::system()).expect("a ledger"), folder)
}

async fn start(metrics: PrometheusHandle) -> Page {
    let ready = Arc::new(AtomicBool::new(false));
    let (ledger, folder) = ledger();
    let asked = Arc::clone(&ready);
    let page = OpsPage {
        metrics,
        append: vec![Arc::new(|page: &mut String| page.push_str("appended_total 7\n"))],
        readiness: Arc::new(move || {
            if asked.load(Ordering::Relaxed) { Vec::new() } else { vec!["the ledger is being opened".to_owned()] }
        }),
        ledger,
    };
    let limits = ListenerLimits {
        connections_max: 8,
        header_read_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, page, limits, stop.clone()));
    Page { _folder: folder, address, ready, stop }
}

impl Page {
    /// The whole answer as text.
    async fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("the page listens");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the page reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the page answers");
        answer
    }
}

#[tokio::test]
async fn metrics_have_buckets_their_own_names_and_what_is_appended() {
    let recorder = builder().expect("the settings are right").build_recorder();
    metrics::with_local_recorder(&recorder, || {
        crate::metrics::describe();
        metrics::counter!(crate::metrics::WEBHOOK_UNKNOWN_PATHS).increment(3);
        metrics::counter!(crate::metrics::WEBHOOK_RECEIVED_BYTES).increment(5);
        metrics::histogram!(crate::metrics::WEBHOOK_REQUEST_DURATION, "account" => "main").record(0.002);
        metrics::histogram!("sluice_batch_entries").record(3.0);
    });
    let page = start(recorder.handle()).await;
    let answer = page.ask("GET", "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for line in [
        "content-type: text/plain; version=0.0.4; charset=utf-8",
        "# TYPE sluice_webhook_unknown_paths_total counter",
        "sluice_webhook_unknown_paths_total 3\n",
        "sluice_webhook_received_bytes_total 5\n",
        "# TYPE sluice_webhook_request_duration_seconds histogram",
        "sluice_webhook_request_duration_seconds_bucket{account=\"main\",le=\"0.0025\"} 1\n",
        "sluice_batch_entries_bucket{le=\"5\"} 1\n",
        concat!("sluice_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        "appended_total 7\n",
    ] {
        assert!(answer.contains(line), "{line} is not in\n{answer}");
    }
    page.stop.cancel();
}

#[tokio::test]
async fn a_gauge_that_is_set_for_the_page_is_of_this_scrape() {
    let recorder = builder().expect("the settings are right").build_recorder();
    let gauge = metrics::with_local_recorder(&recorder, || metrics::gauge!("sluice_read_at_the_scrape"));
    let page = OpsPage {
        metrics: recorder.handle(),
        append: vec![Arc::new(move |_: &mut String| gauge.set(5.0))],
        readiness: Arc::new(Vec::new),
        ledger: ledger().0,
    };
    let answer = Arc::new(page).metrics().await.into_body().collect().await.expect("it is whole").to_bytes();
    assert!(String::from_utf8_lossy(&answer).contains("sluice_read_at_the_scrape 5\n"), "{answer:?}");
}

#[tokio::test]
async fn live_always_and_ready_when_nothing_hinders() {
    let page = start(builder().expect("the settings are right").build_recorder().handle()).await;
    assert!(page.ask("GET", "/livez").await.starts_with("HTTP/1.1 200"));
    let not_yet = page.ask("GET", "/readyz").await;
    assert!(not_yet.starts_with("HTTP/1.1 503") && not_yet.contains("the ledger is being opened"), "{not_yet}");
    page.ready.store(true, Ordering::Relaxed);
    assert!(page.ask("GET", "/readyz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn nothing_else_is_here() {
    let page = start(builder().expect("the settings are right").build_recorder().handle()).await;
    for path in ["/", "/campaigns", "/campaigns/", "/campaigns/one", "/campaigns/1/2", "/lines/-1", "/lines/4294967296"]
    {
        let answer = page.ask("GET", path).await;
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("/campaigns/NUMBER"), "{path}: {answer}");
    }
    assert!(page.ask("POST", "/metrics").await.starts_with("HTTP/1.1 405"));
    assert!(page.ask("HEAD", "/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn upkeep_ends_with_the_stop() {
    let stop = CancellationToken::new();
    let task = tokio::spawn(upkeep(builder().expect("the settings are right").build_recorder().handle(), stop.clone()));
    stop.cancel();
    task.await.expect("it ends");
}
