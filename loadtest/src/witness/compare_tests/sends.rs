//! Who was messaged, how often and with what.

use super::*;
use crate::harness::config::{LONG_TEXT, TEXT};

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
