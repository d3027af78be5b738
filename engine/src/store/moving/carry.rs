//! The way of a move: look whether it may be done, mark both ledgers, copy, compare, and only then change over.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::compare::compare;
use super::segments::Segments;
use super::{Mark, Movable, Part, Role};
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{CampaignKey, ImportId, SEGMENT_LEN};
use crate::domain::tally::Tally;
use crate::domain::time::UnixMillis;
use crate::store::paging::Pages;
use crate::store::{CampaignFilter, LineFilter, StoreError, StoreResult};

/// Records read at a time.
const PAGE: usize = 1_000;

/// Campaigns named in a refusal.
const NAMED_MAX: usize = 10;

/// What is to be moved where.
#[derive(Clone, Copy)]
pub struct Move<'m> {
    /// What is copied. Nobody else works on it.
    pub source: &'m dyn Movable,
    /// Where to. Empty, or as this move left it.
    pub target: &'m dyn Movable,
    /// Names for people: source and target.
    pub names: (&'m str, &'m str),
    /// Now.
    pub now: UnixMillis,
}

/// How far a move is.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'p> {
    /// Lines, pools, templates and notes are there.
    Records,
    /// Some messages of a campaign are there.
    Copied {
        /// Which.
        campaign: &'p Campaign,
        /// Messages up to here, with those of earlier runs.
        messages: u64,
    },
    /// Events without a message are there.
    Events,
    /// A campaign was compared.
    Compared {
        /// Which.
        campaign: &'p Campaign,
    },
}

/// Hears how far it is, and says whether to go on.
pub type Told<'t> = &'t mut (dyn FnMut(Progress<'_>) -> ControlFlow<()> + Send);

/// What was moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Campaigns.
    pub campaigns: u64,
    /// Their messages.
    pub messages: u64,
    /// Their tallies added up.
    pub tally: Tally,
    /// Lines.
    pub lines: u64,
    /// Templates.
    pub templates: u64,
    /// Notes of creations.
    pub requests: u64,
    /// Orphans, parked events and entries kept for later.
    pub events: u64,
}

/// Why a ledger was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// It may not be moved as it is; says what to do. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A ledger cannot be read or written.
    #[error("{ledger}: {error}; run the same command again, it goes on where it was")]
    Store {
        /// Which.
        ledger: String,
        /// Why.
        error: StoreError,
    },
    /// Source and target do not hold the same. Neither is opened by a server now.
    #[error("the two ledgers differ in {} places", .0.len())]
    Differ(Vec<String>),
    /// Somebody said so.
    #[error("stopped; run the same command again to go on where it was")]
    Stopped,
}

/// Moves everything, compares both sides, and changes over: from then on no engine opens the source, and the target is the ledger.
///
/// # Errors
/// [`MoveError`]. A move that was cut short is repeated with the same two ledgers.
pub async fn move_ledger(order: Move<'_>, told: Told<'_>) -> Result<Moved, MoveError> {
    let carry = Carry { order, told };
    carry.run().await
}

/// Gives a move up: the source is a ledger for engines again. What the target holds of it is worth nothing.
///
/// # Errors
/// [`MoveError::Refused`] where there is nothing to give up, or too late.
pub async fn abandon(source: &dyn Movable, name: &str) -> Result<(), MoveError> {
    let failed = |error| MoveError::Store { ledger: name.to_owned(), error };
    match source.mark().await.map_err(failed)? {
        Some(mark) if mark.role == Role::Leaving => source.set_mark(None).await.map_err(failed),
        Some(mark) => Err(MoveError::Refused(format!("{name} cannot be gone on with: {}", mark.refusal()))),
        None => Err(MoveError::Refused(format!("no move of {name} is under way: nothing to give up"))),
    }
}

struct Carry<'m, 't> {
    order: Move<'m>,
    told: Told<'t>,
}

