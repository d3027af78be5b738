//! The form of `POST /2010-04-01/Accounts/{AccountSid}/Messages.json`.

use super::CALLBACK_OVERRIDES;
use crate::domain::provider_kind::ProviderKind;
use crate::domain::template::{Shape, TemplateKind, Text};
use crate::provider::fragments::{Escape, Fragments};
use crate::provider::line::SenderIdentity;

/// Prepares the form. `callback` is the public URL up to and with `?c=`, to which the correlation id is appended: Twilio
/// calls it back unchanged and signs it.
pub(crate) fn body(
    kind: ProviderKind,
    sender: &SenderIdentity,
    callback: &str,
    shape: &Shape,
    sms: &Text,
) -> Fragments {
    let mut body = Fragments::new(shape.slots().len());
    let whatsapp = kind.is_whatsapp();
    body.raw(if whatsapp { "To=whatsapp%3A%2B" } else { "To=%2B" }).digits();
    match sender {
        SenderIdentity::MessagingService(sid) => body.raw("&MessagingServiceSid=").escaped(sid, Escape::Form),
        SenderIdentity::From(from) | SenderIdentity::PhoneNumberId(from) => {
            body.raw(if whatsapp { "&From=whatsapp%3A" } else { "&From=" }).escaped(from, Escape::Form)
        }
    };
    match (kind, shape.template().kind) {
        (ProviderKind::TwilioSms, _) => {
            body.raw("&Body=").text(sms, Escape::Form);
        }
        (_, TemplateKind::Text) => {
            body.raw("&Body=").text(shape.body(), Escape::Form);
        }
        (_, TemplateKind::Approved) => content(shape, &mut body),
    }
    body.raw("&StatusCallback=")
        .escaped(callback, Escape::Form)
        .correlation()
        .escaped(CALLBACK_OVERRIDES, Escape::Form);
    body
}

/// `&ContentSid=…&ContentVariables={"1":"…"}`; without slots no variables.
fn content(shape: &Shape, body: &mut Fragments) {
    let sid = shape.template().content_sid.as_deref().unwrap_or_default();
    body.raw("&ContentSid=").escaped(sid, Escape::Form);
    let mut separator = "&ContentVariables=%7B%22";
    for (slot, key) in shape.content_keys().iter().enumerate() {
        body.raw(separator)
            .escaped(key, Escape::JsonInForm)
            .raw("%22%3A%22")
            .param(slot as u16, Escape::JsonInForm)
            .raw("%22");
        separator = "%2C%22";
    }
    if !shape.content_keys().is_empty() {
        body.raw("%7D");
    }
}
