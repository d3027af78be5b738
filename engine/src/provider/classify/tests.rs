//! The tables as data, and the verdicts they lead to.

use super::*;
use ProviderKind::{Meta, TwilioSms, TwilioWhatsapp};
use proptest::prelude::*;

fn meta_error(code: u32) -> String {
    format!(r#"{{"error":{{"message":"(#{code}) text","code":{code},"error_data":{{"details":"why"}}}}}}"#)
}

fn twilio_error(code: u32) -> String {
    format!(r#"{{"code":{code},"message":"text","more_info":"link","status":400}}"#)
}

fn send(kind: ProviderKind, status: u16, code: u32) -> Verdict {
    let body = if kind.is_twilio() { twilio_error(code) } else { meta_error(code) };
    classify(kind, Answer::Http { status, body: body.as_bytes() })
}

fn bare(kind: ProviderKind, status: u16) -> Verdict {
    classify(kind, Answer::Http { status, body: b"<html>sorry</html>" })
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { .. } => "accepted",
        Verdict::NotProcessed { charged: true, .. } => "again, charged",
        Verdict::NotProcessed { charged: false, .. } => "again",
        Verdict::Failed { .. } => "failed",
        Verdict::Unclear { .. } => "unclear",
    }
}

#[test]
fn tables_are_unique_titled_and_sourced() {
    for table in [meta::CODES, twilio::CODES] {
        let mut ranges: Vec<(u32, u32)> = table.iter().map(|row| (row.first, row.last)).collect();
        ranges.sort_unstable();
        assert!(ranges.iter().all(|(first, last)| first <= last));
        for pair in ranges.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{pair:?} overlap");
        }
        for row in table {
            assert!(!row.title.is_empty() && !row.source.is_empty(), "{row:?}");
        }
    }
    // Every code of the providers' pages that we know of; a lost row shows here.
    let codes = |table: &[CodeRow]| table.iter().map(|row| (row.last - row.first + 1) as usize).sum::<usize>();
    assert_eq!(codes(meta::CODES), META_CODES);
    assert_eq!(twilio::CODES.len(), TWILIO_ROWS);
}

/// Single codes and the ranges 200-299, 131200-131299, 138000-138999, 139000-139999, 147000-147999.
const META_CODES: usize = 73 + 100 + 100 + 3 * 1000;
const TWILIO_ROWS: usize = 135;

#[test]
fn every_class_has_a_scope_that_fits_it() {
    for row in meta::CODES.iter().chain(twilio::CODES) {
        for action in [row.answer, row.event] {
            let allowed: &[Scope] = match action.class {
                Class::Slow => &[Scope::Line, Scope::Account],
                Class::Pair => &[Scope::Pair],
                Class::Pause => &[Scope::Line, Scope::Account, Scope::Campaign],
                Class::Account => &[Scope::Line, Scope::Account],
                Class::Campaign => &[Scope::Campaign, Scope::Country],
                Class::Suppress => &[Scope::Pair, Scope::Tenant],
                Class::Retry
                | Class::Recipient
                | Class::Later
                | Class::Bug
                | Class::Ambiguous
                | Class::NotApplicable => &[Scope::Message],
            };
            assert!(allowed.contains(&action.scope), "{row:?}");
            assert!(action.class != Class::Pause || action.wait_s > 0, "{row:?}");
        }
    }
    for class in Class::ALL {
        let used =
            meta::CODES.iter().chain(twilio::CODES).any(|row| row.answer.class == class || row.event.class == class);
        assert!(used, "{class:?} is in no table");
    }
}

/// The closed list of what proves, by code alone, that nothing was processed.
#[test]
fn only_documented_codes_prove_that_nothing_was_processed() {
    let proving = |table: &[CodeRow]| {
        table.iter().filter(|row| row.answer.proof == Proof::NotProcessed).map(|row| row.first).collect::<Vec<_>>()
    };
    assert_eq!(proving(meta::CODES), [4, 613, 80007, 80008, 130429, 131056]);
    assert_eq!(proving(twilio::CODES), [14107, 20429, 21611, 30001, 30017, 30022, 63017, 63018]);
}

