//! The accept loop that webhooks and the ops page share: HTTP/1.1, every wait and every count bounded, a drain with a deadline.
//!
//! HTTP/2 is not offered: the providers and the scrapers speak HTTP/1.1 to servers like this one, and every protocol is surface.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Counter, Gauge};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics as names;

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Most connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest for a TLS handshake and for each request's head; also how long an idle connection is kept.
    pub header_read_timeout: Duration,
    /// Longest that requests under way are waited for after the stop.
    pub drain_timeout: Duration,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Clean,
    /// The deadline came first.
    Forced {
        /// Connections that were cut.
        connections: usize,
    },
}

/// Largest head of a request, and the size of the read buffer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of a request; a provider sends under 20, a proxy adds a few.
const HEADERS_MAX: usize = 100;
/// The pause after a failed accept. Running out of file descriptors is the usual cause, and spinning does not free any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `service` on `listener` until `stop`, then waits for requests under way, at most the drain time.
///
/// `name` is the listener's label in metrics and logs.
pub async fn serve<S>(
    name: &'static str,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    limits: ListenerLimits,
    service: S,
    stop: CancellationToken,
) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let shared = Arc::new(Shared::new(name, tls, limits, stop));
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(limits.connections_max));
    while let Some((stream, permit)) = accept(&listener, &room, &shared).await {
        let (shared, service) = (Arc::clone(&shared), service.clone());
        connections.spawn(async move { shared.connection(stream, service, permit).await });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain_timeout, connections.wait()).await.is_ok() {
        return Drained::Clean;
    }
    let cut = connections.len();
    shared.abort.cancel();
    connections.wait().await;
    Drained::Forced { connections: cut }
}

/// The next connection, with its place among the most allowed; `None` when it is time to stop.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    shared: &Shared,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let permit = Arc::clone(room).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _peer)) => return Some((stream, permit)),
                Err(error) => {
                    shared.accept_errors.increment(1);
                    tracing::warn!(listener = shared.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => None,
        accepted = next => accepted,
    }
}

/// What every connection of a listener needs.
struct Shared {
    name: &'static str,
    http: http1::Builder,
    tls: Option<TlsAcceptor>,
    handshake_timeout: Duration,
    /// Finish the request under way and close.
    stop: CancellationToken,
    /// Close now.
    abort: CancellationToken,
    open: Gauge,
    accept_errors: Counter,
    handshake_failures: Counter,
}

impl Shared {
    fn new(name: &'static str, tls: Option<TlsAcceptor>, limits: ListenerLimits, stop: CancellationToken) -> Self {
        let mut http = http1::Builder::new();
        // Without the timer the header deadline would never come.
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_headers(HEADERS_MAX)
            // What came in whole is done and answered, whatever the client does meanwhile; looking for its end while a request is
            // under way would cost a buffer for each.
            .half_close(true)
            .max_buf_size(HEAD_BYTES_MAX);
        Self {
            name,
            http,
            tls,
            handshake_timeout: limits.header_read_timeout,
            stop,
            abort: CancellationToken::new(),
            open: metrics::gauge!(names::LISTENER_CONNECTIONS, "listener" => name),
            accept_errors: metrics::counter!(names::LISTENER_ACCEPT_ERRORS, "listener" => name),
            handshake_failures: metrics::counter!(names::LISTENER_HANDSHAKE_FAILURES, "listener" => name),
        }
    }

    async fn connection<S>(&self, stream: TcpStream, service: S, _place: OwnedSemaphorePermit)
    where
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    {
        // Answers are one small write each: waiting to fill a segment only adds latency. A socket that refuses is closed already.
        let _ = stream.set_nodelay(true);
        self.open.increment(1.0);
        match &self.tls {
            None => self.requests(stream, service).await,
            Some(tls) => match self.handshake(tls, stream).await {
                Some(stream) => self.requests(stream, service).await,
                None => self.handshake_failures.increment(1),
            },
        }
        self.open.decrement(1.0);
    }

    async fn handshake(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
    ) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
        let handshake = tokio::time::timeout(self.handshake_timeout, tls.accept(stream));
        tokio::select! {
            biased;
            done = handshake => done.ok()?.ok(),
            () = self.stop.cancelled() => None,
        }
    }

    async fn requests<IO, S>(&self, stream: IO, service: S)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
        S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    {
        let mut connection = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => Some(ended),
            () = self.stop.cancelled() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    ended = connection => ended,
                    () = self.abort.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(listener = self.name, %error, "connection ended");
        }
    }
}
