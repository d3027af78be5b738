//! The configuration files of both sides.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::sim::SimConfig;
use crate::sim::config::{Header, MetaAccount, MetaLine, MetaTemplate, TwilioAccount, TwilioLine};
use crate::sim::pairs::PairLimit;
use crate::sim::plan::Plan;

/// The tenant of all runs.
pub const TENANT: &str = "acme";
/// The Meta account's name on both sides.
pub const META: &str = "meta-main";
/// The Twilio account's name on both sides.
pub const TWILIO: &str = "twilio-main";
/// The account of the bare run: the server does not know it.
pub const FLOOR: &str = "meta-floor";
/// Meta's phone number id of its line.
pub const FLOOR_LINE: &str = "900000000000001";
/// Its ceiling: far above what two cores can send, so that it never binds.
const FLOOR_CEILING: u32 = 1_000_000;
/// The template that the simulated Meta knows.
pub const TEMPLATE: &str = "spring_sale";
/// The same as an approved content of Twilio's, for whoever adds it to the simulator's account.
pub const CONTENT_SID: &str = "HX00000000000000000000000000000004";
/// Its language.
pub const TEMPLATE_LANGUAGE: &str = "en_US";
/// The text of both templates of a run.
pub const TEXT: &str = "Hello {{1}}, today you save {{2}} on everything.";
/// Another text of free templates: two SMS parts with every recipient's parameters.
pub const LONG_TEXT: &str = "Hello {{1}}, today you save {{2}} on everything. Show this message in any of our shops until we close this \
    evening. It is for you alone, and it cannot be added to other offers of this week.";
/// The HS256 secret of development tokens, for servers on loopback only.
pub const TOKEN_SECRET: &str = "only-for-runs-on-loopback-0123456789";
/// The public URL of the webhook endpoint as providers know it; the simulator connects to loopback instead.
pub const PUBLIC_URL: &str = "https://hooks.example.test";

/// The access token of the simulated Meta account.
pub const META_TOKEN: &str = "simulated-meta-access-token";
/// Its app secret.
pub const META_SECRET: &str = "simulated-meta-app-secret";
const META_VERIFY: &str = "simulated-verify-token";
const TWILIO_SID: &str = "AC00000000000000000000000000000001";
const TWILIO_TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The lines of a run.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Ceilings of Meta lines; the simulator enforces them.
    pub meta: Vec<u32>,
    /// Ceilings of Twilio SMS lines.
    pub sms: Vec<u32>,
}

impl Lines {
    /// Meta's phone number id of line `n`.
    #[must_use]
    pub fn meta_id(n: usize) -> String {
        format!("2000000000{n:05}")
    }

    /// Twilio's sender of line `n`.
    #[must_use]
    pub fn sms_id(n: usize) -> String {
        format!("+1555010{n:04}")
    }
}

/// The simulator's configuration for these lines.
#[must_use]
pub fn simulator(lines: &Lines, plan: Plan, seed: u64) -> SimConfig {
    let meta_line = |(n, ceiling): (usize, &u32)| MetaLine {
        id: Lines::meta_id(n),
        number: format!("+1555020{n:04}"),
        ceiling: *ceiling,
    };
    let sms_line = |(n, ceiling): (usize, &u32)| TwilioLine { id: Lines::sms_id(n), ceiling: *ceiling };
    let mut config = SimConfig { seed, plan, ..SimConfig::default() };
    if !lines.meta.is_empty() {
        config.meta.push(MetaAccount {
            account: META.to_owned(),
            token: META_TOKEN.to_owned(),
            app_secret: META_SECRET.to_owned(),
            waba_id: "100000000000001".to_owned(),
            webhook: None,
            rate_http: 400,
            pair: PairLimit::default(),
            lines: lines.meta.iter().enumerate().map(meta_line).collect(),
            templates: vec![MetaTemplate {
                name: TEMPLATE.to_owned(),
                language: TEMPLATE_LANGUAGE.to_owned(),
                header: Header::None,
                body: 2,
                body_names: Vec::new(),
                buttons: Vec::new(),
            }],
        });
    }
    if !lines.sms.is_empty() {
        config.twilio.push(TwilioAccount {
            account: TWILIO.to_owned(),
            sid: TWILIO_SID.to_owned(),
            auth_token: TWILIO_TOKEN.to_owned(),
            api_key: None,
            api_secret: None,
            connect: None,
            lines: lines.sms.iter().enumerate().map(sms_line).collect(),
            contents: Vec::new(),
        });
    }
    config
}

