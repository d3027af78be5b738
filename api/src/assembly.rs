//! The server put together: ledger, engine, façade, listeners, and the order in which they end.
//!
//! The end is in the direction of the data: new work is refused, senders bring in their answers, statuses reach the ledger, and
//! only then the webhooks close; the store is last. Each step has a deadline of its own and says whether it was kept.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluice_engine::config::EngineConfig;
use sluice_engine::control::{self, Control};
use sluice_engine::domain::backoff::Backoff;
use sluice_engine::domain::campaign::Settings;
use sluice_engine::domain::ids::{AccountId, TenantId};
use sluice_engine::domain::provider_kind::ProviderKind;
use sluice_engine::domain::time::Clock;
use sluice_engine::nodes::protocol::PROTOCOL;
use sluice_engine::provider::{self, Credentials};
use sluice_engine::store::Store;
use sluice_engine::store::embedded::{self, EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::scylla::{self, NodeConfig, ScyllaStore};
use sluice_engine::trace::TraceConfig;
use sluice_engine::webhook::WebhookSink;
use sluice_engine::{Engine, Stopped};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig};

use crate::auth::Verifier;
use crate::certificate;
use crate::config::{Account, Config, ProviderAccount, StoreKind, SyncMode};
use crate::grpc::{self, CallTraces, GrpcLimits, GrpcParts, GrpcServer, ServerInfo};
use crate::metrics as names;
use crate::nodes::events::EventRouter;
use crate::nodes::proof::NodeSecret;
use crate::nodes::{self, Nodes};
use crate::ops::{self, Machine, OpsPage};
use crate::serve::{Listeners, ops_limits, webhook_config};
use crate::traces::Export;
use crate::webhooks;

/// Least time from the beginning of one commit of the ledger to the beginning of the next, and how long a status actor waits for company
/// before it commits. `store.group_commit_ms` is how long few entries wait; a shorter one shortens this, too.
const COMMIT_INTERVAL: Duration = Duration::from_millis(2);

/// How to run the server.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServeOptions {
    /// Print one JSON line with the bound addresses on standard output: for programs that start the server on port 0.
    pub print_addresses: bool,
}

