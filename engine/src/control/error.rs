//! Why the façade refuses, by what the caller does next.

use std::fmt;

use crate::domain::campaign::IllegalMove;
use crate::domain::ids::InvalidId;
use crate::store::StoreError;

/// One wrong field of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the contract names it, e.g. `settings.rate.count`.
    pub field: String,
    /// What is wrong with it and what would be right; never holds an address or a parameter's value.
    pub problem: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The call itself is wrong: correct it. Nothing was changed.
    #[error("{}", join(.0))]
    Invalid(Vec<Violation>),
    /// There is no such thing in this tenant.
    #[error("there is no {what} {id:?}")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// As it was asked for.
        id: String,
    },
    /// There is one already.
    #[error("{what} {id:?} exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The campaign's state does not allow the move.
    #[error("{0}")]
    Move(#[from] IllegalMove),
    /// Something else stands in the way; says what to do.
    #[error("{problem}")]
    Precondition {
        /// What stands in the way, for programs, e.g. `AUDIENCE_EMPTY`.
        kind: &'static str,
        /// The thing that is not as it should be, e.g. `campaign/spring`.
        subject: String,
        /// What is wrong, for people.
        problem: String,
    },
    /// Somebody else changed it first: read it again and decide again.
    #[error("it was changed meanwhile: read it again")]
    Stale,
    /// More than is taken at a time: send less, or later.
    #[error("{0}")]
    TooMuch(String),
    /// Cannot be done now; the same call may work later.
    #[error("{0}")]
    Unavailable(&'static str),
    /// The ledger cannot be written or read now; the same call may work later. The text is for the operator.
    #[error("{0}")]
    Ledger(String),
    /// It belongs to another node, now or since a moment: ask that one. Nothing was changed.
    #[error("{0}")]
    Elsewhere(String),
    /// The ledger is damaged: an operator must look. The text is for the operator.
    #[error("{0}")]
    Damaged(String),
    /// A defect of the server. The text is for the operator.
    #[error("{0}")]
    Bug(String),
}

/// Result of a façade call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn join(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Error {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, problem)])
    }

    /// Nothing of this kind with this id.
    pub fn not_found(what: &'static str, id: impl Into<String>) -> Self {
        Self::NotFound { what, id: id.into() }
    }

    pub(super) fn precondition(kind: &'static str, subject: String, problem: impl Into<String>) -> Self {
        Self::Precondition { kind, subject, problem: problem.into() }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Ledger(error.to_string()),
            StoreError::Version { .. } => Self::Stale,
            StoreError::NotFound(what) => Self::NotFound { what, id: String::new() },
            StoreError::Exists { what, id } => Self::Exists { what, id },
            StoreError::Conflict(problem) => Self::precondition("STATE", String::new(), problem),
            StoreError::Elsewhere(_) => Self::Elsewhere(error.to_string()),
            StoreError::Damaged(_) => Self::Damaged(error.to_string()),
            StoreError::Bug(_) => Self::Bug(error.to_string()),
        }
    }
}

/// Gives a missing record the id by which it was asked for.
pub(super) trait OrNotFound<T> {
    /// Turns the store's "not found" into one of `what` with this id.
    fn or_not_found(self, what: &'static str, id: &str) -> Result<T>;
}

impl<T> OrNotFound<T> for Result<T, StoreError> {
    fn or_not_found(self, what: &'static str, id: &str) -> Result<T> {
        self.map_err(|error| match error {
            StoreError::NotFound(_) => Error::not_found(what, id),
            other => other.into(),
        })
    }
}

/// Collects wrong fields, so that a caller learns of all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Violation::new(field, problem));
    }

    /// Adds one unless `good`.
    pub fn require(&mut self, good: bool, field: &str, problem: impl FnOnce() -> String) {
        if !good {
            self.add(field, problem());
        }
    }

    /// Reads an id of the given field.
    pub fn id<T>(&mut self, field: &str, parsed: Result<T, InvalidId>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Adds all of another.
    pub fn extend(&mut self, more: Vec<Violation>) {
        self.0.extend(more);
    }

    /// `Ok` when nothing is wrong.
    pub fn check(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Invalid(self.0)) }
    }
}
