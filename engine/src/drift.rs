//! Counts campaigns anew for as long as the engine runs, one after another, so that a tally which no longer follows from its
//! messages is noticed within minutes and not when somebody asks. It takes at most a hundredth of one core.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::differences;
use crate::domain::ids::CampaignKey;
use crate::metrics::{DRIFT, DRIFT_SAMPLES};
use crate::supervisor::Context;

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
    // A drift stays until the campaign is counted again and is right.
    let mut found: HashMap<CampaignKey, u64> = HashMap::new();
    let (mut last, mut rest) = (None, pause);
    loop {
        tokio::time::sleep(rest).await;
        rest = pause;
        let Some(key) = following(&candidates(&context), last) else { continue };
        last = Some(key);
        let began = context.clock.mono();
        match context.store.recount(key).await {
            Ok((kept, counted)) => {
                let differences = differences(&kept, &counted);
                samples.increment(1);
                match differences.iter().map(|d| d.kept.abs_diff(d.counted)).sum() {
                    0 => found.remove(&key),
                    sum => {
                        tracing::error!(campaign = %key, ?differences, "a tally differs from its messages");
                        found.insert(key, sum)
                    }
                };
                #[allow(clippy::cast_precision_loss)] // counts stay far below 2^52
                drift.set(found.values().sum::<u64>() as f64);
            }
            Err(error) => tracing::debug!(campaign = %key, %error, "could not be counted anew; its turn comes again"),
        }
        rest = resting(pause, context.clock.mono().since(began));
    }
}

/// Unsettled campaigns that are not too large, by their keys: the others do not move any more.
fn candidates(context: &Context) -> Vec<CampaignKey> {
    let most = context.config.drift_recipients_max;
    let all = context.registry.all();
    let mut keys: Vec<_> = all.iter().filter(|c| c.tally().recipients() <= most).map(|c| c.key).collect();
    keys.sort_unstable();
    keys
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
