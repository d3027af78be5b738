//! The moves of a campaign: seal, start, pause, resume, cancel; one or many.
//!
//! The order in a pause or cancel is: shut the gate, write, tell the actor. So what was answered is durable, and nothing that
//! had not passed the gate by then passes afterwards, whether or not the server lives to see it.

use std::time::Duration;

use super::campaigns::{CampaignView, check_suits};
use super::error::{Error, OrNotFound, Result, Violations};
use super::page::PAGE_SIZE_MAX;
use super::runtime::Shut;
use super::{Control, filter, same_version};
use crate::domain::campaign::{Campaign, CampaignState, Move, next_state};
use crate::domain::ids::{CampaignKey, TenantId};
use crate::domain::stage::{End, Shown};
use crate::domain::time::UnixMillis;
use crate::store::{LineFilter, Page, StoreError};

/// Most campaigns in a batch.
const BATCH_MAX: usize = 1_000;
/// Pause before a ledger that is away is asked again.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);
/// How often a move without an etag is tried again when the record moved meanwhile.
const MOVES_MAX: usize = 8;

/// A campaign that was stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Halted {
    /// The campaign.
    pub campaign: CampaignView,
    /// Messages in flight when the stop was durable: all that may still leave.
    pub in_flight: u64,
}

/// Which campaigns a batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<String>),
    /// What matches.
    Filter(String),
}

/// The moves that can be asked of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchMove {
    /// Start.
    Start,
    /// Pause.
    Pause,
    /// Resume.
    Resume,
    /// Cancel.
    Cancel,
}

/// What became of one campaign of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// As it was asked for.
    pub id: String,
    /// Its state and, when it was stopped, what was in flight; or why it did not work.
    pub result: Result<(CampaignState, u64)>,
}

impl Control {
    /// Freezes the audience. Sealing again changes nothing.
    pub async fn seal_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<CampaignView> {
        let campaign = self.campaign_record(tenant, id).await?;
        same_version(expected, campaign.version)?;
        let campaign = self.sealed(campaign).await?;
        self.view(campaign).await
    }

    async fn sealed(&self, campaign: Campaign) -> Result<Campaign> {
        if campaign.sealed.is_some() {
            return Ok(campaign);
        }
        if campaign.state != CampaignState::Draft {
            let problem = format!("a campaign that is {} can no longer be sealed", campaign.state.name());
            return Err(Error::precondition("STATE", subject(&campaign), problem));
        }
        if campaign.recipients == 0 {
            return Err(empty(&campaign));
        }
        let id = campaign.id.clone();
        let campaign = self.store.seal(campaign.key, self.now()).await.or_not_found("campaign", id.as_str())?;
        if campaign.recipients == 0 { Err(empty(&campaign)) } else { Ok(campaign) }
    }

    /// Starts a campaign, or schedules it. Starting again changes nothing.
    pub async fn start_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<CampaignView> {
        self.accepting()?;
        for _ in 0..MOVES_MAX {
            let seen = self.campaign_record(tenant, id).await?;
            same_version(expected, seen.version)?;
            let now = self.now();
            let to = next_state(seen.state, Move::Start, seen.is_scheduled(now))?;
            if to == seen.state {
                self.told(&seen).await;
                return self.view(seen).await;
            }
            self.check_startable(&seen, now).await?;
            let version = seen.version;
            let mut campaign = self.sealed(seen).await?;
            // Sealing takes a while and leaves the version: what was checked must still be what starts.
            let moved = campaign.version != version;
            campaign.state = to;
            match if moved { Err(Error::Stale) } else { self.written(begun(campaign, now)).await } {
                Err(Error::Stale) if expected.is_none() => {}
                result => return self.view(result?).await,
            }
        }
        Err(Error::Stale)
    }

    /// What a start needs beyond a legal move, so that it fails here rather than with every message.
    async fn check_startable(&self, campaign: &Campaign, now: UnixMillis) -> Result<()> {
        refuse_past_stop(campaign, now)?;
        let pool = LineFilter {
            tenant: Some(campaign.tenant.clone()),
            pool: Some(campaign.pool.clone()),
            ..LineFilter::default()
        };
        if self.store.lines(&pool).await?.is_empty() {
            let problem = format!("pool {:?} has no line", campaign.pool.as_str());
            return Err(Error::precondition("POOL_EMPTY", subject(campaign), problem));
        }
        let mut violations = Violations::default();
        let kind = self.kind_of(campaign).await?;
        check_suits(&campaign.template_definition, kind, "settings.template_id", &mut violations)?;
        violations.check()
    }

