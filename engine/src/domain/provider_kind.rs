//! Which provider interface a line speaks.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The provider interface of a line, and with it the shape of requests, answers, webhooks and permits.
///
/// A pool holds lines of one kind; a campaign therefore has one kind as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// WhatsApp through Meta's Cloud API (`POST /{phone_number_id}/messages`).
    Meta,
    /// SMS through Twilio's Messages resource.
    TwilioSms,
    /// WhatsApp through Twilio's Messages resource.
    TwilioWhatsapp,
}

impl ProviderKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Meta, Self::TwilioSms, Self::TwilioWhatsapp];

    /// The name used in configuration, in the ledger and as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::TwilioSms => "twilio_sms",
            Self::TwilioWhatsapp => "twilio_whatsapp",
        }
    }

    /// True when messages reach the recipient in WhatsApp, whoever carries them.
    pub const fn is_whatsapp(self) -> bool {
        matches!(self, Self::Meta | Self::TwilioWhatsapp)
    }

    /// True when `delivered` is the last status: SMS has no read receipts.
    pub const fn delivered_is_final(self) -> bool {
        matches!(self, Self::TwilioSms)
    }

    /// True when the line is reached through Twilio.
    pub const fn is_twilio(self) -> bool {
        matches!(self, Self::TwilioSms | Self::TwilioWhatsapp)
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no provider kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider kind {0:?} (known: meta, twilio_sms, twilio_whatsapp)")]
pub struct UnknownProviderKind(pub String);

impl FromStr for ProviderKind {
    type Err = UnknownProviderKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownProviderKind(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_text_and_serde() {
        for kind in ProviderKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<ProviderKind>(&json).unwrap(), kind);
        }
        assert!("Meta".parse::<ProviderKind>().is_err());
    }
}
