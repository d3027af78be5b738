//! What a webhook says, in our own words: the same types for both providers.

use std::fmt;
use std::sync::Arc;

/// Longest provider message id that is taken (bytes). Meta's are about 60 long, Twilio's 34; nothing documents a limit.
pub const PROVIDER_ID_BYTES_MAX: usize = 255;
/// Longest text of a failure that is kept, each of title, message and details (bytes); longer ones are cut.
pub const FAILURE_TEXT_BYTES_MAX: usize = 1_024;
/// Longest raw text that an [`OtherEvent`] keeps (bytes). Anything longer becomes a [`BadEntry`].
pub const OTHER_RAW_BYTES_MAX: usize = 64 * 1_024;
/// How much of a bad entry is kept for people to look at (bytes).
pub const BAD_RAW_BYTES_MAX: usize = 2 * 1_024;

/// One thing that a verified POST told us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The hot case: how far one message got.
    Status(StatusEvent),
    /// Anything else that we understand well enough to name, kept raw for later features.
    Other(Box<OtherEvent>),
    /// An entry that could not be read; its neighbours were not touched by it.
    Bad(Box<BadEntry>),
}

/// How far the provider says a message got.
///
/// The order is the order of the stages; [`Reported::rank`] gives the number that the ledger stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reported {
    /// Twilio's `accepted`, `scheduled`, `queued` and `sending`: the provider has it. This moves no stage (a message with an
    /// intent is queued already), but it proves that an attempt in doubt was taken.
    Accepted,
    /// Handed to the carrier or channel.
    Sent,
    /// On the handset, as far as the provider can tell.
    Delivered,
    /// Opened. Meta's `played` (voice messages) counts as read too.
    Read,
    /// Will not arrive: Meta `failed`, Twilio `failed`, `undelivered` and `canceled`.
    Failed,
}

impl Reported {
    /// The stage number in the ledger: queued 2, sent 3, delivered 4, read 5, failed 99.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Accepted => 2,
            Self::Sent => 3,
            Self::Delivered => 4,
            Self::Read => 5,
            Self::Failed => 99,
        }
    }

    /// The word for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }
}

/// One status of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusEvent {
    /// The echoed correlation id, when there is one of our shape; its seal is still unchecked (only the ledger's secret can).
    pub correlation: Option<CorrelationText>,
    /// The provider's own id of the message (`wamid…`, `SM…`); never empty, at most [`PROVIDER_ID_BYTES_MAX`] bytes.
    pub provider_id: Box<str>,
    /// How far it got.
    pub stage: Reported,
    /// The provider's own time, seconds since 1970; absent when it sent none that can be read. Never used to order events.
    pub provider_at: Option<i64>,
    /// Why it failed; only with [`Reported::Failed`], and not always then.
    pub failure: Option<Box<Failure>>,
    /// Which of our lines the provider says it was.
    pub line: LineIdentity,
    /// The recipient's number as digits without `+`, when there is one. It can differ from the number we sent to (Meta
    /// rewrites some Brazilian, Mexican and Argentine numbers), so it is for people, never a key.
    pub recipient: Option<u64>,
}

/// The sending identity as the provider names it. Shared by the statuses of one POST.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineIdentity {
    /// Meta: `phone_number_id`. Twilio: `From`, with its `whatsapp:` prefix if it has one; absent when a messaging service
    /// failed before it chose a number.
    pub sender: Option<Arc<str>>,
    /// Twilio: `MessagingServiceSid`, when a messaging service sent it.
    pub service: Option<Arc<str>>,
}

/// A provider's reason for a failure. Texts are cut at [`FAILURE_TEXT_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// The provider's error code; Twilio leaves it out at times.
    pub code: Option<u32>,
    /// Meta's short title; empty for Twilio.
    pub title: Box<str>,
    /// The provider's message; may be empty.
    pub message: Box<str>,
    /// The longer explanation for people; may be empty.
    pub details: Box<str>,
}

/// Text of the shape of our correlation id: 28 characters of URL-safe base64.
///
/// Having the shape proves nothing: whether the id is ours is decided where its seal can be checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CorrelationText([u8; Self::LEN]);

impl CorrelationText {
    /// Characters of a correlation id.
    pub const LEN: usize = 28;

