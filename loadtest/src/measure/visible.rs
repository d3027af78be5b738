//! From a status' POST to its count in the watch stream.
//!
//! A probe campaign sends a few messages a second on a line of its own. The simulator keeps the moment of each status' first POST; this side
//! keeps the moment of each answer of the watch. Counts only grow, so the n-th status is visible with the first answer that counts n.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use sluice_proto::v1;

use super::histogram::{Latencies, Snapshot};
use crate::harness::Customer;
use crate::sim::plan::Status;
use crate::sim::stats::FirstPost;

/// Answers per second that the watch asks for: the contract's most.
const UPDATES: f64 = 20.0;
/// Answers kept; a probe of a day makes fewer.
const SEEN_MAX: usize = 2_000_000;
/// Pause before a broken watch is opened again.
const AGAIN: Duration = Duration::from_millis(100);

/// When the watch said how many had reached `sent`: ns since the epoch, count.
pub type Seen = Vec<(u64, u64)>;

/// A watch under way; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Watches a campaign; a broken stream (a server that is killed) is opened again.
    #[must_use]
    pub fn open(customer: Customer, campaign: String) -> Self {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let _ = follow(&customer, &campaign, &noted).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { seen, task }
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }
}

async fn follow(customer: &Customer, campaign: &str, noted: &Mutex<Seen>) -> anyhow::Result<()> {
    let request = v1::WatchCampaignRequest {
        campaign_id: campaign.to_owned(),
        max_updates_per_second: UPDATES,
        until: v1::WatchUntil::Settled.into(),
    };
    let mut stream = customer.campaigns().watch_campaign(request).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        let at_ns = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let stages = match answer.update {
            Some(v1::watch_campaign_response::Update::Snapshot(campaign)) => {
                campaign.stats.and_then(|stats| stats.tally).map(|tally| tally.by_stage).unwrap_or_default()
            }
            Some(v1::watch_campaign_response::Update::Delta(delta)) => delta.by_stage,
            None => Vec::new(),
        };
        let sent = stages.iter().find(|count| count.stage() == v1::Stage::Sent).map(|count| count.count);
        let mut noted = noted.lock();
        if let Some(sent) = sent.filter(|_| noted.len() < SEEN_MAX) {
            noted.push((at_ns, sent));
        }
    }
    Ok(())
}

/// From POST to visible, for every status that lets a message reach `sent`.
#[must_use]
pub fn latencies(posts: &[FirstPost], seen: &Seen) -> Snapshot {
    let mut first: BTreeMap<u32, u64> = BTreeMap::new();
    for post in posts.iter().filter(|post| post.status != Status::Failed) {
        first.entry(post.entry).and_modify(|at| *at = post.at_ns.min(*at)).or_insert(post.at_ns);
    }
    let mut times: Vec<u64> = first.into_values().collect();
    times.sort_unstable();
    let all = Latencies::default();
    let mut highest = 0;
    for (at_ns, count) in seen {
        while highest < *count {
            let Some(posted) = times.get(highest as usize) else { break };
            all.note_us(at_ns.saturating_sub(*posted) / 1_000);
            highest += 1;
        }
    }
    all.snapshot()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(entry: u32, status: Status, at_ms: u64) -> FirstPost {
        FirstPost { entry, status, at_ns: at_ms * 1_000_000 }
    }

    #[test]
    fn the_nth_status_is_visible_with_the_first_answer_that_counts_it() {
        let posts = [
            post(0, Status::Sent, 10),
            post(0, Status::Delivered, 30),
            // Delivered alone also reaches sent; a failure does not.
            post(1, Status::Delivered, 20),
            post(2, Status::Failed, 5),
            post(3, Status::Sent, 100),
        ];
        let seen = vec![(15_000_000, 1), (50_000_000, 2), (60_000_000, 2)];
        let found = latencies(&posts, &seen);
        assert_eq!(found.count(), 2, "what is not visible yet has no latency");
        assert_eq!(found.quantile_ms(0.5).map(f64::round), Some(5.0));
        assert_eq!(found.longest_ms().map(f64::round), Some(30.0));
    }
}
