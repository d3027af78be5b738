//! A server on port 0 and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{Context, SHA256};
use sluice_engine::control::{Account, Control, Defaults, LineStatus, Parts, Progress, Runtime, Tenants};
use sluice_engine::domain::campaign::Campaign;
use sluice_engine::domain::ids::{AccountId, CampaignKey, LineKey};
use sluice_engine::domain::line::{Line, ProviderKind};
use sluice_engine::domain::time::{Clock, UnixMillis};
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::{Entry, EntryResult, Store, StoreResult};
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::import_service_client::ImportServiceClient;
use sluice_proto::v1::line_service_client::LineServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use sluice_proto::v1::template_service_client::TemplateServiceClient;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::auth::testing::{Issuer, claims};
use crate::grpc::{CallTimes, GrpcLimits, GrpcParts, GrpcServer, ServerInfo};

/// The wall clock of every test server.
pub(crate) const NOW: i64 = 1_800_000_000;

struct Idle(Arc<dyn Store>);

#[tonic::async_trait]
impl Runtime for Idle {
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>> {
        Ok(self.0.commit(entries).await?.results)
    }
    fn shut_gate(&self, _: CampaignKey) -> Box<dyn Send> {
        Box::new(())
    }
    fn in_flight(&self, _: CampaignKey) -> u64 {
        0
    }
    async fn campaign_changed(&self, _: &Campaign) {}
    async fn campaign_removed(&self, _: CampaignKey) {}
    async fn line_changed(&self, _: &Line) {}
    fn line_status(&self, _: LineKey) -> LineStatus {
        LineStatus::default()
    }
    fn progress(&self, _: CampaignKey) -> Option<watch::Receiver<Progress>> {
        None
    }
    fn is_draining(&self) -> bool {
        false
    }
}

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) server: JoinHandle<Result<(), tonic::transport::Error>>,
    _dir: tempfile::TempDir,
}

pub(crate) fn limits() -> GrpcLimits {
    GrpcLimits {
        message_bytes_max: 1024 * 1024,
        connections_max: 16,
        connection_streams_max: 32,
        requests_max: 64,
        answer_bytes_max: 1024 * 1024,
        first_call_timeout: Duration::from_secs(30),
        watches_max: 2,
        watches_tenant_max: 2,
        call_times: CallTimes { ordinary: Duration::from_secs(30), long: Duration::from_secs(60) },
        keepalive_interval: Duration::from_secs(30),
        imports_max: 2,
        imports_tenant_max: 2,
        exports_max: 2,
        exports_tenant_max: 2,
        import_idle: Duration::from_secs(30),
        export_idle: Duration::from_secs(30),
    }
}

