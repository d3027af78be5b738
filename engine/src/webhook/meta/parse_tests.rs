//! The envelope in all its shapes, and the parser against anything.

use proptest::prelude::*;

use super::*;
use crate::webhook::{OtherKind, Reported, StatusEvent};

/// A body of one change of the field `messages` with these statuses.
fn body(statuses: &str) -> String {
    format!(
        r#"{{"object":"whatsapp_business_account","entry":[{{"id":"100000000000001","changes":[{{"value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"15550001111","phone_number_id":"200000000000002"}},"contacts":[{{"profile":{{"name":"Ada"}},"wa_id":"16505551234"}}],"statuses":[{statuses}]}},"field":"messages"}}]}}]}}"#
    )
}

fn status(n: usize, word: &str) -> String {
    format!(
        r#"{{"id":"wamid.{n}","status":"{word}","timestamp":"1790000000","recipient_id":"16505551234","biz_opaque_callback_data":"AQAAACoAAAAHAAGr-_9876543210","pricing":{{"billable":true}}}}"#
    )
}

fn one_status(json: &str) -> StatusEvent {
    let events = parse(body(json).as_bytes());
    let [Event::Status(status)] = events.as_slice() else { panic!("one status, got {events:?}") };
    status.clone()
}

fn kinds(events: &[Event]) -> (usize, usize, usize) {
    events.iter().fold((0, 0, 0), |(statuses, others, bad), event| match event {
        Event::Status(_) => (statuses + 1, others, bad),
        Event::Other(_) => (statuses, others + 1, bad),
        Event::Bad(_) => (statuses, others, bad + 1),
    })
}

#[test]
fn a_status_carries_what_the_webhook_says() {
    let event = one_status(&status(1, "read"));
    assert_eq!(event.stage, Reported::Read);
    assert_eq!(&*event.provider_id, "wamid.1");
    assert_eq!(event.provider_at, Some(1_790_000_000));
    assert_eq!(event.recipient, Some(16_505_551_234));
    assert_eq!(event.line.sender.as_deref(), Some("200000000000002"));
    assert_eq!(event.correlation.expect("of our shape").as_str(), "AQAAACoAAAAHAAGr-_9876543210");
}

#[test]
fn every_status_word_has_its_stage() {
    for (word, want) in [
        ("sent", Reported::Sent),
        ("delivered", Reported::Delivered),
        ("read", Reported::Read),
        ("played", Reported::Read),
        ("failed", Reported::Failed),
    ] {
        assert_eq!(one_status(&status(1, word)).stage, want, "{word}");
    }
}

#[test]
fn a_failure_keeps_code_and_texts() {
    let event = one_status(
        r#"{"id":"wamid.B","status":"failed","timestamp":1790000003,"errors":[{"code":131049,"title":"t\/1","message":"m","error_data":{"details":"d\u00e4"},"href":"x"},{"code":1}]}"#,
    );
    assert_eq!(event.provider_at, Some(1_790_000_003), "a number is as good as a string");
    let failure = event.failure.expect("it has an error");
    assert_eq!(
        (failure.code, &*failure.title, &*failure.message, &*failure.details),
        (Some(131_049), "t/1", "m", "dä")
    );
    assert_eq!((event.correlation, event.recipient), (None, None));
}

#[test]
fn odd_members_do_not_cost_the_status() {
    for odd in [
        r#"{"id":"w","status":"failed","timestamp":{"at":1}}"#,
        r#"{"id":"w","status":"failed","errors":"none"}"#,
        r#"{"id":"w","status":"failed","errors":null}"#,
        r#"{"id":"w","status":"failed","errors":[7,{"code":"5","title":7}]}"#,
        r#"{"id":"w","status":"failed","recipient_id":7,"biz_opaque_callback_data":[]}"#,
        r#"{"id":"w","status":"failed","recipient_id":"120363000000000000@g.us","surprise":{"a":[1,2]}}"#,
        r#"{"id":"w","status":"failed","errors":[{"code":1,"title":"\ud83d alone"}]}"#,
    ] {
        let event = one_status(odd);
        assert_eq!((event.stage, event.provider_at), (Reported::Failed, None), "{odd}");
    }
}

