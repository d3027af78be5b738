//! Every kind of lie is told once and must be found; the truth must pass.

mod books;
mod sends;
mod statuses;

use std::collections::BTreeMap;

use super::compare::{CampaignFold, Comparison, Differences, Kind, Policy, Said};
use super::doubts::Traceless;
use super::records::{
    Attempt, Booked, Counts, DELIVERED, Entry, Exported, FAILED, Phase, READ, Refused, SENT, Shown, join, stage,
};
use crate::harness::config::{TEMPLATE, TEMPLATE_LANGUAGE};
use crate::harness::people;
use crate::sim::digest;
use crate::sim::ledger::{Answer, Why};
use crate::sim::plan::Dice;

/// The code of every failure here.
const CODE: u32 = 131_026;
/// The block of all recipients here.
const BLOCK: u32 = 3;

fn digits(n: u32) -> u64 {
    crate::sim::text::e164(&people::phone(BLOCK, n)).expect("a number")
}

fn entry(n: u32, bits: u8) -> Entry {
    let [name, discount] = people::params(n);
    let values = [name.as_str(), discount.as_str()];
    Entry {
        correlation: format!("c{n}").into(),
        id: format!("wamid.{n}").into(),
        to: digits(n),
        content: digest::template(digits(n), TEMPLATE, TEMPLATE_LANGUAGE, values.into_iter()),
        code: CODE,
        answer: Answer::Given,
        tried: bits,
        acked: bits,
    }
}

fn attempt(number: u32, correlation: &str, phase: Phase, id: &str) -> Attempt {
    let accepted = phase == Phase::Accepted;
    Attempt {
        number,
        correlation: correlation.to_owned(),
        phase,
        accepted,
        provider_id: id.to_owned(),
        failure: String::new(),
        began_ns: 1_000,
    }
}

/// A truthful message about `entry(n, bits)`.
fn message(n: u32, bits: u8) -> Exported {
    let mut attempts = vec![attempt(1, &format!("c{n}"), Phase::Accepted, &format!("wamid.{n}"))];
    if bits & FAILED != 0 {
        attempts[0].failure = CODE.to_string();
    }
    Exported {
        seq: n,
        address: people::phone(BLOCK, n),
        external_id: String::new(),
        parameters: people::params(n).to_vec(),
        shown: join(bits).unwrap_or(Shown::Queued),
        reached: stage(bits).max(2),
        conflict: bits & FAILED != 0 && bits & (DELIVERED | READ) != 0,
        double: false,
        attempts,
    }
}

/// A world with all kinds of journeys, and the truth about it.
fn world() -> (Vec<Entry>, Vec<Exported>) {
    let conflict = SENT | DELIVERED | FAILED;
    let sets = [SENT, SENT | DELIVERED, SENT | DELIVERED | READ, FAILED, SENT | FAILED, READ, 0, conflict];
    let mut dice = Dice::new(11, &[]);
    let bits: Vec<u8> = (0..60).map(|_| sets[(dice.next() % 8) as usize]).collect();
    let entries = bits.iter().enumerate().map(|(n, b)| entry(n as u32, *b)).collect();
    let messages = bits.iter().enumerate().map(|(n, b)| message(n as u32, *b)).collect();
    (entries, messages)
}

fn counts(messages: &[Exported]) -> Counts {
    let mut counts = Counts::default();
    messages.iter().for_each(|m| counts.add(m));
    counts
}

/// These messages, all of them in the ledger as they stand, and what the server says of the whole.
fn with(messages: &[Exported], said: Said) -> Differences {
    let bits = |m: &Exported| match m.shown {
        Shown::Failed => FAILED,
        _ => SENT,
    };
    let mut comparison = Comparison::new(messages.iter().map(|m| entry(m.seq, bits(m))).collect());
    let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, None);
    messages.iter().for_each(|m| comparison.message(&mut fold, m));
    comparison.campaign(fold, said);
    comparison.finish(true).0
}

fn compare_under(policy: Policy, entries: Vec<Entry>, messages: &[Exported]) -> Differences {
    let mut comparison = Comparison::new(entries);
    let mut fold = CampaignFold::new("camp", policy, None);
    messages.iter().for_each(|m| comparison.message(&mut fold, m));
    comparison.campaign(fold, said(messages));
    comparison.finish(true).0
}

/// Everything that a truthful server says of a campaign with these messages.
fn said(messages: &[Exported]) -> Said {
    let counts = counts(messages);
    let failed = messages.iter().filter(|m| m.shown == Shown::Failed);
    let mut failures = BTreeMap::new();
    for message in failed {
        let code = message.attempts.last().map_or("", |attempt| attempt.failure.as_str());
        *failures.entry(if code.is_empty() { "0" } else { code }.to_owned()).or_default() += 1;
    }
    Said {
        tally: counts.clone(),
        recount: counts.clone(),
        recount_s: 0.0,
        failures: Some(failures.clone()),
        listed: Some(counts.clone()),
        audience: Some(counts.total),
        watched: Some((counts, failures)),
    }
}

fn compare(entries: Vec<Entry>, messages: &[Exported]) -> Differences {
    compare_under(Policy::AtMostOnce, entries, messages)
}

fn only(differences: &Differences, kind: Kind) {
    assert_eq!(differences.of(kind), 1, "{differences:?}");
    assert_eq!(differences.0.len(), 1, "{differences:?}");
}

#[test]
fn the_truth_passes() {
    let (entries, messages) = world();
    let found = compare(entries, &messages);
    assert!(found.is_empty(), "{found:?}");
}

fn sent_twice(phase: Phase) -> (Vec<Entry>, Exported) {
    let mut twice = Exported { double: phase == Phase::InDoubt, ..message(0, SENT | DELIVERED) };
    twice.attempts = vec![attempt(1, "old", phase, ""), attempt(2, "c0", Phase::Accepted, "wamid.0")];
    let old = Entry { correlation: "old".into(), id: "wamid.old".into(), ..entry(0, SENT) };
    (vec![old, entry(0, SENT | DELIVERED)], twice)
}

/// Messages that the provider never accepted, what it booked of them, and when the server was killed.
fn never_accepted(
    messages: &[Exported],
    refused: &[Refused],
    kills: &[u64],
    (in_flight, unsent): (u64, bool),
) -> (Differences, Traceless) {
    let mut comparison = Comparison::new(vec![]).refused(refused.to_vec()).interrupted(Some(kills.to_vec()));
    let fold = CampaignFold::new("camp", Policy::AtMostOnce, None).in_flight(in_flight).unsent(unsent);
    let mut fold = fold.under_way(0, 1_000_000);
    messages.iter().for_each(|m| comparison.message(&mut fold, m));
    comparison.campaign(fold, said(messages));
    let (differences, campaigns) = comparison.finish(true);
    (differences, campaigns[0].traceless)
}

fn refused(n: u32, code: u32, why: Why) -> Refused {
    Refused { correlation: format!("c{n}").into(), booked: Booked { code, http: 400, why } }
}

fn given_up(n: u32, shown: Shown, phase: Phase) -> Exported {
    let mut message = Exported { shown, reached: 1, ..message(n, 0) };
    message.attempts[0] = attempt(1, &format!("c{n}"), phase, "");
    if phase == Phase::Failed {
        message.attempts[0].failure = CODE.to_string();
    }
    message
}
