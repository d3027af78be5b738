//! The server: services, layers, limits, transport.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::Stream;
use sluice_engine::control::Control;
use sluice_engine::domain::time::{Clock, Mono};
use sluice_engine::webhook::WebhookSink;
use sluice_proto::internal::v1::node_service_server::NodeServiceServer;
use sluice_proto::v1::admin_service_server::AdminServiceServer;
use sluice_proto::v1::campaign_service_server::CampaignServiceServer;
use sluice_proto::v1::import_service_server::ImportServiceServer;
use sluice_proto::v1::line_service_server::LineServiceServer;
use sluice_proto::v1::message_service_server::MessageServiceServer;
use sluice_proto::v1::template_service_server::TemplateServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::admission::AdmissionLayer;
use super::deadline::{CallTimes, DeadlineLayer};
use super::incoming::{Connection, LetInLayer, incoming};
use super::places::Places;
use super::traced::{CallTraces, TraceLayer};
use super::{Front, Streams, admin::Admin};
use crate::auth::Verifier;
use crate::auth::layer::AuthLayer;
use crate::config::{Grpc, TlsFiles};
use crate::nodes::{self, InsideLayer, NodeServer, Nodes, OwnerLayer};

/// Bounds of the gRPC front. All of them are configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcLimits {
    /// Largest message that is read, bytes.
    pub message_bytes_max: usize,
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Calls at a time on one connection.
    pub connection_streams_max: usize,
    /// Calls at a time in the whole server; one more is answered `RESOURCE_EXHAUSTED`.
    pub requests_max: usize,
    /// About the most bytes of a page, of a batch of an export, or of refused rows in an acknowledgement.
    pub answer_bytes_max: usize,
    /// Longest that a connection may be without a call that is let in.
    pub first_call_timeout: Duration,
    /// Open watches.
    pub watches_max: usize,
    /// Of them, those of one tenant.
    pub watches_tenant_max: usize,
    /// Longest times that calls with one answer may take. What they began is finished all the same.
    pub call_times: CallTimes,
    /// How often a silent connection is asked whether it still lives.
    pub keepalive_interval: Duration,
    /// Open imports; each holds a few chunks in memory.
    pub imports_max: usize,
    /// Of them, those of one tenant.
    pub imports_tenant_max: usize,
    /// Open exports, and recounts of all that a tenant has.
    pub exports_max: usize,
    /// Of them, those of one tenant.
    pub exports_tenant_max: usize,
    /// Longest silence of an importer.
    pub import_idle: Duration,
    /// Longest that the reader of an export may take nothing.
    pub export_idle: Duration,
}

impl From<&Grpc> for GrpcLimits {
    fn from(config: &Grpc) -> Self {
        Self {
            message_bytes_max: config.message_bytes_max,
            connections_max: config.connections_max,
            connection_streams_max: config.connection_streams_max,
            requests_max: config.requests_max,
            answer_bytes_max: config.answer_bytes_max,
            first_call_timeout: config.first_call_timeout,
            watches_max: config.watches_max,
            watches_tenant_max: config.watches_tenant_max,
            call_times: config.call_times(),
            keepalive_interval: config.keepalive_interval,
            imports_max: config.imports_max,
            imports_tenant_max: config.imports_tenant_max,
            exports_max: config.exports_max,
            exports_tenant_max: config.exports_tenant_max,
            import_idle: config.import_idle,
            export_idle: config.export_idle,
        }
    }
}

/// The gRPC listener's certificate in tonic's form.
pub fn tls_config(files: &TlsFiles) -> std::io::Result<ServerTlsConfig> {
    let identity = Identity::from_pem(std::fs::read(&files.cert_file)?, std::fs::read(&files.key_file)?);
    Ok(ServerTlsConfig::new().identity(identity).timeout(Duration::from_secs(10)))
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its version.
    pub version: &'static str,
    /// The node's name.
    pub node_id: String,
    /// The store, e.g. `sqlite`.
    pub store_kind: &'static str,
    /// The version of the store's schema.
    pub schema_version: u32,
}

/// What the gRPC front works with.
pub struct GrpcParts {
    /// The façade.
    pub control: Control,
    /// Decides about tokens.
    pub verifier: Arc<Verifier>,
    /// The clocks.
    pub clock: Clock,
    /// Bounds.
    pub limits: GrpcLimits,
    /// What the server says of itself.
    pub info: ServerInfo,
    /// Traces of calls; `None`: there are none.
    pub traces: Option<CallTraces>,
    /// TLS; `None`: plain.
    pub tls: Option<ServerTlsConfig>,
    /// The other nodes; `None`: this one is alone.
    pub nodes: Option<Arc<Nodes>>,
    /// Ends the server: health turns to not serving, long streams end, calls under way are finished.
    pub shutdown: CancellationToken,
}

/// The services, for the public listener and for the one inside.
pub struct GrpcServer {
    front: Front,
    verifier: Arc<Verifier>,
    clock: Clock,
    limits: GrpcLimits,
    info: ServerInfo,
    traces: Option<CallTraces>,
    tls: Option<ServerTlsConfig>,
    started: Mono,
}

