//! A flood: POSTs that a provider might repeat, arriving by schedule whatever the answers.
//!
//! They carry statuses that the simulator has posted and that were acknowledged: correct signature, known messages, nothing new. Refusing them
//! loses nothing, taking them changes nothing; what the run looks at is memory, answer times, and that the simulator's own statuses, which are
//! refused alike meanwhile, are all there after its retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::Instant;

use super::stage::Stage;
use crate::harness::config::{META, META_SECRET};
use crate::measure::open_loop::{self, Schedule};
use crate::measure::process::Reader;
use crate::scenario::file::Disturbance;
use crate::sim::records::Record;
use crate::sim::sign::MetaSigner;
use crate::wire::client::{render, split_url};

/// Different POSTs that are taken in turn.
const DIFFERENT: usize = 2_000;
/// Longest wait for the first acknowledged status.
const FIRST: Duration = Duration::from_secs(30);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Floods the server's Meta webhook for so long.
///
/// # Errors
/// When there is nothing to repeat yet, or the server is down.
pub async fn run(stage: &Stage, it: &Disturbance, lasts: Duration) -> anyhow::Result<()> {
    let (webhooks, pid) = {
        let world = stage.world.lock().await;
        let server = world.server()?;
        (server.addresses.webhooks.clone(), server.pid())
    };
    let records = first_acknowledged(&stage.control).await?;
    let url = format!("http://{webhooks}/webhooks/meta/{META}");
    let requests = requests(&url, &records)?;
    let mut reader = Reader::new(pid);
    let before = reader.read().map_or(0, |usage| usage.rss_kib);
    let (highest, over) = (Arc::new(AtomicU64::new(before)), Arc::new(AtomicBool::new(false)));
    let (seen, ends) = (Arc::clone(&highest), Arc::clone(&over));
    let watch = tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            seen.fetch_max(reader.read().map_or(0, |usage| usage.rss_kib), Ordering::Relaxed);
            tokio::time::sleep(LOOK).await;
        }
    });
    let outcome = open_loop::run(Schedule {
        authority: webhooks,
        requests: Arc::new(requests),
        per_second: it.per_second.unwrap_or(1),
        connections: it.connections.unwrap_or(1),
        lasts,
    })
    .await;
    over.store(true, Ordering::Relaxed);
    watch.await?;
    let mut left = stage.left.lock();
    left.flood_mib.push(highest.load(Ordering::Relaxed).saturating_sub(before) as f64 / 1024.0);
    left.floods.push(outcome);
    Ok(())
}

/// Waits until there is something to repeat.
async fn first_acknowledged(control: &str) -> anyhow::Result<Vec<Record>> {
    let end = Instant::now() + FIRST;
    loop {
        let records = acknowledged(control).await?;
        if !records.is_empty() {
            return Ok(records);
        }
        anyhow::ensure!(Instant::now() < end, "no status was acknowledged within {FIRST:?}: let it begin later (at_s)");
        tokio::time::sleep(LOOK).await;
    }
}

/// Messages of Meta lines of which a status was acknowledged.
async fn acknowledged(control: &str) -> anyhow::Result<Vec<Record>> {
    let address = split_url(&format!("{control}/ledger/entries"))?;
    let mut stream = tokio::net::TcpStream::connect(&address.authority).await.context("the simulator's control API")?;
    let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", address.target, address.authority);
    stream.write_all(request.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while lines.next_line().await?.context("the ledger ends in its head")?.trim() != "" {}
    let mut records = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let record: Record = serde_json::from_str(&line)?;
        if record.acked & 0b0111 != 0 && !record.line.starts_with('+') && !record.correlation.is_empty() {
            records.push(record);
            if records.len() == DIFFERENT {
                break;
            }
        }
    }
    Ok(records)
}

/// Rendered and signed POSTs, one status each.
fn requests(url: &str, records: &[Record]) -> anyhow::Result<Vec<Vec<u8>>> {
    let address = split_url(url)?;
    let signer = MetaSigner::new(META_SECRET);
    let rendered = records.iter().map(|record| {
        let status = match record.acked {
            bits if bits & 4 != 0 => "read",
            bits if bits & 2 != 0 => "delivered",
            _ => "sent",
        };
        let body = serde_json::json!({
            "object": "whatsapp_business_account",
            "entry": [{ "id": "100000000000001", "changes": [{ "field": "messages", "value": {
                "messaging_product": "whatsapp",
                "metadata": { "display_phone_number": "15550200000", "phone_number_id": record.line },
                "statuses": [{
                    "id": record.id,
                    "status": status,
                    "timestamp": (record.at_ns / 1_000_000_000).to_string(),
                    "recipient_id": record.to.trim_start_matches('+'),
                    "biz_opaque_callback_data": record.correlation,
                }],
            }}]}],
        })
        .to_string();
        let headers =
            format!("content-type: application/json\r\nx-hub-signature-256: {}\r\n", signer.sign(body.as_bytes()));
        render("POST", &address, &headers, body.as_bytes())
    });
    Ok(rendered.collect())
}
