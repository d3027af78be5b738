//! Statuses between the engine's words and those between nodes.

use sluice_engine::webhook::{CorrelationText, Failure, LineIdentity, Reported, StatusEvent};
use sluice_proto::internal::v1;

use super::outbox::Verdict;

/// As it travels.
pub(super) fn told(event: &StatusEvent) -> v1::StatusEvent {
    let stage = match event.stage {
        Reported::Accepted => v1::ReportedStage::Accepted,
        Reported::Sent => v1::ReportedStage::Sent,
        Reported::Delivered => v1::ReportedStage::Delivered,
        Reported::Read => v1::ReportedStage::Read,
        Reported::Failed => v1::ReportedStage::Failed,
    };
    v1::StatusEvent {
        correlation_id: event.correlation.map(|text| text.as_str().to_owned()).unwrap_or_default(),
        provider_id: event.provider_id.as_ref().to_owned(),
        stage: stage.into(),
        provider_at: event.provider_at,
        failure: event.failure.as_deref().map(|failure| v1::ReportedFailure {
            code: failure.code,
            title: failure.title.as_ref().to_owned(),
            message: failure.message.as_ref().to_owned(),
            details: failure.details.as_ref().to_owned(),
        }),
        sender: event.line.sender.as_deref().map(str::to_owned),
        service: event.line.service.as_deref().map(str::to_owned),
        recipient: event.recipient,
    }
}

/// As it was; `None`: it says something that only a newer node understands.
pub(super) fn heard(event: v1::StatusEvent) -> Option<StatusEvent> {
    let stage = match event.stage() {
        v1::ReportedStage::Unspecified => return None,
        v1::ReportedStage::Accepted => Reported::Accepted,
        v1::ReportedStage::Sent => Reported::Sent,
        v1::ReportedStage::Delivered => Reported::Delivered,
        v1::ReportedStage::Read => Reported::Read,
        v1::ReportedStage::Failed => Reported::Failed,
    };
    Some(StatusEvent {
        correlation: CorrelationText::parse(&event.correlation_id),
        provider_id: event.provider_id.into(),
        stage,
        provider_at: event.provider_at,
        failure: event.failure.map(|failure| {
            Box::new(Failure {
                code: failure.code,
                title: failure.title.into(),
                message: failure.message.into(),
                details: failure.details.into(),
            })
        }),
        line: LineIdentity { sender: event.sender.map(Into::into), service: event.service.map(Into::into) },
        recipient: event.recipient,
    })
}

/// What another node says became of a batch.
pub(super) fn verdict(told: i32) -> Verdict {
    match v1::EventVerdict::try_from(told) {
        Ok(v1::EventVerdict::Durable) => Verdict::Durable,
        Ok(v1::EventVerdict::NotMine) => Verdict::NotMine,
        Ok(v1::EventVerdict::Busy) => Verdict::Busy,
        Ok(v1::EventVerdict::StoreDown) => Verdict::StoreDown,
        Ok(v1::EventVerdict::Unspecified) | Err(_) => Verdict::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_arrives_as_it_left() {
        let bare = StatusEvent {
            correlation: CorrelationText::parse("AQAAACoAAAAHAAGr-_9876543210"),
            provider_id: "wamid.1".into(),
            stage: Reported::Accepted,
            provider_at: None,
            failure: None,
            line: LineIdentity::default(),
            recipient: None,
        };
        let failed = StatusEvent {
            stage: Reported::Failed,
            provider_at: Some(1_800_000_000),
            failure: Some(Box::new(Failure {
                code: Some(131_026),
                title: "t".into(),
                message: "m".into(),
                details: "d".into(),
            })),
            line: LineIdentity { sender: Some("100".into()), service: Some("MG1".into()) },
            recipient: Some(999_000_000_001),
            ..bare.clone()
        };
        for stage in [Reported::Accepted, Reported::Sent, Reported::Delivered, Reported::Read, Reported::Failed] {
            let event = StatusEvent { stage, ..bare.clone() };
            assert_eq!(heard(told(&event)), Some(event));
        }
        assert_eq!(heard(told(&failed)), Some(failed));
        assert_eq!(heard(v1::StatusEvent { stage: 77, ..told(&bare) }), None);
    }
}
