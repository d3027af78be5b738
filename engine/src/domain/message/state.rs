//! The state of one message, and how an event moves it.

use super::{Applied, Attempt, Decision, Event, Failure, Phase, Reported, Seen};
use crate::domain::ids::LineKey;
use crate::domain::stage::{End, Shown, Stage};
use crate::domain::time::UnixMillis;

/// The state of one message in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageState {
    /// Where the owner stands.
    pub phase: Phase,
    /// What the retry budget has paid.
    pub retries: u8,
    /// Pending: when the next attempt may leave. In doubt: when the wait for an echo ends.
    pub due_at: Option<UnixMillis>,
    /// Somebody decided "send again": it leaves although its campaign has ended. Stays until an attempt has an outcome, so
    /// that a withdrawn intent or a 429 does not forget the decision, or until the campaign ends once more
    /// ([`Self::end_again`]).
    pub again: bool,
    /// The highest stage that any attempt reached.
    pub reached: Stage,
    /// Some attempt was accepted by the provider.
    pub accepted: bool,
    /// An attempt both failed and was delivered.
    pub conflict: bool,
    /// Some older attempt was sent, by the provider's word: nothing needs to be sent any more.
    pub older_sent: bool,
    /// Two attempts turned out to be sent: the recipient has it twice.
    pub doubled: bool,
    /// The newest attempt.
    pub newest: Option<Attempt>,
    /// Older attempts, oldest first. The store loads them for an event about one of them, and where one of them was sent.
    pub older: Vec<Attempt>,
}

/// What a tally counts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facets {
    /// The shown status.
    pub shown: Shown,
    /// The highest stage reached.
    pub reached: Stage,
    /// Accepted by the provider at some time.
    pub accepted: bool,
    /// Failed and delivered.
    pub conflict: bool,
    /// Sent twice.
    pub doubled: bool,
    /// In flight: an intent without outcome.
    pub open: bool,
    /// Code of the failure that is shown.
    pub failure_code: Option<u32>,
}

impl Facets {
    /// The facets of a recipient that has no row yet.
    pub fn untouched(end: Option<End>) -> Self {
        MessageState::default().facets(end)
    }
}

impl MessageState {
    /// What is shown, given how the campaign ended (if it did).
    pub fn shown(&self, end: Option<End>) -> Shown {
        match self.phase {
            Phase::Pending => match end {
                Some(end) if !self.again => end.into(),
                _ => Shown::Pending,
            },
            Phase::InFlight => Shown::Queued,
            Phase::InDoubt => Shown::InDoubt,
            Phase::Unconfirmed => Shown::Unconfirmed,
            Phase::Failed => Shown::Failed,
            Phase::Accepted => self.newest.as_ref().map_or(Shown::Queued, |newest| {
                // A newest attempt that never left has nothing to show: an older one made the message sent.
                let left = newest.accepted_at.is_some() || newest.stage() > Stage::Queued;
                if left { newest.stage().into() } else { self.reached.into() }
            }),
        }
    }

    /// What the tallies count.
    pub fn facets(&self, end: Option<End>) -> Facets {
        let shown = self.shown(end);
        Facets {
            shown,
            reached: self.reached,
            accepted: self.accepted,
            conflict: self.conflict,
            doubled: self.doubled,
            open: self.phase == Phase::InFlight,
            failure_code: (shown == Shown::Failed)
                .then(|| self.newest.as_ref().and_then(|a| a.failure.as_ref()).map_or(0, |f| f.code)),
        }
    }

    /// The number that the next intent carries.
    pub fn next_attempt(&self) -> u16 {
        self.newest.as_ref().map_or(1, |a| a.number.saturating_add(1))
    }

    /// Applies one event. `end` is the campaign's end: an intent does not stand on a message that is shown as cancelled or expired.
    pub fn apply(&mut self, event: Event, end: Option<End>) -> Applied {
        let applied = match event {
            Event::Intent { attempt, line, at } => self.intent(attempt, line, at, end),
            Event::Withdrawn { attempt, at } => self.withdrawn(attempt, at),
            Event::Accepted { attempt, at, provider_id } => self.accepted(attempt, at, provider_id),
            Event::NotProcessed { attempt, at: _, failure, charged, due_at } => {
                self.not_processed(attempt, failure, charged, due_at)
            }
            Event::Rejected { attempt, at, failure } => self.rejected(attempt, at, failure),
            Event::Doubt { attempt, at, due_at } => self.doubt(attempt, at, due_at),
            Event::Echoed { attempt, lines, at, provider_id } => {
                if !self.is_of(attempt, &lines) {
                    return Applied::Refused;
                }
                self.accepted(attempt, at, provider_id)
            }
            Event::Report { attempt, lines, at, what, provider_at, provider_id, failure } => {
                if !self.is_of(attempt, &lines) {
                    return Applied::Refused;
                }
                self.report(attempt, Seen { at, provider_at }, what, provider_id, failure)
            }
            // An ended campaign sends nothing again, and what may have been sent is not "cancelled".
            Event::DoubtExpired { at, resend_up_to } => self.doubt_expired(at, resend_up_to.filter(|_| end.is_none())),
            Event::Resolved { decision, at } => self.resolved(decision, at),
        };
        self.doubled |= self.older_sent && self.newest.as_ref().is_some_and(Attempt::was_sent);
        self.assert_sound();
        applied
    }

