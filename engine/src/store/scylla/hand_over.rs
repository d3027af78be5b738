//! Giving pools away in good order, and what goes along: the ages of the last sends, the attempts in flight, and later their
//! outcomes, which the giver still hears on its own connections and tells the new owner by way of the ledger.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::cache::Cache;
use super::cql::Cql;
use super::hot::Hot;
use super::owned::Passage;
use super::owner::RecordRow;
use super::window;
use crate::domain::ids::{CampaignKey, MessageKey};
use crate::domain::message::{Event, Failure};
use crate::domain::time::{Mono, UnixMillis};
use crate::nodes::{HandOver, NotGiven, Passed, PoolRef, Told};
use crate::store::text::{from_json, to_json};
use crate::store::{Entry, EntryResult, StoreError, StoreResult};

/// Home of what goes along with pools, one slot a pool.
const HOME: &str = "handed";

/// How long an outcome that is told is kept, seconds. Whoever took the pool asks for it within a second, for less than a minute.
const TOLD_KEPT: i32 = 600;

/// Open attempts read at a time.
const ATTEMPTS: usize = 4_096;

fn slot(pool: &PoolRef) -> String {
    format!("{}/{}", pool.tenant, pool.pool)
}

/// Home of the outcomes told about a pool.
fn told_home(pool: &PoolRef) -> String {
    format!("told/{}", slot(pool))
}

/// An outcome, as it is told.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Withdrawn { at: UnixMillis },
    Accepted { at: UnixMillis, provider_id: Box<str> },
    NotProcessed { at: UnixMillis, failure: Option<Box<Failure>>, charged: bool, due_at: UnixMillis },
    Rejected { at: UnixMillis, failure: Box<Failure> },
    Doubt { at: UnixMillis, due_at: UnixMillis },
}

impl Outcome {
    /// The outcome and its attempt; `None`: the event is none.
    fn of(event: Event) -> Option<(u16, Self)> {
        Some(match event {
            Event::Withdrawn { attempt, at } => (attempt, Self::Withdrawn { at }),
            Event::Accepted { attempt, at, provider_id } => (attempt, Self::Accepted { at, provider_id }),
            Event::NotProcessed { attempt, at, failure, charged, due_at } => {
                (attempt, Self::NotProcessed { at, failure, charged, due_at })
            }
            Event::Rejected { attempt, at, failure } => (attempt, Self::Rejected { at, failure }),
            Event::Doubt { attempt, at, due_at } => (attempt, Self::Doubt { at, due_at }),
            _ => return None,
        })
    }

    fn event(self, attempt: u16) -> Event {
        match self {
            Self::Withdrawn { at } => Event::Withdrawn { attempt, at },
            Self::Accepted { at, provider_id } => Event::Accepted { attempt, at, provider_id },
            Self::NotProcessed { at, failure, charged, due_at } => {
                Event::NotProcessed { attempt, at, failure, charged, due_at }
            }
            Self::Rejected { at, failure } => Event::Rejected { attempt, at, failure },
            Self::Doubt { at, due_at } => Event::Doubt { attempt, at, due_at },
        }
    }
}

/// An entry about a campaign that is given away, or was: outcomes are told to whoever has it now, everything else is that one's to do.
/// While nobody knows yet whether it goes, it waits.
pub(super) async fn pass_on(
    cql: &Cql,
    entry: Entry,
    mut passage: watch::Receiver<Passage>,
) -> StoreResult<EntryResult> {
    let settled =
        async { passage.wait_for(|passage| *passage != Passage::Giving).await.map(|passage| passage.clone()) };
    let pool = match tokio::time::timeout(cql.patience, settled).await {
        Ok(Ok(Passage::Gone(pool))) => pool,
        Ok(Ok(_)) => return Err(StoreError::Unavailable("its pool was about to go to another node".to_owned())),
        // Forgotten meanwhile: nothing is this node's any more.
        Ok(Err(_)) => return Ok(EntryResult::Elsewhere),
        Err(_) => return Err(StoreError::Unavailable("its pool is being given to another node".to_owned())),
    };
    let key = entry.key;
    let Some((attempt, outcome)) = Outcome::of(entry.event) else { return Ok(EntryResult::Elsewhere) };
    let slot = format!("{}/{}/{attempt}", key.campaign.0, key.seq);
    let values = (
        TOLD_KEPT,
        i64::from(key.campaign.0),
        i64::from(key.seq),
        to_json(&(attempt, outcome))?,
        told_home(&pool),
        slot,
    );
    cql.write(&cql.st.write_passing, values).await?;
    Ok(EntryResult::Applied)
}

/// What was told about a pool.
pub(super) async fn told(cql: &Cql, pool: &PoolRef) -> StoreResult<Vec<Told>> {
    let rows: Vec<RecordRow> = cql.rows(&cql.st.records, (told_home(pool),)).await?;
    let mut told = Vec::with_capacity(rows.len());
    for (_, campaign, seq, body) in rows {
        let (Some(campaign), Some(seq), Some(body)) = (campaign, seq, body) else { continue };
        let (attempt, outcome): (u16, Outcome) = from_json(&body)?;
        let number = |number: i64| u32::try_from(number).map_err(super::error::damaged);
        let key = MessageKey { campaign: CampaignKey(number(campaign)?), seq: number(seq)? };
        told.push(Told { key, event: outcome.event(attempt) });
    }
    Ok(told)
}

/// Writes what goes along; `token` names this giving.
pub(super) async fn write(cql: &Cql, pool: &PoolRef, token: i64, along: &HandOver) -> StoreResult<()> {
    cql.write(&cql.st.write_passing, (TOLD_KEPT, token, 0_i64, to_json(along)?, HOME, slot(pool))).await
}

