//! Statuses from webhooks on their way to the owner of their campaign.
//!
//! A provider calls whichever node it reaches. Signature and parsing are done there; which campaign a status is about stands in its
//! correlation id, and what is another node's goes there in batches (`outbox`). The provider is answered when all of it is durable:
//! at the owner, or, when none takes it within [`EventRouter::new`]'s wait, set aside in the ledger, from where the next owner applies
//! it. A status that arrives twice that way is a fact that is known already.

mod convert;
mod outbox;
mod server;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use metrics::Counter;
use parking_lot::Mutex;
use sluice_engine::domain::correlation::CorrelationKey;
use sluice_engine::domain::ids::CampaignKey;
use sluice_engine::nodes::{Peer, Whereabouts};
use sluice_engine::store::StoreError;
use sluice_engine::webhook::{Event, SinkError, StatusEvent, WebhookSink};
use tokio::time::Instant;

use super::Nodes;
use crate::metrics as names;
use outbox::{Outbox, Verdict};
pub(super) use server::apply;

/// Largest call with events that is read, bytes. A call holds up to 4 MiB and the events of one webhook more, whose body may have up to
/// 64 MiB and says more of each event than is sent on.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pauses before the directory is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// The sink of a node among others: its own events go to the engine, the others' to their owners.
pub struct EventRouter {
    /// This node's engine.
    engine: Arc<dyn WebhookSink>,
    nodes: Arc<Nodes>,
    correlation: CorrelationKey,
    /// Longest that an owner is looked for.
    wait: Duration,
    outboxes: Mutex<HashMap<String, (Peer, Outbox)>>,
    set_aside: Counter,
}

/// The events of one webhook by where they belong.
#[derive(Default)]
struct Parts {
    here: Vec<Event>,
    there: Vec<(Peer, Vec<StatusEvent>)>,
    nobody: Vec<StatusEvent>,
}

impl EventRouter {
    /// A router before `engine`. `secret`: the installation's, which seals correlation ids; `wait`: how long an owner is looked for
    /// before events are set aside.
    #[must_use]
    pub fn new(engine: Arc<dyn WebhookSink>, nodes: Arc<Nodes>, secret: [u8; 32], wait: Duration) -> Self {
        Self {
            engine,
            nodes,
            correlation: CorrelationKey::new(secret),
            wait,
            outboxes: Mutex::default(),
            set_aside: metrics::counter!(names::EVENTS_SET_ASIDE),
        }
    }

    /// Sorts events by owner. What no correlation id of ours names stays here: it is parked in the ledger, wherever it arrives.
    async fn sorted(&self, events: Vec<Event>) -> Result<Parts, SinkError> {
        // A webhook is about few campaigns, mostly one.
        let mut known: Vec<(CampaignKey, Whereabouts)> = Vec::new();
        let mut parts = Parts { here: Vec::with_capacity(events.len()), ..Parts::default() };
        for event in events {
            let named = match &event {
                Event::Status(StatusEvent { correlation: Some(text), .. }) => self.correlation.decode(text.as_str()),
                _ => None,
            };
            let (Some((campaign, _, _)), Event::Status(status)) = (named, &event) else {
                parts.here.push(event);
                continue;
            };
            let key = CampaignKey(campaign);
            let place = match known.iter().position(|(known, _)| *known == key) {
                Some(place) => place,
                None => {
                    known.push((key, self.owner_of(key).await?));
                    known.len() - 1
                }
            };
            match &known[place].1 {
                Whereabouts::Here => parts.here.push(event),
                Whereabouts::Nobody => parts.nobody.push(status.clone()),
                Whereabouts::There(peer) => match parts.there.iter_mut().find(|(other, _)| other == peer) {
                    Some((_, theirs)) => theirs.push(status.clone()),
                    None => parts.there.push((peer.clone(), vec![status.clone()])),
                },
            }
        }
        Ok(parts)
    }

