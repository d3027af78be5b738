//! What is known of a message: where its owner stands, and the facts of each attempt.

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::domain::ids::LineKey;
use crate::domain::stage::Stage;
use crate::domain::time::UnixMillis;

/// Where the owner stands with the newest attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No attempt is under way; `due_at` says when the next may leave (none: at once).
    #[default]
    Pending = 1,
    /// The intent is durable, the outcome is not.
    InFlight = 2,
    /// The provider took it.
    Accepted = 3,
    /// Nobody works on the attempt any more and nobody knows its outcome; `due_at` ends the wait for an echo.
    InDoubt = 4,
    /// The wait is over: stands until somebody decides or a late echo resolves it.
    Unconfirmed = 5,
    /// Failed for good.
    Failed = 6,
}

impl Phase {
    /// The phase with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Pending),
            2 => Some(Self::InFlight),
            3 => Some(Self::Accepted),
            4 => Some(Self::InDoubt),
            5 => Some(Self::Unconfirmed),
            6 => Some(Self::Failed),
            _ => None,
        }
    }

    /// The name used in exports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::Accepted => "accepted",
            Self::InDoubt => "in_doubt",
            Self::Unconfirmed => "unconfirmed",
            Self::Failed => "failed",
        }
    }
}

/// When a report was first seen here, and the provider's own time for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// First seen by this engine.
    pub at: UnixMillis,
    /// The provider's own time, in Unix seconds.
    pub provider_at: Option<i64>,
}

/// The facts of one attempt. Each is written once; the first report of a kind stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u16,
    /// The line it was meant for.
    pub line: LineKey,
    /// When the intent was written.
    pub intent_at: UnixMillis,
    /// When the intent was taken back, unused.
    pub withdrawn_at: Option<UnixMillis>,
    /// When the provider's 2xx came.
    pub accepted_at: Option<UnixMillis>,
    /// When its outcome became unclear.
    pub doubt_at: Option<UnixMillis>,
    /// The provider's id of the message.
    pub provider_id: Option<Box<str>>,
    /// First report of `sent`.
    pub sent: Option<Seen>,
    /// First report of `delivered`.
    pub delivered: Option<Seen>,
    /// First report of `read`.
    pub read: Option<Seen>,
    /// First report of failure, or the provider's refusal.
    pub failed: Option<Seen>,
    /// What the failure was (also of a refusal that is tried again).
    pub failure: Option<Box<Failure>>,
}

impl Attempt {
    /// One with an intent and nothing more.
    pub(crate) fn new(number: u16, line: LineKey, at: UnixMillis) -> Self {
        Self {
            number,
            line,
            intent_at: at,
            withdrawn_at: None,
            accepted_at: None,
            doubt_at: None,
            provider_id: None,
            sent: None,
            delivered: None,
            read: None,
            failed: None,
            failure: None,
        }
    }

    /// How far this attempt got: the highest stage reported, skipped stages implied.
    pub fn stage(&self) -> Stage {
        if self.read.is_some() {
            Stage::Read
        } else if self.delivered.is_some() {
            Stage::Delivered
        } else if self.sent.is_some() {
            Stage::Sent
        } else {
            Stage::Queued
        }
    }

    /// Whether the provider took it, by its answer or by a report.
    pub fn was_sent(&self) -> bool {
        self.accepted_at.is_some() || self.stage() > Stage::Queued
    }
}
