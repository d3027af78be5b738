//! Traces of whole messages, received as a collector receives them; and collectors that are no help.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use sluice_loadtest::harness::client::{CampaignPlan, Customer};
use sluice_loadtest::harness::config::Lines;
use sluice_loadtest::harness::people;
use sluice_loadtest::harness::process::FileLimit;
use sluice_loadtest::harness::world::{World, WorldPlan};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::{PATIENCE, QUICK, launch, one_campaign, prompt};

const RECIPIENTS: u32 = 40;

/// A collector that keeps what it is sent, as text too: whatever is personal must not stand in it anywhere.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    headers: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let header = request.metadata().get("x-collector-key").and_then(|value| value.to_str().ok());
        self.headers.lock().expect("whole").extend(header.map(str::to_owned));
        let resources = request.into_inner().resource_spans.into_iter();
        let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        self.spans.lock().expect("whole").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let this = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(this.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (this, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("whole").clone()
    }
}

async fn world(collector: SocketAddr, more: &str) -> (World, Customer) {
    let extra = format!(
        "{QUICK}[traces]\notlp_endpoint = \"http://{collector}\"\nmessage_ratio = 1\nbatch_wait_ms = 50\n{more}"
    );
    let order = WorldPlan {
        lines: Lines { meta: vec![500], sms: Vec::new() },
        plan: prompt(),
        seed: 91,
        extra,
        limits: FileLimit::AnError,
        ..WorldPlan::default()
    };
    let world = World::start(order).await.expect("the world starts");
    let customer = world.customer().await.expect("connects");
    world.furnish(&customer).await.expect("lines and templates");
    (world, customer)
}

fn fact(span: &Span, name: &str) -> Option<Value> {
    let found = |pair: &&KeyValue| pair.key == name;
    span.attributes.iter().find(found)?.value.as_ref()?.value.clone()
}

fn word(span: &Span, name: &str) -> String {
    match fact(span, name) {
        Some(Value::StringValue(word)) => word,
        other => panic!("{name} of {}: {other:?}", span.name),
    }
}

/// Every message's hand-out, request and webhooks make one trace, which the call that started the campaign leads to; the webhooks of a
/// server that was killed in between land in the same one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_way_of_every_message() {
    let (collector, address) = Collector::start().await;
    let folder = tempfile::tempdir().expect("a directory");
    let headers = folder.path().join("otlp.headers");
    std::fs::write(&headers, "X-Collector-Key=hunter2\n").expect("written");
    let (mut world, customer) = world(address, &format!("headers_file = {headers:?}\n")).await;
    let campaign = CampaignPlan::new("traced", "wa", "hello");
    launch(&customer, &campaign, 1, RECIPIENTS).await;
    one_campaign(&mut world, &customer, &campaign, RECIPIENTS).await;
    assert_eq!(world.terminate(PATIENCE).await.expect("ends"), Some(0));
    let spans = collector.spans();
    let headers = collector.headers.lock().expect("whole").clone();
    assert!(!headers.is_empty() && headers.iter().all(|header| header == "hunter2"), "{headers:?}");

    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let start = named("sluice.v1.CampaignService/StartCampaign");
    let [start] = start[..] else { panic!("one call started it: {start:?}") };
    let hand_outs = named("hand out");
    assert_eq!(hand_outs.len(), RECIPIENTS as usize);
    let mut of_message = HashMap::new();
    for span in hand_outs {
        assert_eq!(word(span, "sluice.campaign_id"), "traced");
        let [link] = &span.links[..] else { panic!("{span:?}") };
        assert_eq!((&link.trace_id, &link.span_id), (&start.trace_id, &start.span_id));
        assert!(of_message.insert(span.trace_id.clone(), span).is_none(), "two messages in one trace");
    }
    let requests = named("provider request");
    assert_eq!(requests.len(), RECIPIENTS as usize);
    for request in &requests {
        let hand_out = of_message[&request.trace_id];
        assert_eq!(request.parent_span_id, hand_out.span_id);
        assert_eq!(fact(request, "http.response.status_code"), Some(Value::IntValue(200)));
        assert_eq!(fact(request, "sluice.seq"), fact(hand_out, "sluice.seq"));
    }
    for request in &requests {
        let webhooks: Vec<_> = spans.iter().filter(|s| s.name == "webhook" && s.trace_id == request.trace_id).collect();
        assert!(!webhooks.is_empty(), "no webhook of {request:?}");
        assert!(webhooks.iter().all(|webhook| webhook.parent_span_id == request.span_id));
        let said: Vec<_> = webhooks.iter().map(|webhook| word(webhook, "sluice.reported")).collect();
        assert!(said.iter().any(|said| said == "sent" || said == "failed"), "{said:?}");
    }

    let everything = format!("{spans:?}");
    for n in 0..RECIPIENTS {
        let phone = people::phone(1, n);
        assert!(!everything.contains(phone.trim_start_matches('+')), "a span holds a recipient's number");
    }
    for name in people::params(0).iter().chain(&[world.token().to_owned()]) {
        assert!(!everything.contains(name.as_str()), "a span holds {name:?}");
    }
}

/// A collector that takes connections and never answers, and one that is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_collector_stops_nothing() {
    let deaf = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (deaf_address, gone_address) = (deaf.local_addr().expect("bound"), gone.local_addr().expect("bound"));
    drop(gone);
    for address in [deaf_address, gone_address] {
        let (mut world, customer) = world(address, "timeout_ms = 200\nqueue_max = 50\n").await;
        let campaign = CampaignPlan::new("untraced", "wa", "hello");
        launch(&customer, &campaign, 1, 600).await;
        one_campaign(&mut world, &customer, &campaign, 600).await;
        assert_eq!(world.terminate(PATIENCE).await.expect("ends"), Some(0));
    }
}
