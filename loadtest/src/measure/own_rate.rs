//! A campaign's own rate as the provider sees it: a mean over ten seconds and more, with a burst. What was accepted of it is asked, not what
//! the server says of itself.

use crate::sim::rates::{SECOND_NS, lowest_window};
use crate::sim::stamp::stalled_ns;

/// The contract promises the mean over this and everything longer.
pub const WINDOW_NS: u64 = 10 * SECOND_NS;
/// And within 1 %.
const MEAN: f64 = 1.01;
/// The burst on top, in seconds' worth: the server saves up two refills of its choice, of a tenth to 0.3 s each.
const BURST_S: f64 = 0.6;
/// And messages: two refills of one, and one that waited for the ledger, where the rate is so low that a refill is a single message.
const BURST_MIN: f64 = 3.0;
/// What a disturbance held back is through by then.
const SETTLES_NS: u64 = SECOND_NS;

/// A stretch of time under one rate, ns since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// From.
    pub from_ns: u64,
    /// To, itself not in it.
    pub to_ns: u64,
    /// Messages per second.
    pub rate: u32,
}

/// A rate that was set while the campaign was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The campaign.
    pub campaign: String,
    /// When it was asked for, ns since the epoch: the old one holds until then.
    pub asked_ns: u64,
    /// When it was answered: the new one holds from then on. What lies between is nobody's.
    pub answered_ns: u64,
    /// The new one, per second; 0: none.
    pub rate: u32,
}

/// One campaign with what was accepted of it.
#[derive(Debug, Clone)]
pub struct Paced {
    /// Its id.
    pub campaign: String,
    /// The rate that it was made with, per second; 0: none.
    pub rate: u32,
    /// When its messages were accepted, ns since the epoch, sorted.
    pub times: Vec<u64>,
}

/// What was found over all campaigns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Most messages that one sent beyond its rate and burst within any window of ten seconds or more; `None` when none had a rate.
    pub above: Option<f64>,
    /// Least used of a rate over any window of demand, 1 is all of it.
    pub least: Option<f64>,
    /// Who was above, in words.
    pub words: Vec<String>,
}

/// Judges campaigns. `disturbed` are stretches in which something else was done to the server or its provider: windows lie between them,
/// and so between the changes of a rate. `stalls` are the machine's (when each ended, how long it was, ns).
#[must_use]
pub fn judge(
    campaigns: impl IntoIterator<Item = Paced>,
    changes: &[Change],
    disturbed: &[(u64, u64)],
    stalls: &[(u64, u64)],
) -> Found {
    let mut found = Found::default();
    for Paced { campaign, rate, times } in campaigns {
        let times: Vec<(u64, u8)> = times.into_iter().map(|at| (at, 1)).collect();
        let own = changes.iter().filter(|change| change.campaign == campaign);
        for stretch in stretches(rate, own, disturbed) {
            let above = above(&times, stretch, stalls);
            found.above = Some(found.above.unwrap_or(0.0).max(above));
            if above > 0.0 {
                let words = format!("{campaign}: {above:.0} messages beyond {}/s and its burst", stretch.rate);
                found.words.push(words);
            }
            let least = least(&times, stretch);
            found.least = found.least.into_iter().chain(least).reduce(f64::min);
        }
    }
    found
}

/// The stretches in which a campaign had one rate and nothing else was disturbed.
#[must_use]
pub fn stretches<'a>(rate: u32, changes: impl Iterator<Item = &'a Change>, disturbed: &[(u64, u64)]) -> Vec<Stretch> {
    let mut all = Vec::new();
    let mut last = Stretch { from_ns: 0, to_ns: u64::MAX, rate };
    for change in changes {
        all.push(Stretch { to_ns: change.asked_ns, ..last });
        last = Stretch { from_ns: change.answered_ns, to_ns: u64::MAX, rate: change.rate };
    }
    all.push(last);
    for &(from, to) in disturbed {
        let settled = to.saturating_add(SETTLES_NS);
        let parts = |one: Stretch| {
            let before = Stretch { to_ns: one.to_ns.min(from), ..one };
            let after = Stretch { from_ns: one.from_ns.max(settled), ..one };
            [before, after]
        };
        all = all.into_iter().flat_map(parts).filter(|one| one.from_ns < one.to_ns).collect();
    }
    all.retain(|one| one.rate > 0 && one.from_ns < one.to_ns);
    all
}

