//! The configuration: `sluice.toml` and environment overrides in, a typed [`Config`] out, or everything that is wrong with it.
//!
//! Each section is a struct beside the function that reads it, so that a key, its default, its bounds and its meaning stand in
//! one place. `sluice.sample.toml` shows them all to people; a test holds the two together.
//!
//! Environment overrides are named after the key's path: `SLUICE__WEBHOOKS__BODY_BYTES_MAX` for `body_bytes_max` in
//! `[webhooks]`, lists separated by commas. Secrets come from files (`…_file`) or environment variables (`…_env`) only.

mod accounts;
mod auth;
mod context;
mod listen;
mod nodes;
mod reader;
mod report;
mod runtime;
mod secret;
mod sections;
mod store;
#[cfg(test)]
mod tests;
mod traces;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sluice_engine::domain::breaker::BreakerConfig;
use sluice_engine::webhook::twilio::PublicUrl;
use toml::de::DeTable;

pub use accounts::{Account, MetaAccount, ProviderAccount, TwilioAccount};
pub use listen::{Listen, Tls, TlsFiles};
pub use nodes::{Inside, Nodes};
pub use report::{Kind, Place, Problem, Report};
pub use runtime::Runtime;
pub use secret::Secret;
pub use sections::{Campaigns, Grpc, InDoubt, Log, LogFormat, Metrics, Pacing, Provider, Retry, Shutdown, Webhooks};
pub use store::{Scylla, Store, StoreKind, SyncMode};
pub use traces::Traces;

use crate::auth::AuthConfig;
use context::{Context, Key};
use reader::Section;

/// The beginning of every environment variable that overrides a key.
pub const ENVIRONMENT_PREFIX: &str = "SLUICE__";

/// The whole configuration of a server, read and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the ledger lies.
    pub data_dir: PathBuf,
    /// How the providers reach the webhook listener, e.g. `https://hooks.example.com`; required once there are accounts. It goes
    /// into Twilio's callback URLs and is what Twilio's signatures are checked against.
    pub public_base_url: Option<String>,
    /// Addresses to listen on.
    pub listen: Listen,
    /// Certificates.
    pub tls: Tls,
    /// The threads that serve everything.
    pub runtime: Runtime,
    /// Where the ledger is.
    pub store: Store,
    /// This server among others.
    pub nodes: Nodes,
    /// Who may call.
    pub auth: AuthConfig,
    /// Limits of the gRPC front.
    pub grpc: Grpc,
    /// Limits of the webhook listener.
    pub webhooks: Webhooks,
    /// How lines are paced.
    pub pacing: Pacing,
    /// When a line stops by itself.
    pub breaker: BreakerConfig,
    /// Connections to providers.
    pub provider: Provider,
    /// Attempts after failures that may be tried again.
    pub retry: Retry,
    /// What waits for what, and how long.
    pub in_doubt: InDoubt,
    /// Defaults and bounds of campaigns.
    pub campaigns: Campaigns,
    /// Deadlines of a graceful stop.
    pub shutdown: Shutdown,
    /// The metrics page.
    pub metrics: Metrics,
    /// Logs.
    pub log: Log,
    /// Traces, off unless a collector is named.
    pub traces: Traces,
    /// Provider accounts, sorted by name.
    pub accounts: Vec<Account>,
}

/// Reads and checks the configuration file at `path` with the overrides of this process's environment.
///
/// Never fails: what is wrong is in the report.
#[must_use]
pub fn check(path: &Path) -> Report {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    check_with(path, &environment)
}

/// As [`check`], with the environment given.
#[must_use]
pub fn check_with(path: &Path, environment: &BTreeMap<String, String>) -> Report {
    let file = path.display().to_string();
    let (config, problems) = match std::fs::read_to_string(path) {
        Ok(text) => {
            let (config, problems, _) = read(&text, path.parent().unwrap_or(Path::new("")), environment);
            (problems.is_empty().then_some(config), problems)
        }
        Err(error) => {
            let hint = Some("sluice.sample.toml is a complete example".to_owned());
            let (message, key) = (format!("cannot be read: {error}"), String::new());
            (None, vec![Problem { place: Place::Missing, kind: Kind::Syntax, key, message, hint }])
        }
    };
    Report { file, config, problems }
}

/// Reads `text`. The configuration holds defaults where something is wrong, so it is for use only without problems.
fn read(text: &str, base: &Path, environment: &BTreeMap<String, String>) -> (Config, Vec<Problem>, Vec<Key>) {
    let context = Context::new(text, base, environment);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = context.line_of(error.span().map_or(0, |span| span.start));
        context.note(Problem {
            place,
            kind: Kind::Syntax,
            key: String::new(),
            message: error.message().to_owned(),
            hint: None,
        });
    }
    let mut root = Section::root(&context, tree.get_ref());
    let config = Config::read(&mut root);
    root.finish();
    let (problems, keys) = context.finish();
    (config, problems, keys)
}

impl Config {
    fn read(root: &mut Section<'_, '_>) -> Self {
        let data_dir = root.path_or("data_dir", "sluice-data");
        let public_base_url = root.text("public_base_url");
        let listen = root.section("listen", Listen::read);
        let tls = root.section("tls", Tls::read);
        let store = root.section("store", Store::read);
        let runtime = root.section("runtime", |s| Runtime::read(s, store.kind == StoreKind::Embedded));
        let (shares, lease) = (store.kind == StoreKind::Scylla, store.scylla.config.lease);
        let config = Self {
            data_dir,
            public_base_url,
            listen,
            tls,
            runtime,
            store,
            nodes: root.section("nodes", |s| Nodes::read(s, shares, lease)),
            auth: root.section("auth", auth::read),
            grpc: root.section("grpc", Grpc::read),
            webhooks: root.section("webhooks", Webhooks::read),
            pacing: root.section("pacing", Pacing::read),
            breaker: root.section("breaker", sections::breaker),
            provider: root.section("provider", Provider::read),
            retry: root.section("retry", Retry::read),
            in_doubt: root.section("in_doubt", InDoubt::read),
            campaigns: root.section("campaigns", Campaigns::read),
            shutdown: root.section("shutdown", Shutdown::read),
            metrics: root.section("metrics", Metrics::read),
            log: root.section("log", Log::read),
            traces: root.section("traces", Traces::read),
            accounts: root.named("accounts", Account::read),
        };
        config.check_public_base_url(root);
        config
    }

    fn check_public_base_url(&self, root: &Section<'_, '_>) {
        const KEY: &str = "public_base_url";
        match &self.public_base_url {
            Some(url) => {
                if let Err(error) = PublicUrl::parse(url) {
                    root.problem(KEY, Kind::Value, error.to_string(), Some("for example https://hooks.example.com"));
                }
            }
            None if !self.accounts.is_empty() && !root.has(KEY) => {
                let hint =
                    "the address at which providers reach the webhook listener, for example https://hooks.example.com";
                root.problem(KEY, Kind::Required, "required when there are accounts", Some(hint));
            }
            None => {}
        }
    }
}
