//! Messages: look at them, with everything that happened to them.

use std::collections::HashMap;

use super::error::{Error, OrNotFound, Result};
use super::page::{PAGE_SIZE_MAX, PageOf, PageRequest};
use super::{Control, filter, query};
use crate::domain::campaign::Campaign;
use crate::domain::ids::{AccountId, LineId, LineKey, MessageKey, TenantId};
use crate::domain::line::Line;
use crate::domain::message::{Attempt, Phase};
use crate::domain::stage::Shown;
use crate::store::{LineFilter, MessageFilter, MessageRecord, Page, Paged, ParkedEvent, StoreError};

/// Most pages that are read for one page of an answer that passes over items.
const PAGES_READ_MAX: usize = 16;

/// Which message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageKeySpec {
    /// By its place.
    Seq(u32),
    /// By the caller's own id.
    ExternalId(String),
}

/// An attempt as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// What is known of it.
    pub attempt: Attempt,
    /// The id that was sent with it.
    pub correlation_id: String,
    /// Its line; `None` when the line is gone.
    pub line: Option<LineId>,
    /// Where the owner stands with it; `None` for older attempts.
    pub phase: Option<Phase>,
}

/// A message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageView {
    /// The record.
    pub record: MessageRecord,
    /// Its attempts, the oldest first.
    pub attempts: Vec<AttemptView>,
}

/// The names of a tenant's lines, read once for many messages.
#[derive(Debug, Clone)]
pub struct Names(HashMap<LineKey, LineId>);

impl Control {
    /// One message with all its attempts, and the id of its campaign.
    pub async fn message(&self, tenant: &TenantId, campaign: &str, key: &MessageKeySpec) -> Result<MessageView> {
        let record = self.campaign_record(tenant, campaign).await?;
        let message = match key {
            MessageKeySpec::Seq(seq) => {
                let key = MessageKey { campaign: record.key, seq: *seq };
                self.store.message(key).await.or_not_found("message", &format!("{campaign}/{seq}"))?
            }
            MessageKeySpec::ExternalId(id) => self.by_external_id(&record, id).await?,
        };
        let names = self.line_names(tenant).await?;
        Ok(self.message_view(&names, message))
    }

    async fn by_external_id(&self, campaign: &Campaign, id: &str) -> Result<MessageRecord> {
        let filter = MessageFilter { external_id: Some(id.to_owned()), all_attempts: true, ..MessageFilter::default() };
        let mut page = Page { size: 1, after: None };
        loop {
            let mut found = self.store.messages(campaign.key, &filter, page.clone()).await?;
            match (found.items.pop(), found.next) {
                (Some(message), _) => return Ok(message),
                (None, Some(next)) => page.after = Some(next),
                (None, None) => return Err(Error::not_found("message", format!("{}/{id}", campaign.id))),
            }
        }
    }

    /// A page of a campaign's messages in order of `seq`.
    pub async fn list_messages(
        &self,
        tenant: &TenantId,
        campaign: &str,
        filter_text: &str,
        page: &PageRequest,
    ) -> Result<PageOf<MessageView>> {
        let filter = MessageFilter { all_attempts: true, ..filter::messages(filter_text)? };
        let query = query("messages", tenant, [campaign, filter_text]);
        let page = self.tokens.page(&query, page)?;
        self.filtered(tenant, campaign, &filter, &query, page).await
    }

    /// A page of the messages that are in doubt or unconfirmed.
    pub async fn list_in_doubt(
        &self,
        tenant: &TenantId,
        campaign: &str,
        page: &PageRequest,
    ) -> Result<PageOf<MessageView>> {
        let shown = vec![Shown::InDoubt, Shown::Unconfirmed];
        let filter = MessageFilter { shown, all_attempts: true, ..MessageFilter::default() };
        let query = query("in_doubt", tenant, [campaign]);
        let page = self.tokens.page(&query, page)?;
        self.filtered(tenant, campaign, &filter, &query, page).await
    }

    /// A batch of an export: like a page, with the token of an export. `size` is the most messages of it.
    pub async fn export_messages(
        &self,
        tenant: &TenantId,
        campaign: &str,
        filter_text: &str,
        token: &str,
        size: i32,
    ) -> Result<PageOf<MessageView>> {
        let filter = MessageFilter { all_attempts: true, ..filter::messages(filter_text)? };
        let query = query("export", tenant, [campaign, filter_text]);
        let size = usize::try_from(size).unwrap_or(0).clamp(1, PAGE_SIZE_MAX);
        let page = Page { size, after: self.tokens.open(&query, "resume_token", token)? };
        self.filtered(tenant, campaign, &filter, &query, page).await
    }

