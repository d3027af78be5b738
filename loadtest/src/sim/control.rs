//! The control API: what a test, a report or a person asks the simulator.
//!
//! | call | answer |
//! |---|---|
//! | `GET /accepted` | number of accepted messages and of outstanding statuses, at no cost |
//! | `GET /sample` | the counters of a time series and the answer times since the last sample |
//! | `GET /latencies?anew=1` | latencies of the webhook side as histograms; with `anew` they begin anew |
//! | `GET /posts` | first posts of timed lines |
//! | `GET /ledger` | totals, per line, refusals by code |
//! | `GET /ledger/entries` | every accepted message, one JSON object per line |
//! | `GET /ledger/refused` | every request that was not accepted, one JSON object per line |
//! | `GET /rates?window_ms=10000&from_ns=&to_ns=` | highest second and emptiest window of each line |
//! | `GET /stats` | webhook counters, answer times, stamping |
//! | `GET /cpu` | CPU time of this process |
//! | `POST /faults` | puts a list of fault rules in force |
//! | `POST /plan` | puts a plan in force for what is accepted from now on |
//! | `POST /targets` | `{account: target}`: where webhooks go |
//! | `POST /quiesce?timeout_ms=60000` | sends everything at once, waits until it is acknowledged |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::faults::Rule;
use super::plan::Plan;
use super::records;
use super::stats::own_cpu_ns;
use crate::wire::request::{Parsed, Request, parse, write_response};

/// Entries rendered per piece of the stream, and per lock of the books.
const PIECE: u32 = 1_000;
const BODY_MAX: usize = 1 << 20;

/// Serves the control API until stopped.
pub(super) async fn serve(core: Arc<Core>, listener: TcpListener, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let core = Arc::clone(&core);
        tokio::spawn(async move {
            let _ = connection(&core, stream).await;
        });
    }
}

async fn connection(core: &Core, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let (reply, consumed, close) = match parse(&buffer, BODY_MAX) {
            Parsed::Partial(_) => {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                continue;
            }
            Parsed::Refused(status) => (Err((status, "bad request".to_owned())), buffer.len(), true),
            Parsed::Complete(request) => {
                let path = request.target.split('?').next().unwrap_or("");
                match (request.method, path) {
                    ("GET", "/ledger/entries") => {
                        return stream_all(&mut stream, |from| records::piece(core, from as u32, PIECE)).await;
                    }
                    ("GET", "/ledger/refused") => {
                        let piece = |from| records::refused_piece(core, from, PIECE as usize);
                        return stream_all(&mut stream, piece).await;
                    }
                    _ => {}
                }
                (respond(core, path, &request).await, request.consumed, request.close)
            }
        };
        let mut out = Vec::new();
        let (status, body) = match reply {
            Ok(value) => (200, value),
            Err((status, text)) => (status, json!({ "error": text })),
        };
        let body = format!("{body:#}\n");
        write_response(&mut out, status, "application/json", body.as_bytes(), close);
        stream.write_all(&out).await?;
        if close {
            return Ok(());
        }
        buffer.drain(..consumed);
    }
}

/// A list of the books as NDJSON, piece by piece; the end of the connection is the end of the list.
async fn stream_all<T: serde::Serialize>(
    stream: &mut TcpStream,
    piece: impl Fn(usize) -> Vec<T>,
) -> std::io::Result<()> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";
    stream.write_all(head).await?;
    let mut from = 0;
    let mut out = Vec::new();
    loop {
        let records = piece(from);
        if records.is_empty() {
            return stream.shutdown().await;
        }
        from += records.len();
        out.clear();
        for record in &records {
            let _ = serde_json::to_writer(&mut out, record);
            out.push(b'\n');
        }
        stream.write_all(&out).await?;
    }
}

type Answer = Result<serde_json::Value, (u16, String)>;

async fn respond(core: &Core, path: &str, request: &Request<'_>) -> Answer {
    let number = |name: &str| query(request.target, name).and_then(|value| value.parse::<u64>().ok());
    match (request.method, path) {
        ("GET", "/accepted") => {
            let state = core.state.lock();
            Ok(json!({ "accepted": state.ledger.len(), "outstanding": state.outstanding }))
        }
        ("GET", "/sample") => {
            let (accepted, outstanding) = {
                let state = core.state.lock();
                (state.ledger.len() as u64, state.outstanding)
            };
            to_json(&core.stats.sample(core.clock.now_ns(), accepted, outstanding))
        }
        ("GET", "/latencies") => to_json(&core.stats.latencies(number("anew") == Some(1))),
        ("GET", "/posts") => to_json(&*core.stats.posts.lock()),
        ("GET", "/ledger") => to_json(&records::summary(core)),
        ("GET", "/rates") => {
            let window_ns = number("window_ms").unwrap_or(10_000).max(1) * 1_000_000;
            let marks = (number("from_ns"), number("to_ns"));
            to_json(&json!({
                "lines": core.rates(window_ns, marks),
                "stamping": core.clock.stamping(),
                "now_ns": core.clock.now_ns(),
            }))
        }
        ("GET", "/stats") => {
            let outstanding = core.state.lock().outstanding;
            let faults = core.state.lock().faults.report();
            to_json(&json!({
                "webhooks": core.stats.report(outstanding),
                "stamping": core.clock.stamping(),
                "faults": faults.iter().map(|(rule, hits)| json!({ "rule": rule, "hits": hits })).collect::<Vec<_>>(),
                "cpu_ns": own_cpu_ns(),
            }))
        }
        ("GET", "/cpu") => to_json(&json!({ "cpu_ns": own_cpu_ns(), "now_ns": core.clock.now_ns() })),
        ("POST", "/faults") => {
            #[derive(Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Faults {
                rules: Vec<Rule>,
            }
            let faults: Faults = read(request.body)?;
            core.set_faults(faults.rules);
            Ok(json!({ "ok": true }))
        }
        ("POST", "/plan") => {
            let plan: Plan = read(request.body)?;
            core.set_plan(plan).map_err(|text| (400, text))?;
            Ok(json!({ "ok": true }))
        }
        ("POST", "/targets") => {
            let targets: BTreeMap<String, String> = read(request.body)?;
            for (account, target) in &targets {
                core.set_target(account, target).map_err(|text| (400, text))?;
            }
            Ok(json!({ "ok": true }))
        }
        ("POST", "/quiesce") => {
            let timeout = Duration::from_millis(number("timeout_ms").unwrap_or(60_000).min(600_000));
            let outstanding = quiesce(core, timeout).await;
            to_json(&json!({
                "quiet": outstanding == 0,
                "outstanding": outstanding,
                "webhooks": core.stats.report(outstanding),
            }))
        }
        _ => Err((404, format!("no such call: {} {path}", request.method))),
    }
}

/// Posts everything at once and waits until nothing is outstanding; returns what still is when the time is up.
pub(super) async fn quiesce(core: &Core, timeout: Duration) -> u64 {
    core.hurry(true);
    let end = tokio::time::Instant::now() + timeout;
    let outstanding = loop {
        let outstanding = core.state.lock().outstanding;
        if outstanding == 0 || tokio::time::Instant::now() >= end {
            break outstanding;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    core.hurry(false);
    outstanding
}

fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, (u16, String)> {
    serde_json::from_slice(body).map_err(|error| (400, error.to_string()))
}

fn to_json(value: &impl serde::Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| (500, error.to_string()))
}
