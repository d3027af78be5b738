//! Every kind of lie is told once and must be found; the truth must pass.

use std::collections::HashMap;

use super::compare::{CampaignFold, Comparison, Differences, Kind, Policy};
use super::records::{Attempt, Counts, DELIVERED, Entry, Exported, FAILED, Phase, READ, SENT, Shown, join, stage};
use crate::sim::ledger::Answer;
use crate::sim::plan::Dice;
use crate::sim::rates::line_rate;

fn entry(n: u32, bits: u8) -> Entry {
    Entry {
        correlation: format!("c{n}").into(),
        id: format!("wamid.{n}").into(),
        to: format!("+999{n:09}").into(),
        answer: Answer::Given,
        tried: bits,
        acked: bits,
    }
}

fn attempt(number: u32, correlation: &str, phase: Phase, id: &str) -> Attempt {
    let accepted = phase == Phase::Accepted;
    Attempt { number, correlation: correlation.to_owned(), phase, accepted, provider_id: id.to_owned() }
}

/// A truthful message about `entry(n, bits)`.
fn message(n: u32, bits: u8) -> Exported {
    Exported {
        seq: n,
        address: format!("+999{n:09}"),
        shown: join(bits).unwrap_or(Shown::Queued),
        reached: stage(bits).max(2),
        conflict: bits & FAILED != 0 && bits & (SENT | DELIVERED | READ) != 0,
        double: false,
        attempts: vec![attempt(1, &format!("c{n}"), Phase::Accepted, &format!("wamid.{n}"))],
    }
}

/// A world with all kinds of journeys, and the truth about it.
fn world() -> (Vec<Entry>, Vec<Exported>) {
    let sets = [SENT, SENT | DELIVERED, SENT | DELIVERED | READ, FAILED, SENT | FAILED, READ, 0];
    let mut dice = Dice::new(11, &[]);
    let bits: Vec<u8> = (0..60).map(|_| sets[(dice.next() % 7) as usize]).collect();
    let entries = bits.iter().enumerate().map(|(n, b)| entry(n as u32, *b)).collect();
    let messages = bits.iter().enumerate().map(|(n, b)| message(n as u32, *b)).collect();
    (entries, messages)
}

fn counts(messages: &[Exported]) -> Counts {
    let mut counts = Counts::default();
    messages.iter().for_each(|m| counts.add(m));
    counts
}

