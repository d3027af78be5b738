//! Templates: what is sent, with typed parameters.
//!
//! A [`Template`] is the definition a tenant stores. [`Template::compile`] checks it and derives its [`Shape`]: the texts in
//! pieces and the flat, ordered list of [`Slot`]s that a recipient's row must fill. The same definition serves WhatsApp (the
//! provider holds the approved text and gets only the parameters) and SMS (we render the text).
//!
//! A row's parameters are mapped to the slot order and checked at import ([`Shape::map_row`]), stored as a JSON array of
//! strings ([`params::encode`]), and read back without allocation at send time ([`ParamList`]).

mod compile;
mod placeholder;
mod preview;
mod row;
mod shape;

pub mod params;

pub use params::{ParamList, ParamSource};
pub use placeholder::{Piece, Text};
pub use preview::Preview;
pub(crate) use row::is_link;
pub use row::{ParamError, ParamProblem, RowParams};
pub use shape::{Button as ButtonShape, HeaderShape, Shape};

use super::provider_kind::ProviderKind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bounds of definitions and parameters, in characters unless said otherwise.
///
/// Sources: Meta's template reference (body, header, footer, buttons, 132005 for what is longer after substitution) and
/// Twilio's Messages resource (`Body`, 21617). Where sources differ the larger figure stands: the provider has the last word.
pub mod limits {
    /// Template name at the provider, bytes.
    pub const NAME: usize = 512;
    /// Approved template body after substitution.
    pub const BODY: usize = 1024;
    /// Free text on WhatsApp.
    pub const TEXT_BODY: usize = 4096;
    /// `Body` of an SMS after substitution.
    pub const SMS_BODY: usize = 1600;
    /// Text header after substitution.
    pub const HEADER: usize = 60;
    /// Footer.
    pub const FOOTER: usize = 60;
    /// Label of a button.
    pub const BUTTON_LABEL: usize = 25;
    /// URL of a button after substitution.
    pub const BUTTON_URL: usize = 2000;
    /// Quick-reply payload after substitution.
    pub const PAYLOAD: usize = 128;
    /// Coupon code (one source says 15).
    pub const COUPON: usize = 20;
    /// Media link or id.
    pub const MEDIA: usize = 2048;
    /// File name of a document.
    pub const FILENAME: usize = 240;
    /// Buttons of a template.
    pub const BUTTONS: usize = 10;
    /// Slots of a template over all components.
    pub const SLOTS: usize = 64;
}

/// A template as a tenant defines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Our id: `[a-z0-9][a-z0-9._-]{0,62}`.
    pub id: String,
    /// Name at Meta (`[a-z0-9_]`, at most 512); for free text any short label.
    pub name: String,
    /// Language code as the provider writes it, e.g. `en_US`.
    pub language: String,
    /// Approved template or free text.
    pub kind: TemplateKind,
    /// How placeholders are written.
    #[serde(default)]
    pub format: ParamFormat,
    /// Header above the body, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// Body with placeholders `{{1}}` or `{{name}}`.
    pub body: String,
    /// Footer; takes no placeholders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<String>,
    /// Buttons in their order at the provider: the place in this list is the button's index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buttons: Vec<Button>,
    /// Text for SMS, if it is not simply header, body and footer. Its placeholders name slots of the body, or of any component
    /// when they are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sms_body: Option<String>,
    /// Twilio's content template (`HX` and 32 hex digits) for WhatsApp through Twilio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_sid: Option<String>,
    /// Keys of `ContentVariables`, one per slot in slot order. Empty: the names of named slots, the numbers of the body's when
    /// only the body has slots, otherwise 1, 2, 3… in slot order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content_keys: Vec<String>,
    /// Free text on WhatsApp: whether the client shows a preview of the first link.
    #[serde(default)]
    pub preview_url: bool,
}

/// What the provider knows of the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// A template approved by the provider: sent by name (Meta) or content id (Twilio) with parameters.
    Approved,
    /// Free text that we render. On WhatsApp only inside the 24-hour service window.
    Text,
}

/// How a definition writes its placeholders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParamFormat {
    /// `{{1}}`, `{{2}}`, … counted per component.
    #[default]
    Positional,
    /// `{{first_name}}`; the template was created at Meta with named parameters.
    Named,
}

/// What stands above the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Header {
    /// Text with at most one placeholder.
    Text {
        /// The text.
        text: String,
    },
    /// An image, video or document.
    Media {
        /// Which of them.
        media: MediaKind,
        /// Link (`http://`, `https://`) or media id used for every recipient. Absent: each row brings its own (a slot).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        /// File name shown with a document.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        filename: Option<String>,
    },
}

/// Kinds of header media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// JPEG or PNG.
    Image,
    /// MP4 or 3GPP.
    Video,
    /// Any document.
    Document,
}

impl MediaKind {
    /// The name Meta gives it in payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Document => "document",
        }
    }
}

