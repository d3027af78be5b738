//! What a failure that a provider reports means beyond its message: for the line it came by, or for the whole account.
//!
//! Acted on once, when the ledger took the report as new: providers repeat their webhooks for days, and an old one must not stop a
//! line that somebody has mended and released since.

use std::sync::Arc;

use crate::domain::ids::MessageKey;
use crate::domain::time::UnixMillis;
use crate::line::gate::LineShared;
use crate::provider::{Act, classify_event};
use crate::supervisor::{Context, SupervisorMsg};

/// What follows once the report is in the ledger.
pub(super) struct Consequence {
    line: Arc<LineShared>,
    act: Act,
    reason: String,
    message: MessageKey,
    attempt: u16,
    /// The provider's own time of the failure, Unix seconds.
    provider_at: Option<i64>,
}

impl Consequence {
    /// What the code means for the line; `None`: nothing. A late report of a template's fate does not stop a campaign that somebody
    /// has mended and resumed since.
    pub(super) fn of(
        line: &Arc<LineShared>,
        code: Option<u32>,
        (message, attempt): (MessageKey, u16),
        provider_at: Option<i64>,
    ) -> Option<Self> {
        let verdict = classify_event(line.record().kind, code);
        let act = verdict.effects.act.filter(|act| !matches!(act, Act::HoldCampaign | Act::PauseCampaign(_)))?;
        let reason =
            format!("{} (code {}, reported by webhook)", verdict.title.unwrap_or_default(), code.unwrap_or_default());
        Some(Self { line: Arc::clone(line), act, reason, message, attempt, provider_at })
    }

    /// Does it, unless the line was released since the failure.
    pub(super) async fn follow(self, context: &Context) {
        if let Some(released_at) = self.line.record().released_at
            && self.happened_before(context, released_at).await
        {
            tracing::info!(line = %self.line.record().id, reason = self.reason, "a failure from before the line's release: nothing follows");
            return;
        }
        let campaign = Some(self.message.campaign);
        context.cast(SupervisorMsg::Act { act: self.act, line: Some(self.line.key), campaign, reason: self.reason });
    }

    /// By the provider's time; where it gives none, by the time at which the attempt was made, which is as far as anybody can tell.
    async fn happened_before(&self, context: &Context, released_at: UnixMillis) -> bool {
        if let Some(seconds) = self.provider_at {
            // The provider's second is cut, not rounded.
            return seconds.saturating_mul(1_000).saturating_add(999) < released_at.0;
        }
        let Ok(message) = context.store.message(self.message).await else { return false };
        let mut attempts = message.state.newest.iter().chain(&message.state.older);
        attempts.find(|attempt| attempt.number == self.attempt).is_some_and(|attempt| attempt.intent_at < released_at)
    }
}
