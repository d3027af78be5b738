//! Counts campaigns anew for as long as the engine runs, one after another, so that a tally which no longer follows from its
//! messages is noticed within minutes and not when somebody asks. It takes at most a hundredth of one core.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::{Difference, differences};
use crate::domain::ids::CampaignKey;
use crate::domain::time::UnixMillis;
use crate::metrics::{DRIFT, DRIFT_SAMPLES, LATE_FACTS};
use crate::nodes::PoolRef;
use crate::store::{StoreError, StoreResult};
use crate::supervisor::{Context, refresh_tally};

/// Times as long as a count took, nothing is counted after it.
const REST: u32 = 99;

/// Samples until the engine ends.
pub(crate) async fn sample(context: Arc<Context>) {
    let (samples, drift) = (metrics::counter!(DRIFT_SAMPLES), metrics::gauge!(DRIFT));
    drift.set(0.0);
    let pause = context.config.drift_pause;
    if pause.is_zero() {
        return;
    }
    let (mut round, mut rest) = (Round::default(), pause);
    loop {
        tokio::time::sleep(rest).await;
        let began = context.clock.mono();
        samples.increment(u64::from(round.look(&context).await));
        #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
        drift.set(round.sum() as f64);
        rest = resting(pause, context.clock.mono().since(began));
    }
}

/// Where the counting stands.
#[derive(Debug, Default)]
pub(crate) struct Round {
    last: Option<CampaignKey>,
    /// What is wrong. It stays until its campaign is counted again and is right, or is deleted, or another node's, which counts it
    /// itself; a campaign that settles meanwhile has its turn all the same.
    found: HashMap<CampaignKey, u64>,
}

impl Round {
    /// Counts the campaign whose turn it is; true: it was counted.
    pub(crate) async fn look(&mut self, context: &Context) -> bool {
        self.forget_gone(context).await;
        let Some(key) = following(&self.candidates(context), self.last) else { return false };
        self.last = Some(key);
        let differences = match count(context, key).await {
            Ok(differences) => differences,
            Err(error) => {
                tracing::debug!(campaign = %key, %error, "could not be counted anew; its turn comes again");
                return false;
            }
        };
        // Of a campaign that went while it was counted nothing is known.
        let is_right = differences.is_empty() || is_gone(context, key).await;
        match differences.iter().map(|d| d.kept.abs_diff(d.counted)).sum() {
            _ if is_right => self.found.remove(&key),
            sum => {
                tracing::error!(campaign = %key, ?differences, "a tally differs from its messages");
                self.found.insert(key, sum)
            }
        };
        true
    }

    /// What is wrong by now, in messages.
    pub(crate) fn sum(&self) -> u64 {
        self.found.values().sum()
    }

    /// A campaign that is gone from the ledger differs from nothing, and one of another node moves while it is counted here. The others
    /// are asked for only where something is wrong.
    async fn forget_gone(&mut self, context: &Context) {
        let keys: Vec<CampaignKey> = self.found.keys().copied().collect();
        for key in keys {
            if is_gone(context, key).await {
                self.found.remove(&key);
            }
        }
    }

    /// Unsettled campaigns that are not too large, and those that were found wrong, by their keys: the others do not move any more.
    fn candidates(&self, context: &Context) -> Vec<CampaignKey> {
        let most = context.config.drift_recipients_max;
        let all = context.registry.all();
        let moving = all.iter().filter(|c| c.tally().recipients() <= most).map(|c| c.key);
        let mut keys: Vec<_> = moving.chain(self.found.keys().copied()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Counts a campaign anew. What differs because a former owner's write landed late is counted by the ledger then; what is left is a
/// defect.
async fn count(context: &Context, key: CampaignKey) -> StoreResult<Vec<Difference>> {
    let (kept, counted) = context.store.recount(key).await?;
    let found = differences(&kept, &counted);
    if found.is_empty() {
        return Ok(found);
    }
    let late = context.store.mend(key).await?;
    if late == 0 {
        return Ok(found);
    }
    tracing::warn!(campaign = %key, messages = late, "writes of a former owner had landed late: they are counted now");
    metrics::counter!(LATE_FACTS).increment(late);
    if let Some(shared) = context.registry.get(key) {
        refresh_tally(context, &shared).await;
        shared.note_due(UnixMillis(0));
    }
    let (kept, counted) = context.store.recount(key).await?;
    Ok(differences(&kept, &counted))
}

/// Whether a campaign is deleted, or another node's.
async fn is_gone(context: &Context, key: CampaignKey) -> bool {
    match context.store.campaign_by_key(key).await {
        Ok(campaign) => context.pools.lease_of(&PoolRef::new(&campaign.tenant, &campaign.pool)).is_none(),
        Err(error) => matches!(error, StoreError::NotFound(_)),
    }
}

/// Whose turn it is after `last`.
fn following(keys: &[CampaignKey], last: Option<CampaignKey>) -> Option<CampaignKey> {
    let later = keys.iter().find(|key| last.is_none_or(|last| **key > last));
    later.or(keys.first()).copied()
}

fn resting(pause: Duration, took: Duration) -> Duration {
    pause.max(took.saturating_mul(REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_campaign_has_its_turn() {
        let keys = [2, 5, 9].map(CampaignKey);
        assert_eq!(following(&[], None), None);
        assert_eq!(following(&keys, None), Some(keys[0]));
        assert_eq!(following(&keys, Some(CampaignKey(2))), Some(keys[1]));
        // One that left meanwhile does not stop the round.
        assert_eq!(following(&keys, Some(CampaignKey(7))), Some(keys[2]));
        assert_eq!(following(&keys, Some(CampaignKey(9))), Some(keys[0]));
    }

    #[test]
    fn a_long_count_is_followed_by_a_long_rest() {
        let second = Duration::from_secs(1);
        assert_eq!(resting(30 * second, second / 1_000), 30 * second);
        assert_eq!(resting(30 * second, 2 * second), 198 * second);
    }
}
