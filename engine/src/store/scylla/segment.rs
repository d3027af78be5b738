//! One segment held in memory: read from its partition once, then every event is applied to it in order, and what changed becomes
//! one batch of its partition, messages and counts together.

use std::collections::{BTreeMap, HashMap};

use super::compact::{self, Compact, Older};
use super::cql::{Cql, Unit};
use super::hot::Hot;
use super::row::{self, Fact, Facts, Register};
use super::summary::{Dues, FailuresCell, Summary, TallyCell};
use crate::domain::ids::{LineKey, SEGMENT_LEN};
use crate::domain::message::{Attempt, Event, MessageState, Phase};
use crate::domain::stage::End;
use crate::domain::time::UnixMillis;
use crate::store::step::{count_code, step};
use crate::store::{EntryResult, StoreError, StoreResult};

/// `(seq, address, refused, register, fact)`.
type StateRow = (Option<i32>, Option<String>, Option<bool>, Option<Register>, Option<HashMap<i32, Fact>>);

/// A segment's messages.
#[derive(Debug)]
pub(super) struct Segment {
    number: u32,
    /// The number of the changes of ownership when its reading began.
    pub(super) as_of: u64,
    messages: Vec<Compact>,
    older: HashMap<u32, Vec<Older>>,
    /// Its counts, as the rows say.
    pub(super) summary: Summary,
    /// Open attempts whose intents another term wrote.
    foreign: Vec<(u32, u16)>,
    /// Those of them that showed up after the campaign was taken over: nobody sends them, and the next batch takes them back.
    void: Vec<(u32, u16)>,
}

/// How large one batch may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Most messages.
    pub(super) rows: usize,
    /// Most bytes, as estimated; one message alone may be larger.
    pub(super) bytes: usize,
    /// Most bytes of one message.
    pub(super) bytes_fail: usize,
}

/// Bytes of a row besides its texts: keys, register, two facts.
const ROW_BYTES: usize = 160;

/// Changes that are worked out and not yet durable.
#[derive(Debug, Default)]
pub(super) struct Change {
    messages: BTreeMap<u32, Touched>,
    summary: Summary,
    bytes: usize,
    /// Messages of which somebody gets an intent by this change.
    pub(super) claimed: Vec<u32>,
    /// Lines of intents.
    pub(super) lines: Vec<LineKey>,
}

#[derive(Debug)]
struct Touched {
    state: MessageState,
    before: Vec<Attempt>,
    changed: bool,
}

impl Segment {
    /// Reads it. The rows are the truth: the counts are made from them, whatever the partition's own counts say.
    pub(super) async fn load(cql: &Cql, hot: &Hot, number: u32) -> StoreResult<Self> {
        let head = hot.head();
        let next_seq = head.next_seq;
        let first = number * SEGMENT_LEN;
        let len = next_seq.saturating_sub(first).min(SEGMENT_LEN) as usize;
        let summary = Summary { end_version: head.end_version, ..Summary::default() };
        let mut this = Self {
            number,
            as_of: cql.owned.changes(),
            messages: vec![Compact::NOBODY; len],
            older: HashMap::new(),
            summary,
            foreign: Vec::new(),
            void: Vec::new(),
        };
        let term = cql.stamps.tag();
        let mut failed = None;
        cql.each_page(&cql.st.segment_states, hot.partition(number), |rows: Vec<StateRow>| {
            for row in rows {
                if let Err(error) = this.take_row(row, &term) {
                    failed.get_or_insert(error);
                }
            }
        })
        .await?;
        if let Some(error) = failed {
            return Err(error);
        }
        this.summary.dues = this.dues();
        Ok(this)
    }

    fn take_row(&mut self, (seq, address, refused, register, facts): StateRow, term: &str) -> StoreResult<()> {
        let place =
            seq.and_then(|seq| u32::try_from(seq).ok()).and_then(|seq| seq.checked_sub(self.number * SEGMENT_LEN));
        let Some(place) = place.filter(|place| (*place as usize) < self.messages.len()) else { return Ok(()) };
        if address.is_none() || refused == Some(true) {
            return Ok(());
        }
        let facts = facts.unwrap_or_default();
        let is_open = register.is_some_and(|register| row::is_open(&register));
        let is_ours = || register.is_some_and(|register| row::is_intent_of(&register, &facts, term));
        if let (true, Some(seq), Some(register)) = (is_open && !is_ours(), seq, register) {
            self.foreign.push((seq.cast_unsigned(), u16::try_from(register.0).unwrap_or_default()));
        }
        let state = compact::read(register, facts, self.summary.end_version)?;
        let facets = state.facets(None);
        self.summary.counts.tally.add(&facets);
        self.summary.counts.again += u64::from(crate::store::step::waits_again(&state));
        self.summary.counts.untried += u64::from(state.newest.is_none());
        if let Some(code) = facets.failure_code {
            count_code(&mut self.summary.failures, code, 1);
        }
        self.hold(place, &state);
        Ok(())
    }