#[test]
fn long_texts_are_cut() {
    let long = "é".repeat(5_000);
    let event = one_status(&format!(r#"{{"id":"w","status":"failed","errors":[{{"code":1,"title":"{long}"}}]}}"#));
    assert_eq!(event.failure.expect("it has an error").title.len(), crate::webhook::event::FAILURE_TEXT_BYTES_MAX);
}

#[test]
fn one_bad_status_among_a_thousand_loses_no_other() {
    for bad in [
        r#"{"status":"sent"}"#,
        r#"{"id":7,"status":"sent"}"#,
        r#"{"id":"","status":"sent"}"#,
        r#"{"id":"w","status":null}"#,
        "7",
        "null",
        r#""text""#,
        "[]",
        r#"{"id":"a","id":"b","status":"sent"}"#,
    ] {
        let mut list: Vec<String> = (0..1_000).map(|n| status(n, "delivered")).collect();
        list[500] = bad.to_owned();
        let events = parse(body(&list.join(",")).as_bytes());
        assert_eq!(kinds(&events), (999, 0, 1), "{bad}");
        let Event::Bad(entry) = &events[500] else { panic!("order is kept") };
        assert_eq!(&*entry.raw, bad);
        assert!(!entry.reason.is_empty());
    }
}

#[test]
fn a_broken_character_costs_only_its_own_text() {
    let mut bytes = body(&[status(1, "sent"), status(2, "sent")].join(",")).into_bytes();
    let at = bytes.windows(3).position(|window| window == b"Ada").expect("the contact's name");
    bytes[at] = 0xff;
    assert_eq!(kinds(&parse(&bytes)), (2, 0, 0));
}

#[test]
fn bad_levels_are_recorded_and_their_neighbours_read() {
    let good =
        r#"{"field":"messages","value":{"metadata":{"phone_number_id":"2"},"statuses":[{"id":"w","status":"sent"}]}}"#;
    let wrap = |entries: &str| format!(r#"{{"object":"whatsapp_business_account","entry":[{entries}]}}"#);
    for (text, want) in [
        (wrap(&format!(r#"7,{{"changes":[{good}]}}"#)), (1, 0, 1)),
        (wrap(&format!(r#"{{"changes":"none"}},{{"changes":[{good}]}}"#)), (1, 0, 1)),
        (wrap(&format!(r#"{{"changes":[{{"field":7}},{good}]}}"#)), (1, 0, 1)),
        (wrap(&format!(r#"{{"changes":[{{"field":"messages","value":[]}},{good}]}}"#)), (1, 0, 1)),
        (wrap(&format!(r#"{{"changes":[{{"field":"messages","value":{{"statuses":{{}}}}}},{good}]}}"#)), (1, 0, 1)),
        (wrap(&format!(r#"{{"changes":[{{"field":"messages","value":{{}}}},{good}]}}"#)), (1, 1, 0)),
        (wrap(&format!(r#"{{"changes":[{}]}}"#, good.replace(r#"{"phone_number_id":"2"}"#, "7"))), (1, 0, 0)),
        (wrap(""), (0, 0, 0)),
        (r#"{"object":"whatsapp_business_account"}"#.to_owned(), (0, 0, 0)),
        (r#"{"object":"page","entry":[]}"#.to_owned(), (0, 1, 0)),
        ("[".to_owned(), (0, 0, 1)),
        (String::new(), (0, 0, 1)),
        ("7".to_owned(), (0, 0, 1)),
    ] {
        assert_eq!(kinds(&parse(text.as_bytes())), want, "{text}");
    }
}

#[test]
fn other_kinds_are_named_and_kept() {
    let text = r#"{"object":"whatsapp_business_account","entry":[{"id":"100","time":1790000600,"changes":[
        {"field":"messages","value":{"metadata":{"phone_number_id":"200"},"messages":[{"from":"16505551234","id":"wamid.IN1","timestamp":"1790000500","type":"text","text":{"body":"STOP"}},7],"errors":[{"code":130429}]}},
        {"field":"messages","value":{"metadata":{"phone_number_id":"200"},"statuses":[{"id":"w","status":"deleted","timestamp":"1"},{"id":"w","status":"sent"}]}},
        {"field":"user_preferences","value":{"metadata":{"phone_number_id":"200"},"user_preferences":[]}},
        {"field":"message_template_status_update","value":{"event":"PAUSED"}},
        {"field":"account_update","value":{"event":"DISABLED_UPDATE"}},
        {"field":"phone_number_quality_update","value":{}},
        {"field":"flows","value":"odd"}
    ]}]}"#;
    let events = parse(text.as_bytes());
    let others: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Other(other) => Some((other.kind, &*other.field)),
            _ => None,
        })
        .collect();
    assert_eq!(
        others,
        [
            (OtherKind::InboundMessage, "messages"),
            (OtherKind::InboundMessage, "messages"),
            (OtherKind::AccountError, "messages"),
            (OtherKind::UnknownStatus, "deleted"),
            (OtherKind::UserPreference, "user_preferences"),
            (OtherKind::Template, "message_template_status_update"),
            (OtherKind::Account, "account_update"),
            (OtherKind::PhoneNumber, "phone_number_quality_update"),
            (OtherKind::Unknown, "flows"),
        ]
    );
    assert_eq!(kinds(&events), (1, 9, 0));
    let Event::Other(inbound) = &events[0] else { panic!("the inbound message is first") };
    assert_eq!(inbound.provider_id.as_deref(), Some("wamid.IN1"));
    assert_eq!(inbound.provider_at, Some(1_790_000_500));
    assert_eq!((inbound.owner.as_deref(), inbound.line.sender.as_deref()), (Some("100"), Some("200")));
    assert!(inbound.raw.contains("STOP") && inbound.raw.starts_with('{'));
}

#[test]
fn a_raw_text_beyond_the_bound_is_bad_not_kept() {
    let text = format!(r#"{{"object":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(kinds(&parse(text.as_bytes())), (0, 0, 1));
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
    }

    /// A real body with a few bytes changed: close enough to JSON to get deep.
    #[test]
    fn reading_a_damaged_body_never_panics(
        changes in proptest::collection::vec((0usize..2_000, any::<u8>()), 1..8),
        cut in 0usize..2_000,
    ) {
        let mut bytes = body(&[status(1, "sent"), status(2, "failed"), status(3, "odd")].join(",")).into_bytes();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = parse(&bytes);
        bytes.truncate(cut);
        let _ = parse(&bytes);
    }

    /// Whatever stands in one element, the others come out, in order.
    #[test]
    fn good_neighbours_always_survive(word in "[a-z]{0,8}", id in "[ -~]{0,300}", at in 0usize..10) {
        let odd = serde_json::json!({ "id": id, "status": word }).to_string();
        let mut list: Vec<String> = (0..10).map(|n| status(n, "sent")).collect();
        list[at] = odd;
        let events = parse(body(&list.join(",")).as_bytes());
        prop_assert_eq!(events.len(), 10);
        for (n, event) in events.iter().enumerate().filter(|(n, _)| *n != at) {
            let Event::Status(status) = event else { panic!("a good status was lost") };
            prop_assert_eq!(status.provider_id.to_string(), format!("wamid.{n}"));
        }
    }
}
