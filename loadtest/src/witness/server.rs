//! What the server says in the words of the contract, as plain data.

use std::collections::BTreeMap;

use sluice_proto::v1;

use super::records::{Attempt, Counts, Exported, Phase, Shown};

/// A time of the contract, ns since the epoch.
#[must_use]
pub fn nanos(time: &prost_types::Timestamp) -> u64 {
    time.seconds.unsigned_abs() * 1_000_000_000 + u64::from(time.nanos.unsigned_abs())
}

/// Failures by code, those of several providers together.
#[must_use]
pub fn failures(all: &[v1::FailureCount]) -> BTreeMap<String, u64> {
    let mut by_code = BTreeMap::new();
    for failure in all.iter().filter(|failure| failure.count > 0) {
        *by_code.entry(failure.code.clone()).or_default() += failure.count;
    }
    by_code
}

/// A tally of the contract as plain counts.
#[must_use]
pub fn counts(tally: &v1::Tally) -> Counts {
    let by_status: BTreeMap<i32, u64> = tally.by_status.iter().map(|c| (c.status, c.count)).collect();
    let by_stage: BTreeMap<i32, u64> = tally.by_stage.iter().map(|c| (c.stage, c.count)).collect();
    let status = |shown: Shown| by_status.get(&(status_of(shown) as i32)).copied().unwrap_or(0);
    let stage = |stage: v1::Stage| by_stage.get(&(stage as i32)).copied().unwrap_or(0);
    Counts {
        total: tally.total,
        shown: Shown::ALL.map(status),
        reached: [stage(v1::Stage::Sent), stage(v1::Stage::Delivered), stage(v1::Stage::Read)],
        accepted: tally.accepted,
        conflicts: tally.conflicts,
        doubles: tally.doubles,
    }
}

fn status_of(shown: Shown) -> v1::MessageStatus {
    match shown {
        Shown::Pending => v1::MessageStatus::Pending,
        Shown::Queued => v1::MessageStatus::Queued,
        Shown::InDoubt => v1::MessageStatus::InDoubt,
        Shown::Unconfirmed => v1::MessageStatus::Unconfirmed,
        Shown::Sent => v1::MessageStatus::Sent,
        Shown::Delivered => v1::MessageStatus::Delivered,
        Shown::Read => v1::MessageStatus::Read,
        Shown::Failed => v1::MessageStatus::Failed,
        Shown::Cancelled => v1::MessageStatus::Cancelled,
        Shown::Expired => v1::MessageStatus::Expired,
        Shown::Unknown => v1::MessageStatus::Unspecified,
    }
}

/// A message of the contract as a plain record.
#[must_use]
pub fn exported(message: v1::Message) -> Exported {
    let shown = Shown::ALL.into_iter().find(|shown| status_of(*shown) == message.status()).unwrap_or(Shown::Unknown);
    let reached = match message.stage_reached() {
        v1::Stage::Queued => 2,
        v1::Stage::Sent => 3,
        v1::Stage::Delivered => 4,
        v1::Stage::Read => 5,
        v1::Stage::Pending | v1::Stage::Failed | v1::Stage::Unspecified => 1,
    };
    let attempt = |attempt: v1::Attempt| Attempt {
        number: attempt.number,
        phase: match attempt.phase() {
            v1::AttemptPhase::Intent => Phase::Intent,
            v1::AttemptPhase::Withdrawn => Phase::Withdrawn,
            v1::AttemptPhase::Accepted => Phase::Accepted,
            v1::AttemptPhase::Failed => Phase::Failed,
            v1::AttemptPhase::InDoubt => Phase::InDoubt,
            v1::AttemptPhase::Unconfirmed => Phase::Unconfirmed,
            v1::AttemptPhase::Unspecified => Phase::Unknown,
        },
        accepted: attempt.accepted_time.is_some(),
        failure: attempt.failure.map(|failure| failure.code).unwrap_or_default(),
        began_ns: attempt.intent_time.as_ref().map_or(0, nanos),
        correlation: attempt.correlation_id,
        provider_id: attempt.provider_message_id,
    };
    Exported {
        seq: message.seq,
        address: message.address,
        external_id: message.external_id,
        parameters: message.parameters,
        shown,
        reached,
        conflict: message.conflict,
        double: message.double,
        attempts: message.attempts.into_iter().map(attempt).collect(),
    }
}
