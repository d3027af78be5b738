//! How far a message got, and what is shown of it.

use serde::{Deserialize, Serialize};

/// How far an attempt got, by the provider's word. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing sent yet, or nothing known beyond the intent and the acceptance.
    #[default]
    Queued = 2,
    /// The provider's word that it left.
    Sent = 3,
    /// The provider's word that it reached the device.
    Delivered = 4,
    /// The recipient opened it; implies delivered.
    Read = 5,
}

impl Stage {
    /// The stage with this rank (design §1), if there is one.
    pub fn from_rank(rank: u8) -> Option<Self> {
        match rank {
            2 => Some(Self::Queued),
            3 => Some(Self::Sent),
            4 => Some(Self::Delivered),
            5 => Some(Self::Read),
            _ => None,
        }
    }

    /// The rank as the design numbers it.
    pub fn rank(self) -> u8 {
        self as u8
    }
}

/// What is shown of a message: a closed set. The counts by shown status add up to the recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// No attempt is under way; one may follow.
    Pending = 0,
    /// An intent stands, or the provider accepted the message.
    Queued = 1,
    /// An attempt with an intent, no known outcome, and nobody working on it any more.
    InDoubt = 2,
    /// In doubt, and the wait for an echo is over.
    Unconfirmed = 3,
    /// Sent, by the provider's word.
    Sent = 4,
    /// Delivered.
    Delivered = 5,
    /// Read.
    Read = 6,
    /// Failed for good.
    Failed = 7,
    /// The campaign was cancelled before the message left.
    Cancelled = 8,
    /// The campaign's `stop_at` came before the message left.
    Expired = 9,
}

impl Shown {
    /// All shown statuses, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Queued,
        Self::InDoubt,
        Self::Unconfirmed,
        Self::Sent,
        Self::Delivered,
        Self::Read,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The name used in metrics, exports and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::InDoubt => "in_doubt",
            Self::Unconfirmed => "unconfirmed",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// The shown status of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether nothing further is expected: the message counts as settled. `sent` is not final (a delivery report may follow),
    /// nor is `delivered` (it may be read), but neither holds a campaign open beyond its settle window.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Read | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

impl From<Stage> for Shown {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Queued => Self::Queued,
            Stage::Sent => Self::Sent,
            Stage::Delivered => Self::Delivered,
            Stage::Read => Self::Read,
        }
    }
}

/// Why the unsent messages of a campaign will never leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Somebody cancelled the campaign.
    Cancelled,
    /// `stop_at` came.
    Expired,
}

impl From<End> for Shown {
    fn from(end: End) -> Self {
        match end {
            End::Cancelled => Self::Cancelled,
            End::Expired => Self::Expired,
        }
    }
}
