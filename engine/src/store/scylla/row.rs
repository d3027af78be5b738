//! One message as a row, and back: the register in one cell, so that it is never half of one write and half of another; each fact of
//! an attempt in a cell of its own, written once.

use std::collections::BTreeMap;

use super::error::damaged;
use crate::domain::ids::LineKey;
use crate::domain::message::{Attempt, Failure, MessageState, Phase, Seen};
use crate::domain::stage::Stage;
use crate::domain::time::UnixMillis;
use crate::store::StoreResult;
use crate::store::text::{from_json, to_json};

/// `(attempt, phase, reached, retries, flags, due_at, end_version)`. The last stands beside a decision to send again only: the end of
/// the campaign behind which it was made. With the next end the decision is void.
pub(super) type Register = (i32, i8, i8, i16, i8, Option<i64>, Option<i64>);

/// `(at, number, text)`; what stands in them depends on the kind. All missing: taken back.
pub(super) type Fact = (Option<i64>, Option<i64>, Option<String>);

/// Facts by attempt × 100 + kind: 205 is when the second attempt was reported as sent.
pub(super) type Facts = BTreeMap<i32, Fact>;

/// Kinds of facts.
pub(super) mod kind {
    /// When, the line, the owner's epoch.
    pub(in super::super) const INTENT: usize = 0;
    pub(in super::super) const WITHDRAWN: usize = 1;
    pub(in super::super) const ACCEPTED: usize = 2;
    pub(in super::super) const DOUBT: usize = 3;
    /// The text only.
    pub(in super::super) const PROVIDER_ID: usize = 4;
    /// When, and the provider's own time; so are the next three.
    pub(in super::super) const SENT: usize = 5;
    pub(in super::super) const DELIVERED: usize = 6;
    pub(in super::super) const READ: usize = 7;
    pub(in super::super) const FAILED: usize = 8;
    /// The code, and all of it as JSON.
    pub(in super::super) const FAILURE: usize = 9;
    /// How many there are.
    pub(in super::super) const COUNT: usize = 10;
}

/// Numbers of facts that one attempt may have.
const KINDS: i32 = 100;

const AGAIN: i8 = 1;
const ACCEPTED: i8 = 2;
const CONFLICT: i8 = 4;
const DOUBLED: i8 = 8;
const OLDER_SENT: i8 = 16;

/// The attempt and the kind of a fact.
pub(super) fn fact_of(key: i32) -> StoreResult<(u16, usize)> {
    let attempt = u16::try_from(key / KINDS).ok().filter(|attempt| *attempt > 0);
    let kind = usize::try_from(key % KINDS).ok().filter(|kind| *kind < kind::COUNT);
    match (attempt, kind) {
        (Some(attempt), Some(kind)) => Ok((attempt, kind)),
        _ => Err(damaged(format!("a fact numbered {key}"))),
    }
}

fn fact_key(attempt: u16, kind: usize) -> i32 {
    // Below 100: see `kind`.
    i32::from(attempt) * KINDS + i32::try_from(kind).unwrap_or_default()
}

/// The flags of a state, in one number.
pub(super) fn flags(state: &MessageState) -> i8 {
    let flag = |set: bool, flag: i8| if set { flag } else { 0 };
    flag(state.again, AGAIN)
        | flag(state.accepted, ACCEPTED)
        | flag(state.conflict, CONFLICT)
        | flag(state.doubled, DOUBLED)
        | flag(state.older_sent, OLDER_SENT)
}

/// Sets the flags of a state.
pub(super) fn set_flags(state: &mut MessageState, flags: i8) {
    state.again = flags & AGAIN != 0;
    state.accepted = flags & ACCEPTED != 0;
    state.conflict = flags & CONFLICT != 0;
    state.doubled = flags & DOUBLED != 0;
    state.older_sent = flags & OLDER_SENT != 0;
}

/// Whether a register says that the newest attempt has an intent and no outcome.
pub(super) fn is_open(register: &Register) -> bool {
    u8::try_from(register.1).ok().and_then(Phase::from_number) == Some(Phase::InFlight)
}