/// Runs the server until SIGTERM or Ctrl-C. Exit code 0: nothing was left in doubt; 3: something was, as the last line says.
///
/// # Errors
/// Why the server could not start; whatever was begun is undone.
pub async fn run(config: Config, options: ServeOptions) -> anyhow::Result<ExitCode> {
    // Before anything registers a metric.
    let recorder = ops::install()?;
    crate::metrics::describe();
    sluice_engine::metrics::describe();
    let clock = Clock::system();
    // First: a second server on the same data hears whose it is, not that an address is in use.
    let store = open_store(&config, &clock).await?;
    let inside = config.nodes.name.is_some().then_some(config.nodes.inside.listen);
    let listeners = match Listeners::bind(&config.listen, inside).await {
        Ok(listeners) => listeners,
        Err(error) => {
            // So that its lock, or its lease, is let go of.
            if let Err(error) = store.close().await {
                tracing::warn!(%error, "the ledger could not be closed");
            }
            return Err(error.into());
        }
    };
    if options.print_addresses {
        print_addresses(&listeners)?;
    }
    let export = Export::start(&config.traces)?;
    let mut engine_config = engine_config(&config)?;
    engine_config.traces =
        export.as_ref().map(|export| TraceConfig { sink: export.sink(), message_ratio: config.traces.message_ratio });
    let engine = Engine::start(engine_config, Arc::clone(&store), clock.clone())
        .await
        .context("the engine could not start from the ledger")?;
    let engine = Arc::new(engine);
    let verifier = Verifier::from_config(config.auth.clone()).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    let control = Control::new(control::Parts {
        store: Arc::clone(&store),
        runtime: engine.runtime(),
        accounts: accounts(&config)?,
        clock: clock.clone(),
        backup_dir: Some(config.data_dir.join("backups")),
        installation_secret: store.installation_secret().await?,
        defaults: default_settings(&config),
    })
    .map_err(|error| anyhow::anyhow!("{error}"))?;

    let nodes = other_nodes(&config, &engine)?;
    let sink: Arc<dyn WebhookSink> = match &nodes {
        None => engine.webhook_sink(),
        Some(nodes) => {
            let (wait, secret) = (config.nodes.inside.set_aside_after, store.installation_secret().await?);
            Arc::new(EventRouter::new(engine.webhook_sink(), Arc::clone(nodes), secret, wait))
        }
    };
    let [stop_grpc, stop_webhooks, stop_nodes, stop_ops] = std::array::from_fn(|_| CancellationToken::new());
    let upkeep = tokio::spawn(ops::upkeep(recorder.clone(), stop_ops.clone()));
    note_expiries(&config);
    let machine = Machine::new(clock.wall(), config.data_dir.clone());
    let page = ops_page(recorder, &engine, Arc::clone(&store), machine);
    let ops_task = tokio::spawn(ops::serve(listeners.ops, page, ops_limits(), stop_ops.clone()));
    let webhooks_task =
        tokio::spawn(webhooks::serve(listeners.webhooks, sink, webhook_config(&config)?, stop_webhooks.clone()));
    let parts = GrpcParts {
        control,
        verifier: Arc::new(verifier),
        clock,
        limits: GrpcLimits::from(&config.grpc),
        info: ServerInfo {
            version: env!("CARGO_PKG_VERSION"),
            node_id: config.nodes.name.clone().unwrap_or_else(|| "local".to_owned()),
            store_kind: match config.store.kind {
                StoreKind::Embedded => "embedded",
                StoreKind::Scylla => "scylla",
            },
            schema_version: match config.store.kind {
                StoreKind::Embedded => embedded::SCHEMA_VERSION,
                StoreKind::Scylla => scylla::SCHEMA_VERSION,
            },
        },
        traces: export.as_ref().map(|export| CallTraces { sink: export.sink(), ratio: config.traces.call_ratio }),
        tls: grpc_tls(&config)?,
        nodes,
        shutdown: stop_grpc.clone(),
    };
    let grpc = Arc::new(GrpcServer::new(parts));
    let inside_task = match listeners.nodes {
        None => None,
        Some(listener) => {
            let tls = config.tls.nodes.as_ref().map(grpc::tls_config).transpose();
            let tls = tls.context("the certificate for other nodes cannot be read")?;
            let (grpc, engine, stop) = (Arc::clone(&grpc), engine.webhook_sink(), stop_nodes.clone());
            Some(tokio::spawn(async move { grpc.serve_nodes(listener, engine, tls, stop).await }))
        }
    };
    let mut grpc_task = tokio::spawn(async move { grpc.serve(listeners.grpc).await });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "sluice serves");

    tokio::select! {
        signal = stop_signal() => tracing::info!(signal = signal?, "stopping"),
        ended = &mut grpc_task => {
            ended.context("the gRPC listener panicked")?.context("the gRPC listener failed")?;
        }
    }
    // First of all the health turns, so that balancers look elsewhere; calls under way are finished.
    stop_grpc.cancel();
    let stopped = engine.stop().await;
    let grpc_closed = grpc_task.is_finished() || within(config.shutdown.close_grpc, grpc_task).await;
    stop_webhooks.cancel();
    let webhooks_closed = within(config.shutdown.close_webhooks + Duration::from_secs(1), webhooks_task).await;
    // Other nodes last: until here they are told what is not this node's any more.
    stop_nodes.cancel();
    let nodes_closed = match inside_task {
        Some(task) => within(config.shutdown.close_grpc, task).await,
        None => true,
    };
    tracing::info!(grpc = grpc_closed, webhooks = webhooks_closed, nodes = nodes_closed, "listeners closed");
    if let Some(engine) = Arc::into_inner(engine) {
        engine.close().await;
    }
    let store_closed = within(config.shutdown.close_store, tokio::spawn(async move { store.close().await })).await;
    if let Some(export) = export {
        let flushed = export.close().await;
        tracing::info!(finished = flushed, "spans are exported");
    }
    stop_ops.cancel();
    let _ = tokio::join!(ops_task, upkeep);
    Ok(farewell(stopped, store_closed))
}

/// What this server needs to know of the others that share its ledger; `None`: there are none.
fn other_nodes(config: &Config, engine: &Engine) -> anyhow::Result<Option<Arc<Nodes>>> {
    let (Some(name), inside) = (&config.nodes.name, &config.nodes.inside) else { return Ok(None) };
    let secret = inside.secret.as_ref().and_then(|secret| NodeSecret::new(secret.expose()));
    let secret = secret.context("[nodes] secret is missing or too short")?;
    let tls = match (&config.tls.nodes, &inside.ca_file) {
        (None, _) => None,
        (Some(_), None) => Some(ClientTlsConfig::new().with_native_roots()),
        (Some(_), Some(file)) => {
            let authority = std::fs::read(file).with_context(|| format!("[nodes] ca_file {}", file.display()))?;
            Some(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)))
        }
    };
    let limits = nodes::Limits {
        message_bytes_max: config.grpc.message_bytes_max,
        call_times: config.grpc.call_times(),
        idle: config.grpc.import_idle,
        streams_max: inside.streams_max,
    };
    let directory = engine.directory();
    let parts = nodes::Parts { name: name.clone(), protocol: PROTOCOL, directory, secret, tls, limits };
    Ok(Some(Nodes::new(parts)))
}

