//! From a granted batch to the line: intents first, durable, then the items. Runs in a task of its own, outside the actor.

use std::sync::Arc;
use std::time::Duration;

use super::shared::{CampaignShared, Slot};
use super::{CampaignMsg, CampaignRef};
use crate::domain::correlation::CorrelationKey;
use crate::domain::ids::{AttemptKey, LineKey};
use crate::domain::message::{Event, Failure};
use crate::domain::phone::Address;
use crate::domain::template::ParamList;
use crate::domain::time::{Clock, Mono, UnixMillis};
use crate::domain::trace::Step;
use crate::line::LineMsg;
use crate::line::permits::Permits;
use crate::provider::RequestPlan;
use crate::sender::{Item, OpenAttempt};
use crate::status::Ledger;
use crate::store::{Entry, EntryResult, StoreError, ToSend};
use crate::trace::{self, Span, Traces};

/// What a hand-out needs, prepared once per campaign and line.
pub(crate) struct HandOut {
    pub(crate) shared: Arc<CampaignShared>,
    pub(crate) plan: Arc<RequestPlan>,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) correlation: Arc<CorrelationKey>,
    pub(crate) actor: CampaignRef,
    pub(crate) traces: Option<Arc<Traces>>,
}

/// A hand-out that did not come to its end, refused by the ledger or by a panic. None of its messages is lost: the actor reads
/// again from the beginning.
struct Unfinished(Option<Arc<CampaignShared>>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.start_over();
        }
    }
}

/// First and longest pause before intents are offered again to a store that refuses.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

impl HandOut {
    /// Writes the intents of a batch and hands the messages to the line. The same batch is offered until the store takes it:
    /// nothing is sent before, and everything resumes by itself.
    pub(crate) async fn run(self, messages: Vec<ToSend>, slots: Vec<Slot>, mut permits: Permits) {
        debug_assert_eq!(messages.len(), slots.len());
        let line = Arc::clone(permits.line());
        let mut unfinished = Unfinished(Some(Arc::clone(&self.shared)));
        let (at, began) = (self.clock.wall(), self.clock.mono());
        let entries: Vec<Entry> = messages
            .iter()
            .map(|m| Entry { key: m.key, event: Event::Intent { attempt: m.next_attempt, line: line.key, at } })
            .collect();
        let retried: Vec<u32> = messages.iter().filter(|m| m.next_attempt > 1).map(|m| m.key.seq).collect();
        let Some(results) = self.commit(entries).await else { return };
        let mut items = Vec::with_capacity(messages.len());
        let mut params = ParamList::default();
        for ((message, slot), result) in messages.into_iter().zip(slots).zip(results) {
            // Anything else: cancelled, expired, or handed out before. Whatever it is, it must not be sent.
            if result != EntryResult::Applied {
                tracing::debug!(campaign = %self.shared.key, seq = message.key.seq, ?result, "intent refused");
                continue;
            }
            let key = AttemptKey { message: message.key, attempt: message.next_attempt };
            if let Some(traces) = &self.traces {
                self.trace(traces, key, line.key, (at, began));
            }
            let attempt = OpenAttempt::new(key, slot, self.ledger.clone(), self.clock.clone());
            match self.render(&message, &mut params) {
                Ok((body, cost)) => items.push(Box::new(Item {
                    attempt,
                    line: Arc::clone(&line),
                    plan: Arc::clone(&self.plan),
                    body,
                    cost,
                    retries: message.retries,
                    permit: permits.take_one(),
                })),
                // One recipient that cannot be rendered stops only itself.
                Err(reason) => {
                    let failure = Box::new(Failure::new(0, "bug", "cannot be rendered", &reason, ""));
                    attempt.close(Event::Rejected { attempt: key.attempt, at: self.clock.wall(), failure });
                }
            }
        }
        if !items.is_empty() {
            line.cast(LineMsg::Dispatch(items));
        }
        if !retried.is_empty() {
            let _ = self.actor.cast(CampaignMsg::Handed(retried));
        }
        unfinished.0 = None;
    }

    /// The first span of an attempt: from the grant until its intent is durable.
    fn trace(&self, traces: &Traces, key: AttemptKey, line: LineKey, (at, began): (UnixMillis, Mono)) {
        let Some(trace) = traces.of(key.message) else { return };
        let mut facts = trace::facts_of(key.message, key.attempt);
        let record = self.shared.record();
        facts.extend([
            ("sluice.campaign_id", record.id.as_str().to_owned().into()),
            ("sluice.line", line.0.into()),
            ("sluice.provider", self.shared.kind.as_str().into()),
        ]);
        traces.finished(Span {
            name: "hand out",
            kind: trace::Kind::Internal,
            place: trace.span(key.attempt, Step::HandOut),
            parent: None,
            link: self.shared.put_to_work_by(),
            began: trace::system_time(at),
            took: self.clock.mono().since(began),
            facts,
            trouble: None,
        });
    }

    async fn commit(&self, entries: Vec<Entry>) -> Option<Vec<EntryResult>> {
        let (mut pause, longest) = REFUSED_PAUSE;
        loop {
            match self.ledger.commit(entries.clone()).await {
                Ok(results) => return Some(results),
                Err(StoreError::Unavailable(reason)) => {
                    if !self.shared.may_leave(&self.clock) {
                        // Paused or stopping meanwhile. Whether the store took the batch is unknown only if it is away for good;
                        // the next start then finds the intents and calls them in doubt.
                        return None;
                    }
                    self.shared.set_binding(crate::control::Binding::Ledger);
                    tracing::warn!(campaign = %self.shared.key, reason, "intents wait for the ledger");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                Err(error) => {
                    tracing::error!(campaign = %self.shared.key, %error, "intents refused by the ledger");
                    return None;
                }
            }
        }
    }

    fn render(&self, message: &ToSend, params: &mut ParamList) -> Result<(Vec<u8>, u32), String> {
        let address = Address::parse_e164(&message.address).map_err(|e| e.to_string())?;
        params.decode(&message.params).map_err(|e| e.to_string())?;
        let id = self.correlation.encode(message.key.campaign.0, message.key.seq, message.next_attempt);
        let mut body = Vec::with_capacity(self.plan.body_bytes_expected());
        self.plan.render(address, params, &id, &mut body).map_err(|e| e.to_string())?;
        Ok((body, self.plan.permit_cost(params)))
    }
}
