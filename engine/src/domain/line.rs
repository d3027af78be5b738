//! Lines and pools: who sends, at which ceiling, and why it may be held.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, LineId, LineKey, PoolId, TenantId};
pub use super::provider_kind::ProviderKind;
use super::time::UnixMillis;

/// Who the line is at the provider. Unique in the installation, so that nobody doubles its ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SenderIdentity {
    /// Meta's phone number id: digits.
    PhoneNumberId(String),
    /// A Twilio number in E.164, or a short code.
    From(String),
    /// A Twilio messaging service, `MG` and 32 hex digits.
    MessagingService(String),
}

impl SenderIdentity {
    /// The text by which the provider knows it, unique in the installation together with the provider.
    pub fn text(&self) -> &str {
        let (Self::PhoneNumberId(text) | Self::From(text) | Self::MessagingService(text)) = self;
        text
    }
}

/// Who stopped a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineHoldKind {
    /// A person.
    Operator,
    /// The provider refused the line itself (number, registration, spam flag).
    Line,
    /// The provider refused the account (token, permission, payment).
    Account,
    /// Its actor panicked five times in a row.
    Panics,
}

/// Why a line is held; its messages stay pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineHold {
    /// The kind, for programs.
    pub kind: LineHoldKind,
    /// The reason, for people.
    pub reason: String,
    /// Since when.
    pub at: UnixMillis,
    /// Lifts by itself then; `None`: by hand.
    pub until: Option<UnixMillis>,
}

/// The record of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Installation-wide number; assigned by the store.
    pub key: LineKey,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its public id.
    pub id: LineId,
    /// Rises with every write; the etag.
    pub version: u64,
    /// For people.
    pub description: String,
    /// The one pool it is in.
    pub pool: PoolId,
    /// The channel.
    pub kind: ProviderKind,
    /// The credentials it uses, by name.
    pub account: AccountId,
    /// Who it is at the provider.
    pub sender: SenderIdentity,
    /// Most messages (SMS: parts) in any second, as the provider counts them.
    pub ceiling: u32,
    /// Most requests in flight at once.
    pub in_flight_max: u32,
    /// Held, and why.
    pub hold: Option<LineHold>,
    /// When a hold was last lifted, by hand or by its end: what a provider reports of the time before says nothing of the line as it
    /// is now.
    #[serde(default)]
    pub released_at: Option<UnixMillis>,
    /// When it was created.
    pub created_at: UnixMillis,
    /// Last write.
    pub updated_at: UnixMillis,
}

/// Bounds of a line's settings.
pub mod bounds {
    /// Highest ceiling, per second: ten times what any provider grants one sender today.
    pub const CEILING_MAX: u32 = 10_000;
    /// Most requests in flight on one line.
    pub const IN_FLIGHT_MAX: u32 = 4_096;
    /// In flight when nothing is said: enough for 1,000/s at 250 ms.
    pub const IN_FLIGHT_DEFAULT: u32 = 256;
}

/// The record of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its public id.
    pub id: PoolId,
    /// Rises with every write; the etag.
    pub version: u64,
    /// For people.
    pub description: String,
    /// The one channel of all its lines.
    pub kind: ProviderKind,
    /// When it was created.
    pub created_at: UnixMillis,
    /// Last write.
    pub updated_at: UnixMillis,
}
