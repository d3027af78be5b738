//! A server with answers made up: just enough of the contract to see what the commands ask and how they show what they get.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use sluice_proto::v1::{
    self, admin_service_server::AdminServiceServer, campaign_service_server::CampaignServiceServer,
    import_service_server::ImportServiceServer, line_service_server::LineServiceServer,
    message_service_server::MessageServiceServer, template_service_server::TemplateServiceServer,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Status};

/// What the fake knows and what it was asked.
#[derive(Default)]
pub(super) struct World {
    pub(super) campaigns: BTreeMap<String, v1::Campaign>,
    pub(super) template_columns: Vec<String>,
    pub(super) provider: v1::Provider,
    pub(super) messages: Vec<v1::Message>,
    pub(super) recounts: Vec<v1::Recount>,
    pub(super) nodes: v1::GetNodesResponse,
    /// Answers of `WatchCampaign`, one list for each stream that is opened; `Err` breaks the stream.
    pub(super) watches: VecDeque<Vec<Result<v1::WatchCampaignResponse, Status>>>,
    /// Whether a watch whose list is at its end stays open.
    pub(super) watch_stays_open: bool,
    /// Batches of `ExportMessages`, in the same way.
    pub(super) exports: VecDeque<Vec<Result<v1::ExportMessagesResponse, Status>>>,
    pub(super) import: Imported,
    /// The error that the next calls get.
    pub(super) failing: Option<Status>,
    /// Every request: the RPC and the message in words.
    pub(super) asked: Vec<(&'static str, String)>,
    /// The `authorization` header of the last request.
    pub(super) authorization: Option<String>,
}

/// One import, and how it is to go wrong.
#[derive(Default)]
pub(super) struct Imported {
    pub(super) rows: Vec<v1::RecipientRow>,
    pub(super) chunks: Vec<(u64, usize)>,
    pub(super) refused: Vec<v1::RefusedRow>,
    pub(super) chunk_rows_max: u32,
    /// Break the stream after this many chunks, once.
    pub(super) break_after: Option<usize>,
    /// Hang once more rows than this are held.
    pub(super) stall_at: Option<u64>,
}

impl World {
    pub(super) fn campaign(&mut self, id: &str, state: v1::CampaignState) -> &mut v1::Campaign {
        let campaign = v1::Campaign {
            campaign_id: id.to_owned(),
            name: format!("The {id} campaign"),
            state: state as i32,
            settings: Some(v1::CampaignSettings {
                template_id: "hello".into(),
                pool_id: "eu".into(),
                ..v1::CampaignSettings::default()
            }),
            stats: Some(v1::CampaignStats { tally: Some(v1::Tally::default()), ..v1::CampaignStats::default() }),
            ..v1::Campaign::default()
        };
        self.campaigns.entry(id.to_owned()).or_insert(campaign)
    }
}

/// A fake server on a port of its own; it ends with the runtime of its test.
pub(super) struct Fake {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) address: String,
}

/// The services' side of it.
#[derive(Clone)]
pub(super) struct Service(pub(super) Arc<Mutex<World>>);

impl Service {
    /// Notes a request, and fails it when it is to fail.
    pub(super) fn asked<T: std::fmt::Debug>(&self, rpc: &'static str, request: &Request<T>) -> Result<(), Status> {
        let mut world = self.0.lock();
        world.authorization =
            request.metadata().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        world.asked.push((rpc, format!("{:?}", request.get_ref())));
        world.failing.clone().map_or(Ok(()), Err)
    }

    pub(super) fn found(&self, id: &str) -> Result<v1::Campaign, Status> {
        self.0
            .lock()
            .campaigns
            .get(id)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("there is no campaign `{id}`")))
    }
}

impl Fake {
    pub(super) async fn start(fill: impl FnOnce(&mut World)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let mut world = World { provider: v1::Provider::Meta, ..World::default() };
        world.import.chunk_rows_max = 10_000;
        fill(&mut world);
        let world = Arc::new(Mutex::new(world));
        let service = Service(world.clone());
        let router = Server::builder()
            .add_service(AdminServiceServer::new(service.clone()))
            .add_service(CampaignServiceServer::new(service.clone()))
            .add_service(ImportServiceServer::new(service.clone()))
            .add_service(LineServiceServer::new(service.clone()))
            .add_service(MessageServiceServer::new(service.clone()))
            .add_service(TemplateServiceServer::new(service));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { world, address }
    }

    /// What was asked of one RPC.
    pub(super) fn asked(&self, rpc: &str) -> Vec<String> {
        self.world.lock().asked.iter().filter(|(name, _)| *name == rpc).map(|(_, message)| message.clone()).collect()
    }
}
