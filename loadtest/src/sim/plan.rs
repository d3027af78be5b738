//! The journey of each recipient: which statuses come, when, how often, in what order.
//!
//! Everything follows from the seed and the recipient alone, so that a run can be repeated and its end state predicted
//! without asking the simulator.

use serde::{Deserialize, Serialize};

/// A status as a bit, so that a set of them fits in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Status {
    /// The network took it.
    Sent = 1,
    /// It reached the device.
    Delivered = 2,
    /// It was read.
    Read = 4,
    /// It failed.
    Failed = 8,
}

impl Status {
    /// All statuses, lowest first.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Delivered, Self::Read, Self::Failed];

    /// The word both providers use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }

    /// The bit of this status.
    #[must_use]
    pub fn bit(self) -> u8 {
        self as u8
    }
}

/// How `timestamp` is written in Meta's webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timestamps {
    /// As text, which is what Meta documents.
    #[default]
    Text,
    /// As a number.
    Number,
    /// Now this, now that.
    Mixed,
}

/// Shares are between 0 and 1; pairs are lowest and highest, drawn evenly; times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Share of recipients of whom nothing is ever reported.
    pub silent: f64,
    /// Share of recipients that end as failed.
    pub failed: f64,
    /// Of the failed: share without a `sent` before.
    pub failed_first: f64,
    /// Of the failed: share that is also reported delivered (a conflict).
    pub conflict: f64,
    /// Share of the others that are delivered.
    pub delivered: f64,
    /// Share of the delivered that read.
    pub read: f64,
    /// Of the read: share whose `delivered` is never reported.
    pub read_alone: f64,
    /// `sent` after the request.
    pub sent_ms: [u32; 2],
    /// `delivered` after `sent`.
    pub delivered_ms: [u32; 2],
    /// `read` after `delivered`.
    pub read_ms: [u32; 2],
    /// `failed` after the status before it, or after the request.
    pub failed_ms: [u32; 2],
    /// Share of recipients whose statuses arrive in any order.
    pub shuffled: f64,
    /// Share of statuses that are posted more than once.
    pub duplicated: f64,
    /// How often at most (1 to 5).
    pub copies_max: u8,
    /// Copies follow after this time.
    pub copy_ms: [u32; 2],
    /// Share of recipients whose first status is posted before the request is answered.
    pub before_answer: f64,
    /// How long the answer of those waits.
    pub before_answer_ms: u32,
    /// Statuses per POST (Meta; 1 to 1,000).
    pub batch: [u16; 2],
    /// A status waits no longer than this for company in its POST.
    pub flush_ms: u32,
    /// Statuses of one POST are spread over at most so many `entry` objects.
    pub entries: u8,
    /// Share of POSTs that also carry the status of a message nobody knows.
    pub unknown: f64,
    /// Share of POSTs preceded by a false one with a bad signature.
    pub forged: f64,
    /// How times are written (Meta).
    pub timestamps: Timestamps,
    /// Meta: a `contacts` array beside the statuses, as sent since 2026.
    pub contacts: bool,
    /// Failure codes of Meta lines.
    pub meta_codes: Vec<u32>,
    /// Failure codes of Twilio lines.
    pub twilio_codes: Vec<u32>,
    /// Longest pause between two tries of an unacknowledged POST (Meta).
    pub retry_ms_max: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            silent: 0.0,
            failed: 0.03,
            failed_first: 0.7,
            conflict: 0.0,
            delivered: 0.95,
            read: 0.6,
            read_alone: 0.05,
            sent_ms: [10, 60],
            delivered_ms: [20, 200],
            read_ms: [50, 600],
            failed_ms: [20, 200],
            shuffled: 0.0,
            duplicated: 0.0,
            copies_max: 5,
            copy_ms: [1, 200],
            before_answer: 0.0,
            before_answer_ms: 30,
            batch: [1, 100],
            flush_ms: 10,
            entries: 3,
            unknown: 0.0,
            forged: 0.0,
            timestamps: Timestamps::Text,
            contacts: true,
            meta_codes: vec![131_026, 131_049, 131_000],
            twilio_codes: vec![30_003, 30_005, 30_006],
            retry_ms_max: 2_000,
        }
    }
}

impl Plan {
    /// Statuses that come soon, and failures that nobody sends again for: the plan of stories about something else than statuses.
    #[must_use]
    pub fn prompt() -> Self {
        Self {
            sent_ms: [2, 30],
            delivered_ms: [5, 60],
            read_ms: [5, 100],
            failed_ms: [5, 60],
            meta_codes: vec![131_026],
            twilio_codes: vec![30_005],
            ..Self::default()
        }
    }

