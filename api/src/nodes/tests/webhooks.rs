//! Events of webhooks: applied by the owner of their campaign, set aside where there is none.

use std::sync::Arc;

use sluice_engine::domain::correlation::CorrelationKey;
use sluice_engine::domain::ids::{CampaignId, TenantId};
use sluice_engine::webhook::{
    CorrelationText, Event, LineIdentity, OtherEvent, OtherKind, Reported, SinkError, StatusEvent, WebhookSink as _,
};
use tokio::net::TcpListener;

use super::house::{House, NOBODY, Node, Owners};

impl House {
    /// A status of a message of `{prefix}campaign`, with this provider id.
    pub(super) async fn status(&self, prefix: &str, provider_id: &str) -> Event {
        let id = CampaignId::new(&format!("{prefix}campaign")).unwrap();
        let campaign = self.store.campaign(&TenantId::new("acme").unwrap(), &id).await.unwrap();
        let key = CorrelationKey::new(self.store.installation_secret().await.unwrap());
        status(CorrelationText::parse(key.encode(campaign.key.0, 7, 1).as_str()), provider_id)
    }
}

fn status(correlation: Option<CorrelationText>, provider_id: &str) -> Event {
    Event::Status(StatusEvent {
        correlation,
        provider_id: provider_id.into(),
        stage: Reported::Delivered,
        provider_at: None,
        failure: None,
        line: LineIdentity::default(),
        recipient: None,
    })
}

fn other() -> Event {
    Event::Other(Box::new(OtherEvent {
        kind: OtherKind::InboundMessage,
        field: "messages".into(),
        owner: None,
        line: LineIdentity::default(),
        provider_id: None,
        provider_at: None,
        raw: "{}".into(),
    }))
}

impl Node {
    pub(super) async fn accept(&self, events: Vec<Event>) -> Result<(), SinkError> {
        self.sink.accept(&Arc::from("main"), events).await
    }

    /// What the engine took since the last time, without the account.
    pub(super) fn took(&self) -> Vec<(&'static str, String)> {
        let took = self.engine.took();
        assert!(took.iter().all(|(_, account, _)| account == "main"), "{took:?}");
        took.into_iter().map(|(how, _, id)| (how, id)).collect()
    }
}

pub(super) fn applied(ids: &[&str]) -> Vec<(&'static str, String)> {
    ids.iter().map(|id| ("applied", (*id).to_owned())).collect()
}

pub(super) fn set_aside(ids: &[&str]) -> Vec<(&'static str, String)> {
    ids.iter().map(|id| ("set aside", (*id).to_owned())).collect()
}

/// A house with campaign `a-` at node a and `b-` at node b.
pub(super) async fn two(house: House) -> (House, Node, Node) {
    let (house, a, b) = house.and_two().await;
    a.sees("a-pool", "a");
    a.sees("b-pool", "b");
    a.furnish("a-").await;
    a.furnish("b-").await;
    (house, a, b)
}

#[tokio::test]
async fn the_events_of_one_webhook_go_each_to_its_owner() {
    let (house, a, b) = two(House::new()).await;
    let stranger = status(None, "stranger");
    let gone = status(CorrelationText::parse("AQAAACoAAAAHAAGr-_9876543210"), "forged");
    let events = vec![
        house.status("a-", "1").await,
        house.status("b-", "2").await,
        stranger,
        house.status("a-", "3").await,
        gone,
        other(),
    ];
    b.accept(events).await.unwrap();
    assert_eq!(a.took(), applied(&["1", "3"]));
    assert_eq!(b.took(), applied(&["2", "stranger", "forged", "other"]), "what is nobody's stays where it came in");
}

#[tokio::test]
async fn many_webhooks_at_once_are_all_applied() {
    let (house, a, b) = two(House::new()).await;
    let mut all = Vec::new();
    for n in 0..200 {
        all.push(house.status("a-", &n.to_string()).await);
    }
    let answers = futures_util::future::join_all(all.into_iter().map(|event| b.accept(vec![event]))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let mut ids: Vec<u32> = a.took().into_iter().map(|(_, id)| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_an_owner_they_are_set_aside_and_the_rest_is_applied() {
    let (house, a, b) = two(House::hasty()).await;
    a.sees("a-pool", NOBODY);
    b.accept(vec![house.status("a-", "1").await, house.status("b-", "2").await]).await.unwrap();
    let mut took = b.took();
    took.sort_unstable();
    assert_eq!(took, [applied(&["2"]), set_aside(&["1"])].concat());
    assert_eq!(a.took(), []);
}

/// The owner takes what it is sent and never answers.
#[tokio::test]
async fn a_frozen_owner_is_not_waited_for() {
    let (house, _a, b) = two(House::hasty()).await;
    let frozen = TcpListener::bind("127.0.0.1:0").await.unwrap();
    house.enrol("a", frozen.local_addr().unwrap());
    b.accept(vec![house.status("a-", "1").await]).await.unwrap();
    assert_eq!(b.took(), set_aside(&["1"]));
}

#[tokio::test]
async fn an_owner_that_is_none_any_more_sends_them_on() {
    let (house, a, b) = House::with_two_apart().await;
    a.furnish("a-").await;
    // The engine of a has lost the pool; b hears of it while it asks.
    *a.engine.refuses.lock() = Some(SinkError::Elsewhere);
    let events = vec![house.status("a-", "1").await];
    let accept = b.accept(events);
    let moves = async {
        tokio::task::yield_now().await;
        b.sees("a-pool", "b");
    };
    let (answer, ()) = tokio::join!(accept, moves);
    answer.unwrap();
    assert_eq!(b.took(), applied(&["1"]));
}

/// This node's own engine has lost the pool, and there is no other.
#[tokio::test]
async fn what_the_own_engine_has_lost_is_set_aside_with_nothing_forgotten() {
    let (house, a, _b) = two(House::hasty()).await;
    *a.engine.refuses.lock() = Some(SinkError::Elsewhere);
    a.accept(vec![house.status("a-", "1").await, other(), house.status("a-", "2").await]).await.unwrap();
    assert_eq!(a.took(), [applied(&["other"]), set_aside(&["1", "2"])].concat());
}

#[tokio::test]
async fn what_the_owner_refuses_is_refused() {
    let (house, a, b) = two(House::new()).await;
    for refusal in [SinkError::Busy, SinkError::StoreDown] {
        *a.engine.refuses.lock() = Some(refusal);
        assert_eq!(b.accept(vec![house.status("a-", "1").await]).await, Err(refusal));
    }
    assert_eq!((a.took(), b.took()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn a_node_with_another_secret_gets_nothing() {
    let house = House::hasty();
    let owners = Owners::default();
    let a = house.node("a", 's', Arc::clone(&owners)).await;
    let b = house.node("b", 't', owners).await;
    a.sees("a-pool", "a");
    a.furnish("a-").await;
    b.accept(vec![house.status("a-", "1").await]).await.unwrap();
    assert_eq!((a.took(), b.took()), (Vec::new(), set_aside(&["1"])));
}
