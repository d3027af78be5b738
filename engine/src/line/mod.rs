//! A line: one actor that deals out its ceiling among the campaigns that want to send, and is the parent of its senders.

mod actor;
pub(crate) mod gate;
#[cfg(test)]
mod outage_tests;
pub(crate) mod permits;

use ractor::ActorRef;

pub(crate) use actor::{LineActor, LineArgs};

use crate::campaign::CampaignRef;
use crate::domain::ids::CampaignKey;
use crate::sender::Item;

/// A line's actor.
pub(crate) type LineRef = ActorRef<LineMsg>;

/// What a line is told. Each message carries a batch.
pub(crate) enum LineMsg {
    /// A campaign wants so many permits in all from now on (0: none).
    Want {
        /// Who.
        campaign: CampaignKey,
        /// Where the grants go.
        actor: CampaignRef,
        /// How many.
        wanted: u32,
    },
    /// Messages with durable intents, to be sent.
    #[allow(clippy::vec_box)] // handed on one by one
    Dispatch(Vec<Box<Item>>),
    /// Deal again: time has passed, or something changed.
    Tick,
    /// The breaker stopped the line, it is held or released: what waits is looked at again.
    Stopped,
}
