//! Reads Meta's envelope: `entry[] -> changes[] -> value -> statuses[]`, up to 1,000 statuses in up to 3 MB.
//!
//! The fast path reads the whole body in one typed, borrowing pass; it takes a POST that holds statuses and nothing else, all of
//! them in order, which is nearly every one. Anything else goes the careful way: the same body again, level by level and element
//! by element, so that each part that can be read is.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::webhook::collector::{cut, digits};
use crate::webhook::event::{
    CorrelationText, Event, FAILURE_TEXT_BYTES_MAX, Failure, LineIdentity, PROVIDER_ID_BYTES_MAX, Reported, StatusEvent,
};
use crate::webhook::json::{Text, Whole};

use super::careful::carefully;

pub(super) const OBJECT: &str = "whatsapp_business_account";
pub(super) const FIELD_MESSAGES: &str = "messages";
/// A `phone_number_id` is some 15 digits; anything much longer is not one.
const LINE_BYTES_MAX: usize = 64;

/// The events of one verified body. Never fails: what cannot be read is in the answer as [`Event::Bad`].
///
/// An empty answer is possible (`"entry":[]`) and to be acknowledged like any other.
#[must_use]
pub fn parse(body: &[u8]) -> Vec<Event> {
    serde_json::from_slice::<Envelope<'_>>(body).ok().and_then(all_statuses).unwrap_or_else(|| carefully(body))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    object: Text<'a>,
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    field: Text<'a>,
    #[serde(borrow)]
    value: Value<'a>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    statuses: Vec<Status<'a>>,
    messages: Option<IgnoredAny>,
    errors: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Metadata<'a> {
    #[serde(borrow)]
    pub(super) phone_number_id: Text<'a>,
}

/// One status. Members that a stage does not depend on are optional and lenient; unknown members are skipped unread.
#[derive(Deserialize)]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) status: Text<'a>,
    #[serde(default)]
    pub(super) timestamp: Whole,
    #[serde(borrow)]
    pub(super) recipient_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) biz_opaque_callback_data: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) errors: Option<Vec<ErrorBody<'a>>>,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody<'a> {
    #[serde(default)]
    code: Whole,
    #[serde(borrow)]
    title: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Text<'a>>,
    #[serde(borrow)]
    error_data: Option<ErrorData<'a>>,
}

#[derive(Deserialize)]
struct ErrorData<'a> {
    #[serde(borrow)]
    details: Option<Text<'a>>,
}

/// The events of a body that holds good statuses only; `None` sends it the careful way.
fn all_statuses(envelope: Envelope<'_>) -> Option<Vec<Event>> {
    if envelope.object.as_str() != OBJECT {
        return None;
    }
    let changes = || envelope.entry.iter().flat_map(|entry| &entry.changes);
    let mut events = Vec::with_capacity(changes().map(|change| change.value.statuses.len()).sum());
    for Change { field, value } in changes() {
        let statuses_alone = value.messages.is_none() && value.errors.is_none() && !value.statuses.is_empty();
        if field.as_str() != FIELD_MESSAGES || !statuses_alone {
            return None;
        }
        let line = line(value.metadata.phone_number_id.as_str());
        for status in &value.statuses {
            match read(status, &line) {
                Read::Status(event) => events.push(Event::Status(event)),
                Read::UnknownWord | Read::Bad(_) => return None,
            }
        }
    }
    Some(events)
}

pub(super) fn line(phone_number_id: &str) -> LineIdentity {
    let named = !phone_number_id.is_empty() && phone_number_id.len() <= LINE_BYTES_MAX;
    LineIdentity { sender: named.then(|| Arc::from(phone_number_id)), service: None }
}

pub(super) enum Read {
    Status(StatusEvent),
    UnknownWord,
    Bad(&'static str),
}

pub(super) fn read(status: &Status<'_>, line: &LineIdentity) -> Read {
    let stage = match status.status.as_str() {
        "sent" => Reported::Sent,
        "delivered" => Reported::Delivered,
        "read" | "played" => Reported::Read,
        "failed" => Reported::Failed,
        _ => return Read::UnknownWord,
    };
    let id = status.id.as_str();
    if id.is_empty() || id.len() > PROVIDER_ID_BYTES_MAX {
        return Read::Bad("id is empty or too long");
    }
    Read::Status(StatusEvent {
        correlation: status.biz_opaque_callback_data.as_ref().and_then(|text| CorrelationText::parse(text.as_str())),
        provider_id: id.into(),
        stage,
        provider_at: status.timestamp.0,
        failure: if stage == Reported::Failed { failure(status.errors.as_deref().unwrap_or_default()) } else { None },
        line: line.clone(),
        recipient: status.recipient_id.as_ref().and_then(|text| digits(text.as_str())),
    })
}

/// The first error is the one that counts; Meta documents the list and sends one.
fn failure(errors: &[ErrorBody<'_>]) -> Option<Box<Failure>> {
    let error = errors.first()?;
    let text = |text: Option<&Text<'_>>| cut(text.map_or("", Text::as_str), FAILURE_TEXT_BYTES_MAX).into();
    Some(Box::new(Failure {
        code: error.code.0.and_then(|code| u32::try_from(code).ok()),
        title: text(error.title.as_ref()),
        message: text(error.message.as_ref()),
        details: text(error.error_data.as_ref().and_then(|data| data.details.as_ref())),
    }))
}