impl Carry<'_, '_> {
    async fn run(mut self) -> Result<Moved, MoveError> {
        let Move { source, target, names, .. } = self.order;
        let campaigns = self.campaigns().await?;
        let mark = self.begin(&campaigns).await?;
        let filled = self.fill(&campaigns, mark.clone()).await;
        let mut moved = filled.map_err(|error| self.which(error))?;
        let differences = compare(source, target, &campaigns, &mut moved, &mut *self.told).await;
        let differences = differences.map_err(|error| self.which(error))?;
        if !differences.is_empty() {
            return Err(MoveError::Differ(differences));
        }
        // In this order: at no moment may engines open both.
        let left = Mark { role: Role::Left, other: names.1.to_owned(), ..mark };
        source.set_mark(Some(&left)).await.map_err(|error| self.of(names.0, error))?;
        target.set_mark(None).await.map_err(|error| self.of(names.1, error))?;
        Ok(moved)
    }

    fn of(&self, ledger: &str, error: StoreError) -> MoveError {
        MoveError::Store { ledger: ledger.to_owned(), error }
    }

    fn which(&self, failed: Failed) -> MoveError {
        match failed {
            Failed::Source(error) => self.of(self.order.names.0, error),
            Failed::Target(error) => self.of(self.order.names.1, error),
            Failed::Stopped => MoveError::Stopped,
        }
    }

    /// All campaigns, oldest first.
    async fn campaigns(&self) -> Result<Vec<(Campaign, Tally)>, MoveError> {
        let (mut all, mut pages) = (Vec::new(), Pages::of(PAGE));
        while let Some(page) = pages.next() {
            let listed = self.order.source.list_campaigns(&CampaignFilter::default(), page).await;
            all.extend(pages.read(listed.map_err(|error| self.of(self.order.names.0, error))?));
        }
        all.sort_by_key(|(campaign, _)| campaign.key);
        Ok(all)
    }

    /// Marks both ledgers, or finds the marks of the run before.
    async fn begin(&self, campaigns: &[(Campaign, Tally)]) -> Result<Mark, MoveError> {
        let Move { source, target, names: (from, to), now } = self.order;
        let (of_source, of_target) = (
            source.mark().await.map_err(|error| self.of(from, error))?,
            target.mark().await.map_err(|error| self.of(to, error))?,
        );
        let refuse = |text: String| Err(MoveError::Refused(text));
        match (&of_source, &of_target) {
            // Marked last by a run that ended between the two.
            (Some(source), Some(target)) if source.id == target.id && target.role == Role::Filling => {
                return Ok(target.clone());
            }
            (Some(mark), _) if mark.role != Role::Leaving => {
                return refuse(format!("{from} cannot be moved: {}", mark.refusal()));
            }
            (_, Some(mark)) => return refuse(format!("{to} cannot take another ledger: {}", mark.refusal())),
            _ => {}
        }
        may_leave(campaigns)?;
        if !target.is_empty().await.map_err(|error| self.of(to, error))? {
            return refuse(format!("{to} holds other data already: name an empty one as the target"));
        }
        let id = of_source.map_or_else(|| format!("{:032x}", rand::random::<u128>()), |mark| mark.id);
        let mark = |role, other: &str| Mark {
            id: id.clone(),
            role,
            other: other.to_owned(),
            at: now,
            campaign: 0,
            next_seq: 0,
        };
        source.set_mark(Some(&mark(Role::Leaving, to))).await.map_err(|error| self.of(from, error))?;
        let filling = mark(Role::Filling, from);
        target.set_mark(Some(&filling)).await.map_err(|error| self.of(to, error))?;
        Ok(filling)
    }

