//! Names of things: the public string ids, and the compact keys that the ledger uses inside.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest public id, in bytes.
pub const ID_BYTES_MAX: usize = 63;

/// Messages in one segment: the unit of storage, of status work and of hand-over.
pub const SEGMENT_LEN: u32 = 8_192;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a valid id: use 1 to {ID_BYTES_MAX} of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
)]
pub struct InvalidId {
    /// The refused text, cut to 80 characters.
    pub text: String,
}

fn check_id(text: &str, upper: bool) -> Result<(), InvalidId> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || (upper && b.is_ascii_uppercase());
    let bytes = text.as_bytes();
    let valid = bytes.len() <= ID_BYTES_MAX
        && bytes.first().is_some_and(|b| word(*b))
        && bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'_' | b'-'));
    if valid { Ok(()) } else { Err(InvalidId { text: text.chars().take(80).collect() }) }
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $upper:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text; see [`InvalidId`] for the rule.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check_id(text, $upper).map(|()| Self(text.into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// The isolation unit; comes from the verified token and is first in every key.
    TenantId,
    true
);
string_id!(
    /// A campaign, unique within its tenant.
    CampaignId,
    false
);
string_id!(
    /// A sending identity, unique within its tenant.
    LineId,
    false
);
string_id!(
    /// Lines of one provider kind that are used together, unique within the tenant.
    PoolId,
    false
);
string_id!(
    /// A template, unique within its tenant.
    TemplateId,
    false
);
string_id!(
    /// A provider account, configured by the operator.
    AccountId,
    false
);
string_id!(
    /// One named import of a campaign.
    ImportId,
    false
);

/// Installation-wide number of a campaign, never used twice; stands in correlation ids and ledger keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CampaignKey(pub u32);

/// Installation-wide number of a line, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineKey(pub u32);

impl fmt::Display for CampaignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for LineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One message: a recipient of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// The campaign.
    pub campaign: CampaignKey,
    /// The place in the campaign's list, from 0; places of refused duplicates stay empty.
    pub seq: u32,
}

impl MessageKey {
    /// The segment that holds the message.
    pub fn segment(self) -> u32 {
        self.seq / SEGMENT_LEN
    }
}

/// One try to hand a message to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptKey {
    /// The message.
    pub message: MessageKey,
    /// From 1, rises with every intent.
    pub attempt: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked() {
        for good in ["a", "spring-2026", "0.x_y", &"a".repeat(63)] {
            assert!(CampaignId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "ä", "a/b", &"a".repeat(64)] {
            assert!(CampaignId::new(bad).is_err(), "{bad}");
        }
        assert!(TenantId::new("Acme").is_ok());
    }
}
