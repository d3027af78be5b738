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

/// The three sockets, bound before anything else starts: a port that is taken should be known before a ledger is opened.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC.
    pub grpc: TcpListener,
    /// Webhooks.
    pub webhooks: TcpListener,
    /// Metrics and health.
    pub ops: TcpListener,
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
    /// Binds all three.
    ///
    /// # Errors
    /// [`ServeError::Bind`], naming the listener.
    pub async fn bind(listen: &Listen) -> Result<Self, ServeError> {
        Ok(Self {
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
