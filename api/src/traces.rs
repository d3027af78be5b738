//! Spans on their way to a collector, by OTLP over gRPC.
//!
//! Whoever makes a span puts it into a bounded queue and goes on; one task takes them out in batches. When the collector is away,
//! slow or broken, spans are counted and dropped: nobody ever waits for it.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use opentelemetry::trace::{
    SpanContext, SpanId as OtelSpanId, SpanKind, Status, TraceFlags, TraceId as OtelTraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter as OtlpExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter, SpanLinks};
use sluice_engine::domain::trace::{SpanId, SpanRef};
use sluice_engine::trace::{Fact, Kind, Span, SpanSink};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::config::Traces;
use crate::metrics as names;

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The exporter does not take its settings.
    #[error("[traces] cannot be used: {0}; an OTEL_… variable of the environment may be the reason")]
    Exporter(#[from] ExporterBuildError),
    /// The root certificates cannot be read.
    #[error("[traces] ca_file cannot be read: {0}")]
    Roots(#[from] std::io::Error),
}

/// A running export.
pub struct Export {
    queue: Arc<Queue>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    flush_timeout: Duration,
}

impl Export {
    /// Starts exporting, if a collector is configured. It is not asked whether it is there.
    ///
    /// # Errors
    /// [`TracesError`].
    pub fn start(config: &Traces) -> Result<Option<Self>, TracesError> {
        let Some(endpoint) = &config.otlp_endpoint else { return Ok(None) };
        let mut builder =
            OtlpExporter::builder().with_tonic().with_endpoint(endpoint.clone()).with_timeout(config.timeout);
        if endpoint.starts_with("https:") {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(file) = &config.ca_file {
                tls = tls.ca_certificate(Certificate::from_pem(std::fs::read(file)?));
            }
            builder = builder.with_tls_config(tls);
        }
        let mut exporter = builder.with_metadata(headers(config)).build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&Resource::builder().with_service_name("sluice").with_attribute(version).build());
        Ok(Some(Self::with(exporter, config)))
    }

    fn with(exporter: impl SpanExporter + 'static, config: &Traces) -> Self {
        let (spans, waiting) = mpsc::channel(config.queue_max);
        let queue = Arc::new(Queue { spans, dropped: counter!(names::TRACE_SPANS, "result" => "dropped") });
        let stop = CancellationToken::new();
        let work = Work {
            waiting,
            exporter,
            stop: stop.clone(),
            batch_max: config.batch_max,
            batch_wait: config.batch_wait,
            timeout: config.timeout,
            scope: InstrumentationScope::builder("sluice").with_version(env!("CARGO_PKG_VERSION")).build(),
            exported: counter!(names::TRACE_SPANS, "result" => "exported"),
            failed: counter!(names::TRACE_SPANS, "result" => "failed"),
            failing: false,
        };
        Self { queue, stop, task: tokio::spawn(work.run()), flush_timeout: config.flush_timeout }
    }

    /// Where finished spans go.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn SpanSink> {
        Arc::clone(&self.queue) as Arc<dyn SpanSink>
    }

    /// Exports what waits, within the time that is set for it, and ends. True: everything was offered to the collector.
    pub async fn close(self) -> bool {
        self.stop.cancel();
        let mut task = self.task;
        let ended = tokio::time::timeout(self.flush_timeout, &mut task).await.is_ok();
        task.abort();
        ended
    }
}

/// `name=value` pairs that were checked with the configuration.
fn headers(config: &Traces) -> MetadataMap {
    let mut map = MetadataMap::new();
    for (name, value) in &config.headers {
        let name = AsciiMetadataKey::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(mut value)) = (name, AsciiMetadataValue::try_from(value.expose())) {
            value.set_sensitive(true);
            map.append(name, value);
        }
    }
    map
}

struct Queue {
    spans: mpsc::Sender<Span>,
    dropped: Counter,
}

impl SpanSink for Queue {
    fn finished(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }
}

struct Work<E> {
    waiting: mpsc::Receiver<Span>,
    exporter: E,
    stop: CancellationToken,
    batch_max: usize,
    batch_wait: Duration,
    timeout: Duration,
    scope: InstrumentationScope,
    exported: Counter,
    failed: Counter,
    /// The last export failed: it is said once, not each second.
    failing: bool,
}

impl<E: SpanExporter> Work<E> {
    async fn run(mut self) {
        loop {
            let batch = self.batch().await;
            if batch.is_empty() {
                return;
            }
            self.export(batch).await;
        }
    }

    /// The next spans; none: all are exported, and no more are taken.
    async fn batch(&mut self) -> Vec<Span> {
        let mut batch = Vec::new();
        let mut until: Option<Instant> = None;
        while batch.len() < self.batch_max {
            let room = self.batch_max - batch.len();
            let company = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                count = self.waiting.recv_many(&mut batch, room) => {
                    if count == 0 {
                        break;
                    }
                    until.get_or_insert_with(|| Instant::now() + self.batch_wait);
                }
                () = self.stop.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
                () = company => break,
            }
        }
        batch
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let batch = batch.into_iter().map(|span| exported(span, &self.scope)).collect();
        let reason = match tokio::time::timeout(self.timeout, self.exporter.export(batch)).await {
            Ok(Ok(())) => {
                self.exported.increment(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector takes spans again");
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.timeout),
        };
        self.failed.increment(count);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(reason, "spans are lost: the collector does not take them (said once until it does)");
        }
    }
}

fn context(place: SpanRef) -> SpanContext {
    let (trace, span) = (OtelTraceId::from(place.trace.0), span_id(place.span));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn span_id(SpanId(id): SpanId) -> OtelSpanId {
    OtelSpanId::from(id)
}

/// A span in the exporter's terms.
fn exported(span: Span, scope: &InstrumentationScope) -> SpanData {
    let attribute = |(name, fact)| {
        let value = match fact {
            Fact::Number(number) => Value::I64(number),
            Fact::Word(word) => Value::String(word.into()),
        };
        KeyValue::new(name, value)
    };
    let mut links = SpanLinks::default();
    links.links.extend(span.link.map(|link| opentelemetry::trace::Link::with_context(context(link))));
    SpanData {
        span_context: context(span.place),
        parent_span_id: span.parent.map_or(OtelSpanId::INVALID, span_id),
        parent_span_is_remote: false,
        span_kind: match span.kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Client => SpanKind::Client,
            Kind::Server => SpanKind::Server,
            Kind::Consumer => SpanKind::Consumer,
        },
        name: span.name.into(),
        start_time: span.began,
        end_time: span.began + span.took,
        attributes: span.facts.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links,
        status: span.trouble.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
