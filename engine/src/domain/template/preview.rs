//! What a recipient would see.

use super::{ButtonShape, HeaderShape, ParamSource, Shape, TemplateKind};
use crate::domain::provider_kind::ProviderKind;
use crate::domain::sms_parts::{SmsSize, sms_size};

/// A rendered message, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Header text, or `[image link]`.
    pub header: Option<String>,
    /// Body text; the whole text of an SMS.
    pub body: String,
    /// Footer.
    pub footer: Option<String>,
    /// One line per button: label and what it does.
    pub buttons: Vec<String>,
    /// Encoding and parts, for SMS only.
    pub sms: Option<SmsSize>,
}

impl Preview {
    /// All of it as one text.
    pub fn text(&self) -> String {
        let mut lines: Vec<&str> = Vec::new();
        lines.extend(self.header.as_deref());
        lines.push(&self.body);
        lines.extend(self.footer.as_deref());
        lines.extend(self.buttons.iter().map(String::as_str));
        lines.join("\n")
    }
}

impl Shape {
    /// Renders the message for people. Values are not checked; missing ones stay empty.
    pub fn preview<P: ParamSource + ?Sized>(&self, kind: ProviderKind, params: &P) -> Preview {
        if kind == ProviderKind::TwilioSms {
            let body = self.sms().map(|text| text.fill(params)).unwrap_or_default();
            return Preview { sms: Some(sms_size(&body)), body, ..Preview::default() };
        }
        let body = self.body.fill(params);
        if self.template.kind == TemplateKind::Text {
            return Preview { body, ..Preview::default() };
        }
        let header = self.header.as_ref().map(|header| match header {
            HeaderShape::Text(text) => text.fill(params),
            HeaderShape::Media { media, value, .. } => {
                format!("[{} {}]", media.as_str(), value.fill(params))
            }
        });
        Preview { header, body, footer: self.template.footer.clone(), buttons: self.preview_buttons(params), sms: None }
    }

    fn preview_buttons<P: ParamSource + ?Sized>(&self, params: &P) -> Vec<String> {
        use super::Button as Definition;
        let pairs = self.template.buttons.iter().zip(&self.buttons);
        pairs
            .map(|(definition, shape)| match (definition, shape) {
                (Definition::QuickReply { label, .. }, _) => format!("[{label}]"),
                (Definition::Url { label, url }, ButtonShape::Url(slot)) => {
                    let stem = url.find("{{").map_or(url.as_str(), |open| &url[..open]);
                    let tail = params.get(usize::from(*slot)).unwrap_or("");
                    format!("[{label}] {stem}{tail}")
                }
                (Definition::Url { label, url }, _) => format!("[{label}] {url}"),
                (Definition::CopyCode { .. }, ButtonShape::CopyCode(code)) => {
                    format!("[code] {}", code.fill(params))
                }
                (Definition::CopyCode { code }, _) => format!("[code] {code}"),
                (Definition::Phone { label, number }, _) => format!("[{label}] {number}"),
            })
            .collect()
    }
}