/// What went along, if it is of this giving.
pub(super) async fn read(cql: &Cql, pool: &PoolRef, token: i64) -> StoreResult<Option<HandOver>> {
    let row: Option<RecordRow> = cql.row(&cql.st.record, (HOME, slot(pool))).await?;
    match row {
        Some((_, Some(of), _, Some(body))) if of == token => from_json(&body).map(Some),
        _ => Ok(None),
    }
}

/// Campaigns on their way out: from here on outcomes wait, and everything else is refused. Dropped before the ledger was ever asked, they
/// stay; dropped later, nothing is written to them until a further try knows.
pub(super) struct Leaving<'c> {
    cache: &'c Arc<Cache>,
    pools: Vec<PoolRef>,
    hots: Vec<Arc<Hot>>,
    /// It is asked for in the ledger, by this try or an earlier one: nobody knows whether they stay.
    asked: bool,
}

impl<'c> Leaving<'c> {
    /// From here on nothing new is written to these pools.
    pub(super) fn begin(cache: &'c Arc<Cache>, pools: &[(PoolRef, HandOver)]) -> Self {
        let owned = &cache.cql.owned;
        let asked = pools.iter().fold(false, |asked, (pool, _)| owned.begin_leaving(pool) || asked);
        let hots: Vec<Arc<Hot>> = pools.iter().flat_map(|(pool, _)| cache.of_pool(pool)).collect();
        hots.iter().for_each(|hot| owned.begin_passing(hot.key, &hot.pool));
        Self { cache, pools: pools.iter().map(|(pool, _)| pool.clone()).collect(), hots, asked }
    }

    /// Waits until what was under way is known, and adds what is in flight to what goes along.
    pub(super) async fn stop(&self, pools: &mut [(PoolRef, HandOver)]) -> StoreResult<()> {
        let cache = self.cache;
        let begun = cache.cql.clock.mono();
        for hot in &self.hots {
            while !cache.is_idle(hot.key) {
                self.expect_patience(begun)?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Nobody is in the middle of an import, a seal or an end.
            let _list = hot.turn(cache.cql.patience).await?;
            let gate = tokio::time::timeout(cache.cql.patience, hot.gate.write()).await;
            let _gate = gate.map_err(|_| StoreError::Unavailable("a batch is not known to be written".to_owned()))?;
            hot.set_gone(true);
        }
        for hot in &self.hots {
            let mut from = 0;
            loop {
                let open = window::open_attempts(cache, hot.key, from, ATTEMPTS).await?;
                let Some(last) = open.last() else { break };
                from = last.key.seq + 1;
                let along = pools.iter_mut().find(|(pool, _)| *pool == hot.pool);
                let passed =
                    |o: &crate::store::OpenAttempt| Passed { campaign: hot.key, seq: o.key.seq, attempt: o.attempt };
                along.into_iter().for_each(|(_, along)| along.passed.extend(open.iter().map(passed)));
            }
        }
        Ok(())
    }

    fn expect_patience(&self, begun: Mono) -> StoreResult<()> {
        let cql = &self.cache.cql;
        cql.expect_open()?;
        if cql.clock.mono().since(begun) > cql.patience {
            return Err(StoreError::Unavailable("a batch of the pool is not known to be written".to_owned()));
        }
        Ok(())
    }

    /// The ledger is asked from here on.
    pub(super) fn ask(&mut self) {
        self.asked = true;
        self.pools.iter().for_each(|pool| self.cache.cql.owned.ask_leaving(pool));
    }

    /// What came of it: they went, they stay, or nobody knows.
    pub(super) fn end(self, went: StoreResult<()>) -> Result<(), NotGiven> {
        match went {
            Ok(()) => {
                self.went();
                Ok(())
            }
            Err(error) if self.asked => Err(NotGiven::Unknown(error)),
            Err(error) => Err(NotGiven::Stay(error)),
        }
    }

    /// They are another node's now.
    fn went(&self) {
        let (owned, now) = (&self.cache.cql.owned, self.cache.cql.clock.mono());
        self.pools.iter().for_each(|pool| owned.remove(pool));
        self.hots.iter().for_each(|hot| self.cache.forget(hot.key));
        for pool in &self.pools {
            owned.end_leaving(pool);
            owned.end_passing(pool, &Passage::Gone(pool.clone()), now);
        }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.asked {
            let (owned, now) = (&self.cache.cql.owned, self.cache.cql.clock.mono());
            self.hots.iter().for_each(|hot| hot.set_gone(false));
            for pool in &self.pools {
                owned.end_leaving(pool);
                owned.end_passing(pool, &Passage::Stayed, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_whole() {
        let at = UnixMillis;
        let failure = || Box::new(Failure::new(7, "c", "t", "m", "d"));
        for event in [
            Event::Withdrawn { attempt: 1, at: at(5) },
            Event::Accepted { attempt: 2, at: at(5), provider_id: "wamid.1".into() },
            Event::NotProcessed { attempt: 3, at: at(5), failure: Some(failure()), charged: true, due_at: at(6) },
            Event::Rejected { attempt: 4, at: at(5), failure: failure() },
            Event::Doubt { attempt: 5, at: at(5), due_at: at(6) },
        ] {
            let (attempt, outcome) = Outcome::of(event.clone()).unwrap();
            let json = to_json(&(attempt, outcome)).unwrap();
            let (attempt, outcome): (u16, Outcome) = from_json(&json).unwrap();
            assert_eq!(outcome.event(attempt), event);
        }
        assert!(Outcome::of(Event::DoubtExpired { at: at(1), resend_up_to: None }).is_none());
    }
}
