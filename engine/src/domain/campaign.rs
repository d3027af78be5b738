//! A campaign's record and its lifecycle: which move is allowed in which state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::{CampaignId, CampaignKey, PoolId, TemplateId, TenantId};
use super::stage::End;
use super::time::UnixMillis;

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CampaignState {
    /// Being prepared: recipients may be imported.
    Draft,
    /// Sealed; starts by itself at `start_at`.
    Scheduled,
    /// Messages leave.
    Running,
    /// Stopped by somebody; messages stay pending.
    Paused,
    /// Stopped by the system, with a reason; messages stay pending.
    Held,
    /// No message can leave any more.
    Completed,
    /// Stopped for good by somebody; unsent messages are cancelled.
    Cancelled,
    /// It could not be run at all.
    Failed,
}

impl CampaignState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Draft,
        Self::Scheduled,
        Self::Running,
        Self::Paused,
        Self::Held,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
    ];

    /// The name used in answers, metrics and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// Whether it is over (statuses still apply; "send again" reopens).
    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }

    /// Whether an actor works for it: messages leave or may leave without anybody's asking.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Running)
    }
}

/// What somebody, or the system, asks of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Seal the list and begin (or wait for `start_at`).
    Start,
    /// `start_at` came.
    Begin,
    /// Stop; keep the messages pending.
    Pause,
    /// Go on.
    Resume,
    /// Stop for good.
    Cancel,
    /// The system stops it, with a reason.
    Hold,
    /// No message can leave any more.
    Complete,
    /// "Send again" on an ended campaign.
    Reopen,
    /// Remove it.
    Delete,
}

impl Move {
    /// The name used in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Begin => "begin",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
            Self::Hold => "hold",
            Self::Complete => "complete",
            Self::Reopen => "reopen",
            Self::Delete => "delete",
        }
    }
}

/// A move that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} a campaign that is {}; allowed now: {}", .asked.name(), .state.name(), list(allowed))]
pub struct IllegalMove {
    /// The state the campaign is in.
    pub state: CampaignState,
    /// What was asked.
    pub asked: Move,
    /// What a person may ask in this state.
    pub allowed: Vec<Move>,
}

fn list(moves: &[Move]) -> String {
    if moves.is_empty() {
        return "nothing".to_owned();
    }
    moves.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ")
}

/// The moves that a person may ask for, in the order in which they are listed.
pub const ASKABLE: [Move; 5] = [Move::Start, Move::Pause, Move::Resume, Move::Cancel, Move::Delete];

/// The state after a move, or why it is not allowed. `scheduled`: `start_at` lies ahead.
///
/// Asking for what already is (pausing a paused campaign) is allowed and changes nothing, so that every call is safe to repeat.
pub fn next_state(state: CampaignState, asked: Move, scheduled: bool) -> Result<CampaignState, IllegalMove> {
    move_to(state, asked, scheduled).ok_or_else(|| IllegalMove {
        state,
        asked,
        allowed: ASKABLE
            .into_iter()
            .filter(|m| move_to(state, *m, scheduled).is_some_and(|to| to != state || *m == Move::Delete))
            .collect(),
    })
}

fn move_to(state: CampaignState, asked: Move, scheduled: bool) -> Option<CampaignState> {
    use CampaignState as S;
    Some(match (asked, state) {
        (Move::Start, S::Draft) | (Move::Resume, S::Paused | S::Held) => {
            if scheduled {
                S::Scheduled
            } else {
                S::Running
            }
        }
        (Move::Start, S::Scheduled | S::Running) | (Move::Resume, S::Running | S::Scheduled) => state,
        (Move::Begin, S::Scheduled) => S::Running,
        (Move::Pause, S::Running | S::Scheduled | S::Held | S::Paused) => S::Paused,
        (Move::Cancel, S::Draft | S::Scheduled | S::Running | S::Paused | S::Held | S::Cancelled) => S::Cancelled,
        (Move::Hold, S::Running | S::Scheduled) => S::Held,
        (Move::Complete, S::Running) => S::Completed,
        (Move::Reopen, S::Completed | S::Cancelled | S::Running) => S::Running,
        (Move::Reopen, S::Paused | S::Held) => state,
        (Move::Delete, S::Draft | S::Completed | S::Cancelled | S::Failed) => state,
        _ => return None,
    })
}

