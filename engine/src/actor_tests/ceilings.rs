//! The ceiling as the provider sees it, by its own receive times; and fair shares below it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::alone;
use super::house::{House, Run, acme};
use super::provider::Seen;
use crate::control::LineUpdate;
use crate::domain::ids::CampaignKey;

/// The way to the provider may jitter by this much here: the machine runs other things beside.
const GUARD: Duration = Duration::from_millis(40);
const SECOND: Duration = Duration::from_secs(1);
const HOUR_MS: i64 = 3_600_000;

/// The ceilings in the order in which they were set, and since when each was in force.
struct Ceilings(Vec<(Duration, u32)>);

impl Ceilings {
    /// What no window that begins at `from` may exceed: the highest ceiling in force within it.
    fn of_window(&self, from: Duration) -> u32 {
        let until = from + SECOND;
        let ends = self.0.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
        let in_force = self.0.iter().zip(ends).filter(|((at, _), end)| *at < until && *end > from);
        in_force.map(|((_, ceiling), _)| *ceiling).max().unwrap()
    }

    /// The windows that hold more than they may.
    fn exceeded(&self, seen: &[Seen]) -> Vec<String> {
        let mut at: Vec<Duration> = seen.iter().map(|request| request.at).collect();
        at.sort_unstable();
        let mut exceeded = Vec::new();
        for (first, from) in at.iter().enumerate() {
            let held = at.partition_point(|time| *time < *from + SECOND) - first;
            let ceiling = self.of_window(*from);
            if held > ceiling as usize {
                exceeded.push(format!("{held} > {ceiling} at {from:?}"));
            }
        }
        exceeded
    }
}

/// Runs campaigns that want more than the line gives, through several ceilings, while the wall clock steps.
async fn ceilings_hold(campaigns: u32) {
    let _alone = alone().await;
    // A machine that stalled for longer than the guard has shown nothing: once more.
    for attempt in 1..=5 {
        let house = House::with(|config| config.jitter_guard = GUARD).await;
        house.line("line-1", "", 300).await;
        let mut ceilings = Ceilings(vec![(Duration::ZERO, 300)]);
        for n in 0..campaigns {
            house.started(&format!("campaign-{n}"), "line-1", 4_000 / campaigns).await;
        }
        house.provider.until(1).await;
        house.provider.take_lateness();
        for (ceiling, step) in [(300, HOUR_MS), (900, -HOUR_MS), (120, 0), (600, HOUR_MS)] {
            if ceiling != ceilings.0[ceilings.0.len() - 1].1 {
                let update = LineUpdate { ceiling: Some(ceiling), ..LineUpdate::default() };
                // A raised one is in force from the call on, a lowered one from the answer on.
                let asked = house.provider.now();
                house.control.update_line(&acme(), "line-1", None, update).await.unwrap();
                let raised = ceiling > ceilings.0[ceilings.0.len() - 1].1;
                ceilings.0.push((if raised { asked } else { house.provider.now() }, ceiling));
            }
            house.step.store(step, Ordering::SeqCst);
            house.provider.until(house.provider.count() + ceiling as usize * 5 / 4).await;
        }
        let (seen, stalled) = (house.provider.seen(), house.provider.take_lateness());
        let exceeded = ceilings.exceeded(&seen);
        println!("{} requests from {campaigns} campaigns, longest stall {stalled:?}", seen.len());
        if exceeded.is_empty() {
            return;
        }
        assert!(
            stalled >= GUARD / 2 && attempt < 5,
            "longest stall {stalled:?}: {:?}",
            &exceeded[..exceeded.len().min(5)]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_campaign_never_exceeds_the_ceiling() {
    ceilings_hold(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_campaigns_never_exceed_the_ceiling() {
    ceilings_hold(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_campaigns_get_equal_shares() {
    let _alone = alone().await;
    let house = House::with_line(1_000).await;
    let mut runs: Vec<Run> = Vec::new();
    // All begin at the same moment: a head start is not a share.
    house.control.hold_line(&acme(), "line-1", None, "not yet").await.unwrap();
    for n in 0..20 {
        runs.push(house.started(&format!("campaign-{n}"), "line-1", 200).await);
    }
    house.control.release_line(&acme(), "line-1", None).await.unwrap();
    for run in &runs {
        house.assert_done(run).await;
    }
    let mut sent: HashMap<CampaignKey, u32> = runs.iter().map(|run| (run.key, 0)).collect();
    let mut ratios = Vec::new();
    for seen in house.provider.seen() {
        *sent.get_mut(&house.attempt_of(&seen).0).unwrap() += 1;
        let (least, most) = (*sent.values().min().unwrap(), *sent.values().max().unwrap());
        // Until the first has nothing left to send.
        if most >= 195 {
            break;
        }
        if least >= 100 {
            ratios.push(f64::from(least) / f64::from(most));
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (worst, median) = (ratios[0], ratios[ratios.len() / 2]);
    println!("least over most: {median:.3}, for a moment {worst:.3}");
    // A stall of the machine shows for a moment what is on its way; shares are what remains.
    assert!(median >= 0.95 && worst >= 0.85, "{median:.3}, for a moment {worst:.3}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_campaign_gives_its_share_away_at_once() {
    let _alone = alone().await;
    let house = House::with_line(400).await;
    let first = house.started("first", "line-1", 2_000).await;
    let second = house.started("second", "line-1", 2_000).await;
    house.provider.until(200).await;
    house.pause(&first).await;
    house.until_quiet(&first).await;
    let (from, before) = (house.provider.now(), house.taken(&second).len());
    house.provider.until(house.provider.count() + 600).await;
    let rate = (house.taken(&second).len() - before) as f64 / (house.provider.now() - from).as_secs_f64();
    assert!(rate > 300.0, "{rate} of 400 a second");
}
