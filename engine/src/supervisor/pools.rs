//! Pools that come to this engine and leave it while it runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, TryStreamExt as _};

use super::recovery::{self, PAGE};
use super::{Context, SupervisorMsg};
use crate::campaign::shared::{CampaignShared, Shut, Slot};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, LineKey, MessageKey, TenantId};
use crate::domain::line::Line;
use crate::line::LineMsg;
use crate::line::gate::LineShared;
use crate::nodes::plan::IDLE;
use crate::nodes::{HandOver, Ownership, PoolRef, Taken};
use crate::store::{Entry, LineFilter, Page, StoreResult};

/// How often the outcomes are asked for that a former owner still waits for.
const ASK: Duration = Duration::from_millis(100);

/// Campaigns that are loaded beside each other: each asks the ledger some six times, one answer after the other.
const AT_ONCE: usize = 16;

/// How often it is looked whether the last requests of a pool have their answers.
const LOOK: Duration = Duration::from_millis(2);

fn pool_of_line(line: &Line) -> PoolRef {
    PoolRef::new(&line.tenant, &line.pool)
}

fn pool_of(record: &Campaign) -> PoolRef {
    PoolRef::new(&record.tenant, &record.pool)
}

/// What each of these pools is worth in work: one, and the ceilings of its lines while a campaign of it runs.
pub(crate) fn weights(context: &Context, pools: impl IntoIterator<Item = PoolRef>) -> BTreeMap<PoolRef, u64> {
    let mut weights: BTreeMap<PoolRef, u64> = pools.into_iter().map(|pool| (pool, IDLE)).collect();
    let running = |c: &Arc<CampaignShared>| c.record().state == CampaignState::Running;
    let busy: HashSet<PoolRef> =
        context.registry.all().iter().filter(|c| running(c)).map(|c| pool_of(&c.record())).collect();
    for entry in context.lines() {
        let line = entry.shared.record();
        let pool = pool_of_line(&line);
        if busy.contains(&pool)
            && let Some(weight) = weights.get_mut(&pool)
        {
            *weight += u64::from(line.ceiling);
        }
    }
    weights
}

/// Reads the lines of the installation: whose they are, and those of this engine's pools, which are new or came from another pool.
/// Returns all pools that have lines.
pub(crate) async fn follow_lines(context: &Context) -> StoreResult<BTreeSet<PoolRef>> {
    let mut pools = BTreeSet::new();
    for line in context.store.lines(&LineFilter::default()).await? {
        context.know_line(&line);
        pools.insert(pool_of_line(&line));
        let known =
            context.line(line.key).map(|entry| (entry.shared.record().version, pool_of_line(&entry.shared.record())));
        let is_mine = context.pools.lease_of(&pool_of_line(&line)).is_some();
        let is_news = known.is_none_or(|(version, pool)| version < line.version || pool != pool_of_line(&line));
        if is_news && (is_mine || context.line(line.key).is_some()) {
            let key = line.key;
            let _ = context.take_line(line);
            context.cast(SupervisorMsg::LineChanged(key, None));
        }
    }
    Ok(pools)
}

/// Loads what belongs to pools that are this engine's now, and sets it to work. May be called again after an error.
///
/// Attempts in flight are in doubt, but for those whose outcome the former owner still tells. A line is silent for one full window,
/// unless the former owner handed over what left lately.
pub(crate) async fn arrive(context: &Arc<Context>, from: &Arc<dyn Ownership>, taken: &[Taken]) -> StoreResult<()> {
    let pools: HashMap<&PoolRef, &Taken> = taken.iter().map(|taken| (&taken.pool, taken)).collect();
    for line in context.store.lines(&LineFilter::default()).await? {
        context.know_line(&line);
        let Some(taken) = pools.get(&pool_of_line(&line)) else { continue };
        let key = line.key;
        if let Some((entry, true)) = context.line_or_new(line)
            && let Some(sends) = taken.handed.as_ref().and_then(|(_, along)| along.sends(key))
        {
            entry.shared.take_over(&sends);
        }
        context.cast(SupervisorMsg::LineChanged(key, None));
    }
    let tenants: BTreeSet<&TenantId> = pools.keys().map(|pool| &pool.tenant).collect();
    for tenant in tenants {
        for filter in recovery::unsettled(Some(tenant)) {
            let mut page = Page { size: PAGE, after: None };
            loop {
                let listed = context.store.list_campaigns(&filter, page).await?;
                let theirs =
                    listed.items.into_iter().filter_map(|(record, _)| Some((*pools.get(&pool_of(&record))?, record)));
                stream::iter(theirs.map(Ok))
                    .try_for_each_concurrent(AT_ONCE, |(taken, record)| arrive_campaign(context, from, taken, record))
                    .await?;
                let Some(next) = listed.next else { break };
                page = Page { size: PAGE, after: Some(next) };
            }
        }
    }
    Ok(())
}

