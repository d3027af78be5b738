//! What becomes of spans when the collector does not do its part. (That they arrive is a story: `loadtest/tests/stories/traces.rs`.)

use std::time::SystemTime;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use parking_lot::Mutex;
use sluice_engine::domain::trace::TraceId;

use super::*;

/// A collector by script.
#[derive(Debug, Clone, Default)]
struct Desk {
    got: Arc<Mutex<Vec<usize>>>,
    trouble: Arc<Mutex<Trouble>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Trouble {
    #[default]
    None,
    Refuses,
    Hangs,
}

impl SpanExporter for Desk {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let trouble = *self.trouble.lock();
        match trouble {
            Trouble::None => {
                self.got.lock().push(batch.len());
                Ok(())
            }
            Trouble::Refuses => Err(OTelSdkError::InternalFailure("no".to_owned())),
            Trouble::Hangs => std::future::pending().await,
        }
    }
}

fn span() -> Span {
    Span {
        name: "test",
        kind: Kind::Internal,
        place: SpanRef { trace: TraceId(1), span: SpanId(1) },
        parent: None,
        link: None,
        began: SystemTime::UNIX_EPOCH,
        took: Duration::ZERO,
        facts: Vec::new(),
        trouble: None,
    }
}

fn config() -> Traces {
    Traces {
        otlp_endpoint: None,
        ca_file: None,
        headers: Vec::new(),
        message_ratio: 1.0,
        call_ratio: 1.0,
        timeout: Duration::from_secs(5),
        queue_max: 10,
        batch_max: 4,
        batch_wait: Duration::from_secs(1),
        flush_timeout: Duration::from_secs(1),
    }
}

fn export(desk: &Desk) -> (Export, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    (metrics::with_local_recorder(&recorder, || Export::with(desk.clone(), &config())), page)
}

fn count(page: &PrometheusHandle, result: &str) -> u64 {
    let series = format!("{}{{result=\"{result}\"}} ", names::TRACE_SPANS);
    page.render().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
}

/// Time is held: it moves on only when everybody waits for it.
async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

#[tokio::test(start_paused = true)]
async fn spans_go_in_batches_and_the_last_ones_at_the_end() {
    let desk = Desk::default();
    let (export, page) = export(&desk);
    let sink = export.sink();
    (0..6).for_each(|_| sink.finished(span()));
    pass(Duration::from_millis(500)).await;
    assert_eq!(*desk.got.lock(), [4], "a whole batch goes at once, the rest waits for company");
    pass(Duration::from_millis(600)).await;
    assert_eq!(*desk.got.lock(), [4, 2]);
    (0..3).for_each(|_| sink.finished(span()));
    assert!(export.close().await);
    assert_eq!(*desk.got.lock(), [4, 2, 3]);
    assert_eq!((count(&page, "exported"), count(&page, "dropped")), (9, 0));
    // Whoever still makes spans is not stopped by it.
    sink.finished(span());
    assert_eq!(count(&page, "dropped"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_spans_and_nothing_else() {
    let desk = Desk::default();
    *desk.trouble.lock() = Trouble::Hangs;
    let (export, page) = export(&desk);
    let sink = export.sink();
    (0..4).for_each(|_| sink.finished(span()));
    pass(Duration::from_millis(1)).await;
    // The first batch is under way: ten wait, the others are dropped at once.
    (0..100).for_each(|_| sink.finished(span()));
    assert_eq!((count(&page, "dropped"), count(&page, "failed")), (90, 0));
    pass(Duration::from_secs(5)).await;
    assert_eq!(count(&page, "failed"), 4);
    *desk.trouble.lock() = Trouble::None;
    pass(Duration::from_secs(7)).await;
    assert_eq!((count(&page, "failed"), desk.got.lock().iter().sum()), (8, 6_usize));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_holds_no_stop_up() {
    let desk = Desk::default();
    *desk.trouble.lock() = Trouble::Hangs;
    let (export, _) = export(&desk);
    export.sink().finished(span());
    let began = Instant::now();
    assert!(!export.close().await);
    assert!(began.elapsed() <= config().flush_timeout + Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_refuses_is_asked_again_with_the_next_spans() {
    let desk = Desk::default();
    *desk.trouble.lock() = Trouble::Refuses;
    let (export, page) = export(&desk);
    let sink = export.sink();
    (0..8).for_each(|_| sink.finished(span()));
    pass(Duration::from_millis(1)).await;
    assert_eq!(count(&page, "failed"), 8);
    *desk.trouble.lock() = Trouble::None;
    (0..4).for_each(|_| sink.finished(span()));
    pass(Duration::from_millis(1)).await;
    assert_eq!(count(&page, "exported"), 4);
}
