//! The careful way through Meta's envelope: level by level, element by element, so that each part that can be read is.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::{FIELD_MESSAGES, Metadata, OBJECT, Read, Status, line, read};
use crate::webhook::collector::{Collector, cut};
use crate::webhook::event::{Event, LineIdentity, OtherEvent, OtherKind, PROVIDER_ID_BYTES_MAX};
use crate::webhook::json::{Text, Whole, elements, reason};

/// Longest field name that is kept.
const FIELD_BYTES_MAX: usize = 64;

#[derive(Deserialize)]
struct LooseEnvelope<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    entry: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LooseEntry<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    time: Whole,
    #[serde(borrow)]
    changes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LooseChange<'a> {
    #[serde(borrow)]
    field: Text<'a>,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct LooseValue<'a> {
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    statuses: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

/// A status of which only id and word must be right: whatever is wrong with its other members, the stage counts.
#[derive(Deserialize)]
struct LooseStatus<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(default)]
    timestamp: Whole,
    #[serde(borrow)]
    recipient_id: Option<&'a RawValue>,
    #[serde(borrow)]
    biz_opaque_callback_data: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl<'a> From<LooseStatus<'a>> for Status<'a> {
    fn from(loose: LooseStatus<'a>) -> Self {
        let errors = loose
            .errors
            .and_then(elements)
            .map(|list| list.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok()).collect());
        Self {
            id: loose.id,
            status: loose.status,
            timestamp: loose.timestamp,
            recipient_id: loose.recipient_id.and_then(string),
            biz_opaque_callback_data: loose.biz_opaque_callback_data.and_then(string),
            errors,
        }
    }
}

/// The two members of an inbound message that are worth a column of their own.
#[derive(Deserialize)]
struct Inbound<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(default)]
    timestamp: Whole,
}

/// Where in the envelope we are.
struct Place<'a> {
    owner: Option<Box<str>>,
    time: Option<i64>,
    field: &'a str,
    line: LineIdentity,
}

impl Place<'_> {
    fn other(&self, kind: OtherKind, raw: &RawValue) -> OtherEvent {
        OtherEvent {
            kind,
            field: cut(self.field, FIELD_BYTES_MAX).into(),
            owner: self.owner.clone(),
            line: self.line.clone(),
            provider_id: None,
            provider_at: self.time,
            raw: raw.get().into(),
        }
    }
}

/// The events of a body that is more than a list of good statuses.
pub(super) fn carefully(body: &[u8]) -> Vec<Event> {
    // A broken character somewhere must not cost the statuses beside it.
    let text = String::from_utf8_lossy(body);
    let mut out = Collector::default();
    match serde_json::from_str::<LooseEnvelope<'_>>(&text) {
        Ok(envelope) => envelope_carefully(&envelope, &text, &mut out),
        Err(error) => out.bad(&format!("body: {}", reason(&error)), &text),
    }
    out.into_events()
}

fn envelope_carefully(envelope: &LooseEnvelope<'_>, text: &str, out: &mut Collector) {
    let object = envelope.object.and_then(string).unwrap_or_default();
    if object.as_str() != OBJECT {
        let field = cut(object.as_str(), FIELD_BYTES_MAX).into();
        let (owner, line) = (None, LineIdentity::default());
        let kind = OtherKind::Unknown;
        return out.other(OtherEvent {
            kind,
            field,
            owner,
            line,
            provider_id: None,
            provider_at: None,
            raw: text.into(),
        });
    }
    for_each(envelope.entry, "entry", out, |raw, out| match serde_json::from_str::<LooseEntry<'_>>(raw.get()) {
        Ok(entry) => entry_carefully(&entry, out),
        Err(error) => out.bad(&format!("entry: {}", reason(&error)), raw.get()),
    });
}

