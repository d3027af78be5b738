//! One kept-alive connection to a provider and the requests on it, in one task: the gate is asked and the request written
//! without an await in between.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::Item;
use super::core::{Next, SenderCore};
use super::outcome::Answered;
use crate::line::gate::Passed;
use crate::provider::Endpoint;

/// Largest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: TlsConnector,
    timeout: std::time::Duration,
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    /// With the roots of this machine, and `more`.
    pub(crate) fn new(timeout: std::time::Duration, more: &[CertificateDer<'static>]) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(native.certs.into_iter().chain(more.iter().cloned()));
        if added == 0 {
            tracing::warn!("this machine has no root certificates: https to a provider will fail");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring supports the default protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), timeout }
    }

    async fn connect(&self, endpoint: &Endpoint) -> std::io::Result<Box<dyn Stream>> {
        let opening = async {
            let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            tcp.set_nodelay(true)?;
            if !endpoint.tls {
                return Ok(Box::new(tcp) as Box<dyn Stream>);
            }
            let name = ServerName::try_from(endpoint.host.clone()).map_err(std::io::Error::other)?;
            Ok(Box::new(self.tls.connect(name, tcp).await?) as Box<dyn Stream>)
        };
        tokio::time::timeout(self.timeout, opening).await.map_err(|_| std::io::ErrorKind::TimedOut)?
    }
}

/// Tells the core when the task ends, however it ends.
struct Registered {
    core: Arc<SenderCore>,
    id: u64,
    connected: bool,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.core.closed(self.id, self.connected);
    }
}

/// Opens one connection and serves messages on it until it closes, is idle too long, or the line stops.
pub(super) async fn run(core: Arc<SenderCore>, id: u64) {
    let mut registered = Registered { core: Arc::clone(&core), id, connected: false };
    let Some(account) = core.line.account.clone() else { return };
    let stream = match core.context.connector.connect(account.endpoint()).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(line = %core.line.key, %error, "no connection to the provider");
            return;
        }
    };
    let (requests, connection) = match http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(line = %core.line.key, %error, "no HTTP on the connection");
            return;
        }
    };
    registered.connected = true;
    core.connected();
    serve(&core, id, requests, connection).await;
}

async fn serve(
    core: &Arc<SenderCore>,
    id: u64,
    mut requests: http1::SendRequest<Full<Bytes>>,
    connection: impl Future<Output = hyper::Result<()>>,
) {
    let mut connection = pin!(connection);
    let (hand, mut handed) = mpsc::channel::<Box<Item>>(1);
    loop {
        let item = match core.next(id, &hand) {
            Next::Send(item) => item,
            Next::Wait => {
                let waiting = tokio::time::timeout(core.context.idle_timeout, handed.recv());
                tokio::select! {
                    biased;
                    _ = &mut connection => { close(core, &mut handed); return }
                    item = waiting => match item {
                        Ok(Some(item)) => item,
                        // Idle for too long: the last message may have been handed over this instant.
                        _ => { close(core, &mut handed); return }
                    }
                }
            }
        };
        let Some((item, passed)) = gate(core, item, connection.as_mut()).await else {
            if requests.is_closed() {
                return;
            }
            continue;
        };
        if !exchange(core, item, passed, &mut requests, connection.as_mut()).await {
            return;
        }
    }
}

/// Takes no more, and gives back what was handed over meanwhile.
fn close(core: &Arc<SenderCore>, handed: &mut mpsc::Receiver<Box<Item>>) {
    handed.close();
    if let Ok(item) = handed.try_recv() {
        core.give_back(item);
    }
}

/// Waits at the exact gate. `None`: the message was withdrawn, or given back because the connection closed meanwhile.
async fn gate(
    core: &Arc<SenderCore>,
    item: Box<Item>,
    mut connection: std::pin::Pin<&mut impl Future<Output = hyper::Result<()>>>,
) -> Option<(Box<Item>, Passed)> {
    loop {
        if !item.may_leave() {
            item.withdraw();
            return None;
        }
        let again = match core.line.pass(item.cost) {
            Ok(passed) => return Some((item, passed)),
            Err(again) => again,
        };
        // A gate that opens no sooner than this is a change of ceiling, or a start: the message need not wait in flight.
        if again.since(core.context.clock.mono()) > std::time::Duration::from_secs(3) {
            item.withdraw();
            return None;
        }
        tokio::select! {
            biased;
            _ = &mut connection => { core.give_back(item); return None }
            () = core.context.clock.sleep_until(again) => {}
        }
    }
}

/// Writes the request and reads the answer; false when the connection cannot be used again.
async fn exchange(
    core: &Arc<SenderCore>,
    mut item: Box<Item>,
    passed: Passed,
    requests: &mut http1::SendRequest<Full<Bytes>>,
    mut connection: std::pin::Pin<&mut impl Future<Output = hyper::Result<()>>>,
) -> bool {
    let busy = core.line.begin_request();
    // Only now, so that a probe is never seen as neither granted nor under way.
    drop(item.permit.take());
    let request = build(&mut item);
    let began = core.context.clock.mono();
    item.attempt.mark_written();
    let answer = async {
        let response = requests.try_send_request(request).await;
        match response {
            Ok(response) => read(response).await,
            Err(mut error) => Answered::Broken { unwritten: error.take_message().is_some() },
        }
    };
    let answered = {
        let mut answer = pin!(tokio::time::timeout(core.context.answer_timeout, answer));
        let mut open = true;
        // The first look writes the request, unless the socket is full.
        let first = std::future::poll_fn(|context| {
            let answered = answer.as_mut().poll(context);
            if answered.is_pending() {
                open = connection.as_mut().poll(context).is_pending();
            }
            Poll::Ready(answered)
        })
        .await;
        core.line.written(passed);
        let answered = match first {
            Poll::Ready(answered) => answered,
            Poll::Pending => loop {
                tokio::select! {
                    biased;
                    answered = &mut answer => break answered,
                    _ = &mut connection, if open => open = false,
                }
            },
        };
        answered.unwrap_or(Answered::TimedOut)
    };
    drop(busy);
    let latency = core.context.clock.mono().since(began);
    let reusable = matches!(answered, Answered::Response { .. });
    core.context.outcomes.conclude(core, item, answered, latency);
    reusable && !requests.is_closed() && requests.ready_now(connection).await
}

/// Whether the connection takes another request.
trait ReadyNow {
    async fn ready_now(&mut self, connection: std::pin::Pin<&mut impl Future<Output = hyper::Result<()>>>) -> bool;
}

impl ReadyNow for http1::SendRequest<Full<Bytes>> {
    async fn ready_now(&mut self, connection: std::pin::Pin<&mut impl Future<Output = hyper::Result<()>>>) -> bool {
        tokio::select! {
            biased;
            ready = self.ready() => ready.is_ok(),
            _ = connection => false,
        }
    }
}

fn build(item: &mut Item) -> Request<Full<Bytes>> {
    let body = Bytes::from(std::mem::take(&mut item.body));
    item.plan.request(Full::new(body))
}

async fn read(response: Response<hyper::body::Incoming>) -> Answered {
    let status = response.status().as_u16();
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Answered::Response { status, body: body.to_bytes() },
        Err(_) => Answered::Unreadable { status },
    }
}
