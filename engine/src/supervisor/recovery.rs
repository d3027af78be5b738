//! The start from the ledger: who was in flight is in doubt, who was running goes on.

use std::sync::Arc;

use super::Context;
use crate::campaign::shared::CampaignShared;
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::message::Event;
use crate::store::{CampaignFilter, Entry, LineFilter, OpenAttempt, Page, StoreResult};

/// Campaigns and attempts read in one page.
const PAGE: usize = 500;
const ATTEMPTS: usize = 4_096;

/// What a start found.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Recovered {
    pub(crate) campaigns: usize,
    pub(crate) lines: usize,
    pub(crate) in_doubt: usize,
}

/// Fills the registry and the lines from the ledger, and marks in doubt what nobody works on any more. Before any actor runs.
pub(crate) async fn recover(context: &Arc<Context>) -> StoreResult<Recovered> {
    let mut found = Recovered::default();
    for line in context.store.lines(&LineFilter::default()).await? {
        context.line_or_new(line);
        found.lines += 1;
    }
    let going = [CampaignState::Scheduled, CampaignState::Running, CampaignState::Paused, CampaignState::Held];
    let filters = [
        CampaignFilter { states: going.to_vec(), ..CampaignFilter::default() },
        CampaignFilter { unsettled: true, ..CampaignFilter::default() },
    ];
    for filter in filters {
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
    let (mut from, mut in_doubt) = (0, 0);
    while let Some((entries, next)) = doubts(context, &record, from).await? {
        from = next;
        in_doubt += entries.len();
        context.store.commit(entries).await?;
    }
    if in_doubt > 0 {
        tracing::warn!(campaign = %record.id, in_doubt, "attempts were in flight when the engine last stopped: they are in doubt");
    }
    adopt(context, record).await?;
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

/// Puts a campaign into the registry, with its tally and the kind of its pool.
pub(crate) async fn adopt(context: &Context, record: Campaign) -> StoreResult<Arc<CampaignShared>> {
    if let Some(shared) = context.registry.update(&record) {
        return Ok(shared);
    }
    let pool = context.store.pool(&record.tenant, &record.pool).await?;
    let counts = context.store.tally(record.key).await?;
    let shared = CampaignShared::new(record, pool.kind, counts.tally, counts.revision, context.clock.wall());
    Ok(context.registry.insert(shared))
}