    async fn filtered(
        &self,
        tenant: &TenantId,
        campaign: &str,
        filter: &MessageFilter,
        query: &[&str],
        page: Page,
    ) -> Result<PageOf<MessageView>> {
        let record = self.campaign_record(tenant, campaign).await?;
        let found = self.store.messages(record.key, filter, page).await?;
        let names = self.line_names(tenant).await?;
        Ok(self.tokens.answer(query, found).map(|message| self.message_view(&names, message)))
    }

    /// The names of the tenant's lines.
    pub async fn line_names(&self, tenant: &TenantId) -> Result<Names> {
        let filter = LineFilter { tenant: Some(tenant.clone()), ..LineFilter::default() };
        Ok(Names(self.store.lines(&filter).await?.into_iter().map(|line| (line.key, line.id)).collect()))
    }

    fn message_view(&self, names: &Names, mut record: MessageRecord) -> MessageView {
        let newest = record.state.newest.clone().map(|attempt| (attempt, Some(record.state.phase)));
        let older = std::mem::take(&mut record.state.older).into_iter().map(|attempt| (attempt, None));
        let key = record.key;
        let attempts = older.chain(newest).map(|(attempt, phase)| AttemptView {
            correlation_id: self.correlation.encode(key.campaign.0, key.seq, attempt.number).as_str().to_owned(),
            line: names.0.get(&attempt.line).cloned(),
            phase,
            attempt,
        });
        MessageView { attempts: attempts.collect(), record }
    }

    /// A page of events that found no message, of one account or of all that the tenant may use.
    ///
    /// Of an account that several tenants share, only those that name a campaign or a line of this tenant.
    pub async fn list_orphans(
        &self,
        tenant: &TenantId,
        account: &str,
        page: &PageRequest,
    ) -> Result<PageOf<ParkedEvent>> {
        let accounts: Vec<AccountId> = if account.is_empty() {
            self.accounts.of(tenant).map(|account| account.id.clone()).collect()
        } else {
            let id = AccountId::new(account).ok().filter(|id| self.accounts.get(tenant, id).is_some());
            vec![id.ok_or_else(|| Error::not_found("account", account))?]
        };
        let query = query("orphans", tenant, [account]);
        let mut page = self.tokens.page(&query, page)?;
        let filter = LineFilter { tenant: Some(tenant.clone()), ..LineFilter::default() };
        let lines = self.store.lines(&filter).await?;
        let mut found = Vec::new();
        for _ in 0..PAGES_READ_MAX {
            let want = page.size - found.len();
            let read = self.store.orphans(&accounts, Page { size: want, after: page.after.take() }).await?;
            for event in read.items {
                if self.concerns(tenant, &lines, &event).await? {
                    found.push(event);
                }
            }
            page.after = read.next;
            if page.after.is_none() || found.len() >= page.size {
                break;
            }
        }
        Ok(self.tokens.answer(&query, Paged { items: found, next: page.after }))
    }

    /// Whether an orphan is this tenant's: of an account of its own anyhow; else by the campaign that its correlation id names, or by
    /// the line that it names. What names neither is nobody's that could be told.
    async fn concerns(&self, tenant: &TenantId, lines: &[Line], event: &ParkedEvent) -> Result<bool> {
        if self.accounts.get(tenant, &event.account).is_some_and(|account| account.is_private_to(tenant)) {
            return Ok(true);
        }
        if let Some((message, _)) = event.attempt {
            match self.store.campaign_by_key(message.campaign).await {
                Ok(campaign) => return Ok(&campaign.tenant == tenant),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some(sender) = event.sender.as_deref().map(|sender| sender.trim_start_matches("whatsapp:")) else {
            return Ok(false);
        };
        Ok(lines.iter().any(|line| line.account == event.account && line.sender.text() == sender))
    }

    /// The correlation id of an attempt.
    pub fn correlation_id(&self, message: MessageKey, attempt: u16) -> String {
        self.correlation.encode(message.campaign.0, message.seq, attempt).as_str().to_owned()
    }
}
