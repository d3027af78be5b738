//! The server: services, layers, limits, transport.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
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
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};

use super::admission::AdmissionLayer;
use super::{Front, Streams, admin::Admin};
use crate::auth::Verifier;
use crate::auth::layer::AuthLayer;

/// Bounds of the gRPC front: the `[grpc.limits]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcLimits {
    /// Calls under way in the whole server; one more is answered `RESOURCE_EXHAUSTED`. 1 to 100,000.
    pub calls_max: usize,
    /// Streams (calls) on one connection, 1 to 10,000.
    pub streams_per_connection_max: u32,
    /// Open watches, 1 to 100,000.
    pub watches_max: usize,
    /// Open imports, 1 to 1,000; each holds a few chunks in memory.
    pub imports_max: usize,
    /// Open exports and recounts of a tenant, 1 to 1,000.
    pub exports_max: usize,
    /// Largest message that is read, bytes, 64 KiB to 64 MiB.
    pub message_bytes_max: usize,
    /// Longest time that a unary call may take, seconds, 1 to 3,600. What it began is finished all the same.
    pub call_seconds_max: u64,
    /// Longest silence of an importer, seconds, 1 to 3,600.
    pub import_idle_seconds_max: u64,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            calls_max: 1_024,
            streams_per_connection_max: 256,
            watches_max: 1_024,
            imports_max: 32,
            exports_max: 32,
            message_bytes_max: 4 * 1024 * 1024,
            call_seconds_max: 60,
            import_idle_seconds_max: 120,
        }
    }
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
    /// TLS; `None`: plain.
    pub tls: Option<ServerTlsConfig>,
    /// Ends the server: health turns to not serving, long streams end, calls under way are finished.
    pub shutdown: CancellationToken,
}

/// Serves until `shutdown`. Then waits for the calls under way, without a limit of its own: give it a deadline.
pub async fn serve(parts: GrpcParts, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    let GrpcParts { control, verifier, clock, limits, info, tls, shutdown } = parts;
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
        .timeout(Duration::from_secs(limits.call_seconds_max))
        .max_concurrent_streams(limits.streams_per_connection_max)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_header_list_size(64 * 1024);
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let size = limits.message_bytes_max;
    let idle = Duration::from_secs(limits.import_idle_seconds_max);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CampaignServiceServer<Front>>().await;
    let admin = Admin { front: front.clone(), info, clock: clock.clone(), started: clock.mono() };
    let imports = super::imports::Imports { front: front.clone(), idle };
    let router = server
        .layer(AdmissionLayer::new(limits.calls_max))
        .layer(AuthLayer::new(verifier, clock))
        .add_service(health_service)
        .add_optional_service(reflection(tonic_reflection::server::Builder::build_v1))
        .add_optional_service(reflection(tonic_reflection::server::Builder::build_v1alpha))
        .add_service(AdminServiceServer::new(admin).max_decoding_message_size(size))
        .add_service(CampaignServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(ImportServiceServer::new(imports).max_decoding_message_size(size))
        .add_service(LineServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(MessageServiceServer::new(front.clone()).max_decoding_message_size(size))
        .add_service(TemplateServiceServer::new(front).max_decoding_message_size(size));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(60)));
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