/// A button of a template. `label` is what the recipient sees; it takes no placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Button {
    /// Sends `payload` back when tapped; may hold one placeholder. Without payload the label comes back.
    QuickReply {
        /// Label.
        label: String,
        /// Payload.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        payload: Option<String>,
    },
    /// Opens a URL; may end in one placeholder (the parameter is that tail).
    Url {
        /// Label.
        label: String,
        /// URL.
        url: String,
    },
    /// Copies a coupon code; may be or hold one placeholder.
    CopyCode {
        /// Code.
        code: String,
    },
    /// Dials a number; nothing to send.
    Phone {
        /// Label.
        label: String,
        /// Number.
        number: String,
    },
}

/// Where a slot belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Header.
    Header,
    /// Body.
    Body,
    /// Button with this zero-based place.
    Button(u8),
}

/// What fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Text inside a text.
    Text,
    /// A media link or id.
    Media(MediaKind),
    /// Tail of a button's URL.
    UrlSuffix,
    /// Part or all of a quick reply's payload.
    Payload,
    /// Part or all of a coupon code.
    CouponCode,
}

/// One parameter of a template. The flat order is header, body, buttons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where it belongs.
    pub component: Component,
    /// Number inside its component, from 1.
    pub number: u16,
    /// Name, when the placeholder is named.
    pub name: Option<String>,
    /// What fills it.
    pub kind: SlotKind,
    /// Most characters that leave its component within bounds on WhatsApp if every other slot there held a single one.
    pub max_len_chars: usize,
    /// Column of an import that fills it: the name, or `header_param_1`, `body_param_1`, `button_url_param_1`,
    /// `button_payload_param_1`, `button_code_param_1` (buttons counted among those of their kind that have a slot).
    pub column: String,
}

/// One thing wrong with a definition, or with its use on a kind of line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct TemplateError {
    /// Path of the field, e.g. `body` or `buttons[1].url`.
    pub field: String,
    /// What is wrong with it.
    pub problem: TemplateProblem,
}

impl TemplateError {
    pub(crate) fn new(field: impl Into<String>, problem: TemplateProblem) -> Self {
        Self { field: field.into(), problem }
    }
}

/// Kinds of trouble with a definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// Required and empty.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("{chars} characters, at most {max} are allowed")]
    TooLong {
        /// Characters found.
        chars: usize,
        /// Characters allowed.
        max: usize,
    },
    /// Not of the required form.
    #[error("must be {0}")]
    Form(&'static str),
    /// `{{` without `}}`.
    #[error("placeholder opened at character {position} is not closed")]
    Unclosed {
        /// Place of the `{{`, from 1.
        position: usize,
    },
    /// Text between braces that is no placeholder of the template's format.
    #[error("{{{{{found}}}}} is not a {} placeholder", format_word(*.format))]
    Placeholder {
        /// What stands between the braces.
        found: String,
        /// The template's format.
        format: ParamFormat,
    },
    /// Positional placeholders with a gap.
    #[error("placeholders are not numbered without gaps: {{{{{missing}}}}} is missing")]
    Gap {
        /// The lowest number that is missing.
        missing: u16,
    },
    /// More placeholders than the component takes.
    #[error("{found} placeholders, at most {max} are allowed here")]
    TooManyPlaceholders {
        /// Different placeholders found.
        found: usize,
        /// Allowed here.
        max: usize,
    },
    /// The placeholder of a URL stands before its end.
    #[error("the placeholder must be the end of the URL")]
    NotAtEnd,
    /// A placeholder of `sms_body` that no slot has.
    #[error("{{{{{0}}}}} is not a parameter of this template")]
    UnknownPlaceholder(String),
    /// A part that free text cannot have.
    #[error("free text has no header, footer or buttons")]
    NotInText,
    /// More of something than allowed.
    #[error("{found} given, at most {max} are allowed")]
    TooMany {
        /// Found.
        found: usize,
        /// Allowed.
        max: usize,
    },
    /// `content_keys` does not fit the slots.
    #[error("{given} keys for {expected} parameters; give one per parameter, all different, or none")]
    ContentKeys {
        /// Keys given.
        given: usize,
        /// Slots.
        expected: usize,
    },
    /// The template cannot be sent over this kind of line.
    #[error("this template cannot be sent over {kind}: {reason}")]
    WrongKind {
        /// The line's kind.
        kind: ProviderKind,
        /// Why, and what would help.
        reason: &'static str,
    },
}

fn format_word(format: ParamFormat) -> &'static str {
    match format {
        ParamFormat::Positional => "positional ({{1}}, {{2}}, …)",
        ParamFormat::Named => "named ({{lower_case}})",
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Body => f.write_str("body"),
            Self::Button(place) => write!(f, "buttons[{place}]"),
        }
    }
}

#[cfg(test)]
mod tests;
