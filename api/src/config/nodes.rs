//! This server as one of several nodes that share a ledger.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sluice_engine::config::NodesConfig;

use super::reader::Section;
use super::report::Kind;
use super::secret::Secret;
use crate::nodes::proof::{NodeSecret, SECRET_BYTES_MIN};

/// Longest name of a node.
const NAME_BYTES_MAX: usize = 63;

/// The node that this server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// Its name; `None`: this server shares the ledger with nobody.
    pub name: Option<String>,
    /// `host:port` at which the other nodes reach it.
    pub advertise: Option<String>,
    /// How it deals with the others.
    pub engine: NodesConfig,
    /// How they speak to each other.
    pub inside: Inside,
}

/// How nodes speak to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Where this node listens for the others.
    pub listen: SocketAddr,
    /// The secret that all nodes share; there where there is a name.
    pub secret: Option<Secret>,
    /// Who signed the other nodes' certificates, PEM; `None`: whom this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// How long an owner of webhook events is looked for before they are set aside.
    pub set_aside_after: Duration,
    /// Most streams that are sent on at once.
    pub streams_max: usize,
}

impl Inside {
    fn read(s: &mut Section<'_, '_>, needed: bool) -> Self {
        let secret = if needed { Some(s.secret_required("secret")) } else { s.secret("secret") };
        if let Some(secret) = &secret
            && !secret.expose().is_empty()
            && NodeSecret::new(secret.expose()).is_none()
        {
            let key = if s.has("secret_env") { "secret_env" } else { "secret_file" };
            let hint = Some("for example what `openssl rand -hex 32` prints, the same on all nodes");
            s.problem(key, Kind::Value, format!("must hold at least {SECRET_BYTES_MIN} bytes"), hint);
        }
        let ca_file = s.path("ca_file");
        if let Some(Err(error)) = ca_file.as_ref().map(std::fs::read) {
            s.problem("ca_file", Kind::Value, format!("cannot be read: {error}"), None);
        }
        let listen = s.parsed("listen", "127.0.0.1:7403", |text| {
            text.parse::<SocketAddr>().map_err(|_| "must be address:port, e.g. 0.0.0.0:7403")
        });
        Self {
            listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7403))),
            secret,
            ca_file,
            set_aside_after: s.milliseconds("set_aside_after_ms", 1_000, 100..=1_000),
            streams_max: s.count("streams_max", 256, 1..=65_536),
        }
    }
}

impl Nodes {
    /// `shares`: whether the ledger can be shared at all; `lease`: see `[store.scylla] lease_ms`.
    pub(super) fn read(s: &mut Section<'_, '_>, shares: bool, lease: Duration) -> Self {
        let default = NodesConfig::default();
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let name = s.text("name").filter(|name| {
            let is_good = is_name(name);
            if !is_good {
                let told = "must be 1 to 63 of a-z, 0-9, '.' and '-', beginning with a letter or digit";
                s.problem("name", Kind::Value, told, None);
            }
            is_good
        });
        let advertise = s.text("advertise").filter(|address| {
            let is_good = is_address(address);
            if !is_good {
                s.problem("advertise", Kind::Value, "must be host:port", Some("for example 10.0.0.7:7403"));
            }
            is_good
        });
        let engine = NodesConfig {
            poll: s.milliseconds("poll_ms", millis(default.poll), 50..=1_000),
            rebalance_pause: s.seconds("rebalance_pause_s", default.rebalance_pause.as_secs(), 1..=86_400),
            hand_over_wait: s.milliseconds("hand_over_wait_ms", millis(default.hand_over_wait), 0..=5_000),
        };
        if name.is_some() && !shares {
            let hint = "set [store] kind = \"scylla\", or leave [nodes] name out";
            s.problem("name", Kind::Value, "only a ledger of kind scylla is shared by nodes", Some(hint));
        }
        if name.is_some() && advertise.is_none() && !s.has("advertise") {
            let hint = "host:port at which the other nodes reach this one, for example 10.0.0.7:7403";
            s.problem("advertise", Kind::Required, "required beside name", Some(hint));
        }
        if engine.poll * 3 > lease {
            s.problem("poll_ms", Kind::Value, "must be at most a third of [store.scylla] lease_ms", None);
        }
        let inside = Inside::read(s, name.is_some());
        Self { name, advertise, engine, inside }
    }
}

fn is_name(text: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(word)
        && bytes.iter().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains(char::is_whitespace));
    parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        assert!(is_name("eu-1.a") && is_name("7"));
        assert!(!is_name("") && !is_name("-a") && !is_name("A") && !is_name("a/b") && !is_name(&"a".repeat(64)));
        assert!(is_address("10.0.0.7:7403") && is_address("[::1]:1") && is_address("node-a.example:65535"));
        assert!(!is_address("10.0.0.7") && !is_address(":1") && !is_address("a:0") && !is_address("a b:1"));
    }
}
