//! Calls whose answer does not come: nodes that freeze, die, or lose a connection after they did what was asked.

use std::net::SocketAddr;
use std::sync::Arc;

use sluice_engine::domain::ids::{CampaignId, TenantId};
use sluice_engine::nodes::Peer;
use sluice_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::house::House;
use crate::grpc::tests::bench;
use crate::nodes::peers::{Peers, Unanswered};
use crate::nodes::proof::NodeSecret;

/// A way to `to` whose first connection brings everything there and nothing back, until `cut`; the following ones are whole.
async fn one_way_first(to: SocketAddr, cut: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.unwrap();
        let (mut from, mut on) = (first.into_split().0, TcpStream::connect(to).await.unwrap().into_split().1);
        tokio::select! {
            _ = copy(&mut from, &mut on) => {}
            () = cut.notified() => {}
        }
        drop((from, on));
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

/// An advertised address that nobody reaches is named, so that whoever reads the line knows where to look.
#[tokio::test]
async fn an_address_that_nobody_reaches_is_named() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let secret = NodeSecret::new(&"s".repeat(64)).unwrap();
    let peers = Peers::new("b".to_owned(), secret, None);
    for address in [address.to_string(), "no-such-host.invalid:1".to_owned()] {
        let peer = Peer { name: "a".to_owned(), address: address.clone(), epoch: 1 };
        let asked = peers.ask(&peer, Vec::new, "/any", None, tonic::body::Body::empty(), None).await;
        let Err(Unanswered::Lost(told)) = asked else { panic!("nobody is there") };
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