    /// Goes on after a pause or a hold. Resuming what runs changes nothing.
    pub async fn resume_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<CampaignView> {
        self.accepting()?;
        for _ in 0..MOVES_MAX {
            let mut campaign = self.campaign_record(tenant, id).await?;
            same_version(expected, campaign.version)?;
            let now = self.now();
            let to = next_state(campaign.state, Move::Resume, campaign.is_scheduled(now))?;
            if to == campaign.state {
                self.told(&campaign).await;
                return self.view(campaign).await;
            }
            campaign.state = to;
            campaign.hold = None;
            match self.written(begun(campaign, now)).await {
                Err(Error::Stale) if expected.is_none() => {}
                result => return self.view(result?).await,
            }
        }
        Err(Error::Stale)
    }

    /// Pauses. Durable when it returns; from then on nothing leaves but what was in flight.
    pub async fn pause_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<Halted> {
        self.halt(tenant, id, expected, Move::Pause).await
    }

    /// Ends a campaign; what was not sent becomes cancelled. Durable when it returns.
    pub async fn cancel_campaign(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<Halted> {
        self.halt(tenant, id, expected, Move::Cancel).await
    }

    async fn halt(&self, tenant: &TenantId, id: &str, expected: Option<u64>, asked: Move) -> Result<Halted> {
        for _ in 0..MOVES_MAX {
            let campaign = self.campaign_record(tenant, id).await?;
            same_version(expected, campaign.version)?;
            let to = next_state(campaign.state, asked, false)?;
            // Cancelled already; but what somebody decided to send again may be about to put it back to work: then it is cancelled anew.
            let waits = to == campaign.state
                && to == CampaignState::Cancelled
                && self.has_pending(campaign.key).await.or_not_found("campaign", id)?;
            if to == campaign.state && !waits {
                self.told(&campaign).await;
                let in_flight = self.runtime.in_flight(campaign.key);
                return Ok(Halted { campaign: self.view(campaign).await?, in_flight });
            }
            let shut = self.runtime.shut_gate(campaign.key);
            match self.write_halt(campaign.clone(), to).await {
                Ok(halted) => {
                    // Counted after the write and before the actor lets go of anything: an upper bound of what may still leave.
                    let in_flight = self.runtime.in_flight(halted.key);
                    self.runtime.campaign_changed(&halted).await;
                    drop(shut);
                    return Ok(Halted { campaign: self.view(halted).await?, in_flight });
                }
                Err(error) => {
                    // The gate was shut on the strength of a write that did not happen, as far as anybody knows: it follows what is
                    // written.
                    self.follow_stored(campaign.key, shut).await;
                    if !matches!(error, StoreError::Version { .. }) || expected.is_some() {
                        return Err(error.into());
                    }
                }
            }
        }
        Err(Error::Stale)
    }

    /// Tells the actors of a record that stands as it was asked for, unless they know it. Who wrote it may have lost the pool to this node in
    /// that moment, and have told nobody who works on the campaign.
    async fn told(&self, campaign: &Campaign) {
        if self.known(campaign.key).is_none_or(|version| version < campaign.version) {
            self.runtime.campaign_changed(campaign).await;
        }
    }

    /// The version of a record that the actors know; `None`: they do not work on the campaign.
    pub(super) fn known(&self, campaign: CampaignKey) -> Option<u64> {
        self.runtime.progress(campaign).map(|progress| progress.borrow().version)
    }

    /// Tells the actors what is written, then lets go of the gate. A ledger that cannot be read may have taken the halt: then the gate
    /// stays shut until somebody knows.
    async fn follow_stored(&self, key: CampaignKey, shut: Shut) {
        match self.store.campaign_by_key(key).await {
            Ok(stored) => self.runtime.campaign_changed(&stored).await,
            Err(StoreError::Unavailable(_)) => {
                let control = self.clone();
                tokio::spawn(async move {
                    let stored = loop {
                        tokio::time::sleep(LEDGER_PAUSE).await;
                        match control.store.campaign_by_key(key).await {
                            Err(StoreError::Unavailable(_)) if !control.runtime.is_draining() => {}
                            stored => break stored,
                        }
                    };
                    if let Ok(stored) = stored {
                        control.runtime.campaign_changed(&stored).await;
                    }
                    drop(shut);
                });
            }
            Err(error) => tracing::error!(campaign = %key, %error, "a campaign that was to be stopped cannot be read"),
        }
    }

    async fn write_halt(&self, mut campaign: Campaign, to: CampaignState) -> Result<Campaign, StoreError> {
        let now = self.now();
        campaign.state = to;
        campaign.hold = None;
        campaign.updated_at = now;
        if to != CampaignState::Cancelled {
            return self.store.update_campaign(campaign).await;
        }
        campaign.ended_at.get_or_insert(now);
        if campaign.started_at.is_none() {
            campaign.settled_at.get_or_insert(now);
        }
        self.store.end_campaign(campaign, End::Cancelled).await.map(|(campaign, _)| campaign)
    }

    /// Whether messages wait to leave; of a campaign that is over: because somebody decided to send them again.
    pub(super) async fn has_pending(&self, campaign: CampaignKey) -> Result<bool, StoreError> {
        Ok(self.store.tally(campaign).await?.tally.count(Shown::Pending) > 0)
    }

    /// Writes a record and tells the actor.
    async fn written(&self, mut campaign: Campaign) -> Result<Campaign> {
        campaign.updated_at = self.now();
        let id = campaign.id.clone();
        let campaign = self.store.update_campaign(campaign).await.or_not_found("campaign", id.as_str())?;
        self.runtime.campaign_changed(&campaign).await;
        Ok(campaign)
    }

    /// The same move for many; one that fails does not stop the others.
    pub async fn batch(&self, tenant: &TenantId, selection: Selection, asked: BatchMove) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for id in self.selected(tenant, selection).await? {
            let halted = |halted: Halted| (halted.campaign.record.state, halted.in_flight);
            let moved = |view: CampaignView| (view.record.state, 0);
            let result = match asked {
                BatchMove::Start => self.start_campaign(tenant, &id, None).await.map(moved),
                BatchMove::Resume => self.resume_campaign(tenant, &id, None).await.map(moved),
                BatchMove::Pause => self.pause_campaign(tenant, &id, None).await.map(halted),
                BatchMove::Cancel => self.cancel_campaign(tenant, &id, None).await.map(halted),
            };
            outcomes.push(Outcome { id, result });
        }
        Ok(outcomes)
    }

