//! A checked template and what can be asked of it.

use super::{MediaKind, Slot, Template, TemplateError, TemplateKind, TemplateProblem, Text, limits};
use crate::domain::provider_kind::ProviderKind;

/// A checked template: texts in pieces and the flat list of slots.
#[derive(Clone, Debug)]
pub struct Shape {
    pub(super) template: Template,
    pub(super) slots: Vec<Slot>,
    pub(super) header: Option<HeaderShape>,
    pub(super) body: Text,
    pub(super) buttons: Vec<Button>,
    /// The SMS text, or why there is none.
    pub(super) sms: Result<Text, &'static str>,
    pub(super) content_keys: Vec<String>,
}

/// The header with its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderShape {
    /// Text with at most one slot.
    Text(Text),
    /// Media.
    Media {
        /// Kind of media.
        media: MediaKind,
        /// The fixed link or id, or the slot that brings it.
        value: Text,
        /// File name of a document.
        filename: Option<String>,
    },
}

/// What has to be sent for a button.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Button {
    /// Nothing.
    Static,
    /// Payload of a quick reply.
    QuickReply(Text),
    /// The slot that holds the tail of the URL.
    Url(u16),
    /// Coupon code.
    CopyCode(Text),
}

impl Shape {
    /// The definition it was made from.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The slots in flat order: header, body, buttons.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The header.
    pub fn header(&self) -> Option<&HeaderShape> {
        self.header.as_ref()
    }

    /// The body.
    pub fn body(&self) -> &Text {
        &self.body
    }

    /// The buttons by place.
    pub fn buttons(&self) -> &[Button] {
        &self.buttons
    }

    /// The text for SMS; `None` when [`Shape::suits`] refuses SMS for want of one.
    pub fn sms(&self) -> Option<&Text> {
        self.sms.as_ref().ok()
    }

    /// Keys of Twilio's `ContentVariables`, one per slot.
    pub fn content_keys(&self) -> &[String] {
        &self.content_keys
    }

    /// Whether the template can be sent over lines of this kind.
    pub fn suits(&self, kind: ProviderKind) -> Result<(), TemplateError> {
        let wrong = |field: &str, reason| Err(TemplateError::new(field, TemplateProblem::WrongKind { kind, reason }));
        match (kind, self.template.kind) {
            (ProviderKind::TwilioWhatsapp, TemplateKind::Approved) if self.template.content_sid.is_none() => {
                wrong("content_sid", "an approved template goes out through Twilio by its content_sid")
            }
            (ProviderKind::TwilioWhatsapp, TemplateKind::Text) if self.body.literal_chars() > limits::SMS_BODY => {
                wrong("body", "Twilio takes at most 1600 characters")
            }
            (ProviderKind::TwilioSms, _) => match &self.sms {
                Ok(text) if text.literal_chars() > limits::SMS_BODY => {
                    wrong("sms_body", "an SMS takes at most 1600 characters")
                }
                Ok(_) => Ok(()),
                Err(reason) => wrong("sms_body", *reason),
            },
            _ => Ok(()),
        }
    }

    /// Whether this kind of line sends the slot; those it does not send may be left empty in an import.
    pub fn uses(&self, kind: ProviderKind, slot: usize) -> bool {
        match (kind, &self.sms) {
            (ProviderKind::TwilioSms, Ok(text)) => text.slots().any(|used| usize::from(used) == slot),
            _ => slot < self.slots.len(),
        }
    }

    /// The import columns that fill the slots of this kind of line, each once, in slot order.
    pub fn columns(&self, kind: ProviderKind) -> Vec<&str> {
        let mut columns: Vec<&str> = Vec::with_capacity(self.slots.len());
        for (slot, definition) in self.slots.iter().enumerate() {
            if self.uses(kind, slot) && !columns.contains(&definition.column.as_str()) {
                columns.push(&definition.column);
            }
        }
        columns
    }
}
