//! What both sides say, as plain data.

use serde::{Deserialize, Serialize};

use crate::sim::ledger::{Answer, Why};
use crate::sim::records::{Record, RefusedRecord};
use crate::sim::text::e164;

/// What a message shows, in the words of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Not sent yet.
    Pending,
    /// Handed over or about to be.
    Queued,
    /// Outcome unknown, awaited.
    InDoubt,
    /// Outcome unknown, no longer awaited.
    Unconfirmed,
    /// Sent.
    Sent,
    /// Delivered.
    Delivered,
    /// Read.
    Read,
    /// Failed.
    Failed,
    /// Unsent at the cancel.
    Cancelled,
    /// Unsent at the stop time.
    Expired,
    /// Anything this program does not know.
    Unknown,
}

impl Shown {
    /// All that are known, in the order of reports.
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

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
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
            Self::Unknown => "unknown",
        }
    }
}

/// Where an attempt is, in the words of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Intended, perhaps under way.
    Intent,
    /// Never written to the provider.
    Withdrawn,
    /// Accepted by the provider.
    Accepted,
    /// Refused, reported as failed, or nothing reached the provider.
    Failed,
    /// Outcome unknown.
    InDoubt,
    /// Outcome unknown, no longer awaited.
    Unconfirmed,
    /// Anything this program does not know.
    Unknown,
}

/// One attempt as the server exports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// Its correlation id.
    pub correlation: String,
    /// Where it is.
    pub phase: Phase,
    /// The server says that the provider accepted it.
    pub accepted: bool,
    /// The provider's id, empty when not known.
    pub provider_id: String,
    /// The code of its failure, empty when it did not fail.
    pub failure: String,
    /// When its intent became durable, ns since the epoch.
    pub began_ns: u64,
}

/// One message as the server exports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Place in the campaign.
    pub seq: u32,
    /// Recipient, `+` and digits.
    pub address: String,
    /// The customer's own id, empty when none was given.
    pub external_id: String,
    /// Its parameters.
    pub parameters: Vec<String>,
    /// What it shows.
    pub shown: Shown,
    /// Highest stage: pending 1, queued 2, sent 3, delivered 4, read 5.
    pub reached: u8,
    /// Marked as failed and delivered in one attempt.
    pub conflict: bool,
    /// Marked as gone out twice.
    pub double: bool,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
}

/// A campaign's counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Recipients.
    pub total: u64,
    /// By shown status, in the order of [`Shown::ALL`].
    pub shown: [u64; 10],
    /// Reached sent, delivered, read (cumulative).
    pub reached: [u64; 3],
    /// Messages of which an attempt was accepted.
    pub accepted: u64,
    /// Failed and delivered in one attempt.
    pub conflicts: u64,
    /// Known to have gone out twice.
    pub doubles: u64,
}

impl Counts {
    /// The count of one shown status.
    #[must_use]
    pub fn of(&self, shown: Shown) -> u64 {
        Shown::ALL.iter().position(|s| *s == shown).map_or(0, |place| self.shown[place])
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.total += other.total;
        self.shown.iter_mut().zip(other.shown).for_each(|(sum, one)| *sum += one);
        self.reached.iter_mut().zip(other.reached).for_each(|(sum, one)| *sum += one);
        self.accepted += other.accepted;
        self.conflicts += other.conflicts;
        self.doubles += other.doubles;
        self
    }

    /// Adds one message.
    pub fn add(&mut self, message: &Exported) {
        self.total += 1;
        if let Some(place) = Shown::ALL.iter().position(|s| *s == message.shown) {
            self.shown[place] += 1;
        }
        for (place, stage) in (3..=5).enumerate() {
            self.reached[place] += u64::from(message.reached >= stage);
        }
        self.accepted += u64::from(message.attempts.iter().any(|a| a.accepted));
        self.conflicts += u64::from(message.conflict);
        self.doubles += u64::from(message.double);
    }

    /// All counts by name, for tables and for comparing.
    #[must_use]
    pub fn named(&self) -> Vec<(String, u64)> {
        let mut all = vec![("total".to_owned(), self.total)];
        for (place, shown) in Shown::ALL.iter().enumerate() {
            all.push((format!("shown.{}", shown.word()), self.shown[place]));
        }
        for (place, word) in ["sent", "delivered", "read"].iter().enumerate() {
            all.push((format!("reached.{word}"), self.reached[place]));
        }
        all.push(("accepted".to_owned(), self.accepted));
        all.push(("conflicts".to_owned(), self.conflicts));
        all.push(("doubles".to_owned(), self.doubles));
        all
    }
}

/// One accepted message of the simulator's ledger, as small as the comparison allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its correlation id.
    pub correlation: Box<str>,
    /// The provider's id.
    pub id: Box<str>,
    /// The recipient's digits.
    pub to: u64,
    /// Digest of recipient, template and parameters.
    pub content: u64,
    /// The failure code that a `failed` carries.
    pub code: u32,
    /// How it was answered.
    pub answer: Answer,
    /// Statuses posted, as bits: sent 1, delivered 2, read 4, failed 8.
    pub tried: u8,
    /// Statuses acknowledged.
    pub acked: u8,
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        Self {
            correlation: record.correlation.into(),
            id: record.id.into(),
            to: e164(&record.to).unwrap_or(0),
            content: record.content,
            code: record.code,
            answer: record.answer,
            tried: record.tried,
            acked: record.acked,
        }
    }
}

/// What the provider said to a request that it did not accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// Its code, 0 when nothing was answered.
    pub code: u32,
    /// HTTP status, 0 when nothing was answered.
    pub http: u16,
    /// Why.
    pub why: Why,
}

impl std::fmt::Display for Booked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {} code {}, {:?}", self.http, self.code, self.why)
    }
}

/// One request of the simulator's books that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its correlation id as far as it could be read, else empty.
    pub correlation: Box<str>,
    /// What was said to it.
    pub booked: Booked,
}

impl From<RefusedRecord> for Refused {
    fn from(record: RefusedRecord) -> Self {
        let RefusedRecord { code, http, why, .. } = record;
        Self { correlation: record.correlation.into(), booked: Booked { code, http, why } }
    }
}

/// Statuses as bits.
pub const SENT: u8 = 1;
/// Delivered.
pub const DELIVERED: u8 = 2;
/// Read.
pub const READ: u8 = 4;
/// Failed.
pub const FAILED: u8 = 8;

/// The join of a set of statuses: failed over all, then the highest; nothing when the set is empty.
#[must_use]
pub fn join(bits: u8) -> Option<Shown> {
    [(FAILED, Shown::Failed), (READ, Shown::Read), (DELIVERED, Shown::Delivered), (SENT, Shown::Sent)]
        .into_iter()
        .find_map(|(bit, shown)| (bits & bit != 0).then_some(shown))
}

/// The highest stage in a set of statuses, 0 when there is none (a failure is not a stage reached).
#[must_use]
pub fn stage(bits: u8) -> u8 {
    match bits {
        _ if bits & READ != 0 => 5,
        _ if bits & DELIVERED != 0 => 4,
        _ if bits & SENT != 0 => 3,
        _ => 0,
    }
}
