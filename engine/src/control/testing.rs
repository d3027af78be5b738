//! A façade over a real ledger in a temporary directory and a runtime that only remembers what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::row::digest;
use super::*;
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::ids::{AccountId, CampaignKey, LineKey, MessageKey};
use crate::domain::line::{Line, ProviderKind, SenderIdentity};
use crate::domain::message::Event;
use crate::domain::template::{ParamFormat, Template, TemplateKind};
use crate::store::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::store::{Entry, EntryResult, StoreResult};

pub(super) const START: i64 = 1_800_000_000_000;

/// Remembers what it was told, in order.
pub(super) struct FakeRuntime {
    store: Arc<dyn Store>,
    pub(super) told: Mutex<Vec<String>>,
    pub(super) in_flight: Mutex<BTreeMap<u32, u64>>,
    pub(super) line_status: Mutex<LineStatus>,
    pub(super) progress: Mutex<BTreeMap<u32, watch::Sender<Progress>>>,
    pub(super) draining: AtomicBool,
}

impl FakeRuntime {
    fn tell(&self, what: String) {
        self.told.lock().push(what);
    }

    pub(super) fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock())
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn commit(&self, entries: Vec<Entry>) -> StoreResult<Vec<EntryResult>> {
        Ok(self.store.commit(entries).await?.results)
    }

    fn shut_gate(&self, campaign: CampaignKey) -> runtime::Shut {
        self.tell(format!("close {campaign}"));
        Box::new(())
    }

    fn in_flight(&self, campaign: CampaignKey) -> u64 {
        self.in_flight.lock().get(&campaign.0).copied().unwrap_or(0)
    }

    async fn campaign_changed(&self, campaign: &Campaign) {
        self.tell(format!("changed {} {}", campaign.key, campaign.state.name()));
    }

    async fn campaign_removed(&self, campaign: CampaignKey) {
        self.tell(format!("removed {campaign}"));
    }

    async fn line_changed(&self, line: &Line) {
        self.tell(format!("line {}", line.id));
    }

    fn line_status(&self, _: LineKey) -> LineStatus {
        *self.line_status.lock()
    }

    fn progress(&self, campaign: CampaignKey) -> Option<watch::Receiver<Progress>> {
        self.progress.lock().get(&campaign.0).map(watch::Sender::subscribe)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

pub(super) struct Bench {
    pub(super) control: Control,
    pub(super) runtime: Arc<FakeRuntime>,
    pub(super) store: Arc<dyn Store>,
    pub(super) wall: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

pub(super) fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub(super) fn other() -> TenantId {
    TenantId::new("other").unwrap()
}

fn account(id: &str, kinds: &[ProviderKind], tenants: Tenants) -> Account {
    Account { id: AccountId::new(id).unwrap(), kinds: kinds.to_vec(), tenants }
}

impl Bench {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let wall = Arc::new(AtomicI64::new(START));
        let clock = Clock::with_wall({
            let wall = Arc::clone(&wall);
            move || UnixMillis(wall.load(Ordering::SeqCst))
        });
        let config = EmbeddedConfig { synced: false, ..EmbeddedConfig::new(dir.path().join("ledger")) };
        let store: Arc<dyn Store> = EmbeddedStore::open(config, clock.clone()).unwrap();
        let runtime = Arc::new(FakeRuntime {
            store: Arc::clone(&store),
            told: Mutex::default(),
            in_flight: Mutex::default(),
            line_status: Mutex::default(),
            progress: Mutex::default(),
            draining: AtomicBool::new(false),
        });
        let twilio = [ProviderKind::TwilioSms, ProviderKind::TwilioWhatsapp];
        let accounts = [
            account("meta-main", &[ProviderKind::Meta], Tenants::Only(vec![acme()])),
            account("meta-other", &[ProviderKind::Meta], Tenants::Only(vec![other()])),
            account("twilio", &twilio, Tenants::All),
        ];
        let control = Control::new(Parts {
            store: Arc::clone(&store),
            runtime: Arc::clone(&runtime) as Arc<dyn Runtime>,
            accounts: accounts.into_iter().collect(),
            clock,
            backup_dir: Some(dir.path().to_owned()),
            installation_secret: store.installation_secret().await.unwrap(),
            defaults: Defaults::default(),
        })
        .unwrap();
        Self { control, runtime, store, wall, _dir: dir }
    }

    pub(super) fn advance(&self, span: Duration) {
        self.wall.fetch_add(i64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// With a line `line-1`, its pool, and a template `hello` with one body parameter.
    pub(super) async fn furnished() -> Self {
        let bench = Self::new().await;
        bench.control.create_line(&acme(), "", line("line-1", "1001")).await.unwrap();
        bench.control.put_template(&acme(), "", template("hello", "Hello {{1}}"), None).await.unwrap();
        bench.runtime.take_told();
        bench
    }

    pub(super) async fn draft(&self, id: &str) -> CampaignView {
        self.control.create_campaign(&acme(), "", campaign(id)).await.unwrap()
    }

    /// A draft with this many recipients.
    pub(super) async fn filled(&self, id: &str, recipients: u64) -> CampaignView {
        self.draft(id).await;
        self.import(id, "list", 0, recipients).await.unwrap();
        self.control.campaign(&acme(), id).await.unwrap()
    }

    pub(super) async fn running(&self, id: &str, recipients: u64) -> CampaignView {
        self.filled(id, recipients).await;
        self.control.start_campaign(&acme(), id, None).await.unwrap()
    }

    /// Imports good rows `from..to` as one chunk.
    pub(super) async fn import(&self, campaign: &str, import: &str, from: u64, to: u64) -> Result<ChunkAck> {
        let rows = (from..to).map(row).collect();
        self.import_rows(campaign, import, from, rows).await
    }

    pub(super) async fn import_rows(
        &self,
        campaign: &str,
        import: &str,
        offset: u64,
        mut rows: Vec<Row>,
    ) -> Result<ChunkAck> {
        let opened = self.control.open_import(&acme(), campaign, import).await?;
        let digest = digest(&mut rows).to_vec();
        let chunk = opened.session.check(RowChunk { offset, rows, digest })?;
        self.control.store_chunk(&opened.session, opened.acked_rows, chunk).await
    }

    /// Applies one event to a message.
    pub(super) async fn apply(&self, campaign: &CampaignView, seq: u32, event: Event) -> EntryResult {
        let key = MessageKey { campaign: campaign.record.key, seq };
        self.store.commit(vec![Entry { key, event }]).await.unwrap().results[0]
    }

    /// Makes a message in doubt.
    pub(super) async fn doubt(&self, campaign: &CampaignView, seq: u32) {
        let at = self.control.now();
        let line = self.control.line(&acme(), "line-1").await.unwrap().record.key;
        self.apply(campaign, seq, Event::Intent { attempt: 1, line, at }).await;
        let due_at = at.after(Duration::from_secs(900));
        self.apply(campaign, seq, Event::Doubt { attempt: 1, at, due_at }).await;
    }

    pub(super) async fn state(&self, id: &str) -> CampaignState {
        self.control.campaign(&acme(), id).await.unwrap().record.state
    }
}

pub(super) fn row(number: u64) -> Row {
    Row {
        address: RowAddress::Phone(format!("+999{:09}", number)),
        external_id: format!("crm-{number}"),
        header: Vec::new(),
        body: vec!["Ada".to_owned()],
        buttons: Vec::new(),
        named: Vec::new(),
    }
}

pub(super) fn line(id: &str, number: &str) -> LineSpec {
    LineSpec {
        id: id.to_owned(),
        pool: String::new(),
        account: "meta-main".to_owned(),
        kind: Some(ProviderKind::Meta),
        sender: Some(SenderIdentity::PhoneNumberId(number.to_owned())),
        description: String::new(),
        ceiling: 80,
        in_flight_max: None,
    }
}

pub(super) fn template(id: &str, body: &str) -> Template {
    Template {
        id: id.to_owned(),
        name: id.to_owned(),
        language: "en_US".to_owned(),
        kind: TemplateKind::Approved,
        format: ParamFormat::Positional,
        header: None,
        body: body.to_owned(),
        footer: None,
        buttons: Vec::new(),
        sms_body: None,
        content_sid: None,
        content_keys: Vec::new(),
        preview_url: false,
    }
}

pub(super) fn campaign(id: &str) -> CampaignSpec {
    CampaignSpec {
        id: id.to_owned(),
        name: "Spring".to_owned(),
        created_by: "ada".to_owned(),
        settings: SettingsSpec { template: "hello".to_owned(), pool: "line-1".to_owned(), ..SettingsSpec::default() },
        ..CampaignSpec::default()
    }
}

/// The fields that a refused call names.
pub(super) fn fields<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
    match result {
        Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("expected wrong fields, got {other:?}"),
    }
}

/// What stands in the way of a refused call.
pub(super) fn obstacle<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    match result {
        Err(Error::Precondition { kind, .. }) => kind,
        other => panic!("expected a precondition, got {other:?}"),
    }
}
