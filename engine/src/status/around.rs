//! A commit that goes around what the ledger cannot take: a damaged row, or a defect of ours that one message brings out. Only the
//! culprit is given up, counted and logged; everything else is applied, in order.

use std::sync::Arc;

use crate::domain::ids::CampaignKey;
use crate::domain::tally::Tally;
use crate::store::{Committed, Entry, EntryResult, Store, StoreError, StoreResult};

/// How often an entry is offered alone before it is given up: it may have shared its transaction with somebody else's culprit.
const OFFERS_ALONE: u32 = 3;
/// Given up one after the other, without one that is taken in between: then not the entries are to blame, and the rest waits.
const CULPRITS_IN_A_ROW_MAX: u32 = 16;

/// What of a run of entries is in the ledger: the first ones, as many as there are results.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// One for each entry that is done.
    pub(super) results: Vec<EntryResult>,
    /// The tallies after it, of every campaign that was touched.
    pub(super) tallies: Vec<(CampaignKey, Tally)>,
    /// The last write that they come from.
    pub(super) revision: u64,
}

impl Done {
    /// One more commit, of the entries that follow.
    pub(super) fn add(&mut self, committed: Committed) {
        let Committed { results, tallies, revision } = committed;
        self.revision = self.revision.max(revision);
        if self.results.is_empty() && self.tallies.is_empty() {
            (self.results, self.tallies) = (results, tallies);
            return;
        }
        self.results.extend(results);
        self.tallies.retain(|(key, _)| tallies.iter().all(|(newer, _)| newer != key));
        self.tallies.extend(tallies);
    }
}

/// Commits those of `entries` that are not done, in order, in parts: half as many after a refusal, twice as many after a success. An
/// entry that is refused alone is given up ([`EntryResult::Refused`]).
///
/// # Errors
/// The ledger is away, or takes nothing at all; `done` says how far it came.
pub(crate) async fn commit_around(store: &Arc<dyn Store>, entries: &[Entry], done: &mut Done) -> StoreResult<()> {
    let (mut size, mut offers, mut in_a_row) = (entries.len(), 0, 0);
    while let Some(rest) = entries.get(done.results.len()..).filter(|rest| !rest.is_empty()) {
        let part = &rest[..size.clamp(1, rest.len())];
        match store.commit(part.to_vec()).await {
            Ok(committed) => {
                done.add(committed);
                size = part.len().saturating_mul(2);
                (offers, in_a_row) = (0, 0);
            }
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            Err(_) if part.len() > 1 => size = part.len() / 2,
            Err(_) if offers + 1 < OFFERS_ALONE => offers += 1,
            Err(error) if in_a_row == CULPRITS_IN_A_ROW_MAX => {
                return Err(StoreError::Unavailable(format!("it takes no entry at all: {error}")));
            }
            Err(error) => {
                let key = part[0].key;
                tracing::error!(campaign = %key.campaign, seq = key.seq, %error, "an entry was given up: the ledger cannot take it");
                metrics::counter!(crate::metrics::LEDGER_GIVEN_UP).increment(1);
                done.results.push(EntryResult::Refused);
                offers = 0;
                in_a_row += 1;
            }
        }
    }
    Ok(())
}

/// The same from the beginning, for whoever needs only the results.
pub(crate) async fn commit_all_around(store: &Arc<dyn Store>, entries: &[Entry]) -> StoreResult<Vec<EntryResult>> {
    let mut done = Done::default();
    commit_around(store, entries, &mut done).await?;
    Ok(done.results)
}