fn entry_carefully(entry: &LooseEntry<'_>, out: &mut Collector) {
    let owner = entry.id.and_then(string).map(|id| cut(id.as_str(), PROVIDER_ID_BYTES_MAX).into());
    for_each(entry.changes, "changes", out, |raw, out| match serde_json::from_str::<LooseChange<'_>>(raw.get()) {
        Ok(LooseChange { field, value }) => {
            let line = LineIdentity::default();
            let place = Place { owner: owner.clone(), time: entry.time.0, field: field.as_str(), line };
            change_carefully(place, value, out);
        }
        Err(error) => out.bad(&format!("change: {}", reason(&error)), raw.get()),
    });
}

fn change_carefully(mut place: Place<'_>, raw: &RawValue, out: &mut Collector) {
    let value = match serde_json::from_str::<LooseValue<'_>>(raw.get()) {
        Ok(value) => value,
        // Other fields may have any shape; this one we know.
        Err(error) if place.field == FIELD_MESSAGES => {
            return out.bad(&format!("value: {}", reason(&error)), raw.get());
        }
        Err(_) => return out.other(place.other(kind_of_field(place.field), raw)),
    };
    if let Some(metadata) = value.metadata.and_then(|raw| serde_json::from_str::<Metadata<'_>>(raw.get()).ok()) {
        place.line = line(metadata.phone_number_id.as_str());
    }
    if place.field != FIELD_MESSAGES {
        return out.other(place.other(kind_of_field(place.field), raw));
    }
    if value.statuses.is_none() && value.messages.is_none() && value.errors.is_none() {
        return out.other(place.other(OtherKind::Unknown, raw));
    }
    for_each(value.statuses, "statuses", out, |raw, out| status_carefully(&place, raw, out));
    for_each(value.messages, "messages", out, |raw, out| {
        let mut message = place.other(OtherKind::InboundMessage, raw);
        if let Ok(inbound) = serde_json::from_str::<Inbound<'_>>(raw.get()) {
            message.provider_id = inbound.id.map(|id| cut(id.as_str(), PROVIDER_ID_BYTES_MAX).into());
            message.provider_at = inbound.timestamp.0;
        }
        out.other(message);
    });
    for_each(value.errors, "errors", out, |raw, out| out.other(place.other(OtherKind::AccountError, raw)));
}

fn status_carefully(place: &Place<'_>, raw: &RawValue, out: &mut Collector) {
    let status: Status<'_> = match serde_json::from_str::<LooseStatus<'_>>(raw.get()) {
        Ok(status) => status.into(),
        Err(error) => return out.bad(&format!("status: {}", reason(&error)), raw.get()),
    };
    match read(&status, &place.line) {
        Read::Status(event) => out.status(event),
        Read::UnknownWord => {
            let id = cut(status.id.as_str(), PROVIDER_ID_BYTES_MAX).into();
            let event = place.other(OtherKind::UnknownStatus, raw);
            let word = cut(status.status.as_str(), FIELD_BYTES_MAX).into();
            out.other(OtherEvent { field: word, provider_id: Some(id), provider_at: status.timestamp.0, ..event });
        }
        Read::Bad(what) => out.bad(&format!("status: {what}"), raw.get()),
    }
}

/// Calls `each` with every element of the list `raw`; a list that is none is one bad entry.
fn for_each(raw: Option<&RawValue>, name: &str, out: &mut Collector, mut each: impl FnMut(&RawValue, &mut Collector)) {
    let Some(raw) = raw else { return };
    match elements(raw) {
        Some(list) => list.into_iter().for_each(|element| each(element, out)),
        None => out.bad(&format!("{name}: not a list"), raw.get()),
    }
}

fn string(raw: &RawValue) -> Option<Text<'_>> {
    serde_json::from_str(raw.get()).ok()
}

fn kind_of_field(field: &str) -> OtherKind {
    match field {
        "user_preferences" => OtherKind::UserPreference,
        "message_template_status_update"
        | "message_template_quality_update"
        | "message_template_components_update"
        | "template_category_update" => OtherKind::Template,
        "phone_number_quality_update" | "phone_number_name_update" => OtherKind::PhoneNumber,
        "account_update" | "account_alerts" | "account_review_update" | "business_capability_update" => {
            OtherKind::Account
        }
        _ => OtherKind::Unknown,
    }
}