    /// The campaign ends, for the first time or after a reopening: nothing leaves any more, so a decision to send again is taken
    /// back. What waited shows how the campaign ended, like everything else that waited; what is in flight shows its outcome, or the
    /// same when it comes back unused. The attempts keep what is known of them, and a late echo still decides.
    pub fn end_again(&mut self) {
        self.again = false;
    }

    fn intent(&mut self, attempt: u16, line: LineKey, at: UnixMillis, end: Option<End>) -> Applied {
        if self.shown(end) != Shown::Pending || attempt != self.next_attempt() {
            return Applied::Refused;
        }
        if let Some(newest) = self.newest.replace(Attempt::new(attempt, line, at)) {
            self.older_sent |= newest.stage() > Stage::Queued;
            self.older.push(newest);
        }
        self.phase = Phase::InFlight;
        self.due_at = None;
        Applied::Changed
    }

    /// The newest attempt, if it has this number and is still without outcome.
    fn open(&mut self, attempt: u16) -> Option<&mut Attempt> {
        let open = self.phase == Phase::InFlight;
        self.newest.as_mut().filter(|a| open && a.number == attempt)
    }

    fn find(&mut self, attempt: u16) -> Option<&mut Attempt> {
        match &mut self.newest {
            Some(newest) if newest.number == attempt => Some(newest),
            _ => self.older.iter_mut().find(|a| a.number == attempt),
        }
    }

    /// Whether the attempt was made by one of these lines.
    fn is_of(&mut self, attempt: u16, lines: &[LineKey]) -> bool {
        self.find(attempt).is_some_and(|facts| lines.binary_search(&facts.line).is_ok())
    }

    fn is_newest(&self, attempt: u16) -> bool {
        self.newest.as_ref().is_some_and(|a| a.number == attempt)
    }

    fn withdrawn(&mut self, attempt: u16, at: UnixMillis) -> Applied {
        let Some(open) = self.open(attempt) else { return Applied::NoChange };
        open.withdrawn_at = Some(at);
        self.wait_again(at);
        Applied::Changed
    }

    /// Back to pending, unless an older attempt turned out to be sent while this one was under way: then nothing needs to be
    /// sent any more, just as when that report had come a moment later ([`Self::report`]).
    fn wait_again(&mut self, due_at: UnixMillis) {
        if self.older_sent && !self.again {
            self.settle_in(self.by_older());
        } else {
            self.phase = Phase::Pending;
            self.due_at = Some(due_at);
        }
    }

    fn accepted(&mut self, attempt: u16, at: UnixMillis, provider_id: Box<str>) -> Applied {
        let Some(facts) = self.find(attempt) else { return Applied::Refused };
        if facts.accepted_at.is_some() {
            return Applied::NoChange;
        }
        facts.accepted_at = Some(at);
        facts.provider_id.get_or_insert(provider_id);
        self.accepted = true;
        // Pending: it was in doubt and is to be sent again; the late answer makes that needless.
        if self.is_newest(attempt) && !self.newest_failed() {
            self.settle_in(Phase::Accepted);
        }
        self.follow_older();
        Applied::Changed
    }

    /// Where a message stands of which nothing more leaves because an older attempt was sent, while the provider never spoke of the newest
    /// one: as the newest of those ended of which it did. What was sent and failed then is no message that was sent.
    pub(crate) fn by_older(&self) -> Phase {
        let spoken_of = |a: &&Attempt| a.was_sent() || a.failed.is_some();
        let newest = self.older.iter().filter(spoken_of).max_by_key(|a| a.number);
        if newest.is_some_and(|a| a.failed.is_some()) { Phase::Failed } else { Phase::Accepted }
    }

    /// A message that shows what became of an older attempt goes on doing so when more is heard of those.
    fn follow_older(&mut self) {
        let settled = matches!(self.phase, Phase::Accepted | Phase::Failed);
        if settled && self.older_sent && !self.again && self.is_silent() {
            self.settle_in(self.by_older());
        }
    }

    fn newest_failed(&self) -> bool {
        self.newest.as_ref().is_some_and(|a| a.failed.is_some())
    }

    /// Whether the newest attempt shows nothing of its own.
    fn is_silent(&self) -> bool {
        self.newest.as_ref().is_none_or(|a| !a.was_sent() && a.failed.is_none())
    }

    fn settle_in(&mut self, phase: Phase) {
        self.phase = phase;
        self.due_at = None;
        self.again = false;
    }

