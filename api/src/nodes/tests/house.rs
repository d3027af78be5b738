//! Nodes over one ledger, each with its own façade, listeners and view of who owns what.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_engine::control::{Account, Control, Defaults, LineStatus, Parts, Progress, Runtime, Tenants};
use sluice_engine::domain::campaign::Campaign;
use sluice_engine::domain::ids::{AccountId, CampaignId, CampaignKey, LineId, LineKey, PoolId, TenantId};
use sluice_engine::domain::line::{Line, ProviderKind};
use sluice_engine::domain::time::{Clock, UnixMillis};
use sluice_engine::nodes::protocol::PROTOCOL;
use sluice_engine::nodes::{Directory, Peer, Whereabouts};
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::{Entry, EntryResult, Store, StoreResult};
use sluice_engine::webhook::{Event, SinkError, StatusEvent, WebhookSink};
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::import_service_client::ImportServiceClient;
use sluice_proto::v1::line_service_client::LineServiceClient;
use sluice_proto::v1::message_service_client::MessageServiceClient;
use sluice_proto::v1::template_service_client::TemplateServiceClient;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::auth::testing::Issuer;
use crate::config::TlsFiles;
use crate::grpc::tests::bench::{self, Authorised, NOW};
use crate::grpc::{self, GrpcParts, GrpcServer, ServerInfo};
use crate::nodes::events::EventRouter;
use crate::nodes::proof::{NodeSecret, SECRET_BYTES_MIN};
use crate::nodes::{self, Limits, Nodes};

/// What the façade of a node told its actors, e.g. `campaign a-campaign`.
pub(super) type Told = Arc<Mutex<Vec<String>>>;

struct Recorder {
    store: Arc<dyn Store>,
    told: Told,
}

#[async_trait]
impl Runtime for Recorder {
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>> {
        Ok(self.store.commit(entries).await?.results)
    }
    fn shut_gate(&self, _: CampaignKey) -> Box<dyn Send> {
        Box::new(())
    }
    fn in_flight(&self, _: CampaignKey) -> u64 {
        0
    }
    async fn campaign_changed(&self, campaign: &Campaign) {
        self.told.lock().push(format!("campaign {} {}", campaign.id, campaign.state.name()));
    }
    async fn campaign_removed(&self, _: CampaignKey) {}
    async fn line_changed(&self, line: &Line) {
        self.told.lock().push(format!("line {}", line.id));
    }
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

/// An engine's side of webhooks: notes what it is given and answers as it is told to.
#[derive(Default)]
pub(super) struct Engine {
    /// `applied` or `set aside`, account, provider id.
    pub(super) took: Mutex<Vec<(&'static str, String, String)>>,
    /// What is answered instead; none: it is durable.
    pub(super) refuses: Mutex<Option<SinkError>>,
}

impl Engine {
    pub(super) fn took(&self) -> Vec<(&'static str, String, String)> {
        std::mem::take(&mut *self.took.lock())
    }
}

#[async_trait]
impl WebhookSink for Engine {
    async fn accept(&self, account: &Arc<str>, events: Vec<Event>) -> Result<(), SinkError> {
        // What names no campaign is nobody else's.
        let names_one = events.iter().any(|event| matches!(event, Event::Status(_)));
        if let Some(error) = self.refuses.lock().filter(|error| names_one || *error != SinkError::Elsewhere) {
            return Err(error);
        }
        let mut took = self.took.lock();
        for event in events {
            let id = match event {
                Event::Status(status) => status.provider_id.to_string(),
                Event::Other(_) | Event::Bad(_) => "other".to_owned(),
            };
            took.push(("applied", account.to_string(), id));
        }
        Ok(())
    }

