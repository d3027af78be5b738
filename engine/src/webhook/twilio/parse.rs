//! Reads a verified callback: one event per POST.

use std::borrow::Cow;
use std::sync::Arc;

use super::form::Form;
use crate::webhook::collector::{Collector, cut, digits};
use crate::webhook::event::{
    CorrelationText, Event, FAILURE_TEXT_BYTES_MAX, Failure, LineIdentity, OtherEvent, OtherKind,
    PROVIDER_ID_BYTES_MAX, Reported, StatusEvent,
};

/// The query parameter of our `StatusCallback` that carries the correlation id.
const CORRELATION_PARAMETER: &str = "c";
/// Longest `From` or messaging service id that is kept.
const LINE_BYTES_MAX: usize = 64;
const FIELD_BYTES_MAX: usize = 64;

/// What the callback says. `query` is the raw query of its URL, `body` the raw form (kept as it is where we do not interpret).
#[must_use]
pub fn parse(query: &str, form: &Form<'_>, body: &[u8]) -> Event {
    let word = present(form, "MessageStatus").or_else(|| present(form, "SmsStatus")).unwrap_or_default();
    let stage = match word.as_ref() {
        "accepted" | "scheduled" | "queued" | "sending" => Reported::Accepted,
        "sent" | "partially_delivered" => Reported::Sent,
        "delivered" => Reported::Delivered,
        "read" => Reported::Read,
        "failed" | "undelivered" | "canceled" => Reported::Failed,
        "received" | "receiving" => return other(OtherKind::InboundMessage, &word, form, body),
        "" => return other(OtherKind::Unknown, "", form, body),
        _ => return other(OtherKind::UnknownStatus, &word, form, body),
    };
    let Some(id) = present(form, "MessageSid").or_else(|| present(form, "SmsSid")) else {
        return bad("status without MessageSid", body);
    };
    if id.len() > PROVIDER_ID_BYTES_MAX {
        return bad("MessageSid is too long", body);
    }
    Event::Status(StatusEvent {
        correlation: correlation(query),
        provider_id: id.into(),
        stage,
        // `RawDlrDoneDate` is the carrier's clock without a zone: no time is better than that one.
        provider_at: None,
        failure: if stage == Reported::Failed { failure(form) } else { None },
        line: line(form, "From"),
        recipient: present(form, "To").and_then(|to| digits(&to)),
    })
}

/// A verified JSON POST. Twilio's message callbacks are forms, so this is something for later.
pub(super) fn json(body: &[u8]) -> Event {
    let raw = String::from_utf8_lossy(body);
    let mut out = Collector::default();
    out.other(OtherEvent {
        kind: OtherKind::Unknown,
        field: "json".into(),
        owner: None,
        line: LineIdentity::default(),
        provider_id: None,
        provider_at: None,
        raw: raw.into(),
    });
    one(out)
}

fn correlation(query: &str) -> Option<CorrelationText> {
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    // The alphabet of the id has nothing that would ever be percent-encoded.
    let mut ours = values.filter(|(name, _)| *name == CORRELATION_PARAMETER).map(|(_, value)| value);
    CorrelationText::parse(ours.next()?)
}

fn failure(form: &Form<'_>) -> Option<Box<Failure>> {
    let text = |name| cut(&present(form, name).unwrap_or_default(), FAILURE_TEXT_BYTES_MAX).into();
    let code = present(form, "ErrorCode").and_then(|code| code.trim().parse().ok());
    let failure =
        Failure { code, title: "".into(), message: text("ErrorMessage"), details: text("ChannelStatusMessage") };
    (failure != Failure::default()).then(|| Box::new(failure))
}

fn line(form: &Form<'_>, sender: &str) -> LineIdentity {
    let named =
        |name| present(form, name).filter(|text| text.len() <= LINE_BYTES_MAX).map(|text| Arc::from(text.as_ref()));
    LineIdentity { sender: named(sender), service: named("MessagingServiceSid") }
}

fn other(kind: OtherKind, word: &str, form: &Form<'_>, body: &[u8]) -> Event {
    let kept = |name| present(form, name).map(|text| cut(&text, PROVIDER_ID_BYTES_MAX).into());
    // Our line is the addressee of what comes in, and the sender of everything else.
    let ours = if kind == OtherKind::InboundMessage { "To" } else { "From" };
    let mut out = Collector::default();
    out.other(OtherEvent {
        kind,
        field: cut(word, FIELD_BYTES_MAX).into(),
        owner: kept("AccountSid"),
        line: line(form, ours),
        provider_id: kept("MessageSid"),
        provider_at: None,
        raw: String::from_utf8_lossy(body).into(),
    });
    one(out)
}

fn bad(reason: &str, body: &[u8]) -> Event {
    let mut out = Collector::default();
    out.bad(reason, &String::from_utf8_lossy(body));
    one(out)
}

/// The one event that went into `out`.
fn one(out: Collector) -> Event {
    out.into_events().pop().expect("every caller puts one event in")
}

fn present<'f>(form: &'f Form<'_>, name: &str) -> Option<Cow<'f, str>> {
    form.text(name).filter(|text| !text.is_empty())
}