    fn hold(&mut self, place: u32, state: &MessageState) {
        if let Some(message) = self.messages.get_mut(place as usize) {
            *message = Compact::of(state);
        }
        if state.older.is_empty() {
            self.older.remove(&place);
        } else {
            self.older.insert(place, Older::of(state));
        }
    }

    fn dues(&self) -> Dues {
        let mut dues = Dues::default();
        self.messages.iter().for_each(|message| dues.meet(message));
        dues
    }

    /// Takes back what was decided to be sent again before the campaign's last end.
    pub(super) fn end_with(&mut self, end_version: u64) {
        if self.summary.end_version < end_version {
            self.summary.end_with(end_version);
            self.messages.iter_mut().for_each(Compact::end_again);
        }
    }

    /// What another term left open and `is_known` does not say was found at the take-over is void.
    pub(super) fn judge_foreign(&mut self, is_known: impl Fn(u32) -> bool) {
        self.void = std::mem::take(&mut self.foreign);
        self.void.retain(|(seq, _)| !is_known(*seq));
    }

    /// Intents that are void, as many as fit in one batch, as events that take them back.
    pub(super) fn withdraw_void(&mut self, at: UnixMillis, most: usize) -> Vec<(u32, Event)> {
        let from = self.void.len() - self.void.len().min(most);
        let some = self.void.drain(from..);
        some.map(|(seq, attempt)| (seq, Event::Withdrawn { attempt, at })).collect()
    }

    /// One message, by its `seq`.
    pub(super) fn message(&self, seq: u32) -> Option<&Compact> {
        self.messages.get(seq.checked_sub(self.number * SEGMENT_LEN)? as usize)
    }

    /// At how many messages another reading of the same rows differs.
    pub(super) fn differences(&self, other: &Self) -> u64 {
        let differs = |(seq, message): &(u32, &Compact)| other.message(*seq) != Some(*message);
        self.messages().filter(differs).count() as u64
    }

    /// Its messages with their `seq`.
    pub(super) fn messages(&self) -> impl Iterator<Item = (u32, &Compact)> {
        (self.number * SEGMENT_LEN..).zip(&self.messages)
    }

    /// Those of a phase, due by `until` where a time is given.
    pub(super) fn of_phase(&self, phase: Phase, until: Option<UnixMillis>) -> impl Iterator<Item = (u32, &Compact)> {
        self.messages().filter(move |(_, message)| {
            message.phase() == Some(phase) && until.is_none_or(|until| message.due().is_some_and(|due| due <= until))
        })
    }

    /// Begins a change.
    pub(super) fn begin(&self) -> Change {
        Change { summary: self.summary.clone(), ..Change::default() }
    }

    /// Whether a further event would make the change too large for one batch.
    pub(super) fn is_full(change: &Change, limits: BatchLimits) -> bool {
        change.messages.len() >= limits.rows || change.bytes >= limits.bytes
    }

