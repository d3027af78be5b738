//! The server: services, layers, limits, transport.

use std::sync::Arc;
use std::time::Duration;

use sluice_engine::control::Control;
use sluice_engine::domain::time::Clock;
use sluice_proto::v1::admin_service_server::AdminServiceServer;
use sluice_proto::v1::campaign_service_server::CampaignServiceServer;
use sluice_proto::v1::import_service_server::ImportServiceServer;
use sluice_proto::v1::line_service_server::LineServiceServer;
use sluice_proto::v1::message_service_server::MessageServiceServer;
use sluice_proto::v1::template_service_server::TemplateServiceServer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::admission::AdmissionLayer;
use super::incoming::incoming;
use super::traced::{CallTraces, TraceLayer};
use super::{Front, Streams, admin::Admin};
use crate::auth::Verifier;
use crate::auth::layer::AuthLayer;
use crate::config::{Grpc, TlsFiles};

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
    /// Open watches.
    pub watches_max: usize,
    /// Longest time that a call with one answer may take. What it began is finished all the same.
    pub request_timeout: Duration,
    /// How often a silent connection is asked whether it still lives.
    pub keepalive_interval: Duration,
    /// Open imports; each holds a few chunks in memory.
    pub imports_max: usize,
    /// Open exports and recounts of a tenant.
    pub exports_max: usize,
    /// Longest silence of an importer.
    pub import_idle: Duration,
}

impl From<&Grpc> for GrpcLimits {
    fn from(config: &Grpc) -> Self {
        Self {
            message_bytes_max: config.message_bytes_max,
            connections_max: config.connections_max,
            connection_streams_max: config.connection_streams_max,
            requests_max: config.requests_max,
            watches_max: config.watches_max,
            request_timeout: config.request_timeout,
            keepalive_interval: config.keepalive_interval,
            imports_max: config.imports_max,
            exports_max: config.exports_max,
            import_idle: config.import_idle,
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
    /// Ends the server: health turns to not serving, long streams end, calls under way are finished.
    pub shutdown: CancellationToken,
}

/// Serves until `shutdown`. Then waits for the calls under way, without a limit of its own: give it a deadline.
pub async fn serve(parts: GrpcParts, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let GrpcParts { control, verifier, clock, limits, info, traces, tls, shutdown } = parts;
    let front = Front {
        control,
        shutdown: shutdown.clone(),
        streams: Arc::new(Streams {
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            imports: Arc::new(Semaphore::new(limits.imports_max)),
            exports: Arc::new(Semaphore::new(limits.exports_max)),
        }),
    };
    let mut server = Server::builder()
        .timeout(limits.request_timeout)
        .max_concurrent_streams(u32::try_from(limits.connection_streams_max).unwrap_or(u32::MAX))
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_header_list_size(64 * 1024);
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let size = limits.message_bytes_max;
    let idle = limits.import_idle;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CampaignServiceServer<Front>>().await;
    let admin = Admin { front: front.clone(), info, clock: clock.clone(), started: clock.mono() };
    let imports = super::imports::Imports { front: front.clone(), idle };
    let router = server
        .layer(AdmissionLayer::new(limits.requests_max))
        .layer(AuthLayer::new(verifier, clock))
        .layer(TraceLayer(traces))
        .add_service(health_service)
        .add_optional_service(reflection(tonic_reflection::server::Builder::build_v1))
        .add_optional_service(reflection(tonic_reflection::server::Builder::build_v1alpha))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(size))
        .add_service(CampaignServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(ImportServiceServer::new(imports).max_decoding_message_size(size))
        .add_service(LineServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(MessageServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(TemplateServiceServer::new(front).max_decoding_message_size(size));
    let incoming = incoming(listener, limits.connections_max);
    let ended = async move {
        shutdown.cancelled().await;
        // Before the drain begins, so that balancers look elsewhere first.
        health.set_not_serving::<CampaignServiceServer<Front>>().await;
        health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    };
    router.serve_with_incoming_shutdown(incoming, ended).await
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
