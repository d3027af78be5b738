//! The sender's actor: looks at the queue when something comes in and when the aim says so.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::SenderCore;

/// What a sender is told.
pub(crate) enum SenderMsg {
    /// Something came in or became free.
    Pump,
    /// The aim is due.
    Tick,
}

/// One sender's actor.
pub(crate) struct SenderActor;

impl Actor for SenderActor {
    type Msg = SenderMsg;
    type State = Arc<SenderCore>;
    type Arguments = Arc<SenderCore>;

    async fn pre_start(
        &self,
        myself: ActorRef<SenderMsg>,
        core: Arc<SenderCore>,
    ) -> Result<Arc<SenderCore>, ActorProcessingErr> {
        core.attach(myself.clone());
        let _ = myself.cast(SenderMsg::Pump);
        Ok(core)
    }

    async fn handle(
        &self,
        _: ActorRef<SenderMsg>,
        message: SenderMsg,
        core: &mut Arc<SenderCore>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SenderMsg::Pump => crate::faults::point("sender.pump"),
            SenderMsg::Tick => {
                core.tick_handled();
                crate::faults::point("sender.tick");
            }
        }
        core.pump();
        Ok(())
    }
}
