//! One message's state as a row, and back. The columns are named in the schema; this is the only place that knows their order.

use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use super::error::{Try, damaged};
use crate::domain::ids::{CampaignKey, LineKey, MessageKey};
use crate::domain::message::{Attempt, Failure, MessageState, Phase, Seen};
use crate::domain::stage::{End, Stage};
use crate::domain::time::UnixMillis;

/// The register's columns, in the order of [`bind_register`].
pub(super) const REGISTER: [&str; 9] =
    ["phase", "reached", "retries", "again", "ever_accepted", "conflict", "doubled", "older_sent", "due_at"];

/// The columns of one attempt's facts, in the order of [`bind_facts`].
pub(super) const FACTS: [&str; 17] = [
    "attempt",
    "line",
    "intent_at",
    "withdrawn_at",
    "accepted_at",
    "doubt_at",
    "provider_id",
    "sent_at",
    "sent_provider_at",
    "delivered_at",
    "delivered_provider_at",
    "read_at",
    "read_provider_at",
    "failed_at",
    "failed_provider_at",
    "failure_code",
    "failure",
];

/// All columns of a message but its id, separated by commas; `prefix` as in `"m."`.
pub(super) fn columns(prefix: &str) -> String {
    let names: Vec<_> = REGISTER.iter().chain(&FACTS).map(|name| format!("{prefix}{name}")).collect();
    names.join(", ")
}

/// The key of a recipient's or message's row.
pub(super) fn row_id(key: MessageKey) -> i64 {
    (i64::from(key.campaign.0) << 32) | i64::from(key.seq)
}

/// The message with this row key.
#[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)] // the two halves of what `row_id` put together
pub(super) fn message_key(id: i64) -> MessageKey {
    MessageKey { campaign: CampaignKey((id >> 32) as u32), seq: id as u32 }
}

/// The row keys of a run of a campaign's messages.
pub(super) fn row_ids(campaign: CampaignKey, from_seq: u32, last_seq: u32) -> (i64, i64) {
    (row_id(MessageKey { campaign, seq: from_seq }), row_id(MessageKey { campaign, seq: last_seq }))
}

/// The name under which the way a campaign ended is stored: what its unsent messages show.
pub(super) fn end_name(end: End) -> &'static str {
    crate::domain::stage::Shown::from(end).name()
}

/// The end of this name.
pub(super) fn end_named(name: Option<&str>) -> Try<Option<End>> {
    match name {
        None => Ok(None),
        Some("cancelled") => Ok(Some(End::Cancelled)),
        Some("expired") => Ok(Some(End::Expired)),
        Some(other) => Err(damaged(format!("a campaign that ended as {other:?}"))),
    }
}

/// Binds the register from the first parameter on.
pub(super) fn bind_register(statement: &mut Statement<'_>, state: &MessageState) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, state.phase as u8)?;
    statement.raw_bind_parameter(2, state.reached.rank())?;
    statement.raw_bind_parameter(3, state.retries)?;
    statement.raw_bind_parameter(4, state.again)?;
    statement.raw_bind_parameter(5, state.accepted)?;
    statement.raw_bind_parameter(6, state.conflict)?;
    statement.raw_bind_parameter(7, state.doubled)?;
    statement.raw_bind_parameter(8, state.older_sent)?;
    statement.raw_bind_parameter(9, millis(state.due_at))
}