#[test]
fn answers_lead_to_the_verdicts_of_the_tables() {
    let cases = [
        (Meta, 400, 130429, "again", Some(Act::SlowLine)),
        (Meta, 429, 130429, "again", Some(Act::SlowLine)),
        (Meta, 500, 130429, "again", Some(Act::SlowLine)),
        (Meta, 400, 4, "again", Some(Act::SlowAccount)),
        (Meta, 400, 131056, "again", None),
        (Meta, 401, 190, "again", Some(Act::HoldAccount)),
        (Meta, 403, 250, "again", Some(Act::HoldAccount)),
        (Meta, 400, 33, "again", Some(Act::HoldLine)),
        (Meta, 400, 131048, "again", Some(Act::PauseLine(Duration::from_secs(3600)))),
        (Meta, 400, 131064, "again", Some(Act::PauseAccount(Duration::from_secs(3600)))),
        (Meta, 400, 134101, "again", Some(Act::PauseCampaign(Duration::from_secs(600)))),
        (Meta, 404, 132001, "again", Some(Act::HoldCampaign)),
        (Meta, 400, 132000, "failed", None),
        (Meta, 400, 131026, "failed", None),
        (Meta, 400, 131050, "failed", None),
        (Meta, 400, 777_777, "failed", None),
        (Meta, 503, 2, "unclear", None),
        (Meta, 401, 0, "again", Some(Act::HoldAccount)),
        (Meta, 500, 0, "unclear", None),
        (Meta, 500, 131000, "unclear", None),
        (Meta, 400, 131000, "unclear", None),
        (Meta, 400, 1, "unclear", None),
        (Meta, 500, 131045, "unclear", Some(Act::HoldLine)),
        (Meta, 500, 131057, "unclear", Some(Act::PauseLine(Duration::from_secs(60)))),
        (Meta, 500, 132000, "unclear", None),
        (TwilioSms, 429, 20429, "again", Some(Act::SlowAccount)),
        (TwilioSms, 503, 20429, "again", Some(Act::SlowAccount)),
        (TwilioSms, 400, 21611, "again", Some(Act::SlowLine)),
        (TwilioSms, 401, 20003, "again", Some(Act::HoldAccount)),
        (TwilioSms, 400, 21606, "failed", None),
        (TwilioSms, 400, 21212, "again", Some(Act::HoldLine)),
        (TwilioSms, 400, 21602, "again", Some(Act::HoldCampaign)),
        (TwilioSms, 400, 21610, "failed", None),
        (TwilioSms, 400, 21408, "failed", None),
        (TwilioSms, 500, 20500, "unclear", None),
        (TwilioSms, 503, 20503, "unclear", None),
        (TwilioSms, 409, 20409, "unclear", None),
        (TwilioSms, 429, 20503, "again", Some(Act::SlowLine)),
        (TwilioSms, 429, 20500, "again", Some(Act::SlowLine)),
        (TwilioWhatsapp, 400, 63007, "again", Some(Act::HoldLine)),
        (TwilioWhatsapp, 400, 21656, "failed", None),
    ];
    for (kind, status, code, expected, act) in cases {
        let verdict = send(kind, status, code);
        assert_eq!(word(&verdict), expected, "{kind} {status} {code}");
        assert_eq!(verdict.effects().act, act, "{kind} {status} {code}");
        assert_eq!(verdict.failure().unwrap().code, code);
    }
}

#[test]
fn answers_without_a_code_go_by_their_status() {
    let cases = [
        (Meta, 429, "again", Some(Act::SlowLine)),
        (TwilioSms, 429, "again", Some(Act::SlowAccount)),
        (Meta, 401, "again", Some(Act::HoldAccount)),
        (TwilioSms, 403, "again", Some(Act::HoldAccount)),
        (TwilioSms, 404, "again", Some(Act::HoldAccount)),
        (Meta, 404, "failed", None),
        (Meta, 400, "failed", None),
        (Meta, 408, "unclear", None),
        (Meta, 502, "unclear", None),
        (TwilioSms, 503, "unclear", None),
        (TwilioSms, 302, "unclear", None),
        (Meta, 200, "unclear", None),
        (TwilioSms, 201, "unclear", None),
    ];
    for (kind, status, expected, act) in cases {
        let verdict = bare(kind, status);
        assert_eq!(word(&verdict), expected, "{kind} {status}");
        assert_eq!(verdict.effects().act, act, "{kind} {status}");
        assert_eq!(verdict.effects().breaker, expected == "unclear", "{kind} {status}");
        let cut = classify(kind, Answer::Transport(Transport::AnswerCut { status }));
        assert_eq!(word(&cut), expected, "{kind} {status} without body");
    }
}

#[test]
fn transport_failures_prove_nothing_once_a_byte_was_written() {
    for kind in ProviderKind::ALL {
        let nothing = classify(kind, Answer::Transport(Transport::NothingWritten));
        assert_eq!(word(&nothing), "again", "an outage must not eat the retry budget");
        assert!(nothing.effects().breaker);
        for transport in [Transport::CutAfterWrite, Transport::TimeoutAfterWrite] {
            let verdict = classify(kind, Answer::Transport(transport));
            assert_eq!(word(&verdict), "unclear");
            assert!(verdict.effects().breaker);
        }
    }
}