    /// Takes `text` if it has the shape of a correlation id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; Self::LEN] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_').then_some(Self(bytes))
    }

    /// The text as it was received.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always ASCII: `parse` is the only way in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The characters as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for CorrelationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CorrelationText({})", self.as_str())
    }
}

/// Something other than a status, kept as it came for features that will read it.
#[derive(Clone, PartialEq, Eq)]
pub struct OtherEvent {
    /// What it is, from a closed set (a label of metrics).
    pub kind: OtherKind,
    /// The provider's own name for it: a status word, or Meta's `changes[].field`. At most 64 bytes.
    pub field: Box<str>,
    /// The business account concerned: Meta's WABA id, Twilio's `AccountSid`.
    pub owner: Option<Box<str>>,
    /// The line concerned, if one is named.
    pub line: LineIdentity,
    /// The provider's message id: what an inbound message is deduplicated by.
    pub provider_id: Option<Box<str>>,
    /// The provider's own time, seconds since 1970.
    pub provider_at: Option<i64>,
    /// The text as received: JSON from Meta (the message, the status or the whole change value), a form body from Twilio.
    pub raw: Box<str>,
}

// By hand: the raw text holds phone numbers and message texts, which must not reach a log by way of `{:?}`.
impl fmt::Debug for OtherEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherEvent")
            .field("kind", &self.kind)
            .field("field", &self.field)
            .field("raw_bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

/// The kinds of [`OtherEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OtherKind {
    /// A person wrote to one of our lines.
    InboundMessage,
    /// A status word that we do not know (Meta's old `deleted` and `warning`, or one yet to come).
    UnknownStatus,
    /// A person stopped or resumed marketing inside WhatsApp.
    UserPreference,
    /// A template's review state, quality, category or content changed.
    Template,
    /// A number's quality or throughput changed.
    PhoneNumber,
    /// The business account was restricted, banned, reinstated, or its quota changed.
    Account,
    /// `value.errors` of Meta: an account-level error without a message.
    AccountError,
    /// A field or a shape that we do not know.
    Unknown,
}

impl OtherKind {
    /// Every kind, for pre-registered metrics.
    pub const ALL: [Self; 8] = [
        Self::InboundMessage,
        Self::UnknownStatus,
        Self::UserPreference,
        Self::Template,
        Self::PhoneNumber,
        Self::Account,
        Self::AccountError,
        Self::Unknown,
    ];

    /// The word for metrics and the ledger; stable.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InboundMessage => "inbound_message",
            Self::UnknownStatus => "unknown_status",
            Self::UserPreference => "user_preference",
            Self::Template => "template",
            Self::PhoneNumber => "phone_number",
            Self::Account => "account",
            Self::AccountError => "account_error",
            Self::Unknown => "unknown",
        }
    }
}

/// An entry that could not be read.
#[derive(Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// What is wrong, without any of the entry's own text (which may be personal).
    pub reason: Box<str>,
    /// The beginning of the entry as received, at most [`BAD_RAW_BYTES_MAX`] bytes.
    pub raw: Box<str>,
    /// How many further bad entries of the same POST this one stands for: past the first 1,000 they are only counted.
    pub more: u32,
}

impl fmt::Debug for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BadEntry")
            .field("reason", &self.reason)
            .field("raw_bytes", &self.raw.len())
            .field("more", &self.more)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_text_takes_the_shape_and_nothing_else() {
        let text = "AQAAACoAAAAHAAGr-_9876543210";
        assert_eq!(CorrelationText::parse(text).expect("the shape is right").as_str(), text);
        for wrong in [
            "",
            "v1;c=42;m=7",
            "AQAAACoAAAAHAAGr-_987654321",
            "AQAAACoAAAAHAAGr-_98765432101",
            "AQAAACoAAAAHAAGr+/9876543210",
        ] {
            assert_eq!(CorrelationText::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn debug_output_holds_no_personal_text() {
        let bad = BadEntry { reason: "r".into(), raw: "16505551234".into(), more: 0 };
        assert!(!format!("{bad:?}").contains("16505551234"));
    }

    /// The hot type is copied through channels; growing it should be a decision.
    #[test]
    fn an_event_stays_small() {
        assert!(size_of::<Event>() <= 136, "{}", size_of::<Event>());
    }
}