fn compare_under(policy: Policy, entries: Vec<Entry>, messages: &[Exported]) -> Differences {
    let mut comparison = Comparison::new(entries);
    let mut fold = CampaignFold::new("camp", policy, None);
    messages.iter().for_each(|m| comparison.message(&mut fold, m));
    let counts = counts(messages);
    comparison.campaign(fold, counts.clone(), counts);
    comparison.finish(true).0
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

#[test]
fn a_claimed_message_that_never_arrived_is_lost() {
    let (mut entries, messages) = world();
    let place = messages.iter().position(|m| m.shown == Shown::Delivered).expect("one");
    entries.remove(place);
    let found = compare(entries, &messages);
    assert!(found.of(Kind::Lost) >= 1, "{found:?}");

    let quiet = Exported { shown: Shown::Queued, attempts: vec![attempt(1, "c0", Phase::Intent, "")], ..message(0, 0) };
    only(&compare(vec![], &[quiet]), Kind::Lost);
}

#[test]
fn an_accepted_message_that_the_server_denies_is_found() {
    for shown in [Shown::Pending, Shown::Cancelled, Shown::Expired] {
        let denied =
            Exported { shown, reached: 1, attempts: vec![attempt(1, "c1", Phase::Withdrawn, "")], ..message(1, 0) };
        let entries = vec![entry(1, SENT)];
        let mut other = denied;
        other.seq = 0;
        only(&compare(entries, &[other]), Kind::Denied);
    }
}

#[test]
fn a_correlation_id_accepted_twice_is_found() {
    let (mut entries, messages) = world();
    entries.push(Entry { id: "wamid.x".into(), ..entry(3, entries[3].acked) });
    let found = compare(entries, &messages);
    assert_eq!(found.of(Kind::CorrelationDoubled), 1, "{found:?}");
    assert_eq!(found.of(Kind::RecipientDoubled), 1, "{found:?}");
    assert_eq!(found.of(Kind::Stranger), 0, "both belong to the message");
}

fn sent_twice(phase: Phase) -> (Vec<Entry>, Exported) {
    let mut twice = message(0, SENT | DELIVERED);
    twice.attempts = vec![attempt(1, "old", phase, ""), attempt(2, "c0", Phase::Accepted, "wamid.0")];
    let old = Entry { correlation: "old".into(), id: "wamid.old".into(), ..entry(0, SENT) };
    (vec![old, entry(0, SENT | DELIVERED)], twice)
}

#[test]
fn a_recipient_accepted_twice_is_found_unless_its_policy_and_a_doubt_allow_it() {
    let (entries, twice) = sent_twice(Phase::InDoubt);
    only(&compare(entries.clone(), std::slice::from_ref(&twice)), Kind::RecipientDoubled);
    let found = compare_under(Policy::AtLeastOnce, entries, &[twice]);
    assert!(found.is_empty(), "{found:?}");
    let (entries, twice) = sent_twice(Phase::Accepted);
    let mut without_id = twice;
    without_id.attempts[0].provider_id.clear();
    only(&compare_under(Policy::AtLeastOnce, entries, &[without_id]), Kind::RecipientDoubled);
}

#[test]
fn what_no_message_accounts_for_is_a_stranger() {
    let (mut entries, messages) = world();
    entries.push(entry(900, SENT));
    only(&compare(entries, &messages), Kind::Stranger);
}

#[test]
fn wrong_recipient_and_wrong_id_are_found() {
    let (mut entries, messages) = world();
    entries[5].to = "+999111111111".into();
    only(&compare(entries, &messages), Kind::WrongRecipient);
    let (mut entries, messages) = world();
    entries[5].id = "wamid.other".into();
    only(&compare(entries, &messages), Kind::WrongProviderId);
}

#[test]
fn every_wrong_status_is_found() {
    let real = [0, SENT, SENT | DELIVERED, SENT | DELIVERED | READ, FAILED, SENT | FAILED];
    let words = [Shown::Queued, Shown::Sent, Shown::Delivered, Shown::Read, Shown::Failed];
    for bits in real {
        for shown in words {
            let mut said = message(0, bits);
            let right = said.shown == shown;
            said.shown = shown;
            let found = compare(vec![entry(0, bits)], &[said]);
            assert_eq!(found.of(Kind::WrongStatus) == 0, right, "{bits:04b} shown as {shown:?}: {found:?}");
        }
    }
}

#[test]
fn what_was_posted_without_an_acknowledgement_may_show_or_not() {
    let mut open = entry(0, SENT);
    open.tried |= DELIVERED;
    for (shown, reached, fine) in [
        (Shown::Sent, 3, true),
        (Shown::Delivered, 4, true),
        (Shown::Read, 5, false),
        (Shown::Queued, 2, false),
        (Shown::InDoubt, 2, false),
    ] {
        let mut said = message(0, SENT);
        (said.shown, said.reached) = (shown, reached);
        let found = compare(vec![open.clone()], &[said]);
        assert_eq!(found.is_empty(), fine, "{shown:?}: {found:?}");
    }
}

#[test]
fn a_doubt_is_fine_while_no_status_is_known_and_not_after() {
    for answer in [Answer::Given, Answer::Reset] {
        let mut unanswered = entry(0, 0);
        unanswered.answer = answer;
        let mut said = message(0, 0);
        said.shown = Shown::Unconfirmed;
        said.attempts[0].phase = Phase::Unconfirmed;
        said.attempts[0].accepted = false;
        said.attempts[0].provider_id.clear();
        let found = compare(vec![unanswered], &[said]);
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn a_wrong_stage_is_found() {
    let mut said = message(0, SENT | FAILED);
    said.reached = 2;
    only(&compare(vec![entry(0, SENT | FAILED)], &[said]), Kind::WrongStage);
    let mut said = message(0, SENT);
    said.reached = 4;
    only(&compare(vec![entry(0, SENT)], &[said]), Kind::WrongStage);
}

#[test]
fn missing_and_repeated_recipients_are_found() {
    let (entries, mut messages) = world();
    messages.remove(7);
    let found = compare(entries.clone(), &messages);
    assert_eq!(found.of(Kind::Missing), 1, "{found:?}");
    assert_eq!(found.of(Kind::Stranger), 1, "{found:?}");
    let (_, mut messages) = world();
    messages.push(messages[4].clone());
    assert_eq!(compare(entries, &messages).of(Kind::Repeated), 1);

    let imported = vec!["+999000000000".to_owned(), "+999000000001".to_owned()];
    let mut comparison = Comparison::new(vec![entry(0, SENT)]);
    let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, Some(&imported));
    let only_one = [message(0, SENT)];
    comparison.message(&mut fold, &only_one[0]);
    comparison.campaign(fold, counts(&only_one), counts(&only_one));
    only(&comparison.finish(true).0, Kind::Missing);
}

#[test]
fn drifted_tallies_are_found() {
    let (entries, messages) = world();
    let truth = counts(&messages);
    let run = |tally: Counts, recount: Counts| {
        let mut comparison = Comparison::new(entries.clone());
        let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, None);
        messages.iter().for_each(|m| comparison.message(&mut fold, m));
        comparison.campaign(fold, tally, recount);
        comparison.finish(true).0
    };
    assert!(run(truth.clone(), truth.clone()).is_empty());
    for place in 0..10 {
        let mut drifted = truth.clone();
        drifted.shown[place] += 1;
        let found = run(drifted.clone(), truth.clone());
        assert_eq!((found.of(Kind::TallyDrift), found.of(Kind::TallySum)), (1, 1), "{found:?}");
        let found = run(truth.clone(), drifted);
        assert_eq!((found.of(Kind::RecountDrift), found.of(Kind::TallySum)), (1, 1), "{found:?}");
    }
    let changes: [fn(&mut Counts); 4] =
        [|c| c.reached[1] += 1, |c| c.conflicts += 1, |c| c.accepted += 1, |c| c.doubles += 1];
    for change in changes {
        let mut drifted = truth.clone();
        change(&mut drifted);
        only(&run(drifted, truth.clone()), Kind::TallyDrift);
    }
}

#[test]
fn a_line_above_its_ceiling_or_below_its_use_is_found() {
    let arrivals: Vec<(u64, u8)> = (0..2_200).map(|n| (n * 10_000_000, 1)).collect();
    let rate = line_rate("l", 100, arrivals, 10_000_000_000, (None, None));
    let run = |ceiling: u32, use_min| {
        let mut comparison = Comparison::new(vec![]);
        let ceilings = HashMap::from([("l".to_owned(), ceiling)]);
        comparison.rates(std::slice::from_ref(&rate), &ceilings, use_min);
        comparison.finish(true).0
    };
    assert!(run(100, Some(0.99)).is_empty());
    only(&run(99, None), Kind::AboveCeiling);
    only(&run(110, Some(0.99)), Kind::BelowUse);
}
