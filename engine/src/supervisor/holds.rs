//! Holds: what concerns more than its message stops a campaign, a line, or every line of an account. What is stopped stops now; its
//! record follows, and says so to everybody else.

use std::sync::Arc;
use std::time::Duration;

use super::context::LineEntry;
use super::duties::write_move;
use super::{Context, SupervisorMsg};
use crate::domain::campaign::{Hold, HoldKind, Move};
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::line::{LineHold, LineHoldKind};
use crate::domain::time::UnixMillis;
use crate::provider::Act;
use crate::store::StoreError;

/// What an outcome means beyond its message.
pub(super) fn act(
    context: &Arc<Context>,
    act: Act,
    line: Option<LineKey>,
    campaign: Option<CampaignKey>,
    reason: String,
) {
    let until = |pause: Duration| Some(context.clock.wall().after(pause));
    let siblings = || -> Vec<LineKey> {
        let Some(of) = line.and_then(|key| context.line(key)) else { return Vec::new() };
        let account = of.shared.record().account.clone();
        let same = context.lines().into_iter().filter(|entry| entry.shared.record().account == account);
        same.map(|entry| entry.shared.key).collect()
    };
    match act {
        Act::SlowLine => {
            if let Some(entry) = line.and_then(|key| context.line(key)) {
                entry.shared.slow_down();
            }
        }
        Act::SlowAccount => {
            for entry in siblings().into_iter().filter_map(|key| context.line(key)) {
                entry.shared.slow_down();
            }
        }
        Act::HoldLine | Act::PauseLine(_) => {
            let pause = if let Act::PauseLine(pause) = act { until(pause) } else { None };
            if let Some(key) = line {
                hold_line(context, key, LineHoldKind::Line, reason, pause);
            }
        }
        Act::HoldAccount | Act::PauseAccount(_) => {
            let pause = if let Act::PauseAccount(pause) = act { until(pause) } else { None };
            for key in siblings() {
                hold_line(context, key, LineHoldKind::Account, reason.clone(), pause);
            }
        }
        Act::HoldCampaign | Act::PauseCampaign(_) => {
            let pause = if let Act::PauseCampaign(pause) = act { until(pause) } else { None };
            if let Some(key) = campaign {
                hold_campaign(context, key, HoldKind::Template, reason, pause);
            }
        }
    }
}

/// Holds a campaign: its gate shuts now, its record follows.
pub(super) fn hold_campaign(
    context: &Arc<Context>,
    key: CampaignKey,
    kind: HoldKind,
    reason: String,
    until: Option<UnixMillis>,
) {
    let Some(shared) = context.registry.get(key) else { return };
    shared.shut_for_hold();
    tracing::error!(campaign = %key, reason, "campaign held");
    let hold = Hold { kind, reason, at: context.clock.wall(), until };
    let (context, asked_at) = (Arc::clone(context), context.clock.mono());
    tokio::spawn(async move {
        // Its gate is shut and nobody else asks for it: it is written as soon as the ledger takes it.
        while !shared.was_resumed_since(asked_at)
            && let Err(error) = write_move(&context, key, Move::Hold, Some(hold.clone())).await
        {
            tracing::error!(campaign = %key, %error, "the campaign's hold could not be written");
            if !matches!(error, StoreError::Unavailable(_)) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        shared.forget_expected_hold();
        shared.wake();
    });
}

/// Holds a line: it stops now, its record follows.
pub(super) fn hold_line(
    context: &Arc<Context>,
    key: LineKey,
    kind: LineHoldKind,
    reason: String,
    until: Option<UnixMillis>,
) {
    let Some(entry) = context.line(key) else { return };
    entry.shared.hold_now();
    if covers(entry.shared.record().hold.as_ref(), until) {
        entry.shared.forget_expected_hold();
        return;
    }
    tracing::error!(line = %entry.shared.record().id, reason, "line held");
    let hold = LineHold { kind, reason, at: context.clock.wall(), until };
    let context = Arc::clone(context);
    tokio::spawn(async move { write_hold(&context, &entry, Some(hold)).await });
}

/// Whether a line is held for at least as long.
fn covers(held: Option<&LineHold>, until: Option<UnixMillis>) -> bool {
    held.is_some_and(|held| held.until.is_none() || until.is_some() && held.until >= until)
}

/// Lifts a hold whose end has come; one that somebody put there meanwhile stays. Asked again while it is under way, as long as the
/// ledger is away, it does nothing.
pub(crate) fn release_line(context: &Arc<Context>, key: LineKey) {
    let Some(entry) = context.line(key) else { return };
    if let Some(release) = entry.shared.begin_release() {
        let context = Arc::clone(context);
        tokio::spawn(async move {
            write_hold(&context, &entry, None).await;
            drop(release);
        });
    }
}

async fn write_hold(context: &Context, entry: &LineEntry, hold: Option<LineHold>) {
    let seen = entry.shared.record();
    loop {
        let written = async {
            let mut record = context.store.line(&seen.tenant, &seen.id).await?;
            // Everything in flight meets the same trouble: the first word stands, and a release since then stands too.
            let needless = |hold: &LineHold| covers(record.hold.as_ref(), hold.until);
            if hold.as_ref().is_some_and(needless) || hold.is_some() && record.released_at != seen.released_at {
                return Ok(record);
            }
            record.updated_at = context.clock.wall();
            let is_over = |hold: &LineHold| hold.until.is_some_and(|until| until <= record.updated_at);
            if hold.is_none() && !record.hold.as_ref().is_some_and(is_over) {
                return Ok(record);
            }
            if record.hold.is_some() && hold.is_none() {
                record.released_at = Some(record.updated_at);
            }
            record.hold.clone_from(&hold);
            context.store.update_line(record).await
        };
        match written.await {
            Ok(record) => {
                // Forgotten, if its pool went to another node meanwhile.
                let _ = context.take_line(record);
                break;
            }
            Err(StoreError::Version { .. }) => {}
            Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
            Err(error) => {
                tracing::error!(line = %seen.id, %error, "the line's hold could not be written");
                break;
            }
        }
    }
    if hold.is_some() {
        entry.shared.forget_expected_hold();
    }
    context.cast(SupervisorMsg::LineChanged(entry.shared.key, None));
}