/// Whether the intent of the newest attempt was written in this term.
pub(super) fn is_intent_of(register: &Register, facts: &std::collections::HashMap<i32, Fact>, term: &str) -> bool {
    let intent = u16::try_from(register.0).ok().and_then(|attempt| facts.get(&fact_key(attempt, kind::INTENT)));
    intent.is_some_and(|(_, _, by)| by.as_deref() == Some(term))
}

/// The register of a state, of a campaign whose last end gave it this version.
pub(super) fn register(state: &MessageState, end_version: u64) -> Register {
    let attempt = state.newest.as_ref().map_or(0, |newest| newest.number);
    #[allow(clippy::cast_possible_wrap)] // phases and stages are below 10
    let (phase, reached) = (state.phase as u8 as i8, state.reached.rank() as i8);
    let end = state.again.then_some(end_version.cast_signed());
    (i32::from(attempt), phase, reached, i16::from(state.retries), flags(state), state.due_at.map(|at| at.0), end)
}

/// The facts of one attempt by kind.
fn facts(attempt: &Attempt, epoch: &str) -> StoreResult<[Option<Fact>; kind::COUNT]> {
    let at = |at: Option<UnixMillis>| at.map(|at| (Some(at.0), None, None));
    let seen = |seen: Option<Seen>| seen.map(|seen| (Some(seen.at.0), seen.provider_at, None));
    let failure = match &attempt.failure {
        Some(failure) => Some((None, Some(i64::from(failure.code)), Some(to_json(failure)?))),
        None => None,
    };
    Ok([
        Some((Some(attempt.intent_at.0), Some(i64::from(attempt.line.0)), Some(epoch.to_owned()))),
        at(attempt.withdrawn_at),
        at(attempt.accepted_at),
        at(attempt.doubt_at),
        attempt.provider_id.as_ref().map(|id| (None, None, Some(id.to_string()))),
        seen(attempt.sent),
        seen(attempt.delivered),
        seen(attempt.read),
        seen(attempt.failed),
        failure,
    ])
}

/// Adds the facts that an attempt has now and had not before.
pub(super) fn learn(before: Option<&Attempt>, after: &Attempt, epoch: &str, learnt: &mut Facts) -> StoreResult<()> {
    if before == Some(after) {
        return Ok(());
    }
    let old = match before {
        Some(before) => facts(before, epoch)?,
        None => Default::default(),
    };
    for (kind, (old, new)) in old.into_iter().zip(facts(after, epoch)?).enumerate() {
        if old != new {
            learnt.insert(fact_key(after.number, kind), new.unwrap_or_default());
        }
    }
    Ok(())
}

/// The state of a message as its row tells it, with all its attempts; `end_version`: as its campaign stands.
pub(super) fn state(register: Option<Register>, facts: Facts, end_version: u64) -> StoreResult<MessageState> {
    let mut attempts: Vec<Attempt> = Vec::new();
    for (key, fact) in facts {
        let (number, kind) = fact_of(key)?;
        if attempts.last().is_none_or(|last| last.number != number) {
            attempts.push(blank(number));
        }
        if let Some(attempt) = attempts.last_mut() {
            set_fact(attempt, kind, fact)?;
        }
    }
    let Some((number, phase, reached, retries, flags, due_at, end)) = register else {
        return if attempts.is_empty() {
            Ok(MessageState::default())
        } else {
            Err(damaged("a message with attempts and without a register"))
        };
    };
    // An intent that landed behind what its writer's successor wrote without it: it was never acknowledged, so never sent. The next intent of
    // this number takes its place.
    attempts.retain(|attempt| i32::from(attempt.number) <= number);
    let newest = attempts.pop();
    if newest.as_ref().is_none_or(|newest| i32::from(newest.number) != number) {
        return Err(damaged(format!("a message whose newest attempt should be {number}")));
    }
    let phase = u8::try_from(phase).ok().and_then(Phase::from_number);
    let reached = u8::try_from(reached).ok().and_then(Stage::from_rank);
    let mut state = MessageState {
        phase: phase.ok_or_else(|| damaged("a message of an unknown phase"))?,
        retries: u8::try_from(retries).map_err(damaged)?,
        due_at: due_at.map(UnixMillis),
        reached: reached.ok_or_else(|| damaged("a message at an unknown stage"))?,
        newest,
        older: attempts,
        ..MessageState::default()
    };
    set_flags(&mut state, flags);
    if end != Some(end_version.cast_signed()) {
        state.end_again();
    }
    Ok(state)
}

