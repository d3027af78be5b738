//! A running campaign: one actor that owns its bucket and its window of messages, asks its lines for permits, and hands out.

mod actor;
mod asks;
mod counted;
mod hand_out;
pub(crate) mod registry;
pub(crate) mod shared;

use ractor::{ActorRef, RpcReplyPort};

pub(crate) use actor::{CampaignActor, CampaignArgs};

use crate::control::Binding;
use crate::domain::time::UnixMillis;
use crate::line::permits::Permits;
use crate::store::{StoreResult, ToSend, Window};

/// A campaign's actor.
pub(crate) type CampaignRef = ActorRef<CampaignMsg>;

/// What a campaign is told. Each message carries a batch.
pub(crate) enum CampaignMsg {
    /// The record changed, or its lines did.
    Changed(Option<RpcReplyPort<()>>),
    /// A line grants permits.
    Granted(Permits),
    /// What binds a line that the campaign wants to use.
    LineBinds(Binding),
    /// A page of never-tried messages was read, for a state of reading (epoch) that may be over.
    WindowRead(u64, StoreResult<Window>),
    /// Likewise messages that are due again, and when the next one is due.
    DueRead(u64, StoreResult<(Vec<ToSend>, Option<UnixMillis>)>),
    /// Look again: a slot is free, something is due, time has passed.
    Wake,
    /// The re-armed tick of the bucket.
    Tick,
    /// The ledger says that nothing is left to send (or what is).
    Checked(StoreResult<Option<UnixMillis>>),
    /// Intents of these due messages were committed or refused: they may be read again.
    Handed(Vec<u32>),
}
