//! What is held in memory of a message: 24 bytes that are enough to apply any event to it. Which facts are known, not what they say:
//! a join asks only whether it is the first.

use super::row::{self, Fact, Register, kind};
use crate::domain::ids::LineKey;
use crate::domain::message::{Attempt, Failure, MessageState, Phase, Seen};
use crate::domain::stage::Stage;
use crate::domain::time::UnixMillis;
use crate::store::StoreResult;

/// Stands for a time that is known and not held.
const SOME_TIME: UnixMillis = UnixMillis(i64::MIN);

/// Class of a failure that is known by its code only. No provider's table has it.
const NOT_HELD: &str = "\0";

const NO_DUE: i64 = i64::MIN;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compact {
    due: i64,
    line: u32,
    code: u32,
    /// The newest attempt; 0: none.
    attempt: u16,
    facts: u16,
    flags: i8,
    phase: u8,
    reached: u8,
    retries: u8,
}

/// One older attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Older {
    number: u16,
    facts: u16,
    line: u32,
    code: u32,
}

impl Compact {
    /// A recipient that nobody has tried.
    pub(super) const UNTRIED: Self =
        Self { due: NO_DUE, line: 0, code: 0, attempt: 0, facts: 0, flags: 0, phase: 1, reached: 2, retries: 0 };

    /// A place that holds no recipient.
    pub(super) const NOBODY: Self = Self { phase: 0, ..Self::UNTRIED };

    /// What is held of a state; its older attempts apart.
    pub(super) fn of(state: &MessageState) -> Self {
        let newest = state.newest.as_ref();
        let (facts, code) = newest.map_or((0, 0), known);
        Self {
            due: state.due_at.map_or(NO_DUE, |at| at.0),
            line: newest.map_or(0, |newest| newest.line.0),
            code,
            attempt: newest.map_or(0, |newest| newest.number),
            facts,
            flags: row::flags(state),
            phase: state.phase as u8,
            reached: state.reached.rank(),
            retries: state.retries,
        }
    }

    /// The state again, as far as an event can tell.
    pub(super) fn state(&self, older: &[Older]) -> MessageState {
        let newest = (self.attempt > 0).then(|| attempt(self.attempt, self.facts, self.line, self.code));
        let mut state = MessageState {
            phase: Phase::from_number(self.phase).unwrap_or_default(),
            retries: self.retries,
            due_at: self.due(),
            reached: Stage::from_rank(self.reached).unwrap_or_default(),
            newest,
            older: older.iter().map(|o| attempt(o.number, o.facts, o.line, o.code)).collect(),
            ..MessageState::default()
        };
        row::set_flags(&mut state, self.flags);
        state
    }

    /// Whether there is a recipient.
    pub(super) fn is_somebody(&self) -> bool {
        self.phase > 0
    }

    /// Where its owner stands; `None` for a place without a recipient, and for one that was never tried.
    pub(super) fn phase(&self) -> Option<Phase> {
        Phase::from_number(self.phase).filter(|_| self.attempt > 0)
    }

    /// The newest attempt.
    pub(super) fn attempt(&self) -> u16 {
        self.attempt
    }

    /// What the retry budget has paid.
    pub(super) fn retries(&self) -> u8 {
        self.retries
    }

    /// When it is due.
    pub(super) fn due(&self) -> Option<UnixMillis> {
        (self.due != NO_DUE).then_some(UnixMillis(self.due))
    }

    /// The campaign ended: see [`MessageState::end_again`].
    pub(super) fn end_again(&mut self) {
        let mut state = MessageState::default();
        row::set_flags(&mut state, self.flags);
        state.end_again();
        self.flags = row::flags(&state);
    }

    /// Somebody decided to send it again.
    pub(super) fn again(&self) -> bool {
        let mut state = MessageState::default();
        row::set_flags(&mut state, self.flags);
        state.again
    }
}

impl Older {
    /// What is held of the older attempts of a state.
    pub(super) fn of(state: &MessageState) -> Vec<Self> {
        let older = |attempt: &Attempt| {
            let (facts, code) = known(attempt);
            Self { number: attempt.number, facts, line: attempt.line.0, code }
        };
        state.older.iter().map(older).collect()
    }
}

