//! Decisions about messages in doubt.

use std::time::Duration;

use super::error::{Error, Result};
use super::lifecycle::refuse_past_stop;
use super::{Control, filter};
use crate::domain::campaign::{Campaign, Move, next_state};
use crate::domain::ids::{MessageKey, TenantId};
use crate::domain::message::{Decision, Event};
use crate::domain::stage::Shown;
use crate::domain::time::UnixMillis;
use crate::store::{Entry, EntryResult, MessageFilter, Page, StoreError};

/// Most messages that are named in one call.
const SEQS_MAX: usize = 10_000;
/// Decisions in one commit.
const COMMIT_ENTRIES: usize = 1_000;
/// How often a reopening is tried again when the record moved meanwhile.
const REOPENINGS_MAX: usize = 8;
/// Pause before it is tried again on a ledger that is away.
const LEDGER_PAUSE: Duration = Duration::from_secs(1);

/// Which messages a decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveSelection {
    /// These.
    Seqs(Vec<u32>),
    /// What matches, and is in doubt or unconfirmed.
    Filter(String),
}

/// A named message that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// Its place.
    pub seq: u32,
    /// What it shows; `None` when there is no such message.
    pub shown: Option<Shown>,
}

/// What became of the messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Decided on.
    pub resolved: u64,
    /// Left as they are.
    pub unresolved: Vec<Unresolved>,
    /// When it was durable.
    pub as_of: UnixMillis,
}

impl Control {
    /// Decides on messages in doubt. "Send again" reopens a campaign that is over.
    pub async fn resolve(
        &self,
        tenant: &TenantId,
        id: &str,
        selection: ResolveSelection,
        decision: Decision,
    ) -> Result<Resolved> {
        let campaign = self.campaign_record(tenant, id).await?;
        let again = decision == Decision::SendAgain;
        if again {
            self.accepting()?;
            next_state(campaign.state, Move::Reopen, false)?;
            refuse_past_stop(&campaign, self.now())?;
        }
        let mut resolved = Resolved { resolved: 0, unresolved: Vec::new(), as_of: self.now() };
        let decided = self.decide_selected(&campaign, selection, decision, &mut resolved).await;
        // Whatever became of the rest, and also for what an earlier call decided: nothing waits in a campaign that is over.
        let reopened = if again { self.reopen(tenant, id).await } else { Ok(()) };
        match reopened.and(decided) {
            // The campaign went away in the middle: asked again as it is, its next owner would decide about what came of the first part, too.
            Err(Error::Elsewhere(_)) if resolved.resolved > 0 => Err(Error::Stale),
            result => result,
        }?;
        resolved.as_of = self.now();
        Ok(resolved)
    }

    async fn decide_selected(
        &self,
        campaign: &Campaign,
        selection: ResolveSelection,
        decision: Decision,
        resolved: &mut Resolved,
    ) -> Result<()> {
        match selection {
            ResolveSelection::Seqs(mut seqs) => {
                seqs.sort_unstable();
                let twice = seqs.windows(2).any(|pair| pair[0] == pair[1]);
                if seqs.is_empty() || seqs.len() > SEQS_MAX || twice {
                    return Err(Error::invalid("seqs", format!("must be 1 to {SEQS_MAX} places, each once")));
                }
                for seqs in seqs.chunks(COMMIT_ENTRIES) {
                    self.decide(campaign, seqs, decision, resolved).await?;
                }
                Ok(())
            }
            ResolveSelection::Filter(text) if text.trim().is_empty() => {
                Err(Error::invalid("filter", "must not be empty: say which messages are meant"))
            }
            ResolveSelection::Filter(text) => {
                self.decide_matching(campaign, filter::messages(&text)?, decision, resolved).await
            }
        }
    }

