//! What is on its way to one node: gathered while calls are under way, so that many webhooks share one call and a lone one does not
//! wait for company.

use std::sync::Arc;

use metrics::{Counter, Histogram};
use prost::Message as _;
use sluice_engine::nodes::Peer;
use sluice_engine::webhook::StatusEvent;
use sluice_proto::internal::v1;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::convert;
use crate::metrics as names;
use crate::nodes::Nodes;

/// Webhooks that wait for one node. Beyond it they wait where they came in, where the bounds of their account hold.
const PARCELS_MAX: usize = 1_024;
/// Calls to one node under way: enough that the network's time is not lost, few enough that they fill up.
const CALLS_MAX: usize = 4;
/// Most events in a call, beyond the first webhook's.
const EVENTS_MAX: usize = 4_096;
/// Most bytes in a call, beyond the first webhook's.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The call.
const APPLY_EVENTS: &str = "/sluice.internal.v1.NodeService/ApplyEvents";

/// What became of events that were sent to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Durable.
    Durable,
    /// They are not that node's.
    NotMine,
    /// Whether they were applied is not known.
    Lost,
    /// That node has no room.
    Busy,
    /// The ledger takes nothing.
    StoreDown,
}

/// The events of one webhook.
struct Parcel {
    batch: v1::EventBatch,
    told: oneshot::Sender<Verdict>,
}

/// The way of events to one node. Cheap to clone; its task ends with the last clone.
#[derive(Clone)]
pub(super) struct Outbox {
    parcels: mpsc::Sender<Parcel>,
    metrics: Arc<OutboxMetrics>,
}

struct OutboxMetrics {
    durable: Counter,
    not_mine: Counter,
    lost: Counter,
    busy: Counter,
    store_down: Counter,
    calls: Counter,
    duration: Histogram,
}

impl OutboxMetrics {
    fn new() -> Self {
        let events = |outcome: &'static str| metrics::counter!(names::FORWARDED_EVENTS, "outcome" => outcome);
        Self {
            durable: events("durable"),
            not_mine: events("not_mine"),
            lost: events("lost"),
            busy: events("busy"),
            store_down: events("store_down"),
            calls: metrics::counter!(names::FORWARDED_EVENT_CALLS),
            duration: metrics::histogram!(names::FORWARDED_EVENTS_DURATION),
        }
    }

    fn of(&self, verdict: Verdict) -> &Counter {
        match verdict {
            Verdict::Durable => &self.durable,
            Verdict::NotMine => &self.not_mine,
            Verdict::Lost => &self.lost,
            Verdict::Busy => &self.busy,
            Verdict::StoreDown => &self.store_down,
        }
    }
}

impl Outbox {
    /// A way to `peer`.
    pub(super) fn open(nodes: Arc<Nodes>, peer: Peer) -> Self {
        let (parcels, waiting) = mpsc::channel(PARCELS_MAX);
        let metrics = Arc::new(OutboxMetrics::new());
        tokio::spawn(send_all(nodes, peer, waiting, Arc::clone(&metrics)));
        Self { parcels, metrics }
    }

    /// Has the events applied. Whoever stops waiting has them applied perhaps.
    pub(super) async fn send(&self, account: &Arc<str>, events: &[StatusEvent]) -> Verdict {
        let began = Instant::now();
        let events: Vec<_> = events.iter().map(convert::told).collect();
        let count = events.len() as u64;
        let (told, verdict) = oneshot::channel();
        let parcel = Parcel { batch: v1::EventBatch { account_id: account.to_string(), events }, told };
        let verdict = match self.parcels.send(parcel).await {
            Ok(()) => verdict.await.unwrap_or(Verdict::Lost),
            Err(_) => Verdict::Lost,
        };
        self.metrics.of(verdict).increment(count);
        if verdict == Verdict::Durable {
            self.metrics.duration.record(began.elapsed());
        }
        verdict
    }
}

/// Sends what waits, in calls of as much as there is.
async fn send_all(nodes: Arc<Nodes>, peer: Peer, mut waiting: mpsc::Receiver<Parcel>, metrics: Arc<OutboxMetrics>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    while let Some(first) = waiting.recv().await {
        // What comes while all calls are under way goes with the next one.
        let Ok(place) = Arc::clone(&calls).acquire_owned().await else { return };
        let parcels = gathered(first, &mut waiting);
        if parcels.is_empty() {
            continue;
        }
        let (nodes, peer, metrics) = (Arc::clone(&nodes), peer.clone(), Arc::clone(&metrics));
        tokio::spawn(async move {
            metrics.calls.increment(1);
            send(&nodes, &peer, parcels).await;
            drop(place);
        });
    }
}

/// What goes with one call: `first`, and what waits behind it. What nobody waits for any more has been set aside and stays behind.
fn gathered(first: Parcel, waiting: &mut mpsc::Receiver<Parcel>) -> Vec<Parcel> {
    let (mut parcels, mut events, mut bytes) = (Vec::new(), 0, 0);
    let mut next = Some(first);
    while let Some(parcel) = next {
        if !parcel.told.is_closed() {
            events += parcel.batch.events.len();
            bytes += parcel.batch.encoded_len();
            parcels.push(parcel);
        }
        let is_full = events >= EVENTS_MAX || bytes >= BYTES_MAX;
        next = if is_full { None } else { waiting.try_recv().ok() };
    }
    parcels
}

async fn send(nodes: &Nodes, peer: &Peer, parcels: Vec<Parcel>) {
    let (batches, told): (Vec<_>, Vec<_>) = parcels.into_iter().map(|parcel| (parcel.batch, parcel.told)).unzip();
    let answer: Result<v1::ApplyEventsResponse, String> =
        nodes.ask_node(peer, APPLY_EVENTS, &v1::ApplyEventsRequest { batches }).await;
    let verdicts = match answer {
        Ok(answer) => answer.verdicts,
        Err(error) => {
            tracing::info!(
                peer = peer.name,
                webhooks = told.len(),
                error,
                "events did not reach their owner; looking again"
            );
            Vec::new()
        }
    };
    let verdicts = verdicts.into_iter().map(Some).chain(std::iter::repeat(None));
    for (told, verdict) in told.into_iter().zip(verdicts) {
        // Nobody waits any more: set aside.
        let _ = told.send(verdict.map_or(Verdict::Lost, convert::verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(events: usize) -> (Parcel, oneshot::Receiver<Verdict>) {
        let (told, verdict) = oneshot::channel();
        let batch = v1::EventBatch { account_id: "a".to_owned(), events: vec![v1::StatusEvent::default(); events] };
        (Parcel { batch, told }, verdict)
    }

    #[test]
    fn what_waits_goes_together_within_bounds_and_without_what_nobody_waits_for() {
        let (sender, mut waiting) = mpsc::channel(10);
        let mut verdicts = Vec::new();
        for events in [1, 2, EVENTS_MAX, 3] {
            let (parcel, verdict) = parcel(events);
            sender.try_send(parcel).ok().unwrap();
            verdicts.push(verdict);
        }
        let sizes = |parcels: &[Parcel]| parcels.iter().map(|p| p.batch.events.len()).collect::<Vec<_>>();
        drop(verdicts.remove(1));
        let (first, _waits) = parcel(7);
        assert_eq!(sizes(&gathered(first, &mut waiting)), [7, 1, EVENTS_MAX]);
        let (given_up, _) = parcel(9);
        assert_eq!(sizes(&gathered(given_up, &mut waiting)), [3]);
    }
}
