//! The start from the ledger: who was in flight is in doubt, who was running goes on.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, SupervisorMsg};
use crate::campaign::shared::CampaignShared;
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, TenantId};
use crate::domain::message::Event;
use crate::domain::stage::Shown;
use crate::nodes::PoolRef;
use crate::status::commit_all_around;
use crate::store::{CampaignFilter, Entry, LineFilter, OpenAttempt, Page, StoreError, StoreResult};

/// Campaigns and attempts read in one page.
pub(super) const PAGE: usize = 500;
const ATTEMPTS: usize = 4_096;

/// Pause before a campaign that could not be read is read again.
const ADOPT_PAUSE: Duration = Duration::from_millis(500);

/// What a start found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recovered {
    pub(crate) campaigns: usize,
    pub(crate) lines: usize,
    pub(crate) in_doubt: usize,
}

/// The campaigns that somebody works on: those going on, and those that have ended and are not settled.
pub(super) fn unsettled(tenant: Option<&TenantId>) -> [CampaignFilter; 2] {
    let going = [CampaignState::Scheduled, CampaignState::Running, CampaignState::Paused, CampaignState::Held];
    let all = CampaignFilter { tenant: tenant.cloned(), ..CampaignFilter::default() };
    [CampaignFilter { states: going.to_vec(), ..all.clone() }, CampaignFilter { unsettled: true, ..all }]
}

/// Fills the registry and the lines from the ledger, and marks in doubt what nobody works on any more. Before any actor runs.
pub(crate) async fn recover(context: &Arc<Context>) -> StoreResult<Recovered> {
    let mut found = Recovered::default();
    for line in context.store.lines(&LineFilter::default()).await? {
        found.lines += usize::from(context.line_or_new(line).is_some());
    }
    for filter in unsettled(None) {
        let mut page = Page { size: PAGE, after: None };
        loop {
            let listed = context.store.list_campaigns(&filter, page.clone()).await?;
            for (record, _) in listed.items {
                found.in_doubt += recover_campaign(context, record).await?;
                found.campaigns += 1;
            }
            let Some(next) = listed.next else { break };
            page.after = Some(next);
        }
    }
    Ok(found)
}

async fn recover_campaign(context: &Arc<Context>, record: Campaign) -> StoreResult<usize> {
    let in_doubt = doubt_open(context, &record, |_| false).await?;
    adopt(context, record).await?;
    Ok(in_doubt)
}

/// Marks in doubt what nobody works on any more, but for those of which somebody still tells the outcome. How many they were.
pub(super) async fn doubt_open(
    context: &Context,
    record: &Campaign,
    is_told: impl Fn(&Entry) -> bool,
) -> StoreResult<usize> {
    let (mut from, mut in_doubt) = (0, 0);
    while let Some((mut entries, next)) = doubts(context, record, from).await? {
        from = next;
        entries.retain(|entry| !is_told(entry));
        in_doubt += entries.len();
        commit_all_around(&context.store, &entries).await?;
    }
    if in_doubt > 0 {
        tracing::warn!(campaign = %record.id, in_doubt, "attempts were in flight when their engine stopped: they are in doubt");
    }
    Ok(in_doubt)
}

/// A page of the attempts without outcome, as entries that mark them in doubt, and where to go on.
async fn doubts(context: &Context, record: &Campaign, from: u32) -> StoreResult<Option<(Vec<Entry>, u32)>> {
    let open = context.store.open_attempts(record.key, from, ATTEMPTS).await?;
    let Some(last) = open.last() else { return Ok(None) };
    let (next, at) = (last.key.seq + 1, context.clock.wall());
    let due_at = at.after(record.settings.policy.wait());
    let entry = |o: OpenAttempt| Entry { key: o.key, event: Event::Doubt { attempt: o.attempt, at, due_at } };
    Ok(Some((open.into_iter().map(entry).collect(), next)))
}

/// Marks in doubt what a running campaign's ledger calls in flight though nobody works on it: the task that wrote the intents
/// panicked before it could hand them on.
pub(super) async fn doubt_abandoned(context: &Context, shared: &CampaignShared) -> StoreResult<()> {
    let (record, mut from) = (shared.record(), 0);
    while let Some((entries, next)) = doubts(context, &record, from).await? {
        from = next;
        // Asked after they were read: a slot is held from before an intent until after its outcome, so what was read has none.
        if shared.in_flight() > 0 {
            return Ok(());
        }
        tracing::error!(campaign = %record.id, in_doubt = entries.len(), "attempts that nobody works on any more are in doubt");
        context.ledger.commit(entries).await?;
    }
    Ok(())
}

