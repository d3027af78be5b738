//! The join, exhaustively: every sequence of up to seven reports ends as its set says, whatever the order and the repetitions.

use std::sync::Arc;

use super::*;
use crate::domain::tally::Tally;

const LINE: LineKey = LineKey(1);

fn at(ms: i64) -> UnixMillis {
    UnixMillis(ms)
}

fn intent(attempt: u16) -> Event {
    Event::Intent { attempt, line: LINE, at: at(1) }
}

fn report(attempt: u16, what: Reported) -> Event {
    let failure =
        (what == Reported::Failed).then(|| Box::new(Failure::new(131_026, "recipient", "undeliverable", "", "")));
    Event::Report {
        attempt,
        lines: Arc::new([LINE]),
        at: at(5),
        what,
        provider_at: Some(7),
        provider_id: Some("wamid.X".into()),
        failure,
    }
}

fn accepted(attempt: u16) -> Event {
    Event::Accepted { attempt, at: at(3), provider_id: "wamid.X".into() }
}

fn doubt(attempt: u16) -> Event {
    Event::Doubt { attempt, at: at(4), due_at: at(900) }
}

fn in_flight() -> MessageState {
    let mut state = MessageState::default();
    assert_eq!(state.apply(intent(1), None), Applied::Changed);
    state
}

/// What the set of reports says, without any order.
fn expected(bits: u8) -> (Shown, Stage, bool) {
    let has = |i: u8| bits & (1 << i) != 0;
    let stage = if has(3) {
        Stage::Read
    } else if has(2) {
        Stage::Delivered
    } else if has(1) {
        Stage::Sent
    } else {
        Stage::Queued
    };
    let shown = if has(4) {
        Shown::Failed
    } else if stage > Stage::Queued || has(0) {
        stage.into()
    } else {
        Shown::Queued
    };
    (shown, stage, has(4) && stage >= Stage::Delivered)
}

#[test]
fn every_sequence_of_up_to_seven_events_ends_as_its_set_says() {
    let kinds = [
        accepted(1),
        report(1, Reported::Sent),
        report(1, Reported::Delivered),
        report(1, Reported::Read),
        report(1, Reported::Failed),
    ];
    let mut tried = 0_u32;
    for length in 0..=7_u32 {
        for mut code in 0..5_u32.pow(length) {
            let mut state = in_flight();
            let mut tally = Tally::default();
            tally.add(&state.facets(None));
            let mut bits = 0_u8;
            for _ in 0..length {
                let kind = (code % 5) as usize;
                code /= 5;
                bits |= 1 << kind;
                let (old, reached_before) = (state.facets(None), state.reached);
                state.apply(kinds[kind].clone(), None);
                assert!(state.reached >= reached_before, "a stage never falls");
                tally.shift(&old, &state.facets(None));
            }
            assert_eq!((state.shown(None), state.reached, state.conflict), expected(bits));
            let mut recount = Tally::default();
            recount.add(&state.facets(None));
            assert_eq!(tally, recount);
            tried += 1;
        }
    }
    assert_eq!(tried, (5_u32.pow(8) - 1) / 4);
}

#[test]
fn doubt_and_echo_commute() {
    for what in [Reported::Sent, Reported::Delivered, Reported::Read, Reported::Failed] {
        let (mut a, mut b) = (in_flight(), in_flight());
        a.apply(doubt(1), None);
        a.apply(report(1, what), None);
        b.apply(report(1, what), None);
        b.apply(doubt(1), None);
        assert_eq!(a.facets(None), b.facets(None));
        assert_ne!(a.shown(None), Shown::InDoubt);
    }
}

#[test]
fn unconfirmed_is_resolved_by_a_late_echo() {
    let mut state = in_flight();
    state.apply(doubt(1), None);
    assert_eq!(state.shown(None), Shown::InDoubt);
    state.apply(Event::DoubtExpired { at: at(900), resend_up_to: None }, None);
    assert_eq!(state.shown(None), Shown::Unconfirmed);
    state.apply(report(1, Reported::Delivered), None);
    assert_eq!(state.shown(None), Shown::Delivered);
}

#[test]
fn a_report_cancels_a_waiting_retry() {
    let mut state = in_flight();
    state.apply(Event::NotProcessed { attempt: 1, at: at(2), failure: None, charged: true, due_at: at(50) }, None);
    assert_eq!((state.shown(None), state.retries), (Shown::Pending, 1));
    state.apply(report(1, Reported::Sent), None);
    assert_eq!(state.shown(None), Shown::Sent);
    assert_eq!(state.apply(intent(2), None), Applied::Refused);
}

