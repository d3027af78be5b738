//! Who was the limit of a run.
//!
//! The simulator shares its machine with the server, so a full machine is by itself no objection: that is what "on two cores with the
//! simulator on them" means. It is one when a single thread of those who measure was full while the machine had time to spare, or when they were
//! late by themselves: then a better server would have shown the same figures.

use serde::{Deserialize, Serialize};

/// How much those who measure were busy and late while the load lasted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Witnesses {
    /// CPU share of the simulator's busiest thread at each sample, 1 is a whole core; with the machine's idle share beside it.
    pub simulator_busy: Vec<(f64, f64)>,
    /// The same of this process.
    pub harness_busy: Vec<(f64, f64)>,
    /// 99th percentile of how late the simulator began POSTs although a connection was free, ms.
    pub simulator_lag_ms: Option<f64>,
    /// 99th percentile of how late this process woke up, ms.
    pub harness_lag_ms: Option<f64>,
    /// 99th percentile of how late generated arrivals left although a connection was free, ms.
    pub generator_lag_ms: Option<f64>,
    /// Generated arrivals.
    pub floods: Vec<Flooded>,
    /// Highest share of the machine's time that the hypervisor gave to others over any ten samples.
    pub stolen_most: Option<f64>,
}

/// What came of arrivals by schedule.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Flooded {
    /// How many were to leave per second.
    pub ordered: f64,
    /// How many did.
    pub rate: f64,
    /// Arrivals that left late.
    pub late: u64,
    /// Of these: those for which no connection was free.
    pub all_busy: u64,
}

/// What is borne.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Bounds {
    /// Longest lateness, 99th percentile, ms.
    pub lag_ms_max: f64,
    /// CPU share of one thread from which on it is full.
    pub busy_max: f64,
    /// Largest share of stolen time.
    pub stolen_max: f64,
}

/// Idle share of the machine from which on it had time to spare.
const SPARE: f64 = 0.10;
/// Share of the samples for which a thread must be full to be the limit.
const MOSTLY: f64 = 0.5;
/// Least share of the ordered arrivals per second; below it there was another load than the scenario speaks of.
const ARRIVALS: f64 = 0.95;

/// Sentences that say why the run does not judge the server; none when it does.
#[must_use]
pub fn objections(seen: &Witnesses, bounds: &Bounds) -> Vec<String> {
    let mut all = Vec::new();
    for (who, busy) in [("simulator", &seen.simulator_busy), ("harness", &seen.harness_busy)] {
        let full = busy.iter().filter(|(share, idle)| *share >= bounds.busy_max && *idle >= SPARE).count();
        if !busy.is_empty() && full as f64 >= busy.len() as f64 * MOSTLY {
            all.push(format!(
                "the {who} was the limit: its busiest thread was full in {full} of {} samples while the machine had time to spare",
                busy.len()
            ));
        }
    }
    let lags = [
        ("the simulator began its POSTs", seen.simulator_lag_ms),
        ("the harness woke up", seen.harness_lag_ms),
        ("generated arrivals left", seen.generator_lag_ms),
    ];
    for (what, lag) in lags {
        if let Some(lag) = lag.filter(|lag| *lag > bounds.lag_ms_max) {
            all.push(format!(
                "{what} up to {lag:.1} ms late (p99), borne are {} ms (witness.lag_ms_max)",
                bounds.lag_ms_max
            ));
        }
    }
    for Flooded { ordered, rate, late, all_busy } in &seen.floods {
        // Where every connection waited for the server, the server was the limit.
        let held_up = *all_busy as f64 >= *late as f64 * MOSTLY;
        if *rate < ordered * ARRIVALS && !held_up {
            all.push(format!(
                "of {ordered:.0} generated arrivals a second {rate:.0} left, though connections were free for {} of {late} late ones",
                late - all_busy
            ));
        }
    }
    if let Some(stolen) = seen.stolen_most.filter(|stolen| *stolen > bounds.stolen_max) {
        all.push(format!(
            "the machine was lent to others for {:.0} % of the time, borne are {:.0} % (witness.stolen_max)",
            stolen * 100.0,
            bounds.stolen_max * 100.0
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { lag_ms_max: 20.0, busy_max: 0.9, stolen_max: 0.2 };

    #[test]
    fn a_full_simulator_on_a_machine_with_time_to_spare_is_the_limit() {
        let seen = |idle| Witnesses { simulator_busy: vec![(0.97, idle); 10], ..Witnesses::default() };
        assert_eq!(objections(&seen(0.4), &BOUNDS).len(), 1);
        assert!(objections(&seen(0.0), &BOUNDS).is_empty(), "a full machine is shared by all");
        let half =
            Witnesses { simulator_busy: [vec![(0.97, 0.4); 4], vec![(0.5, 0.4); 6]].concat(), ..Witnesses::default() };
        assert!(objections(&half, &BOUNDS).is_empty());
    }

    #[test]
    fn a_flood_that_was_none_is_an_objection_unless_the_server_held_it_up() {
        let seen = |rate, all_busy| Witnesses {
            floods: vec![Flooded { ordered: 20_000.0, rate, late: 1_000, all_busy }],
            ..Witnesses::default()
        };
        assert_eq!(objections(&seen(18_900.0, 0), &BOUNDS).len(), 1);
        assert_eq!(objections(&seen(2_000.0, 400), &BOUNDS).len(), 1);
        assert!(objections(&seen(2_000.0, 900), &BOUNDS).is_empty(), "all connections waited for the server");
        assert!(objections(&seen(19_100.0, 0), &BOUNDS).is_empty());
    }

    #[test]
    fn lateness_and_stolen_time_are_objections() {
        let seen = Witnesses {
            simulator_lag_ms: Some(21.0),
            harness_lag_ms: Some(1.0),
            generator_lag_ms: Some(500.0),
            stolen_most: Some(0.5),
            ..Witnesses::default()
        };
        let all = objections(&seen, &BOUNDS);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(objections(&Witnesses::default(), &BOUNDS).is_empty());
    }
}
