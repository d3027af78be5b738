//! The way into the ledger: status actors gather entries, commit them in groups, and publish the tallies that moved.
//!
//! Callers push into a shard's inbox and wake its actor only when nobody has yet: one wake-up for each commit, not for each
//! webhook. A shard owns whole segments, so the entries of one message stay in order.

mod actor;
mod around;
mod consequence;
mod kept;
mod parked;
mod shard;
pub(crate) mod sink;
mod traced;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;

pub(crate) use actor::{StatusActor, StatusMsg};
pub(crate) use around::commit_all_around;
pub(crate) use shard::Shard;
use shard::{Job, Then};

use crate::campaign::registry::Registry;
use crate::campaign::shared::Slot;
use crate::config::EngineConfig;
use crate::domain::ids::MessageKey;
use crate::domain::time::Clock;
use crate::store::{Entry, EntryResult, Store, StoreError, StoreResult};

/// What a commit came to.
#[derive(Debug, Default)]
pub(crate) struct Replied {
    /// One per entry, in order.
    pub(crate) results: Vec<EntryResult>,
    /// Those that were refused or of no known message, with their places.
    pub(crate) misfits: Vec<(usize, Entry)>,
}

/// The ledger, as everybody inside the engine writes to it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ledger {
    shards: Arc<[Arc<Shard>]>,
}

impl Ledger {
    pub(crate) fn new(store: &Arc<dyn Store>, registry: &Arc<Registry>, clock: &Clock, config: &EngineConfig) -> Self {
        let shard = |index| Arc::new(Shard::new(index, Arc::clone(store), Arc::clone(registry), clock.clone(), config));
        Self { shards: (0..config.status_shards.max(1)).map(shard).collect() }
    }

    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    fn shard_of(&self, key: MessageKey) -> usize {
        (key.campaign.0 as usize).wrapping_mul(31).wrapping_add(key.segment() as usize) % self.shards.len()
    }

    /// Entries that wait for a commit.
    pub(crate) fn waiting(&self) -> usize {
        self.shards.iter().map(|s| s.waiting()).sum()
    }

    /// Commits entries; durable when it returns. One result per entry, in order.
    pub(crate) async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>> {
        let (replied, done) = self.commit_back(entries).await;
        done.map(|()| replied.results)
    }

    /// The same, and gives back the entries for which there is no message or attempt. When a shard's part failed, what the others took is
    /// told nevertheless: offered again, it is no news.
    pub(crate) async fn commit_back(&self, entries: Vec<Entry>) -> (Replied, StoreResult<()>) {
        let Some(first) = entries.first() else { return (Replied::default(), Ok(())) };
        let (shard, total) = (self.shard_of(first.key), entries.len());
        let none = || Replied { results: vec![EntryResult::Unknown; total], misfits: Vec::new() };
        if entries.iter().all(|e| self.shard_of(e.key) == shard) {
            return self.commit_in(shard, entries).await.map_or_else(|error| (none(), Err(error)), |all| (all, Ok(())));
        }
        let mut parts: Vec<(Vec<usize>, Vec<Entry>)> = vec![Default::default(); self.shards.len()];
        for (place, entry) in entries.into_iter().enumerate() {
            let (places, part) = &mut parts[self.shard_of(entry.key)];
            places.push(place);
            part.push(entry);
        }
        let (mut all, mut done) = (none(), Ok(()));
        let parts = parts.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
        let committed =
            join_all(parts.map(async |(shard, (places, part))| (places, self.commit_in(shard, part).await))).await;
        for (places, part) in committed {
            let Replied { results, misfits } = match part {
                Ok(replied) => replied,
                Err(error) => {
                    done = Err(error);
                    continue;
                }
            };
            all.misfits.extend(misfits.into_iter().map(|(place, entry)| (places[place], entry)));
            for (place, result) in places.into_iter().zip(results) {
                all.results[place] = result;
            }
        }
        (all, done)
    }

    async fn commit_in(&self, shard: usize, entries: Vec<Entry>) -> StoreResult<Replied> {
        let (reply, answer) = oneshot::channel();
        self.shards[shard].push(Job { entries, then: Then::Reply(reply) });
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the engine is stopping".to_owned())))
    }

    /// Hands over the outcome of an attempt; it is kept and tried again until it is durable, then its slot is given back.
    pub(crate) fn post(&self, entry: Entry, slot: Slot) {
        let shard = self.shard_of(entry.key);
        self.shards[shard].push(Job { entries: vec![entry], then: Then::Keep(slot) });
    }

    /// Commits the outcomes that wait, if the store takes them; false when some are left.
    pub(crate) async fn flush(&self) -> bool {
        let mut done = true;
        for shard in self.shards.iter() {
            done &= shard.flush(true).await;
        }
        done
    }
}
