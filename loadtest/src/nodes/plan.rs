//! What happens when, as plain data from a seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::harness::link::Way;

/// One thing that goes wrong, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// kill -9, and a start after this time.
    Kill(Duration),
    /// SIGSTOP for this time.
    Freeze(Duration),
    /// SIGTERM, and a start this time after the end.
    Drain(Duration),
    /// kill -9 of the CQL server, and a start after this time.
    Ledger(Duration),
    /// The line between the node and the CQL server.
    Cut(Way, Duration),
    /// The line between the node and another, both ways.
    Apart(usize, Way, Duration),
    /// What the node wrote is held back until another has its pools; it is killed or frozen, or nothing happens to it.
    Late(Fate, Duration),
    /// The node's wall clock is set so many seconds beside the right time, and stays there.
    Wall(i64),
}

/// What becomes of a node whose batches are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is killed, and comes back after its batches have landed.
    Killed,
    /// It is frozen, and wakes after its batches have landed.
    Frozen,
    /// It is frozen and wakes before they do.
    Woken,
}

/// One disturbance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// The node that it happens to; of [`What::Ledger`]: none.
    pub node: usize,
    /// What it is.
    pub what: What,
    /// Quiet time before.
    pub after: Duration,
    /// The one before still goes on meanwhile.
    pub beside: bool,
}

impl What {
    /// The kind, for counts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Freeze(_) => "freeze",
            Self::Drain(_) => "drain",
            Self::Ledger(_) => "ledger killed",
            Self::Cut(Way::Mute(_), _) => "answers lost",
            Self::Cut(..) => "cut off the ledger",
            Self::Apart(..) => "nodes apart",
            Self::Late(..) => "late batches",
            Self::Wall(_) => "wall clock",
        }
    }
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = format!("node-{}", self.node);
        match &self.what {
            What::Kill(down) => write!(f, "{node} killed, back after {down:?}"),
            What::Freeze(time) => write!(f, "{node} frozen for {time:?}"),
            What::Drain(away) => write!(f, "{node} drained, back after {away:?}"),
            What::Ledger(down) => write!(f, "CQL server killed, back after {down:?}"),
            What::Cut(Way::Mute(share), time) => {
                write!(f, "{node} hears {} % of the CQL server's answers for {time:?}", 100 - share)
            }
            What::Cut(way, time) => write!(f, "{node} to CQL server: {way:?} for {time:?}"),
            What::Apart(other, way, time) => write!(f, "{node} to node-{other}: {way:?} for {time:?}"),
            What::Late(fate, time) => write!(f, "{node} {fate:?}, its batches held back for {time:?}"),
            What::Wall(seconds) => write!(f, "{node}'s wall clock {seconds} s beside the right time"),
        }?;
        if self.beside { write!(f, " (beside the one before)") } else { Ok(()) }
    }
}

/// How far wall clocks go astray, seconds.
pub const ASTRAY: i64 = 600;

/// So many disturbances of so many nodes. `lease`: what takes longer than it is a death to the others. `frozen_max`: longest freeze.
#[must_use]
pub fn disturbances(seed: u64, count: usize, nodes: usize, lease: Duration, frozen_max: Duration) -> Vec<Disturbance> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut all: Vec<Disturbance> = Vec::with_capacity(count);
    while all.len() < count {
        let node = chance.random_range(0..nodes);
        let what = what(&mut chance, node, nodes, lease, frozen_max);
        let after = Duration::from_millis(chance.random_range(0..1_500));
        // Never three at once, never two of one node, and the ledger's death alone.
        let fits = |before: &Disturbance| {
            !before.beside && before.node != node && ![&before.what, &what].iter().any(|w| matches!(w, What::Ledger(_)))
        };
        let beside = chance.random_ratio(1, 3) && all.last().is_some_and(fits);
        all.push(Disturbance { node, what, after, beside });
    }
    all
}

fn what(chance: &mut StdRng, node: usize, nodes: usize, lease: Duration, frozen_max: Duration) -> What {
    let mut ms = |from: u64, to: u64| Duration::from_millis(chance.random_range(from..to));
    let lease = lease.as_millis() as u64;
    let (short, long) = (ms(0, lease / 2), ms(lease, 3 * lease));
    let span = if chance.random_ratio(1, 2) { short } else { long };
    match chance.random_range(0..18) {
        0..3 => What::Kill(span),
        3..5 => {
            // As many of one to two seconds as of fifteen to thirty.
            let most = frozen_max.as_secs_f64().max(1.0);
            What::Freeze(Duration::from_millis((1_000.0 * most.powf(chance.random::<f64>())) as u64))
        }
        5..7 => What::Drain(span),
        7 => What::Ledger(span),
        8..11 => {
            let way = [Way::Cut, Way::Broken][chance.random_range(0..2)];
            What::Cut(way, span)
        }
        11..13 => What::Cut(Way::Mute(chance.random_range(20..90)), long),
        13..15 => {
            let other = (node + 1 + chance.random_range(0..nodes - 1)) % nodes;
            What::Apart(other, [Way::Cut, Way::Broken][chance.random_range(0..2)], long)
        }
        15..17 => {
            let fate = [Fate::Killed, Fate::Frozen, Fate::Woken][chance.random_range(0..3)];
            // The take-over comes a lease and a look after the last renewal.
            What::Late(fate, Duration::from_millis(lease * 3 / 2 + 1_000 + chance.random_range(0..2_000)))
        }
        _ => What::Wall(ASTRAY * chance.random_range(-1..2)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_seed_says_it_all_and_every_kind_comes() {
        let (lease, longest) = (Duration::from_secs(2), Duration::from_secs(30));
        let plan = |seed| disturbances(seed, 200, 3, lease, longest);
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
        let kinds: BTreeSet<_> = plan(7).iter().map(|one| one.what.kind()).collect();
        assert_eq!(kinds.len(), 9, "{kinds:?}");
        for one in plan(7) {
            if let What::Freeze(time) = one.what {
                assert!((Duration::from_secs(1)..=longest).contains(&time));
            }
            if let What::Apart(other, ..) = one.what {
                assert!(other != one.node && other < 3);
            }
        }
    }
}
