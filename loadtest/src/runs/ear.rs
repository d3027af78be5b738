//! Hears everything that the check reads: when and by which line whose messages came.

use std::collections::HashMap;

use sluice_proto::v1;

use super::stage::{BLOCK, Left, Made, Pause};
use crate::harness::people;
use crate::measure::arrivals::Arrivals;
use crate::measure::own_rate::{self, Paced};
use crate::scenario::load::{PAIR, PROBE};
use crate::sim::rates::{SECOND_NS, highest_second};
use crate::sim::records::Record;
use crate::witness::fetch::Listener;

/// By so much the clocks of harness and simulator may have come apart in a long run.
const CLOCKS_NS: u64 = 50_000_000;

/// Hears the check and keeps what is about time, and by which line whose messages came.
#[derive(Debug)]
pub struct Ear {
    /// Arrivals.
    pub arrivals: Arrivals,
    lowered: Vec<(u64, u64, u32)>,
    by_line: HashMap<String, Vec<(u64, u8)>>,
    /// The line that is in a pool of its own, and whose messages came by it.
    probe: Option<(String, Vec<usize>)>,
}

impl Ear {
    /// For so many recipients; `lowered` are stretches with another ceiling.
    #[must_use]
    pub fn new(recipients: u32, lowered: Vec<(u64, u64, u32)>, probe_line: Option<String>) -> Self {
        let probe = probe_line.map(|line| (line, Vec::new()));
        Self { arrivals: Arrivals::new(recipients as usize), lowered, by_line: HashMap::new(), probe }
    }

    /// How many messages arrived before their campaign's start was asked for.
    #[must_use]
    pub fn early(&self, made: &[Made]) -> u64 {
        // Those that are compared with the floor are started elsewhere.
        let made = made.iter().filter(|made| made.job.entry != PAIR);
        let asked =
            |made: &Made| if made.started_ns > 0 { made.started_ns.saturating_sub(CLOCKS_NS) } else { u64::MAX };
        made.map(|made| self.arrivals.before(made.range(), asked(made))).sum()
    }

    /// How many messages came by a line of another pool than their campaign's; `None` when all lines are in one.
    #[must_use]
    pub fn strayed(&self, made: &[Made]) -> Option<u64> {
        let (_, came) = self.probe.as_ref()?;
        let probe = made.iter().find(|made| made.job.entry == PROBE)?.range();
        let own = came.iter().filter(|n| probe.contains(n)).count();
        let elsewhere = self.arrivals.times_of(probe).len().saturating_sub(own);
        Some((came.len() - own + elsewhere) as u64)
    }

    /// Whether campaigns kept to their own rates.
    #[must_use]
    pub fn own_rates(&self, made: &[Made], left: &Left, stalls: &[(u64, u64)]) -> own_rate::Found {
        let paced = |made: &&Made| {
            made.job.plan.rate.is_some() || left.rates.iter().any(|change| change.campaign == made.job.plan.id)
        };
        let campaigns = made.iter().filter(paced).map(|made| Paced {
            campaign: made.job.plan.id.clone(),
            rate: made.job.plan.rate.unwrap_or(0),
            times: self.arrivals.times_of(made.range()),
        });
        own_rate::judge(campaigns, &left.rates, &left.disturbed, stalls)
    }

    /// How many messages of paused campaigns arrived that cannot have been in flight.
    #[must_use]
    pub fn left_paused(&self, made: &[Made], pauses: &[Pause]) -> u64 {
        let left = |pause: &Pause| {
            let made = made.iter().find(|made| made.job.plan.id == pause.campaign);
            made.map_or(0, |made| pause.left(&self.arrivals.times_of(made.range()), made.job.plan.workers))
        };
        pauses.iter().map(left).sum()
    }