/// Puts a campaign that is over back to work when messages wait in it. True: it was.
pub(super) async fn reopen_if_waiting(context: &Context, key: CampaignKey) -> StoreResult<bool> {
    loop {
        let record = context.store.campaign_by_key(key).await?;
        // In this order: a cancellation since the record was read moved its version, one before left nothing pending.
        if !record.state.is_ended() || context.store.tally(key).await?.tally.count(Shown::Pending) == 0 {
            return Ok(false);
        }
        let Ok(record) = record.reopened(context.clock.wall()) else { return Ok(false) };
        match context.store.update_campaign(record).await {
            Ok(record) => {
                tracing::warn!(campaign = %record.id, "messages wait to be sent again: the campaign goes back to work");
                adopt(context, record).await?;
                context.cast(SupervisorMsg::CampaignChanged(key, None));
                return Ok(true);
            }
            Err(StoreError::Version { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Looks at the campaigns that are settled, which nothing else does: messages may wait in one since the engine stopped between a
/// decision to send again and the record that puts the campaign back to work, or an attempt may stand without an outcome.
/// Beside the actors; what it finds it hands to them.
pub(crate) async fn heal_settled(context: &Arc<Context>, tenant: Option<&TenantId>) -> StoreResult<()> {
    let ended = CampaignState::ALL.into_iter().filter(|state| state.is_ended()).collect();
    let filter = CampaignFilter { states: ended, tenant: tenant.cloned(), ..CampaignFilter::default() };
    let mut page = Page { size: PAGE, after: None };
    loop {
        let listed = context.store.list_campaigns(&filter, page).await?;
        for (record, tally) in listed.items {
            let is_mine = context.pools.lease_of(&PoolRef::new(&record.tenant, &record.pool)).is_some();
            if record.settled_at.is_none() || !is_mine || context.registry.get(record.key).is_some() {
                continue;
            }
            if tally.open > 0 {
                unsettle(context, record).await?;
            } else if tally.count(Shown::Pending) > 0 {
                reopen_if_waiting(context, record.key).await?;
            }
        }
        let Some(next) = listed.next else { return Ok(()) };
        page = Page { size: PAGE, after: Some(next) };
    }
}

/// A settled campaign with attempts that nobody works on: they are in doubt, and it is not settled.
async fn unsettle(context: &Arc<Context>, mut record: Campaign) -> StoreResult<()> {
    record.settled_at = None;
    record.updated_at = context.clock.wall();
    match context.store.update_campaign(record).await {
        Ok(record) => recover_campaign(context, record).await.map(drop),
        // Somebody else took it up.
        Err(StoreError::Version { .. } | StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Tries again until the ledger can be read: what was written is in force, whoever asked for it has gone on.
pub(super) fn adopt_later(context: &Arc<Context>, key: CampaignKey) {
    let context = Arc::clone(context);
    tokio::spawn(async move {
        while !context.is_draining() {
            tokio::time::sleep(ADOPT_PAUSE).await;
            let adopted = async {
                let record = context.store.campaign_by_key(key).await?;
                adopt(&context, record).await
            };
            match adopted.await {
                Ok(_) => return context.cast(SupervisorMsg::CampaignChanged(key, None)),
                Err(StoreError::Unavailable(_)) => {}
                Err(StoreError::Elsewhere(_)) => return,
                Err(error) => {
                    // Deleted, or damaged: the next start says so too.
                    return tracing::error!(campaign = %key, %error, "a campaign could not be taken over by the actors");
                }
            }
        }
    });
}

/// Puts a campaign into the registry, with its tally and the kind of its pool.
pub(crate) async fn adopt(context: &Context, record: Campaign) -> StoreResult<Arc<CampaignShared>> {
    let of = PoolRef::new(&record.tenant, &record.pool);
    if context.pools.lease_of(&of).is_none() {
        return Err(StoreError::Elsewhere(format!("pool {of} is another node's")));
    }
    if let Some(shared) = context.registry.update(&record, context.clock.mono()) {
        return Ok(shared);
    }
    let pool = context.store.pool(&record.tenant, &record.pool).await?;
    let counts = context.store.tally(record.key).await?;
    let shared = CampaignShared::new(record, pool.kind, counts.tally, counts.revision, context.clock.wall());
    let shared = context.registry.insert(shared, context.clock.mono());
    // Given away meanwhile: whoever did looked for its campaigns before this one was there.
    if context.pools.lease_of(&of).is_none() {
        context.registry.remove(shared.key);
        return Err(StoreError::Elsewhere(format!("pool {of} is another node's")));
    }
    Ok(shared)
}