/// A rate in messages (SMS: parts) per second or per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: RateUnit,
    /// The most that may leave at once after a quiet time; `None`: two refills of the bucket.
    pub burst: Option<u32>,
}

/// The span that a rate counts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    /// Per second.
    Second,
    /// Per minute.
    Minute,
}

impl RateUnit {
    /// The span.
    pub fn span(self) -> Duration {
        match self {
            Self::Second => Duration::from_secs(1),
            Self::Minute => Duration::from_secs(60),
        }
    }
}

/// What happens to an attempt in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryPolicy {
    /// Wait for the echoed correlation id, then stand as unconfirmed. The default.
    AtMostOnce {
        /// How long to wait, milliseconds.
        echo_wait_ms: u64,
    },
    /// Wait a short grace, then send a new attempt.
    AtLeastOnce {
        /// How long to wait, milliseconds.
        grace_ms: u64,
    },
}

impl DeliveryPolicy {
    /// Whether an attempt in doubt is sent again without asking.
    pub fn resends(self) -> bool {
        matches!(self, Self::AtLeastOnce { .. })
    }

    /// How long an attempt in doubt waits for its echo.
    pub fn wait(self) -> Duration {
        let (Self::AtMostOnce { echo_wait_ms: ms } | Self::AtLeastOnce { grace_ms: ms }) = self;
        Duration::from_millis(ms)
    }
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        Self::AtMostOnce { echo_wait_ms: 15 * 60 * 1_000 }
    }
}

/// What may be changed while the campaign runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The campaign's own limit, a mean; `None`: only the lines' ceilings bind.
    pub rate: Option<Rate>,
    /// Most messages in flight at once.
    pub workers: u32,
    /// In doubt: wait or send again.
    pub policy: DeliveryPolicy,
    /// Most failures that the retry policy counts before the message fails.
    pub retries_max: u8,
    /// Country (ISO 3166 alpha-2) whose national phone formats are read at import; `None`: E.164 only.
    pub region: Option<String>,
    /// Begin no earlier.
    pub start_at: Option<UnixMillis>,
    /// What is unsent then, expires.
    pub stop_at: Option<UnixMillis>,
    /// How long after dispatch the campaign settles at the latest, milliseconds.
    pub settle_window_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate: None,
            workers: 256,
            policy: DeliveryPolicy::default(),
            retries_max: 5,
            region: None,
            start_at: None,
            stop_at: None,
            settle_window_ms: 72 * 3_600 * 1_000,
        }
    }
}

/// The frozen list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Recipients that are messages now.
    pub recipients: u64,
    /// SHA-256 over the list in order of `seq` (address, external id, parameters), hex.
    pub digest: String,
    /// When.
    pub at: UnixMillis,
}

/// Why the system stopped a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// The provider refuses the template or its content.
    Template,
    /// The same request error many times in a row.
    RequestErrors,
    /// The campaign's actor panicked five times in a row.
    Panics,
    /// Something that the campaign needs is missing (pool without lines, account not configured).
    Setup,
    /// The ledger is a copy that was put back: what left after it was made is not known.
    Restored,
}

/// The system's hold and its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The kind, for programs.
    pub kind: HoldKind,
    /// The reason, for people.
    pub reason: String,
    /// Since when.
    pub at: UnixMillis,
    /// Lifts by itself then; `None`: by hand.
    pub until: Option<UnixMillis>,
}