    /// Where more arrived within a second than the ceiling that was set for a while.
    #[must_use]
    pub fn above_lowered(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (line, arrivals) in &self.by_line {
            for (from, to, ceiling) in &self.lowered {
                let mut within: Vec<(u64, u8)> =
                    arrivals.iter().filter(|(at, _)| (*from..*to).contains(at)).copied().collect();
                within.sort_unstable();
                let (highest, _) = highest_second(&within);
                if highest > u64::from(*ceiling) {
                    all.push(format!("{line}: {highest} in one second under a ceiling lowered to {ceiling}"));
                }
            }
        }
        all
    }
}

impl Listener for Ear {
    fn accepted(&mut self, record: &Record) {
        let number = people::number(&record.to).filter(|(block, _)| *block == BLOCK).map(|(_, n)| n as usize);
        self.arrivals.accepted(&record.line, number, record.at_ns);
        if let Some((_, came)) = self.probe.as_mut().filter(|(line, _)| *line == *record.line) {
            came.extend(number);
        }
        if !self.lowered.is_empty() {
            self.by_line.entry(record.line.clone()).or_default().push((record.at_ns, record.cost));
        }
    }

    fn message(&mut self, _: &str, message: &v1::Message) {
        let number = people::number(&message.address).filter(|(block, _)| *block == BLOCK);
        let intent = message.attempts.first().and_then(|attempt| attempt.intent_time);
        if let (Some((_, n)), Some(at)) = (number, intent) {
            let at_ns = at.seconds.unsigned_abs() * SECOND_NS + u64::from(at.nanos.unsigned_abs());
            self.arrivals.intent(n as usize, at_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::client::CampaignPlan;
    use crate::scenario::load::{Job, PROBE_POOL};
    use crate::sim::ledger::Answer;

    const LINE: &str = "200";
    const PROBES: &str = "201";

    fn record(n: u32, line: &str, at_ns: u64) -> Record {
        Record {
            n: 0,
            id: String::new(),
            correlation: String::new(),
            line: line.to_owned(),
            to: people::phone(BLOCK, n),
            at_ns,
            content: 0,
            cost: 1,
            answer: Answer::Given,
            planned: 0,
            tried: 0,
            acked: 0,
            code: 0,
        }
    }

    /// Five recipients of a campaign that was started at 1 s, two of the probe's.
    fn made() -> [Made; 2] {
        let made = |id: &str, pool: &str, entry: &str, recipients: u32, first: u32| Made {
            job: Job::new(CampaignPlan::new(id, pool, "hello"), entry, recipients),
            first,
            started_ns: SECOND_NS,
        };
        [made("camp-0001", "wa", "camp", 5, 0), made(PROBE, PROBE_POOL, PROBE, 2, 5)]
    }

    #[test]
    fn what_arrives_before_the_start_is_early() {
        let mut ear = Ear::new(7, Vec::new(), None);
        ear.accepted(&record(0, LINE, SECOND_NS + 1));
        ear.accepted(&record(1, LINE, SECOND_NS - 10_000_000));
        assert_eq!(ear.early(&made()), 0, "clocks differ by a little");
        ear.accepted(&record(2, LINE, SECOND_NS / 2));
        assert_eq!(ear.early(&made()), 1);
        let mut never = made();
        never[0].started_ns = 0;
        assert_eq!(ear.early(&never), 3, "nobody asked for it at all");
        never[0].job.entry = PAIR.to_owned();
        assert_eq!(ear.early(&never), 0);
    }

    #[test]
    fn what_comes_by_a_line_of_another_pool_has_strayed() {
        let mut ear = Ear::new(7, Vec::new(), Some(PROBES.to_owned()));
        ear.accepted(&record(0, LINE, 1));
        ear.accepted(&record(5, PROBES, 1));
        assert_eq!(ear.strayed(&made()), Some(0));
        ear.accepted(&record(1, PROBES, 1));
        assert_eq!(ear.strayed(&made()), Some(1), "a campaign's message by the probe's line");
        ear.accepted(&record(6, LINE, 1));
        assert_eq!(ear.strayed(&made()), Some(2), "and the other way round");
        assert_eq!(Ear::new(7, Vec::new(), None).strayed(&made()), None);
    }
}
