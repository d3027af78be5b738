//! A provider on a real socket that answers like Meta's and keeps a record. It runs on a thread of its own, so that its times
//! do not depend on how busy the engine's runtime is.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::DEADLINE;

/// What the provider does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Takes the message and says so.
    Accept,
    /// Takes the message after a while and says so.
    AcceptAfter(Duration),
    /// Answers with this HTTP status and error code.
    Refuse { status: u16, code: u32 },
    /// Answers with this HTTP status and error code after a while.
    RefuseAfter { pause: Duration, status: u16, code: u32 },
    /// Takes the message and closes the connection without a word.
    TakeAndCut,
    /// Takes the message and answers 500 without a code.
    TakeAndFail,
    /// Never answers.
    Hang,
}

impl Reply {
    fn takes(self) -> bool {
        matches!(self, Self::Accept | Self::AcceptAfter(_) | Self::TakeAndCut | Self::TakeAndFail)
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Place in the record.
    pub(super) number: usize,
    /// Since the provider started.
    pub(super) at: Duration,
    /// The sending phone number id.
    pub(super) line: String,
    pub(super) to: String,
    pub(super) correlation: String,
    /// Whether the provider took the message: the recipient gets it.
    pub(super) took: bool,
}

impl Seen {
    /// The id that the provider gives the message.
    pub(super) fn provider_id(&self) -> String {
        format!("wamid.{}", self.number)
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct Desk {
    origin: Instant,
    script: Mutex<Script>,
    record: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
    up: watch::Sender<bool>,
    /// The longest that this thread was late by, milliseconds: whether its times can be trusted.
    late_ms: Mutex<u64>,
}

/// The provider.
pub(super) struct Provider {
    desk: Arc<Desk>,
    address: SocketAddr,
}

impl Provider {
    /// Starts it on a free port of this machine.
    pub(super) fn start() -> Self {
        let desk = Arc::new(Desk {
            origin: Instant::now(),
            script: Mutex::new(Arc::new(|_| Reply::Accept)),
            record: Mutex::default(),
            count: watch::Sender::new(0),
            up: watch::Sender::new(true),
            late_ms: Mutex::new(0),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&desk);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(served, listener, address));
        });
        Self { desk, address }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub(super) fn answers(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.desk.script.lock() = Arc::new(script);
    }

    /// From now on connections are refused, or taken again.
    pub(super) fn set_up(&self, up: bool) {
        self.desk.up.send_replace(up);
    }

    /// Requests so far.
    pub(super) fn count(&self) -> usize {
        *self.desk.count.borrow()
    }

    /// Waits until so many requests have come.
    pub(super) async fn until(&self, count: usize) {
        let mut counted = self.desk.count.subscribe();
        let waited = tokio::time::timeout(DEADLINE, counted.wait_for(|seen| *seen >= count)).await;
        assert!(waited.is_ok(), "{} of {count} requests came", self.count());
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.desk.record.lock().clone()
    }

    /// The provider's time.
    pub(super) fn now(&self) -> Duration {
        self.desk.origin.elapsed()
    }

    /// The longest that the provider's thread was late by since the last call.
    pub(super) fn take_lateness(&self) -> Duration {
        Duration::from_millis(std::mem::take(&mut *self.desk.late_ms.lock()))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // The thread ends when nobody can bring it up again.
        self.set_up(false);
    }
}

async fn run(desk: Arc<Desk>, listener: std::net::TcpListener, address: SocketAddr) {
    let watched = Arc::downgrade(&desk);
    tokio::spawn(async move {
        let pause = Duration::from_millis(2);
        while let Some(desk) = watched.upgrade() {
            let began = Instant::now();
            tokio::time::sleep(pause).await;
            let late = u64::try_from(began.elapsed().saturating_sub(pause).as_millis()).unwrap();
            let mut longest = desk.late_ms.lock();
            *longest = late.max(*longest);
        }
    });
    let mut up = desk.up.subscribe();
    let mut listener = Some(TcpListener::from_std(listener).unwrap());
    loop {
        let taken = match listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = taken.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let desk = Arc::clone(&desk);
                    connections.spawn(async move {
                        let service = service_fn(move |request| answer(Arc::clone(&desk), request));
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                _ = up.wait_for(|up| !up) => break,
            }
        }
        // Both the port and every connection are gone now.
        drop(taken);
        connections.shutdown().await;
        // Nobody else holds the desk: nobody brings it up again.
        loop {
            if *up.borrow_and_update() {
                break;
            }
            if Arc::strong_count(&desk) == 1 {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(20), up.changed()).await;
        }
    }
}

async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> std::io::Result<Response<Full<Bytes>>> {
    let at = desk.origin.elapsed();
    let line = request.uri().path().split('/').nth(2).unwrap().to_owned();
    let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let (to, correlation) = (text("to"), text("biz_opaque_callback_data"));
    let script = Arc::clone(&desk.script.lock());
    let (reply, seen) = {
        let mut record = desk.record.lock();
        let mut seen = Seen { number: record.len(), at, line, to, correlation, took: false };
        let reply = script(&seen);
        seen.took = reply.takes();
        record.push(seen.clone());
        (reply, seen)
    };
    desk.count.send_modify(|count| *count += 1);
    let ok = || Ok(json(200, format!(r#"{{"messages":[{{"id":"{}"}}]}}"#, seen.provider_id())));
    let refused = |status, code| Ok(json(status, format!(r#"{{"error":{{"message":"refused","code":{code}}}}}"#)));
    match reply {
        Reply::Accept => ok(),
        Reply::AcceptAfter(pause) => {
            tokio::time::sleep(pause).await;
            ok()
        }
        Reply::Refuse { status, code } => refused(status, code),
        Reply::RefuseAfter { pause, status, code } => {
            tokio::time::sleep(pause).await;
            refused(status, code)
        }
        Reply::TakeAndFail => Ok(json(500, "<html>oops</html>".to_owned())),
        Reply::TakeAndCut => Err(std::io::ErrorKind::ConnectionReset.into()),
        Reply::Hang => match std::future::pending::<Infallible>().await {},
    }
}

fn json(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
}
