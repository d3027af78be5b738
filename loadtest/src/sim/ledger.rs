//! The simulator's own books: every request it accepted, every one it refused, every status it posted and what became of it.
//!
//! Compact, because a run holds millions: an accepted message takes 40 bytes and the length of its correlation id, a request that was not
//! accepted 24 and the length of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Status;

/// Entries are kept in chunks, so that growth never copies what is there.
const CHUNK: usize = 1 << 16;
/// Correlation ids are kept in chunks of one MiB.
const ARENA: usize = 1 << 20;
/// Requests that were not accepted kept one by one; beyond it only counts go on, and the summary says so.
const REFUSED_MAX: usize = 20_000_000;
/// Stands for a line that is not known.
const NO_LINE: u16 = u16::MAX;

/// How the answer to an accepted request left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Answer {
    /// A normal success.
    Given,
    /// The connection was reset instead.
    Reset,
    /// Nothing was answered for a long time.
    Hung,
    /// An error was answered although the message was accepted.
    Error,
}

/// One accepted message.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// The recipient's digits.
    pub recipient: u64,
    /// Digest of recipient, template and parameters; see [`super::digest`].
    pub content: u64,
    corr: u32,
    corr_len: u16,
    /// The line, an index into the configuration.
    pub line: u16,
    /// The callback URL around the correlation id, an index (Twilio).
    pub url: u16,
    /// Plan in force when it was accepted.
    pub plan: u8,
    /// Units that it cost (SMS parts).
    pub cost: u8,
    /// The address carried the `whatsapp:` prefix.
    pub whatsapp: bool,
    /// How it was answered.
    pub answer: Answer,
    /// Statuses of which at least one POST was begun, as bits.
    pub tried: u8,
    /// Statuses of which at least one POST was acknowledged with 200, as bits.
    pub acked: u8,
}

/// What is known when a request is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// The recipient's digits.
    pub recipient: u64,
    /// Digest of recipient, template and parameters.
    pub content: u64,
    /// The sender's correlation id, empty when it gave none.
    pub correlation: &'a str,
    /// The line.
    pub line: u16,
    /// The callback URL's index.
    pub url: u16,
    /// The plan's index.
    pub plan: u8,
    /// Units.
    pub cost: u8,
    /// With the `whatsapp:` prefix.
    pub whatsapp: bool,
    /// How it will be answered.
    pub answer: Answer,
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Why {
    /// A fault rule said so; an error was answered.
    Fault,
    /// Above the line's ceiling.
    TooFast,
    /// Too much for one recipient.
    Pair,
    /// Something is wrong with it: path, credentials, form, template, parameters. No fault rule makes these.
    Wrong,
    /// A fault rule: never answered, then reset.
    Hung,
    /// A fault rule: the connection was reset before anything was answered.
    Reset,
    /// It ended before it was whole.
    Cut,
}

/// One request that was not accepted.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// The provider's code, 0 when nothing was answered.
    pub code: u32,
    corr: u32,
    corr_len: u16,
    line: u16,
    /// HTTP status of the answer, 0 when nothing was answered.
    pub http: u16,
    /// Units.
    pub cost: u8,
    /// Why.
    pub why: Why,
}

impl Refusal {
    /// The line, when it got so far that one was known.
    #[must_use]
    pub fn line(&self) -> Option<u16> {
        (self.line != NO_LINE).then_some(self.line)
    }
}

/// What is known of a request that is not accepted.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Arrival, ns since the epoch.
    pub at_ns: u64,
    /// The line, when one is known.
    pub line: Option<u16>,
    /// The sender's correlation id as far as it can be read, else empty.
    pub correlation: &'a str,
    /// The provider's code, 0 when nothing is answered.
    pub code: u32,
    /// HTTP status of the answer, 0 when nothing is answered.
    pub http: u16,
    /// Units.
    pub cost: u8,
    /// Why.
    pub why: Why,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    chunks: Vec<Vec<Entry>>,
    arena: Vec<Vec<u8>>,
    refused: Vec<Refusal>,
    /// Answered refusals per line and provider code; those before a line was known stand last.
    by_code: Vec<BTreeMap<u32, u64>>,
    /// Connections reset before anything was answered.
    pub reset_unread: u64,
    /// Requests not accepted that are counted, but no longer kept one by one.
    pub refused_unkept: u64,
    /// Accepted with a correlation id longer than the books keep (65,535 bytes).
    pub cut: u64,
}

impl Ledger {
    /// Empty books for so many lines.
    #[must_use]
    pub fn new(lines: usize) -> Self {
        Self { by_code: vec![BTreeMap::new(); lines + 1], ..Self::default() }
    }

