//! Events that other nodes send here.

use std::sync::Arc;

use futures_util::future::join_all;
use sluice_engine::webhook::{Event, SinkError, WebhookSink};
use sluice_proto::internal::v1;
use tonic::Status;

use super::convert;

/// Has this node's engine apply the batches, all at once: its own grouping makes them few commits.
pub(in crate::nodes) async fn apply(
    engine: &dyn WebhookSink,
    request: v1::ApplyEventsRequest,
) -> Result<v1::ApplyEventsResponse, Status> {
    let mut batches = Vec::with_capacity(request.batches.len());
    for v1::EventBatch { account_id, events } in request.batches {
        let events: Option<Vec<Event>> = events.into_iter().map(|e| convert::heard(e).map(Event::Status)).collect();
        // Refused rather than dropped: the asker sets them aside, and a node that understands them applies them.
        let events = events.ok_or_else(|| Status::invalid_argument("a stage that only a newer node knows"))?;
        batches.push((Arc::<str>::from(account_id), events));
    }
    let applied = batches.into_iter().map(async |(account, events)| match engine.accept(&account, events).await {
        Ok(()) => v1::EventVerdict::Durable,
        Err(SinkError::Elsewhere) => v1::EventVerdict::NotMine,
        Err(SinkError::Busy) => v1::EventVerdict::Busy,
        Err(SinkError::StoreDown) => v1::EventVerdict::StoreDown,
    });
    Ok(v1::ApplyEventsResponse { verdicts: join_all(applied).await.into_iter().map(Into::into).collect() })
}