/// Binds an attempt's facts from parameter `first` on.
pub(super) fn bind_facts(statement: &mut Statement<'_>, first: usize, attempt: &Attempt) -> Try<()> {
    let seen = [attempt.sent, attempt.delivered, attempt.read, attempt.failed];
    statement.raw_bind_parameter(first, attempt.number)?;
    statement.raw_bind_parameter(first + 1, attempt.line.0)?;
    statement.raw_bind_parameter(first + 2, attempt.intent_at.0)?;
    statement.raw_bind_parameter(first + 3, millis(attempt.withdrawn_at))?;
    statement.raw_bind_parameter(first + 4, millis(attempt.accepted_at))?;
    statement.raw_bind_parameter(first + 5, millis(attempt.doubt_at))?;
    statement.raw_bind_parameter(first + 6, attempt.provider_id.as_deref())?;
    for (i, seen) in seen.into_iter().enumerate() {
        statement.raw_bind_parameter(first + 7 + 2 * i, seen.map(|s| s.at.0))?;
        statement.raw_bind_parameter(first + 8 + 2 * i, seen.and_then(|s| s.provider_at))?;
    }
    statement.raw_bind_parameter(first + 15, attempt.failure.as_ref().map(|f| f.code))?;
    statement.raw_bind_parameter(first + 16, attempt.failure.as_ref().map(|f| failure_text(f)).transpose()?)?;
    Ok(())
}

fn millis(at: Option<UnixMillis>) -> Option<i64> {
    at.map(|at| at.0)
}

/// A failure as it is stored: JSON, so that a person can read it.
pub(super) fn failure_text(failure: &Failure) -> Try<String> {
    serde_json::to_string(failure).map_err(|error| damaged(format!("a failure that is no JSON: {error}")))
}

/// Reads a state whose columns (see [`columns`]) begin at `first`; `older` stays empty.
pub(super) fn read_state(row: &Row<'_>, first: usize) -> Try<MessageState> {
    let phase: u8 = row.get(first)?;
    let reached: u8 = row.get(first + 1)?;
    Ok(MessageState {
        phase: Phase::from_number(phase).ok_or_else(|| damaged(format!("a message of phase {phase}")))?,
        retries: row.get(first + 2)?,
        due_at: row.get::<_, Option<i64>>(first + 8)?.map(UnixMillis),
        again: row.get(first + 3)?,
        reached: Stage::from_rank(reached).ok_or_else(|| damaged(format!("a message at stage {reached}")))?,
        accepted: row.get(first + 4)?,
        conflict: row.get(first + 5)?,
        older_sent: row.get(first + 7)?,
        doubled: row.get(first + 6)?,
        newest: Some(read_facts(row, first + REGISTER.len())?),
        older: Vec::new(),
    })
}

/// Reads the facts of an attempt whose columns begin at `first`.
pub(super) fn read_facts(row: &Row<'_>, first: usize) -> Try<Attempt> {
    let at = |i: usize| -> rusqlite::Result<Option<UnixMillis>> {
        Ok(row.get::<_, Option<i64>>(first + i)?.map(UnixMillis))
    };
    let seen = |i: usize| -> rusqlite::Result<Option<Seen>> {
        let provider_at = || row.get(first + i + 1);
        at(i)?.map(|at| Ok(Seen { at, provider_at: provider_at()? })).transpose()
    };
    let failure = match row.get_ref(first + 16)? {
        ValueRef::Text(text) => {
            Some(serde_json::from_slice(text).map_err(|error| damaged(format!("a failure that is no JSON: {error}")))?)
        }
        _ => None,
    };
    Ok(Attempt {
        number: row.get(first)?,
        line: LineKey(row.get(first + 1)?),
        intent_at: UnixMillis(row.get(first + 2)?),
        withdrawn_at: at(3)?,
        accepted_at: at(4)?,
        doubt_at: at(5)?,
        provider_id: optional_text(row, first + 6)?,
        sent: seen(7)?,
        delivered: seen(9)?,
        read: seen(11)?,
        failed: seen(13)?,
        failure,
    })
}

/// A text column.
pub(super) fn text(row: &Row<'_>, column: usize) -> Try<Box<str>> {
    optional_text(row, column)?.ok_or_else(|| damaged("a text that is missing"))
}

/// A text column that may be NULL.
pub(super) fn optional_text(row: &Row<'_>, column: usize) -> Try<Option<Box<str>>> {
    Ok(row.get_ref(column)?.as_str_or_null().map_err(|error| damaged(error.to_string()))?.map(Box::from))
}
