//! What is kept, for later features and for people, of webhook entries that move no message: the text as it came, with what was said around it.

use serde::Serialize;

use crate::domain::ids::AccountId;
use crate::domain::time::UnixMillis;
use crate::store::InboundEvent;
use crate::webhook::{BadEntry, LineIdentity, OtherEvent, OtherKind};

/// The kind under which entries are kept that could not be read.
const BAD: &str = "bad";

/// Bad entries of one POST that are kept; the others are counted. They are much alike, and must not push out what people wrote.
pub(super) const BAD_KEPT_MAX: u64 = 10;

/// The body of an [`InboundEvent`]. A text alone would not say to whom it came: Meta names line and business account around it.
#[derive(Default, Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_at: Option<i64>,
    /// Why it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// As received: JSON from Meta, a form from Twilio.
    raw: &'a str,
}

impl Body<'_> {
    fn text(&self) -> Box<str> {
        serde_json::to_string(self).unwrap_or_default().into()
    }
}

/// An entry of another kind than a status.
pub(super) fn other(account: &AccountId, event: OtherEvent, at: UnixMillis) -> InboundEvent {
    let LineIdentity { sender, service } = &event.line;
    let body = Body {
        field: &event.field,
        owner: event.owner.as_deref(),
        sender: sender.as_deref(),
        service: service.as_deref(),
        provider_at: event.provider_at,
        raw: &event.raw,
        ..Body::default()
    }
    .text();
    let provider_id = match (event.kind, event.provider_id) {
        // Two words that we do not know, of one message, are two events.
        (OtherKind::UnknownStatus, Some(id)) => format!("{id} {}", event.field).into(),
        (_, id) => id.unwrap_or_default(),
    };
    InboundEvent { account: account.clone(), kind: event.kind.as_str().into(), provider_id, body, at }
}

/// An entry that could not be read.
pub(super) fn bad(account: &AccountId, entry: &BadEntry, at: UnixMillis) -> InboundEvent {
    let body = Body { reason: Some(&entry.reason), raw: &entry.raw, ..Body::default() }.text();
    InboundEvent { account: account.clone(), kind: BAD.into(), provider_id: Box::default(), body, at }
}