#[test]
fn an_echo_of_an_old_attempt_after_send_again_is_a_double() {
    let mut state = in_flight();
    state.apply(doubt(1), None);
    state.apply(Event::Resolved { decision: Decision::SendAgain, at: at(9) }, None);
    assert_eq!(state.shown(Some(End::Cancelled)), Shown::Pending, "send again outlives the campaign's end");
    assert_eq!(state.apply(intent(2), Some(End::Cancelled)), Applied::Changed);
    state.apply(accepted(2), None);
    state.apply(report(1, Reported::Delivered), None);
    assert!(state.doubled);
    assert_eq!((state.shown(None), state.reached), (Shown::Queued, Stage::Delivered));
}

#[test]
fn an_acceptance_by_webhook_counts_from_the_attempts_account_only() {
    let echoed = |lines: &[u32]| Event::Echoed {
        attempt: 1,
        lines: lines.iter().copied().map(LineKey).collect(),
        at: at(8),
        provider_id: "SM1".into(),
    };
    let mut state = in_flight();
    state.apply(doubt(1), None);
    assert_eq!(state.apply(echoed(&[0, 2, 3]), None), Applied::Refused);
    assert_eq!(state.apply(echoed(&[]), None), Applied::Refused);
    assert_eq!(state.shown(None), Shown::InDoubt);
    assert_eq!(state.apply(echoed(&[0, 1, 3]), None), Applied::Changed);
    assert_eq!((state.shown(None), state.accepted, state.reached), (Shown::Queued, true, Stage::Queued));
    let newest = state.newest.clone().unwrap();
    assert_eq!((newest.provider_id.as_deref(), newest.accepted_at), (Some("SM1"), Some(at(8))));
    assert_eq!(state.apply(echoed(&[1]), None), Applied::NoChange);
    assert_eq!(state.apply(accepted(1), None), Applied::NoChange, "the answer itself, late");
}

#[test]
fn an_intent_stands_only_on_a_pending_message_of_a_campaign_that_goes_on() {
    let mut state = MessageState::default();
    assert_eq!(state.apply(intent(2), None), Applied::Refused);
    assert_eq!(state.apply(intent(1), Some(End::Cancelled)), Applied::Refused);
    assert_eq!(state.shown(Some(End::Expired)), Shown::Expired);
    assert_eq!(state.apply(intent(1), None), Applied::Changed);
    assert_eq!(state.apply(intent(2), None), Applied::Refused);
}

#[test]
fn a_withdrawn_intent_returns_the_message_and_an_old_echo_still_counts() {
    let mut state = in_flight();
    state.apply(doubt(1), None);
    state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(5) }, None);
    state.apply(intent(2), None);
    state.apply(Event::Withdrawn { attempt: 2, at: at(61) }, None);
    assert_eq!(state.shown(None), Shown::Pending);
    state.apply(report(1, Reported::Delivered), None);
    assert_eq!((state.shown(None), state.doubled), (Shown::Delivered, false));
}

#[test]
fn a_report_for_an_attempt_never_made_is_refused() {
    assert_eq!(in_flight().apply(report(2, Reported::Sent), None), Applied::Refused);
    assert_eq!(MessageState::default().apply(report(1, Reported::Sent), None), Applied::Refused);
}

#[test]
fn tallies_sum_to_the_recipients_and_end_with_the_campaign() {
    let mut tally = Tally::untouched(10, None);
    let mut state = MessageState::default();
    let old = state.facets(None);
    state.apply(intent(1), None);
    tally.shift(&old, &state.facets(None));
    assert_eq!((tally.recipients(), tally.open, tally.count(Shown::Pending)), (10, 1, 9));
    tally.end_pending(End::Cancelled);
    assert_eq!((tally.count(Shown::Cancelled), tally.count(Shown::Pending), tally.recipients()), (9, 0, 10));
}

#[test]
fn an_echo_of_an_old_attempt_keeps_a_withdrawn_or_refused_newer_one_from_leaving_again() {
    let refused = Event::NotProcessed { attempt: 2, at: at(61), failure: None, charged: false, due_at: at(99) };
    for back in [Event::Withdrawn { attempt: 2, at: at(61) }, refused] {
        for echo_first in [true, false] {
            let mut state = in_flight();
            state.apply(doubt(1), None);
            state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(5) }, None);
            state.apply(intent(2), None);
            let (a, b) = (report(1, Reported::Sent), back.clone());
            for event in if echo_first { [a, b] } else { [b, a] } {
                state.apply(event, None);
            }
            assert_eq!((state.shown(None), state.doubled), (Shown::Sent, false), "echo first: {echo_first}");
        }
    }
}

