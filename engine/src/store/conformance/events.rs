//! Events that nobody can place yet, and events for later features.

use std::time::Duration;

use super::*;
use crate::domain::ids::{AccountId, LineKey};
use crate::domain::message::{Event, Reported};
use crate::store::{InboundEvent, Page, ParkedCounts, ParkedEvent, ParkedMove};

fn account(id: &str) -> AccountId {
    AccountId::new(id).unwrap()
}

pub(crate) fn parked(provider_id: &str, what: Reported, look_at: i64) -> ParkedEvent {
    ParkedEvent {
        id: 0,
        account: account("meta-1"),
        sender: Some("100".into()),
        provider_id: provider_id.into(),
        attempt: None,
        event: Event::Report {
            attempt: 0,
            lines: std::sync::Arc::new([]),
            at: at(5_000),
            what,
            provider_at: Some(4),
            provider_id: Some(provider_id.into()),
            failure: (what == Reported::Failed).then(|| failure(1)),
        },
        at: at(5_000),
        look_at: at(look_at),
        deadline: at(60_000),
    }
}

pub(crate) async fn parked_events_wait_move_and_are_counted(factory: &dyn Factory) {
    let store = factory.open();
    let mut named = parked("w4", Reported::Failed, 7_000);
    named.attempt = Some((message(crate::domain::ids::CampaignKey(3), u32::MAX), 2));
    let events = vec![
        parked("w1", Reported::Sent, 8_000),
        parked("w2", Reported::Sent, 6_000),
        parked("w3", Reported::Read, 9_000),
        named.clone(),
    ];
    assert_eq!(store.park(events.clone()).await.unwrap(), 4);
    assert_eq!(store.parked(at(5_999), 9).await.unwrap(), []);
    let due = store.parked(at(8_000), 9).await.unwrap();
    let strip = |event: &ParkedEvent| ParkedEvent { id: 0, ..event.clone() };
    assert_eq!(
        due.iter().map(strip).collect::<Vec<_>>(),
        [events[1].clone(), named, events[0].clone()],
        "earliest first"
    );
    assert_eq!(store.parked(at(8_000), 1).await.unwrap().len(), 1);
    let counts = store.parked_counts(at(9_000)).await.unwrap();
    assert_eq!(counts, ParkedCounts { parked: 4, orphans: 0, oldest: Duration::from_secs(4) });

    let moves = vec![
        (due[0].id, ParkedMove::Placed),
        (due[1].id, ParkedMove::Orphaned),
        (due[2].id, ParkedMove::LookAgain(at(9_500))),
    ];
    store.settle_parked(moves.clone()).await.unwrap();
    store.settle_parked(vec![moves[0], moves[1]]).await.unwrap();
    let left: Vec<_> = store.parked(at(99_000), 9).await.unwrap().iter().map(|e| e.provider_id.clone()).collect();
    assert_eq!(left, ["w3".into(), "w1".into()]);
    let counts = store.parked_counts(at(9_000)).await.unwrap();
    assert_eq!((counts.parked, counts.orphans), (2, 1));

    let all: Vec<_> = store.parked(at(99_000), 9).await.unwrap().iter().map(|e| (e.id, ParkedMove::Orphaned)).collect();
    store.settle_parked(all).await.unwrap();
    let own = [account("meta-1"), account("none")];
    let first = store.orphans(&own, Page { size: 2, after: None }).await.unwrap();
    let rest = store.orphans(&own, Page { size: 2, after: first.next.clone() }).await.unwrap();
    let seen: Vec<_> = first.items.iter().chain(&rest.items).map(|e| e.provider_id.as_ref()).collect();
    assert_eq!((seen, rest.next), (vec!["w1", "w3", "w4"], None), "newest first");
    assert_eq!(rest.items[0].attempt, due[1].attempt);
    assert_eq!(store.orphans(&[account("none")], Page { size: 2, after: None }).await.unwrap().items, []);
}

pub(crate) async fn the_same_event_is_parked_once(factory: &dyn Factory) {
    let store = factory.open();
    let (sent, read) = (parked("w1", Reported::Sent, 6_000), parked("w1", Reported::Read, 6_000));
    assert_eq!(store.park(vec![sent.clone(), sent.clone(), read]).await.unwrap(), 2);
    assert_eq!(store.park(vec![sent.clone()]).await.unwrap(), 0);
    let mut other = sent;
    other.account = account("meta-2");
    assert_eq!(store.park(vec![other]).await.unwrap(), 1);
}

pub(crate) async fn provider_ids_are_found_on_the_accounts_lines(factory: &dyn Factory) {
    let store = factory.open();
    let older = running(&*store, "older", 10).await.key;
    let newer = running(&*store, "newer", 10).await.key;
    let by = |attempt, line| Event::Intent { attempt, line: LineKey(line), at: at(1) };
    all_apply(&*store, older, vec![(0, by(1, 1)), (0, accepted(1, "w-a")), (1, by(1, 2)), (1, accepted(1, "w-b"))])
        .await;
    let resend = Event::DoubtExpired { at: at(9), resend_up_to: Some(5) };
    let first = vec![
        (5, by(1, 1)),
        (5, doubt(1, 9)),
        (5, resend),
        (5, by(2, 3)),
        (5, accepted(2, "w-d")),
        (5, accepted(1, "w-c")),
    ];
    all_apply(&*store, newer, first).await;
    let ids = ["w-a", "w-b", "w-c", "w-d", "none"].map(Box::<str>::from);
    let found = store.find_provider_ids(&[LineKey(1), LineKey(3)], &ids).await.unwrap();
    let expected = [
        ("w-d".into(), message(newer, 5), 2),
        ("w-c".into(), message(newer, 5), 1),
        ("w-a".into(), message(older, 0), 1),
    ];
    assert_eq!(found, expected, "newest campaigns first, older attempts too, no other account's line");
    assert_eq!(store.find_provider_ids(&[], &ids).await.unwrap(), []);
    assert_eq!(store.find_provider_ids(&[LineKey(1)], &[]).await.unwrap(), []);
}

pub(crate) async fn inbound_events_are_kept(factory: &dyn Factory) {
    let store = factory.open();
    let event = |provider_id: &str| InboundEvent {
        account: account("meta-1"),
        kind: "message".into(),
        provider_id: provider_id.into(),
        body: "{\"text\":\"hi\"}".into(),
        at: at(1),
    };
    let four = vec![event("in-1"), event("in-1"), event(""), event("")];
    assert_eq!(store.keep_inbound(four, 100).await.unwrap(), 0);
    assert_eq!(store.keep_inbound(Vec::new(), 100).await.unwrap(), 0);
    // Three are kept; about as many as may be stay, the oldest give way.
    let more = (0..20).map(|number| event(&format!("more-{number}"))).collect();
    let gone = store.keep_inbound(more, 10).await.unwrap();
    assert!((1..=13).contains(&gone), "{gone} of 23 gave way to keep 10");
}
