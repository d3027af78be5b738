//! A server that drops, doubles, overshoots or miscounts fails its run, whatever else is fine; so does a run that shows nothing.
//!
//! Each lie is told through the whole chain: tampered records → the witness's comparison → conditions → verdict.

use std::collections::{BTreeMap, HashMap};

use super::data::{Condition, Verdict};
use super::verdict::{Evidence, judge, verdict};
use crate::harness::config::{TEMPLATE, TEMPLATE_LANGUAGE};
use crate::harness::people;
use crate::measure::own_rate::{self, Paced};
use crate::sim::digest;
use crate::sim::ledger::{Answer, Why};
use crate::sim::rates::{LineRate, line_rate};
use crate::sim::records::Summary;
use crate::sim::stamp::Stamping;
use crate::sim::text::e164;
use crate::witness::compare::{CampaignFold, Comparison, Kind, Policy, Said};
use crate::witness::doubts::Traceless;
use crate::witness::records::{Attempt, Booked, Counts, DELIVERED, Entry, Exported, Phase, READ, Refused, SENT, Shown};
use crate::witness::report::Report;

const RECIPIENTS: u32 = 200;
const CEILING: u32 = 50;

/// What both sides say of a run in which everything was right.
#[derive(Clone)]
struct World {
    entries: Vec<Entry>,
    refused: Vec<Refused>,
    kills: Vec<u64>,
    messages: Vec<Exported>,
    arrivals: Vec<(u64, u8)>,
    said: Said,
    stamping: Stamping,
    /// Of its only campaign, per second.
    own_rate: u32,
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
        to: e164(&people::phone(1, n)).expect("a number"),
        content: content(n, |[name, discount]| [name, discount]),
        code: 0,
        answer: Answer::Given,
        tried: all,
        acked: all,
    };
    let message = |n: u32| Exported {
        seq: n,
        address: people::phone(1, n),
        external_id: String::new(),
        parameters: people::params(n).to_vec(),
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
            failure: String::new(),
            began_ns: 1_000,
        }],
    };
    let messages: Vec<Exported> = (0..RECIPIENTS).map(message).collect();
    let mut counts = Counts::default();
    messages.iter().for_each(|message| counts.add(message));
    World {
        entries: (0..RECIPIENTS).map(entry).collect(),
        refused: Vec::new(),
        kills: Vec::new(),
        messages,
        // Exactly at the ceiling.
        arrivals: (0..u64::from(RECIPIENTS)).map(|n| (n * 20_000_000, 1)).collect(),
        said: said(&counts),
        stamping: Stamping::default(),
        own_rate: CEILING,
        recipients: u64::from(RECIPIENTS),
        figures: BTreeMap::from([("efficiency".to_owned(), 0.7), ("statuses.given_up".to_owned(), 0.0)]),
        objections: Vec::new(),
        failures: Vec::new(),
        excused: false,
    }
}

/// Digest of what recipient `n` is sent, its parameters changed.
fn content(n: u32, change: impl Fn([String; 2]) -> [String; 2]) -> u64 {
    let parameters = change(people::params(n));
    let recipient = e164(&people::phone(1, n)).expect("a number");
    digest::template(recipient, TEMPLATE, TEMPLATE_LANGUAGE, parameters.iter().map(String::as_str))
}

/// What a truthful server says of a campaign without failures.
fn said(counts: &Counts) -> Said {
    Said {
        tally: counts.clone(),
        recount: counts.clone(),
        recount_s: 0.0,
        failures: Some(BTreeMap::new()),
        listed: Some(counts.clone()),
        watched: Some((counts.clone(), BTreeMap::new())),
        audience: Some(counts.total),
    }
}

impl World {
    /// Message `n` was never accepted, and shows this; all counts agree with it.
    fn gave_up(&mut self, n: usize, shown: Shown, phase: Phase) {
        self.entries.retain(|entry| *entry.correlation != format!("c{n}"));
        let message = &mut self.messages[n];
        (message.shown, message.reached) = (shown, 2);
        let attempt = &mut message.attempts[0];
        (attempt.phase, attempt.accepted, attempt.provider_id) = (phase, false, String::new());
        if phase == Phase::Failed {
            attempt.failure = "131026".to_owned();
        }
        self.recount();
    }

    /// What the server says follows from the messages.
    fn recount(&mut self) {
        let mut counts = Counts::default();
        self.messages.iter().for_each(|message| counts.add(message));
        let failed = counts.of(Shown::Failed);
        let failures: BTreeMap<_, _> = (failed > 0).then(|| ("131026".to_owned(), failed)).into_iter().collect();
        self.said =
            Said { failures: Some(failures.clone()), watched: Some((counts.clone(), failures)), ..said(&counts) };
    }

    fn check(&self) -> Report {
        let mut comparison =
            Comparison::new(self.entries.clone()).refused(self.refused.clone()).interrupted(Some(self.kills.clone()));
        let audience = Some(people::phones(1, RECIPIENTS));
        let mut fold = CampaignFold::new("camp", Policy::AtMostOnce, audience).in_flight(2);
        self.messages.iter().for_each(|message| comparison.message(&mut fold, message));
        comparison.campaign(fold, self.said.clone());
        let rate: LineRate =
            line_rate("l", CEILING, self.arrivals.clone(), 1_000_000_000, (None, None), &self.stamping.stalls);
        comparison.rates(std::slice::from_ref(&rate), &HashMap::new(), None);
        let (differences, campaigns) = comparison.finish(true);
        let mut traceless = Traceless { allowed: Some(0), ..Traceless::default() };
        campaigns.iter().for_each(|campaign| traceless.add(&campaign.traceless));
        Report {
            ok: differences.is_empty(),
            traceless,
            campaigns,
            ledger: Summary { accepted: self.entries.len() as u64, ..Summary::default() },
            rates: vec![rate],
            stamping: self.stamping.clone(),
            differences,
            notes: Vec::new(),
        }
    }

