//! Every kind of lie is told once and must be found; the truth must pass.

use std::collections::{BTreeMap, HashMap};

use super::compare::{CampaignFold, Comparison, Differences, Kind, Policy, Said};
use super::doubts::Traceless;
use super::records::{
    Attempt, Booked, Counts, DELIVERED, Entry, Exported, FAILED, Phase, READ, Refused, SENT, Shown, join, stage,
};
use crate::harness::config::{LONG_TEXT, TEMPLATE, TEMPLATE_LANGUAGE, TEXT};
use crate::harness::people;
use crate::sim::digest;
use crate::sim::ledger::{Answer, Why};
use crate::sim::plan::Dice;
use crate::sim::rates::line_rate;

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
    let mut twice = Exported { double: phase == Phase::InDoubt, ..message(0, SENT | DELIVERED) };
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
    let found = compare_under(Policy::AtLeastOnce, entries, &[without_id]);
    assert_eq!(found.of(Kind::RecipientDoubled), 1, "{found:?}");
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
    entries[5].to = 999_111_111_111;
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

    let mut comparison = Comparison::new(vec![entry(0, SENT)]);
    let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, Some(people::phones(BLOCK, 2)));
    let only_one = [message(0, SENT)];
    comparison.message(&mut fold, &only_one[0]);
    comparison.campaign(fold, said(&only_one));
    only(&comparison.finish(true).0, Kind::Missing);

    let mut short = said(&only_one);
    short.audience = Some(2);
    only(&with(&only_one, short), Kind::AudienceDrift);
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

#[test]
fn drifted_tallies_are_found() {
    let (entries, messages) = world();
    let truth = counts(&messages);
    let run = |tally: Counts, recount: Counts| {
        let mut comparison = Comparison::new(entries.clone());
        let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, None);
        messages.iter().for_each(|m| comparison.message(&mut fold, m));
        comparison.campaign(fold, Said { tally, recount, ..Said::default() });
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
    let rate = line_rate("l", 100, arrivals, 10_000_000_000, (None, None), &[]);
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

#[test]
fn what_was_given_up_without_a_refusal_is_dropped() {
    let failed = [given_up(0, Shown::Failed, Phase::Failed)];
    let sent_all = (64, false);
    only(&never_accepted(&failed, &[], &[], sent_all).0, Kind::Dropped);
    let booked = [refused(0, CODE, Why::Fault)];
    let (found, _) = never_accepted(&failed, &booked, &[], sent_all);
    assert!(found.is_empty(), "{found:?}");
    // Another code than the one that was given.
    only(&never_accepted(&failed, &[refused(0, 100, Why::Fault)], &[], sent_all).0, Kind::WrongFailure);
    // A refusal of an attempt that is not of this message.
    let (found, _) = never_accepted(&failed, &[refused(1, CODE, Why::Fault)], &[], sent_all);
    assert_eq!((found.of(Kind::Dropped), found.of(Kind::Stranger)), (1, 1), "{found:?}");
    // The provider found fault by itself: the request was built wrongly.
    only(&never_accepted(&failed, &[refused(0, CODE, Why::Wrong)], &[], sent_all).0, Kind::Malformed);
    for shown in [Shown::Cancelled, Shown::Expired, Shown::Pending] {
        let unsent = [given_up(0, shown, Phase::Withdrawn)];
        only(&never_accepted(&unsent, &[], &[], sent_all).0, Kind::Dropped);
        let (found, _) = never_accepted(&unsent, &[], &[], (64, true));
        assert!(found.is_empty(), "of a campaign that was cancelled: {found:?}");
    }
}

#[test]
fn doubts_without_a_trace_are_bounded_by_what_was_in_flight_at_kills() {
    for (shown, phase) in [(Shown::Unconfirmed, Phase::Unconfirmed), (Shown::InDoubt, Phase::InDoubt)] {
        let doubts: Vec<Exported> = (0..5).map(|n| given_up(n, shown, phase)).collect();
        let (found, _) = never_accepted(&doubts, &[], &[], (64, false));
        assert_eq!(found.of(Kind::Vanished), 5, "{found:?}");
        let (found, sum) = never_accepted(&doubts, &[], &[2_000], (5, false));
        assert!(found.is_empty(), "{found:?}");
        assert_eq!((sum.unseen, sum.allowed, sum.beyond), (5, Some(5), 0));
        let (found, sum) = never_accepted(&doubts, &[], &[2_000], (3, false));
        assert_eq!((found.of(Kind::Vanished), sum.allowed, sum.beyond), (2, Some(3), 2));
        let (found, _) = never_accepted(&doubts, &[], &[500], (64, false));
        assert_eq!(found.of(Kind::Vanished), 5, "the kill was before they began: {found:?}");
        // What the simulator did to them needs no kill.
        let booked: Vec<Refused> = (0..5).map(|n| refused(n, 0, Why::Reset)).collect();
        let (found, sum) = never_accepted(&doubts, &booked, &[], (64, false));
        assert!(found.is_empty(), "{found:?}");
        assert_eq!((sum.unanswered, sum.booked, sum.unseen), (5, 5, 0));
    }
}

#[test]
fn other_contents_and_other_records_than_imported_are_found() {
    let run = |entry: Entry, message: Exported| {
        let mut comparison = Comparison::new(vec![entry]);
        let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, Some(people::phones(BLOCK, 1)));
        comparison.message(&mut fold, &message);
        comparison.campaign(fold, said(&[message]));
        comparison.finish(true).0
    };
    assert!(run(entry(0, SENT), message(0, SENT)).is_empty());
    let [name, discount] = people::params(0);
    let text = TEXT.replace("{{1}}", &name).replace("{{2}}", &discount);
    let as_text = Entry { content: digest::body(digits(0), &text), ..entry(0, SENT) };
    assert!(run(as_text, message(0, SENT)).is_empty(), "the same as a text message");
    let of = |name: &str, values: [&str; 2]| digest::template(digits(0), name, TEMPLATE_LANGUAGE, values.into_iter());
    for content in [
        of(TEMPLATE, [&discount, &name]),
        of("other", [&name, &discount]),
        digest::template(digits(1), TEMPLATE, TEMPLATE_LANGUAGE, [name.as_str(), &discount].into_iter()),
        digest::body(digits(0), "Hello"),
        digest::body(digits(0), &LONG_TEXT.replace("{{1}}", &name).replace("{{2}}", &discount)),
    ] {
        only(&run(Entry { content, ..entry(0, SENT) }, message(0, SENT)), Kind::WrongContent);
    }
    let swapped = Exported { parameters: vec![discount, name], ..message(0, SENT) };
    only(&run(entry(0, SENT), swapped), Kind::WrongRecord);
    let renamed = Exported { external_id: "somebody".to_owned(), ..message(0, SENT) };
    only(&run(entry(0, SENT), renamed), Kind::WrongRecord);
}

