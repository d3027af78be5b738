//! Random entries against a plain model in memory: the same results, states and tallies.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::message::{Applied, Decision, Event, MessageState, Reported};
use crate::domain::stage::End;
use crate::domain::tally::Tally;
use crate::store::{Entry, EntryResult, Store};

const RECIPIENTS: u32 = 12;

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u32, Event)>),
    End(End),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let attempt = 1..5_u16;
    let reported =
        prop_oneof![Just(Reported::Sent), Just(Reported::Delivered), Just(Reported::Read), Just(Reported::Failed)];
    let decision = prop_oneof![Just(Decision::ConfirmSent), Just(Decision::ConfirmFailed), Just(Decision::SendAgain)];
    let code = prop_oneof![Just(0_u32), Just(131_026)];
    prop_oneof![
        4 => (attempt.clone(), 1..4_u32).prop_map(|(n, line)| Event::Intent { attempt: n, line: LineKey(line), at: at(10) }),
        1 => attempt.clone().prop_map(|n| Event::Withdrawn { attempt: n, at: at(11) }),
        2 => (attempt.clone(), "[a-c]").prop_map(|(n, id)| Event::Accepted { attempt: n, at: at(12), provider_id: id.into() }),
        1 => (attempt.clone(), "[a-c]").prop_map(|(n, id)| Event::Echoed {
            attempt: n, lines: lines()[1..3].into(), at: at(12), provider_id: id.into(),
        }),
        2 => (attempt.clone(), any::<bool>(), 13..20_i64).prop_map(|(n, charged, due)| Event::NotProcessed {
            attempt: n, at: at(13), failure: charged.then(|| failure(9)), charged, due_at: at(due),
        }),
        1 => (attempt.clone(), code).prop_map(|(n, code)| Event::Rejected { attempt: n, at: at(14), failure: failure(code) }),
        2 => attempt.clone().prop_map(|n| Event::Doubt { attempt: n, at: at(15), due_at: at(16) }),
        5 => (attempt, reported, any::<Option<i64>>(), proptest::option::of("[a-c]")).prop_map(|(n, what, provider_at, id)| {
            Event::Report {
                attempt: n, lines: lines(), at: at(17), what, provider_at, provider_id: id.map(Into::into),
                failure: (what == Reported::Failed).then(|| failure(7)),
            }
        }),
        1 => any::<Option<u8>>().prop_map(|resend_up_to| Event::DoubtExpired { at: at(18), resend_up_to }),
        1 => decision.prop_map(|decision| Event::Resolved { decision, at: at(19) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![Just(End::Cancelled), Just(End::Expired)];
    prop_oneof![
        40 => proptest::collection::vec((0..RECIPIENTS + 1, event()), 1..60).prop_map(Step::Commit),
        1 => end.prop_map(Step::End),
        1 => Just(Step::Restart),
    ]
}

/// What should be: states in a map, and counts by counting.
#[derive(Default)]
struct Model {
    states: BTreeMap<u32, MessageState>,
    end: Option<End>,
}

impl Model {
    fn apply(&mut self, seq: u32, event: Event) -> EntryResult {
        if seq >= RECIPIENTS {
            return EntryResult::Unknown;
        }
        match self.states.entry(seq).or_default().apply(event, self.end) {
            Applied::Changed => EntryResult::Applied,
            Applied::NoChange => EntryResult::NoChange,
            Applied::Refused => EntryResult::Refused,
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for seq in 0..RECIPIENTS {
            tally.add(&self.states.get(&seq).cloned().unwrap_or_default().facets(self.end));
        }
        tally
    }
}

pub(crate) async fn random_entries_end_as_in_a_plain_model(factory: &dyn Factory) {
    // One store for all cases: each has a campaign of its own, and the cases disturb each other's caches.
    let mut store = factory.open();
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let strategy = proptest::collection::vec(step(), 1..12);
    for case in 0..96 {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let campaign = running(&*store, &format!("case-{case}"), RECIPIENTS).await;
        let (key, mut model) = (campaign.key, Model::default());
        for step in &steps {
            match step.clone() {
                Step::Commit(events) => {
                    let expected: Vec<_> = events.iter().map(|(seq, event)| model.apply(*seq, event.clone())).collect();
                    let entries = events.iter().map(|(seq, event)| entry(key, *seq, event.clone())).collect();
                    let committed = commit_in_pieces(&*store, entries).await;
                    assert_eq!(committed, expected, "{steps:#?}");
                }
                Step::End(end) => {
                    let now = store.campaign_by_key(key).await.unwrap();
                    let (_, tally) = store.end_campaign(now, end).await.unwrap();
                    model.end.get_or_insert(end);
                    model.states.values_mut().for_each(MessageState::end_again);
                    assert_eq!(tally, model.tally(), "{steps:#?}");
                }
                Step::Restart => {
                    store.close().await.unwrap();
                    drop(store);
                    store = factory.open();
                }
            }
            let kept = checked_counts(&*store, key).await;
            assert_eq!(kept.tally, model.tally(), "{steps:#?}");
        }
        expect_states(&*store, key, &model, &steps).await;
    }
}

/// Several calls at once, so that groups form, but in order.
async fn commit_in_pieces(store: &dyn Store, entries: Vec<Entry>) -> Vec<EntryResult> {
    let calls: Vec<_> = entries.chunks(7).map(|some| store.commit(some.to_vec())).collect();
    let answers = futures_util::future::join_all(calls).await;
    answers.into_iter().flat_map(|answer| answer.unwrap().results).collect()
}

async fn expect_states(store: &dyn Store, key: CampaignKey, model: &Model, steps: &[Step]) {
    for seq in 0..RECIPIENTS {
        let stored = store.message(message(key, seq)).await.unwrap();
        let expected = model.states.get(&seq).cloned().unwrap_or_default();
        assert_eq!(stored.shown, expected.shown(model.end), "{steps:#?}");
        assert_eq!(stored.state, expected, "message {seq} after {steps:#?}");
    }
}