    async fn set_aside(&self, account: &Arc<str>, events: Vec<StatusEvent>) -> Result<(), SinkError> {
        let aside = |status: StatusEvent| ("set aside", account.to_string(), status.provider_id.to_string());
        self.took.lock().extend(events.into_iter().map(aside));
        Ok(())
    }
}

/// What nobody in the roll is called.
pub(super) const NOBODY: &str = "nobody";

/// Who owns which pool; pools that are not named are new, so whoever is asked has them.
pub(super) type Owners = Arc<Mutex<BTreeMap<String, String>>>;
/// The nodes by name.
pub(super) type Roll = Arc<Mutex<HashMap<String, Peer>>>;

pub(super) struct FakeDirectory {
    pub(super) me: String,
    pub(super) owners: Owners,
    pub(super) roll: Roll,
    store: Arc<dyn Store>,
}

impl FakeDirectory {
    fn of(&self, pool: &PoolId) -> Whereabouts {
        let owners = self.owners.lock();
        match owners.get(pool.as_str()) {
            None => Whereabouts::Here,
            Some(owner) if *owner == self.me => Whereabouts::Here,
            Some(owner) => self.roll.lock().get(owner).cloned().map_or(Whereabouts::Nobody, Whereabouts::There),
        }
    }
}

#[async_trait]
impl Directory for FakeDirectory {
    fn of_pool(&self, _: &TenantId, pool: &PoolId) -> Whereabouts {
        self.of(pool)
    }
    async fn of_campaign(&self, tenant: &TenantId, id: &CampaignId) -> StoreResult<Whereabouts> {
        Ok(self.of(&self.store.campaign(tenant, id).await?.pool))
    }
    async fn of_campaign_key(&self, key: CampaignKey) -> StoreResult<Whereabouts> {
        Ok(self.of(&self.store.campaign_by_key(key).await?.pool))
    }
    async fn of_line(&self, tenant: &TenantId, id: &LineId) -> StoreResult<Whereabouts> {
        Ok(self.of(&self.store.line(tenant, id).await?.pool))
    }
    fn alive(&self) -> Vec<Peer> {
        self.roll.lock().values().cloned().collect()
    }
    fn epoch(&self) -> u64 {
        self.roll.lock().get(&self.me).map_or(0, |me| me.epoch)
    }
}

/// The ledger that the nodes share.
pub(super) struct House {
    pub(super) store: Arc<dyn Store>,
    pub(super) roll: Roll,
    /// How long an owner of events is looked for: long, where a test is not about its end.
    pub(super) wait: Duration,
    _dir: tempfile::TempDir,
}

pub(super) struct Node {
    pub(super) told: Told,
    pub(super) public: SocketAddr,
    pub(super) inside: SocketAddr,
    pub(super) engine: Arc<Engine>,
    /// Where its webhook listener hands events.
    pub(super) sink: EventRouter,
    /// This node's own view.
    pub(super) owners: Owners,
    _ends: [DropGuard; 2],
}

pub(super) fn secret(fill: char) -> NodeSecret {
    NodeSecret::new(&String::from(fill).repeat(SECRET_BYTES_MIN)).unwrap()
}

impl House {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = EmbeddedConfig { synced: false, ..EmbeddedConfig::new(dir.path().join("ledger")) };
        let store: Arc<dyn Store> = EmbeddedStore::open(config, clock()).unwrap();
        Self { store, roll: Roll::default(), wait: Duration::from_secs(60), _dir: dir }
    }

    /// One whose nodes soon set events aside.
    pub(super) fn hasty() -> Self {
        Self { wait: Duration::from_millis(50), ..Self::new() }
    }

    /// Two nodes that see the same owners.
    pub(super) async fn with_two() -> (Self, Node, Node) {
        Self::new().and_two().await
    }

    /// Two nodes with a view of their own each; both see that `a-pool` is the first one's.
    pub(super) async fn with_two_apart() -> (Self, Node, Node) {
        let house = Self::new();
        let a = house.node("a", 's', Owners::default()).await;
        let b = house.node("b", 's', Owners::default()).await;
        a.sees("a-pool", "a");
        b.sees("a-pool", "a");
        (house, a, b)
    }