async fn arrive_campaign(
    context: &Arc<Context>,
    from: &Arc<dyn Ownership>,
    taken: &Taken,
    record: Campaign,
) -> StoreResult<()> {
    let key = record.key;
    if context.registry.get(key).is_some() {
        return Ok(());
    }
    let told: HashSet<(u32, u16)> = taken
        .handed
        .iter()
        .flat_map(|(_, along)| &along.passed)
        .filter(|passed| passed.campaign == key)
        .map(|passed| (passed.seq, passed.attempt))
        .collect();
    let is_told = |entry: &Entry| entry.event.attempt().is_some_and(|attempt| told.contains(&(entry.key.seq, attempt)));
    recovery::doubt_open(context, &record, is_told).await?;
    let shared = recovery::adopt(context, record).await?;
    if let Some((giver, _)) = taken.handed.as_ref().filter(|_| !told.is_empty()) {
        // A slot each: the campaign does not end before they have an outcome.
        let slots =
            told.into_iter().map(|(seq, attempt)| ((MessageKey { campaign: key, seq }, attempt), shared.take_slot()));
        let waiting = Waiting { pool: taken.pool.clone(), giver: giver.clone(), slots: slots.collect() };
        tokio::spawn(waiting.hear(Arc::clone(context), Arc::clone(from), shared));
    }
    context.cast(SupervisorMsg::CampaignChanged(key, None));
    Ok(())
}

/// Attempts that a former owner made and still waits for.
struct Waiting {
    pool: PoolRef,
    giver: String,
    slots: HashMap<(MessageKey, u16), Slot>,
}

impl Waiting {
    /// Applies what is told, until everything is, or nobody tells any more: the rest is in doubt then.
    async fn hear(mut self, context: Arc<Context>, from: Arc<dyn Ownership>, shared: Arc<CampaignShared>) {
        // The former owner waits for an answer so long; a little more for its way.
        let most = context.config.answer_timeout + context.config.drain_senders.min(Duration::from_secs(5));
        let begun = context.clock.mono();
        while !self.slots.is_empty() && context.clock.mono().since(begun) < most {
            tokio::time::sleep(ASK).await;
            if context.pools.lease_of(&self.pool).is_none() {
                // It went on to somebody else, who finds them open.
                return;
            }
            let heard = async {
                let told = from.told(&self.pool).await?;
                let news = told.into_iter().filter_map(|told| {
                    let attempt = (told.key, told.event.attempt()?);
                    self.slots.contains_key(&attempt).then_some((attempt, told.event))
                });
                let (attempts, events): (Vec<_>, Vec<_>) = news.unzip();
                let entries = attempts.iter().zip(events).map(|((key, _), event)| Entry { key: *key, event }).collect();
                context.ledger.commit(entries).await?;
                Ok::<_, crate::store::StoreError>(attempts)
            };
            match heard.await {
                Ok(attempts) => attempts.iter().for_each(|attempt| drop(self.slots.remove(attempt))),
                Err(error) => {
                    tracing::debug!(pool = %self.pool, %error, "outcomes could not be asked for; trying again")
                }
            }
        }
        if self.slots.is_empty() {
            return;
        }
        tracing::warn!(
            campaign = %shared.key, from = self.giver, in_doubt = self.slots.len(),
            "the former owner told no outcome of these attempts: they are in doubt"
        );
        let at = context.clock.wall();
        let due_at = at.after(shared.record().settings.policy.wait());
        for ((key, attempt), slot) in self.slots {
            let event = crate::domain::message::Event::Doubt { attempt, at, due_at };
            context.ledger.post(Entry { key, event }, slot);
        }
    }
}

