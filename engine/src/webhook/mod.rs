//! Inbound: what the providers tell us.
//!
//! `bytes + headers -> verified -> Vec<Event>`. Everything in this folder is pure: no socket, no clock, no ledger. The `api`
//! crate owns the listener and hands each POST to a [`meta::Receiver`] or a [`twilio::Receiver`]; what comes out goes to a
//! [`WebhookSink`], which makes it durable before the provider gets its 200.
//!
//! Two promises hold here and are tested here:
//! - nothing is parsed before its signature over the raw bytes was right;
//! - one bad entry never loses its neighbours: it becomes an [`Event::Bad`], the others stay what they are.

mod collector;
pub mod event;
mod json;
pub mod meta;
mod signature;
pub mod twilio;

use std::sync::Arc;

use async_trait::async_trait;

pub use event::{
    BadEntry, CorrelationText, Event, Failure, LineIdentity, OtherEvent, OtherKind, Reported, StatusEvent,
};
pub use signature::SignatureError;

/// Where verified events go: the engine's side of a webhook POST.
///
/// The contract is the first invariant, ledger first: `Ok` means *durable*. The caller answers 200 on `Ok` and 503 on any error, after
/// which the provider sends the same batch again, whole; so an implementation need not undo a part that it already applied.
///
/// The call must end by itself within the store's own deadline. Callers put no timer around it, because one timer for each POST
/// would be paid on the hottest path of the system; they bound the number of calls under way instead.
#[async_trait]
pub trait WebhookSink: Send + Sync + 'static {
    /// Applies `events`, all received in one POST of the verified `account`, and returns once the effect is durable.
    ///
    /// `account` is shared so that an implementation can keep it for the price of a reference count.
    ///
    /// # Errors
    /// [`SinkError::Busy`] when the events were refused before any work (the provider should come again);
    /// [`SinkError::StoreDown`] when the ledger cannot take them now.
    /// [`SinkError::Elsewhere`] when some are of a campaign that is another node's by now (the others may be applied).
    async fn accept(&self, account: &Arc<str>, events: Vec<Event>) -> Result<(), SinkError>;

    /// Sets statuses of our own campaigns aside, durably, while no node owns the campaign or the owner cannot be reached: whoever owns
    /// it next applies them. They may have been applied already.
    ///
    /// # Errors
    /// [`SinkError::Busy`] when as much waits as may; [`SinkError::StoreDown`] as above.
    async fn set_aside(&self, account: &Arc<str>, events: Vec<StatusEvent>) -> Result<(), SinkError>;
}

/// Why a sink did not make a batch durable. All are answered 503; they are apart because somebody does different things about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// More is under way than the engine admits at once.
    #[error("the engine has no room for more webhook events now")]
    Busy,
    /// The ledger refuses writes (disk full, failed fsync, lost database) or did not answer in time.
    #[error("the ledger cannot take webhook events now")]
    StoreDown,
    /// Another node owns the campaign of some event, now or since a moment: look again whom to ask. Others of the batch may have been
    /// applied; all of them may be offered again.
    #[error("a webhook event belongs to another node")]
    Elsewhere,
}