/// Most messages beyond rate and burst in any window of a stretch. What a standstill of the machine held back may come on top.
///
/// The burst is allowed once, however long the window: over ten seconds it hides a rate that is 5 % too high, over a minute it does not.
fn above(times: &[(u64, u8)], stretch: Stretch, stalls: &[(u64, u64)]) -> f64 {
    let within = &times[place(times, stretch.from_ns)..place(times, stretch.to_ns)];
    let rate = f64::from(stretch.rate);
    let window_ns = WINDOW_NS.min(stretch.to_ns - stretch.from_ns);
    let per_ns = MEAN * rate / 1e9;
    let burst = BURST_S * rate + BURST_MIN;
    let excused = |from_ns: u64, to_ns: u64| rate * stalled_ns(stalls, from_ns, to_ns) as f64 / 1e9;
    let Some(begin) = within.first().map(|(at, _)| *at) else { return 0.0 };
    let ahead = |n: usize| n as f64 - per_ns * (within[n].0 - begin) as f64;
    // So far ahead of the mean does a longer window begin. Of standstills only one before its begin held anything back: those within it
    // last as long as it lasts.
    let begins = |n: usize| ahead(n) + excused(within[n].0.saturating_sub(SECOND_NS), within[n].0);
    let (mut most, mut first, mut lowest) = (0.0f64, 0, f64::INFINITY);
    for (n, &(at, _)) in within.iter().enumerate() {
        while within[first].0 + window_ns <= at {
            lowest = lowest.min(begins(first));
            first += 1;
        }
        let beyond = (n + 1 - first) as f64 - per_ns * window_ns as f64 - burst;
        if beyond > most {
            most = most.max(beyond - excused(within[first].0.saturating_sub(SECOND_NS), at));
        }
        most = most.max(ahead(n) + 1.0 - lowest - burst);
    }
    most
}

/// Least used over a window of a stretch while there was demand: from a second after the campaign's first message until a twentieth of its
/// time was left.
fn least(times: &[(u64, u8)], stretch: Stretch) -> Option<f64> {
    let (first, last) = (times.first()?.0, times.last()?.0);
    let from = stretch.from_ns.max(first + SECOND_NS);
    let to = stretch.to_ns.min(last - (last - first) / 20);
    let (fewest, _) = lowest_window(times, from, to, WINDOW_NS)?;
    Some(fewest as f64 * 1e9 / (f64::from(stretch.rate) * WINDOW_NS as f64))
}

