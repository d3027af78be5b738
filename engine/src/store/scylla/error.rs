//! What went wrong at the server, sorted by what is done next.

use scylla::errors::{DbError, ExecutionError, IntoRowsResultError, PrepareError, RequestAttemptError, RowsError};

use super::OpenError;
use crate::store::StoreError;

/// How a request ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nobody knows whether it was done, or the server is away: the identical request again.
    Unknown(String),
    /// The server will never take it: nothing was done.
    Never(StoreError),
}

/// Only what the server found wrong with the request itself is known not to have been done. Everything else may have been: the error
/// is that of the last node tried, and an earlier one may have taken it.
pub(super) fn judge(error: &ExecutionError) -> Failed {
    match error {
        ExecutionError::BadQuery(bad) => Failed::Never(StoreError::Bug(bad.to_string())),
        ExecutionError::LastAttemptError(attempt) => judge_attempt(attempt),
        other => Failed::Unknown(other.to_string()),
    }
}

fn judge_attempt(attempt: &RequestAttemptError) -> Failed {
    let text = attempt.to_string();
    match attempt {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            Failed::Never(StoreError::Bug(text))
        }
        RequestAttemptError::DbError(DbError::SyntaxError | DbError::Invalid | DbError::FunctionFailure { .. }, _) => {
            Failed::Never(StoreError::Bug(text))
        }
        // Of this request. An earlier one, that nobody heard of, may have been taken before permission was withdrawn.
        RequestAttemptError::DbError(DbError::Unauthorized, _) => {
            Failed::Unknown(format!("the server refuses the credentials in use: {text}"))
        }
        _ => Failed::Unknown(text),
    }
}

/// What a failed request says when the ledger is opened.
pub(super) fn not_opened(error: &ExecutionError) -> OpenError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Unavailable { consistency, required, alive },
            _,
        )) => OpenError::Quorum { level: consistency.to_string(), required: *required, alive: *alive },
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unauthorized, text)) => {
            not_allowed(text)
        }
        other => OpenError::Away { reason: other.to_string() },
    }
}

/// A statement that the server does not compile when the ledger is opened: a table is not there, or not for this role.
pub(super) fn not_prepared(error: &PrepareError) -> OpenError {
    let PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(kind, text) } = error else {
        return OpenError::Away { reason: format!("a statement could not be prepared: {error}") };
    };
    match kind {
        DbError::Unauthorized => not_allowed(text),
        DbError::Invalid => OpenError::Refused {
            reason: format!("{text}: run `sluice schema apply`, which makes what is missing, or restore it"),
        },
        _ => OpenError::Away { reason: text.clone() },
    }
}

fn not_allowed(text: &str) -> OpenError {
    let reason = format!(
        "{text}: on the keyspace the role of [store.scylla] user needs MODIFY, SELECT; for `sluice schema apply` CREATE, ALTER, too"
    );
    OpenError::Refused { reason }
}

/// An answer of another shape than was asked for.
pub(super) fn no_rows(error: &IntoRowsResultError) -> StoreError {
    StoreError::Bug(format!("an answer without rows: {error}"))
}

/// A row of other types than this version writes.
pub(super) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(format!("a row cannot be read: {error}"))
}

/// As [`unreadable`], for a whole page.
pub(super) fn unreadable_rows(error: &RowsError) -> StoreError {
    unreadable(error)
}

/// A value that this version never wrote.
pub(super) fn damaged(what: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(what.to_string())
}

/// Shorthand for a refusal that says what to do.
pub(super) fn conflict<T>(text: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Conflict(text.into()))
}

/// What the store says once it is closed.
pub(super) fn closed() -> StoreError {
    StoreError::Unavailable("the ledger is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_request_that_is_wrong_in_itself_was_surely_not_done() {
        let judged = |error: DbError| judge_attempt(&RequestAttemptError::DbError(error, String::new()));
        assert!(matches!(judged(DbError::Invalid), Failed::Never(_)));
        assert!(matches!(judged(DbError::SyntaxError), Failed::Never(_)));
        for error in [DbError::Unauthorized, DbError::Overloaded, DbError::ServerError] {
            assert!(matches!(judged(error), Failed::Unknown(_)));
        }
    }

    #[test]
    fn what_is_missing_and_what_is_not_allowed_say_what_to_do() {
        let failed = |kind, text: &str| RequestAttemptError::DbError(kind, text.to_owned());
        let told = |kind, text| {
            not_prepared(&PrepareError::AllAttemptsFailed { first_attempt: failed(kind, text) }).to_string()
        };
        let missing = told(DbError::Invalid, "table parked does not exist");
        assert!(missing.contains("table parked does not exist: run `sluice schema apply`"), "{missing}");
        let refused =
            not_opened(&ExecutionError::LastAttemptError(failed(DbError::Unauthorized, "no SELECT"))).to_string();
        assert_eq!(told(DbError::Unauthorized, "no SELECT"), refused);
        assert!(refused.contains("no SELECT: on the keyspace the role"), "{refused}");
    }
}