fn known(attempt: &Attempt) -> (u16, u32) {
    let mut facts = 1 << kind::INTENT;
    let mut note = |kind: usize, is_known: bool| facts |= u16::from(is_known) << kind;
    note(kind::WITHDRAWN, attempt.withdrawn_at.is_some());
    note(kind::ACCEPTED, attempt.accepted_at.is_some());
    note(kind::DOUBT, attempt.doubt_at.is_some());
    note(kind::PROVIDER_ID, attempt.provider_id.is_some());
    note(kind::SENT, attempt.sent.is_some());
    note(kind::DELIVERED, attempt.delivered.is_some());
    note(kind::READ, attempt.read.is_some());
    note(kind::FAILED, attempt.failed.is_some());
    note(kind::FAILURE, attempt.failure.is_some());
    (facts, attempt.failure.as_ref().map_or(0, |failure| failure.code))
}

fn attempt(number: u16, facts: u16, line: u32, code: u32) -> Attempt {
    let has = |kind: usize| facts & (1 << kind) != 0;
    let time = |kind: usize| has(kind).then_some(SOME_TIME);
    let seen = |kind: usize| has(kind).then_some(Seen { at: SOME_TIME, provider_at: None });
    Attempt {
        number,
        line: LineKey(line),
        intent_at: SOME_TIME,
        withdrawn_at: time(kind::WITHDRAWN),
        accepted_at: time(kind::ACCEPTED),
        doubt_at: time(kind::DOUBT),
        provider_id: has(kind::PROVIDER_ID).then(Box::default),
        sent: seen(kind::SENT),
        delivered: seen(kind::DELIVERED),
        read: seen(kind::READ),
        failed: seen(kind::FAILED),
        failure: has(kind::FAILURE).then(|| Box::new(Failure::new(code, NOT_HELD, "", "", ""))),
    }
}

/// A message as its row tells it, by the same rule as a recount: the facts decide what was reached.
pub(super) fn read(
    register: Option<Register>,
    facts: impl IntoIterator<Item = (i32, Fact)>,
    end_version: u64,
) -> StoreResult<MessageState> {
    let mut state = row::state(register, facts.into_iter().collect(), end_version)?;
    if state.newest.is_some() {
        crate::store::step::rejoin(&mut state);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Event, Reported};

    /// Nothing that an event can ask is lost: the same events from a state and from what is held of it end alike.
    #[test]
    fn it_is_enough_to_go_on_from() {
        let at = UnixMillis;
        let lines: std::sync::Arc<[LineKey]> = [LineKey(1)].into();
        let report = |attempt, what, id: Option<&str>| Event::Report {
            attempt,
            lines: std::sync::Arc::clone(&lines),
            at: at(9),
            what,
            provider_at: None,
            provider_id: id.map(Into::into),
            failure: Some(Box::new(Failure::new(5, "c", "t", "m", "d"))),
        };
        let events = [
            Event::Intent { attempt: 1, line: LineKey(1), at: at(1) },
            Event::Doubt { attempt: 1, at: at(2), due_at: at(3) },
            Event::DoubtExpired { at: at(4), resend_up_to: Some(2) },
            Event::Intent { attempt: 2, line: LineKey(1), at: at(5) },
            report(1, Reported::Delivered, None),
            report(1, Reported::Delivered, Some("a")),
            report(1, Reported::Delivered, Some("a")),
            report(2, Reported::Failed, None),
            report(2, Reported::Sent, None),
            report(2, Reported::Failed, None),
        ];
        let (mut whole, mut held) = (MessageState::default(), (Compact::UNTRIED, Vec::new()));
        for event in events {
            let mut state = held.0.state(&held.1);
            let told = format!("{event:?}");
            assert_eq!(state.apply(event.clone(), None), whole.apply(event, None), "{told}");
            held = (Compact::of(&state), Older::of(&state));
            assert_eq!(held, (Compact::of(&whole), Older::of(&whole)), "{told}");
        }
        assert!(Compact::UNTRIED.is_somebody() && !Compact::NOBODY.is_somebody());
        assert_eq!(std::mem::size_of::<Compact>(), 24);
    }
}