    /// Every recipient goes through sent, delivered and read at once, `batch` statuses per POST: the plan of throughput figures.
    #[must_use]
    pub fn straight(batch: u16) -> Self {
        Self {
            failed: 0.0,
            delivered: 1.0,
            read: 1.0,
            read_alone: 0.0,
            sent_ms: [5, 15],
            delivered_ms: [5, 15],
            read_ms: [5, 15],
            batch: [batch, batch],
            flush_ms: if batch == 1 { 0 } else { 50 },
            entries: 1,
            ..Self::default()
        }
    }

    /// Nothing is reported: the send leg alone.
    #[must_use]
    pub fn silent() -> Self {
        Self { silent: 1.0, ..Self::default() }
    }

    /// Everything that a receiver must bear: any order, copies, before the answer, strangers, forgeries.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            failed: 0.1,
            conflict: 0.1,
            shuffled: 0.5,
            duplicated: 0.5,
            before_answer: 0.1,
            batch: [1, 1000],
            flush_ms: 20,
            unknown: 0.1,
            forged: 0.1,
            timestamps: Timestamps::Mixed,
            ..Self::default()
        }
    }

    /// Checks shares, ranges and bounds.
    ///
    /// # Errors
    /// With a sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        let shares = [
            ("silent", self.silent),
            ("failed", self.failed),
            ("failed_first", self.failed_first),
            ("conflict", self.conflict),
            ("delivered", self.delivered),
            ("read", self.read),
            ("read_alone", self.read_alone),
            ("shuffled", self.shuffled),
            ("duplicated", self.duplicated),
            ("before_answer", self.before_answer),
            ("unknown", self.unknown),
            ("forged", self.forged),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("plan.{name} must be between 0 and 1, not {share}"));
            }
        }
        let ranges = [
            ("sent_ms", self.sent_ms),
            ("delivered_ms", self.delivered_ms),
            ("read_ms", self.read_ms),
            ("failed_ms", self.failed_ms),
            ("copy_ms", self.copy_ms),
        ];
        for (name, [low, high]) in ranges {
            if low > high || high > 86_400_000 {
                return Err(format!("plan.{name} must be [lowest, highest], at most a day"));
            }
        }
        if !(1..=5).contains(&self.copies_max) {
            return Err("plan.copies_max must be between 1 and 5".to_owned());
        }
        let [low, high] = self.batch;
        if low == 0 || low > high || high > 1000 {
            return Err("plan.batch must be [lowest, highest] within 1 to 1000".to_owned());
        }
        if self.entries == 0 {
            return Err("plan.entries must be at least 1".to_owned());
        }
        if self.meta_codes.is_empty() || self.twilio_codes.is_empty() {
            return Err("plan.meta_codes and plan.twilio_codes must not be empty".to_owned());
        }
        Ok(())
    }
}

/// A small, fast, well-mixed generator (SplitMix64), enough for plans and the same on every machine.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A generator for one purpose: the parts are mixed into the seed.
    #[must_use]
    pub fn new(seed: u64, parts: &[u64]) -> Self {
        let mut dice = Self(seed);
        for part in parts {
            dice.0 = dice.next() ^ part;
        }
        dice
    }

    /// The next 64 random bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// True with probability `share`.
    pub fn hit(&mut self, share: f64) -> bool {
        if share <= 0.0 {
            return false;
        }
        ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    /// Evenly between both ends, ends included.
    pub fn between(&mut self, [low, high]: [u32; 2]) -> u32 {
        let span = u64::from(high.saturating_sub(low)) + 1;
        low + (((self.next() >> 32) * span) >> 32) as u32
    }
}

/// One status of a journey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub status: Status,
    /// When it happened, milliseconds after the request.
    pub at_ms: u32,
    /// When it is posted, milliseconds after the request.
    pub due_ms: u32,
    /// How often it is posted (at least once).
    pub times: u8,
}

/// What happens to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    steps: [Step; 4],
    len: usize,
    /// The first status is posted before the request is answered.
    pub before_answer: bool,
    /// Chooses the failure code.
    code: u32,
}

