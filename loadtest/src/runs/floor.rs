//! The floor: what the same messages cost without an engine.
//!
//! A bare hyper client sends the same bytes and reads the id; a bare receiver verifies the signature, parses the statuses and drops
//! them. Nothing is stored, nothing paced. The CPU of this process is what no engine can undercut with the same parts, so that its efficiency
//! (floor ÷ engine) can be said apart from the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};

use super::measure::{all_through, sim_cpu};
use crate::harness::config::{self, Lines, META, META_SECRET, META_TOKEN, TEMPLATE};
use crate::harness::people;
use crate::harness::world::Simulator;
use crate::sim::plan::Plan;
use crate::sim::stats::own_cpu_ns;

/// What one run of the floor measured.
#[derive(Debug, Clone, Serialize)]
pub struct Floor {
    /// Statuses per POST.
    pub batch: u16,
    /// Messages.
    pub messages: u32,
    /// Messages per second, whole life cycle.
    pub rate: f64,
    /// CPU of client and receiver per message, µs.
    pub floor_us: f64,
    /// CPU of the simulator per message, µs.
    pub sim_us: f64,
}

/// Sends so many messages over so many connections and takes their statuses.
///
/// # Errors
/// When the simulator does not start, refuses a message, or the statuses do not come.
pub async fn run(messages: u32, batch: u16, connections: u32) -> anyhow::Result<Floor> {
    let folder = tempfile::tempdir()?;
    let lines = Lines { meta: vec![1_000_000], sms: vec![] };
    let mut plan = config::simulator(&lines, Plan::straight(batch), 1);
    plan.webhook_connections = if batch == 1 { 256 } else { 64 };
    let sim = Simulator::apart(&plan, folder.path()).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/webhooks/meta/{META}", listener.local_addr()?);
    sim.post("/targets", &serde_json::json!({ META: url })).await?;
    let statuses = Arc::new(AtomicU64::new(0));
    let receiver = tokio::spawn(receive(listener, Arc::clone(&statuses)));

    let authority: Arc<str> = sim.api().trim_start_matches("http://").into();
    let began = tokio::time::Instant::now();
    let (own, theirs) = (own_cpu_ns(), sim_cpu(&sim).await?);
    let next = Arc::new(AtomicU32::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        senders.spawn(send(Arc::clone(&authority), Arc::clone(&next), messages));
    }
    while let Some(done) = senders.join_next().await {
        done??;
    }
    all_through(&sim, u64::from(messages), Duration::from_secs(120)).await?;
    let wall = began.elapsed().as_secs_f64();
    let own = own_cpu_ns() - own;
    let theirs = sim_cpu(&sim).await? - theirs;
    receiver.abort();
    anyhow::ensure!(statuses.load(Ordering::Relaxed) == u64::from(messages) * 3, "statuses are missing");
    let per = |ns: u64| ns as f64 / 1e3 / f64::from(messages);
    Ok(Floor { batch, messages, rate: f64::from(messages) / wall, floor_us: per(own), sim_us: per(theirs) })
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

async fn send(authority: Arc<str>, next: Arc<AtomicU32>, messages: u32) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&*authority).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let uri = format!("/v25.0/{}/messages", Lines::meta_id(0));
    let bearer = format!("Bearer {META_TOKEN}");
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= messages {
            return Ok(());
        }
        let (phone, [name, discount]) = (people::phone(1, n), people::params(n));
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
    timestamp: &'a str,
    biz_opaque_callback_data: &'a str,
}

async fn receive(listener: TcpListener, statuses: Arc<AtomicU64>) {
    let Ok(key) = Hmac::<Sha256>::new_from_slice(META_SECRET.as_bytes()) else {
        return;
    };
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
    mut key: Hmac<Sha256>,
    statuses: Arc<AtomicU64>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    key.update(&body);
    let given = head.headers.get("x-hub-signature-256").and_then(|v| v.to_str().ok()?.strip_prefix("sha256="));
    let given = given.and_then(unhex).context("no signature")?;
    key.verify_slice(&given).map_err(|_| anyhow::anyhow!("bad signature"))?;
    let update: Update<'_> = serde_json::from_slice(&body)?;
    let number: usize = update.entry.iter().flat_map(|e| &e.changes).map(|c| c.value.statuses.len()).sum();
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
