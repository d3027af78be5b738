//! Calls whose answer does not come: nodes that freeze, die, or lose a connection after they did what was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_engine::domain::ids::{CampaignId, CampaignKey, LineId, MessageKey, PoolId, TenantId};
use sluice_engine::domain::message::Event;
use sluice_engine::domain::stage::Shown;
use sluice_engine::domain::time::UnixMillis;
use sluice_engine::nodes::protocol::PROTOCOL;
use sluice_engine::nodes::{Directory, Peer, Whereabouts};
use sluice_engine::store::{Entry, StoreResult};
use sluice_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Code;

use super::house::{House, Owners, limits, secret};
use crate::auth::{Principal, Scope};
use crate::grpc::tests::bench;
use crate::nodes::peers::{Peers, Unanswered};
use crate::nodes::{Nodes, Parts};

/// A way to `to` whose first connection brings everything there and nothing back, until `cut`; the following ones are whole.
async fn one_way_first(to: SocketAddr, cut: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        // The halves that bring nothing stay: an end of the stream there would be an answer of a kind, and might come before the question.
        let ((mut from, back), (answers, mut on)) =
            (first.into_split(), TcpStream::connect(to).await.unwrap().into_split());
        tokio::select! {
            _ = copy(&mut from, &mut on) => {}
            () = cut.notified() => {}
        }
        drop((from, back, answers, on));
        while let Ok((mut next, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut on = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut next, &mut on).await;
            });
        }
    });
    address
}

/// The owner makes the campaign, and its answer is lost. Nobody gave a `request_id`.
#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_made_once() {
    let (house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    let cut = Arc::new(Notify::new());
    house.enrol("a", one_way_first(a.inside, Arc::clone(&cut)).await);
    let mut client = b.campaigns().await;
    let mut create = bench::campaign("a-", "");
    create.campaign_id = String::new();
    let call = tokio::spawn(async move { client.create_campaign(create).await });
    let tenant = TenantId::new("acme").unwrap();
    let count = || async {
        let totals = house.store.tenant_totals(&tenant).await.unwrap();
        totals.campaigns.values().sum::<u64>()
    };
    while count().await < 2 {
        tokio::task::yield_now().await;
    }
    cut.notify_one();
    let made = call.await.unwrap().unwrap().into_inner().campaign.unwrap();
    assert_eq!(count().await, 2, "the one of before, and this one");
    assert!(house.store.campaign(&tenant, &CampaignId::new(&made.campaign_id).unwrap()).await.is_ok());
}

