//! What went wrong inside, sorted by who has to answer for it.

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// A failure inside the embedded store: the caller's (its own call fails), or the database's (everything that shares the
/// transaction fails).
#[derive(Debug)]
pub(super) enum Fail {
    /// The call itself cannot be done.
    Own(StoreError),
    /// SQLite failed.
    Sql(rusqlite::Error),
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        Self::Own(error)
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Fail> for StoreError {
    fn from(fail: Fail) -> Self {
        match fail {
            Fail::Own(error) => error,
            Fail::Sql(error) => store_error(&error),
        }
    }
}

/// Result of the store's inner functions.
pub(super) type Try<T> = Result<T, Fail>;

/// Shorthand for a refusal that says what to do.
pub(super) fn conflict<T>(text: impl Into<String>) -> Try<T> {
    Err(Fail::Own(StoreError::Conflict(text.into())))
}

/// A value in the database that this version never wrote.
pub(super) fn damaged(what: impl std::fmt::Display) -> Fail {
    Fail::Own(StoreError::Damaged(what.to_string()))
}

/// SQLite's errors by what the caller does next.
pub(super) fn store_error(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(text),
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreError::Unavailable(text),
        _ => match error {
            // A value of another type or range than this version writes.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::InvalidColumnType(..) => StoreError::Damaged(text),
            _ => StoreError::Bug(text),
        },
    }
}

/// Whether the connection's state is unknown after this error, so that it must be opened anew.
pub(super) fn wants_reopening(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
