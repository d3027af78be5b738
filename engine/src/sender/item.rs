//! A message on its way: its rendered request, its permit, and the attempt that must be reported whatever happens.

use std::sync::Arc;

use crate::campaign::shared::{CampaignShared, Slot};
use crate::domain::ids::AttemptKey;
use crate::domain::message::Event;
use crate::domain::time::Clock;
use crate::line::gate::LineShared;
use crate::line::permits::Permits;
use crate::provider::RequestPlan;
use crate::status::Ledger;
use crate::store::Entry;

/// An attempt with a durable intent that nobody has reported yet. Dropped unreported, it reports itself: withdrawn when no
/// byte had left, in doubt otherwise. So no panic, closed mailbox or cancelled task loses one.
pub(crate) struct OpenAttempt {
    key: AttemptKey,
    slot: Option<Slot>,
    ledger: Ledger,
    clock: Clock,
    written: bool,
}

impl OpenAttempt {
    pub(crate) fn new(key: AttemptKey, slot: Slot, ledger: Ledger, clock: Clock) -> Self {
        Self { key, slot: Some(slot), ledger, clock, written: false }
    }

    pub(crate) fn key(&self) -> AttemptKey {
        self.key
    }

    /// From now on a byte may have left.
    pub(crate) fn mark_written(&mut self) {
        self.written = true;
    }

    /// It is known after all that no byte left.
    pub(crate) fn mark_unwritten(&mut self) {
        self.written = false;
    }

    pub(crate) fn campaign(&self) -> Option<&Arc<CampaignShared>> {
        self.slot.as_ref().map(Slot::campaign)
    }

    /// Reports the outcome.
    pub(crate) fn close(mut self, event: Event) {
        self.report(event);
    }

    /// No byte left: the message is pending again.
    pub(crate) fn withdraw(self) {
        let at = self.clock.wall();
        let attempt = self.key.attempt;
        self.close(Event::Withdrawn { attempt, at });
    }

    /// Nobody knows what became of it.
    pub(crate) fn doubt(self) {
        let event = self.doubt_event();
        self.close(event);
    }

    fn doubt_event(&self) -> Event {
        let at = self.clock.wall();
        let wait = self.campaign().map(|c| c.record().settings.policy.wait()).unwrap_or_default();
        Event::Doubt { attempt: self.key.attempt, at, due_at: at.after(wait) }
    }

    fn report(&mut self, event: Event) {
        if let Some(slot) = self.slot.take() {
            self.ledger.post(Entry { key: self.key.message, event }, slot);
        }
    }
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        if self.slot.is_some() {
            let event = if self.written {
                self.doubt_event()
            } else {
                Event::Withdrawn { attempt: self.key.attempt, at: self.clock.wall() }
            };
            self.report(event);
        }
    }
}

/// One message on its way to the provider.
pub(crate) struct Item {
    pub(crate) attempt: OpenAttempt,
    pub(crate) line: Arc<LineShared>,
    pub(crate) plan: Arc<RequestPlan>,
    /// The request's body.
    pub(crate) body: Vec<u8>,
    /// What the provider counts: SMS parts, or one.
    pub(crate) cost: u32,
    /// What the retry budget has paid before this attempt.
    pub(crate) retries: u8,
    /// Ends when the message passes the gate.
    pub(crate) permit: Option<Permits>,
}

impl Item {
    /// Whether it may leave now, for all that concerns its campaign and its line.
    pub(crate) fn may_leave(&self) -> bool {
        self.line.may_send() && self.attempt.campaign().is_some_and(|c| c.may_leave(&self.line.clock))
    }

    /// Takes the message back: no byte left.
    pub(crate) fn withdraw(self) {
        self.attempt.withdraw();
    }
}
