//! Webhook events on their way into the ledger: correlation id first, the provider's message id second, parked third.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::consequence::Consequence;
use crate::domain::ids::{AccountId, CampaignKey, LineKey, MessageKey};
use crate::domain::message::{Event, Failure, Reported};
use crate::domain::time::UnixMillis;
use crate::line::gate::LineShared;
use crate::metrics::EntryMetrics;
use crate::provider::{Class, classify_event};
use crate::store::{Entry, EntryResult, InboundEvent, ParkedEvent, ParkedMove, StoreError};
use crate::supervisor::Context;
use crate::webhook::{self, SinkError, StatusEvent, WebhookSink};

/// When a parked event is looked at again, after it came: soon, since the webhook may only have outrun our own write; then
/// rarely, since each look scans.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(20), Duration::from_secs(120), Duration::from_secs(600)];
/// Parked events looked at in one go.
const LOOK_AT_ONCE: usize = 10_000;
/// The answer to a webhook must come within this, or the provider is asked to come again.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// The engine's side of the webhooks.
pub(crate) struct Sink {
    context: Arc<Context>,
    metrics: EntryMetrics,
    /// Events parked, as last counted.
    parked: AtomicU64,
}

impl Sink {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, metrics: EntryMetrics::new(), parked: AtomicU64::new(0) }
    }

    /// Splits a status into an entry of ours and what follows when it is new, or an event to park.
    fn place(&self, account: &AccountId, lines: &Arc<[LineKey]>, status: StatusEvent, now: UnixMillis) -> Placed {
        let ours = status.correlation.as_ref().and_then(|text| self.context.correlation.decode(text.as_str()));
        let sender = status.line.sender.as_deref().or(status.line.service.as_deref()).map(Into::into);
        let provider_id = status.provider_id.clone();
        let (attempt, key) = match ours {
            Some((campaign, seq, attempt)) => (attempt, Some(MessageKey { campaign: CampaignKey(campaign), seq })),
            None => (0, None),
        };
        let failed = status.stage == webhook::Reported::Failed;
        let line = if failed { self.line_of(&status, lines) } else { None };
        let failure = failed.then(|| failure(&status, line.as_deref()));
        let code = status.failure.as_ref().and_then(|failure| failure.code);
        let consequence =
            line.zip(key).and_then(|(line, key)| Consequence::of(&line, code, (key, attempt), status.provider_at));
        let event = report(status, failure, attempt, lines, now);
        match key {
            // The provider's word that it has a message moves no stage, and names no line of the account that could be checked
            // against the attempt's: what follows it does both.
            _ if matches!(event, Event::Accepted { .. }) => Placed::Nothing,
            Some(key) => Placed::Entry(Entry { key, event }, consequence.map(Box::new)),
            None => Placed::Park(Box::new(self.parked_event(account, sender, provider_id, event, now))),
        }
    }

    fn parked_event(
        &self,
        account: &AccountId,
        sender: Option<Box<str>>,
        provider_id: Box<str>,
        event: Event,
        now: UnixMillis,
    ) -> ParkedEvent {
        ParkedEvent {
            id: 0,
            account: account.clone(),
            sender,
            provider_id,
            attempt: None,
            event,
            at: now,
            look_at: now.after(LOOKS[0]),
            deadline: now.after(self.context.config.park_for),
        }
    }

    /// The line that a status names, among those of its account.
    fn line_of(&self, status: &StatusEvent, lines: &[LineKey]) -> Option<Arc<LineShared>> {
        self.line_named(lines, status.line.sender.as_deref(), status.line.service.as_deref())
    }

    fn line_named(&self, lines: &[LineKey], sender: Option<&str>, service: Option<&str>) -> Option<Arc<LineShared>> {
        let sender = sender.map(|sender| sender.trim_start_matches("whatsapp:"));
        let named = |line: &Arc<LineShared>| {
            let record = line.record();
            let own = Some(record.sender.text());
            own == sender || own == service
        };
        lines.iter().filter_map(|key| self.context.line(*key)).map(|entry| entry.shared).find(named)
    }

    async fn commit(&self, entries: Vec<Entry>) -> Result<Vec<EntryResult>, SinkError> {
        match tokio::time::timeout(COMMIT_WITHIN, self.context.ledger.commit(entries)).await {
            Ok(Ok(results)) => Ok(results),
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => Err(SinkError::StoreDown),
            Ok(Err(error)) => {
                tracing::error!(%error, "webhook events could not be committed");
                Err(SinkError::StoreDown)
            }
        }
    }

    async fn park(&self, events: Vec<ParkedEvent>) -> Result<(), SinkError> {
        if events.is_empty() {
            return Ok(());
        }
        let room = self.context.config.parked_max.saturating_sub(self.parked.load(Ordering::Relaxed));
        let count = events.len() as u64;
        if room < count {
            // A stranger's overflow is answered and counted, never stored: memory and disk stay bounded.
            self.metrics.dropped.increment(count);
            return Ok(());
        }
        match self.context.store.park(events).await {
            Ok(fresh) => {
                self.parked.fetch_add(fresh as u64, Ordering::Relaxed);
                self.metrics.parked.increment(fresh as u64);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "events could not be parked");
                Err(SinkError::StoreDown)
            }
        }
    }

    async fn keep(
        &self,
        account: &AccountId,
        others: Vec<webhook::OtherEvent>,
        now: UnixMillis,
    ) -> Result<(), SinkError> {
        if others.is_empty() {
            return Ok(());
        }
        self.metrics.other.increment(others.len() as u64);
        let kept = others.into_iter().map(|other| InboundEvent {
            account: account.clone(),
            kind: other.kind.as_str().into(),
            provider_id: other.provider_id.unwrap_or_default(),
            body: other.raw,
            at: now,
        });
        self.context.store.keep_inbound(kept.collect()).await.map_err(|_| SinkError::StoreDown)
    }

    /// Looks at parked events again: by the provider's id, all at once. To be called about once a second.
    pub(crate) async fn look_at_parked(&self) {
        if let Ok(counts) = self.context.store.parked_counts(self.context.clock.wall()).await {
            self.parked.store(counts.parked, Ordering::Relaxed);
            metrics::gauge!(crate::metrics::PARKED).set(counts.parked as f64);
            if counts.parked > 0
                && let Err(error) = self.look().await
            {
                tracing::warn!(%error, "parked events could not be looked at");
            }
        }
    }

    fn consequence_of_parked(
        &self,
        event: &ParkedEvent,
        lines: &[LineKey],
        attempt: (MessageKey, u16),
    ) -> Option<Consequence> {
        let Event::Report { what: Reported::Failed, failure, provider_at, .. } = &event.event else { return None };
        let line = self.line_named(lines, event.sender.as_deref(), None)?;
        // Zero stands for "none said".
        let code = failure.as_ref().map(|failure| failure.code).filter(|code| *code > 0);
        Consequence::of(&line, code, attempt, *provider_at)
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = self.context.clock.wall();
        let events = self.context.store.parked(now, LOOK_AT_ONCE).await?;
        let mut by_account: HashMap<AccountId, Vec<ParkedEvent>> = HashMap::new();
        for event in events {
            by_account.entry(event.account.clone()).or_default().push(event);
        }
        for (account, events) in by_account {
            let lines = self.context.lines_of_account(&account);
            let ids: Vec<Box<str>> = events.iter().map(|e| e.provider_id.clone()).collect();
            let found = self.context.store.find_provider_ids(&lines, &ids).await?;
            let found: HashMap<Box<str>, (MessageKey, u16)> =
                found.into_iter().map(|(id, key, attempt)| (id, (key, attempt))).collect();
            let mut moves = Vec::with_capacity(events.len());
            let (mut entries, mut consequences) = (Vec::new(), Vec::new());
            for event in events {
                let next = match found.get(&event.provider_id) {
                    Some((key, attempt)) => {
                        consequences.push(self.consequence_of_parked(&event, &lines, (*key, *attempt)));
                        entries.push(Entry { key: *key, event: of_attempt(event.event, *attempt, &lines) });
                        ParkedMove::Placed
                    }
                    None if event.deadline <= now => ParkedMove::Orphaned,
                    None => {
                        let age = now.since(event.at);
                        let next =
                            LOOKS.iter().find(|look| **look > age).map_or(event.deadline, |look| event.at.after(*look));
                        ParkedMove::LookAgain(next.min(event.deadline).max(UnixMillis(now.0 + 1_000)))
                    }
                };
                moves.push((event.id, next));
            }
            let results = self.context.ledger.commit(entries).await?;
            self.context.store.settle_parked(moves).await?;
            for (result, consequence) in results.into_iter().zip(consequences) {
                if let Some(consequence) = consequence.filter(|_| result == EntryResult::Applied) {
                    consequence.follow(&self.context).await;
                }
            }
        }
        Ok(())
    }
}