/// What no fact has told yet is 0.
fn blank(number: u16) -> Attempt {
    Attempt::new(number, LineKey(0), UnixMillis(0))
}

fn set_fact(attempt: &mut Attempt, kind: usize, (at, number, text): Fact) -> StoreResult<()> {
    let when = at.map(UnixMillis);
    let seen = at.map(|at| Seen { at: UnixMillis(at), provider_at: number });
    match kind {
        kind::INTENT => {
            attempt.intent_at = when.ok_or_else(|| damaged("an intent without a time"))?;
            attempt.line = line_of(number)?;
        }
        kind::WITHDRAWN => attempt.withdrawn_at = when,
        kind::ACCEPTED => attempt.accepted_at = when,
        kind::DOUBT => attempt.doubt_at = when,
        kind::PROVIDER_ID => attempt.provider_id = text.map(String::into_boxed_str),
        kind::SENT => attempt.sent = seen,
        kind::DELIVERED => attempt.delivered = seen,
        kind::READ => attempt.read = seen,
        kind::FAILED => attempt.failed = seen,
        _ => attempt.failure = text.as_deref().map(from_json::<Box<Failure>>).transpose()?,
    }
    Ok(())
}

/// The line that an intent names.
pub(super) fn line_of(number: Option<i64>) -> StoreResult<LineKey> {
    number.and_then(|line| u32::try_from(line).ok()).map(LineKey).ok_or_else(|| damaged("an intent without a line"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::Event;

    #[test]
    fn an_intent_beyond_the_register_is_none() {
        let mut state = MessageState::default();
        let _ = state.apply(Event::Intent { attempt: 1, line: LineKey(1), at: UnixMillis(5) }, None);
        let mut facts = Facts::new();
        learn(None, state.newest.as_ref().unwrap(), "a/3", &mut facts).unwrap();
        facts.insert(200, (Some(6), Some(1), Some("a/3".to_owned())));
        assert_eq!(super::state(Some(register(&state, 0)), facts.clone(), 0).unwrap(), state);
        facts.remove(&100);
        assert!(
            super::state(Some(register(&state, 0)), facts, 0).is_err(),
            "the one that the register names is missing"
        );
    }

    #[test]
    fn a_row_is_the_state_and_only_news_are_written() {
        let mut state = MessageState::default();
        let at = UnixMillis;
        let _ = state.apply(Event::Intent { attempt: 1, line: LineKey(u32::MAX), at: at(5) }, None);
        let before = state.newest.clone();
        let failure = Some(Box::new(Failure::new(7, "c", "t", "m", "d")));
        let again = Event::NotProcessed { attempt: 1, at: at(6), failure, charged: true, due_at: at(9) };
        let _ = state.apply(again, None);
        let mut facts = Facts::new();
        learn(before.as_ref(), state.newest.as_ref().unwrap(), "3", &mut facts).unwrap();
        assert_eq!(facts.keys().copied().collect::<Vec<_>>(), [109], "the intent was written before");
        learn(None, before.as_ref().unwrap(), "3", &mut facts).unwrap();
        assert_eq!(facts[&100], (Some(5), Some(i64::from(u32::MAX)), Some("3".to_owned())));
        let read = super::state(Some(register(&state, 0)), facts.clone(), 0).unwrap();
        assert_eq!(read, state);
        state.again = true;
        let decided = register(&state, 4);
        assert!(super::state(Some(decided), facts.clone(), 4).unwrap().again);
        assert!(!super::state(Some(decided), facts, 6).unwrap().again, "the next end takes it back");
    }
}