impl GrpcServer {
    /// The services over these parts.
    #[must_use]
    pub fn new(parts: GrpcParts) -> Self {
        let GrpcParts { control, verifier, clock, limits, info, traces, tls, nodes, shutdown } = parts;
        let streams = Arc::new(Streams {
            watches: Places::new("watches", limits.watches_max, limits.watches_tenant_max),
            imports: Places::new("imports", limits.imports_max, limits.imports_tenant_max),
            exports: Places::new("exports", limits.exports_max, limits.exports_tenant_max),
            export_idle: limits.export_idle,
        });
        let front = Front { control, shutdown, streams, answer_bytes_max: limits.answer_bytes_max, nodes };
        Self { front, verifier, started: clock.mono(), clock, limits, info, traces, tls }
    }

    /// Serves callers until the shutdown. Then waits for the calls under way, without a limit of its own: give it a deadline.
    ///
    /// # Errors
    /// The transport's.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), tonic::transport::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<CampaignServiceServer<Front>>().await;
        let mut routes = self.services().add_service(health_service);
        if let Some(reflection) = reflection(tonic_reflection::server::Builder::build_v1) {
            routes = routes.add_service(reflection);
        }
        if let Some(reflection) = reflection(tonic_reflection::server::Builder::build_v1alpha) {
            routes = routes.add_service(reflection);
        }
        let shutdown = self.front.shutdown.clone();
        let ended = async move {
            shutdown.cancelled().await;
            // Before the drain begins, so that balancers look elsewhere first.
            health.set_not_serving::<CampaignServiceServer<Front>>().await;
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        };
        self.transport(self.tls.clone(), self.limits.connection_streams_max)?
            .layer(AdmissionLayer::new(self.limits.requests_max))
            .layer(DeadlineLayer(self.limits.call_times))
            .layer(AuthLayer::new(Arc::clone(&self.verifier), self.clock.clone()))
            .layer(LetInLayer)
            .layer(TraceLayer(self.traces.clone()))
            .layer(OwnerLayer::new(self.front.nodes.clone()))
            .add_routes(routes)
            .serve_with_incoming_shutdown(self.incoming("grpc", listener), ended)
            .await
    }

    /// Serves other nodes until `stop`: the same services, for what they send on, and the events that they bring for `engine`. Returns
    /// at once where there are none.
    ///
    /// # Errors
    /// The transport's.
    pub async fn serve_nodes(
        &self,
        listener: TcpListener,
        engine: Arc<dyn WebhookSink>,
        tls: Option<ServerTlsConfig>,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let Some(others) = self.front.nodes.clone() else { return Ok(()) };
        let own = NodeServiceServer::new(NodeServer::new(engine));
        let routes = self.services().add_service(own.max_decoding_message_size(nodes::events::MESSAGE_BYTES_MAX));
        let limits = &self.limits;
        // Another node sends everything on one connection.
        let streams = limits.requests_max + limits.watches_max + limits.imports_max + limits.exports_max;
        self.transport(tls, streams)?
            .initial_stream_window_size(nodes::STREAM_WINDOW)
            .initial_connection_window_size(nodes::CONNECTION_WINDOW)
            .layer(AdmissionLayer::inside(self.limits.requests_max))
            .layer(DeadlineLayer(self.limits.call_times))
            .layer(InsideLayer::new(others))
            .layer(LetInLayer)
            .add_routes(routes)
            .serve_with_incoming_shutdown(self.incoming("nodes", listener), stop.cancelled_owned())
            .await
    }

    fn incoming(
        &self,
        name: &'static str,
        listener: TcpListener,
    ) -> impl Stream<Item = std::io::Result<Connection>> + Send + use<> {
        incoming(name, listener, self.limits.connections_max, self.limits.first_call_timeout)
    }

    fn transport(&self, tls: Option<ServerTlsConfig>, streams: usize) -> Result<Server, tonic::transport::Error> {
        let limits = &self.limits;
        let server = Server::builder()
            // The longest of all; what stands in between refuses ordinary calls earlier, and says why.
            .timeout(limits.call_times.longest() + Duration::from_secs(1))
            .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
            .http2_keepalive_interval(Some(limits.keepalive_interval))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(64 * 1024);
        match tls {
            Some(tls) => server.tls_config(tls),
            None => Ok(server),
        }
    }

    /// The services of the contract.
    fn services(&self) -> Routes {
        let (front, size) = (&self.front, self.limits.message_bytes_max);
        let admin =
            Admin { front: front.clone(), info: self.info.clone(), clock: self.clock.clone(), started: self.started };
        let imports = super::imports::Imports { front: front.clone(), idle: self.limits.import_idle };
        Routes::new(AdminServiceServer::new(admin).max_decoding_message_size(size))
            .add_service(CampaignServiceServer::new(front.clone()).max_decoding_message_size(size))
            .add_service(ImportServiceServer::new(imports).max_decoding_message_size(size))
            .add_service(LineServiceServer::new(front.clone()).max_decoding_message_size(size))
            .add_service(MessageServiceServer::new(front.clone()).max_decoding_message_size(size))
            .add_service(TemplateServiceServer::new(front.clone()).max_decoding_message_size(size))
    }
}

/// A reflection service of either version: some clients speak only the older one. The descriptors were made with the server,
/// so they cannot fail to be read; were they to, the server would go on without reflection and say so.
fn reflection<S>(
    build: impl FnOnce(tonic_reflection::server::Builder<'static>) -> Result<S, tonic_reflection::server::Error>,
) -> Option<S> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(sluice_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    build(builder).inspect_err(|error| tracing::error!(%error, "no reflection")).ok()
}
