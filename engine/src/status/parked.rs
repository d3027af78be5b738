//! Events that found no message yet: parked with a deadline, looked for again, and in the end kept for people as orphans.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::consequence::Consequence;
use super::sink::{Came, Placed, Sink};
use crate::domain::ids::{AccountId, CampaignKey, LineKey, MessageKey};
use crate::domain::message::{Event, Reported};
use crate::domain::time::UnixMillis;
use crate::line::gate::LineShared;
use crate::nodes::Whereabouts;
use crate::store::{Entry, EntryResult, ParkedEvent, ParkedMove, StoreError};
use crate::webhook::{LineIdentity, SinkError, StatusEvent};

/// When a parked event is looked at again, after it came: soon, since the webhook may only have outrun our own write; then
/// rarely, since each look scans.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(20), Duration::from_secs(120), Duration::from_secs(600)];
/// A node that does not give events up comes by so often, until they are given up by another.
const LAST_LOOKS: Duration = Duration::from_secs(5);
/// Parked events looked at in one go.
const LOOK_AT_ONCE: usize = 10_000;
/// The part of the places (one in so many) that strangers leave to events whose correlation id is ours.
const KEPT_FOR_OURS: u64 = 4;

impl Sink {
    /// An event to park; `None`: it reports no stage, so that there is nothing to wait for. `attempt`: what a correlation id of ours
    /// names.
    pub(super) fn parked_event(
        &self,
        came: &Came,
        named: &LineIdentity,
        attempt: Option<(MessageKey, u16)>,
        event: Event,
    ) -> Option<Box<ParkedEvent>> {
        if !matches!(event, Event::Report { .. }) {
            return None;
        }
        Some(Box::new(self.kept(came, named, attempt, event)))
    }

    /// A status of ours that nobody can apply now. Unlike an event that nobody can place, it is kept also where it only proves that an
    /// attempt in doubt was taken.
    pub(super) fn to_set_aside(&self, came: &Came, status: StatusEvent) -> Option<ParkedEvent> {
        match self.place(came, status) {
            Placed::Entry(Entry { key, event }, named, _) => {
                let attempt = event.attempt().map(|attempt| (key, attempt));
                Some(self.kept(came, &named, attempt, event))
            }
            Placed::Park(event) => Some(*event),
            Placed::Nothing => None,
        }
    }

    /// Events that there is room for, as last counted.
    pub(super) fn room_to_park(&self) -> u64 {
        self.context.config.parked_max.saturating_sub(self.parked.load(Ordering::Relaxed))
    }

    fn kept(&self, came: &Came, named: &LineIdentity, attempt: Option<(MessageKey, u16)>, event: Event) -> ParkedEvent {
        let provider_id = match &event {
            Event::Report { provider_id, .. } => provider_id.clone().unwrap_or_default(),
            Event::Echoed { provider_id, .. } => provider_id.clone(),
            _ => Box::default(),
        };
        // The line's own name where it is one of ours: a messaging service's events name the number that it chose, too.
        let sender = match self.line_named(&came.lines, named) {
            Some(line) => Some(line.record().sender.text().into()),
            None => named.sender.as_deref().or(named.service.as_deref()).map(Into::into),
        };
        ParkedEvent {
            id: 0,
            account: came.account.clone(),
            sender,
            provider_id,
            attempt,
            event,
            at: came.at,
            look_at: came.at.after(LOOKS[0]),
            deadline: came.at.after(self.context.config.park_for),
        }
    }

    /// The line that an event names, among those of its account.
    pub(super) fn line_named(&self, lines: &[LineKey], named: &LineIdentity) -> Option<Arc<LineShared>> {
        let sender = named.sender.as_deref().map(|sender| sender.trim_start_matches("whatsapp:"));
        let service = named.service.as_deref();
        let is_it = |line: &Arc<LineShared>| {
            let record = line.record();
            let own = Some(record.sender.text());
            own == sender || own == service
        };
        lines.iter().filter_map(|key| self.context.line(*key)).map(|entry| entry.shared).find(is_it)
    }

