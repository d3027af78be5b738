//! The webhook listener: providers' POSTs in, durable events out, exactly the answers that each provider wants.
//!
//! The order of one request is its safety: path, method, size, room for its bytes, a place among those under way, signature, and only then parsing;
//! the answer 200 comes after the sink said *durable*. Whatever is refused is refused as early as it can be known.

mod account;
mod admission;
mod body;
mod handler;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use metrics::Counter;
use sluice_engine::webhook::{WebhookSink, meta, twilio};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::listener::{self, Drained, ListenerLimits};
use crate::metrics as names;

use account::Account;
pub use handler::Answer;

/// Everything the listener needs besides its socket and its sink.
pub struct WebhookConfig {
    /// The accounts that may be called.
    pub accounts: Vec<WebhookAccount>,
    /// Bounds of single requests and of accounts.
    pub limits: WebhookLimits,
    /// Bounds of connections.
    pub listener: ListenerLimits,
    /// TLS, unless something in front of us speaks it.
    pub tls: Option<TlsAcceptor>,
}

/// One account's webhook side.
pub struct WebhookAccount {
    /// The account's name: the last part of the path.
    pub name: Arc<str>,
    /// How its POSTs are verified and read.
    pub receiver: Receiver,
}

/// The provider-specific half of an account.
pub enum Receiver {
    /// Path `/webhooks/meta/{account}`.
    Meta(meta::Receiver),
    /// Path `/webhooks/twilio/{account}`.
    Twilio(twilio::Receiver),
}

impl Receiver {
    const fn provider(&self) -> &'static str {
        match self {
            Self::Meta(_) => "meta",
            Self::Twilio(_) => "twilio",
        }
    }
}

/// Bounds of requests.
#[derive(Debug, Clone, Copy)]
pub struct WebhookLimits {
    /// Largest body that is read.
    pub body_bytes_max: usize,
    /// Largest body that is read from Twilio.
    pub twilio_body_bytes_max: usize,
    /// Longest that a body may take from its head to its end.
    pub body_read_timeout: Duration,
    /// Most bodies of one account under way at once, counted from their last byte.
    pub account_bodies_max: usize,
    /// Most bytes of one account's bodies under way at once, counted as they come.
    pub account_bytes_max: usize,
}

/// Serves webhooks on `listener` until `stop`, then lets requests under way finish within the drain time.
///
/// To be stopped last: a message's fate is in the callbacks that still come while senders drain.
pub async fn serve(
    listener: TcpListener,
    sink: Arc<dyn WebhookSink>,
    config: WebhookConfig,
    stop: CancellationToken,
) -> Drained {
    let WebhookConfig { accounts, limits, listener: listener_limits, tls } = config;
    let front = Arc::new(Front::new(accounts, limits, sink));
    let service = service_fn(move |request| {
        let front = Arc::clone(&front);
        async move { Ok(front.handle(request).await) }
    });
    listener::serve("webhooks", listener, tls, listener_limits, service, stop).await
}

/// What every request needs.
struct Front {
    /// By the path behind `/webhooks/`: `meta/main`.
    accounts: HashMap<Box<str>, Account>,
    limits: WebhookLimits,
    sink: Arc<dyn WebhookSink>,
    unknown_paths: Counter,
}

impl Front {
    fn new(accounts: Vec<WebhookAccount>, limits: WebhookLimits, sink: Arc<dyn WebhookSink>) -> Self {
        let by_path = |account: WebhookAccount| {
            let path = format!("{}/{}", account.receiver.provider(), account.name).into_boxed_str();
            (path, Account::new(account, &limits))
        };
        Self {
            accounts: accounts.into_iter().map(by_path).collect(),
            limits,
            sink,
            unknown_paths: metrics::counter!(names::WEBHOOK_UNKNOWN_PATHS),
        }
    }
}