    fn not_processed(
        &mut self,
        attempt: u16,
        failure: Option<Box<Failure>>,
        charged: bool,
        due_at: UnixMillis,
    ) -> Applied {
        let Some(open) = self.open(attempt) else { return Applied::NoChange };
        open.failure = failure;
        self.retries = self.retries.saturating_add(u8::from(charged));
        self.wait_again(due_at);
        Applied::Changed
    }

    fn rejected(&mut self, attempt: u16, at: UnixMillis, failure: Box<Failure>) -> Applied {
        let Some(open) = self.open(attempt) else { return Applied::NoChange };
        open.failed = Some(Seen { at, provider_at: None });
        open.failure = Some(failure);
        self.settle_in(Phase::Failed);
        Applied::Changed
    }

    fn doubt(&mut self, attempt: u16, at: UnixMillis, due_at: UnixMillis) -> Applied {
        let Some(open) = self.open(attempt) else { return Applied::NoChange };
        open.doubt_at = Some(at);
        self.phase = Phase::InDoubt;
        self.due_at = Some(due_at);
        Applied::Changed
    }

    /// The join. A report for the newest attempt decides the message; one for an older attempt is kept beside it, cancels a
    /// waiting retry, and shows a double where the newer attempt had left.
    fn report(
        &mut self,
        attempt: u16,
        seen: Seen,
        what: Reported,
        provider_id: Option<Box<str>>,
        failure: Option<Box<Failure>>,
    ) -> Applied {
        let Some(facts) = self.find(attempt) else { return Applied::Refused };
        let stage_before = facts.stage();
        let fact = match what {
            Reported::Sent => &mut facts.sent,
            Reported::Delivered => &mut facts.delivered,
            Reported::Read => &mut facts.read,
            Reported::Failed => &mut facts.failed,
        };
        let fresh = fact.is_none();
        let learns_id = facts.provider_id.is_none() && provider_id.is_some();
        if !fresh && !learns_id {
            return Applied::NoChange;
        }
        if fresh {
            *fact = Some(seen);
            if what == Reported::Failed && failure.is_some() {
                facts.failure = failure;
            }
        }
        if learns_id {
            facts.provider_id = provider_id;
        }
        let stage = facts.stage();
        let conflict = facts.failed.is_some() && stage >= Stage::Delivered;
        self.reached = self.reached.max(stage);
        self.conflict |= conflict;
        // A report is also the provider's word that it took the message.
        self.accepted = true;
        if self.is_newest(attempt) {
            self.settle_in(if self.newest_failed() { Phase::Failed } else { Phase::Accepted });
        } else {
            if what != Reported::Failed {
                self.doubled |= self.older_sent && stage_before == Stage::Queued;
                self.older_sent = true;
                self.again = false;
                if self.phase == Phase::Pending {
                    // The newest attempt did not leave (withdrawn, refused, or not yet made), or nobody heard of it: nothing needs to be
                    // sent any more.
                    self.settle_in(self.by_older());
                }
            }
            self.follow_older();
        }
        Applied::Changed
    }

    fn doubt_expired(&mut self, at: UnixMillis, resend_up_to: Option<u8>) -> Applied {
        if self.phase != Phase::InDoubt {
            return Applied::NoChange;
        }
        if resend_up_to.is_some_and(|most| self.retries < most) {
            self.retries += 1;
            self.wait_again(at);
        } else {
            self.settle_in(Phase::Unconfirmed);
        }
        Applied::Changed
    }

    fn resolved(&mut self, decision: Decision, at: UnixMillis) -> Applied {
        if !matches!(self.phase, Phase::InDoubt | Phase::Unconfirmed) {
            return Applied::NoChange;
        }
        let Some(newest) = &mut self.newest else { return Applied::Refused };
        match decision {
            Decision::ConfirmSent => {
                newest.sent.get_or_insert(Seen { at, provider_at: None });
                self.reached = self.reached.max(Stage::Sent);
                self.accepted = true;
                self.settle_in(Phase::Accepted);
            }
            Decision::ConfirmFailed => {
                newest.failed.get_or_insert(Seen { at, provider_at: None });
                newest.failure.get_or_insert_with(|| {
                    Box::new(Failure::new(0, "decided", "confirmed failed", "confirmed as failed by a person", ""))
                });
                self.settle_in(Phase::Failed);
            }
            Decision::SendAgain => {
                self.settle_in(Phase::Pending);
                self.again = true;
                self.due_at = Some(at);
            }
        }
        Applied::Changed
    }

    /// What must hold after every event; cheap enough to stay on in release, since it guards counts and doubles.
    fn assert_sound(&self) {
        let waits = matches!(self.phase, Phase::Pending | Phase::InDoubt);
        assert!(waits || self.due_at.is_none(), "only what waits is due: {self:?}");
        let under_way = waits || self.phase == Phase::InFlight;
        assert!(!self.again || under_way, "a message with an outcome is not to be sent again: {self:?}");
        assert!(
            self.newest.is_some() || self.phase == Phase::Pending,
            "a message that was never tried is pending: {self:?}"
        );
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
