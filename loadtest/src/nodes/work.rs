//! Customers: campaigns from their creation to their end, one after the other on each pool, through whichever node answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sluice_proto::v1::{self, CampaignState, MessageStatus};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::scene::Scene;
use crate::harness::client::{CampaignPlan, Customer, shown};
use crate::witness::audience::Audience;
use crate::witness::compare::Policy;

/// Longest for one call: the node that is asked may stand still.
const CALL: Duration = Duration::from_secs(12);
/// Longest until some node has answered, whatever happens to all of them.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(150);
/// Between two looks at a campaign.
const LOOK: Duration = Duration::from_millis(250);
/// The next campaign begins at the latest so long after the one before: doubts may take their time.
const NEXT: Duration = Duration::from_secs(90);
/// Campaigns that are read: the last ones that began.
const RECENT: usize = 8;

/// A campaign that was worked on.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// What it is.
    pub plan: CampaignPlan,
    /// Its recipients.
    pub recipients: Audience,
}

/// The customers' books.
#[derive(Debug, Default)]
pub struct Books {
    campaigns: Mutex<Vec<Campaign>>,
    closing: AtomicBool,
}

impl Books {
    /// No campaign begins any more.
    pub fn close(&self) {
        self.closing.store(true, Release);
    }

    /// They begin again; what was before stays in the books.
    pub fn open(&self) {
        self.closing.store(false, Release);
    }

    /// All campaigns that ever began.
    #[must_use]
    pub fn campaigns(&self) -> Vec<Campaign> {
        self.campaigns.lock().clone()
    }
}

/// A customer that asks whichever node, until one has answered.
#[derive(Debug)]
pub struct Asker {
    scene: Arc<Scene>,
    chance: Mutex<StdRng>,
}

impl Asker {
    /// One that chooses by this seed.
    #[must_use]
    pub fn new(scene: Arc<Scene>, seed: u64) -> Self {
        Self { scene, chance: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    fn choose(&self, of: usize) -> usize {
        self.chance.lock().random_range(0..of)
    }

    /// Asks until it is answered well.
    ///
    /// # Errors
    /// The last error when patience ends.
    pub async fn ask<T, F>(&self, what: &str, call: impl Fn(Customer) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = anyhow::Result<T>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let node = self.choose(self.scene.grpc.len());
            let address = self.scene.grpc[node].to_string();
            let tried = async { call(Customer::connect(&address, &self.scene.token).await?).await };
            let error = match timeout(CALL, tried).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {CALL:?}"),
            };
            if Instant::now() >= end {
                return Err(error.context(format!("{what}, by node-{node}, after {PATIENCE:?} of tries")));
            }
            sleep(AGAIN).await;
        }
    }
}

/// Works on one pool until the books are closed: a campaign of `recipients`, then the next. Odd pools send at least once.
///
/// # Errors
/// When something cannot be done for minutes.
pub async fn on_pool(asker: &Asker, books: &Books, pool: usize, recipients: u32) -> anyhow::Result<()> {
    let policy = if pool.is_multiple_of(2) { Policy::AtMostOnce } else { Policy::AtLeastOnce };
    while !books.closing.load(Acquire) {
        // Numbers of people: a block for each pool, within it one run after the other.
        let (plan, block, first) = {
            let mut campaigns = books.campaigns.lock();
            let of_pool = campaigns.iter().filter(|c| c.plan.pool == format!("pool-{pool}")).count();
            let first = u32::try_from(of_pool)? * recipients;
            let block = u32::try_from(pool)? + 1;
            let id = format!("pool-{pool}-{of_pool}");
            let plan = CampaignPlan::new(&id, &format!("pool-{pool}"), "hello").policy(policy);
            let recipients = Audience { block, first, count: recipients, ..Audience::default() };
            campaigns.push(Campaign { plan: plan.clone(), recipients });
            (plan, block, first)
        };
        live(asker, &plan, block, first, recipients).await.with_context(|| plan.id.clone())?;
    }
    Ok(())
}

/// Reads what everybody is working on until the books are closed, through whichever node: what is read at one node and moves at another
/// must not be taken for what is, when the campaign comes to the reader's node.
///
/// # Errors
/// When nothing can be read for minutes.
pub async fn read(asker: &Asker, books: &Books) -> anyhow::Result<()> {
    while !books.closing.load(Acquire) {
        sleep(LOOK).await;
        let id = {
            let campaigns = books.campaigns.lock();
            let lately = campaigns.len().saturating_sub(RECENT);
            if campaigns.is_empty() {
                continue;
            }
            campaigns[asker.choose(campaigns.len() - lately) + lately].plan.id.clone()
        };
        let (id, how) = (id.as_str(), asker.choose(3));
        asker
            .ask("reading", |customer| async move {
                let found = match how {
                    0 => export(&customer, id).await,
                    1 => {
                        let request = v1::ListMessagesRequest { campaign_id: id.to_owned(), ..Default::default() };
                        customer.messages().list_messages(request).await.map(drop)
                    }
                    _ => {
                        let request = v1::RecountCampaignRequest { campaign_id: id.to_owned() };
                        customer.campaigns().recount_campaign(request).await.map(drop)
                    }
                };
                match found {
                    // It is in the books, and not yet created; or has no list yet.
                    Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => Ok(()),
                    found => Ok(found?),
                }
            })
            .await
            .with_context(|| id.to_owned())?;
    }
    Ok(())
}

async fn export(customer: &Customer, id: &str) -> Result<(), Status> {
    let request = v1::ExportMessagesRequest { campaign_id: id.to_owned(), ..Default::default() };
    let mut stream = customer.messages().export_messages(request).await?.into_inner();
    while stream.message().await?.is_some() {}
    Ok(())
}

/// One campaign, until nothing of it is pending.
async fn live(asker: &Asker, plan: &CampaignPlan, block: u32, first: u32, recipients: u32) -> anyhow::Result<()> {
    let id = plan.id.as_str();
    asker.ask("creation", |customer| async move { customer.create(plan).await }).await?;
    asker.ask("import", |customer| async move { customer.import_from(id, block, first, recipients).await }).await?;
    asker
        .ask("start", |customer| async move {
            let started = customer.start(id).await;
            // The answer of a call before may have been lost.
            if customer.get(id).await?.state() == CampaignState::Draft { started } else { Ok(()) }
        })
        .await?;
    let mut is_to_pause = asker.choose(2) == 0;
    let end = Instant::now() + NEXT;
    while Instant::now() < end {
        let seen = asker.ask("look", |customer| async move { customer.get(id).await }).await?;
        let tally = seen.stats.as_ref().and_then(|stats| stats.tally.clone()).unwrap_or_default();
        let pending = shown(&tally, MessageStatus::Pending);
        if pending == 0 || seen.state() != CampaignState::Running {
            break;
        }
        if pending < u64::from(recipients) / 2 && std::mem::take(&mut is_to_pause) {
            pause_for_a_moment(asker, id).await?;
        }
        sleep(LOOK).await;
    }
    Ok(())
}

async fn pause_for_a_moment(asker: &Asker, id: &str) -> anyhow::Result<()> {
    asker
        .ask("pause", |customer| async move {
            let paused = customer.pause(id).await;
            if customer.get(id).await?.state() == CampaignState::Running { paused.map(drop) } else { Ok(()) }
        })
        .await?;
    asker
        .ask("resume", |customer| async move {
            let resumed = customer.resume(id).await;
            if customer.get(id).await?.state() == CampaignState::Paused { resumed } else { Ok(()) }
        })
        .await
}
