//! Templates.

use sluice_engine::control::{Error, ParametersSpec, Result, TemplateView, Violations};
use sluice_engine::domain::template::{Button, Header, MediaKind, ParamFormat, Template, TemplateKind};
use sluice_proto::v1;
use v1::template_button::Kind as WireButton;
use v1::template_header::Content;

use super::{etag, expected, timestamp};

pub(in crate::grpc) fn template(view: TemplateView) -> v1::Template {
    let TemplateView { record, template, columns } = view;
    v1::Template {
        template_id: template.id,
        kind: match template.kind {
            TemplateKind::Approved => v1::TemplateKind::Whatsapp,
            TemplateKind::Text => v1::TemplateKind::Text,
        }
        .into(),
        name: template.name,
        language: template.language,
        parameter_format: match template.format {
            ParamFormat::Positional => v1::ParameterFormat::Positional,
            ParamFormat::Named => v1::ParameterFormat::Named,
        }
        .into(),
        header: template.header.map(|header| v1::TemplateHeader { content: Some(content(header)) }),
        body: template.body,
        footer: template.footer.unwrap_or_default(),
        buttons: template.buttons.into_iter().map(|b| v1::TemplateButton { kind: Some(wire_button(b)) }).collect(),
        content_sid: template.content_sid.unwrap_or_default(),
        content_keys: template.content_keys,
        sms_body: template.sms_body.unwrap_or_default(),
        preview_url: template.preview_url,
        columns,
        create_time: Some(timestamp(record.created_at)),
        update_time: Some(timestamp(record.updated_at)),
        etag: etag(record.version),
    }
}

fn content(header: Header) -> Content {
    match header {
        Header::Text { text } => Content::Text(text),
        Header::Media { media, value, filename } => Content::Media(v1::MediaHeader {
            kind: match media {
                MediaKind::Image => v1::MediaKind::Image,
                MediaKind::Video => v1::MediaKind::Video,
                MediaKind::Document => v1::MediaKind::Document,
            }
            .into(),
            value: value.unwrap_or_default(),
            filename: filename.unwrap_or_default(),
        }),
    }
}

fn wire_button(button: Button) -> WireButton {
    match button {
        Button::QuickReply { label, payload } => {
            WireButton::QuickReply(v1::QuickReplyButton { label, payload: payload.unwrap_or_default() })
        }
        Button::Url { label, url } => WireButton::Url(v1::UrlButton { label, url }),
        Button::CopyCode { code } => WireButton::CopyCode(v1::CopyCodeButton { code }),
        Button::Phone { label, number } => WireButton::Phone(v1::PhoneButton { label, number }),
    }
}

/// The definition and the version that it is to replace.
pub(in crate::grpc) fn put_template(template: Option<v1::Template>) -> Result<(Template, Option<u64>)> {
    let template = template.ok_or_else(|| Error::invalid("template", "is required"))?;
    let expected = expected(&template.etag)?;
    let mut violations = Violations::default();
    let kind = match v1::TemplateKind::try_from(template.kind) {
        Ok(v1::TemplateKind::Whatsapp) => TemplateKind::Approved,
        Ok(v1::TemplateKind::Text) => TemplateKind::Text,
        Ok(v1::TemplateKind::Unspecified) | Err(_) => {
            violations.add("template.kind", "is required");
            TemplateKind::Text
        }
    };
    let format = match v1::ParameterFormat::try_from(template.parameter_format) {
        Ok(v1::ParameterFormat::Unspecified | v1::ParameterFormat::Positional) => ParamFormat::Positional,
        Ok(v1::ParameterFormat::Named) => ParamFormat::Named,
        Err(_) => {
            violations.add("template.parameter_format", "is not a value that this server knows");
            ParamFormat::Positional
        }
    };
    let header = template.header.and_then(|header| header.content).map(|content| header_of(content, &mut violations));
    let buttons = template
        .buttons
        .into_iter()
        .enumerate()
        .filter_map(|(place, button)| button_of(place, button, &mut violations))
        .collect();
    violations.check()?;
    let template = Template {
        id: template.template_id,
        name: template.name,
        language: template.language,
        kind,
        format,
        header: header.flatten(),
        body: template.body,
        footer: some(template.footer),
        buttons,
        sms_body: some(template.sms_body),
        content_sid: some(template.content_sid),
        content_keys: template.content_keys,
        preview_url: template.preview_url,
    };
    Ok((template, expected))
}

fn header_of(content: Content, violations: &mut Violations) -> Option<Header> {
    let header = match content {
        Content::Text(text) => return Some(Header::Text { text }),
        Content::Media(header) => header,
    };
    let media = match v1::MediaKind::try_from(header.kind) {
        Ok(v1::MediaKind::Image) => MediaKind::Image,
        Ok(v1::MediaKind::Video) => MediaKind::Video,
        Ok(v1::MediaKind::Document) => MediaKind::Document,
        Ok(v1::MediaKind::Unspecified) | Err(_) => {
            violations.add("template.header.media.kind", "is required");
            return None;
        }
    };
    Some(Header::Media { media, value: some(header.value), filename: some(header.filename) })
}

fn button_of(place: usize, button: v1::TemplateButton, violations: &mut Violations) -> Option<Button> {
    Some(match button.kind {
        Some(WireButton::QuickReply(b)) => Button::QuickReply { label: b.label, payload: some(b.payload) },
        Some(WireButton::Url(b)) => Button::Url { label: b.label, url: b.url },
        Some(WireButton::CopyCode(b)) => Button::CopyCode { code: b.code },
        Some(WireButton::Phone(b)) => Button::Phone { label: b.label, number: b.number },
        None => {
            violations.add(format!("template.buttons[{place}]"), "must be one of the kinds of buttons");
            return None;
        }
    })
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

pub(in crate::grpc) fn parameters(parameters: Option<v1::TemplateParameters>) -> ParametersSpec {
    let parameters = parameters.unwrap_or_default();
    ParametersSpec {
        header: parameters.header,
        body: parameters.body,
        buttons: parameters.buttons,
        named: parameters.named.into_iter().collect(),
    }
}
