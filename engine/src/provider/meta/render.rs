//! The body of `POST /{version}/{phone_number_id}/messages`.

use crate::domain::template::{ButtonShape, Component, HeaderShape, MediaKind, Shape, SlotKind, TemplateKind, Text};
use crate::provider::fragments::{Escape, Fragments};

/// Prepares the body of a template or text message.
///
/// `to` always begins with `+`: without it Meta may read the digits as a national number of the sender's country.
pub(crate) fn body(shape: &Shape) -> Fragments {
    let mut body = Fragments::new(shape.slots().len());
    body.raw(r#"{"messaging_product":"whatsapp","recipient_type":"individual","to":"+"#)
        .digits()
        .raw(r#"","biz_opaque_callback_data":""#)
        .correlation();
    match shape.template().kind {
        TemplateKind::Text => {
            let preview = if shape.template().preview_url { "true" } else { "false" };
            body.raw(r#"","type":"text","text":{"preview_url":"#)
                .raw(preview)
                .raw(r#","body":""#)
                .text(shape.body(), Escape::Json)
                .raw(r#""}}"#);
        }
        TemplateKind::Approved => {
            body.raw(r#"","type":"template","template":{"name":""#)
                .escaped(&shape.template().name, Escape::Json)
                .raw(r#"","language":{"code":""#)
                .escaped(&shape.template().language, Escape::Json)
                .raw(r#""}"#);
            components(shape, &mut body);
            body.raw("}}");
        }
    }
    body
}

/// `,"components":[…]` with a component for everything that takes a parameter; nothing when no component does.
fn components(shape: &Shape, body: &mut Fragments) {
    let mut separator = r#","components":["#;
    let mut open = |body: &mut Fragments| {
        body.raw(separator);
        separator = ",";
    };
    match shape.header() {
        Some(HeaderShape::Text(text)) if text.slots().next().is_some() => {
            open(body);
            body.raw(r#"{"type":"header","parameters":["#);
            text_params(shape, Component::Header, body);
            body.raw("]}");
        }
        Some(HeaderShape::Media { media, value, filename }) => {
            open(body);
            body.raw(r#"{"type":"header","parameters":["#);
            media_param(*media, value, filename.as_deref(), body);
            body.raw("]}");
        }
        Some(HeaderShape::Text(_)) | None => {}
    }
    if shape.body().slots().next().is_some() {
        open(body);
        body.raw(r#"{"type":"body","parameters":["#);
        text_params(shape, Component::Body, body);
        body.raw("]}");
    }
    for (place, button) in shape.buttons().iter().enumerate() {
        let (sub_type, parameter) = match button {
            ButtonShape::Static => continue,
            ButtonShape::QuickReply(_) => ("quick_reply", r#"{"type":"payload","payload":""#),
            ButtonShape::Url(_) => ("url", r#"{"type":"text","text":""#),
            ButtonShape::CopyCode(_) => ("copy_code", r#"{"type":"coupon_code","coupon_code":""#),
        };
        open(body);
        body.raw(&format!(r#"{{"type":"button","sub_type":"{sub_type}","index":"{place}","parameters":[{parameter}"#));
        match button {
            ButtonShape::QuickReply(text) | ButtonShape::CopyCode(text) => body.text(text, Escape::Json),
            ButtonShape::Url(slot) => body.param(*slot, Escape::Json),
            ButtonShape::Static => body,
        }
        .raw(r#""}]}"#);
    }
    if separator == "," {
        body.raw("]");
    }
}

/// The text parameters of a component in slot order; named templates name each.
fn text_params(shape: &Shape, component: Component, body: &mut Fragments) {
    let slots = shape.slots().iter().enumerate();
    let mut separator = "";
    for (at, slot) in slots.filter(|(_, slot)| slot.component == component && slot.kind == SlotKind::Text) {
        body.raw(separator).raw(r#"{"type":"text","#);
        if let Some(name) = &slot.name {
            body.raw(r#""parameter_name":""#).escaped(name, Escape::Json).raw(r#"","#);
        }
        body.raw(r#""text":""#).param(at as u16, Escape::Json).raw(r#""}"#);
        separator = ",";
    }
}

fn media_param(media: MediaKind, value: &Text, filename: Option<&str>, body: &mut Fragments) {
    let kind = media.as_str();
    body.raw(&format!(r#"{{"type":"{kind}","{kind}":{{"#)).text(value, Escape::MediaJson);
    if let Some(filename) = filename {
        body.raw(r#","filename":""#).escaped(filename, Escape::Json).raw("\"");
    }
    body.raw("}}");
}
