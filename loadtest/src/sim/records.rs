//! The books in the form that others read: one record per accepted message, one per request that was not, and a summary.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::core::{AccountKind, Core};
use super::ledger::{Answer, Why};
use super::plan::{Journey, Status};

/// One accepted message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, in the order of booking.
    pub n: u32,
    /// The provider's id.
    pub id: String,
    /// The sender's correlation id.
    pub correlation: String,
    /// The line's identity at the provider.
    pub line: String,
    /// The recipient, `+` and digits.
    pub to: String,
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// Digest of recipient, template and parameters; see [`super::digest`].
    pub content: u64,
    /// Units (SMS parts).
    pub cost: u8,
    /// How it was answered.
    pub answer: Answer,
    /// Statuses planned, as bits: sent 1, delivered 2, read 4, failed 8.
    pub planned: u8,
    /// Statuses posted at least once.
    pub tried: u8,
    /// Statuses acknowledged at least once.
    pub acked: u8,
    /// The failure code that a `failed` carries.
    pub code: u32,
}

/// One request that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// The sender's correlation id as far as it could be read, else empty.
    pub correlation: String,
    /// The line's identity at the provider; empty before one was known.
    pub line: String,
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// The provider's code, 0 when nothing was answered.
    pub code: u32,
    /// HTTP status of the answer, 0 when nothing was answered.
    pub http: u16,
    /// Why.
    pub why: Why,
}

/// The totals.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Accepted messages.
    pub accepted: u64,
    /// Accepted per line.
    pub by_line: BTreeMap<String, u64>,
    /// Refused per line and provider code; `""` before a line was known.
    pub refused: BTreeMap<String, BTreeMap<u32, u64>>,
    /// Connections reset before anything was answered.
    pub reset_unread: u64,
    /// Requests not accepted that are counted, but not kept one by one: there were too many.
    #[serde(default)]
    pub refused_unkept: u64,
    /// Messages whose answer was spoilt, by kind.
    pub spoilt: BTreeMap<String, u64>,
    /// Messages by what was acknowledged, in the order sent, delivered, read, failed (cumulative is not implied).
    pub acked: BTreeMap<String, u64>,
    /// Messages by the join of what was acknowledged: none, sent, delivered, read, failed.
    pub shown: BTreeMap<String, u64>,
    /// Correlation ids accepted more than once.
    pub correlations_doubled: u64,
    /// Accepted without a correlation id.
    pub without_correlation: u64,
    /// Statuses neither acknowledged nor given up.
    pub outstanding: u64,
}

/// Up to `max` records from number `from` on; empty at the end.
#[must_use]
pub fn piece(core: &Core, from: u32, max: u32) -> Vec<Record> {
    let state = core.state.lock();
    let end = (state.ledger.len() as u64).min(u64::from(from) + u64::from(max)) as u32;
    let mut records = Vec::with_capacity(end.saturating_sub(from) as usize);
    for n in from..end {
        let entry = state.ledger.entry(n);
        let line = &core.lines[usize::from(entry.line)];
        let plan = &state.plans[usize::from(entry.plan)];
        let journey = Journey::of(plan, core.config.seed, entry.recipient);
        let (codes, reported) = match core.accounts[line.account].kind {
            AccountKind::Meta(..) => (&plan.meta_codes, true),
            // Without a StatusCallback Twilio reports nothing.
            AccountKind::Twilio(..) => (&plan.twilio_codes, entry.url != 0),
        };
        records.push(Record {
            n,
            id: core.provider_id(line.account, n),
            correlation: state.ledger.correlation(entry).to_owned(),
            line: line.id.clone(),
            to: format!("+{}", entry.recipient),
            at_ns: entry.at_ns,
            content: entry.content,
            cost: entry.cost,
            answer: entry.answer,
            planned: if reported { journey.bits() } else { 0 },
            tried: entry.tried,
            acked: entry.acked,
            code: journey.code(codes),
        });
    }
    records
}

/// Up to `max` requests that were not accepted from number `from` on; empty at the end.
#[must_use]
pub fn refused_piece(core: &Core, from: usize, max: usize) -> Vec<RefusedRecord> {
    let state = core.state.lock();
    let records = state.ledger.refused_from(from).take(max).map(|(refusal, correlation)| RefusedRecord {
        correlation: correlation.to_owned(),
        line: refusal.line().map_or_else(String::new, |line| core.lines[usize::from(line)].id.clone()),
        at_ns: refusal.at_ns,
        code: refusal.code,
        http: refusal.http,
        why: refusal.why,
    });
    records.collect()
}

/// The totals, computed in pieces so that the books are never held for long.
#[must_use]
pub fn summary(core: &Core) -> Summary {
    const PIECE: u32 = 8_192;
    let mut summary = Summary { refused: core.refusals(), ..Summary::default() };
    // 64-bit hashes, 16 bytes an entry: a false double among ten million has a chance of one in 300,000.
    let mut seen: HashSet<u64> = HashSet::new();
    let mut from = 0;
    loop {
        let state = core.state.lock();
        let len = state.ledger.len() as u32;
        for n in from..len.min(from + PIECE) {
            let entry = state.ledger.entry(n);
            let line = &core.lines[usize::from(entry.line)].id;
            count(&mut summary.by_line, line);
            if entry.answer != Answer::Given {
                count(&mut summary.spoilt, &format!("{:?}", entry.answer).to_lowercase());
            }
            for status in Status::ALL {
                if entry.acked & status.bit() != 0 {
                    count(&mut summary.acked, status.word());
                }
            }
            count(&mut summary.shown, shown(entry.acked));
            let correlation = state.ledger.correlation(entry);
            if correlation.is_empty() {
                summary.without_correlation += 1;
            } else if !seen.insert(hash(correlation)) {
                summary.correlations_doubled += 1;
            }
        }
        from = len.min(from + PIECE);
        if from == len {
            summary.accepted = u64::from(len);
            summary.reset_unread = state.ledger.reset_unread;
            summary.refused_unkept = state.ledger.refused_unkept;
            summary.outstanding = state.outstanding;
            return summary;
        }
    }
}

/// The word for the join of a set of statuses: failed over all, then the highest.
#[must_use]
pub fn shown(bits: u8) -> &'static str {
    for status in [Status::Failed, Status::Read, Status::Delivered, Status::Sent] {
        if bits & status.bit() != 0 {
            return status.word();
        }
    }
    "none"
}

fn count(map: &mut BTreeMap<String, u64>, key: &str) {
    match map.get_mut(key) {
        Some(number) => *number += 1,
        None => {
            map.insert(key.to_owned(), 1);
        }
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
