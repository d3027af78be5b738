//! Recently written messages, kept so that the next event about one need not read it again.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::error::Try;
use super::rows::message_key;
use crate::domain::ids::CampaignKey;
use crate::domain::message::MessageState;

/// One message held in memory.
#[derive(Debug, Default)]
pub(super) struct CachedRow {
    /// Its state; of the older attempts only those that the current group needed.
    pub(super) state: MessageState,
    /// It has a row in the database.
    pub(super) stored: bool,
    /// Changed and not yet written.
    pub(super) dirty: bool,
    /// Numbers of older attempts that changed and are not yet written.
    pub(super) older_changed: Vec<u16>,
}

impl CachedRow {
    /// A message as the database holds it.
    pub(super) fn stored(state: MessageState) -> Self {
        Self { state, stored: true, dirty: false, older_changed: Vec::new() }
    }
}

/// Row keys are our own consecutive numbers, so a multiplication spreads them well enough; nobody outside chooses them.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_i64(&mut self, key: i64) {
        self.write_u64(key.cast_unsigned());
    }
    fn write_u64(&mut self, key: u64) {
        // The upper half of the product depends on all bits of the key; the table takes its low bits and its top seven.
        let product = u128::from(self.0 ^ key) * 0x9E37_79B9_7F4A_7C15;
        #[allow(clippy::cast_possible_truncation)] // folding both halves is the point
        {
            self.0 = (product as u64) ^ (product >> 64) as u64;
        }
    }
}

type Rows = HashMap<i64, CachedRow, BuildHasherDefault<KeyHasher>>;

/// Two generations of rows: a hit moves a row into the younger one; when that is half of the bound, the elder is dropped and
/// the younger takes its place. Bounded, and nothing is ever sorted by age.
#[derive(Debug)]
pub(super) struct RowCache {
    younger: Rows,
    elder: Rows,
    held_max: usize,
}

impl RowCache {
    /// An empty cache of at most `held_max` rows between groups.
    pub(super) fn new(held_max: usize) -> Self {
        Self { younger: Rows::default(), elder: Rows::default(), held_max }
    }

    /// The row held, or what `load` finds.
    pub(super) fn get_or_load(
        &mut self,
        id: i64,
        load: impl FnOnce() -> Try<Option<CachedRow>>,
    ) -> Try<Option<&mut CachedRow>> {
        use std::collections::hash_map::Entry;
        match self.younger.entry(id) {
            Entry::Occupied(held) => Ok(Some(held.into_mut())),
            Entry::Vacant(place) => {
                let found = if let Some(row) = self.elder.remove(&id) { Some(row) } else { load()? };
                Ok(found.map(|row| place.insert(row)))
            }
        }
    }

    /// A row of the current group.
    pub(super) fn held_mut(&mut self, id: i64) -> Option<&mut CachedRow> {
        self.younger.get_mut(&id)
    }

    /// Holds the bound again. Only when no row is dirty.
    pub(super) fn trim(&mut self) {
        if self.younger.len() >= self.held_max / 2 {
            self.elder = std::mem::take(&mut self.younger);
            // One group may be larger than the bound.
            if self.elder.len() > self.held_max {
                self.elder = Rows::default();
            }
        }
    }

    /// Forgets the rows of one campaign.
    pub(super) fn forget(&mut self, campaign: CampaignKey) {
        for rows in [&mut self.younger, &mut self.elder] {
            rows.retain(|id, _| message_key(*id).campaign != campaign);
        }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.younger.clear();
        self.elder.clear();
    }
}
