//! What came back from a send, and what it means.

use super::class::Class;
use crate::domain::message::Failure;
use std::time::Duration;

/// What a sender got for an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// An HTTP answer, whole.
    Http {
        /// Status.
        status: u16,
        /// Body, as far as it was read.
        body: &'a [u8],
    },
    /// No whole answer.
    Transport(Transport),
}

/// How an attempt ended without a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Name lookup, connect or TLS failed, or the connection closed before the first byte of the request was written.
    NothingWritten,
    /// The connection broke after the first byte.
    CutAfterWrite,
    /// No answer in time after the first byte.
    TimeoutAfterWrite,
    /// The head of an answer came, but its body broke off or was too long to keep.
    AnswerCut {
        /// Status of the head.
        status: u16,
    },
}

/// Meaning of an answer. Under *at most once* only [`Verdict::NotProcessed`] is sent again without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The provider took the message; `sent` waits for its webhook.
    Accepted {
        /// The provider's message id.
        provider_id: Box<str>,
        /// Taken, but held back for quality assessment or by a paused template; a `failed` may follow.
        held: bool,
    },
    /// Certainly not processed: the message goes back and is sent again.
    NotProcessed {
        /// What kind of trouble.
        class: Class,
        /// Why, as the ledger keeps it. Its texts may hold the recipient's number: stored and shown, never logged.
        failure: Box<Failure>,
        /// Whether the retry budget is charged.
        charged: bool,
        /// Fewer repeats than the policy's, if the code says so.
        retries_max: Option<u8>,
        /// Shortest wait; `None` leaves it to the backoff. With class `Pair` the caller's pair schedule adds to it.
        wait: Option<Duration>,
        /// What else follows.
        effects: Effects,
    },
    /// Final for this recipient.
    Failed {
        /// What kind of trouble.
        class: Class,
        /// Why, as the ledger keeps it. Its texts may hold the recipient's number: stored and shown, never logged.
        failure: Box<Failure>,
        /// What else follows.
        effects: Effects,
    },
    /// It may have been sent: in doubt under *at most once*, repeated and charged under *at least once*.
    Unclear {
        /// What kind of trouble the code would be, had the answer proved anything.
        class: Class,
        /// What is known.
        failure: Box<Failure>,
        /// Fewer repeats than the policy's, if the code says so.
        retries_max: Option<u8>,
        /// Shortest wait before a repeat, beyond the policy's grace.
        wait: Option<Duration>,
        /// What else follows.
        effects: Effects,
    },
}

impl Verdict {
    /// The failure, unless accepted.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Accepted { .. } => None,
            Self::NotProcessed { failure, .. } | Self::Failed { failure, .. } | Self::Unclear { failure, .. } => {
                Some(failure)
            }
        }
    }

    /// The class, unless accepted.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Accepted { .. } => None,
            Self::NotProcessed { class, .. } | Self::Failed { class, .. } | Self::Unclear { class, .. } => Some(*class),
        }
    }

    /// The effects beyond the message; none when accepted.
    pub fn effects(&self) -> Effects {
        match self {
            Self::Accepted { .. } => Effects::default(),
            Self::NotProcessed { effects, .. } | Self::Failed { effects, .. } | Self::Unclear { effects, .. } => {
                *effects
            }
        }
    }
}

/// What an outcome does beyond its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// To a line, an account or a campaign.
    pub act: Option<Act>,
    /// Counts towards the run of one code (twenty in a row) that holds the campaign.
    pub bug_run: bool,
    /// Counts towards the run of unclear outcomes that opens the line's breaker.
    pub breaker: bool,
    /// The recipient belongs on the suppression list.
    pub suppress: bool,
}

/// An act on more than one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Halve the line's aim and grow it back.
    SlowLine,
    /// The same for every line of the account.
    SlowAccount,
    /// Send nothing over the line for so long.
    PauseLine(Duration),
    /// Send nothing over any line of the account for so long.
    PauseAccount(Duration),
    /// Send nothing of the campaign for so long.
    PauseCampaign(Duration),
    /// Hold the line until somebody releases it.
    HoldLine,
    /// Hold every line of the account.
    HoldAccount,
    /// Hold the campaign.
    HoldCampaign,
}

/// What an error body says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorSaid {
    /// The provider's code.
    pub(super) code: Option<u32>,
    /// Its text, shortened.
    pub(super) message: String,
    /// What helps to look further, shortened.
    pub(super) details: String,
}

/// A provider's text without control characters, cut to what the ledger keeps.
pub(super) fn kept(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(Failure::TEXT_BYTES_MAX));
    for c in text.trim().chars() {
        if kept.len() + c.len_utf8() > Failure::TEXT_BYTES_MAX {
            break;
        }
        kept.push(if c.is_control() { ' ' } else { c });
    }
    kept
}
