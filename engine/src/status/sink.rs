//! Webhook events on their way into the ledger: correlation id first, the provider's message id second, parked third.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;

use super::Replied;
use super::consequence::Consequence;
use super::kept;
use crate::domain::ids::{AccountId, CampaignKey, LineKey, MessageKey};
use crate::domain::message::{Event, Failure, Reported};
use crate::domain::time::UnixMillis;
use crate::line::gate::LineShared;
use crate::metrics::{EntryMetrics, reported_failure};
use crate::provider::{Class, classify_event};
use crate::store::{Entry, EntryResult, InboundEvent, ParkedEvent, StoreError, StoreResult};
use crate::supervisor::Context;
use crate::webhook::{self, LineIdentity, SinkError, StatusEvent, WebhookSink};

/// The answer to a webhook must come within this, or the provider is asked to come again.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// The engine's side of the webhooks.
pub(crate) struct Sink {
    pub(super) context: Arc<Context>,
    pub(super) metrics: EntryMetrics,
    /// Events parked, as last counted.
    pub(super) parked: AtomicU64,
}

impl Sink {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, metrics: EntryMetrics::new(), parked: AtomicU64::new(0) }
    }

    /// Splits a status into an entry of ours and what follows when it is new, or an event to park.
    pub(super) fn place(&self, came: &Came, mut status: StatusEvent) -> Placed {
        let ours = status.correlation.as_ref().and_then(|text| self.context.correlation.decode(text.as_str()));
        let ours = ours.map(|(campaign, seq, attempt)| (MessageKey { campaign: CampaignKey(campaign), seq }, attempt));
        let named = std::mem::take(&mut status.line);
        let failed = status.stage == webhook::Reported::Failed;
        let line = if failed { self.line_named(&came.lines, &named) } else { None };
        let failure = failed.then(|| failure(&status, line.as_deref()));
        let code = status.failure.as_ref().and_then(|failure| failure.code);
        let consequence =
            line.zip(ours).and_then(|(line, ours)| Consequence::of(&line, code, ours, status.provider_at));
        let event = report(status, failure, ours.map_or(0, |(_, attempt)| attempt), &came.lines, came.at);
        match ours {
            Some((key, _)) => Placed::Entry(Entry { key, event }, named, consequence.map(Box::new)),
            None => self.parked_event(came, &named, None, event).map_or(Placed::Nothing, Placed::Park),
        }
    }

    async fn commit(
        &self,
        entries: Vec<Entry>,
        consequences: Vec<(usize, Box<Consequence>)>,
    ) -> Result<Replied, SinkError> {
        if consequences.is_empty() {
            let committed = tokio::time::timeout(COMMIT_WITHIN, self.context.ledger.commit_back(entries)).await;
            return answer_of(committed.map(|(replied, done)| done.map(|()| replied)));
        }
        // In a task of its own: repeated, the entries are no news any more, so what follows must not go with a provider that hangs
        // up, or waits no longer.
        let context = Arc::clone(&self.context);
        let committed = tokio::spawn(async move {
            let (replied, done) = context.ledger.commit_back(entries).await;
            for (place, consequence) in consequences {
                if replied.results[place] == EntryResult::Applied {
                    consequence.follow(&context).await;
                }
            }
            done.map(|()| replied)
        });
        let ended = tokio::time::timeout(COMMIT_WITHIN, committed).await;
        answer_of(ended.map(|joined| joined.unwrap_or_else(|error| Err(StoreError::Bug(error.to_string())))))
    }

    async fn keep(&self, events: Vec<InboundEvent>) -> Result<(), SinkError> {
        if events.is_empty() {
            return Ok(());
        }
        match self.context.store.keep_inbound(events, self.context.config.inbound_max).await {
            Ok(gone) => {
                self.metrics.gone.increment(gone);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "inbound events could not be kept");
                Err(SinkError::StoreDown)
            }
        }
    }
}

fn answer_of(committed: Result<StoreResult<Replied>, tokio::time::error::Elapsed>) -> Result<Replied, SinkError> {
    match committed {
        Ok(Ok(replied)) => Ok(replied),
        Ok(Err(StoreError::Unavailable(_))) | Err(_) => Err(SinkError::StoreDown),
        Ok(Err(error)) => {
            tracing::error!(%error, "webhook events could not be committed");
            Err(SinkError::StoreDown)
        }
    }
}

/// What came in one POST.
pub(super) struct Came {
    pub(super) account: AccountId,
    /// The account's lines, ascending.
    pub(super) lines: Arc<[LineKey]>,
    pub(super) at: UnixMillis,
}

pub(super) enum Placed {
    Entry(Entry, LineIdentity, Option<Box<Consequence>>),
    Park(Box<ParkedEvent>),
    /// It names no message of ours and moves no stage.
    Nothing,
}

