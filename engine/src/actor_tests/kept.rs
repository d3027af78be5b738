//! Webhook entries that move no message are counted and kept, with what says whose they are.

use super::house::{ACCOUNT, House};
use super::together;
use crate::store::embedded::LEDGER_FILE;
use crate::webhook::{BadEntry, Event, LineIdentity, OtherEvent, OtherKind};

fn other(kind: OtherKind, field: &str, number: &str, id: &str) -> Event {
    Event::Other(Box::new(OtherEvent {
        kind,
        field: field.into(),
        owner: Some("100".into()),
        line: LineIdentity { sender: Some(number.into()), service: None },
        provider_id: Some(id.into()),
        provider_at: Some(1_790_000_500),
        raw: r#"{"text":{"body":"STOP"}}"#.into(),
    }))
}

fn bad(more: u32) -> Event {
    Event::Bad(Box::new(BadEntry { reason: "status: no id".into(), raw: r#"{"status":7}"#.into(), more }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_says_to_whom_it_came_and_why_it_could_not_be_read() {
    let _together = together().await;
    let house = House::with_line(500).await;
    let sink = house.engine.webhook_sink();
    let post = vec![
        other(OtherKind::InboundMessage, "messages", "200", "wamid.1"),
        other(OtherKind::InboundMessage, "messages", "201", "wamid.2"),
        // Two words about one message are two events, the same word again is not.
        other(OtherKind::UnknownStatus, "deleted", "200", "wamid.3"),
        other(OtherKind::UnknownStatus, "warning", "200", "wamid.3"),
        bad(0),
        bad(4_000),
    ];
    for _ in 0..2 {
        sink.accept(&ACCOUNT.into(), post.clone()).await.unwrap();
    }
    let ledger = rusqlite::Connection::open(house.dir.path().join("ledger").join(LEDGER_FILE)).unwrap();
    let mut kept = ledger.prepare("SELECT kind, body FROM inbound ORDER BY id").unwrap();
    let kept = kept.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    let (kinds, bodies): (Vec<String>, Vec<serde_json::Value>) =
        kept.map(Result::unwrap).map(|(kind, body)| (kind, serde_json::from_str(&body).unwrap())).unzip();
    let told: Vec<(&str, &str)> =
        kinds.iter().map(String::as_str).zip(bodies.iter().map(|b| b["sender"].as_str().unwrap_or_default())).collect();
    assert_eq!(
        told,
        [
            ("inbound_message", "200"),
            ("inbound_message", "201"),
            ("unknown_status", "200"),
            ("unknown_status", "200"),
            ("bad", ""),
            ("bad", ""),
            ("bad", ""),
            ("bad", "")
        ]
    );
    assert_eq!(
        (bodies[0]["raw"].as_str(), bodies[0]["owner"].as_str()),
        (Some(r#"{"text":{"body":"STOP"}}"#), Some("100"))
    );
    assert_eq!((bodies[2]["field"].as_str(), bodies[3]["field"].as_str()), (Some("deleted"), Some("warning")));
    assert_eq!(
        (bodies[4]["reason"].as_str(), bodies[4]["raw"].as_str()),
        (Some("status: no id"), Some(r#"{"status":7}"#))
    );
    house.close().await;
}