    /// Number of accepted messages.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.chunks.split_last() {
            Some((last, full)) => full.len() * CHUNK + last.len(),
            None => 0,
        }
    }

    /// Whether nothing was accepted yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Books an accepted message and returns its number.
    pub fn accept(&mut self, message: &Accepted<'_>) -> u32 {
        let (corr, corr_len) = self.keep(message.correlation);
        let number = self.len() as u32;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Entry {
                at_ns: message.at_ns,
                recipient: message.recipient,
                content: message.content,
                corr,
                corr_len,
                line: message.line,
                url: message.url,
                plan: message.plan,
                cost: message.cost,
                whatsapp: message.whatsapp,
                answer: message.answer,
                tried: 0,
                acked: 0,
            });
        }
        number
    }

    fn keep(&mut self, correlation: &str) -> (u32, u16) {
        let bytes = correlation.as_bytes();
        let len = u16::try_from(bytes.len()).unwrap_or(0);
        self.cut += u64::from(usize::from(len) != bytes.len());
        let bytes = &bytes[..usize::from(len)];
        let full = |chunk: &Vec<u8>| chunk.len() + bytes.len() > ARENA;
        if self.arena.last().is_none_or(full) {
            self.arena.push(Vec::with_capacity(ARENA));
        }
        let place = self.arena.len() - 1;
        let chunk = &mut self.arena[place];
        let at = (place * ARENA + chunk.len()) as u32;
        chunk.extend_from_slice(bytes);
        (at, len)
    }

    /// Books a request that is not accepted.
    pub fn refuse(&mut self, refused: &Refused<'_>) {
        self.reset_unread += u64::from(refused.why == Why::Reset);
        if !matches!(refused.why, Why::Reset | Why::Cut) {
            let place = refused.line.map_or(self.by_code.len() - 1, usize::from);
            *self.by_code[place].entry(refused.code).or_default() += 1;
        }
        if self.refused.len() >= REFUSED_MAX {
            self.refused_unkept += 1;
            return;
        }
        let (corr, corr_len) = self.keep(refused.correlation);
        self.refused.push(Refusal {
            at_ns: refused.at_ns,
            code: refused.code,
            corr,
            corr_len,
            line: refused.line.unwrap_or(NO_LINE),
            http: refused.http,
            cost: refused.cost,
            why: refused.why,
        });
    }

    /// Answered refusals of a line by provider code; without a line those before one was known.
    #[must_use]
    pub fn refused_by_code(&self, line: Option<u16>) -> &BTreeMap<u32, u64> {
        &self.by_code[line.map_or(self.by_code.len() - 1, usize::from)]
    }

    /// Requests that were not accepted, with their correlation ids, from number `from` on.
    pub fn refused_from(&self, from: usize) -> impl Iterator<Item = (&Refusal, &str)> {
        self.refused.iter().skip(from).map(|refusal| (refusal, self.text(refusal.corr, refusal.corr_len)))
    }

    /// The accepted message of this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> &Entry {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// The correlation id of an entry.
    #[must_use]
    pub fn correlation(&self, entry: &Entry) -> &str {
        self.text(entry.corr, entry.corr_len)
    }

    fn text(&self, at: u32, len: u16) -> &str {
        let at = at as usize;
        let bytes = &self.arena[at / ARENA][at % ARENA..][..usize::from(len)];
        std::str::from_utf8(bytes).unwrap_or("")
    }

    /// Notes that a status was posted.
    pub fn tried(&mut self, number: u32, status: Status) {
        self.chunks[number as usize / CHUNK][number as usize % CHUNK].tried |= status.bit();
    }

    /// Notes that a status was acknowledged.
    pub fn acked(&mut self, number: u32, status: Status) {
        self.chunks[number as usize / CHUNK][number as usize % CHUNK].acked |= status.bit();
    }

    /// Notes how an accepted message was answered after all.
    pub fn answered(&mut self, number: u32, answer: Answer) {
        self.chunks[number as usize / CHUNK][number as usize % CHUNK].answer = answer;
    }

    /// All arrivals of a line, those that were not accepted included, unsorted.
    #[must_use]
    pub fn arrivals(&self, line: u16) -> Vec<(u64, u8)> {
        let accepted = self.chunks.iter().flatten().filter(|e| e.line == line);
        let mut all: Vec<(u64, u8)> = accepted.map(|e| (e.at_ns, e.cost)).collect();
        all.extend(self.refused.iter().filter(|r| r.line == line).map(|r| (r.at_ns, r.cost)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(n: u64, correlation: &str) -> Accepted<'_> {
        Accepted {
            at_ns: n,
            recipient: n,
            content: n ^ 5,
            correlation,
            line: (n % 3) as u16,
            url: 0,
            plan: 0,
            cost: 1,
            whatsapp: false,
            answer: Answer::Given,
        }
    }

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<Entry>() <= 40, "{}", size_of::<Entry>());
        assert!(size_of::<Refusal>() <= 24, "{}", size_of::<Refusal>());
    }

    #[test]
    fn what_is_booked_is_found_again() {
        let mut ledger = Ledger::new(3);
        for n in 0..200_000u64 {
            let id = format!("correlation-of-{n:013}");
            assert_eq!(u64::from(ledger.accept(&accepted(n, &id))), n);
        }
        assert_eq!(ledger.len(), 200_000);
        for n in (0..200_000u32).step_by(777) {
            let entry = *ledger.entry(n);
            assert_eq!((entry.recipient, entry.content), (u64::from(n), u64::from(n) ^ 5));
            assert_eq!(ledger.correlation(&entry), format!("correlation-of-{n:013}"));
        }
        ledger.tried(7, Status::Read);
        ledger.acked(7, Status::Sent);
        assert_eq!((ledger.entry(7).tried, ledger.entry(7).acked), (4, 1));
        let refused =
            |line, correlation, code, why| Refused { at_ns: 5, line, correlation, code, http: 400, cost: 2, why };
        ledger.refuse(&refused(Some(1), "late", 130_429, Why::TooFast));
        ledger.refuse(&refused(Some(1), "torn", 0, Why::Reset));
        ledger.refuse(&refused(None, "", 190, Why::Wrong));
        assert_eq!(ledger.arrivals(1).len(), 66_667 + 2, "what was reset has arrived as well");
        assert_eq!(ledger.refused_by_code(Some(1)), &BTreeMap::from([(130_429, 1)]));
        assert_eq!(ledger.refused_by_code(None), &BTreeMap::from([(190, 1)]));
        let booked: Vec<(&str, Why)> = ledger.refused_from(0).map(|(refusal, id)| (id, refusal.why)).collect();
        assert_eq!(booked, [("late", Why::TooFast), ("torn", Why::Reset), ("", Why::Wrong)]);
        assert_eq!((ledger.refused_from(1).count(), ledger.reset_unread), (2, 1));
    }
}