fn place(times: &[(u64, u8)], at_ns: u64) -> usize {
    times.partition_point(|(at, _)| *at < at_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = SECOND_NS;

    /// Evenly so many per second from one second to another.
    fn even(per_second: u64, from_s: u64, to_s: u64) -> Vec<u64> {
        (0..per_second * (to_s - from_s)).map(|n| from_s * S + n * S / per_second).collect()
    }

    fn found(rate: u32, times: Vec<u64>, changes: &[Change], disturbed: &[(u64, u64)], stalls: &[(u64, u64)]) -> Found {
        judge([Paced { campaign: "c".to_owned(), rate, times }], changes, disturbed, stalls)
    }

    fn change(asked_s: u64, rate: u32) -> Change {
        Change { campaign: "c".to_owned(), asked_ns: asked_s * S, answered_ns: asked_s * S + S / 10, rate }
    }

    #[test]
    fn a_mean_with_its_burst_passes_and_more_does_not() {
        for rate in [1, 50, 1_000] {
            let kept = found(rate, even(u64::from(rate), 10, 60), &[], &[], &[]);
            assert_eq!((kept.above, kept.least), (Some(0.0), Some(1.0)), "{rate}");
        }
        let mut burst = even(1_000, 10, 60);
        burst.extend(std::iter::repeat_n(30 * S, 600));
        burst.sort_unstable();
        assert_eq!(found(1_000, burst, &[], &[], &[]).above, Some(0.0), "two refills at once");
        let faster = found(1_000, even(1_080, 10, 60), &[], &[], &[]);
        assert!(faster.above.is_some_and(|above| above > 90.0), "8 % too fast: {faster:?}");
        assert_eq!(faster.words.len(), 1);
        assert_eq!(found(0, even(1_000, 10, 60), &[], &[], &[]), Found::default(), "without a rate nothing is judged");
    }

    #[test]
    fn a_rate_that_is_a_little_too_high_is_seen_in_the_long_run() {
        for rate in [20, 100, 1_000] {
            let faster = even(rate + rate / 20, 10, 130);
            let rate = u32::try_from(rate).expect("small");
            let short = Stretch { from_ns: 0, to_ns: 22 * S, rate };
            let times: Vec<(u64, u8)> = faster.iter().map(|at| (*at, 1)).collect();
            assert_eq!(above(&times, short, &[]), 0.0, "{rate}: the burst covers it for a while");
            let found = found(rate, faster, &[], &[], &[]);
            assert!(
                found.above.is_some_and(|above| above > f64::from(rate)),
                "5 % too fast for two minutes: {found:?}"
            );
        }
        // A burst after an hour of silence is a burst, whatever could have been sent in that hour.
        let mut late = even(100, 10, 20);
        late.extend(even(100, 3_600, 3_700));
        assert_eq!(found(100, late.clone(), &[], &[], &[]).above, Some(0.0));
        late.extend(std::iter::repeat_n(3_650 * S, 200));
        late.sort_unstable();
        assert!(found(100, late, &[], &[], &[]).above.is_some_and(|above| above > 100.0), "silence saves nothing up");
    }

    #[test]
    fn short_campaigns_are_judged_too() {
        // All of 2,000 in one second, at a rate of 100.
        let at_once = found(100, even(2_000, 10, 11), &[], &[], &[]);
        assert!(at_once.above.is_some_and(|above| above > 900.0), "{at_once:?}");
        assert_eq!(at_once.least, None, "too short for a window of demand");
    }

    #[test]
    fn each_stretch_has_its_own_rate() {
        let mut kept = even(1_000, 10, 40);
        kept.extend(even(100, 40, 70));
        assert_eq!(found(1_000, kept, &[change(40, 100)], &[], &[]).above, Some(0.0));
        let ignored = found(1_000, even(1_000, 10, 70), &[change(40, 100)], &[], &[]);
        assert!(ignored.above.is_some_and(|above| above > 8_000.0), "{ignored:?}");
        // Also one that is too short for a whole window, and one of a campaign that had none before.
        let changes = [change(40, 100), change(44, 1_000)];
        let ignored = found(1_000, even(1_000, 10, 70), &changes, &[], &[]);
        assert!(ignored.above.is_some_and(|above| above > 3_000.0), "{ignored:?}");
        assert!(found(0, even(1_000, 10, 70), &changes[..1], &[], &[]).above.is_some_and(|above| above > 8_000.0));
        let other = Change { campaign: "other".to_owned(), ..change(40, 100) };
        assert_eq!(found(1_000, even(1_000, 10, 70), &[other], &[], &[]).above, Some(0.0));
    }

    #[test]
    fn windows_lie_between_disturbances() {
        let cut = stretches(50, [change(30, 5)].iter(), &[(10 * S, 20 * S), (29 * S, 40 * S)]);
        let stretch = |from_ns, to_ns, rate| Stretch { from_ns, to_ns, rate };
        assert_eq!(cut, [stretch(0, 10 * S, 50), stretch(21 * S, 29 * S, 50), stretch(41 * S, u64::MAX, 5)]);
        // What was held back and left with a disturbance's end is nobody's; silence in it wastes nothing.
        let mut held = even(100, 10, 30);
        held.extend(std::iter::repeat_n(40 * S, 900));
        held.extend(even(100, 41, 70));
        assert!(found(100, held.clone(), &[], &[], &[]).above.is_some_and(|above| above > 0.0));
        let found = found(100, held, &[], &[(30 * S, 40 * S)], &[]);
        assert_eq!((found.above, found.least), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn a_machine_that_stood_still_explains_what_it_held_back_and_no_more() {
        // Two seconds' worth come late and at once.
        let mut late = even(100, 10, 28);
        late.extend(std::iter::repeat_n(30 * S, 200));
        late.extend(even(100, 30, 60));
        late.sort_unstable();
        assert!(found(100, late.clone(), &[], &[], &[]).above.is_some_and(|above| above > 100.0));
        assert_eq!(found(100, late.clone(), &[], &[], &[(30 * S, 2 * S)]).above, Some(0.0));
        assert!(found(100, late, &[], &[], &[(30 * S, S)]).above.is_some_and(|above| above > 10.0));
    }

    #[test]
    fn standstills_all_along_do_not_explain_a_rate_that_is_too_high() {
        let faster = even(105, 10, 130);
        let stalls: Vec<(u64, u64)> = (11..130).map(|n| (n * S, S / 5)).collect();
        assert!(found(100, faster, &[], &[], &stalls).above.is_some_and(|above| above > 100.0));
        assert_eq!(found(100, even(100, 10, 130), &[], &[], &stalls).above, Some(0.0));
    }

    #[test]
    fn what_is_wasted_is_seen() {
        let mut slow = even(100, 10, 40);
        slow.extend(even(50, 40, 60));
        slow.extend(even(100, 60, 90));
        let least = found(100, slow, &[], &[], &[]).least.expect("a window fits");
        assert!((0.49..=0.5).contains(&least), "{least}");
    }
}