    /// Parks what there is room for. The overflow is answered and counted, never stored: memory and disk stay bounded. What is
    /// provably ours has room when strangers have none left.
    pub(super) async fn park(&self, events: Vec<ParkedEvent>) -> Result<(), SinkError> {
        if events.is_empty() {
            return Ok(());
        }
        let (count, most) = (events.len(), self.context.config.parked_max);
        let room = self.room_to_park();
        let (mut taken, mut strangers): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.attempt.is_some());
        taken.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        let room = room.saturating_sub(most / KEPT_FOR_OURS).saturating_sub(taken.len() as u64);
        strangers.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        taken.extend(strangers);
        self.metrics.dropped.increment((count - taken.len()) as u64);
        if taken.is_empty() {
            return Ok(());
        }
        match self.context.store.park(taken).await {
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

    /// Looks at parked events again. To be called about once a second.
    pub(crate) async fn look_at_parked(&self) {
        if let Ok(counts) = self.context.store.parked_counts(self.context.clock.wall()).await {
            self.parked.store(counts.parked, Ordering::Relaxed);
            metrics::gauge!(crate::metrics::PARKED).set(counts.parked as f64);
            metrics::gauge!(crate::metrics::PARKED_AGE).set(counts.oldest.as_secs_f64());
            metrics::gauge!(crate::metrics::ORPHANS).set(counts.orphans as f64);
            if counts.parked > 0
                && let Err(error) = self.look().await
            {
                tracing::warn!(%error, "parked events could not be looked at");
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let now = self.context.clock.wall();
        let mut by_account: HashMap<AccountId, Vec<ParkedEvent>> = HashMap::new();
        let (mut owners, mut not_mine) = (HashMap::new(), Vec::new());
        for event in self.context.store.parked(now, LOOK_AT_ONCE).await? {
            if event.deadline > now && !self.is_mine(&event, &mut owners).await {
                not_mine.push((event.id, ParkedMove::LookAgain(now.after(LOOKS[0]))));
            } else {
                by_account.entry(event.account.clone()).or_default().push(event);
            }
        }
        if !not_mine.is_empty() {
            self.context.store.settle_parked(not_mine).await?;
        }
        for (account, events) in by_account {
            self.look_for(&self.context.lines_of_account(&account), events, now).await?;
        }
        Ok(())
    }

    /// Whether this engine may place an event: it names no message of ours, or one of a campaign that is here. What is another's is
    /// looked at again soon and at no cost: it may have been set aside because nobody had the campaign, and come here with it.
    async fn is_mine(&self, event: &ParkedEvent, owners: &mut HashMap<CampaignKey, bool>) -> bool {
        let Some((MessageKey { campaign, .. }, _)) = event.attempt else { return true };
        if let Some(known) = owners.get(&campaign) {
            return *known;
        }
        let found = self.context.pools.of_campaign_key(campaign).await;
        let mine = !matches!(found, Ok(Whereabouts::There(_) | Whereabouts::Nobody));
        owners.insert(campaign, mine);
        mine
    }

    /// Looks for the messages of one account's events: first where the correlation id points to, which costs nothing; what does not fit there,
    /// or has none, all at once by the provider's ids.
    async fn look_for(
        &self,
        lines: &Arc<[LineKey]>,
        events: Vec<ParkedEvent>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (mut pointed, mut left) = (Vec::new(), Vec::new());
        for event in events {
            match event.attempt {
                Some(attempt) => pointed.push((event, attempt)),
                None => left.push(event),
            }
        }
        left.extend(self.put(lines, pointed, now).await?);
        if left.is_empty() {
            return Ok(());
        }
        let ids: Vec<Box<str>> = left.iter().map(|event| event.provider_id.clone()).collect();
        let found = self.context.store.find_provider_ids(lines, &ids).await?;
        let found: HashMap<Box<str>, (MessageKey, u16)> =
            found.into_iter().map(|(id, key, attempt)| (id, (key, attempt))).collect();
        let (mut places, mut lost) = (Vec::new(), Vec::new());
        for event in left {
            match found.get(&event.provider_id).copied() {
                Some(attempt) => places.push((event, attempt)),
                None => lost.push(event),
            }
        }
        lost.extend(self.put(lines, places, now).await?);
        let moves = lost.iter().map(|event| (event.id, self.next_move(event, now))).collect();
        self.context.store.settle_parked(moves).await
    }

    /// Applies events to these attempts, and gives back those that do not fit.
    async fn put(
        &self,
        lines: &Arc<[LineKey]>,
        places: Vec<(ParkedEvent, (MessageKey, u16))>,
        now: UnixMillis,
    ) -> Result<Vec<ParkedEvent>, StoreError> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let entry = |(event, (key, attempt)): &(ParkedEvent, (MessageKey, u16))| Entry {
            key: *key,
            event: of_attempt(event.event.clone(), *attempt, lines),
        };
        let results = self.context.ledger.commit(places.iter().map(entry).collect()).await?;
        let (mut moves, mut consequences, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for ((event, attempt), result) in places.into_iter().zip(results) {
            match result {
                EntryResult::Applied => {
                    moves.push((event.id, ParkedMove::Placed));
                    consequences.extend(self.consequence_of(&event, lines, attempt));
                }
                EntryResult::NoChange => moves.push((event.id, ParkedMove::Placed)),
                // It went just now.
                EntryResult::Elsewhere => moves.push((event.id, ParkedMove::LookAgain(now.after(LOOKS[0])))),
                EntryResult::Refused | EntryResult::Unknown => left.push(event),
            }
        }
        self.context.store.settle_parked(moves).await?;
        for consequence in consequences {
            consequence.follow(&self.context).await;
        }
        Ok(left)
    }

    /// What becomes of an event whose message is not there. Where several nodes look for it, one of them gives it up, after the others
    /// have looked a last time.
    fn next_move(&self, parked: &ParkedEvent, now: UnixMillis) -> ParkedMove {
        match move_of(parked, now) {
            ParkedMove::Orphaned if !self.context.pools.settles_orphans() => {
                ParkedMove::LookAgain(now.after(LAST_LOOKS))
            }
            fate => fate,
        }
    }

    fn consequence_of(
        &self,
        parked: &ParkedEvent,
        lines: &[LineKey],
        attempt: (MessageKey, u16),
    ) -> Option<Consequence> {
        let Event::Report { what: Reported::Failed, failure, provider_at, .. } = &parked.event else { return None };
        let named = LineIdentity { sender: parked.sender.as_deref().map(Into::into), service: None };
        let line = self.line_named(lines, &named)?;
        // Zero stands for "none said".
        let code = failure.as_ref().map(|failure| failure.code).filter(|code| *code > 0);
        Consequence::of(&line, code, attempt, *provider_at)
    }
}

/// What becomes of an event whose message is not there.
fn move_of(parked: &ParkedEvent, now: UnixMillis) -> ParkedMove {
    if parked.deadline <= now {
        return ParkedMove::Orphaned;
    }
    let age = now.since(parked.at);
    let next = LOOKS.iter().find(|look| **look > age).map_or(parked.deadline, |look| parked.at.after(*look));
    ParkedMove::LookAgain(next.min(parked.deadline).max(UnixMillis(now.0 + 1_000)))
}

/// The same event, for the attempt that it turned out to be about.
fn of_attempt(event: Event, attempt: u16, lines: &Arc<[LineKey]>) -> Event {
    match event {
        Event::Report { at, what, provider_at, provider_id, failure, .. } => {
            Event::Report { attempt, lines: Arc::clone(lines), at, what, provider_at, provider_id, failure }
        }
        Event::Echoed { at, provider_id, .. } => Event::Echoed { attempt, lines: Arc::clone(lines), at, provider_id },
        other => other,
    }
}