/// Pools on their way out of this engine: their gates are shut.
pub(crate) struct Departure {
    pools: Vec<PoolRef>,
    lines: Vec<Arc<LineShared>>,
    campaigns: Vec<Arc<CampaignShared>>,
    _shut: Vec<Shut>,
}

impl Departure {
    /// Shuts the gates of everything that belongs to these pools. They must not be this engine's any more by [`crate::nodes::Mine`], so
    /// that nothing new of them appears.
    pub(crate) fn begin(context: &Context, pools: Vec<PoolRef>) -> Self {
        let wanted: HashSet<&PoolRef> = pools.iter().collect();
        let lines: Vec<Arc<LineShared>> = context
            .lines()
            .into_iter()
            .map(|entry| entry.shared)
            .filter(|l| wanted.contains(&pool_of_line(&l.record())))
            .collect();
        let campaigns: Vec<Arc<CampaignShared>> =
            context.registry.all().into_iter().filter(|c| wanted.contains(&pool_of(&c.record()))).collect();
        drop(wanted);
        let shut = campaigns.iter().map(|campaign| campaign.shut()).collect();
        for line in &lines {
            line.drain();
            line.cast(LineMsg::Stopped);
        }
        campaigns.iter().for_each(|campaign| campaign.wake());
        Self { pools, lines, campaigns, _shut: shut }
    }

    /// Waits until nothing is in flight, at most so long; then what is known is brought into the ledger, at most as long again: what is not
    /// there by then is told like what is in flight, and the lines are silent meanwhile.
    pub(crate) async fn settle(&self, context: &Context, most: Duration) {
        let quiet = async {
            while self.campaigns.iter().any(|campaign| campaign.in_flight() > 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(most, quiet).await.is_err() {
            let in_flight: u64 = self.campaigns.iter().map(|campaign| campaign.in_flight()).sum();
            tracing::info!(in_flight, "these go along: their outcomes are told to the next owner");
        }
        if tokio::time::timeout(most, context.ledger.flush()).await.is_err() {
            tracing::info!("the ledger is slow: what it has not taken is told to the next owner");
        }
    }

    /// What left lately, by pool. From here on nothing passes any gate of theirs, whatever stood there.
    pub(crate) fn along(&self) -> Vec<(PoolRef, HandOver)> {
        let mut along: BTreeMap<PoolRef, HandOver> =
            self.pools.iter().map(|pool| (pool.clone(), HandOver::default())).collect();
        for line in &self.lines {
            // Also where nothing goes along: from here on it sends nothing.
            let sends = line.hand_over();
            if let (Some(along), Some(sends)) = (along.get_mut(&pool_of_line(&line.record())), sends) {
                along.add(line.key, &sends);
            }
        }
        along.into_iter().collect()
    }

    /// Forgets everything of theirs. What is in flight comes to its end in tasks of its own.
    pub(crate) fn forget(self, context: &Context) {
        for campaign in self.campaigns.iter().filter(|campaign| campaign.in_flight() > 0) {
            context.note_departed(Arc::clone(campaign));
        }
        forget(context, self.lines.iter().map(|line| line.key), self.campaigns.iter().map(|campaign| campaign.key));
    }
}

fn forget(context: &Context, lines: impl Iterator<Item = LineKey>, campaigns: impl Iterator<Item = CampaignKey>) {
    for key in campaigns {
        context.registry.remove(key);
        context.cast(SupervisorMsg::CampaignGone(key));
    }
    for key in lines {
        context.forget_line(key);
        context.cast(SupervisorMsg::LineChanged(key, None));
    }
}

/// Nothing is this engine's any more: its term is over.
pub(crate) fn drop_everything(context: &Context) {
    let (lines, campaigns) = (context.lines(), context.registry.all());
    for campaign in &campaigns {
        // For good: no record opens it again.
        std::mem::forget(campaign.shut());
    }
    lines.iter().for_each(|entry| entry.shared.drain());
    forget(context, lines.iter().map(|entry| entry.shared.key), campaigns.iter().map(|campaign| campaign.key));
}
