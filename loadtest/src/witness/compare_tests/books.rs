//! Tallies, lists, failures by code, lines.

use std::collections::HashMap;

use super::*;
use crate::sim::rates::line_rate;

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
