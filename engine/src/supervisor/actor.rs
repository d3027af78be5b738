//! The supervisor's actor: children, their restarts, and the two ticks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::{Context, SupervisorMsg, duties};
use crate::campaign::{CampaignActor, CampaignArgs, CampaignMsg};
use crate::domain::campaign::{CampaignState, HoldKind};
use crate::domain::ids::{CampaignKey, LineKey};
use crate::domain::line::{Line, LineHoldKind};
use crate::domain::time::Mono;
use crate::line::{LineActor, LineArgs, LineMsg, LineRef};
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

#[derive(Default)]
struct Row {
    panics: u32,
    last: Mono,
}

pub(crate) struct Children {
    context: Arc<Context>,
    by_id: HashMap<ActorId, Child>,
    campaigns: HashMap<CampaignKey, ActorRef<CampaignMsg>>,
    lines: HashMap<LineKey, LineRef>,
    rows: HashMap<Child, Row>,
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
        };
        // The whole house from what outlives the actors: at the first start, and after a panic here.
        for shard in 0..children.context.ledger.shards().len() {
            children.start_status(&myself, shard).await?;
        }
        for entry in children.context.lines() {
            children.start_line(&myself, entry.shared.key).await?;
        }
        for shared in children.context.registry.all() {
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
                    (Some(reply), Some(actor)) => drop(actor.cast(CampaignMsg::Changed(Some(reply)))),
                    (Some(reply), None) => drop(reply.send(())),
                    (None, Some(actor)) => drop(actor.cast(CampaignMsg::Changed(None))),
                    (None, None) => {}
                }
            }
            SupervisorMsg::CampaignGone(key) => {
                crate::faults::point("supervisor.campaign_gone");
                children.stop_campaign(key);
                children.context.registry.remove(key);
            }
            SupervisorMsg::LineChanged(record, reply) => {
                crate::faults::point("supervisor.line_changed");
                children.line_changed(&myself, *record, reply).await?;
            }
            SupervisorMsg::Dispatched(key) => {
                crate::faults::point("supervisor.dispatched");
                duties::complete(&children.context, key);
            }
            SupervisorMsg::Act { act, line, campaign, reason } => {
                crate::faults::point("supervisor.act");
                duties::act(&children.context, act, line, campaign, reason);
            }
            SupervisorMsg::Publish => {
                crate::faults::point("supervisor.publish");
                duties::publish(&children.context);
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

    async fn start_line(&mut self, myself: &ActorRef<SupervisorMsg>, key: LineKey) -> Result<(), ActorProcessingErr> {
        let Some(entry) = self.context.line(key) else { return Ok(()) };
        let record = entry.shared.record();
        let args = LineArgs { shared: entry.shared, senders: entry.senders, config: Arc::clone(&self.context.config) };
        let (actor, _) = Actor::spawn_linked(None, LineActor, args, myself.get_cell()).await?;
        self.by_id.insert(actor.get_id(), Child::Line(key));
        self.lines.insert(key, actor);
        // The campaigns of its pool prepare their requests for it, and tell it what they want.
        for shared in self.context.registry.all() {
            let campaign = shared.record();
            if campaign.tenant == record.tenant
                && campaign.pool == record.pool
                && let Some(actor) = self.campaigns.get(&shared.key)
            {
                let _ = actor.cast(CampaignMsg::Changed(None));
            }
        }
        Ok(())
    }

    async fn line_changed(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        record: Line,
        reply: Option<ractor::RpcReplyPort<()>>,
    ) -> Result<(), ActorProcessingErr> {
        let (entry, new) = self.context.line_or_new(record.clone());
        let pool_changed = entry.shared.record().pool != record.pool;
        entry.shared.set_record(record);
        if new || pool_changed {
            if let Some(old) = self.lines.remove(&entry.shared.key) {
                old.stop(None);
            }
            self.start_line(myself, entry.shared.key).await?;
        } else if let Some(actor) = self.lines.get(&entry.shared.key) {
            let _ = actor.cast(LineMsg::Stopped);
        }
        if let Some(reply) = reply {
            let _ = reply.send(());
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
        if !wants_actor {
            self.stop_campaign(key);
        } else if !self.campaigns.contains_key(&key) {
            let args = CampaignArgs { shared, context: Arc::clone(&self.context), supervisor: myself.clone() };
            let (actor, _) = Actor::spawn_linked(None, CampaignActor, args, myself.get_cell()).await?;
            self.by_id.insert(actor.get_id(), Child::Campaign(key));
            self.campaigns.insert(key, actor);
        }
        Ok(())
    }

    fn stop_campaign(&mut self, key: CampaignKey) {
        if let Some(actor) = self.campaigns.remove(&key) {
            actor.stop(None);
        }
        if let Some(shared) = self.context.registry.get(key) {
            shared.actor.store(None);
        }
    }

    /// A child panicked: it is started anew from what outlives it, unless it is the fifth time in a row.
    async fn failed(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        cell: &ActorCell,
        error: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = self.by_id.remove(&cell.get_id()) else { return Ok(()) };
        let now = self.context.clock.mono();
        let row = self.rows.entry(child).or_default();
        row.panics = if now.since(row.last) < ROW_ENDS_AFTER { row.panics + 1 } else { 1 };
        row.last = now;
        let panics = row.panics;
        let quarantine = row.panics >= self.context.config.panics_max;
        tracing::error!(?child, error, in_a_row = panics, quarantine, "an actor panicked");
        if quarantine {
            self.rows.remove(&child);
        }
        match child {
            Child::Status(index) => self.start_status(myself, index).await?,
            Child::Line(key) => {
                self.lines.remove(&key);
                if quarantine {
                    let reason = format!("its actor panicked {panics} times in a row; last: {error}");
                    duties::hold_line(&self.context, key, LineHoldKind::Panics, reason, None);
                }
                self.start_line(myself, key).await?;
            }
            Child::Campaign(key) => {
                self.campaigns.remove(&key);
                if quarantine {
                    let reason = format!("its actor panicked {panics} times in a row; last: {error}");
                    duties::hold_campaign(&self.context, key, HoldKind::Panics, reason, None);
                }
                self.follow_campaign(myself, key).await?;
            }
        }
        Ok(())
    }
}