    /// What was measured, and what the campaign's arrivals say of its rate.
    fn figures(&self) -> BTreeMap<String, f64> {
        let times = self.arrivals.iter().map(|(at, _)| *at).collect();
        let paced = Paced { campaign: "camp".to_owned(), rate: self.own_rate, times };
        let mut figures = self.figures.clone();
        let above = own_rate::judge([paced], &[], &[], &self.stamping.stalls).above;
        figures.extend(above.map(|above| ("campaign.above".to_owned(), above)));
        figures
    }

    fn judged(&self, pass: &[(&str, &str)]) -> (Vec<Condition>, Verdict) {
        let pass = pass.iter().map(|(name, bound)| ((*name).to_owned(), (*bound).to_owned())).collect();
        let evidence = Evidence {
            check: &self.check(),
            figures: &self.figures(),
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
    assert_eq!(conditions.len(), 7);
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
    world.recount();
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
    // It says that the provider refused what it never sent, or that it ran out of time for it.
    let mut world = truth();
    world.gave_up(5, Shown::Failed, Phase::Failed);
    world.fails_for(Kind::Dropped);
    let booked = Booked { code: 131_026, http: 400, why: Why::Fault };
    world.refused.push(Refused { correlation: "c5".into(), booked });
    assert_eq!(world.judged(&[]).1, Verdict::Passed, "unless the provider did");
    let mut world = truth();
    world.gave_up(5, Shown::Expired, Phase::Withdrawn);
    world.fails_for(Kind::Dropped);
    // It says that it does not know.
    let mut world = truth();
    (5..8).for_each(|n| world.gave_up(n, Shown::Unconfirmed, Phase::Unconfirmed));
    world.fails_for(Kind::Vanished);
    world.kills.push(2_000);
    world.fails_for(Kind::Vanished);
    world.kills.push(1_500);
    world.messages[7].attempts[0].began_ns = 1_700;
    let (conditions, found) = world.judged(&[]);
    assert_eq!(found, Verdict::Passed, "two kills with two in flight explain three: {conditions:?}");
    assert!(conditions.iter().any(|one| one.bound == "≤ 4"), "the bound is shown: {conditions:?}");
}

#[test]
fn a_server_that_garbles_fails() {
    let mut world = truth();
    world.entries[12].content = content(12, |[name, discount]| [discount, name]);
    world.fails_for(Kind::WrongContent);
    let mut world = truth();
    world.messages[12].parameters.swap(0, 1);
    world.fails_for(Kind::WrongRecord);
    // So much that the provider finds fault with it, though a repetition went through.
    let mut world = truth();
    let booked = Booked { code: 132_000, http: 400, why: Why::Wrong };
    world.refused.push(Refused { correlation: "c12".into(), booked });
    world.fails_for(Kind::Malformed);
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
        failure: String::new(),
        began_ns: 2_000,
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
    // A stall excuses its own length's worth and one, in its own second, and nothing else.
    let before = world.clone();
    world.arrivals.extend((2..8).map(|n| (at + n, 1)));
    world.fails_for(Kind::AboveCeiling);
    let mut world = before;
    // As high as the second of the stall, but without one.
    world.arrivals.push((1, 1));
    world.fails_for(Kind::AboveCeiling);
    world.arrivals.pop();
    assert_eq!(world.judged(&[]).1, Verdict::Passed);
    world.entries.remove(0);
    assert_eq!(world.judged(&[]).1, Verdict::Failed);
}

#[test]
fn a_server_that_ignores_a_campaigns_own_rate_fails() {
    let mut world = truth();
    world.own_rate = CEILING / 5;
    let (conditions, found) = world.judged(&[]);
    assert_eq!(found, Verdict::Failed, "{conditions:?}");
    let broken = conditions.iter().filter(|one| one.verdict == Verdict::Failed);
    assert!(broken.map(|one| one.what.as_str()).eq(["campaign.above"]), "{conditions:?}");
    // In a scenario that bears some of it, too.
    assert_eq!(world.judged(&[("campaign.above", "<= 10")]).1, Verdict::Failed);
}

#[test]
fn a_server_that_miscounts_fails() {
    let mut world = truth();
    world.said.tally.shown[6] -= 1;
    world.said.tally.shown[5] += 1;
    world.fails_for(Kind::TallyDrift);
    let mut world = truth();
    world.said.recount.reached[2] -= 1;
    world.fails_for(Kind::RecountDrift);
    let mut world = truth();
    world.said.tally.total += 1;
    world.fails_for(Kind::TallySum);
    let mut world = truth();
    world.said.listed = Some(Counts::default());
    world.fails_for(Kind::ListDrift);
    let mut world = truth();
    world.said.watched = Some((Counts::default(), BTreeMap::new()));
    world.fails_for(Kind::WatchDrift);
    let mut world = truth();
    world.said.failures = Some(BTreeMap::from([("131026".to_owned(), 1)]));
    world.fails_for(Kind::FailureDrift);
    let mut world = truth();
    world.said.audience = Some(u64::from(RECIPIENTS) + 1);
    world.fails_for(Kind::AudienceDrift);
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
    for promise in ["statuses.given_up", "start.early", "line.strayed", "kill.beyond", "pause.left"] {
        let mut world = truth();
        world.figures.insert(promise.to_owned(), 0.0);
        assert_eq!(world.judged(&[]).1, Verdict::Passed);
        world.figures.insert(promise.to_owned(), 1.0);
        assert_eq!(world.judged(&[]).1, Verdict::Failed, "{promise}");
    }
}
