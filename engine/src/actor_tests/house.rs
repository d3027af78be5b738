//! An engine over a real ledger in a temporary directory, a façade over it, and a provider on a real socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::provider::{Provider, Reply, Seen};
use super::{DEADLINE, eventually};
use crate::control::{self, CampaignSpec, Control, LineSpec, Parts, Runtime, SettingsSpec, Tenants};
use crate::domain::backoff::Backoff;
use crate::domain::breaker::BreakerConfig;
use crate::domain::campaign::{Campaign, CampaignState};
use crate::domain::correlation::CorrelationKey;
use crate::domain::ids::{AccountId, CampaignKey, ImportId, TenantId};
use crate::domain::line::{Line, ProviderKind, SenderIdentity};
use crate::domain::stage::Shown;
use crate::domain::tally::Tally;
use crate::domain::template::{ParamFormat, Template, TemplateKind};
use crate::domain::time::{Clock, UnixMillis};
use crate::provider::{Account, Credentials, Secret};
use crate::store::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::store::{ImportChunk, ImportRules, MessageFilter, MessageRecord, NewRecipient, Page, Store};
use crate::webhook::{CorrelationText, Event, LineIdentity, Reported, StatusEvent};
use crate::{Engine, EngineConfig};

pub(super) const ACCOUNT: &str = "meta-main";

pub(super) fn acme() -> TenantId {
    TenantId::new("acme").unwrap()
}

/// One campaign of a test.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) key: CampaignKey,
    pub(super) recipients: u32,
}

impl Run {
    /// The address of a recipient; no two campaigns share one.
    pub(super) fn address(&self, seq: u32) -> String {
        format!("+999{:03}{seq:06}", self.key.0)
    }

    fn is_its(&self, to: &str) -> bool {
        to.starts_with(&format!("+999{:03}", self.key.0))
    }
}

/// Everything of one test. `dir` outlives the engine, so that another can be started on the same ledger.
pub(super) struct House {
    pub(super) engine: Engine,
    pub(super) control: Control,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) store: Arc<dyn Store>,
    pub(super) provider: Arc<Provider>,
    pub(super) dir: Arc<tempfile::TempDir>,
    /// Added to the wall clock, milliseconds.
    pub(super) step: Arc<AtomicI64>,
    pub(super) correlation: CorrelationKey,
}

impl House {
    pub(super) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// With `line-1`, of this ceiling, in a pool of its own.
    pub(super) async fn with_line(ceiling: u32) -> Self {
        let house = Self::open().await;
        house.line("line-1", "", ceiling).await;
        house
    }