    pub(super) async fn and_two(self) -> (Self, Node, Node) {
        let house = self;
        let owners = Owners::default();
        let a = house.node("a", 's', Arc::clone(&owners)).await;
        let b = house.node("b", 's', owners).await;
        (house, a, b)
    }

    /// A node with this name and secret, whose directory says `owners`.
    pub(super) async fn node(&self, name: &str, fill: char, owners: Owners) -> Node {
        self.node_over(name, fill, owners, None).await
    }

    /// The same, speaking TLS with the test certificate to nodes whose certificate this authority signed (PEM).
    pub(super) async fn node_over(&self, name: &str, fill: char, owners: Owners, trusts: Option<&str>) -> Node {
        self.node_of(PROTOCOL, name, fill, owners, trusts).await
    }

    /// What a node with this name sees.
    pub(super) fn directory(&self, name: &str, owners: Owners) -> FakeDirectory {
        let (roll, store) = (Arc::clone(&self.roll), Arc::clone(&self.store));
        FakeDirectory { me: name.to_owned(), owners, roll, store }
    }

    /// Nodes of versions that speak these protocols, which see the same owners.
    pub(super) async fn and_of<const N: usize>(&self, nodes: [(&str, u32); N]) -> [Node; N] {
        let owners = Owners::default();
        let nodes = nodes.map(|(name, protocol)| self.node_of(protocol, name, 's', Arc::clone(&owners), None));
        futures_util::future::join_all(nodes).await.try_into().unwrap_or_else(|_| panic!("as many"))
    }

    async fn node_of(&self, protocol: u32, name: &str, fill: char, owners: Owners, trusts: Option<&str>) -> Node {
        // As the binary does at its start.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = Arc::clone(&self.store);
        let told = Told::default();
        let account =
            Account { id: AccountId::new("shared").unwrap(), kinds: vec![ProviderKind::Meta], tenants: Tenants::All };
        let control = Control::new(Parts {
            store: Arc::clone(&store),
            runtime: Arc::new(Recorder { store: Arc::clone(&store), told: Arc::clone(&told) }),
            accounts: [account].into_iter().collect(),
            clock: clock(),
            backup_dir: None,
            installation_secret: store.installation_secret().await.unwrap(),
            defaults: Defaults::default(),
        })
        .unwrap();
        let nodes = Nodes::new(nodes::Parts {
            name: name.to_owned(),
            protocol,
            directory: Arc::new(self.directory(name, Arc::clone(&owners))),
            secret: secret(fill),
            tls: trusts.map(|ca| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca))),
            limits: limits(),
        });
        let engine = Arc::new(Engine::default());
        let installation = self.store.installation_secret().await.unwrap();
        let sink =
            EventRouter::new(Arc::clone(&engine) as Arc<dyn WebhookSink>, Arc::clone(&nodes), installation, self.wait);
        let [public, inside] =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let addresses = [public.local_addr().unwrap(), inside.local_addr().unwrap()];
        self.enrol(name, addresses[1]);
        self.roll.lock().entry(name.to_owned()).and_modify(|peer| peer.protocol = protocol);
        let (shutdown, stop) = (CancellationToken::new(), CancellationToken::new());
        let info = ServerInfo { version: "0.0.0", node_id: name.to_owned(), store_kind: "sqlite", schema_version: 1 };
        let server = Arc::new(GrpcServer::new(GrpcParts {
            control,
            verifier: Arc::new(Issuer::ed25519(1).verifier()),
            clock: clock(),
            limits: bench::limits(),
            info,
            tls: None,
            traces: None,
            nodes: Some(nodes),
            shutdown: shutdown.clone(),
        }));
        tokio::spawn({
            let server = Arc::clone(&server);
            async move { server.serve(public).await }
        });
        let (stopped, own) = (stop.clone(), Arc::clone(&engine));
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        let files = TlsFiles { cert_file: data.join("tls-cert.pem"), key_file: data.join("tls-key.pem") };
        let tls = trusts.map(|_| grpc::tls_config(&files).unwrap());
        tokio::spawn(async move { server.serve_nodes(inside, own, tls, stopped).await });
        let ends = [shutdown.drop_guard(), stop.drop_guard()];
        Node { told, public: addresses[0], inside: addresses[1], engine, sink, owners, _ends: ends }
    }

    /// Puts a node's inside address into the roll, under a new epoch.
    pub(super) fn enrol(&self, name: &str, inside: SocketAddr) {
        let mut roll = self.roll.lock();
        let (epoch, protocol) = roll.get(name).map_or((1, PROTOCOL), |peer| (peer.epoch + 1, peer.protocol));
        roll.insert(name.to_owned(), Peer { name: name.to_owned(), address: inside.to_string(), epoch, protocol });
    }
}

