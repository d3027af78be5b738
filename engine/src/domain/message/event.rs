//! What happens to a message: every change of the ledger is one of these events.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::ids::LineKey;
use crate::domain::time::UnixMillis;

/// Why an attempt failed, as the provider said it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The provider's code; 0 when it gave none (a transport failure, a decision of a person).
    pub code: u32,
    /// The error class of the provider's table that decided what followed (`recipient`, `campaign`, …).
    pub class: Box<str>,
    /// Short title.
    pub title: Box<str>,
    /// The provider's message, cut to [`Failure::TEXT_BYTES_MAX`].
    pub message: Box<str>,
    /// The provider's details, cut likewise.
    pub details: Box<str>,
}

// By hand: the provider's texts may hold the recipient's number, which must not reach a log by way of `{:?}`.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("code", &self.code).field("class", &self.class).finish_non_exhaustive()
    }
}

impl Failure {
    /// Longest text kept of any field, in bytes: the ledger does not grow with a provider's mood.
    pub const TEXT_BYTES_MAX: usize = 300;

    /// Builds a failure, cutting each text to its bound.
    pub fn new(code: u32, class: &str, title: &str, message: &str, details: &str) -> Self {
        let cut = |text: &str| -> Box<str> { text[..text.floor_char_boundary(Self::TEXT_BYTES_MAX)].into() };
        Self { code, class: cut(class), title: cut(title), message: cut(message), details: cut(details) }
    }
}

/// What a provider reports of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reported {
    /// It left the provider.
    Sent,
    /// It reached the device.
    Delivered,
    /// It was opened.
    Read,
    /// It failed for good.
    Failed,
}

/// What a person decides about an attempt in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was sent.
    ConfirmSent,
    /// It was not sent, and shall not be.
    ConfirmFailed,
    /// Send it again, at the risk of a double.
    SendAgain,
}

/// What happens to a message. Every change of the ledger is one of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The attempt is about to be sent. Stands only on a pending message, with the next number.
    Intent {
        /// The number; one more than the newest attempt's.
        attempt: u16,
        /// The line it goes to.
        line: LineKey,
        /// Now.
        at: UnixMillis,
    },
    /// The intent was not used: no byte left.
    Withdrawn {
        /// The attempt.
        attempt: u16,
        /// Now.
        at: UnixMillis,
    },
    /// The provider answered 2xx.
    Accepted {
        /// The attempt.
        attempt: u16,
        /// Now.
        at: UnixMillis,
        /// The provider's id of the message.
        provider_id: Box<str>,
    },
    /// A provider's webhook says that it has the message, no more: [`Event::Accepted`] by another way. Like every report it counts
    /// only from the account of the attempt's line.
    Echoed {
        /// The attempt that the correlation id names.
        attempt: u16,
        /// The lines of the account that reports, ascending: the attempt's must be one of them.
        lines: Arc<[LineKey]>,
        /// First seen here.
        at: UnixMillis,
        /// The provider's id of the message.
        provider_id: Box<str>,
    },
    /// It is known that the provider did not process the attempt; another follows.
    NotProcessed {
        /// The attempt.
        attempt: u16,
        /// Now.
        at: UnixMillis,
        /// What the provider said, if anything.
        failure: Option<Box<Failure>>,
        /// Whether the retry budget pays.
        charged: bool,
        /// When the next attempt may leave.
        due_at: UnixMillis,
    },
    /// The provider refused the attempt for good, or the budget is spent.
    Rejected {
        /// The attempt.
        attempt: u16,
        /// Now.
        at: UnixMillis,
        /// What the provider said.
        failure: Box<Failure>,
    },
    /// The outcome is unknown and nobody works on the attempt any more.
    Doubt {
        /// The attempt.
        attempt: u16,
        /// Now.
        at: UnixMillis,
        /// When the wait for an echo ends.
        due_at: UnixMillis,
    },
    /// The provider reports a stage or a failure.
    Report {
        /// The attempt, from the echoed correlation id.
        attempt: u16,
        /// The lines of the account that reports, ascending: a report counts only if its account owns the attempt's line.
        lines: Arc<[LineKey]>,
        /// Now.
        at: UnixMillis,
        /// What is reported.
        what: Reported,
        /// The provider's own time, Unix seconds.
        provider_at: Option<i64>,
        /// The provider's id of the message.
        provider_id: Option<Box<str>>,
        /// With `Failed`: why.
        failure: Option<Box<Failure>>,
    },
    /// The wait for an echo is over.
    DoubtExpired {
        /// Now.
        at: UnixMillis,
        /// At least once: another attempt follows while the retry budget, this large, is not spent; it pays for each. `None`, at
        /// most once: stands as unconfirmed.
        resend_up_to: Option<u8>,
    },
    /// Somebody decided about an attempt in doubt or unconfirmed.
    Resolved {
        /// What was decided.
        decision: Decision,
        /// Now.
        at: UnixMillis,
    },
}

impl Event {
    /// The attempt that the event is about; `None` where it is about the newest, whichever that is.
    pub fn attempt(&self) -> Option<u16> {
        match self {
            Self::Intent { attempt, .. }
            | Self::Withdrawn { attempt, .. }
            | Self::Accepted { attempt, .. }
            | Self::Echoed { attempt, .. }
            | Self::NotProcessed { attempt, .. }
            | Self::Rejected { attempt, .. }
            | Self::Doubt { attempt, .. }
            | Self::Report { attempt, .. } => Some(*attempt),
            Self::DoubtExpired { .. } | Self::Resolved { .. } => None,
        }
    }
}

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Something was learnt or moved; the message must be written.
    Changed,
    /// Nothing new: a duplicate, or a decision that no longer applies.
    NoChange,
    /// The event does not fit the state: an intent on a message that is not pending, or an attempt never made.
    Refused,
}
