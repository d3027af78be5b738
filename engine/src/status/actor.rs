//! The status actor: woken once for many entries, it commits until nothing is left.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::Shard;

/// What a status actor is told.
pub(crate) enum StatusMsg {
    /// There is something in the inbox.
    Commit,
}

/// One status actor.
pub(crate) struct StatusActor;

impl Actor for StatusActor {
    type Msg = StatusMsg;
    type State = Arc<Shard>;
    type Arguments = Arc<Shard>;

    async fn pre_start(&self, _: ActorRef<StatusMsg>, shard: Arc<Shard>) -> Result<Arc<Shard>, ActorProcessingErr> {
        Ok(shard)
    }

    async fn post_start(&self, myself: ActorRef<StatusMsg>, shard: &mut Arc<Shard>) -> Result<(), ActorProcessingErr> {
        // Wakes it: also what a predecessor left is taken up.
        shard.attach(myself);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<StatusMsg>,
        StatusMsg::Commit: StatusMsg,
        shard: &mut Arc<Shard>,
    ) -> Result<(), ActorProcessingErr> {
        crate::faults::point("status.commit");
        // A short wait gathers company: one commit, one wake-up and one sync for many.
        tokio::time::sleep(shard.tick()).await;
        while shard.expects_company() {
            tokio::time::sleep(shard.tick()).await;
        }
        shard.awake();
        if !shard.flush(false).await {
            if !shard.refused(true) {
                tracing::warn!(shard = shard.index(), "outcomes wait for the ledger");
            }
            // One try after the other, however many wait; who pushes meanwhile wakes this actor once.
            tokio::time::sleep(Shard::RETRY_AFTER).await;
            shard.wake();
        } else if shard.refused(false) {
            tracing::info!(shard = shard.index(), "the ledger takes outcomes again");
        }
        Ok(())
    }
}
