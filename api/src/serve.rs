//! From configuration to listeners: binds the sockets, and turns sections into what each listener takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_engine::webhook::twilio::PublicUrlError;
use sluice_engine::webhook::{meta, twilio};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::{Account, Config, Listen, ProviderAccount};
use crate::listener::ListenerLimits;
use crate::tls::{self, TlsError};
use crate::webhooks::{Receiver, WebhookAccount, WebhookConfig, WebhookLimits};

/// The sockets, bound once the ledger is ours and before anything works on it.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: TcpListener,
    /// Webhooks.
    pub webhooks: TcpListener,
    /// Metrics and health.
    pub ops: TcpListener,
    /// For other nodes, where there may be some.
    pub nodes: Option<TcpListener>,
}

/// Why the server cannot start listening.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} for {listener}: {source}")]
    Bind {
        /// Which listener.
        listener: &'static str,
        /// Its configured address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate cannot be served.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The public address is no URL.
    #[error("public_base_url {0}")]
    PublicUrl(#[from] PublicUrlError),
}

impl Listeners {
    /// Binds all; `nodes`: the address for other nodes.
    ///
    /// # Errors
    /// [`ServeError::Bind`], naming the listener.
    pub async fn bind(listen: &Listen, nodes: Option<SocketAddr>) -> Result<Self, ServeError> {
        Ok(Self {
            nodes: match nodes {
                Some(address) => Some(bind("nodes", address).await?),
                None => None,
            },
            grpc: bind("grpc", listen.grpc).await?,
            webhooks: bind("webhooks", listen.webhooks).await?,
            ops: bind("ops", listen.ops).await?,
        })
    }
}

async fn bind(listener: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { listener, address, source })
}

/// What [`webhooks::serve`](crate::webhooks::serve) takes, from the configuration.
///
/// # Errors
/// [`ServeError::Tls`], [`ServeError::PublicUrl`]; neither for a configuration that was checked.
pub fn webhook_config(config: &Config) -> Result<WebhookConfig, ServeError> {
    let bounds = &config.webhooks;
    let tls = match &config.tls.webhooks {
        Some(files) => Some(TlsAcceptor::from(tls::server_config(files, &["http/1.1"])?)),
        None => None,
    };
    let accounts = config.accounts.iter().map(|account| webhook_account(account, config)).collect::<Result<_, _>>()?;
    Ok(WebhookConfig {
        accounts,
        limits: WebhookLimits {
            body_bytes_max: bounds.body_bytes_max,
            twilio_body_bytes_max: bounds.twilio_body_bytes_max,
            body_read_timeout: bounds.body_read_timeout,
            account_bodies_max: bounds.account_bodies_max,
            account_bytes_max: bounds.account_bytes_max,
        },
        listener: ListenerLimits {
            connections_max: bounds.connections_max,
            header_read_timeout: bounds.header_read_timeout,
            drain_timeout: config.shutdown.close_webhooks,
        },
        tls,
    })
}

fn webhook_account(account: &Account, config: &Config) -> Result<WebhookAccount, ServeError> {
    let receiver = match &account.provider {
        ProviderAccount::Meta(meta) => {
            Receiver::Meta(meta::Receiver::new(meta.app_secret.expose(), meta.verify_token.expose()))
        }
        ProviderAccount::Twilio(twilio) => {
            let secondary = twilio.secondary_token.as_ref().map(|token| token.expose());
            let key = twilio::SignatureKey::new(twilio.auth_token.expose(), secondary);
            let url = twilio::PublicUrl::parse(config.public_base_url.as_deref().unwrap_or_default())?;
            Receiver::Twilio(twilio::Receiver::new(key, url))
        }
    };
    Ok(WebhookAccount { name: Arc::from(account.name.as_str()), receiver })
}

/// The ops page's bounds. It faces the inside only, so they are not configuration.
#[must_use]
pub const fn ops_limits() -> ListenerLimits {
    ListenerLimits {
        connections_max: 64,
        header_read_timeout: Duration::from_secs(30),
        drain_timeout: Duration::from_secs(1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::check_with;

    const TEXT: &str = r#"
public_base_url = "https://hooks.example.com"
[listen]
grpc = "127.0.0.1:0"
webhooks = "127.0.0.1:0"
ops = "127.0.0.1:0"
[auth]
issuer = "i"
audience = "a"
development_secret_env = "SECRET"
[accounts.main]
provider = "meta"
tenants = ["acme"]
access_token_env = "SECRET"
app_secret_env = "SECRET"
verify_token_env = "SECRET"
[accounts.sms]
provider = "twilio"
tenants = ["acme"]
account_sid = "AC00000000000000000000000000000001"
auth_token_env = "SECRET"
"#;

    fn config() -> Config {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("sluice.toml");
        std::fs::write(&file, TEXT).expect("it is writable");
        let environment = BTreeMap::from([("SECRET".to_owned(), "s".repeat(32))]);
        let report = check_with(&file, &environment);
        report.config.unwrap_or_else(|| panic!("{:#?}", report.problems))
    }

    #[test]
    fn every_account_gets_its_webhook() {
        let webhooks = webhook_config(&config()).expect("it was checked");
        let names: Vec<_> = webhooks.accounts.iter().map(|account| &*account.name).collect();
        assert_eq!(names, ["main", "sms"]);
        assert!(matches!(webhooks.accounts[0].receiver, Receiver::Meta(_)));
        assert!(matches!(webhooks.accounts[1].receiver, Receiver::Twilio(_)));
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = Listeners::bind(&config().listen, None).await.expect("free ports");
        let taken = first.ops.local_addr().expect("it is bound");
        let again = Listeners::bind(&Listen { ops: taken, ..config().listen }, None).await.expect_err("it is taken");
        assert!(again.to_string().starts_with(&format!("cannot listen on {taken} for ops: ")), "{again}");
    }
}
