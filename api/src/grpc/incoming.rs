//! Connections: no more than allowed at a time; further ones wait in the kernel's queue. One that is silent, or on which no call is let
//! in for too long, is closed: otherwise whoever opens as many as are allowed locks everybody else out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use metrics::{Counter, Gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::codegen::http::Request;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

use crate::metrics as names;

/// The pause after a failed accept. Running out of file descriptors is the usual cause, and spinning does not free any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Acceptor {
    name: &'static str,
    listener: TcpListener,
    room: Arc<Semaphore>,
    first_call: Duration,
    open: Gauge,
    errors: Counter,
    silent: Counter,
}

/// The connections of a listener, at most `connections_max` at a time; one on which no call was let in (see [`LetInLayer`]) within
/// `first_call` is closed. Never ends. `name` is its label in metrics and logs.
pub(super) fn incoming(
    name: &'static str,
    listener: TcpListener,
    connections_max: usize,
    first_call: Duration,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let acceptor = Acceptor {
        name,
        listener,
        room: Arc::new(Semaphore::new(connections_max)),
        first_call,
        open: metrics::gauge!(names::LISTENER_CONNECTIONS, "listener" => name),
        errors: metrics::counter!(names::LISTENER_ACCEPT_ERRORS, "listener" => name),
        silent: metrics::counter!(names::GRPC_REFUSED, "reason" => "silent"),
    };
    stream::unfold(acceptor, |acceptor| async move {
        let place = Arc::clone(&acceptor.room).acquire_owned().await.ok()?;
        loop {
            match acceptor.listener.accept().await {
                Ok((stream, _peer)) => {
                    // Small answers should not wait for company; a socket that refuses the option works all the same.
                    let _ = stream.set_nodelay(true);
                    acceptor.open.increment(1.0);
                    let connection = Connection {
                        stream,
                        let_in: LetIn::default(),
                        first_call: Some(Box::pin(tokio::time::sleep(acceptor.first_call))),
                        silent: acceptor.silent.clone(),
                        open: acceptor.open.clone(),
                        _place: place,
                    };
                    return Some((Ok(connection), acceptor));
                }
                Err(error) => {
                    acceptor.errors.increment(1);
                    tracing::warn!(listener = acceptor.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// A connection and its place among the most allowed.
pub(super) struct Connection {
    stream: TcpStream,
    let_in: LetIn,
    /// How long it may still be without a call that is let in; `None`: it has had one.
    first_call: Option<Pin<Box<Sleep>>>,
    silent: Counter,
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// Whether a call of a connection was let in. The transport puts it into each of its requests.
#[derive(Clone, Default)]
pub(super) struct LetIn(Arc<AtomicBool>);

impl Connected for Connection {
    type ConnectInfo = LetIn;

    fn connect_info(&self) -> LetIn {
        self.let_in.clone()
    }
}

/// Stands behind what decides who is let in, and notes it for the connection. Health and reflection, which need no token, count too:
/// balancers keep connections for them alone.
#[derive(Clone, Copy)]
pub(super) struct LetInLayer;

impl<S> Layer<S> for LetInLayer {
    type Service = LetInService<S>;

    fn layer(&self, inner: S) -> LetInService<S> {
        LetInService { inner }
    }
}

/// What [`LetInLayer`] makes of a service.
#[derive(Clone)]
pub(super) struct LetInService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for LetInService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if let Some(LetIn(let_in)) = request.extensions().get() {
            let_in.store(true, Ordering::Relaxed);
        }
        self.inner.call(request)
    }
}

impl Connection {
    /// Whether its time without a call is over. The transport reads at all times, so it is asked again when the time is over.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(wait) = &mut self.first_call else { return false };
        if self.let_in.0.load(Ordering::Relaxed) {
            self.first_call = None;
            return false;
        }
        wait.as_mut().poll(cx).is_ready()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_overdue(cx) {
            self.silent.increment(1);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no call was let in for too long")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