    async fn fill(&mut self, campaigns: &[(Campaign, Tally)], mut mark: Mark) -> Result<Moved, Failed> {
        let Move { source, target, .. } = self.order;
        let mut moved = Moved::default();
        let (secret, numbers) = (from(source.installation_secret().await)?, from(source.numbers().await)?);
        to(target.adopt(secret, numbers).await)?;
        self.records(&mut moved).await?;
        self.tell(Progress::Records)?;
        let reached = mark.campaign;
        for (campaign, _) in campaigns.iter().filter(|(campaign, _)| campaign.key.0 >= reached) {
            if campaign.key.0 != mark.campaign {
                (mark.campaign, mark.next_seq) = (campaign.key.0, 0);
            }
            self.campaign(campaign, &mut mark).await?;
            (mark.campaign, mark.next_seq) = (campaign.key.0.saturating_add(1), 0);
            to(target.set_mark(Some(&mark)).await)?;
        }
        self.events(&mark, &mut moved).await?;
        self.tell(Progress::Events)?;
        Ok(moved)
    }

    fn tell(&mut self, progress: Progress<'_>) -> Result<(), Failed> {
        if (self.told)(progress).is_break() { Err(Failed::Stopped) } else { Ok(()) }
    }

    async fn records(&self, moved: &mut Moved) -> Result<(), Failed> {
        let Move { source, target, .. } = self.order;
        for tenant in from(source.tenants().await)? {
            to(target.take(Part::Pools(from(source.pools(&tenant).await)?)).await)?;
            let mut pages = Pages::of(PAGE);
            while let Some(page) = pages.next() {
                let templates = pages.read(from(source.list_templates(&tenant, page).await)?);
                moved.templates += templates.len() as u64;
                to(target.take(Part::Templates(templates)).await)?;
            }
        }
        let lines = from(source.lines(&LineFilter::default()).await)?;
        moved.lines = lines.len() as u64;
        for some in lines.chunks(PAGE) {
            to(target.take(Part::Lines(some.to_vec())).await)?;
        }
        let mut pages = Pages::of(PAGE);
        while let Some(page) = pages.next() {
            let requests = pages.read(from(source.requests(page).await)?);
            moved.requests += requests.len() as u64;
            to(target.take(Part::Requests(requests)).await)?;
        }
        Ok(())
    }

    /// A campaign, from where `mark` says on.
    async fn campaign(&mut self, campaign: &Campaign, mark: &mut Mark) -> Result<(), Failed> {
        let Move { source, target, .. } = self.order;
        let key = campaign.key;
        let imports = from(source.imports(key).await)?;
        let ids: Arc<[ImportId]> = imports.iter().map(|import| import.id.clone()).collect();
        if mark.next_seq == 0 {
            // What landed late in the source is counted before it is copied.
            from(source.mend(key).await)?;
            let count = u32::try_from(imports.len()).unwrap_or(u32::MAX);
            to(target.take(Part::Campaign(Box::new(campaign.clone()), imports)).await)?;
            self.import_history(key, count).await?;
        }
        let shared = Arc::new(campaign.clone());
        let mut reading = Some(Segments::after(key, mark.next_seq).next(source).await?);
        while let Some((messages, rest)) = reading {
            let Some(first) = messages.first() else { break };
            let number = first.key.segment();
            let done = messages.len() as u64;
            let part = Part::Segment { campaign: Arc::clone(&shared), imports: Arc::clone(&ids), number, messages };
            // The next is read while this one is written.
            let read_on = async {
                match rest {
                    Some(rest) => rest.next(source).await.map(Some),
                    None => Ok(None),
                }
            };
            let (next, taken) = tokio::join!(read_on, target.take(part));
            to(taken)?;
            reading = next?;
            mark.next_seq = (number + 1) * SEGMENT_LEN;
            to(target.set_mark(Some(mark)).await)?;
            let whole = u64::from(number) * u64::from(SEGMENT_LEN) + done;
            self.tell(Progress::Copied { campaign, messages: whole.min(campaign.recipients) })?;
        }
        Ok(())
    }