/// Puts a token into every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub(crate) type Authorised = InterceptedService<Channel, Bearer>;

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(limits()).await
    }

    pub(crate) async fn with(limits: GrpcLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::with_wall(|| UnixMillis(NOW * 1_000));
        let config = EmbeddedConfig { synced: false, ..EmbeddedConfig::new(dir.path().join("ledger")) };
        let store: Arc<dyn Store> = EmbeddedStore::open(config, clock.clone()).unwrap();
        let account =
            Account { id: AccountId::new("shared").unwrap(), kinds: vec![ProviderKind::Meta], tenants: Tenants::All };
        let control = Control::new(Parts {
            store: Arc::clone(&store),
            runtime: Arc::new(Idle(Arc::clone(&store))),
            accounts: [account].into_iter().collect(),
            clock: clock.clone(),
            backup_dir: Some(dir.path().to_owned()),
            installation_secret: store.installation_secret().await.unwrap(),
            defaults: Defaults::default(),
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let info =
            ServerInfo { version: "0.0.0", node_id: "node-1".to_owned(), store_kind: "sqlite", schema_version: 1 };
        let parts = GrpcParts {
            control,
            verifier: Arc::new(Issuer::ed25519(1).verifier()),
            clock,
            limits,
            info,
            traces: None,
            tls: None,
            nodes: None,
            shutdown: shutdown.clone(),
        };
        let server = tokio::spawn(async move { GrpcServer::new(parts).serve(listener).await });
        Self { address, shutdown, server, _dir: dir }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn authorised(&self, tenant: &str) -> Authorised {
        InterceptedService::new(self.channel().await, bearer(tenant, "read send admin"))
    }

    pub(crate) async fn campaigns(&self, tenant: &str) -> CampaignServiceClient<Authorised> {
        CampaignServiceClient::new(self.authorised(tenant).await)
    }

    pub(crate) async fn imports(&self, tenant: &str) -> ImportServiceClient<Authorised> {
        ImportServiceClient::new(self.authorised(tenant).await)
    }

    pub(crate) async fn messages(&self, tenant: &str) -> MessageServiceClient<Authorised> {
        MessageServiceClient::new(self.authorised(tenant).await)
    }

    pub(crate) async fn lines(&self, tenant: &str) -> LineServiceClient<Authorised> {
        LineServiceClient::new(self.authorised(tenant).await)
    }

    pub(crate) async fn templates(&self, tenant: &str) -> TemplateServiceClient<Authorised> {
        TemplateServiceClient::new(self.authorised(tenant).await)
    }

    /// A line, a template and a draft of this tenant, all ids beginning with `prefix`.
    pub(crate) async fn furnish(&self, tenant: &str, prefix: &str) {
        let line = v1::CreateLineRequest {
            line_id: format!("{prefix}line"),
            pool_id: format!("{prefix}pool"),
            account_id: "shared".to_owned(),
            provider: v1::Provider::Meta.into(),
            sender: Some(sender(&format!("{}", 1_000 + prefix.len()))),
            ceiling_per_second: 80,
            ..v1::CreateLineRequest::default()
        };
        self.lines(tenant).await.create_line(line).await.unwrap();
        let template = template(&format!("{prefix}template"));
        let put = v1::PutTemplateRequest { template: Some(template), ..v1::PutTemplateRequest::default() };
        self.templates(tenant).await.put_template(put).await.unwrap();
        self.campaigns(tenant).await.create_campaign(campaign(prefix, "campaign")).await.unwrap();
    }
}

pub(crate) fn bearer(tenant: &str, scope: &str) -> Bearer {
    let mut claims = claims(NOW);
    claims["tenant"] = tenant.into();
    claims["scope"] = scope.into();
    Bearer(format!("Bearer {}", Issuer::ed25519(1).sign(&claims)).parse().unwrap())
}

pub(crate) fn sender(id: &str) -> v1::SenderIdentity {
    v1::SenderIdentity { identity: Some(v1::sender_identity::Identity::MetaPhoneNumberId(id.to_owned())) }
}

pub(crate) fn template(id: &str) -> v1::Template {
    v1::Template {
        template_id: id.to_owned(),
        kind: v1::TemplateKind::Whatsapp.into(),
        name: "hello".to_owned(),
        language: "en_US".to_owned(),
        body: "Hello {{1}}".to_owned(),
        ..v1::Template::default()
    }
}

pub(crate) fn campaign(prefix: &str, id: &str) -> v1::CreateCampaignRequest {
    v1::CreateCampaignRequest {
        campaign_id: format!("{prefix}{id}"),
        name: "Spring".to_owned(),
        settings: Some(v1::CampaignSettings {
            template_id: format!("{prefix}template"),
            pool_id: format!("{prefix}pool"),
            ..v1::CampaignSettings::default()
        }),
        ..v1::CreateCampaignRequest::default()
    }
}

/// Rows `from..to` as a chunk. The digest is worked out here from the contract's words, not by the server's code.
pub(crate) fn chunk(from: u64, to: u64) -> v1::ImportChunk {
    let rows: Vec<v1::RecipientRow> = (from..to)
        .map(|n| v1::RecipientRow {
            address: Some(v1::recipient_row::Address::Phone(format!("+999{n:09}"))),
            external_id: format!("crm-{n}"),
            body_params: vec!["Ada".to_owned()],
            ..v1::RecipientRow::default()
        })
        .collect();
    let mut sha = Context::new(&SHA256);
    for n in from..to {
        for text in [format!("+999{n:09}"), String::new(), String::new(), format!("crm-{n}")] {
            sha.update(&(text.len() as u32).to_le_bytes());
            sha.update(text.as_bytes());
        }
        sha.update(&[0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        sha.update(b"Ada");
        sha.update(&[0; 8]);
    }
    v1::ImportChunk { row_offset: from, rows, sha256: sha.finish().as_ref().to_vec().into() }
}

pub(crate) fn header(campaign: &str, import: &str) -> v1::ImportRecipientsRequest {
    let header = v1::ImportHeader { campaign_id: campaign.to_owned(), import_id: import.to_owned() };
    v1::ImportRecipientsRequest { part: Some(v1::import_recipients_request::Part::Header(header)) }
}

pub(crate) fn part(chunk: v1::ImportChunk) -> v1::ImportRecipientsRequest {
    v1::ImportRecipientsRequest { part: Some(v1::import_recipients_request::Part::Chunk(chunk)) }
}
