//! What became of messages: statuses, stages, conflicts, doubles, failures.

use super::*;

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