    /// Chunks and refused rows.
    async fn import_history(&self, campaign: CampaignKey, imports: u32) -> Result<(), Failed> {
        let Move { source, target, .. } = self.order;
        for import in 0..imports {
            let mut pages = Pages::of(PAGE);
            while let Some(page) = pages.next() {
                let chunks = pages.read(from(source.chunks(campaign, import, page).await)?);
                to(target.take(Part::Chunks { campaign, import, chunks }).await)?;
            }
        }
        let (mut number, mut pages) = (0, Pages::of(PAGE));
        while let Some(page) = pages.next() {
            let rows = pages.read(from(source.refused_rows(campaign, page).await)?);
            let count = rows.len() as u64;
            to(target.take(Part::Refused { campaign, from: number, rows }).await)?;
            number += count;
        }
        Ok(())
    }

    /// Orphans before parked events: where a store holds both in one place, the one that waits is the later.
    async fn events(&self, mark: &Mark, moved: &mut Moved) -> Result<(), Failed> {
        let Move { source, target, .. } = self.order;
        let since = mark.at;
        let (mut place, mut pages) = (0, Pages::of(PAGE));
        while let Some(page) = pages.next() {
            let events = pages.read(from(source.all_orphans(page).await)?);
            let count = events.len() as u64;
            to(target.take(Part::Orphans { since, from: place, events }).await)?;
            place += count;
        }
        moved.events += place;
        (place, pages) = (0, Pages::of(PAGE));
        while let Some(page) = pages.next() {
            let events = pages.read(from(source.all_parked(page).await)?);
            let count = events.len() as u64;
            to(target.take(Part::Parked { since, from: place, events }).await)?;
            place += count;
        }
        moved.events += place;
        (place, pages) = (0, Pages::of(PAGE));
        while let Some(page) = pages.next() {
            let events = pages.read(from(source.all_inbound(page).await)?);
            let count = events.len() as u64;
            to(target.take(Part::Inbound { from: place, events }).await)?;
            place += count;
        }
        moved.events += place;
        Ok(())
    }
}

/// Whether a ledger may be moved as its campaigns stand.
fn may_leave(campaigns: &[(Campaign, Tally)]) -> Result<(), MoveError> {
    let name = |campaign: &Campaign| format!("{}/{}", campaign.tenant, campaign.id);
    let running = campaigns.iter().filter(|(campaign, _)| campaign.state == CampaignState::Running);
    let running: Vec<String> = running.map(|(campaign, _)| name(campaign)).collect();
    let listed = |names: &[String]| {
        let more = names.len().saturating_sub(NAMED_MAX);
        let shown = names[..names.len().min(NAMED_MAX)].join(", ");
        if more == 0 { shown } else { format!("{shown} and {more} more") }
    };
    if !running.is_empty() {
        return Err(MoveError::Refused(format!(
            "running: {}; start the server, `sluice pause` them (or let them finish), and stop it again",
            listed(&running)
        )));
    }
    let open: Vec<String> =
        campaigns.iter().filter(|(_, tally)| tally.open > 0).map(|(campaign, _)| name(campaign)).collect();
    if !open.is_empty() {
        return Err(MoveError::Refused(format!(
            "attempts without an outcome in: {}; start the server, which finds out what became of them or lists them as in doubt, and stop it with SIGTERM",
            listed(&open)
        )));
    }
    let long = campaigns.iter().find(|(campaign, _)| campaign.next_seq > i32::MAX.cast_unsigned());
    match long {
        Some((campaign, _)) => {
            Err(MoveError::Refused(format!("{} has more than 2^31 places: it cannot be moved", name(campaign))))
        }
        None => Ok(()),
    }
}

/// Whose failure it was.
#[derive(Debug)]
pub(super) enum Failed {
    Source(StoreError),
    Target(StoreError),
    Stopped,
}

/// What the source answered.
pub(super) fn from<T>(result: StoreResult<T>) -> Result<T, Failed> {
    result.map_err(Failed::Source)
}

/// What the target answered.
pub(super) fn to<T>(result: StoreResult<T>) -> Result<T, Failed> {
    result.map_err(Failed::Target)
}
