//! The line's actor: grants on a short tick while somebody wants to send, silence otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::LineMsg;
use super::gate::{LineShared, Room};
use crate::campaign::{CampaignMsg, CampaignRef};
use crate::config::EngineConfig;
use crate::control::Binding;
use crate::domain::ids::CampaignKey;
use crate::domain::share::Shares;
use crate::domain::time::Mono;
use crate::metrics::delays;
use crate::sender::{SenderActor, SenderCore, SenderMsg};
use crate::supervisor::SupervisorMsg;

/// While somebody wants to send, the line deals this often: about 5 ms of its rate at a time.
const TICK: Duration = Duration::from_millis(4);
/// The same while the line is stopped: it only waits for a release or a probe.
const STOPPED_TICK: Duration = Duration::from_millis(100);

/// What a line's actor is made of.
pub(crate) struct LineArgs {
    pub(crate) shared: Arc<LineShared>,
    pub(crate) senders: Vec<Arc<SenderCore>>,
    pub(crate) config: Arc<EngineConfig>,
}

pub(crate) struct LineState {
    args: LineArgs,
    actors: Vec<ActorRef<SenderMsg>>,
    shares: Shares,
    wanting: HashMap<CampaignKey, CampaignRef>,
    /// When the tick that was armed comes.
    tick_due: Option<Mono>,
    next_sender: usize,
    binding: Option<Binding>,
}

/// One line's actor.
pub(crate) struct LineActor;

impl Actor for LineActor {
    type Msg = LineMsg;
    type State = LineState;
    type Arguments = LineArgs;

    async fn pre_start(&self, myself: ActorRef<LineMsg>, args: LineArgs) -> Result<LineState, ActorProcessingErr> {
        let mut actors = Vec::new();
        for core in &args.senders {
            let (actor, _) = Actor::spawn_linked(None, SenderActor, Arc::clone(core), myself.get_cell()).await?;
            actors.push(actor);
        }
        args.shared.actor.store(Some(Arc::new(myself)));
        Ok(LineState {
            args,
            actors,
            shares: Shares::default(),
            wanting: HashMap::new(),
            tick_due: None,
            next_sender: 0,
            binding: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<LineMsg>,
        message: LineMsg,
        state: &mut LineState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LineMsg::Want { campaign, actor, wanted } => {
                crate::faults::point("line.want");
                state.want(campaign, actor, wanted);
            }
            LineMsg::Dispatch(items) => {
                // Handed on first: whatever happens to this actor, the items have an owner that reports them.
                state.dispatch(items);
                crate::faults::point("line.dispatch");
            }
            LineMsg::Tick => {
                crate::faults::point("line.tick");
                state.ticked();
            }
            LineMsg::Stopped => {
                crate::faults::point("line.stopped");
                state.stop_if_told();
            }
        }
        state.deal(&myself);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<LineMsg>,
        event: SupervisionEvent,
        state: &mut LineState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, error) = event {
            state.restart(&myself, &cell, &error.to_string()).await?;
        }
        Ok(())
    }
}

impl LineState {
    fn want(&mut self, campaign: CampaignKey, actor: CampaignRef, wanted: u32) {
        // The last word of an actor that was replaced: its successor has spoken already.
        let is_other = |known: &CampaignRef| known.get_id() != actor.get_id();
        if wanted == 0 && self.wanting.get(&campaign).is_some_and(is_other) {
            return;
        }
        self.shares.want(campaign, wanted);
        if wanted > 0 {
            let known = self.wanting.insert(campaign, actor.clone()).is_some();
            if let Some(binding) = self.binding.filter(|_| !known) {
                // It was told to the others when it changed.
                let _ = actor.cast(CampaignMsg::LineBinds(binding));
            }
        } else {
            self.wanting.remove(&campaign);
        }
    }

    /// To one sender after the other.
    #[allow(clippy::vec_box)] // handed on one by one
    fn dispatch(&mut self, items: Vec<Box<crate::sender::Item>>) {
        self.next_sender = (self.next_sender + 1) % self.args.senders.len();
        self.args.senders[self.next_sender].enqueue(items);
        let _ = self.actors[self.next_sender].cast(SenderMsg::Pump);
    }

