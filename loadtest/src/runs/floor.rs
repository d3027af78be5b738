//! The floor: what the same messages cost without an engine.
//!
//! A bare hyper client sends the same bytes and reads the id; a bare receiver verifies the signature, parses the statuses and drops
//! them. Nothing is stored, nothing paced. It runs as a process of its own (`loadtest floor-worker`), so that its CPU time stands apart: that is
//! what no engine can undercut with the same parts.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::config::{FLOOR_LINE, META_SECRET, META_TOKEN, TEMPLATE};
use crate::harness::people;
use crate::harness::process::cpu_ns;
use crate::harness::simulator::beside;

/// The block of the floor's recipients, apart from those of the run.
const BLOCK: u32 = 2;
/// Longest time for an answer of the worker.
const ANSWER: Duration = Duration::from_secs(600);

/// One order to the worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Send so many.
    Send {
        /// `host:port` of the simulated provider.
        api: String,
        /// Number of the first recipient.
        first: u32,
        /// How many.
        messages: u32,
        /// Over so many connections.
        connections: u32,
    },
    /// Say how many statuses came.
    Count,
}

/// The worker's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Answer {
    /// Where its receiver listens.
    webhooks: String,
    /// Statuses so far.
    statuses: u64,
    /// What went wrong.
    error: Option<String>,
}

/// The worker, seen from the harness. Dropping it ends it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Where its receiver listens, `host:port`.
    pub webhooks: String,
}

impl Worker {
    /// Starts one from the binary beside this program.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(beside("loadtest")?);
        command.arg("floor-worker").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut worker = Self { child, orders, answers, webhooks: String::new() };
        worker.webhooks = worker.order(&Order::Count).await?.webhooks;
        Ok(worker)
    }

    /// CPU time so far, ns.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.child.id().map_or(0, |pid| cpu_ns(pid.cast_signed()))
    }

    /// Sends messages `first..first + messages` and waits until all are accepted.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn send(&mut self, api: &str, first: u32, messages: u32, connections: u32) -> anyhow::Result<()> {
        let api = api.trim_start_matches("http://").to_owned();
        self.order(&Order::Send { api, first, messages, connections }).await?;
        Ok(())
    }

    /// Statuses that its receiver took so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn statuses(&mut self) -> anyhow::Result<u64> {
        Ok(self.order(&Order::Count).await?.statuses)
    }

    async fn order(&mut self, order: &Order) -> anyhow::Result<Answer> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).await?;
        let answer =
            tokio::time::timeout(ANSWER, self.answers.next_line()).await.context("the floor does not answer")??;
        let answer: Answer = serde_json::from_str(&answer.context("the floor has ended")?)?;
        match answer.error {
            Some(error) => Err(anyhow::anyhow!("the floor: {error}")),
            None => Ok(answer),
        }
    }
}

/// The worker itself: takes orders from standard input until it is closed.
///
/// # Errors
/// When it cannot listen or answer.
pub async fn worker() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhooks = listener.local_addr()?.to_string();
    let statuses = Arc::new(AtomicU64::new(0));
    tokio::spawn(receive(listener, Arc::clone(&statuses)));
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        let done = match serde_json::from_str(&line) {
            Ok(Order::Send { api, first, messages, connections }) => send_all(&api, first, messages, connections).await,
            Ok(Order::Count) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let answer = Answer {
            webhooks: webhooks.clone(),
            statuses: statuses.load(Ordering::Relaxed),
            error: done.err().map(|error: anyhow::Error| format!("{error:#}")),
        };
        let mut out = tokio::io::stdout();
        out.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
        out.flush().await?;
    }
    Ok(())
}

async fn send_all(api: &str, first: u32, messages: u32, connections: u32) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU32::new(first));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        senders.spawn(send(Arc::from(api), Arc::clone(&next), first + messages));
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Accepted<'a> {
    #[serde(borrow)]
    messages: [Id<'a>; 1],
}

#[derive(Deserialize)]
struct Id<'a> {
    id: &'a str,
}

async fn send(authority: Arc<str>, next: Arc<AtomicU32>, end: u32) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&*authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let uri = format!("/v25.0/{FLOOR_LINE}/messages");
    let bearer = format!("Bearer {META_TOKEN}-floor");
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= end {
            return Ok(());
        }
        let (phone, [name, discount]) = (people::phone(BLOCK, n), people::params(n));
        let body = format!(
            r#"{{"messaging_product":"whatsapp","recipient_type":"individual","to":"{phone}","biz_opaque_callback_data":"floor-{n:022}","type":"template","template":{{"name":"{TEMPLATE}","language":{{"code":"en_US"}},"components":[{{"type":"body","parameters":[{{"type":"text","text":"{name}"}},{{"type":"text","text":"{discount}"}}]}}]}}}}"#
        );
        let request = Request::post(&uri)
            .header("host", &*authority)
            .header("authorization", &bearer)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        let accepted: Accepted<'_> = serde_json::from_slice(&body).context("answer")?;
        anyhow::ensure!(accepted.messages[0].id.starts_with("wamid."), "no id");
    }
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    value: Value<'a>,
}

#[derive(Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    statuses: Vec<Status<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Status<'a> {
    id: &'a str,
    status: &'a str,
    // Text or a number, as providers send it.
    timestamp: &'a RawValue,
    // A stranger's status has none.
    #[serde(default)]
    biz_opaque_callback_data: Option<&'a str>,
}

async fn receive(listener: TcpListener, statuses: Arc<AtomicU64>) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, META_SECRET.as_bytes());
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (key, statuses) = (key.clone(), Arc::clone(&statuses));
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| take(request, key.clone(), Arc::clone(&statuses)));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    key: hmac::Key,
    statuses: Arc<AtomicU64>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let given = head.headers.get("x-hub-signature-256").and_then(|v| v.to_str().ok()?.strip_prefix("sha256="));
    if given.and_then(unhex).is_none_or(|given| hmac::verify(&key, &body, &given).is_err()) {
        let mut refused = Response::new(Full::new(Bytes::new()));
        *refused.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(refused);
    }
    let update: Update<'_> = serde_json::from_slice(&body)?;
    let all = update.entry.iter().flat_map(|entry| &entry.changes).flat_map(|change| &change.value.statuses);
    let number = all.filter(|status| status.biz_opaque_callback_data.is_some()).count();
    statuses.fetch_add(number as u64, Ordering::Relaxed);
    Ok(Response::new(Full::new(Bytes::new())))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
