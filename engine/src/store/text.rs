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
    /// `None`: the provider only has it ([`Event::Echoed`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    what: Option<Reported>,
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
        match event.clone() {
            Event::Report { attempt, at, what, provider_at, provider_id, failure, .. } => {
                Ok(Self { attempt, at, what: Some(what), provider_at, provider_id, failure })
            }
            Event::Echoed { attempt, at, provider_id, .. } => {
                let provider_id = Some(provider_id);
                Ok(Self { attempt, at, what: None, provider_at: None, provider_id, failure: None })
            }
            event => Err(StoreError::Bug(format!("only what providers report is parked, not {event:?}"))),
        }
    }

    /// The event again. Whose lines may report it is decided when it is placed.
    pub(super) fn event(self) -> Event {
        let Self { attempt, at, what, provider_at, provider_id, failure } = self;
        let lines = Arc::new([]);
        match what {
            Some(what) => Event::Report { attempt, lines, at, what, provider_at, provider_id, failure },
            None => Event::Echoed { attempt, lines, at, provider_id: provider_id.unwrap_or_default() },
        }
    }

    /// What it reports, by name.
    pub(super) fn name(&self) -> &'static str {
        match self.what {
            None => "accepted",
            Some(Reported::Sent) => "sent",
            Some(Reported::Delivered) => "delivered",
            Some(Reported::Read) => "read",
            Some(Reported::Failed) => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_provider_reports_is_read_again() {
        let (attempt, at, lines) = (3, UnixMillis(7), Arc::new([]));
        let provider_id: Box<str> = "wamid.1".into();
        let what = Reported::Delivered;
        let report = Event::Report {
            attempt,
            lines: Arc::clone(&lines) as Arc<[_]>,
            at,
            what,
            provider_at: Some(5),
            provider_id: Some(provider_id.clone()),
            failure: None,
        };
        let echo = Event::Echoed { attempt, lines, at, provider_id };
        for event in [report, echo] {
            let json = to_json(&Report::of(&event).unwrap()).unwrap();
            assert_eq!(from_json::<Report>(&json).unwrap().event(), event, "{json}");
        }
        assert!(Report::of(&Event::Withdrawn { attempt: 1, at }).is_err());
    }
}