/// The owner decides, sends again, and what it sent is in doubt, before it is known that its answer is lost. Once more the decision would send
/// it a third time.
#[tokio::test]
async fn a_decision_whose_answer_is_lost_is_not_taken_twice() {
    let (house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    let start = v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    a.campaigns().await.start_campaign(start).await.unwrap();
    let (tenant, id) = (TenantId::new("acme").unwrap(), CampaignId::new("a-campaign").unwrap());
    let key = MessageKey { campaign: house.store.campaign(&tenant, &id).await.unwrap().key, seq: 0 };
    let line = house.store.line(&tenant, &LineId::new("a-line").unwrap()).await.unwrap().key;
    let at = UnixMillis(bench::NOW * 1_000);
    let in_doubt = async |attempt| {
        let events = [Event::Intent { attempt, line, at }, Event::Doubt { attempt, at, due_at: at }];
        house.store.commit(events.map(|event| Entry { key, event }).to_vec()).await.unwrap();
    };
    in_doubt(1).await;
    let cut = Arc::new(Notify::new());
    house.enrol("a", one_way_first(a.inside, Arc::clone(&cut)).await);
    let mut client = b.messages().await;
    let decision = v1::ResolveMessagesRequest {
        campaign_id: "a-campaign".to_owned(),
        by: Some(v1::resolve_messages_request::By::Seqs(v1::MessageSeqs { seqs: vec![0] })),
        resolution: v1::Resolution::SendAgain.into(),
    };
    let call = tokio::spawn(async move { client.resolve_messages(decision).await });
    let shown = async || house.store.message(key).await.unwrap().shown;
    while shown().await != Shown::Pending {
        tokio::task::yield_now().await;
    }
    in_doubt(2).await;
    cut.notify_one();
    let told = call.await.unwrap().unwrap_err();
    assert_eq!(told.code(), Code::Aborted, "{told:?}");
    assert_eq!(shown().await, Shown::InDoubt);
}

/// Says one after the other where everything is; at the end: here.
struct Turns(Mutex<Vec<Whereabouts>>);

impl Turns {
    fn next(&self) -> Whereabouts {
        self.0.lock().pop().unwrap_or(Whereabouts::Here)
    }
}

#[async_trait]
impl Directory for Turns {
    fn of_pool(&self, _: &TenantId, _: &PoolId) -> Whereabouts {
        self.next()
    }
    async fn of_campaign(&self, _: &TenantId, _: &CampaignId) -> StoreResult<Whereabouts> {
        Ok(self.next())
    }
    async fn of_campaign_key(&self, _: CampaignKey) -> StoreResult<Whereabouts> {
        Ok(self.next())
    }
    async fn of_line(&self, _: &TenantId, _: &LineId) -> StoreResult<Whereabouts> {
        Ok(self.next())
    }
    fn alive(&self) -> Vec<Peer> {
        Vec::new()
    }
    fn epoch(&self) -> u64 {
        1
    }
}

/// The pool goes while its record is changed: whoever has it next may have read the record before, and is asked, too.
#[tokio::test]
async fn what_went_while_it_was_changed_is_changed_where_it_is() {
    use Whereabouts::{Here, Nobody};
    let caller = Principal {
        tenant: TenantId::new("acme").unwrap(),
        subject: "ada".into(),
        scopes: [Scope::Send].into_iter().collect(),
    };
    for (turns, expected) in [(vec![], 1), (vec![Nobody, Here], 2)] {
        let nodes = Nodes::new(Parts {
            name: "a".to_owned(),
            protocol: PROTOCOL,
            directory: Arc::new(Turns(Mutex::new(turns))),
            secret: secret('s'),
            tls: None,
            limits: limits(),
        });
        let count = AtomicU32::new(0);
        let asked = &count;
        let here = || async move {
            asked.fetch_add(1, SeqCst);
            Ok(v1::PauseCampaignResponse::default())
        };
        let request = v1::PauseCampaignRequest { campaign_id: "c".to_owned(), ..Default::default() };
        let deadline = Instant::now() + Duration::from_secs(60);
        let path = "/sluice.v1.CampaignService/PauseCampaign";
        let _: v1::PauseCampaignResponse = nodes.at_owner(path, &caller, deadline, &request, here).await.unwrap();
        assert_eq!(asked.load(SeqCst), expected);
    }
}

/// An advertised address that nobody reaches is named, so that whoever reads the line knows where to look.
#[tokio::test]
async fn an_address_that_nobody_reaches_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let house = House::new();
    let directory = Arc::new(house.directory("b", Owners::default()));
    let peers = Peers::new("b".to_owned(), PROTOCOL, directory, secret('s'), None);
    for address in [address.to_string(), "no-such-host.invalid:1".to_owned()] {
        let peer = Peer { name: "a".to_owned(), address: address.clone(), epoch: 1, protocol: PROTOCOL };
        let asked = peers.ask(&peer, "/any", None, b"", tonic::body::Body::empty(), None).await;
        let Err(Unanswered::Unreached(told)) = asked else { panic!("nobody is there") };
        assert!(told.contains(&format!("a cannot be reached at {address}")), "{told}");
    }
}

/// A node that accepts and never says a word: somebody else takes over, and the call goes there.
#[tokio::test]
async fn a_frozen_owner_is_not_waited_for_once_another_has_taken_over() {
    let (house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    house.enrol("a", frozen.local_addr().unwrap());
    let mut client = b.campaigns().await;
    let start = v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let call = tokio::spawn(async move { client.start_campaign(start).await });
    // The call is on its way there.
    let (mut asked, _) = frozen.accept().await.unwrap();
    asked.read_u8().await.unwrap();
    b.sees("a-pool", "b");
    call.await.unwrap().unwrap();
    assert_eq!(b.told(), ["campaign a-campaign running"]);
    asked.shutdown().await.unwrap();
}

/// A node that is gone: its address refuses connections until somebody else owns the pool.
#[tokio::test]
async fn a_dead_owner_is_asked_again_until_another_has_taken_over() {
    let (house, a, b) = House::with_two().await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    a.fill("a-").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    house.enrol("a", gone.local_addr().unwrap());
    drop(gone);
    let mut client = b.campaigns().await;
    let start = v1::StartCampaignRequest { campaign_id: "a-campaign".to_owned(), ..Default::default() };
    let call = tokio::spawn(async move { client.start_campaign(start).await });
    while !call.is_finished() {
        tokio::task::yield_now().await;
        b.sees("a-pool", "b");
    }
    call.await.unwrap().unwrap();
    assert_eq!(b.told(), ["campaign a-campaign running"]);
}