    /// The ids of a selection. All of them are known before the first is touched, so a filter on the state sees one moment.
    pub async fn selected(&self, tenant: &TenantId, selection: Selection) -> Result<Vec<String>> {
        let text = match selection {
            Selection::Ids(ids) => {
                if ids.is_empty() || ids.len() > BATCH_MAX {
                    return Err(Error::invalid("selection.ids", format!("must be 1 to {BATCH_MAX} ids")));
                }
                let mut seen = std::collections::HashSet::new();
                return match ids.iter().find(|id| !seen.insert(id.as_str())) {
                    Some(twice) => Err(Error::invalid("selection.ids", format!("{twice:?} stands twice"))),
                    None => Ok(ids),
                };
            }
            Selection::Filter(text) if text.trim().is_empty() => {
                return Err(Error::invalid("selection.filter", "must not be empty: say which campaigns are meant"));
            }
            Selection::Filter(text) => text,
        };
        let filter = filter::campaigns(tenant, &text)?;
        let mut ids = Vec::new();
        let mut page = Page { size: PAGE_SIZE_MAX, after: None };
        loop {
            let found = self.store.list_campaigns(&filter, page.clone()).await?;
            ids.extend(found.items.into_iter().map(|(campaign, _)| campaign.id.as_str().to_owned()));
            if ids.len() > BATCH_MAX {
                let problem = format!("matches more than {BATCH_MAX} campaigns: narrow it");
                return Err(Error::invalid("selection.filter", problem));
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok(ids),
            }
        }
    }
}

/// Nothing is put to work that would expire at once.
pub(super) fn refuse_past_stop(campaign: &Campaign, now: UnixMillis) -> Result<()> {
    if campaign.is_past_stop(now) {
        let problem = "its stop_at has passed: move it, or take it away, then try again";
        return Err(Error::precondition("STOP_AT_PASSED", subject(campaign), problem));
    }
    Ok(())
}

/// Notes when it first ran.
fn begun(mut campaign: Campaign, now: UnixMillis) -> Campaign {
    if campaign.state == CampaignState::Running && campaign.started_at.is_none() {
        campaign.started_at = Some(now);
    }
    campaign
}

fn subject(campaign: &Campaign) -> String {
    format!("campaign/{}", campaign.id)
}

fn empty(campaign: &Campaign) -> Error {
    Error::precondition("AUDIENCE_EMPTY", subject(campaign), "it has no recipients: import some first")
}