    /// With settings of its own.
    pub(super) async fn with(tune: impl FnOnce(&mut EngineConfig)) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let house = Self::on(dir, Arc::new(Provider::start()), tune).await;
        house.put_template().await;
        house
    }

    /// The template that campaigns here use.
    pub(super) async fn put_template(&self) {
        let template = Template {
            id: "hello".to_owned(),
            name: "hello".to_owned(),
            language: "en_US".to_owned(),
            kind: TemplateKind::Approved,
            format: ParamFormat::Positional,
            header: None,
            body: "Hello {{1}}".to_owned(),
            footer: None,
            buttons: Vec::new(),
            sms_body: None,
            content_sid: None,
            content_keys: Vec::new(),
            preview_url: false,
        };
        self.control.put_template(&acme(), "", template, None).await.unwrap();
    }

    /// On a ledger that is there already, or not yet.
    pub(super) async fn on(
        dir: Arc<tempfile::TempDir>,
        provider: Arc<Provider>,
        tune: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let step = Arc::new(AtomicI64::new(0));
        let clock = Clock::with_wall({
            let (step, system) = (Arc::clone(&step), Clock::system());
            move || UnixMillis(system.wall().0 + step.load(Ordering::SeqCst))
        });
        let config = EmbeddedConfig { synced: false, ..EmbeddedConfig::new(dir.path().join("ledger")) };
        let store: Arc<dyn Store> = EmbeddedStore::open(config, clock.clone()).unwrap();
        Self::over(store, clock, step, dir, provider, tune).await
    }

    /// On any ledger.
    pub(super) async fn over(
        store: Arc<dyn Store>,
        clock: Clock,
        step: Arc<AtomicI64>,
        dir: Arc<tempfile::TempDir>,
        provider: Arc<Provider>,
        tune: impl FnOnce(&mut EngineConfig),
    ) -> Self {
        let id = AccountId::new(ACCOUNT).unwrap();
        let credentials = Credentials::Meta { access_token: Secret::new("token") };
        let account =
            Account::new(id.clone(), Vec::new(), credentials, provider.base_url(), "v25.0".to_owned()).unwrap();
        let mut config = EngineConfig {
            accounts: HashMap::from([(id.clone(), account)]),
            backoff: Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(100) },
            breaker: BreakerConfig {
                backoff_min: Duration::from_millis(50),
                backoff_max: Duration::from_millis(200),
                ..BreakerConfig::default()
            },
            ..EngineConfig::default()
        };
        tune(&mut config);
        let engine = Engine::start(config, Arc::clone(&store), clock.clone()).await.unwrap();
        let secret = store.installation_secret().await.unwrap();
        let kinds = vec![ProviderKind::Meta];
        let control = Control::new(Parts {
            store: Arc::clone(&store),
            runtime: engine.runtime(),
            accounts: [control::Account { id, kinds, tenants: Tenants::All }].into_iter().collect(),
            clock,
            backup_dir: None,
            installation_secret: secret,
            defaults: control::Defaults::default(),
        })
        .unwrap();
        let runtime = engine.runtime();
        Self { engine, control, runtime, store, provider, dir, step, correlation: CorrelationKey::new(secret) }
    }

    /// A line in the pool of this name; in one of its own when that is empty.
    pub(super) async fn line(&self, id: &str, pool: &str, ceiling: u32) -> Line {
        let spec = LineSpec {
            id: id.to_owned(),
            pool: pool.to_owned(),
            account: ACCOUNT.to_owned(),
            kind: Some(ProviderKind::Meta),
            sender: Some(SenderIdentity::PhoneNumberId(phone_number_id(id))),
            description: String::new(),
            ceiling,
            in_flight_max: None,
        };
        self.control.create_line(&acme(), "", spec).await.unwrap().record
    }

    pub(super) async fn line_record(&self, id: &str) -> Line {
        self.control.line(&acme(), id).await.unwrap().record
    }

    /// A sealed campaign that has not been started.
    pub(super) async fn draft(
        &self,
        id: &str,
        pool: &str,
        recipients: u32,
        tune: impl FnOnce(&mut SettingsSpec),
    ) -> Run {
        let mut settings =
            SettingsSpec { template: "hello".to_owned(), pool: pool.to_owned(), ..SettingsSpec::default() };
        tune(&mut settings);
        let spec = CampaignSpec { id: id.to_owned(), name: id.to_owned(), settings, ..CampaignSpec::default() };
        let record = self.control.create_campaign(&acme(), "", spec).await.unwrap().record;
        let key = record.key;
        let run = Run { id: id.to_owned(), key, recipients };
        let recipient = |seq: u32| NewRecipient {
            row: u64::from(seq),
            address: run.address(seq).into(),
            external_id: None,
            params: r#"["Ada"]"#.into(),
        };
        let chunk = ImportChunk {
            campaign: key,
            import: ImportId::new("list").unwrap(),
            rules: ImportRules::of(&record),
            offset: 0,
            rows: recipients,
            digest: [0; 32],
            recipients: (0..recipients).map(recipient).collect(),
            refused: Vec::new(),
            at: self.control.now(),
        };
        self.store.append_recipients(chunk).await.unwrap();
        run
    }

    pub(super) async fn start(&self, run: &Run) {
        self.control.start_campaign(&acme(), &run.id, None).await.unwrap();
    }

    pub(super) async fn started(&self, id: &str, pool: &str, recipients: u32) -> Run {
        let run = self.draft(id, pool, recipients, |_| {}).await;
        self.start(&run).await;
        run
    }

    pub(super) async fn pause(&self, run: &Run) -> u64 {
        self.control.pause_campaign(&acme(), &run.id, None).await.unwrap().in_flight
    }

    pub(super) async fn resume(&self, run: &Run) {
        self.control.resume_campaign(&acme(), &run.id, None).await.unwrap();
    }

    pub(super) async fn record(&self, run: &Run) -> Campaign {
        self.store.campaign_by_key(run.key).await.unwrap()
    }

    pub(super) async fn until_state(&self, run: &Run, state: CampaignState) {
        let found = eventually(async || self.record(run).await.state == state).await;
        if !found {
            let (record, tally) = (self.record(run).await, self.tally(run).await);
            let binding = self.runtime.progress(run.key).map(|progress| progress.borrow().binding);
            panic!(
                "{} is not {} in {DEADLINE:?} but {} ({:?}), binding {binding:?}, {} in flight, {tally:?}",
                run.id,
                state.name(),
                record.state.name(),
                record.hold,
                self.runtime.in_flight(run.key)
            );
        }
    }

    pub(super) async fn tally(&self, run: &Run) -> Tally {
        self.store.tally(run.key).await.unwrap().tally
    }

    pub(super) async fn shown(&self, run: &Run, shown: Shown) -> u64 {
        self.tally(run).await.count(shown)
    }

    /// Waits until so many are shown so.
    pub(super) async fn until_shown(&self, run: &Run, shown: Shown, count: u64) {
        let found = eventually(async || self.shown(run, shown).await == count).await;
        assert!(found, "{}: not {count} {} but {:?}", run.id, shown.name(), self.tally(run).await);
    }

    /// Waits until nothing is in flight, neither by the actors' count nor by the ledger's.
    pub(super) async fn until_quiet(&self, run: &Run) {
        let quiet = eventually(async || self.runtime.in_flight(run.key) == 0 && self.tally(run).await.open == 0).await;
        assert!(quiet, "{}: {} in flight, {:?}", run.id, self.runtime.in_flight(run.key), self.tally(run).await);
    }

    pub(super) async fn messages(&self, run: &Run) -> Vec<MessageRecord> {
        let filter = MessageFilter { all_attempts: true, ..MessageFilter::default() };
        let page = Page { size: 100_000, after: None };
        self.store.messages(run.key, &filter, page).await.unwrap().items
    }

    /// The requests of a campaign that the provider took.
    pub(super) fn taken(&self, run: &Run) -> Vec<Seen> {
        self.provider.seen().into_iter().filter(|seen| seen.took && run.is_its(&seen.to)).collect()
    }

    /// What the provider took of a campaign, by recipient.
    pub(super) fn taken_by_recipient(&self, run: &Run) -> HashMap<String, u32> {
        let mut by_recipient = HashMap::new();
        for seen in self.taken(run) {
            *by_recipient.entry(seen.to).or_default() += 1;
        }
        by_recipient
    }

    /// Every recipient has its message, and has it once.
    pub(super) fn assert_once_each(&self, run: &Run) {
        self.assert_once_each_but(run, 0);
    }

    /// The same, except that so many have none.
    fn assert_once_each_but(&self, run: &Run, without: u64) {
        let taken = self.taken_by_recipient(run);
        let lost: Vec<String> =
            (0..run.recipients).map(|seq| run.address(seq)).filter(|to| !taken.contains_key(to)).collect();
        let doubled: Vec<_> = taken.iter().filter(|(_, times)| **times != 1).collect();
        assert!(lost.len() as u64 == without && doubled.is_empty(), "{}: lost {lost:?}, doubled {doubled:?}", run.id);
    }

    /// So many recipients have their message, each once.
    pub(super) fn assert_once_each_of(&self, run: &Run, count: u64) {
        let taken = self.taken_by_recipient(run);
        assert_eq!(taken.len() as u64, count, "{}", run.id);
        assert!(taken.values().all(|times| *times == 1), "{}: doubled", run.id);
    }

    /// The tally is what a recount finds, and adds up to the recipients.
    pub(super) async fn assert_counts(&self, run: &Run) {
        let (kept, counted) = self.store.recount(run.key).await.unwrap();
        assert_eq!((kept.tally, kept.failures), (counted.tally, counted.failures), "{}", run.id);
        assert_eq!(kept.tally.recipients(), u64::from(run.recipients), "{}", run.id);
    }

    /// Completed, once each, and counted right.
    pub(super) async fn assert_done(&self, run: &Run) {
        self.assert_done_but(run, 0).await;
    }

    /// The same, except that so many failed.
    pub(super) async fn assert_done_but(&self, run: &Run, failed: u64) {
        self.until_state(run, CampaignState::Completed).await;
        self.assert_once_each_but(run, failed);
        self.assert_counts(run).await;
        let tally = self.tally(run).await;
        let accepted = u64::from(run.recipients) - failed;
        assert_eq!((tally.accepted, tally.open, tally.doubles), (accepted, 0, 0), "{}", run.id);
    }

    /// `(campaign, seq, attempt)` of a request.
    pub(super) fn attempt_of(&self, seen: &Seen) -> (CampaignKey, u32, u16) {
        let (campaign, seq, attempt) = self.correlation.decode(&seen.correlation).unwrap();
        (CampaignKey(campaign), seq, attempt)
    }

    /// The provider's webhook about these requests.
    pub(super) async fn report(&self, requests: &[Seen], stage: Reported) {
        self.webhook(requests.iter().map(|seen| status(seen, stage)).collect()).await;
    }

    /// One POST with these statuses.
    pub(super) async fn webhook(&self, statuses: Vec<StatusEvent>) {
        self.webhook_of(ACCOUNT, statuses).await;
    }

    /// The same, verified as another account's.
    pub(super) async fn webhook_of(&self, account: &str, statuses: Vec<StatusEvent>) {
        let sink = self.engine.webhook_sink();
        sink.accept(&account.into(), statuses.into_iter().map(Event::Status).collect()).await.unwrap();
    }

    /// Stops in good order and gives the ledger free.
    pub(super) async fn close(self) -> crate::Stopped {
        let stopped = self.engine.stop().await;
        self.engine.close().await;
        self.store.close().await.unwrap();
        stopped
    }
}

/// What the provider says of a request.
pub(super) fn status(seen: &Seen, stage: Reported) -> StatusEvent {
    StatusEvent {
        correlation: CorrelationText::parse(&seen.correlation),
        provider_id: seen.provider_id().into(),
        stage,
        provider_at: None,
        failure: None,
        line: LineIdentity { sender: Some(seen.line.as_str().into()), service: None },
        recipient: None,
    }
}

/// The number of a line at the provider.
pub(super) fn phone_number_id(line: &str) -> String {
    line.bytes().fold(7_u64, |number, byte| (number * 31 + u64::from(byte)) % 1_000_000_007).to_string()
}

/// Takes every message, except that `trouble` answers first.
pub(super) fn unless(
    trouble: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Reply + Send + Sync {
    move |seen| trouble(seen).unwrap_or(Reply::Accept)
}
