//! What a verified callback turns into, and the parser against anything.

use proptest::prelude::*;

use super::signature_tests::{OWN_TOKEN, own};
use super::*;
use crate::webhook::{OtherKind, Reported, StatusEvent};

fn own_status(index: usize) -> StatusEvent {
    let events = own()[index].receive(OWN_TOKEN).expect("the signature is right");
    let [Event::Status(status)] = events.as_slice() else { panic!("one status, got {events:?}") };
    status.clone()
}

#[test]
fn statuses_carry_what_the_callback_says() {
    let delivered = own_status(0);
    assert_eq!(delivered.stage, Reported::Delivered);
    assert_eq!(&*delivered.provider_id, "SM00000000000000000000000000000001");
    assert_eq!(delivered.recipient, Some(16_505_551_234));
    assert_eq!(delivered.line.sender.as_deref(), Some("+15550001111"));
    assert_eq!((delivered.correlation, delivered.provider_at, delivered.failure), (None, None, None));

    let undelivered = own_status(1);
    assert_eq!(undelivered.stage, Reported::Failed);
    assert_eq!(undelivered.line.sender.as_deref(), Some("whatsapp:+15550001111"));
    let failure = undelivered.failure.expect("it has an error code");
    assert_eq!((failure.code, &*failure.message), (Some(63_016), "x"));
}

#[test]
fn inbound_messages_are_kept() {
    let events = own()[2].receive(OWN_TOKEN).expect("the signature is right");
    let [Event::Other(inbound)] = events.as_slice() else { panic!("one other, got {events:?}") };
    assert_eq!(inbound.kind, OtherKind::InboundMessage);
    assert_eq!(inbound.line.sender.as_deref(), Some("+15550001111"), "our line is the addressee");
    assert_eq!(inbound.provider_id.as_deref(), Some("SM00000000000000000000000000000003"));
    assert!(inbound.raw.contains("Body=+Stop+%C3%A9+"));
}

fn event(query: &str, body: &str) -> Event {
    parse(query, &Form::parse(body.as_bytes()).expect("few parameters"), body.as_bytes())
}

#[test]
fn every_status_word_has_its_stage() {
    for (word, want) in [
        ("accepted", Reported::Accepted),
        ("scheduled", Reported::Accepted),
        ("queued", Reported::Accepted),
        ("sending", Reported::Accepted),
        ("sent", Reported::Sent),
        ("partially_delivered", Reported::Sent),
        ("delivered", Reported::Delivered),
        ("read", Reported::Read),
        ("failed", Reported::Failed),
        ("undelivered", Reported::Failed),
        ("canceled", Reported::Failed),
    ] {
        let Event::Status(status) = event("", &format!("MessageSid=SM1&MessageStatus={word}")) else {
            panic!("{word}")
        };
        assert_eq!(status.stage, want, "{word}");
    }
    let Event::Other(unknown) = event("", "MessageSid=SM1&MessageStatus=teleported") else { panic!("an unknown word") };
    assert_eq!((unknown.kind, &*unknown.field), (OtherKind::UnknownStatus, "teleported"));
    assert!(matches!(event("", "MessageStatus=sent"), Event::Bad(_)));
    assert!(matches!(event("", ""), Event::Other(_)));
}

#[test]
fn the_correlation_id_comes_from_the_query() {
    let query = "x=1&c=AQAAACoAAAAHAAGr-_9876543210";
    let Event::Status(status) = event(query, "MessageSid=SM1&MessageStatus=sent&MessagingServiceSid=MG1") else {
        panic!()
    };
    assert_eq!(status.correlation.expect("of our shape").as_str(), "AQAAACoAAAAHAAGr-_9876543210");
    assert_eq!((status.line.sender, status.line.service.as_deref()), (None, Some("MG1")));
}

#[test]
fn a_failure_without_code_is_no_failure_text() {
    let Event::Status(status) = event("", "MessageSid=SM1&MessageStatus=failed&ErrorCode=") else { panic!() };
    assert_eq!(status.failure, None);
}

#[test]
fn a_form_of_too_many_parameters_is_refused() {
    let body = "a=1&".repeat(1_001);
    assert!(Form::parse(body.as_bytes()).is_err());
    assert!(Form::parse(&body.as_bytes()[4..]).is_ok());
}

proptest! {
    #[test]
    fn reading_never_panics(query in ".*", body in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(form) = Form::parse(&body) {
            let _ = parse(&query, &form, &body);
        }
        let _ = parse::json(&body);
    }
}
