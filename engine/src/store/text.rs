//! Records and reports as text: the same JSON in every store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StoreError, StoreResult};
use crate::domain::message::{Event, Failure, Reported};
use crate::domain::time::UnixMillis;

/// JSON of a record.
pub(super) fn to_json(record: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(record).map_err(|error| StoreError::Bug(format!("a record that is no JSON: {error}")))
}

/// A record from its JSON.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> StoreResult<T> {
    serde_json::from_str(json).map_err(|error| StoreError::Damaged(format!("a record that cannot be read: {error}")))
}

/// A report that nobody can place yet, as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Report {
    attempt: u16,
    at: UnixMillis,
    what: Reported,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_id: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Box<Failure>>,
}

impl Report {
    /// The report of an event.
    pub(super) fn of(event: &Event) -> StoreResult<Self> {
        let Event::Report { attempt, at, what, provider_at, provider_id, failure, .. } = event.clone() else {
            return Err(StoreError::Bug(format!("only reports are parked, not {event:?}")));
        };
        Ok(Self { attempt, at, what, provider_at, provider_id, failure })
    }

    /// The event again. Whose lines may report it is decided when it is placed.
    pub(super) fn event(self) -> Event {
        let Self { attempt, at, what, provider_at, provider_id, failure } = self;
        Event::Report { attempt, lines: Arc::new([]), at, what, provider_at, provider_id, failure }
    }

    /// What it reports, by name.
    pub(super) fn name(&self) -> &'static str {
        match self.what {
            Reported::Sent => "sent",
            Reported::Delivered => "delivered",
            Reported::Read => "read",
            Reported::Failed => "failed",
        }
    }
}