#[test]
fn hints_of_the_tables_come_through() {
    let Verdict::Unclear { retries_max, .. } = send(Meta, 400, 1) else {
        panic!("code 1 is unclear");
    };
    assert_eq!(retries_max, Some(2));
    let Verdict::NotProcessed { wait, .. } = send(TwilioSms, 400, 14107) else {
        panic!("14107 is refused");
    };
    assert_eq!(wait, Some(Duration::from_secs(30)));
    let bug = send(Meta, 400, 132000);
    assert!(bug.effects().bug_run && !bug.effects().breaker);
    assert!(send(TwilioSms, 400, 21408).effects().bug_run, "a country counts towards the run");
    assert!(send(TwilioSms, 400, 21610).effects().suppress);
    let failure = send(Meta, 400, 131026);
    let failure = failure.failure().unwrap();
    assert_eq!(&*failure.class, "recipient");
    assert_eq!((&*failure.title, &*failure.message), ("message undeliverable", "(#131026) text"));
    assert_eq!(&*failure.details, "why");
}

#[test]
fn success_is_accepted_with_its_id() {
    let meta = br#"{"messages":[{"id":"wamid.X","message_status":"paused"}]}"#;
    let accepted = classify(Meta, Answer::Http { status: 200, body: meta });
    assert_eq!(accepted, Verdict::Accepted { provider_id: "wamid.X".into(), held: true });
    let twilio = br#"{"sid":"SM1","status":"queued"}"#;
    assert_eq!(word(&classify(TwilioSms, Answer::Http { status: 201, body: twilio })), "accepted");
    let failed = br#"{"sid":"SM1","status":"failed","error_code":21610}"#;
    let verdict = classify(TwilioSms, Answer::Http { status: 201, body: failed });
    assert_eq!(word(&verdict), "failed");
    assert!(verdict.effects().suppress);
}

#[test]
fn events_use_their_own_column() {
    assert_eq!(send(Meta, 400, 135000).class(), Some(Class::Bug));
    let pacing = classify_event(Meta, Some(135000));
    assert_eq!((pacing.action.class, pacing.effects.act), (Class::Campaign, Some(Act::HoldCampaign)));
    let once = classify_event(Meta, Some(131000));
    assert_eq!((once.action.retries_max, once.repeatable, once.not_processed), (Some(1), true, false));
    let overflow = classify_event(TwilioSms, Some(30001));
    assert!(overflow.not_processed && overflow.effects.act == Some(Act::SlowLine));
    assert!(classify_event(TwilioSms, Some(30017)).not_processed);
    assert!(!classify_event(TwilioSms, Some(30410)).repeatable, "it may have gone out");
    for unknown in [None, Some(1_000_000)] {
        let verdict = classify_event(TwilioSms, unknown);
        assert_eq!(verdict.action.class, Class::Recipient);
        assert_eq!(verdict.effects, Effects::default());
    }
    assert_eq!(classify_event(Meta, Some(131042)).effects.act, Some(Act::HoldAccount));
}

proptest! {
    /// The promise of *at most once*: what is sent again was a 429, or its code is on the closed list, or a refusal below 500.
    #[test]
    fn nothing_is_repeated_without_proof(status in 100u16..700, code in prop_oneof![
        any::<u32>(), 0u32..300, 130_000u32..136_000, 20_000u32..22_000, 30_000u32..31_000, 63_000u32..63_100
    ], twilio: bool) {
        let kind = if twilio { TwilioSms } else { Meta };
        let verdict = send(kind, status, code);
        if let Verdict::NotProcessed { .. } = verdict {
            let proof = code_row(kind, code).map_or(Proof::Refused, |row| row.answer.proof);
            let refused = proof == Proof::Refused && !(500..600).contains(&status);
            prop_assert!(status == 429 || proof == Proof::NotProcessed || refused);
        }
        prop_assert_eq!(verdict.effects().breaker, matches!(verdict, Verdict::Unclear { .. }));
    }

    #[test]
    fn any_body_is_read_without_panic(status in 100u16..700, body in proptest::collection::vec(any::<u8>(), 0..200), json in "[\\[\\]{}\",:a-z0-9]{0,80}") {
        for kind in ProviderKind::ALL {
            let _ = classify(kind, Answer::Http { status, body: &body });
            let _ = classify(kind, Answer::Http { status, body: json.as_bytes() });
        }
    }
}