/// The last line: what somebody has to know who stopped the server.
fn farewell(stopped: Stopped, store_closed: bool) -> ExitCode {
    let clean = stopped.in_doubt == 0 && stopped.flushed && store_closed;
    if clean {
        // What earlier kills left in doubt is in doubt still.
        tracing::info!(in_doubt = 0, "stopped; this stop leaves nothing in doubt");
        return ExitCode::SUCCESS;
    }
    tracing::warn!(
        in_doubt = stopped.in_doubt,
        outcomes_written = stopped.flushed,
        store_closed,
        "stopped; this stop leaves messages in doubt or outcomes unwritten: after the next start, sluice in-doubt lists them"
    );
    ExitCode::from(3)
}

async fn within<T>(limit: Duration, task: tokio::task::JoinHandle<T>) -> bool {
    tokio::time::timeout(limit, task).await.is_ok()
}

async fn stop_signal() -> std::io::Result<&'static str> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| "SIGINT"),
    }
}

fn print_addresses(listeners: &Listeners) -> anyhow::Result<()> {
    let mut line = serde_json::json!({
        "grpc": listeners.grpc.local_addr()?.to_string(),
        "webhooks": listeners.webhooks.local_addr()?.to_string(),
        "ops": listeners.ops.local_addr()?.to_string(),
    });
    if let Some(nodes) = &listeners.nodes {
        line["nodes"] = nodes.local_addr()?.to_string().into();
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

async fn open_store(config: &Config, clock: &Clock) -> anyhow::Result<Arc<dyn Store>> {
    if config.store.kind == StoreKind::Scylla {
        let mut scylla = config.store.scylla.config.clone();
        scylla.node = config.nodes.name.clone().map(|name| NodeConfig {
            name,
            address: config.nodes.advertise.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
        });
        return Ok(ScyllaStore::open(scylla, clock.clone()).await?);
    }
    let embedded = EmbeddedConfig {
        cache_mib: u32::try_from(config.store.cache_mib).unwrap_or(u32::MAX),
        synced: config.store.sync == SyncMode::Full,
        group_entries_max: config.store.group_commit_entries,
        group_interval: COMMIT_INTERVAL.min(config.store.group_commit),
        ..EmbeddedConfig::new(&config.data_dir)
    };
    Ok(EmbeddedStore::open(embedded, clock.clone())?)
}

/// When certificates and access tokens expire: so that somebody is told weeks before, not by the silence after.
#[allow(clippy::cast_precision_loss)] // seconds stay far below 2^52
fn note_expiries(config: &Config) {
    for (listener, files) in
        [("grpc", &config.tls.grpc), ("webhooks", &config.tls.webhooks), ("nodes", &config.tls.nodes)]
    {
        if let Some(at) = files.as_ref().and_then(|files| certificate::chain_expires(&files.cert_file)) {
            metrics::gauge!(names::CERTIFICATE_EXPIRY, "listener" => listener).set(at.as_second() as f64);
        }
    }
    for account in &config.accounts {
        if let Some(at) = account.token_expires {
            let (provider, name) = (account.provider.name(), account.name.clone());
            metrics::gauge!(names::TOKEN_EXPIRY, "provider" => provider, "account" => name).set(at.as_second() as f64);
        }
    }
}

fn ops_page(
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    engine: &Arc<Engine>,
    ledger: Arc<dyn Store>,
    machine: Machine,
) -> OpsPage {
    let (of_gauges, of_readiness) = (Arc::downgrade(engine), Arc::downgrade(engine));
    OpsPage {
        metrics,
        append: vec![
            Arc::new(move |page: &mut String| {
                if let Some(engine) = of_gauges.upgrade() {
                    engine.write_series(page);
                }
            }),
            Arc::new(move |page: &mut String| machine.append(page)),
        ],
        readiness: Arc::new(move || match of_readiness.upgrade() {
            Some(engine) => engine.not_ready_because(),
            None => vec!["the engine has stopped".to_owned()],
        }),
        ledger,
    }
}

/// What the engine takes, from the configuration.
///
/// # Errors
/// An account that cannot be used; none in a configuration that was checked.
pub fn engine_config(config: &Config) -> anyhow::Result<EngineConfig> {
    let mut engine = EngineConfig {
        public_base_url: config.public_base_url.clone().unwrap_or_default(),
        jitter_guard: config.pacing.jitter_guard,
        aim_allowance: config.pacing.aim_allowance,
        look_ahead: config.pacing.look_ahead,
        breaker: config.breaker,
        backoff: Backoff { base: config.retry.backoff_min, cap: config.retry.backoff_max },
        error_run_max: u32::try_from(config.campaigns.held_after)?,
        panics_max: u32::try_from(config.campaigns.quarantined_after)?,
        provider_roots: config.provider.roots.clone(),
        connect_timeout: config.provider.connect_timeout,
        answer_timeout: config.provider.read_timeout,
        idle_timeout: config.provider.idle_timeout,
        commit_tick: COMMIT_INTERVAL.min(config.store.group_commit),
        commit_wait_max: config.store.group_commit,
        commit_entries_max: config.store.group_commit_entries,
        park_for: config.in_doubt.parked_wait,
        parked_max: config.in_doubt.parked_max as u64,
        inbound_max: config.webhooks.inbound_max as u64,
        drain_senders: config.shutdown.drain_senders,
        flush_statuses: config.shutdown.flush_statuses,
        campaign_series_max: config.metrics.campaigns_max,
        drift_pause: config.metrics.drift_pause,
        drift_recipients_max: config.metrics.drift_recipients_max as u64,
        nodes: config.nodes.engine,
        ..EngineConfig::default()
    };
    for account in &config.accounts {
        let account = provider_account(account)?;
        engine.accounts.insert(account.id.clone(), account);
    }
    Ok(engine)
}

fn provider_account(account: &Account) -> anyhow::Result<Arc<provider::Account>> {
    let secret = |text: &crate::config::Secret| provider::Secret::new(text.expose());
    let (credentials, version) = match &account.provider {
        ProviderAccount::Meta(meta) => {
            (Credentials::Meta { access_token: secret(&meta.access_token) }, meta.api_version.clone())
        }
        ProviderAccount::Twilio(twilio) => {
            let (api_key_sid, token) = match &twilio.api_key {
                Some((sid, key)) => (Some(sid.clone()), key),
                None => (None, &twilio.auth_token),
            };
            let account_sid = twilio.account_sid.clone();
            let credentials = Credentials::Twilio { account_sid, api_key_sid, secret: secret(token) };
            (credentials, provider::twilio::API_VERSION.to_owned())
        }
    };
    let tenants = if account.tenants.iter().any(|t| t == "*") { Vec::new() } else { tenants(&account.tenants)? };
    let id = AccountId::new(&account.name)?;
    Ok(provider::Account::new(id, tenants, credentials, account.base_url.clone(), version)?)
}

fn tenants(names: &[String]) -> anyhow::Result<Vec<TenantId>> {
    names.iter().map(|name| TenantId::new(name).with_context(|| format!("tenants: {name:?}"))).collect()
}

fn accounts(config: &Config) -> anyhow::Result<control::Accounts> {
    config
        .accounts
        .iter()
        .map(|account| {
            let all = account.tenants.iter().any(|tenant| tenant == "*");
            Ok(control::Account {
                id: AccountId::new(&account.name)?,
                kinds: match account.provider {
                    ProviderAccount::Meta(_) => vec![ProviderKind::Meta],
                    ProviderAccount::Twilio(_) => vec![ProviderKind::TwilioSms, ProviderKind::TwilioWhatsapp],
                },
                tenants: if all { control::Tenants::All } else { control::Tenants::Only(tenants(&account.tenants)?) },
            })
        })
        .collect()
}

/// What a campaign gets where it says nothing.
fn default_settings(config: &Config) -> control::Defaults {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    control::Defaults {
        settings: Settings {
            workers: u32::try_from(config.campaigns.workers).unwrap_or(u32::MAX),
            // The first attempt is no retry.
            retries_max: u8::try_from(config.retry.attempts_max - 1).unwrap_or(u8::MAX),
            settle_window_ms: millis(config.campaigns.settle_window),
            policy: sluice_engine::domain::campaign::DeliveryPolicy::AtMostOnce {
                echo_wait_ms: millis(config.in_doubt.echo_wait),
            },
            ..Settings::default()
        },
        resend_grace_ms: millis(config.in_doubt.resend_grace),
        line_in_flight_max: u32::try_from(config.provider.line_in_flight_max).unwrap_or(u32::MAX),
    }
}

fn grpc_tls(config: &Config) -> anyhow::Result<Option<tonic::transport::ServerTlsConfig>> {
    config.tls.grpc.as_ref().map(grpc::tls_config).transpose().context("the gRPC certificate cannot be read")
}