impl Journey {
    /// The journey of `recipient` (its digits as a number) under `seed`.
    #[must_use]
    pub fn of(plan: &Plan, seed: u64, recipient: u64) -> Self {
        let mut dice = Dice::new(seed, &[recipient]);
        let nothing = Step { status: Status::Sent, at_ms: 0, due_ms: 0, times: 0 };
        let mut journey = Self {
            steps: [nothing; 4],
            len: 0,
            before_answer: dice.hit(plan.before_answer),
            code: dice.between([0, u32::MAX]),
        };
        if dice.hit(plan.silent) {
            journey.before_answer = false;
            return journey;
        }
        let fails = dice.hit(plan.failed);
        let first = fails && dice.hit(plan.failed_first);
        let mut clock = 0;
        if !first {
            journey.push(plan, &mut dice, &mut clock, Status::Sent, plan.sent_ms);
        }
        let arrives = if fails { dice.hit(plan.conflict) } else { dice.hit(plan.delivered) };
        if arrives {
            let reads = !fails && dice.hit(plan.read);
            if reads && dice.hit(plan.read_alone) {
                clock += dice.between(plan.delivered_ms);
            } else {
                let range = plan.delivered_ms;
                journey.push(plan, &mut dice, &mut clock, Status::Delivered, range);
            }
            if reads {
                journey.push(plan, &mut dice, &mut clock, Status::Read, plan.read_ms);
            }
        }
        if fails {
            journey.push(plan, &mut dice, &mut clock, Status::Failed, plan.failed_ms);
        }
        if dice.hit(plan.shuffled) {
            journey.shuffle(&mut dice);
        }
        journey
    }

    fn push(&mut self, plan: &Plan, dice: &mut Dice, clock: &mut u32, status: Status, after: [u32; 2]) {
        *clock += dice.between(after);
        let times = if dice.hit(plan.duplicated) {
            dice.between([2.min(u32::from(plan.copies_max)), u32::from(plan.copies_max)]) as u8
        } else {
            1
        };
        self.steps[self.len] = Step { status, at_ms: *clock, due_ms: *clock, times };
        self.len += 1;
    }

    /// Deals the posting times out anew; the times of happening stay.
    fn shuffle(&mut self, dice: &mut Dice) {
        for last in (1..self.len).rev() {
            let other = dice.between([0, last as u32]) as usize;
            let due = self.steps[last].due_ms;
            self.steps[last].due_ms = self.steps[other].due_ms;
            self.steps[other].due_ms = due;
        }
    }

    /// The statuses in the order they happen.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps[..self.len]
    }

    /// All statuses as a set of bits.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.steps().iter().fold(0, |set, s| set | s.status.bit())
    }

    /// The failure code, one of `codes`.
    #[must_use]
    pub fn code(&self, codes: &[u32]) -> u32 {
        match codes.len() {
            0 => 0,
            len => codes[self.code as usize % len],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_journey_and_another_seed_another() {
        let plan = Plan::rough();
        let run = |seed| -> Vec<Journey> { (0..500).map(|n| Journey::of(&plan, seed, 999_000_000 + n)).collect() };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn shares_come_out_as_asked() {
        let plan = Plan { failed: 0.1, delivered: 0.5, read: 0.5, ..Plan::default() };
        let all: Vec<u8> = (0..40_000).map(|n| Journey::of(&plan, 3, 999_000_000 + n).bits()).collect();
        let share = |bit: u8| all.iter().filter(|bits| *bits & bit != 0).count() as f64 / 40_000.0;
        assert!((share(8) - 0.1).abs() < 0.01, "failed {}", share(8));
        assert!((share(4) - 0.225).abs() < 0.01, "read {}", share(4));
        assert!(all.iter().all(|bits| *bits != 0));
    }

    #[test]
    fn shuffling_moves_posting_times_only() {
        let plan = Plan { shuffled: 1.0, failed: 0.0, delivered: 1.0, read: 1.0, read_alone: 0.0, ..Plan::default() };
        let mut moved = 0;
        for n in 0..100 {
            let journey = Journey::of(&plan, 5, n);
            let steps = journey.steps();
            assert!(steps.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
            let mut due: Vec<u32> = steps.iter().map(|s| s.due_ms).collect();
            due.sort_unstable();
            assert_eq!(due, steps.iter().map(|s| s.at_ms).collect::<Vec<_>>());
            moved += usize::from(steps.iter().any(|s| s.due_ms != s.at_ms));
        }
        assert!(moved > 60, "{moved}");
    }

    #[test]
    fn bad_plans_are_named() {
        let plan = Plan { batch: [0, 5], ..Plan::default() };
        assert!(plan.validate().is_err_and(|e| e.contains("batch")));
        let plan = Plan { read: 1.5, ..Plan::default() };
        assert!(plan.validate().is_err_and(|e| e.contains("read")));
    }
}
