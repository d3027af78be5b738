//! What the supervisor does for more than one actor. Everything that touches the ledger runs in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, SupervisorMsg, holds, recovery};
use crate::campaign::shared::CampaignShared;
use crate::domain::campaign::{Campaign, CampaignState, Hold, Move, next_state};
use crate::domain::ids::CampaignKey;
use crate::domain::message::Event;
use crate::domain::stage::{End, Shown};
use crate::domain::time::UnixMillis;
use crate::store::{Entry, StoreError, StoreResult};

/// Pause before an expiry that could not be written is written again.
const EXPIRY_PAUSE: Duration = Duration::from_millis(500);
/// In-doubt messages looked at in one go.
const DOUBTS_AT_ONCE: usize = 2_000;

/// Publishes what moved, and settles what is settled.
pub(super) fn publish(context: &Arc<Context>) {
    let now = context.clock.mono();
    for shared in context.registry.take_dirty() {
        shared.publish(now, false);
        settle_if_done(context, &shared);
    }
}

/// Once a second.
pub(super) fn second(context: &Arc<Context>) {
    let (now, mono) = (context.clock.wall(), context.clock.mono());
    for shared in context.registry.all() {
        shared.publish(mono, shared.record().state == CampaignState::Running);
        let record = shared.record();
        if due_move(&record, now).is_some() {
            move_in_time(context, shared.key);
        }
        if record.is_past_stop(now) && !record.state.is_ended() {
            expire(context, &shared);
        }
        if record.state.is_ended() && shared.tally().count(Shown::Pending) > 0 {
            reopen(context, shared.key);
        }
        if shared.tally().count(Shown::InDoubt) > 0 {
            look_at_doubts(context, &shared);
        }
        settle_if_done(context, &shared);
    }
    for entry in context.lines() {
        let held = entry.shared.record().hold.as_ref().and_then(|hold| hold.until);
        if held.is_some_and(|until| until <= now) {
            holds::release_line(context, entry.shared.key);
        }
    }
}

/// The move that time asks for.
fn due_move(record: &Campaign, now: UnixMillis) -> Option<Move> {
    match record.state {
        CampaignState::Scheduled if !record.is_scheduled(now) => Some(Move::Begin),
        CampaignState::Held if record.hold.as_ref().and_then(|h| h.until).is_some_and(|at| at <= now) => {
            Some(Move::Resume)
        }
        _ => None,
    }
}

/// Makes the move that time asks for, if it still does by what is written: somebody may have paused the campaign meanwhile, or moved
/// its start.
pub(crate) fn move_in_time(context: &Arc<Context>, key: CampaignKey) {
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let due = |record: &Campaign| due_move(record, context.clock.wall());
        if let Err(error) = write_move_of(&context, key, due, None).await {
            tracing::warn!(campaign = %key, %error, "a move of the system was not made; tried again when it is due again");
        }
    });
}

pub(super) async fn write_move(
    context: &Context,
    key: CampaignKey,
    asked: Move,
    hold: Option<Hold>,
) -> StoreResult<()> {
    write_move_of(context, key, |_: &Campaign| Some(asked), hold).await
}