/// The record of a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// Installation-wide number; assigned by the store.
    pub key: CampaignKey,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its public id.
    pub id: CampaignId,
    /// Rises with every write; the etag.
    pub version: u64,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// For filters.
    pub labels: BTreeMap<String, String>,
    /// Subject of the token that created it.
    pub created_by: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// Last write.
    pub updated_at: UnixMillis,
    /// Where it stands.
    pub state: CampaignState,
    /// With `Held`: why.
    pub hold: Option<Hold>,
    /// The lines it uses.
    pub pool: PoolId,
    /// The template it sends.
    pub template: TemplateId,
    /// The template's version when it was frozen.
    pub template_version: u64,
    /// The template as frozen (JSON of `domain::template::Template`): a later change of the template does not change it.
    pub template_definition: Arc<str>,
    /// What may be changed.
    pub settings: Settings,
    /// Recipients stored so far (sealed: for good).
    pub recipients: u64,
    /// Rows refused at import or at the seal.
    pub refused: u64,
    /// The next free `seq`.
    pub next_seq: u32,
    /// The frozen list, once sealed.
    pub sealed: Option<Sealed>,
    /// First time it ran.
    pub started_at: Option<UnixMillis>,
    /// When it was completed, cancelled or expired.
    pub ended_at: Option<UnixMillis>,
    /// When it settled.
    pub settled_at: Option<UnixMillis>,
    /// Why unsent messages will never leave; stays through a reopening.
    pub end: Option<End>,
}

impl Campaign {
    /// The record of a campaign that goes back to work because somebody decided to send again; one that runs or waits stays as it
    /// is.
    pub fn reopened(mut self, now: UnixMillis) -> Result<Self, IllegalMove> {
        let to = next_state(self.state, Move::Reopen, false)?;
        if to != self.state {
            self.state = to;
            (self.ended_at, self.settled_at) = (None, None);
            self.updated_at = now;
        }
        Ok(self)
    }

    /// The record as it stands in a ledger that was put back from a copy made at `copied_at`; `None`: it cannot send anything by itself.
    ///
    /// Whoever looked pending then may have been sent to since. Only people can know, so only people let it go on; also one that was
    /// paused, since it may have run again after the copy.
    #[must_use]
    pub fn restored(mut self, copied_at: UnixMillis, now: UnixMillis) -> Option<Self> {
        use CampaignState as S;
        if !matches!(self.state, S::Scheduled | S::Running | S::Paused | S::Held) {
            return None;
        }
        self.state = S::Held;
        self.hold = Some(Hold {
            kind: HoldKind::Restored,
            reason: format!(
                "the ledger was put back from a copy made at {copied_at}: what left after that is not known, and resuming may send it twice"
            ),
            at: now,
            until: None,
        });
        self.updated_at = now;
        Some(self)
    }

    /// Whether `stop_at` has come.
    pub fn is_past_stop(&self, now: UnixMillis) -> bool {
        self.settings.stop_at.is_some_and(|stop| stop <= now)
    }

    /// Whether `start_at` lies ahead of `now`.
    pub fn is_scheduled(&self, now: UnixMillis) -> bool {
        self.settings.start_at.is_some_and(|at| at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use CampaignState as S;

    #[test]
    fn the_lifecycle_has_exactly_these_moves() {
        let legal = |state, asked| next_state(state, asked, false).is_ok();
        for state in S::ALL {
            assert_eq!(legal(state, Move::Start), matches!(state, S::Draft | S::Scheduled | S::Running), "{state:?}");
            assert_eq!(legal(state, Move::Resume), matches!(state, S::Paused | S::Held | S::Running | S::Scheduled));
            assert_eq!(legal(state, Move::Cancel), !matches!(state, S::Completed | S::Failed));
            assert_eq!(legal(state, Move::Delete), state.is_ended() || state == S::Draft);
        }
        assert_eq!(next_state(S::Draft, Move::Start, true), Ok(S::Scheduled));
        assert_eq!(next_state(S::Paused, Move::Resume, true), Ok(S::Scheduled));
    }

    #[test]
    fn an_illegal_move_names_the_state_and_what_is_allowed() {
        let error = next_state(S::Completed, Move::Pause, false).unwrap_err();
        assert_eq!(error.to_string(), "cannot pause a campaign that is completed; allowed now: delete");
        let error = next_state(S::Draft, Move::Pause, false).unwrap_err();
        assert_eq!(error.to_string(), "cannot pause a campaign that is draft; allowed now: start, cancel, delete");
    }
}