    /// What waits at a stopped line is withdrawn by its senders.
    fn stop_if_told(&self) {
        if !self.args.shared.may_send() || self.args.shared.is_stopped_by_breaker() {
            for actor in &self.actors {
                let _ = actor.cast(SenderMsg::Pump);
            }
        }
    }

    fn ticked(&mut self) {
        if let Some(due) = self.tick_due.take() {
            let now = self.args.shared.clock.mono();
            delays::note(delays::Of::Line, now, now.since(due));
        }
    }

    fn deal(&mut self, myself: &ActorRef<LineMsg>) {
        if self.shares.wanting() == 0 {
            return;
        }
        let shared = &self.args.shared;
        let room = shared.room(self.args.config.look_ahead);
        if let Room::Permits(room @ 1..) = room {
            for (campaign, count) in self.shares.deal(room) {
                if let Some(actor) = self.wanting.get(&campaign) {
                    // An actor that is gone drops the permits: they are given back.
                    let _ = actor.cast(CampaignMsg::Granted(shared.grant(count)));
                }
            }
        }
        let binding = match room {
            Room::Permits(_) if shared.status().slowed => Binding::Slowed,
            Room::Permits(_) => Binding::LineCeiling,
            Room::InFlightFull => Binding::LineInFlight,
            Room::Stopped => Binding::LinesUnavailable,
        };
        if self.binding != Some(binding) {
            self.binding = Some(binding);
            for actor in self.wanting.values() {
                let _ = actor.cast(CampaignMsg::LineBinds(binding));
            }
        }
        if self.shares.wanting() > 0 && self.tick_due.is_none() {
            let after = if room == Room::Stopped { STOPPED_TICK } else { TICK };
            self.tick_due = Some(shared.clock.mono() + after);
            drop(myself.send_after(after, || LineMsg::Tick));
        }
    }

    /// A sender panicked: it goes on with the queue that outlives it, and the line is charged.
    async fn restart(
        &mut self,
        myself: &ActorRef<LineMsg>,
        failed: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(place) = self.actors.iter().position(|a| a.get_id() == failed.get_id()) else { return Ok(()) };
        let core = Arc::clone(&self.args.senders[place]);
        let reason = format!("a sender of the line: {error}");
        core.context.outcomes.tell(SupervisorMsg::SenderPanicked(self.args.shared.key, reason));
        let (actor, _) = Actor::spawn_linked(None, SenderActor, core, myself.get_cell()).await?;
        self.actors[place] = actor;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Clock;
    use crate::store::conformance;

    /// Stands for a campaign's actor.
    struct Nobody;

    impl Actor for Nobody {
        type Msg = CampaignMsg;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: CampaignRef, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_last_word_of_a_replaced_actor_does_not_silence_its_successor() {
        let record = conformance::line("line-1", "100");
        let lease = Arc::new(crate::nodes::Lease::forever(Clock::system()));
        let line = LineShared::new(record, None, Clock::system(), &EngineConfig::default(), lease);
        let args = LineArgs { shared: Arc::new(line), senders: Vec::new(), config: Arc::new(EngineConfig::default()) };
        let mut state = LineState {
            args,
            actors: Vec::new(),
            shares: Shares::default(),
            wanting: HashMap::new(),
            tick_due: None,
            next_sender: 0,
            binding: None,
        };
        let (old, _) = Actor::spawn(None, Nobody, ()).await.unwrap();
        let (new, _) = Actor::spawn(None, Nobody, ()).await.unwrap();
        let key = CampaignKey(1);
        state.want(key, old.clone(), 10);
        state.want(key, new.clone(), 20);
        state.want(key, old, 0);
        assert_eq!(state.shares.wanting(), 1);
        state.want(key, new, 0);
        assert_eq!(state.shares.wanting(), 0);
    }
}
