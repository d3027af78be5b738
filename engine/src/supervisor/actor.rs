//! The supervisor's actor: children, their restarts, and the two ticks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{Context, SupervisorMsg, duties, holds};
use crate::campaign::shared::CampaignShared;
use crate::campaign::{CampaignActor, CampaignArgs, CampaignMsg, CampaignRef};
use crate::domain::campaign::{CampaignState, HoldKind};
use crate::domain::ids::{CampaignKey, LineKey, PoolId};
use crate::domain::line::LineHoldKind;
use crate::domain::time::Mono;
use crate::line::{LineActor, LineArgs, LineMsg, LineRef};
use crate::metrics::delays;
use crate::status::StatusActor;

const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// An actor that lived so long since its last panic begins a new row.
const ROW_ENDS_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Child {
    Status(usize),
    Line(LineKey),
    Campaign(CampaignKey),
}

impl Child {
    const fn name(self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Line(_) => "line",
            Self::Campaign(_) => "campaign",
        }
    }
}

#[derive(Default)]
struct Row {
    panics: u32,
    last: Mono,
}

pub(crate) struct Children {
    context: Arc<Context>,
    by_id: HashMap<ActorId, Child>,
    /// With what each works on: a campaign that settled and was reopened is another.
    campaigns: HashMap<CampaignKey, (CampaignRef, Arc<CampaignShared>)>,
    /// With the pool that each was started in.
    lines: HashMap<LineKey, (LineRef, PoolId)>,
    rows: HashMap<Child, Row>,
    /// When the next [`SupervisorMsg::Publish`] is due.
    publish_due: Option<Mono>,
}

