//! The gate: who stops a campaign is not overruled by whatever else is written at the same time.

use super::*;
use crate::campaign::registry::Registry;
use crate::store::conformance;

fn record(version: u64, state: CampaignState) -> Campaign {
    Campaign { version, state, ..conformance::campaign("gate") }
}

fn running() -> Arc<CampaignShared> {
    let record = record(1, CampaignState::Running);
    Arc::new(CampaignShared::new(record, ProviderKind::Meta, Tally::default(), 0, UnixMillis(0)))
}

#[test]
fn a_settings_update_does_not_open_the_gate_before_the_hold_is_written() {
    let shared = running();
    shared.shut_for_hold();
    assert!(!shared.gate_is_open());
    shared.set_record(record(2, CampaignState::Running), Mono(5));
    assert!(!shared.gate_is_open(), "the hold is yet to be written");
    shared.set_record(record(3, CampaignState::Held), Mono(6));
    shared.set_record(record(4, CampaignState::Running), Mono(7));
    assert!(shared.gate_is_open(), "resumed");

    // A hold that could not be written, or that nobody needs any more.
    shared.shut_for_hold();
    shared.forget_expected_hold();
    assert!(shared.gate_is_open());
}

#[test]
fn a_settings_update_does_not_open_the_gate_while_a_pause_is_being_written() {
    let shared = running();
    let (pause, cancel) = (shared.shut(), shared.shut());
    shared.set_record(record(2, CampaignState::Running), Mono(5));
    assert!(!shared.gate_is_open());
    shared.set_record(record(3, CampaignState::Paused), Mono(6));
    drop(pause);
    assert!(!shared.gate_is_open());
    drop(cancel);
    assert!(!shared.gate_is_open(), "it is paused");

    let running = running();
    let epoch = running.epoch();
    drop(running.shut());
    assert!(running.gate_is_open(), "what was not written holds nobody up");
    assert!(running.epoch() > epoch, "what was read ahead is void");
}

#[test]
fn nothing_leaves_from_stop_at_on_whatever_the_ledger_takes() {
    let now = Arc::new(AtomicI64::new(999));
    let clock = Clock::with_wall({
        let now = Arc::clone(&now);
        move || UnixMillis(now.load(Ordering::SeqCst))
    });
    let shared = running();
    assert!(shared.may_leave(&clock));
    let stopping = |version, stop_at| {
        let mut record = record(version, CampaignState::Running);
        record.settings.stop_at = Some(UnixMillis(stop_at));
        record
    };
    shared.set_record(stopping(2, 1_000), Mono(5));
    assert!(shared.may_leave(&clock));
    now.store(1_000, Ordering::SeqCst);
    assert!(!shared.may_leave(&clock), "nobody has noted it yet");
    let expiry = shared.begin_expiry().expect("nobody is at it");
    assert!(shared.begin_expiry().is_none());
    // Put off while the ledger was away.
    shared.set_record(stopping(3, 2_000), Mono(6));
    assert!(!shared.may_leave(&clock), "an expiry is being written");
    drop(expiry);
    assert!(shared.may_leave(&clock));
    assert!(shared.begin_expiry().is_some());
}

#[test]
fn it_knows_since_when_it_runs_again() {
    let shared = running();
    assert!(!shared.was_resumed_since(Mono(0)));
    shared.set_record(record(2, CampaignState::Running), Mono(5));
    assert!(!shared.was_resumed_since(Mono(0)), "it ran all the time");
    shared.set_record(record(3, CampaignState::Held), Mono(6));
    shared.set_record(record(4, CampaignState::Running), Mono(9));
    assert!(shared.was_resumed_since(Mono(9)) && !shared.was_resumed_since(Mono(10)));
}

#[test]
fn of_two_who_bring_the_same_campaign_the_newer_record_stays() {
    let brought = |version, state| {
        CampaignShared::new(record(version, state), ProviderKind::Meta, Tally::default(), 0, UnixMillis(0))
    };
    for order in [[1, 2], [2, 1]] {
        let registry = Registry::default();
        for version in order {
            let state = if version == 2 { CampaignState::Paused } else { CampaignState::Running };
            registry.insert(brought(version, state), Mono(1));
        }
        let shared = registry.get(record(1, CampaignState::Running).key).unwrap();
        assert!(!shared.gate_is_open(), "it is paused, in whatever order they came");
        assert_eq!(shared.record().version, 2);
    }
}

#[test]
fn a_campaign_that_one_message_keeps_from_its_end_is_looked_at_ever_more_seldom() {
    let pending = |count| Tally::untouched(count, None);
    let shared = running();
    shared.set_tally(pending(3), 1, UnixMillis(0));
    let waits: Vec<u128> = (0..10).map(|_| shared.look_again_after().as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 12_800, 12_800]);
    shared.set_tally(pending(1), 2, UnixMillis(0));
    assert_eq!(shared.look_again_after().as_millis(), 100, "something moved");
}
