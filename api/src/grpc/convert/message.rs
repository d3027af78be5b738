//! Messages, attempts, orphans.

use sluice_engine::control::{AttemptView, Control, Error, MessageView, Result, Unresolved};
use sluice_engine::domain::message::{Attempt, Decision, Event, Failure, Phase, Reported, Seen};
use sluice_engine::domain::time::UnixMillis;
use sluice_engine::store::ParkedEvent;
use sluice_proto::v1;

use super::stats::{reached, shown};
use super::{failure_class, timestamp};

pub(in crate::grpc) fn message(campaign: &str, view: MessageView) -> v1::Message {
    let MessageView { record, attempts } = view;
    let state = &record.state;
    let (import, row) = record.origin;
    v1::Message {
        campaign_id: campaign.to_owned(),
        seq: record.key.seq,
        external_id: record.external_id.map(String::from).unwrap_or_default(),
        address: record.address.into(),
        // Written by us as an array of strings; anything else would be damage, which a recount and the store's own checks find.
        parameters: serde_json::from_str(&record.params).unwrap_or_default(),
        status: shown(record.shown).into(),
        stage_reached: reached(state.reached, !attempts.is_empty()).into(),
        retries: u32::from(state.retries),
        next_attempt_time: state.due_at.filter(|_| state.phase == Phase::Pending).map(timestamp),
        conflict: state.conflict,
        double: state.doubled,
        attempts: attempts.into_iter().map(attempt).collect(),
        origin: Some(v1::RowReference { import_id: import.to_string(), row }),
    }
}

fn attempt(view: AttemptView) -> v1::Attempt {
    let AttemptView { attempt, correlation_id, line, phase } = view;
    v1::Attempt {
        number: u32::from(attempt.number),
        correlation_id,
        line_id: line.map(|line| line.as_str().to_owned()).unwrap_or_default(),
        phase: attempt_phase(&attempt, phase).into(),
        provider_message_id: attempt.provider_id.as_deref().unwrap_or_default().to_owned(),
        intent_time: Some(timestamp(attempt.intent_at)),
        accepted_time: attempt.accepted_at.map(timestamp),
        stages: stages(&attempt),
        failure: attempt.failure.as_deref().map(failure),
    }
}

/// Where an attempt is: the owner's word for the newest one while that is open, otherwise what is known of it. (A message may have its
/// outcome by an older attempt, while nobody ever heard of the newest.)
fn attempt_phase(attempt: &Attempt, newest: Option<Phase>) -> v1::AttemptPhase {
    use v1::AttemptPhase as P;
    match newest {
        Some(Phase::InFlight) => return P::Intent,
        Some(Phase::InDoubt) => return P::InDoubt,
        Some(Phase::Unconfirmed) => return P::Unconfirmed,
        Some(Phase::Accepted | Phase::Failed | Phase::Pending) | None => {}
    }
    if attempt.withdrawn_at.is_some() {
        P::Withdrawn
    } else if attempt.failed.is_some() {
        P::Failed
    } else if attempt.was_sent() {
        P::Accepted
    } else if attempt.failure.is_some() {
        P::Failed
    } else if attempt.doubt_at.is_some() {
        P::InDoubt
    } else {
        P::Failed
    }
}

fn stages(attempt: &Attempt) -> Vec<v1::StageTime> {
    let seen = [
        (v1::Stage::Sent, attempt.sent),
        (v1::Stage::Delivered, attempt.delivered),
        (v1::Stage::Read, attempt.read),
        (v1::Stage::Failed, attempt.failed),
    ];
    seen.into_iter()
        .filter_map(|(stage, seen)| {
            let Seen { at, provider_at } = seen?;
            let provider_time = provider_at.map(seconds);
            Some(v1::StageTime { stage: stage.into(), first_seen_time: Some(timestamp(at)), provider_time })
        })
        .collect()
}

fn seconds(seconds: i64) -> prost_types::Timestamp {
    timestamp(UnixMillis(seconds.saturating_mul(1_000)))
}

fn failure(failure: &Failure) -> v1::Failure {
    v1::Failure {
        code: failure.code.to_string(),
        title: failure.title.to_string(),
        message: failure.message.to_string(),
        details: failure.details.to_string(),
        class: failure_class(&failure.class).into(),
    }
}

pub(in crate::grpc) fn decision(number: i32) -> Result<Decision> {
    match v1::Resolution::try_from(number) {
        Ok(v1::Resolution::ConfirmSent) => Ok(Decision::ConfirmSent),
        Ok(v1::Resolution::ConfirmFailed) => Ok(Decision::ConfirmFailed),
        Ok(v1::Resolution::SendAgain) => Ok(Decision::SendAgain),
        Ok(v1::Resolution::Unspecified) | Err(_) => {
            Err(Error::invalid("resolution", "is required: confirm_sent, confirm_failed or send_again"))
        }
    }
}

pub(in crate::grpc) fn unresolved(unresolved: Unresolved) -> v1::UnresolvedMessage {
    let (status, reason) = match unresolved.shown {
        Some(status) => (shown(status), format!("it is {}, not in doubt", status.name())),
        None => (v1::MessageStatus::Unspecified, "there is no such message".to_owned()),
    };
    v1::UnresolvedMessage { seq: unresolved.seq, status: status.into(), reason }
}

pub(in crate::grpc) fn orphan(control: &Control, event: ParkedEvent) -> v1::Orphan {
    let (stage, why, provider_at) = match &event.event {
        Event::Report { what, failure, provider_at, .. } => {
            let stage = match what {
                Reported::Sent => v1::Stage::Sent,
                Reported::Delivered => v1::Stage::Delivered,
                Reported::Read => v1::Stage::Read,
                Reported::Failed => v1::Stage::Failed,
            };
            (stage, failure.as_deref(), *provider_at)
        }
        // The provider has it: that is where the message stands anyhow.
        Event::Echoed { .. } => (v1::Stage::Queued, None, None),
        // Nothing else is parked.
        _ => (v1::Stage::Unspecified, None, None),
    };
    v1::Orphan {
        account_id: event.account.as_str().to_owned(),
        provider_message_id: event.provider_id.to_string(),
        correlation_id: event
            .attempt
            .map(|(message, attempt)| control.correlation_id(message, attempt))
            .unwrap_or_default(),
        stage: stage.into(),
        failure: why.map(failure),
        receive_time: Some(timestamp(event.at)),
        provider_time: provider_at.map(seconds),
        deadline_time: Some(timestamp(event.deadline)),
    }
}
