//! A server that drops, doubles, overshoots or miscounts fails its run, whatever else is fine; so does a run that shows nothing.
//!
//! Each lie is told through the whole chain: tampered records → the witness's comparison → conditions → verdict.

use std::collections::{BTreeMap, HashMap};

use super::data::{Condition, Verdict};
use super::verdict::{Evidence, judge, verdict};
use crate::sim::ledger::Answer;
use crate::sim::rates::{LineRate, line_rate};
use crate::sim::records::Summary;
use crate::sim::stamp::Stamping;
use crate::witness::compare::{CampaignFold, Comparison, Kind, Policy};
use crate::witness::records::{Attempt, Counts, DELIVERED, Entry, Exported, Phase, READ, SENT, Shown};
use crate::witness::report::Report;

const RECIPIENTS: u32 = 200;
const CEILING: u32 = 50;

/// What both sides say of a run in which everything was right.
#[derive(Clone)]
struct World {
    entries: Vec<Entry>,
    messages: Vec<Exported>,
    arrivals: Vec<(u64, u8)>,
    tally: Counts,
    recount: Counts,
    stamping: Stamping,
    recipients: u64,
    figures: BTreeMap<String, f64>,
    objections: Vec<String>,
    failures: Vec<String>,
    excused: bool,
}

fn truth() -> World {
    let all = SENT | DELIVERED | READ;
    let entry = |n: u32| Entry {
        correlation: format!("c{n}").into(),
        id: format!("wamid.{n}").into(),
        to: format!("+999{n:012}").into(),
        answer: Answer::Given,
        tried: all,
        acked: all,
    };
    let message = |n: u32| Exported {
        seq: n,
        address: format!("+999{n:012}"),
        shown: Shown::Read,
        reached: 5,
        conflict: false,
        double: false,
        attempts: vec![Attempt {
            number: 1,
            correlation: format!("c{n}"),
            phase: Phase::Accepted,
            accepted: true,
            provider_id: format!("wamid.{n}"),
        }],
    };
    let messages: Vec<Exported> = (0..RECIPIENTS).map(message).collect();
    let mut counts = Counts::default();
    messages.iter().for_each(|message| counts.add(message));
    World {
        entries: (0..RECIPIENTS).map(entry).collect(),
        messages,
        // Exactly at the ceiling.
        arrivals: (0..u64::from(RECIPIENTS)).map(|n| (n * 20_000_000, 1)).collect(),
        tally: counts.clone(),
        recount: counts,
        stamping: Stamping::default(),
        recipients: u64::from(RECIPIENTS),
        figures: BTreeMap::from([("efficiency".to_owned(), 0.7)]),
        objections: Vec::new(),
        failures: Vec::new(),
        excused: false,
    }
}

impl World {
    fn check(&self) -> Report {
        let mut comparison = Comparison::new(self.entries.clone());
        let phones: Vec<String> = (0..RECIPIENTS).map(|n| format!("+999{n:012}")).collect();
        let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, Some(&phones));
        self.messages.iter().for_each(|message| comparison.message(&mut fold, message));
        comparison.campaign(fold, self.tally.clone(), self.recount.clone());
        let rate: LineRate = line_rate("l", CEILING, self.arrivals.clone(), 1_000_000_000, (None, None));
        comparison.rates(std::slice::from_ref(&rate), &HashMap::new(), None);
        let (differences, campaigns) = comparison.finish(true);
        Report {
            ok: differences.is_empty(),
            campaigns,
            ledger: Summary { accepted: self.entries.len() as u64, ..Summary::default() },
            rates: vec![rate],
            stamping: self.stamping.clone(),
            differences,
            notes: Vec::new(),
        }
    }

    fn judged(&self, pass: &[(&str, &str)]) -> (Vec<Condition>, Verdict) {
        let pass = pass.iter().map(|(name, bound)| ((*name).to_owned(), (*bound).to_owned())).collect();
        let evidence = Evidence {
            check: &self.check(),
            figures: &self.figures,
            objections: &self.objections,
            failures: &self.failures,
            recipients: self.recipients,
            stalls_excused: self.excused,
        };
        let conditions = judge(&evidence, &pass);
        let found = verdict(&conditions);
        (conditions, found)
    }

    /// The run fails, and this kind of difference is named as the reason.
    fn fails_for(&self, kind: Kind) {
        let (conditions, found) = self.judged(&[]);
        assert_eq!(found, Verdict::Failed, "{kind:?}: {conditions:?}");
        let named = conditions.iter().any(|one| one.verdict == Verdict::Failed && one.found.contains(&kind.word()));
        assert!(named, "{kind:?} is not named: {conditions:?}");
    }
}

#[test]
fn the_truth_passes() {
    let (conditions, found) = truth().judged(&[("efficiency", ">= 0.6")]);
    assert_eq!(found, Verdict::Passed, "{conditions:?}");
    assert_eq!(conditions.len(), 4);
}

