//! The campaigns that are not settled, as everybody inside the engine finds them.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::shared::CampaignShared;
use crate::domain::campaign::Campaign;
use crate::domain::ids::CampaignKey;
use crate::domain::tally::Tally;
use crate::domain::time::{Mono, UnixMillis};

/// All campaigns that are not settled.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    campaigns: RwLock<HashMap<CampaignKey, Arc<CampaignShared>>>,
    dirty: Mutex<Vec<Arc<CampaignShared>>>,
}

impl Registry {
    pub(crate) fn get(&self, key: CampaignKey) -> Option<Arc<CampaignShared>> {
        self.campaigns.read().get(&key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<CampaignShared>> {
        self.campaigns.read().values().cloned().collect()
    }

    /// Inserts a campaign. One that is there already stays, and takes over the record if it is newer: two who brought the same campaign
    /// at once, a start and a pause, came in any order.
    pub(crate) fn insert(&self, shared: CampaignShared, now: Mono) -> Arc<CampaignShared> {
        use std::collections::hash_map::Entry;
        match self.campaigns.write().entry(shared.key) {
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(shared))),
            Entry::Occupied(there) => {
                there.get().set_record(Campaign::clone(&shared.record()), now);
                Arc::clone(there.get())
            }
        }
    }

    /// Takes over a newer record of a campaign that is here.
    pub(crate) fn update(&self, record: &Campaign, now: Mono) -> Option<Arc<CampaignShared>> {
        // Under the lock: it is not removed as settled in the moment in which it is reopened.
        let campaigns = self.campaigns.read();
        let shared = campaigns.get(&record.key)?;
        shared.set_record(record.clone(), now);
        Some(Arc::clone(shared))
    }

    pub(crate) fn remove(&self, key: CampaignKey) {
        self.campaigns.write().remove(&key);
    }

    /// Removes a campaign unless it was reopened meanwhile.
    pub(crate) fn remove_settled(&self, key: CampaignKey) {
        let mut campaigns = self.campaigns.write();
        if campaigns.get(&key).is_some_and(|shared| shared.record().settled_at.is_some()) {
            campaigns.remove(&key);
        }
    }

    /// Takes over the tallies of a commit.
    pub(crate) fn set_tallies(&self, tallies: &[(CampaignKey, Tally)], revision: u64, at: UnixMillis) {
        for (key, tally) in tallies {
            if let Some(shared) = self.get(*key)
                && shared.set_tally(*tally, revision, at)
            {
                self.dirty.lock().push(shared);
            }
        }
    }

    /// Those whose tallies moved since the last time.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<CampaignShared>> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        dirty.iter().for_each(|shared| shared.unlist());
        dirty
    }
}