    /// Applies one event to a change. `unclaimed`: see [`super::place::Place::unclaimed`].
    pub(super) fn apply(
        &self,
        change: &mut Change,
        unclaimed: &HashMap<u32, u16>,
        seq: u32,
        event: Event,
        end: Option<End>,
    ) -> StoreResult<EntryResult> {
        let place = seq - self.number * SEGMENT_LEN;
        let Some(held) = self.messages.get(place as usize).filter(|message| message.is_somebody()) else {
            return Ok(EntryResult::Unknown);
        };
        let older = self.older.get(&place).map_or(&[][..], Vec::as_slice);
        let touched = change.messages.entry(place).or_insert_with(|| {
            let state = held.state(older);
            let before = state.newest.iter().chain(&state.older).cloned().collect();
            Touched { state, before, changed: false }
        });
        if let Event::Intent { attempt, line, at } = &event
            && unclaimed.get(&seq) == Some(attempt)
            && !change.claimed.contains(&place)
            && touched.state.phase == Phase::InFlight
            && let Some(newest) = touched.state.newest.as_mut().filter(|newest| newest.number == *attempt)
        {
            (newest.line, newest.intent_at) = (*line, *at);
            touched.changed = true;
            change.claimed.push(place);
            change.lines.push(*line);
            return Ok(EntryResult::Applied);
        }
        let (bytes, is_intent) = (text_bytes(&event), matches!(event, Event::Intent { .. }));
        let moved = match step(&mut touched.state, event, end, None) {
            Ok(moved) => moved,
            Err(result) => return Ok(result),
        };
        if !touched.changed {
            touched.changed = true;
            change.bytes += ROW_BYTES;
        }
        // Whoever gets it now has it: what is known of an earlier offer, which was never written, is for nobody else.
        if is_intent {
            change.claimed.push(place);
        }
        change.bytes += bytes;
        if let Some(line) = moved.line.filter(|line| !change.lines.contains(line)) {
            change.lines.push(line);
        }
        if moved.counts() {
            change.summary.counts.follow(&moved)?;
            moved.codes().for_each(|(code, by)| count_code(&mut change.summary.failures, code, by));
        }
        Ok(EntryResult::Applied)
    }

    /// The change as one batch; `None`: nothing changed.
    pub(super) fn unit(&self, change: &mut Change, cql: &Cql, hot: &Hot) -> StoreResult<Option<Unit>> {
        change.messages.retain(|_, touched| touched.changed);
        if change.messages.is_empty() {
            return Ok(None);
        }
        let mut dues = Dues::default();
        for (place, held) in (0_u32..).zip(&self.messages) {
            match change.messages.get(&place) {
                Some(touched) => dues.meet(&Compact::of(&touched.state)),
                None => dues.meet(held),
            }
        }
        change.summary.dues = dues;
        let mut unit = Unit::new();
        push_summary(&mut unit, cql, hot, self.number, &change.summary);
        let term = cql.stamps.tag();
        let (tenant, campaign, segment) = hot.partition(self.number);
        for (place, touched) in &change.messages {
            let mut facts = Facts::new();
            for attempt in touched.state.newest.iter().chain(&touched.state.older) {
                let before = touched.before.iter().find(|before| before.number == attempt.number);
                row::learn(before, attempt, &term, &mut facts)?;
            }
            let seq = i32::try_from(self.number * SEGMENT_LEN + place).map_err(|e| StoreError::Bug(e.to_string()))?;
            let values = (
                row::register(&touched.state, change.summary.end_version),
                facts,
                tenant.clone(),
                campaign,
                segment,
                seq,
            );
            unit.push(&cql.st.write_message, values);
        }
        Ok(Some(unit))
    }

    /// What is durable now; unclaimed intents that are not open any more are forgotten.
    pub(super) fn publish(&mut self, change: Change, unclaimed: &mut HashMap<u32, u16>) {
        for (place, touched) in &change.messages {
            self.hold(*place, &touched.state);
        }
        unclaimed.retain(|seq, attempt| {
            let place = seq - self.number * SEGMENT_LEN;
            let is_open = |touched: &Touched| {
                touched.state.phase == Phase::InFlight && touched.state.next_attempt() == attempt.saturating_add(1)
            };
            !change.claimed.contains(&place) && change.messages.get(&place).is_none_or(is_open)
        });
        self.summary = change.summary;
    }
}

/// Adds a segment's counts to a unit.
pub(super) fn push_summary(unit: &mut Unit, cql: &Cql, hot: &Hot, number: u32, summary: &Summary) {
    let (tally, failures): (TallyCell, FailuresCell) = summary.cells();
    let (tenant, campaign, segment) = hot.partition(number);
    unit.push(&cql.st.write_segment, (tally, failures, tenant, campaign, segment));
}

fn text_bytes(event: &Event) -> usize {
    let failure = |failure: &crate::domain::message::Failure| {
        failure.class.len() + failure.title.len() + failure.message.len() + failure.details.len() + 80
    };
    match event {
        Event::Accepted { provider_id, .. } | Event::Echoed { provider_id, .. } => provider_id.len(),
        Event::NotProcessed { failure: Some(f), .. } | Event::Rejected { failure: f, .. } => failure(f),
        Event::Report { provider_id, failure: f, .. } => {
            provider_id.as_ref().map_or(0, |id| id.len()) + f.as_ref().map_or(0, |f| failure(f))
        }
        _ => 0,
    }
}