#[test]
fn failures_by_code_the_list_the_totals_and_the_watch_are_compared() {
    let messages = [message(0, SENT), message(1, FAILED), message(2, FAILED)];
    assert!(with(&messages, said(&messages)).is_empty());
    let two = |first: &str| BTreeMap::from([(first.to_owned(), 1), (CODE.to_string(), 1)]);
    let lie = |change: fn(&mut Said)| {
        let mut said = said(&messages);
        change(&mut said);
        with(&messages, said)
    };
    only(&with(&messages, Said { failures: Some(two("1")), ..said(&messages) }), Kind::FailureDrift);
    let summed = with(&messages, Said { failures: Some(two("other")), ..said(&messages) });
    assert!(summed.is_empty(), "what is summed up is a sum: {summed:?}");
    only(&lie(|said| said.failures = Some(BTreeMap::new())), Kind::FailureDrift);
    only(&lie(|said| said.listed.as_mut().expect("there").accepted += 1), Kind::ListDrift);
    only(&lie(|said| said.watched.as_mut().expect("there").0.reached[0] += 1), Kind::WatchDrift);
    only(&lie(|said| said.watched.as_mut().expect("there").1.clear()), Kind::WatchDrift);
    let mut totals = Comparison::new(vec![]);
    totals.totals(&counts(&messages), &counts(&messages[..2]));
    assert!(totals.finish(true).0.of(Kind::TotalsDrift) > 0);
}

#[test]
fn a_wrong_conflict_is_found() {
    for bits in [FAILED | DELIVERED, FAILED | SENT | READ] {
        assert!(compare(vec![entry(0, bits)], &[message(0, bits)]).is_empty());
        let unmarked = Exported { conflict: false, ..message(0, bits) };
        only(&compare(vec![entry(0, bits)], &[unmarked]), Kind::WrongConflict);
    }
    for bits in [0, SENT, READ, FAILED, FAILED | SENT] {
        let marked = Exported { conflict: true, ..message(0, bits) };
        only(&compare(vec![entry(0, bits)], &[marked]), Kind::WrongConflict);
    }
    // Nothing was accepted at all.
    let booked = [refused(0, CODE, Why::Fault)];
    let failed = given_up(0, Shown::Failed, Phase::Failed);
    let marked = Exported { conflict: true, ..failed };
    only(&never_accepted(&[marked], &booked, &[], (64, false)).0, Kind::WrongConflict);
    // What was posted without an acknowledgement may show or not.
    let open = Entry { tried: FAILED | DELIVERED, ..entry(0, DELIVERED) };
    for said in [message(0, FAILED | DELIVERED), message(0, DELIVERED)] {
        let found = compare(vec![open.clone()], std::slice::from_ref(&said));
        assert!(found.is_empty(), "{found:?}");
    }
    // An error that was answered to an accepted message is a failure, too.
    let spoilt = Entry { answer: Answer::Error, ..entry(0, DELIVERED) };
    for conflict in [false, true] {
        let found = compare(vec![spoilt.clone()], &[Exported { conflict, ..message(0, DELIVERED) }]);
        assert_eq!(found.of(Kind::WrongConflict), 0, "{found:?}");
    }
    // Each attempt by itself: the first failed, the second was delivered.
    let (mut entries, twice) = sent_twice(Phase::InDoubt);
    entries[0] = Entry { tried: FAILED, acked: FAILED, ..entries[0].clone() };
    let marked = Exported { conflict: true, ..twice };
    assert_eq!(compare_under(Policy::AtLeastOnce, entries, &[marked]).of(Kind::WrongConflict), 1);
}

#[test]
fn a_wrong_failure_and_a_wrong_double_are_found() {
    let mut said = message(0, FAILED);
    said.attempts[0].failure = "100".to_owned();
    only(&compare(vec![entry(0, FAILED)], &[said]), Kind::WrongFailure);
    let said = Exported { double: true, ..message(0, SENT) };
    only(&compare(vec![entry(0, SENT)], &[said]), Kind::WrongDouble);
    let (entries, unmarked) = sent_twice(Phase::InDoubt);
    let unmarked = Exported { double: false, ..unmarked };
    only(&compare_under(Policy::AtLeastOnce, entries, &[unmarked]), Kind::WrongDouble);
}
