//! The actors as the façade sees them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ractor::rpc::CallResult;
use tokio::sync::watch;

use super::{Context, SupervisorMsg, duties, recovery};
use crate::control::runtime::Shut;
use crate::control::{LineStatus, Progress, Runtime};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::line::Line;
use crate::nodes::NodesView;
use crate::store::{Entry, EntryResult, StoreError, StoreResult};

/// Longest wait for an actor to take note of a change; the change is durable by then, and takes effect all the same.
const NOTICE: Duration = Duration::from_millis(900);

/// The running actors. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) context: Arc<Context>,
}

impl Handle {
    async fn tell(&self, message: impl FnOnce(ractor::RpcReplyPort<()>) -> SupervisorMsg) {
        let Some(supervisor) = self.context.supervisor.load_full() else { return };
        match supervisor.call(message, Some(NOTICE)).await {
            Ok(CallResult::Success(())) => {}
            Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => {
                tracing::warn!("an actor was slow to take note of a change; it will");
            }
        }
    }
}

#[async_trait]
impl Runtime for Handle {
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>> {
        let results = self.context.ledger.commit(entries).await?;
        if results.contains(&EntryResult::Elsewhere) {
            return Err(StoreError::Elsewhere("the campaign is another node's".to_owned()));
        }
        Ok(results)
    }

    fn shut_gate(&self, campaign: CampaignKey) -> Shut {
        Box::new(self.context.registry.get(campaign).map(|shared| shared.shut()))
    }

    fn in_flight(&self, campaign: CampaignKey) -> u64 {
        self.context.registry.get(campaign).map_or(0, |shared| shared.in_flight())
    }

    async fn campaign_changed(&self, campaign: &Campaign) {
        if campaign.state == CampaignState::Draft || campaign.settled_at.is_some() {
            return;
        }
        let known = self.context.registry.get(campaign.key);
        let ran = known.is_some_and(|shared| shared.record().state == CampaignState::Running);
        match recovery::adopt(&self.context, campaign.clone()).await {
            // Its owner hears of it from whoever asked there; this one works on it no more.
            Err(StoreError::Elsewhere(_)) => return self.campaign_removed(campaign.key).await,
            Ok(shared) => {
                if let Some(caller) = crate::trace::caller()
                    && campaign.state == CampaignState::Running
                    && !ran
                {
                    shared.set_put_to_work_by(caller);
                }
                duties::refresh_tally(&self.context, &shared).await;
                shared.publish(self.context.clock.mono(), true);
            }
            Err(error) => {
                tracing::error!(campaign = %campaign.id, %error, "a campaign could not be taken over by the actors; trying again");
                recovery::adopt_later(&self.context, campaign.key);
                return;
            }
        }
        let key = campaign.key;
        self.tell(|reply| SupervisorMsg::CampaignChanged(key, Some(reply))).await;
    }

    async fn campaign_removed(&self, campaign: CampaignKey) {
        self.context.registry.remove(campaign);
        self.context.cast(SupervisorMsg::CampaignGone(campaign));
    }

    async fn line_changed(&self, line: &Line) {
        self.context.pools.line_changed(line).await;
        // In force from here on, whatever becomes of the message.
        self.context.take_line(line.clone());
        self.tell(|reply| SupervisorMsg::LineChanged(line.key, Some(reply))).await;
    }

    fn line_status(&self, line: LineKey) -> LineStatus {
        self.context.line(line).map(|entry| entry.shared.status()).unwrap_or_default()
    }

    fn progress(&self, campaign: CampaignKey) -> Option<watch::Receiver<Progress>> {
        self.context.registry.get(campaign).map(|shared| shared.subscribe())
    }

    fn is_draining(&self) -> bool {
        self.context.is_draining()
    }

    fn nodes(&self) -> Option<NodesView> {
        self.context.pools.view()
    }
}