fn clock() -> Clock {
    Clock::with_wall(|| UnixMillis(NOW * 1_000))
}

pub(super) fn limits() -> Limits {
    Limits {
        message_bytes_max: bench::limits().message_bytes_max,
        call_times: bench::limits().call_times,
        idle: Duration::from_secs(30),
        streams_max: 2,
    }
}

impl Node {
    pub(super) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.public)).unwrap().connect().await.unwrap()
    }

    pub(super) async fn authorised(&self) -> Authorised {
        InterceptedService::new(self.channel().await, bench::bearer("acme", "read send admin"))
    }

    pub(super) async fn campaigns(&self) -> CampaignServiceClient<Authorised> {
        CampaignServiceClient::new(self.authorised().await)
    }

    pub(super) async fn imports(&self) -> ImportServiceClient<Authorised> {
        ImportServiceClient::new(self.authorised().await)
    }

    pub(super) async fn messages(&self) -> MessageServiceClient<Authorised> {
        MessageServiceClient::new(self.authorised().await)
    }

    pub(super) async fn lines(&self) -> LineServiceClient<Authorised> {
        LineServiceClient::new(self.authorised().await)
    }

    /// Makes this node's view: `pool` is owned by `owner`.
    pub(super) fn sees(&self, pool: &str, owner: &str) {
        self.owners.lock().insert(pool.to_owned(), owner.to_owned());
    }

    /// What this node's actors were told since the last time.
    pub(super) fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock())
    }

    /// A line in the pool `{prefix}pool`, a template, and a draft `{prefix}campaign`, asked for here.
    pub(super) async fn furnish(&self, prefix: &str) {
        let line = v1::CreateLineRequest {
            line_id: format!("{prefix}line"),
            pool_id: format!("{prefix}pool"),
            account_id: "shared".to_owned(),
            provider: v1::Provider::Meta.into(),
            sender: Some(bench::sender(&format!("{}", 1_000 + u32::from(prefix.as_bytes()[0])))),
            ceiling_per_second: 80,
            ..v1::CreateLineRequest::default()
        };
        self.lines().await.create_line(line).await.unwrap();
        let template = bench::template(&format!("{prefix}template"));
        let put = v1::PutTemplateRequest { template: Some(template), ..v1::PutTemplateRequest::default() };
        TemplateServiceClient::new(self.authorised().await).put_template(put).await.unwrap();
        self.campaigns().await.create_campaign(bench::campaign(prefix, "campaign")).await.unwrap();
    }

    /// Ten recipients for `{prefix}campaign`, imported here; what the last answer acknowledges.
    pub(super) async fn fill(&self, prefix: &str) -> u64 {
        let campaign = format!("{prefix}campaign");
        let parts = [bench::header(&campaign, "i"), bench::part(bench::chunk(0, 10))];
        let answers = self.imports().await.import_recipients(futures_util::stream::iter(parts)).await.unwrap();
        let mut answers = answers.into_inner();
        let mut acked = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            if let Some(v1::import_recipients_response::Part::Ack(ack)) = answer.part {
                acked = ack.acked_rows;
            }
        }
        acked
    }
}