#[test]
fn a_server_that_drops_fails() {
    // It says that it sent what never arrived.
    let mut world = truth();
    world.entries.remove(17);
    world.fails_for(Kind::Lost);
    // It forgets a recipient altogether, counts and all.
    let mut world = truth();
    world.messages.pop();
    world.entries.pop();
    let mut counts = Counts::default();
    world.messages.iter().for_each(|message| counts.add(message));
    (world.tally, world.recount) = (counts.clone(), counts);
    world.fails_for(Kind::Missing);
    // It answered a webhook with 200 and dropped the status.
    let mut world = truth();
    world.messages[3].shown = Shown::Delivered;
    world.messages[3].reached = 4;
    world.fails_for(Kind::WrongStatus);
    // It sent and denies it.
    let mut world = truth();
    world.messages[4].shown = Shown::Pending;
    world.messages[4].reached = 1;
    world.fails_for(Kind::Denied);
}

#[test]
fn a_server_that_doubles_fails() {
    // The same attempt twice.
    let mut world = truth();
    let again = world.entries[9].clone();
    world.entries.push(again);
    world.fails_for(Kind::CorrelationDoubled);
    // A second attempt that nothing justifies.
    let mut world = truth();
    let mut again = world.entries[9].clone();
    again.correlation = "c9-2".into();
    again.id = "wamid.9-2".into();
    world.entries.push(again);
    world.messages[9].attempts.push(Attempt {
        number: 2,
        correlation: "c9-2".to_owned(),
        phase: Phase::Accepted,
        accepted: true,
        provider_id: "wamid.9-2".to_owned(),
    });
    world.fails_for(Kind::RecipientDoubled);
    // One that its export hides.
    world.messages[9].attempts.pop();
    world.fails_for(Kind::Stranger);
}

#[test]
fn a_server_that_overshoots_fails() {
    let mut world = truth();
    let at = world.arrivals[60].0 + 1;
    world.arrivals.push((at, 1));
    world.fails_for(Kind::AboveCeiling);
    // While the machine stood still it says nothing about the server: neither passed nor failed.
    world.stamping.stalls = vec![(at, 30_000_000)];
    world.arrivals.retain(|(at, _)| *at < 2_500_000_000);
    let (conditions, found) = world.judged(&[]);
    assert_eq!(found, Verdict::Void, "{conditions:?}");
    world.excused = true;
    assert_eq!(world.judged(&[]).1, Verdict::Passed, "unless the scenario bears it");
    // A stall excuses nothing else.
    world.entries.remove(0);
    assert_eq!(world.judged(&[]).1, Verdict::Failed);
}

#[test]
fn a_server_that_miscounts_fails() {
    let mut world = truth();
    world.tally.shown[6] -= 1;
    world.tally.shown[5] += 1;
    world.fails_for(Kind::TallyDrift);
    let mut world = truth();
    world.recount.reached[2] -= 1;
    world.fails_for(Kind::RecountDrift);
    let mut world = truth();
    world.tally.total += 1;
    world.fails_for(Kind::TallySum);
}

#[test]
fn a_run_that_shows_nothing_fails() {
    // Nothing was compared, though something was imported.
    let mut world = truth();
    world.recipients += 1;
    assert_eq!(world.judged(&[]).1, Verdict::Failed, "a campaign was left out of the check");
    let mut world = truth();
    world.recipients = 0;
    assert_eq!(world.judged(&[]).1, Verdict::Failed, "nothing was imported");
    // A figure that a condition asks for was not measured, is out of bounds, or the bound cannot be read.
    for pass in [("webhook.p99", "< 10"), ("efficiency", ">= 0.71"), ("efficiency", "0.1")] {
        assert_eq!(truth().judged(&[pass]).1, Verdict::Failed, "{pass:?}");
    }
    assert_eq!(verdict(&[]), Verdict::Failed, "no condition, no proof");
}

#[test]
fn those_who_measure_and_what_did_not_end_fail_a_run() {
    let mut world = truth();
    world.objections.push("the simulator was the limit".to_owned());
    assert_eq!(world.judged(&[]).1, Verdict::Failed);
    let mut world = truth();
    world.failures.push("a campaign has not ended in time".to_owned());
    assert_eq!(world.judged(&[]).1, Verdict::Failed);
    // Promises hold without being asked for.
    for promise in ["kill.beyond", "pause.left"] {
        let mut world = truth();
        world.figures.insert(promise.to_owned(), 0.0);
        assert_eq!(world.judged(&[]).1, Verdict::Passed);
        world.figures.insert(promise.to_owned(), 1.0);
        assert_eq!(world.judged(&[]).1, Verdict::Failed, "{promise}");
    }
}