/// The first attempt in doubt, a second one in doubt of which nobody ever hears, and the two reports of the first at any moments.
#[test]
fn what_was_sent_by_an_older_attempt_and_failed_shows_as_failed_in_any_order() {
    let expired = || Event::DoubtExpired { at: at(900), resend_up_to: Some(5) };
    let own = [doubt(2), expired()];
    let reports = [report(1, Reported::Sent), report(1, Reported::Failed)];
    let mut seen = 0;
    for (first, second) in [(0, 1), (1, 0)] {
        for (before, between) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)] {
            let mut state = in_flight();
            state.apply(doubt(1), None);
            state.apply(expired(), None);
            assert_eq!(state.apply(intent(2), None), Applied::Changed);
            let mut tally = Tally::default();
            tally.add(&state.facets(None));
            let events = own[..before]
                .iter()
                .chain([&reports[first]])
                .chain(&own[before..before + between])
                .chain([&reports[second]])
                .chain(&own[before + between..]);
            for event in events {
                let old = state.facets(None);
                state.apply(event.clone(), None);
                tally.shift(&old, &state.facets(None));
            }
            let name = format!("{first} {before} {between}: {state:?}");
            assert_eq!((state.shown(None), state.reached), (Shown::Failed, Stage::Sent), "{name}");
            let mut recount = Tally::default();
            recount.add(&state.facets(None));
            assert_eq!(tally, recount, "{name}");
            assert_eq!(state.apply(intent(3), None), Applied::Refused, "{name}");
            // The newest shows, once the provider speaks of it.
            state.apply(report(2, Reported::Sent), None);
            assert_eq!((state.shown(None), state.doubled), (Shown::Sent, true), "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 12);
}

#[test]
fn a_double_is_found_in_any_order_and_only_when_both_were_sent() {
    let events = [report(1, Reported::Sent), accepted(2), report(2, Reported::Failed), report(1, Reported::Read)];
    for order in [[0, 1, 2, 3], [1, 0, 2, 3], [1, 2, 0, 3], [3, 2, 1, 0], [2, 3, 0, 1], [0, 2, 3, 1]] {
        let mut state = in_flight();
        state.apply(doubt(1), None);
        state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(5) }, None);
        state.apply(intent(2), None);
        for i in order {
            state.apply(events[i].clone(), None);
        }
        assert_eq!((state.shown(None), state.reached, state.doubled), (Shown::Failed, Stage::Read, true), "{order:?}");
    }
    let mut state = in_flight();
    state.apply(doubt(1), None);
    state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(5) }, None);
    state.apply(intent(2), None);
    state.apply(report(1, Reported::Sent), None);
    assert!(!state.doubled, "the second attempt has not left yet");
    state.apply(
        Event::Rejected { attempt: 2, at: at(70), failure: Box::new(Failure::new(1, "recipient", "", "", "")) },
        None,
    );
    assert!(!state.doubled, "the provider did not take the second attempt");
}

#[test]
fn send_again_outlives_a_withdrawn_intent_of_an_ended_campaign() {
    let end = Some(End::Cancelled);
    let mut state = in_flight();
    state.apply(doubt(1), end);
    state.apply(Event::Resolved { decision: Decision::SendAgain, at: at(9) }, end);
    state.apply(intent(2), end);
    state.apply(Event::Withdrawn { attempt: 2, at: at(10) }, end);
    assert_eq!(state.shown(end), Shown::Pending);
    assert_eq!(state.apply(intent(3), end), Applied::Changed);
    state.apply(accepted(3), end);
    assert!(!state.again);
}

#[test]
fn a_late_acceptance_makes_a_waiting_resend_needless() {
    let mut state = in_flight();
    state.apply(doubt(1), None);
    state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(5) }, None);
    state.apply(accepted(1), None);
    assert_eq!(state.shown(None), Shown::Queued);
    assert_eq!(state.apply(intent(2), None), Applied::Refused);
}

#[test]
fn a_report_of_another_account_does_not_count() {
    let mut state = in_flight();
    let Event::Report { attempt, at, what, provider_at, provider_id, failure, .. } = report(1, Reported::Delivered)
    else {
        unreachable!()
    };
    let lines = Arc::new([LineKey(2), LineKey(9)]);
    let strange = Event::Report { attempt, lines, at, what, provider_at, provider_id, failure };
    assert_eq!(state.apply(strange, None), Applied::Refused);
    assert_eq!(state, in_flight());
}

#[test]
fn at_least_once_resends_no_more_often_than_the_budget_allows() {
    let mut state = in_flight();
    for attempt in 1..=3 {
        state.apply(doubt(attempt), None);
        state.apply(Event::DoubtExpired { at: at(60), resend_up_to: Some(2) }, None);
        if attempt < 3 {
            assert_eq!(state.apply(intent(attempt + 1), None), Applied::Changed);
        }
    }
    assert_eq!((state.shown(None), state.retries), (Shown::Unconfirmed, 2));
}