enum Placed {
    Entry(Entry, Option<Box<Consequence>>),
    Park(Box<ParkedEvent>),
    Nothing,
}

/// A reported failure: its class and title by the provider's table, the rest in the provider's words.
fn failure(status: &StatusEvent, line: Option<&LineShared>) -> Box<Failure> {
    let said = status.failure.as_deref().cloned().unwrap_or_default();
    let verdict = line.map(|line| classify_event(line.record().kind, said.code));
    let known = verdict.as_ref().and_then(|v| v.title).unwrap_or_default();
    let class = verdict.map_or(Class::Recipient, |v| v.action.class);
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
        webhook::Reported::Accepted => return Event::Accepted { attempt, at, provider_id: status.provider_id },
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

/// The same event, for the attempt that it turned out to be about.
fn of_attempt(event: Event, attempt: u16, lines: &Arc<[LineKey]>) -> Event {
    match event {
        Event::Report { at, what, provider_at, provider_id, failure, .. } => {
            Event::Report { attempt, lines: Arc::clone(lines), at, what, provider_at, provider_id, failure }
        }
        Event::Accepted { at, provider_id, .. } => Event::Accepted { attempt, at, provider_id },
        other => other,
    }
}

#[async_trait]
impl WebhookSink for Sink {
    async fn accept(&self, account: &Arc<str>, events: Vec<webhook::Event>) -> Result<(), SinkError> {
        if self.context.ledger.waiting() + events.len() > self.context.config.waiting_entries_max {
            return Err(SinkError::Busy);
        }
        let now = self.context.clock.wall();
        let Ok(account_id) = AccountId::new(account) else { return Ok(()) };
        let lines = self.context.lines_of_account(&account_id);
        let (mut entries, mut park, mut others) = (Vec::with_capacity(events.len()), Vec::new(), Vec::new());
        let mut consequences = Vec::new();
        for event in events {
            match event {
                webhook::Event::Status(status) => match self.place(&account_id, &lines, status, now) {
                    Placed::Entry(entry, consequence) => {
                        consequences.extend(consequence.map(|consequence| (entries.len(), consequence)));
                        entries.push(entry);
                    }
                    Placed::Park(event) => park.push(*event),
                    Placed::Nothing => {}
                },
                webhook::Event::Other(other) => others.push(*other),
                webhook::Event::Bad(_) => self.metrics.bad.increment(1),
            }
        }
        if !entries.is_empty() {
            let results = self.commit(entries).await?;
            let applied = results.iter().filter(|r| **r == EntryResult::Applied).count() as u64;
            self.metrics.applied.increment(applied);
            self.metrics.duplicate.increment(results.len() as u64 - applied);
            for (place, consequence) in consequences {
                if results[place] == EntryResult::Applied {
                    consequence.follow(&self.context).await;
                }
            }
        }
        self.park(park).await?;
        self.keep(&account_id, others, now).await
    }
}