/// Makes a move of the system, whatever writes come in between: `asked` says of each record which one. Illegal by then: somebody
/// decided otherwise, perhaps a former owner of the pool, of which nobody here was told: that is followed.
async fn write_move_of(
    context: &Context,
    key: CampaignKey,
    asked: impl Fn(&Campaign) -> Option<Move>,
    hold: Option<Hold>,
) -> StoreResult<()> {
    loop {
        let mut record = context.store.campaign_by_key(key).await?;
        let now = context.clock.wall();
        let next = asked(&record).and_then(|asked| next_state(record.state, asked, record.is_scheduled(now)).ok());
        let Some(state) = next.filter(|next| *next != record.state) else {
            take_over(context, record);
            return Ok(());
        };
        record.state = state;
        record.hold.clone_from(&hold);
        record.updated_at = now;
        if state == CampaignState::Running {
            record.started_at.get_or_insert(now);
            (record.ended_at, record.settled_at) = (None, None);
        }
        if state == CampaignState::Completed {
            record.ended_at.get_or_insert(now);
        }
        match context.store.update_campaign(record).await {
            Ok(record) => {
                take_over(context, record);
                return Ok(());
            }
            Err(StoreError::Version { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

fn take_over(context: &Context, record: Campaign) {
    let key = record.key;
    if let Some(shared) = context.registry.get(key) {
        let now = context.clock.mono();
        shared.set_record(record, now);
        shared.publish(now, true);
    }
    context.cast(SupervisorMsg::CampaignChanged(key, None));
}

/// The campaign's actor found nothing left; completed only if the tally agrees that nothing is pending.
pub(super) fn complete(context: &Arc<Context>, key: CampaignKey) {
    let context = Arc::clone(context);
    tokio::spawn(async move {
        let Some(shared) = context.registry.get(key) else { return };
        if let Err(error) = try_to_complete(&context, &shared).await {
            // Somebody is still to be messaged, or nobody knows: the actor looks again from the beginning.
            tracing::info!(campaign = %key, %error, "not complete yet");
            tokio::time::sleep(shared.look_again_after()).await;
            shared.start_over();
        }
    });
}

async fn try_to_complete(context: &Context, shared: &CampaignShared) -> StoreResult<()> {
    let key = shared.key;
    let tally = context.store.tally(key).await?.tally;
    if tally.open > 0 {
        recovery::doubt_abandoned(context, shared).await?;
        return Err(StoreError::Conflict("messages were in flight".to_owned()));
    }
    let resends = shared.record().settings.policy.resends();
    let doubts = if resends { tally.count(Shown::InDoubt) } else { 0 };
    if tally.count(Shown::Pending) + doubts > 0 {
        return Err(StoreError::Conflict("messages are pending".to_owned()));
    }
    write_move(context, key, Move::Complete, None).await?;
    // Somebody may have decided "send again" between the count and the write, and found the campaign running.
    recovery::reopen_if_waiting(context, key).await?;
    Ok(())
}

/// Messages are pending in a campaign that is over: somebody decided to send them again, and what should have put it back to work
/// did not come to its end.
fn reopen(context: &Arc<Context>, key: CampaignKey) {
    let context = Arc::clone(context);
    tokio::spawn(async move {
        if let Err(error) = recovery::reopen_if_waiting(&context, key).await {
            tracing::warn!(campaign = %key, %error, "could not be put back to work; trying again");
        }
    });
}

/// `stop_at` came: what is unsent expires. The gate stays shut until that is written, however long the ledger is away.
fn expire(context: &Arc<Context>, shared: &Arc<CampaignShared>) {
    let Some(expiry) = shared.begin_expiry() else { return };
    let (context, shared) = (Arc::clone(context), Arc::clone(shared));
    tokio::spawn(async move {
        while let Err(error) = write_expiry(&context, &shared).await {
            tracing::warn!(campaign = %shared.key, %error, "stop_at could not be written; trying again");
            // It was deleted, or is another node's to end; or the engine stops, and no gate opens any more.
            if matches!(error, StoreError::NotFound(_) | StoreError::Elsewhere(_)) || context.is_draining() {
                break;
            }
            tokio::time::sleep(EXPIRY_PAUSE).await;
        }
        drop(expiry);
    });
}

async fn write_expiry(context: &Context, shared: &CampaignShared) -> StoreResult<()> {
    let now = context.clock.wall();
    let mut record = context.store.campaign_by_key(shared.key).await?;
    if record.state.is_ended() || !record.is_past_stop(now) {
        // Somebody was faster: the gate follows what is written.
        take_over(context, record);
        return Ok(());
    }
    record.state = CampaignState::Completed;
    record.ended_at = Some(now);
    record.updated_at = now;
    let (record, _) = context.store.end_campaign(record, End::Expired).await?;
    refresh_tally(context, shared).await;
    take_over(context, record);
    Ok(())
}

/// Reads the tally anew after a step that no commit of a status actor made.
pub(crate) async fn refresh_tally(context: &Context, shared: &CampaignShared) {
    if let Ok(counts) = context.store.tally(shared.key).await {
        context.registry.set_tallies(&[(shared.key, counts.tally)], counts.revision, context.clock.wall());
    }
}

/// Waits in doubt that are over.
fn look_at_doubts(context: &Arc<Context>, shared: &Arc<CampaignShared>) {
    if let Some(sweep) = shared.begin_sweep() {
        let (context, shared) = (Arc::clone(context), Arc::clone(shared));
        tokio::spawn(async move {
            let at = context.clock.wall();
            let settings = shared.record().settings.clone();
            let resend_up_to = settings.policy.resends().then_some(settings.retries_max);
            let swept = async {
                let keys = context.store.doubt_due(shared.key, at, DOUBTS_AT_ONCE).await?;
                let event = |key| Entry { key, event: Event::DoubtExpired { at, resend_up_to } };
                context.ledger.commit(keys.into_iter().map(event).collect()).await
            };
            if let Err(error) = swept.await {
                tracing::warn!(campaign = %shared.key, %error, "messages in doubt could not be looked at");
            }
            drop(sweep);
        });
    }
}

/// Ended, and every message final or the settle window over: settled.
fn settle_if_done(context: &Arc<Context>, shared: &Arc<CampaignShared>) {
    let record = shared.record();
    if !record.state.is_ended() || record.settled_at.is_some() {
        return;
    }
    let now = context.clock.wall();
    let window = Duration::from_millis(record.settings.settle_window_ms);
    let over = record.ended_at.is_some_and(|ended| now >= ended.after(window));
    let tally = shared.tally();
    // What is in flight or in doubt is looked at only while the campaign is here.
    let known = tally.open == 0 && tally.count(Shown::InDoubt) == 0;
    let final_now = known && (over || tally.unsettled(shared.kind.delivered_is_final()) == 0);
    if final_now && let Some(sweep) = shared.begin_sweep() {
        let (context, shared) = (Arc::clone(context), Arc::clone(shared));
        tokio::spawn(async move {
            let settled = async {
                let mut record = context.store.campaign_by_key(shared.key).await?;
                if record.settled_at.is_none() && record.state.is_ended() {
                    record.settled_at = Some(now);
                    record.updated_at = now;
                    record = context.store.update_campaign(record).await?;
                }
                Ok::<Campaign, StoreError>(record)
            };
            match settled.await {
                Ok(record) if record.settled_at.is_some() => {
                    let now = context.clock.mono();
                    shared.set_record(record, now);
                    shared.publish(now, true);
                    context.registry.remove_settled(shared.key);
                    context.cast(SupervisorMsg::CampaignGone(shared.key));
                }
                Ok(_) | Err(StoreError::Version { .. }) => {}
                // It was deleted, and whoever did it could not say so.
                Err(StoreError::NotFound(_)) => {
                    context.registry.remove(shared.key);
                    context.cast(SupervisorMsg::CampaignGone(shared.key));
                }
                Err(error) => tracing::warn!(campaign = %shared.key, %error, "could not be settled; trying again"),
            }
            drop(sweep);
        });
    }
}