    async fn decide_matching(
        &self,
        campaign: &Campaign,
        mut filter: MessageFilter,
        decision: Decision,
        resolved: &mut Resolved,
    ) -> Result<()> {
        let open = [Shown::InDoubt, Shown::Unconfirmed];
        filter.shown = if filter.shown.is_empty() {
            open.to_vec()
        } else {
            filter.shown.into_iter().filter(|shown| open.contains(shown)).collect()
        };
        if filter.shown.is_empty() {
            return Err(Error::invalid("filter", "matches neither in_doubt nor unconfirmed"));
        }
        let mut page = Page { size: COMMIT_ENTRIES, after: None };
        loop {
            let found = self.store.messages(campaign.key, &filter, page.clone()).await?;
            let seqs: Vec<u32> = found.items.iter().map(|message| message.key.seq).collect();
            if !seqs.is_empty() {
                self.decide(campaign, &seqs, decision, resolved).await?;
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        // What a filter found and an echo resolved meanwhile is no concern of the caller.
        resolved.unresolved.clear();
        Ok(())
    }

    async fn decide(
        &self,
        campaign: &Campaign,
        seqs: &[u32],
        decision: Decision,
        resolved: &mut Resolved,
    ) -> Result<()> {
        let at = self.now();
        let key = |seq| MessageKey { campaign: campaign.key, seq };
        let entry = |seq: &u32| Entry { key: key(*seq), event: Event::Resolved { decision, at } };
        let committed = self.runtime.commit(seqs.iter().map(entry).collect()).await?;
        for (seq, result) in seqs.iter().zip(committed) {
            match result {
                EntryResult::Applied => resolved.resolved += 1,
                // The runtime says so for all of them.
                EntryResult::Elsewhere => return Err(Error::Elsewhere("the campaign is another node's".to_owned())),
                EntryResult::Unknown => resolved.unresolved.push(Unresolved { seq: *seq, shown: None }),
                EntryResult::NoChange | EntryResult::Refused => {
                    let shown = match self.store.message(key(*seq)).await {
                        Ok(message) => Some(message.shown),
                        Err(StoreError::NotFound(_)) => None,
                        Err(error) => return Err(error.into()),
                    };
                    resolved.unresolved.push(Unresolved { seq: *seq, shown });
                }
            }
        }
        Ok(())
    }

    /// Puts a campaign that is over back to work if messages wait to be sent again; they are durable by then. Where the ledger goes
    /// away in between, that follows when it is back; should the engine end before, its next start does it.
    async fn reopen(&self, tenant: &TenantId, id: &str) -> Result<()> {
        for _ in 0..REOPENINGS_MAX {
            match self.reopen_once(tenant, id).await {
                Err(Error::Stale) => {}
                Err(error @ Error::Ledger(_)) => {
                    let (control, tenant, id) = (self.clone(), tenant.clone(), id.to_owned());
                    tokio::spawn(async move { control.reopen_later(&tenant, &id).await });
                    return Err(error);
                }
                result => return result,
            }
        }
        Err(Error::Stale)
    }

    async fn reopen_later(&self, tenant: &TenantId, id: &str) {
        while !self.runtime.is_draining() {
            tokio::time::sleep(LEDGER_PAUSE).await;
            match self.reopen_once(tenant, id).await {
                Err(Error::Ledger(_) | Error::Stale) => {}
                Err(error) => return tracing::error!(campaign = id, %error, "could not be put back to work"),
                Ok(()) => return,
            }
        }
    }

    async fn reopen_once(&self, tenant: &TenantId, id: &str) -> Result<()> {
        let campaign = self.campaign_record(tenant, id).await?;
        if !campaign.state.is_ended() {
            return Ok(());
        }
        // Asked after the record was read: a cancellation since then moved its version, one before left nothing pending.
        if !self.has_pending(campaign.key).await? {
            return Ok(());
        }
        let campaign = self.store.update_campaign(campaign.reopened(self.now())?).await?;
        self.runtime.campaign_changed(&campaign).await;
        Ok(())
    }
}
