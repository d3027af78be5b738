//! Lines and pools.

use super::error::{Error, OrNotFound, Result, Violations};
use super::page::{PageOf, PageRequest, cut};
use super::runtime::LineStatus;
use super::settings::{check_description, is_printable};
use super::{Account, Control, fresh_id, query, request_id, same_version};
use crate::domain::ids::{AccountId, LineId, LineKey, PoolId, TenantId};
use crate::domain::line::{Line, LineHold, LineHoldKind, Pool, ProviderKind, SenderIdentity, bounds};
use crate::domain::phone::Address;
use crate::domain::time::UnixMillis;
use crate::store::{LineFilter, StoreError};

const DESCRIPTION_CHARS_MAX: usize = 1_000;
const REASON_BYTES_MAX: usize = 1_024;
/// How often a change without an etag is tried again when the record moved meanwhile.
const CHANGES_MAX: usize = 8;

/// A line to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineSpec {
    /// The id; empty: one is made.
    pub id: String,
    /// The pool to join; empty: one of the line's own id.
    pub pool: String,
    /// The account.
    pub account: String,
    /// The channel.
    pub kind: Option<ProviderKind>,
    /// Who it is at the provider.
    pub sender: Option<SenderIdentity>,
    /// For people.
    pub description: String,
    /// Most in any second.
    pub ceiling: u32,
    /// Most in flight.
    pub in_flight_max: Option<u32>,
}

/// What is to change; `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineUpdate {
    /// For people.
    pub description: Option<String>,
    /// Most in any second.
    pub ceiling: Option<u32>,
    /// Most in flight.
    pub in_flight_max: Option<u32>,
}

/// A line with how it does.
#[derive(Debug, Clone, PartialEq)]
pub struct LineView {
    /// The record.
    pub record: Line,
    /// How it does.
    pub status: LineStatus,
    /// When that was true.
    pub as_of: UnixMillis,
}

/// A pool with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// The record.
    pub record: Pool,
    /// The ids of its lines, in order.
    pub lines: Vec<LineId>,
    /// Sum of the ceilings of the lines that are not held.
    pub ceiling: u64,
    /// When that was true.
    pub as_of: UnixMillis,
}

impl Control {
    /// Creates a line, in a new pool unless it joins one.
    pub async fn create_line(&self, tenant: &TenantId, request: &str, spec: LineSpec) -> Result<LineView> {
        self.accepting()?;
        let request = request_id(request)?;
        let mut violations = Violations::default();
        let id_text = if spec.id.is_empty() { fresh_id("l-") } else { spec.id.clone() };
        let pool_text = if spec.pool.is_empty() { &id_text } else { &spec.pool };
        let id = violations.id("line_id", LineId::new(&id_text));
        let pool = violations.id("pool_id", PoolId::new(pool_text));
        violations.require(spec.kind.is_some(), "provider", || "is required".to_owned());
        violations.require(spec.sender.is_some(), "sender", || "is required".to_owned());
        let account = self.usable_account(tenant, &spec.account, spec.kind, &mut violations);
        if let (Some(kind), Some(sender)) = (spec.kind, &spec.sender) {
            check_sender(kind, sender, &mut violations);
        }
        check_description("description", &spec.description, DESCRIPTION_CHARS_MAX, &mut violations);
        let in_flight_max = spec.in_flight_max.unwrap_or(self.defaults.line_in_flight_max);
        check_bounds(spec.ceiling, in_flight_max, &mut violations);
        violations.check()?;
        let (Some(id), Some(pool), Some(kind), Some(sender), Some(account)) =
            (id, pool, spec.kind, spec.sender, account)
        else {
            return Err(Error::Bug("a checked line lacks a part".to_owned()));
        };
        self.check_pool_kind(tenant, &pool, kind).await?;
        let now = self.now();
        let record = Line {
            key: LineKey(0),
            tenant: tenant.clone(),
            id,
            version: 0,
            description: spec.description,
            pool,
            kind,
            account,
            sender,
            ceiling: spec.ceiling,
            in_flight_max,
            hold: None,
            released_at: None,
            created_at: now,
            updated_at: now,
        };
        let created = self.store.create_line(record, request).await?;
        if !created.fresh && !spec.id.is_empty() && created.record.id.as_str() != spec.id {
            let id = created.record.id.as_str().to_owned();
            return Err(Error::Exists { what: "line of this request_id", id });
        }
        self.runtime.line_changed(&created.record).await;
        Ok(self.line_view(created.record))
    }

