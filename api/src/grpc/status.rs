//! From the façade's errors to gRPC statuses with `google.rpc` details: one table.

use std::collections::HashMap;
use std::time::Duration;

use sluice_engine::control::{Error, Violation};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The domain of every `ErrorInfo`.
const DOMAIN: &str = "sluice";
/// Most violations in one answer: details travel in a header, which is bounded at both ends.
const VIOLATIONS_MAX: usize = 32;
/// Longest text of one violation, in bytes.
const TEXT_BYTES_MAX: usize = 300;
/// The reason that says that another node has to be asked.
pub(crate) const ELSEWHERE: &str = "ELSEWHERE";
/// When to come again after something that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status that an error is told as.
pub(crate) fn of(error: &Error) -> Status {
    let mut details = ErrorDetails::new();
    let code = code(error);
    let mut metadata = HashMap::new();
    let reason = match error {
        Error::Invalid(violations) => {
            details.set_bad_request(violations.iter().take(VIOLATIONS_MAX).map(field_violation).collect::<Vec<_>>());
            "INVALID"
        }
        Error::NotFound { .. } => "NOT_FOUND",
        Error::Exists { .. } => "EXISTS",
        Error::Move(error) => {
            let allowed: Vec<&str> = error.allowed.iter().map(|allowed| allowed.name()).collect();
            metadata.insert("state".to_owned(), error.state.name().to_owned());
            metadata.insert("allowed".to_owned(), allowed.join(","));
            details.add_precondition_failure_violation("STATE", error.state.name(), error.to_string());
            "STATE"
        }
        Error::Precondition { kind, subject, problem } => {
            details.add_precondition_failure_violation(*kind, subject.clone(), problem.clone());
            kind
        }
        Error::Stale => "STALE",
        Error::TooMuch(_) => "TOO_MUCH",
        Error::Unavailable(_) | Error::Ledger(_) => {
            details.set_retry_info(Some(RETRY_AFTER));
            "UNAVAILABLE"
        }
        Error::Elsewhere(_) => {
            details.set_retry_info(Some(RETRY_AFTER));
            ELSEWHERE
        }
        Error::Damaged(_) => "DAMAGED",
        Error::Bug(_) => "BUG",
    };
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, told(error), details)
}

/// The code alone.
pub(super) fn code(error: &Error) -> Code {
    match error {
        Error::Invalid(_) => Code::InvalidArgument,
        Error::NotFound { .. } => Code::NotFound,
        Error::Exists { .. } => Code::AlreadyExists,
        Error::Move(_) | Error::Precondition { .. } => Code::FailedPrecondition,
        Error::Stale => Code::Aborted,
        Error::TooMuch(_) => Code::ResourceExhausted,
        Error::Unavailable(_) | Error::Ledger(_) | Error::Elsewhere(_) => Code::Unavailable,
        Error::Damaged(_) => Code::DataLoss,
        Error::Bug(_) => Code::Internal,
    }
}

/// What the caller reads. What only concerns the operator goes to the log.
pub(super) fn told(error: &Error) -> String {
    match error {
        Error::Ledger(detail) => {
            tracing::warn!(detail, "the ledger is not available");
            "the ledger cannot be written or read now: try again".to_owned()
        }
        Error::Elsewhere(detail) => {
            tracing::debug!(detail, "it is another node's");
            "it belongs to another node, or moves to one: try again".to_owned()
        }
        Error::Damaged(detail) => {
            tracing::error!(detail, "the ledger is damaged");
            "the ledger is damaged: the server's operator must look".to_owned()
        }
        Error::Bug(detail) => {
            tracing::error!(detail, "a defect");
            "an error inside the server: its operator finds it in the log".to_owned()
        }
        Error::Invalid(violations) if violations.len() > 4 => {
            format!("{} fields are wrong; the first: {}", violations.len(), cut(&violations[0].to_string()))
        }
        other => cut(&other.to_string()),
    }
}

fn field_violation(violation: &Violation) -> FieldViolation {
    FieldViolation::new(cut(&violation.field), cut(&violation.problem))
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// More than is taken at a time.
pub(crate) fn too_much(text: &str) -> Status {
    of(&Error::TooMuch(text.to_owned()))
}

/// The server goes down while a stream is open.
pub(super) fn shutting_down() -> Status {
    of(&Error::Unavailable("the server is shutting down: connect again"))
}

/// Another node owns what an open stream is about.
pub(super) fn handed_over() -> Status {
    of(&Error::Unavailable("another node has taken the campaign over: connect again"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_engine::domain::campaign::{CampaignState, Move, next_state};

    #[test]
    fn wrong_fields_are_named_in_the_details() {
        let status = of(&Error::invalid("settings.rate.count", "must be 1 to 10"));
        assert_eq!(status.code(), Code::InvalidArgument);
        let request = status.get_details_bad_request().unwrap();
        assert_eq!(request.field_violations[0].field, "settings.rate.count");
        assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID");
    }

    #[test]
    fn an_illegal_move_names_state_and_moves() {
        let error = next_state(CampaignState::Completed, Move::Pause, false).unwrap_err();
        let status = of(&error.into());
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.metadata["state"].as_str(), info.metadata["allowed"].as_str()), ("completed", "delete"));
        assert!(status.message().contains("completed") && status.message().contains("delete"));
    }

    #[test]
    fn the_operators_business_is_not_told() {
        for error in [Error::Ledger("/var/lib/x".into()), Error::Damaged("/var/lib/x".into()), Error::Bug("/x".into())]
        {
            let status = of(&error);
            assert!(!status.message().contains("/x") && !status.message().contains("/var"), "{status:?}");
        }
        assert!(of(&Error::Ledger(String::new())).get_details_retry_info().is_some());
    }

    #[test]
    fn details_stay_within_a_header() {
        let violations = (0..500).map(|n| Violation::new(format!("f{n}"), "é".repeat(5_000))).collect();
        let status = of(&Error::Invalid(violations));
        assert!(status.details().len() < 12_000, "{}", status.details().len());
        assert!(status.message().len() < 400);
    }
}