    async fn owner_of(&self, key: CampaignKey) -> Result<Whereabouts, SinkError> {
        match self.nodes.directory.of_campaign_key(key).await {
            Ok(found) => Ok(found),
            Err(StoreError::Unavailable(_)) => Err(SinkError::StoreDown),
            // There is no such campaign (any more): the engine says what becomes of it.
            Err(_) => Ok(Whereabouts::Here),
        }
    }

    /// Brings every part where it belongs; gives back what nobody took.
    async fn bring(&self, account: &Arc<str>, parts: Parts, until: Instant) -> Result<Vec<StatusEvent>, SinkError> {
        let Parts { here, there, nobody: mut left } = parts;
        let own = self.own(account, here);
        let theirs = join_all(there.into_iter().map(|(peer, events)| self.send(peer, account, events, until)));
        let (own, theirs) = tokio::join!(own, theirs);
        left.extend(own?);
        for theirs in theirs {
            left.extend(theirs?);
        }
        Ok(left)
    }

    /// Has this node's engine apply its own; gives back what turned out to be another's.
    async fn own(&self, account: &Arc<str>, events: Vec<Event>) -> Result<Vec<StatusEvent>, SinkError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let again = events.clone();
        match self.engine.accept(account, events).await {
            Ok(()) => Ok(Vec::new()),
            Err(SinkError::Elsewhere) => {
                let (statuses, others): (Vec<_>, Vec<_>) =
                    again.into_iter().partition(|event| matches!(event, Event::Status(_)));
                // They stay here, and none of them is kept yet.
                if !others.is_empty() {
                    self.engine.accept(account, others).await?;
                }
                Ok(statuses.into_iter().filter_map(status).collect())
            }
            Err(error) => Err(error),
        }
    }

    /// Has another node apply its own; gives them back when it does not, or not in time.
    async fn send(
        &self,
        peer: Peer,
        account: &Arc<str>,
        events: Vec<StatusEvent>,
        until: Instant,
    ) -> Result<Vec<StatusEvent>, SinkError> {
        let outbox = self.outbox(&peer);
        let sent = outbox.send(account, &events);
        match tokio::time::timeout_at(until, sent).await.unwrap_or(Verdict::Lost) {
            Verdict::Durable => Ok(Vec::new()),
            Verdict::NotMine | Verdict::Lost => Ok(events),
            Verdict::Busy => Err(SinkError::Busy),
            Verdict::StoreDown => Err(SinkError::StoreDown),
        }
    }

    /// The outbox for a node; of a node that came back, a new one.
    fn outbox(&self, peer: &Peer) -> Outbox {
        let mut outboxes = self.outboxes.lock();
        if let Some((known, outbox)) = outboxes.get(&peer.name)
            && known == peer
        {
            return outbox.clone();
        }
        let alive = self.nodes.alive();
        outboxes.retain(|name, _| alive.iter().any(|node| node.name == *name));
        let outbox = Outbox::open(Arc::clone(&self.nodes), peer.clone());
        outboxes.insert(peer.name.clone(), (peer.clone(), outbox.clone()));
        outbox
    }
}

fn status(event: Event) -> Option<StatusEvent> {
    match event {
        Event::Status(status) => Some(status),
        Event::Other(_) | Event::Bad(_) => None,
    }
}

#[async_trait]
impl WebhookSink for EventRouter {
    async fn accept(&self, account: &Arc<str>, events: Vec<Event>) -> Result<(), SinkError> {
        let until = Instant::now() + self.wait;
        let mut parts = self.sorted(events).await?;
        let mut pause = PAUSES.0;
        loop {
            let left = self.bring(account, parts, until).await?;
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() + pause >= until {
                self.set_aside.increment(left.len() as u64);
                if self.nodes.peers.may_say(None) {
                    let events = left.len();
                    tracing::warn!(
                        account = &**account,
                        events,
                        "no node takes events of its campaigns: they are set aside"
                    );
                }
                return self.engine.set_aside(account, left).await;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
            parts = self.sorted(left.into_iter().map(Event::Status).collect()).await?;
        }
    }

    async fn set_aside(&self, account: &Arc<str>, events: Vec<StatusEvent>) -> Result<(), SinkError> {
        self.engine.set_aside(account, events).await
    }
}