    /// The account, if the tenant may use it for this channel. One that belongs to others is like none.
    fn usable_account(
        &self,
        tenant: &TenantId,
        text: &str,
        kind: Option<ProviderKind>,
        violations: &mut Violations,
    ) -> Option<AccountId> {
        let id = violations.id("account_id", AccountId::new(text))?;
        let Some(account) = self.accounts.get(tenant, &id) else {
            violations.add("account_id", format!("there is no account {text:?}: the operator configures accounts"));
            return None;
        };
        if let Some(kind) = kind.filter(|kind| !account.kinds.contains(kind)) {
            violations.add("provider", format!("account {text:?} is not one of {}", kind.as_str()));
            return None;
        }
        Some(id)
    }

    /// A pool holds lines of one kind.
    async fn check_pool_kind(&self, tenant: &TenantId, pool: &PoolId, kind: ProviderKind) -> Result<()> {
        match self.store.pool(tenant, pool).await {
            Ok(found) if found.kind == kind => Ok(()),
            Ok(found) => {
                let problem = format!("holds lines of {}; a pool has one provider kind", found.kind.as_str());
                Err(Error::invalid("pool_id", problem))
            }
            Err(StoreError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// One line.
    pub async fn line(&self, tenant: &TenantId, id: &str) -> Result<LineView> {
        Ok(self.line_view(self.line_record(tenant, id).await?))
    }

    async fn line_record(&self, tenant: &TenantId, id: &str) -> Result<Line> {
        let parsed = LineId::new(id).map_err(|_| Error::not_found("line", id))?;
        self.store.line(tenant, &parsed).await.or_not_found("line", id)
    }

    fn line_view(&self, record: Line) -> LineView {
        LineView { status: self.runtime.line_status(record.key), record, as_of: self.now() }
    }

    /// A page of lines in order of id; of one pool, or of all with an empty `pool`.
    pub async fn list_lines(&self, tenant: &TenantId, pool: &str, page: &PageRequest) -> Result<PageOf<LineView>> {
        let query = query("lines", tenant, [pool]);
        let page = self.tokens.page(&query, page)?;
        let mut filter = LineFilter { tenant: Some(tenant.clone()), ..LineFilter::default() };
        if !pool.is_empty() {
            filter.pool = Some(self.pool_record(tenant, pool).await?.id);
        }
        let lines = cut(self.store.lines(&filter).await?, &page, |line| line.id.as_str().to_owned());
        Ok(self.tokens.answer(&query, lines).map(|record| self.line_view(record)))
    }

    /// Changes what is given.
    pub async fn update_line(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        update: LineUpdate,
    ) -> Result<LineView> {
        let mut violations = Violations::default();
        if let Some(description) = &update.description {
            check_description("description", description, DESCRIPTION_CHARS_MAX, &mut violations);
        }
        check_bounds(update.ceiling.unwrap_or(1), update.in_flight_max.unwrap_or(1), &mut violations);
        violations.check()?;
        self.change_line(tenant, id, expected, |line| {
            if let Some(description) = &update.description {
                line.description.clone_from(description);
            }
            line.ceiling = update.ceiling.unwrap_or(line.ceiling);
            line.in_flight_max = update.in_flight_max.unwrap_or(line.in_flight_max);
            Ok(())
        })
        .await
    }

    /// Stops a line until it is released. A line that somebody holds already stays held for the new reason.
    pub async fn hold_line(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        reason: &str,
    ) -> Result<LineView> {
        let mut violations = Violations::default();
        let fits = !reason.trim().is_empty() && reason.len() <= REASON_BYTES_MAX && is_printable(reason);
        violations.require(fits, "reason", || format!("must be 1 to {REASON_BYTES_MAX} bytes of printable text"));
        violations.check()?;
        let hold = LineHold { kind: LineHoldKind::Operator, reason: reason.to_owned(), at: self.now(), until: None };
        self.change_line(tenant, id, expected, |line| {
            let same = line.hold.as_ref().is_some_and(|held| held.kind == hold.kind && held.reason == hold.reason);
            if !same {
                line.hold = Some(hold.clone());
            }
            Ok(())
        })
        .await
    }

    /// Lets a line send again, whatever held it.
    pub async fn release_line(&self, tenant: &TenantId, id: &str, expected: Option<u64>) -> Result<LineView> {
        let now = self.now();
        self.change_line(tenant, id, expected, |line| {
            if line.hold.take().is_some() {
                line.released_at = Some(now);
            }
            Ok(())
        })
        .await
    }

    /// Moves a line into another pool. Only when it is held and nothing of it is in flight, so that no campaign counts on it.
    pub async fn move_line(&self, tenant: &TenantId, id: &str, expected: Option<u64>, pool: &str) -> Result<LineView> {
        let line = self.line_record(tenant, id).await?;
        let pool = self.pool_record(tenant, pool).await?;
        self.check_pool_kind(tenant, &pool.id, line.kind).await?;
        self.change_line(tenant, id, expected, |line| {
            if line.pool == pool.id {
                return Ok(());
            }
            let in_flight = self.runtime.line_status(line.key).in_flight;
            if line.hold.is_none() || in_flight > 0 {
                let problem = format!("hold it first and wait until nothing is in flight (now {in_flight})");
                return Err(Error::precondition("LINE_NOT_DRAINED", format!("line/{id}"), problem));
            }
            line.pool = pool.id.clone();
            Ok(())
        })
        .await
    }

    async fn change_line(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        change: impl Fn(&mut Line) -> Result<()>,
    ) -> Result<LineView> {
        for _ in 0..CHANGES_MAX {
            let stored = self.line_record(tenant, id).await?;
            same_version(expected, stored.version)?;
            let mut changed = stored.clone();
            change(&mut changed)?;
            if changed == stored {
                // Who wrote it may have told nobody who works on the line: its pool went from there in that moment.
                self.runtime.line_changed(&stored).await;
                return Ok(self.line_view(stored));
            }
            changed.updated_at = self.now();
            match self.store.update_line(changed).await {
                Ok(line) => {
                    self.runtime.line_changed(&line).await;
                    return Ok(self.line_view(line));
                }
                Err(StoreError::Version { .. }) if expected.is_none() => {}
                Err(error) => return Err(error).or_not_found("line", id),
            }
        }
        Err(Error::Stale)
    }

    /// One pool.
    pub async fn pool(&self, tenant: &TenantId, id: &str) -> Result<PoolView> {
        let record = self.pool_record(tenant, id).await?;
        let filter =
            LineFilter { tenant: Some(tenant.clone()), pool: Some(record.id.clone()), ..LineFilter::default() };
        let lines = self.store.lines(&filter).await?;
        Ok(self.pool_view(record, &lines))
    }

    async fn pool_record(&self, tenant: &TenantId, id: &str) -> Result<Pool> {
        let parsed = PoolId::new(id).map_err(|_| Error::not_found("pool", id))?;
        self.store.pool(tenant, &parsed).await.or_not_found("pool", id)
    }

    fn pool_view(&self, record: Pool, lines: &[Line]) -> PoolView {
        let mine = || lines.iter().filter(|line| line.pool == record.id);
        let mut ids: Vec<LineId> = mine().map(|line| line.id.clone()).collect();
        ids.sort_unstable();
        let ceiling = mine().filter(|line| line.hold.is_none()).map(|line| u64::from(line.ceiling)).sum();
        PoolView { lines: ids, ceiling, as_of: self.now(), record }
    }

    /// A page of pools in order of id.
    pub async fn list_pools(&self, tenant: &TenantId, page: &PageRequest) -> Result<PageOf<PoolView>> {
        let query = query("pools", tenant, []);
        let page = self.tokens.page(&query, page)?;
        let pools = cut(self.store.pools(tenant).await?, &page, |pool| pool.id.as_str().to_owned());
        let filter = LineFilter { tenant: Some(tenant.clone()), ..LineFilter::default() };
        let lines = self.store.lines(&filter).await?;
        Ok(self.tokens.answer(&query, pools).map(|record| self.pool_view(record, &lines)))
    }

    /// Changes a pool's description.
    pub async fn update_pool(
        &self,
        tenant: &TenantId,
        id: &str,
        expected: Option<u64>,
        description: Option<String>,
    ) -> Result<PoolView> {
        let mut record = self.pool_record(tenant, id).await?;
        same_version(expected, record.version)?;
        if let Some(description) = description.filter(|description| *description != record.description) {
            let mut violations = Violations::default();
            check_description("description", &description, DESCRIPTION_CHARS_MAX, &mut violations);
            violations.check()?;
            record.description = description;
            record.updated_at = self.now();
            self.store.update_pool(record).await.or_not_found("pool", id)?;
        }
        self.pool(tenant, id).await
    }

    /// A page of the accounts that the tenant may use, in order of id.
    pub fn list_accounts(&self, tenant: &TenantId, page: &PageRequest) -> Result<PageOf<Account>> {
        let query = query("accounts", tenant, []);
        let page = self.tokens.page(&query, page)?;
        let accounts = self.accounts.of(tenant).cloned().collect();
        Ok(self.tokens.answer(&query, cut(accounts, &page, |account: &Account| account.id.as_str().to_owned())))
    }
}

fn check_bounds(ceiling: u32, in_flight_max: u32, violations: &mut Violations) {
    let fits = (1..=bounds::CEILING_MAX).contains(&ceiling);
    violations.require(fits, "ceiling_per_second", || format!("must be 1 to {}", bounds::CEILING_MAX));
    let fits = (1..=bounds::IN_FLIGHT_MAX).contains(&in_flight_max);
    violations.require(fits, "in_flight_max", || format!("must be 1 to {}", bounds::IN_FLIGHT_MAX));
}

/// Whether the sender is of a form that the provider gives to such lines.
fn check_sender(kind: ProviderKind, sender: &SenderIdentity, violations: &mut Violations) {
    let digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let problem = match (kind, sender) {
        (ProviderKind::Meta, SenderIdentity::PhoneNumberId(id)) if digits(id, 1..=32) => return,
        (ProviderKind::Meta, SenderIdentity::PhoneNumberId(_)) => "must be digits, at most 32",
        (ProviderKind::Meta, _) => "a Meta line has a meta_phone_number_id",
        (_, SenderIdentity::PhoneNumberId(_)) => "a Twilio line has a number, a short code or a messaging service",
        (_, SenderIdentity::MessagingService(sid)) if is_messaging_service(sid) => return,
        (_, SenderIdentity::MessagingService(_)) => "must be `MG` and 32 hexadecimal digits",
        (_, SenderIdentity::From(from)) if Address::parse_e164(from).is_ok() => return,
        (ProviderKind::TwilioSms, SenderIdentity::From(from)) if digits(from, 3..=8) => return,
        (ProviderKind::TwilioSms, SenderIdentity::From(_)) => {
            "must be E.164 with `+`, or a short code of 3 to 8 digits"
        }
        (_, SenderIdentity::From(_)) => "must be E.164 with `+`",
    };
    violations.add("sender", problem);
}

fn is_messaging_service(sid: &str) -> bool {
    sid.strip_prefix("MG").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_fit_their_provider() {
        use SenderIdentity as S;
        let good = |kind, sender| {
            let mut violations = Violations::default();
            check_sender(kind, &sender, &mut violations);
            violations.check().is_ok()
        };
        let sid = || S::MessagingService(format!("MG{}", "0".repeat(32)));
        assert!(good(ProviderKind::Meta, S::PhoneNumberId("106540352242922".to_owned())));
        assert!(!good(ProviderKind::Meta, S::PhoneNumberId("+15550100123".to_owned())));
        assert!(!good(ProviderKind::Meta, sid()));
        for kind in [ProviderKind::TwilioSms, ProviderKind::TwilioWhatsapp] {
            assert!(good(kind, S::From("+15550100123".to_owned())));
            assert!(good(kind, sid()));
            assert!(!good(kind, S::MessagingService("MG1".to_owned())));
            assert!(!good(kind, S::PhoneNumberId("1".to_owned())));
        }
        assert!(good(ProviderKind::TwilioSms, S::From("12345".to_owned())));
        assert!(!good(ProviderKind::TwilioWhatsapp, S::From("12345".to_owned())));
        assert!(!good(ProviderKind::TwilioSms, S::From("15550100123".to_owned())));
    }
}