/// The supervisor's actor.
pub(crate) struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = Children;
    type Arguments = Arc<Context>;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        context: Arc<Context>,
    ) -> Result<Children, ActorProcessingErr> {
        context.supervisor.store(Some(Arc::new(myself.clone())));
        context.senders.outcomes.supervisor.store(Some(Arc::new(myself.clone())));
        let mut children = Children {
            context,
            by_id: HashMap::new(),
            campaigns: HashMap::new(),
            lines: HashMap::new(),
            rows: HashMap::new(),
            publish_due: None,
        };
        // The whole house from what outlives the actors: at the first start, and after a panic here.
        for shard in 0..children.context.ledger.shards().len() {
            children.start_status(&myself, shard).await?;
        }
        for entry in children.context.lines() {
            entry.shared.forget_expected_hold();
            children.start_line(&myself, entry.shared.key, None).await?;
        }
        for shared in children.context.registry.all() {
            shared.forget_expected_hold();
            children.follow_campaign(&myself, shared.key).await?;
        }
        let _ = myself.cast(SupervisorMsg::Publish);
        let _ = myself.cast(SupervisorMsg::Second);
        Ok(children)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::CampaignChanged(key, reply) => {
                crate::faults::point("supervisor.campaign_changed");
                children.follow_campaign(&myself, key).await?;
                match (reply, children.campaigns.get(&key)) {
                    (reply, Some((actor, _))) => drop(actor.cast(CampaignMsg::Changed(reply))),
                    (Some(reply), None) => drop(reply.send(())),
                    (None, None) => {}
                }
            }
            SupervisorMsg::CampaignGone(key) => {
                crate::faults::point("supervisor.campaign_gone");
                // Unless it was reopened meanwhile.
                children.follow_campaign(&myself, key).await?;
            }
            SupervisorMsg::LineChanged(key, reply) => {
                crate::faults::point("supervisor.line_changed");
                children.line_changed(&myself, key).await?;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            SupervisorMsg::SenderPanicked(key, error) => {
                crate::faults::point("supervisor.sender_panicked");
                children.count_panic(Child::Line(key), &error);
            }
            SupervisorMsg::Dispatched(key) => {
                crate::faults::point("supervisor.dispatched");
                duties::complete(&children.context, key);
            }
            SupervisorMsg::ErrorRun(key, reason) => {
                crate::faults::point("supervisor.error_run");
                holds::hold_campaign(&children.context, key, HoldKind::RequestErrors, reason, None);
            }
            SupervisorMsg::Act { act, line, campaign, reason } => {
                crate::faults::point("supervisor.act");
                holds::act(&children.context, act, line, campaign, reason);
            }
            SupervisorMsg::Publish => {
                crate::faults::point("supervisor.publish");
                let now = children.context.clock.mono();
                if let Some(due) = children.publish_due {
                    delays::note(delays::Of::Supervisor, now, now.since(due));
                }
                duties::publish(&children.context);
                children.publish_due = Some(children.context.clock.mono() + PUBLISH_EVERY);
                drop(myself.send_after(PUBLISH_EVERY, || SupervisorMsg::Publish));
            }
            SupervisorMsg::Second => {
                crate::faults::point("supervisor.second");
                duties::second(&children.context);
                drop(myself.send_after(Duration::from_secs(1), || SupervisorMsg::Second));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        children: &mut Children,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(cell, error) => children.failed(&myself, &cell, &error.to_string()).await?,
            SupervisionEvent::ActorTerminated(cell, ..) => {
                children.by_id.remove(&cell.get_id());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Children {
    async fn start_status(&mut self, myself: &ActorRef<SupervisorMsg>, index: usize) -> Result<(), ActorProcessingErr> {
        let shard = Arc::clone(&self.context.ledger.shards()[index]);
        let (actor, _) = Actor::spawn_linked(None, StatusActor, shard, myself.get_cell()).await?;
        self.by_id.insert(actor.get_id(), Child::Status(index));
        Ok(())
    }

    /// Starts a line's actor; `left`: the pool that it was moved out of.
    async fn start_line(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        key: LineKey,
        left: Option<PoolId>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.context.line(key) else { return Ok(()) };
        let record = entry.shared.record();
        let args = LineArgs { shared: entry.shared, senders: entry.senders, config: Arc::clone(&self.context.config) };
        let (actor, _) = Actor::spawn_linked(None, LineActor, args, myself.get_cell()).await?;
        self.by_id.insert(actor.get_id(), Child::Line(key));
        self.lines.insert(key, (actor, record.pool.clone()));
        // The campaigns of its pool prepare their requests for it, and tell it what they want; those of the other forget it.
        for (actor, shared) in self.campaigns.values() {
            let campaign = shared.record();
            let concerned = campaign.pool == record.pool || Some(&campaign.pool) == left.as_ref();
            if campaign.tenant == record.tenant && concerned {
                let _ = actor.cast(CampaignMsg::Changed(None));
            }
        }
        Ok(())
    }

    /// A line that is new or was moved gets a new actor; another hears that its record changed.
    async fn line_changed(&mut self, myself: &ActorRef<SupervisorMsg>, key: LineKey) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.context.line(key) else {
            // Its pool is another node's now. Requests under way come to their end in tasks of their own.
            if let Some((actor, _)) = self.lines.remove(&key) {
                actor.stop(None);
            }
            return Ok(());
        };
        match self.lines.get(&key) {
            Some((actor, pool)) if *pool == entry.shared.record().pool => drop(actor.cast(LineMsg::Stopped)),
            _ => {
                let left = self.lines.remove(&key).map(|(old, pool)| {
                    old.stop(None);
                    pool
                });
                self.start_line(myself, key, left).await?;
            }
        }
        Ok(())
    }

    /// Starts or stops the campaign's actor as its record says.
    async fn follow_campaign(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        key: CampaignKey,
    ) -> Result<(), ActorProcessingErr> {
        let Some(shared) = self.context.registry.get(key) else {
            self.stop_campaign(key);
            return Ok(());
        };
        let state = shared.record().state;
        // A paused campaign keeps its actor: resuming costs nothing, and its outcomes are heard.
        let wants_actor = matches!(state, CampaignState::Running | CampaignState::Paused | CampaignState::Held);
        let has_actor = self.campaigns.get(&key).is_some_and(|(_, works_on)| Arc::ptr_eq(works_on, &shared));
        if wants_actor && has_actor {
            return Ok(());
        }
        self.stop_campaign(key);
        if wants_actor {
            let (context, supervisor) = (Arc::clone(&self.context), myself.clone());
            let args = CampaignArgs { shared: Arc::clone(&shared), context, supervisor };
            let (actor, _) = Actor::spawn_linked(None, CampaignActor, args, myself.get_cell()).await?;
            self.by_id.insert(actor.get_id(), Child::Campaign(key));
            self.campaigns.insert(key, (actor, shared));
        }
        Ok(())
    }

    fn stop_campaign(&mut self, key: CampaignKey) {
        if let Some((actor, shared)) = self.campaigns.remove(&key) {
            actor.stop(None);
            shared.actor.store(None);
        }
    }

    /// Counts a panic; the fifth in a row quarantines the campaign, or holds the line.
    fn count_panic(&mut self, child: Child, error: &str) {
        let now = self.context.clock.mono();
        let row = self.rows.entry(child).or_default();
        row.panics = if now.since(row.last) < ROW_ENDS_AFTER { row.panics + 1 } else { 1 };
        row.last = now;
        let panics = row.panics;
        metrics::counter!(crate::metrics::ACTOR_PANICS, "actor" => child.name()).increment(1);
        tracing::error!(?child, error, in_a_row = panics, "an actor panicked and is started anew");
        if panics < self.context.config.panics_max {
            return;
        }
        let reason = format!("its actor panicked {panics} times in a row; last: {error}");
        match child {
            // Nothing goes without it, and there is nobody else to charge.
            Child::Status(_) => return,
            Child::Line(key) => holds::hold_line(&self.context, key, LineHoldKind::Panics, reason, None),
            Child::Campaign(key) => holds::hold_campaign(&self.context, key, HoldKind::Panics, reason, None),
        }
        self.rows.remove(&child);
    }

    /// A child panicked: it is started anew from what outlives it.
    async fn failed(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        cell: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = self.by_id.remove(&cell.get_id()) else { return Ok(()) };
        self.count_panic(child, error);
        // One that was replaced already and panicked while it stopped leaves its successor alone.
        match child {
            Child::Status(index) => self.start_status(myself, index).await,
            Child::Line(key) => {
                if self.lines.get(&key).is_some_and(|(actor, _)| actor.get_id() != cell.get_id()) {
                    return Ok(());
                }
                self.lines.remove(&key);
                self.start_line(myself, key, None).await
            }
            Child::Campaign(key) => {
                if self.campaigns.get(&key).is_some_and(|(actor, _)| actor.get_id() != cell.get_id()) {
                    return Ok(());
                }
                self.campaigns.remove(&key);
                self.follow_campaign(myself, key).await
            }
        }
    }
}
