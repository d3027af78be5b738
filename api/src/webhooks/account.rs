//! One account behind the listener: its receiver, its places, its metrics.

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use sluice_engine::webhook::{Event, OtherKind, Reported, SignatureError};

use super::admission::Admission;
use super::handler::Answer;
use super::{Receiver, WebhookAccount, WebhookLimits};
use crate::metrics as names;

pub(super) struct Account {
    pub(super) name: Arc<str>,
    pub(super) receiver: Receiver,
    pub(super) admission: Admission,
    pub(super) body_bytes_max: usize,
    pub(super) metrics: AccountMetrics,
}

impl Account {
    pub(super) fn new(account: WebhookAccount, limits: &WebhookLimits) -> Self {
        let WebhookAccount { name, receiver } = account;
        let body_bytes_max = match receiver {
            Receiver::Meta(_) => limits.body_bytes_max,
            Receiver::Twilio(_) => limits.twilio_body_bytes_max.min(limits.body_bytes_max),
        };
        Self {
            metrics: AccountMetrics::new(receiver.provider(), &name),
            admission: Admission::new(limits.account_bodies_max, limits.account_bytes_max),
            body_bytes_max,
            name,
            receiver,
        }
    }
}

/// Handles registered once: the hot path only adds.
pub(super) struct AccountMetrics {
    answers: [Counter; Answer::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) bodies: Gauge,
    pub(super) bytes: Counter,
    stages: [Counter; STAGES.len()],
    others: [Counter; OtherKind::ALL.len()],
    bad: Counter,
    signature: [Counter; SignatureError::ALL.len()],
}

const STAGES: [Reported; 5] =
    [Reported::Accepted, Reported::Sent, Reported::Delivered, Reported::Read, Reported::Failed];

impl AccountMetrics {
    fn new(provider: &'static str, account: &Arc<str>) -> Self {
        let account = || String::from(&**account);
        let event = |kind: &'static str| metrics::counter!(names::WEBHOOK_EVENTS, "provider" => provider, "account" => account(), "kind" => kind);
        Self {
            answers: Answer::ALL.map(|answer| {
                let result = answer.as_str();
                metrics::counter!(names::WEBHOOK_REQUESTS, "provider" => provider, "account" => account(), "result" => result)
            }),
            duration: metrics::histogram!(names::WEBHOOK_REQUEST_DURATION, "provider" => provider, "account" => account()),
            bodies: metrics::gauge!(names::WEBHOOK_BODIES_IN_FLIGHT, "provider" => provider, "account" => account()),
            bytes: metrics::counter!(names::WEBHOOK_RECEIVED_BYTES, "provider" => provider, "account" => account()),
            stages: STAGES.map(|stage| event(stage.as_str())),
            others: OtherKind::ALL.map(|kind| event(kind.as_str())),
            bad: event("bad"),
            signature: SignatureError::ALL.map(|reason| {
                let reason = reason.as_str();
                metrics::counter!(names::WEBHOOK_SIGNATURE_FAILURES, "provider" => provider, "account" => account(), "reason" => reason)
            }),
        }
    }

    pub(super) fn answered(&self, answer: Answer) {
        self.answers[answer as usize].increment(1);
    }

    pub(super) fn signature_failed(&self, error: SignatureError) {
        self.signature[error as usize].increment(1);
    }

    /// Counts what a verified POST said.
    pub(super) fn count(&self, events: &[Event]) {
        if let [Event::Status(status)] = events {
            return self.stages[status.stage as usize].increment(1);
        }
        // A batch adds once for each kind, not once for each event.
        let mut stages = [0u64; STAGES.len()];
        for event in events {
            match event {
                Event::Status(status) => stages[status.stage as usize] += 1,
                Event::Other(other) => self.others[other.kind as usize].increment(1),
                Event::Bad(bad) => self.bad.increment(1 + u64::from(bad.more)),
            }
        }
        for (counter, n) in self.stages.iter().zip(stages) {
            if n > 0 {
                counter.increment(n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arrays above are indexed by discriminant.
    #[test]
    fn the_lists_are_in_the_order_of_their_enums() {
        assert!(STAGES.iter().enumerate().all(|(at, stage)| *stage as usize == at));
        assert!(OtherKind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
        assert!(SignatureError::ALL.iter().enumerate().all(|(at, error)| *error as usize == at));
        assert!(Answer::ALL.iter().enumerate().all(|(at, answer)| *answer as usize == at));
    }
}