/// A reported failure: its class and title by the provider's table, the rest in the provider's words.
fn failure(status: &StatusEvent, line: Option<&LineShared>) -> Box<Failure> {
    let said = status.failure.as_deref().cloned().unwrap_or_default();
    let kind = line.map(|line| line.record().kind);
    let verdict = kind.map(|kind| classify_event(kind, said.code));
    let known = verdict.as_ref().and_then(|v| v.title).unwrap_or_default();
    let class = verdict.map_or(Class::Recipient, |v| v.action.class);
    if let Some(kind) = kind {
        reported_failure(kind, class, said.code.unwrap_or(0));
    }
    let title = if said.title.is_empty() { known } else { &said.title };
    Box::new(Failure::new(said.code.unwrap_or(0), class.as_str(), title, &said.message, &said.details))
}

/// A status as the ledger's event.
fn report(
    status: StatusEvent,
    failure: Option<Box<Failure>>,
    attempt: u16,
    lines: &Arc<[LineKey]>,
    at: UnixMillis,
) -> Event {
    let what = match status.stage {
        webhook::Reported::Accepted => {
            return Event::Echoed { attempt, lines: Arc::clone(lines), at, provider_id: status.provider_id };
        }
        webhook::Reported::Sent => Reported::Sent,
        webhook::Reported::Delivered => Reported::Delivered,
        webhook::Reported::Read => Reported::Read,
        webhook::Reported::Failed => Reported::Failed,
    };
    Event::Report {
        attempt,
        lines: Arc::clone(lines),
        at,
        what,
        provider_at: status.provider_at,
        provider_id: Some(status.provider_id),
        failure,
    }
}

#[async_trait]
impl WebhookSink for Sink {
    async fn accept(&self, account: &Arc<str>, events: Vec<webhook::Event>) -> Result<(), SinkError> {
        if self.context.ledger.waiting() + events.len() > self.context.config.waiting_entries_max {
            return Err(SinkError::Busy);
        }
        let Ok(account) = AccountId::new(account) else { return Ok(()) };
        let lines = self.context.lines_of_account(&account);
        let came = Came { account, lines, at: self.context.clock.wall() };
        let (mut entries, mut names) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        let (mut park, mut kept, mut consequences) = (Vec::new(), Vec::new(), Vec::new());
        let (mut others, mut bad) = (0, 0);
        for event in events {
            match event {
                webhook::Event::Status(status) => match self.place(&came, status) {
                    Placed::Entry(entry, named, consequence) => {
                        consequences.extend(consequence.map(|consequence| (entries.len(), consequence)));
                        entries.push(entry);
                        names.push(named);
                    }
                    Placed::Park(event) => park.push(*event),
                    Placed::Nothing => {}
                },
                webhook::Event::Other(other) => {
                    others += 1;
                    kept.push(kept::other(&came.account, *other, came.at));
                }
                webhook::Event::Bad(entry) => {
                    if bad < kept::BAD_KEPT_MAX {
                        kept.push(kept::bad(&came.account, &entry, came.at));
                    }
                    bad += 1 + u64::from(entry.more);
                }
            }
        }
        if !entries.is_empty() {
            let traced = self.traced(&entries);
            let committing = self.context.clock.mono();
            let Replied { results, misfits } = self.commit(entries, consequences).await?;
            if results.contains(&EntryResult::Elsewhere) {
                return Err(SinkError::Elsewhere);
            }
            if !traced.is_empty() {
                self.trace(traced, &results, came.at, self.context.clock.mono().since(committing));
            }
            let applied = results.iter().filter(|r| **r == EntryResult::Applied).count();
            self.metrics.applied.increment(applied as u64);
            self.metrics.duplicate.increment((results.len() - applied - misfits.len()) as u64);
            // The id is ours, the message or the attempt is not there, or not the account's: somebody has to see it.
            park.extend(misfits.into_iter().filter_map(|(place, Entry { key, event })| {
                let attempt = event.attempt().map(|attempt| (key, attempt));
                self.parked_event(&came, &names[place], attempt, event).map(|event| *event)
            }));
        }
        self.park(park).await?;
        self.keep(kept).await?;
        // Not before: what is refused comes again, and would be counted again.
        self.metrics.other.increment(others);
        self.metrics.bad.increment(bad);
        Ok(())
    }

    async fn set_aside(&self, account: &Arc<str>, events: Vec<StatusEvent>) -> Result<(), SinkError> {
        let Ok(account) = AccountId::new(account) else { return Ok(()) };
        let lines = self.context.lines_of_account(&account);
        let came = Came { account, lines, at: self.context.clock.wall() };
        let ours: Vec<ParkedEvent> = events.into_iter().filter_map(|status| self.to_set_aside(&came, status)).collect();
        // They are provably ours, and the provider comes again: better than to count them as lost.
        if ours.len() as u64 > self.room_to_park() {
            return Err(SinkError::Busy);
        }
        self.park(ours).await
    }
}
