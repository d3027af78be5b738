//! The simulator's own books: every request it accepted, every one it refused, every status it posted and what became of it.
//!
//! Compact, because a run holds millions: an accepted message takes 32 bytes and the length of its correlation id.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Status;

/// Entries are kept in chunks, so that growth never copies what is there.
const CHUNK: usize = 1 << 16;
/// Correlation ids are kept in chunks of one MiB.
const ARENA: usize = 1 << 20;
/// Refused arrivals kept one by one per line, for the rates; beyond it only counts go on.
const REFUSED_MAX: usize = 20_000_000;

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

/// Refusals of one line.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Number per provider code.
    pub by_code: BTreeMap<u32, u64>,
    /// Arrivals with their units.
    pub arrivals: Vec<(u64, u8)>,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    chunks: Vec<Vec<Entry>>,
    arena: Vec<Vec<u8>>,
    refusals: Vec<Refusals>,
    /// Refused before a line was known, by provider code.
    pub refused_elsewhere: BTreeMap<u32, u64>,
    /// Connections reset before anything was read.
    pub reset_unread: u64,
    /// Accepted with a correlation id longer than the books keep (65,535 bytes).
    pub cut: u64,
}

impl Ledger {
    /// Empty books for so many lines.
    #[must_use]
    pub fn new(lines: usize) -> Self {
        Self { refusals: (0..lines).map(|_| Refusals::default()).collect(), ..Self::default() }
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
        let bytes = message.correlation.as_bytes();
        let corr_len = u16::try_from(bytes.len()).unwrap_or(0);
        self.cut += u64::from(usize::from(corr_len) != bytes.len());
        let corr = self.keep(&bytes[..usize::from(corr_len)]);
        let number = self.len() as u32;
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push(Entry {
                at_ns: message.at_ns,
                recipient: message.recipient,
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

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let full = |chunk: &Vec<u8>| chunk.len() + bytes.len() > ARENA;
        if self.arena.last().is_none_or(full) {
            self.arena.push(Vec::with_capacity(ARENA));
        }
        let place = self.arena.len() - 1;
        let chunk = &mut self.arena[place];
        let at = (place * ARENA + chunk.len()) as u32;
        chunk.extend_from_slice(bytes);
        at
    }

    /// Books a refusal of a line.
    pub fn refuse(&mut self, line: u16, code: u32, at_ns: u64, cost: u8) {
        let refusals = &mut self.refusals[usize::from(line)];
        *refusals.by_code.entry(code).or_default() += 1;
        if refusals.arrivals.len() < REFUSED_MAX {
            refusals.arrivals.push((at_ns, cost));
        }
    }

    /// The refusals of a line.
    #[must_use]
    pub fn refusals(&self, line: u16) -> &Refusals {
        &self.refusals[usize::from(line)]
    }

    /// The accepted message of this number.
    #[must_use]
    pub fn entry(&self, number: u32) -> &Entry {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    /// The correlation id of an entry.
    #[must_use]
    pub fn correlation(&self, entry: &Entry) -> &str {
        let at = entry.corr as usize;
        let bytes = &self.arena[at / ARENA][at % ARENA..][..usize::from(entry.corr_len)];
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

    /// All arrivals of a line, refused ones included, unsorted.
    #[must_use]
    pub fn arrivals(&self, line: u16) -> Vec<(u64, u8)> {
        let accepted = self.chunks.iter().flatten().filter(|e| e.line == line);
        let mut all: Vec<(u64, u8)> = accepted.map(|e| (e.at_ns, e.cost)).collect();
        all.extend_from_slice(&self.refusals[usize::from(line)].arrivals);
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
            assert_eq!(entry.recipient, u64::from(n));
            assert_eq!(ledger.correlation(&entry), format!("correlation-of-{n:013}"));
        }
        ledger.tried(7, Status::Read);
        ledger.acked(7, Status::Sent);
        assert_eq!((ledger.entry(7).tried, ledger.entry(7).acked), (4, 1));
        ledger.refuse(1, 130_429, 5, 2);
        assert_eq!(ledger.arrivals(1).len(), 66_667 + 1);
        assert_eq!(ledger.refusals(1).by_code[&130_429], 1);
    }
}
