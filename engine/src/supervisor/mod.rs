//! The supervisor: one per engine, the parent of line, campaign and status actors alike. It starts them, starts them anew
//! after a panic, and does what concerns more than one of them: schedules, holds, waits in doubt, settling.

mod actor;
mod context;
mod duties;
mod handle;
mod holds;
mod pools;
mod recovery;

use ractor::RpcReplyPort;

pub(crate) use actor::SupervisorActor;
pub(crate) use context::{Context, Plans};
#[cfg(test)]
pub(crate) use duties::move_in_time;
pub(crate) use duties::refresh_tally;
pub(crate) use handle::Handle;
#[cfg(test)]
pub(crate) use holds::release_line;
pub(crate) use pools::{Departure, arrive, drop_everything, follow_lines, weights};
pub(crate) use recovery::{heal_settled, recover};

use crate::domain::ids::{CampaignKey, LineKey};
use crate::provider::Act;

/// What the supervisor is told.
pub(crate) enum SupervisorMsg {
    /// The campaign's record was written and stands in the registry: its actor follows.
    CampaignChanged(CampaignKey, Option<RpcReplyPort<()>>),
    /// The campaign is gone, or settled.
    CampaignGone(CampaignKey),
    /// A line's record was written and taken over, or the line is new: its actor follows.
    LineChanged(LineKey, Option<RpcReplyPort<()>>),
    /// A sender of the line panicked, and why. The line has started it anew.
    SenderPanicked(LineKey, String),
    /// The campaign's actor found nothing left to send.
    Dispatched(CampaignKey),
    /// The same request error too many times in a row, and which.
    ErrorRun(CampaignKey, String),
    /// An outcome concerns more than its message.
    Act {
        /// What to do.
        act: Act,
        /// The line it came by.
        line: Option<LineKey>,
        /// The campaign it was for.
        campaign: Option<CampaignKey>,
        /// Why, for people.
        reason: String,
    },
    /// Publish what moved.
    Publish,
    /// Once a second: schedules, waits, holds that end.
    Second,
}
