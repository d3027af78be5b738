//! The watch stream: what its updates come to, for a look and over a whole run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use sluice_proto::v1;
use sluice_proto::v1::campaign_service_client::CampaignServiceClient;
use sluice_proto::v1::watch_campaign_response::Update;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::records::Counts;
use super::server::{counts, failures};
use crate::grpc::Bearer;

/// Longest wait for the first answer.
const FIRST: Duration = Duration::from_secs(30);
/// Pause before a broken watch is opened again.
const AGAIN: Duration = Duration::from_millis(200);
/// Updates per second: few, so that watching costs nothing while something is measured.
const UPDATES: f64 = 1.0;
/// Pause between two looks at what is watched.
const LOOK: Duration = Duration::from_millis(50);

/// What a stream's updates come to: the campaign as it was last told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched(v1::Campaign);

impl Watched {
    /// Takes an update: counts are absolute, and a delta leaves out what did not change.
    pub fn take(&mut self, update: Update) {
        match update {
            Update::Snapshot(campaign) => self.0 = campaign,
            Update::Delta(delta) => self.0.apply(delta),
        }
    }

    /// The campaign as it was last told.
    #[must_use]
    pub fn campaign(&self) -> &v1::Campaign {
        &self.0
    }

    /// Its counts, and failures by code.
    #[must_use]
    pub fn said(&self) -> (Counts, BTreeMap<String, u64>) {
        let stats = self.0.stats.clone().unwrap_or_default();
        (counts(&stats.tally.unwrap_or_default()), failures(&stats.failures))
    }
}

fn request(campaign: &str) -> v1::WatchCampaignRequest {
    v1::WatchCampaignRequest {
        campaign_id: campaign.to_owned(),
        max_updates_per_second: UPDATES,
        until: v1::WatchUntil::Settled.into(),
    }
}

/// The first answer of a stream.
///
/// # Errors
/// When there is none.
pub async fn snapshot(channel: InterceptedService<Channel, Bearer>, campaign: &str) -> anyhow::Result<Watched> {
    let first = async {
        let mut client = CampaignServiceClient::new(channel);
        let mut stream = client.watch_campaign(request(campaign)).await?.into_inner();
        anyhow::Ok(stream.message().await?.and_then(|answer| answer.update))
    };
    let update = tokio::time::timeout(FIRST, first).await.context("no answer")?;
    let mut watched = Watched::default();
    let update = update.with_context(|| format!("watch of {campaign}"))?;
    watched.take(update.with_context(|| format!("the watch of {campaign} ends without an answer"))?);
    Ok(watched)
}

/// A stream that is followed over a run; ends when dropped.
#[derive(Debug)]
pub struct Follower {
    campaign: String,
    seen: Arc<Mutex<Watched>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Follows a campaign until it has settled; a stream that breaks (a server that is killed) is opened again.
    #[must_use]
    pub fn start(channel: InterceptedService<Channel, Bearer>, campaign: &str) -> Self {
        let seen = Arc::new(Mutex::new(Watched::default()));
        let (noted, id) = (Arc::clone(&seen), campaign.to_owned());
        let task = tokio::spawn(async move {
            // A server that ends in an orderly way ends its streams likewise.
            while follow(channel.clone(), &id, &noted).await.is_err() || noted.lock().campaign().settled_time.is_none()
            {
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { campaign: campaign.to_owned(), seen, task }
    }

    /// The campaign.
    #[must_use]
    pub fn campaign(&self) -> &str {
        &self.campaign
    }

    /// Waits until the stream has said these counts last; otherwise what it said last when the time is up.
    ///
    /// # Errors
    /// With what it said.
    pub async fn says(&self, real: &Counts, within: Duration) -> Result<(), Counts> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let (said, _) = self.seen.lock().said();
            if said == *real {
                return Ok(());
            }
            if tokio::time::Instant::now() >= end {
                return Err(said);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Ends with the stream.
async fn follow(
    channel: InterceptedService<Channel, Bearer>,
    campaign: &str,
    noted: &Mutex<Watched>,
) -> anyhow::Result<()> {
    let mut stream = CampaignServiceClient::new(channel).watch_campaign(request(campaign)).await?.into_inner();
    while let Some(answer) = stream.message().await? {
        if let Some(update) = answer.update {
            noted.lock().take(update);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::witness::records::Shown;

    #[test]
    fn a_delta_changes_only_what_it_names() {
        let status = |status: v1::MessageStatus, count| v1::StatusCount { status: status.into(), count };
        let stage = |stage: v1::Stage, count| v1::StageCount { stage: stage.into(), count };
        let failure = |code: &str, count| v1::FailureCount { code: code.to_owned(), count, ..Default::default() };
        let tally = v1::Tally {
            total: 10,
            by_status: vec![status(v1::MessageStatus::Pending, 10)],
            by_stage: vec![stage(v1::Stage::Sent, 0)],
            accepted: 3,
            ..v1::Tally::default()
        };
        let stats = v1::CampaignStats { tally: Some(tally), failures: vec![failure("1", 1)], ..Default::default() };
        let mut watched = Watched::default();
        watched.take(Update::Snapshot(v1::Campaign { stats: Some(stats), ..v1::Campaign::default() }));
        watched.take(Update::Delta(v1::CampaignDelta {
            by_status: vec![status(v1::MessageStatus::Pending, 4), status(v1::MessageStatus::Failed, 6)],
            doubles: Some(2),
            failures: vec![failure("2", 5)],
            ..v1::CampaignDelta::default()
        }));
        let (counts, failures) = watched.said();
        assert_eq!((counts.total, counts.of(Shown::Pending), counts.of(Shown::Failed)), (10, 4, 6));
        assert_eq!((counts.accepted, counts.doubles), (3, 2));
        assert_eq!(failures, BTreeMap::from([("1".to_owned(), 1), ("2".to_owned(), 5)]));
        let by_status = vec![status(v1::MessageStatus::Pending, 2)];
        watched.take(Update::Delta(v1::CampaignDelta { by_status, total: Some(8), ..v1::CampaignDelta::default() }));
        assert_eq!(watched.said().0.total, 8, "two were duplicates");
    }
}