/// Adds the account of the bare run to a simulator: the same checks, the same plan, another webhook target.
pub fn add_floor(config: &mut SimConfig) {
    config.meta.push(MetaAccount {
        account: FLOOR.to_owned(),
        token: META_TOKEN.to_owned() + "-floor",
        app_secret: META_SECRET.to_owned(),
        waba_id: "100000000000009".to_owned(),
        webhook: None,
        rate_http: 400,
        pair: PairLimit::none(),
        lines: vec![MetaLine { id: FLOOR_LINE.to_owned(), number: "+15550209999".to_owned(), ceiling: FLOOR_CEILING }],
        templates: vec![MetaTemplate {
            name: TEMPLATE.to_owned(),
            language: TEMPLATE_LANGUAGE.to_owned(),
            header: Header::None,
            body: 2,
            body_names: Vec::new(),
            buttons: Vec::new(),
        }],
    });
}

/// Where the server listens; ports are 0 at first and kept over restarts.
#[derive(Debug, Clone)]
pub struct Ports {
    /// gRPC.
    pub grpc: SocketAddr,
    /// Webhooks.
    pub webhooks: SocketAddr,
    /// Metrics and health.
    pub ops: SocketAddr,
}

impl Default for Ports {
    fn default() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { grpc: any, webhooks: any, ops: any }
    }
}

/// Writes the server's configuration with its secrets into `folder`; `sim` is the simulator's base URL, `extra` is appended.
///
/// # Errors
/// When a file cannot be written.
pub fn write_server(folder: &Path, sim: &str, lines: &Lines, ports: &Ports, extra: &str) -> std::io::Result<PathBuf> {
    for (name, secret) in [
        ("development.secret", TOKEN_SECRET),
        ("meta.token", META_TOKEN),
        ("meta.secret", META_SECRET),
        ("meta.verify", META_VERIFY),
        ("twilio.token", TWILIO_TOKEN),
    ] {
        std::fs::write(folder.join(name), secret)?;
    }
    let mut text = format!(
        r#"data_dir = "data"
public_base_url = "{PUBLIC_URL}"

[listen]
grpc = "{}"
webhooks = "{}"
ops = "{}"

[auth]
issuer = "sluice-loadtest"
audience = "sluice"
development_secret_file = "development.secret"
"#,
        ports.grpc, ports.webhooks, ports.ops
    );
    if !lines.meta.is_empty() {
        let _ = write!(
            text,
            r#"
[accounts.{META}]
provider = "meta"
tenants = ["{TENANT}"]
base_url = "{sim}"
access_token_file = "meta.token"
app_secret_file = "meta.secret"
verify_token_file = "meta.verify"
"#
        );
    }
    if !lines.sms.is_empty() {
        let _ = write!(
            text,
            r#"
[accounts.{TWILIO}]
provider = "twilio"
tenants = ["{TENANT}"]
base_url = "{sim}"
account_sid = "{TWILIO_SID}"
auth_token_file = "twilio.token"
"#
        );
    }
    text.push('\n');
    text.push_str(extra);
    let path = folder.join("sluice.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// Two texts of configuration in one: of a key that both have, the second's.
///
/// # Errors
/// When one is no TOML.
pub fn joined(first: &str, second: &str) -> anyhow::Result<String> {
    fn lay_over(under: &mut toml::Table, over: toml::Table) {
        for (key, value) in over {
            match (under.get_mut(&key), value) {
                (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
                (_, value) => drop(under.insert(key, value)),
            }
        }
    }
    let mut all: toml::Table = first.parse()?;
    lay_over(&mut all, second.parse()?);
    Ok(toml::to_string(&all)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_joined_key_by_key() {
        let first = "[store]\nkind = \"scylla\"\n[store.scylla]\nkeyspace = \"a\"\nreplication = 1\n";
        let joined = joined(first, "[store.scylla]\nreplication = 3\n[log]\nformat = \"json\"\n").expect("joins");
        let table: toml::Table = joined.parse().expect("reads");
        assert_eq!(table["store"]["kind"].as_str(), Some("scylla"));
        assert_eq!(table["store"]["scylla"]["keyspace"].as_str(), Some("a"));
        assert_eq!(table["store"]["scylla"]["replication"].as_integer(), Some(3));
        assert_eq!(table["log"]["format"].as_str(), Some("json"));
    }
}
