//! Connections: no more than allowed at a time; further ones wait in the kernel's queue.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use metrics::{Counter, Gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::metrics as names;

/// The pause after a failed accept. Running out of file descriptors is the usual cause, and spinning does not free any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

struct Acceptor {
    name: &'static str,
    listener: TcpListener,
    room: Arc<Semaphore>,
    open: Gauge,
    errors: Counter,
}

/// The connections of a listener, at most `connections_max` at a time. Never ends. `name` is its label in metrics and logs.
pub(super) fn incoming(
    name: &'static str,
    listener: TcpListener,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let acceptor = Acceptor {
        name,
        listener,
        room: Arc::new(Semaphore::new(connections_max)),
        open: metrics::gauge!(names::LISTENER_CONNECTIONS, "listener" => name),
        errors: metrics::counter!(names::LISTENER_ACCEPT_ERRORS, "listener" => name),
    };
    stream::unfold(acceptor, |acceptor| async move {
        let place = Arc::clone(&acceptor.room).acquire_owned().await.ok()?;
        loop {
            match acceptor.listener.accept().await {
                Ok((stream, _peer)) => {
                    // Small answers should not wait for company; a socket that refuses the option works all the same.
                    let _ = stream.set_nodelay(true);
                    acceptor.open.increment(1.0);
                    let connection = Connection { stream, open: acceptor.open.clone(), _place: place };
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
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
