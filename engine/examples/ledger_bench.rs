//! Measures the ledger alone: import, seal, and the life cycle of each message (intent, accepted, sent, delivered, read). First the
//! embedded one; then, where `SLUICE_CQL_NODES` names a server (`.ci/cql run -- …` does), the one on CQL, with the ratio of both.
//!
//! `cargo run --release --example ledger_bench -- [recipients] [entries a call] [lag in messages] [synced|unsynced] [messages held]
//! [calls a second]`
//!
//! Without calls a second, four calls are under way at once, as fast as they go. `lag` is how many messages behind its send each
//! of the three reports comes: 0 at once, a large number spreads them. Prints rates, how long calls wait, and the CPU time of the
//! whole process per row or transition (Linux).

#[path = "../benches/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluice_engine::domain::ids::{CampaignKey, LineKey, MessageKey};
use sluice_engine::domain::message::{Event, Reported};
use sluice_engine::domain::time::{Clock, UnixMillis};
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore};
use sluice_engine::store::scylla::{ScyllaConfig, ScyllaStore, apply_schema};
use sluice_engine::store::{Entry, Store};
use support::{Outcome, campaign, chunk};

/// Calls under way at once, as many sources feed the ledger.
const CALLS_AT_ONCE: usize = 4;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(bench())
}

/// What to do.
struct Order {
    recipients: u32,
    entries: u32,
    lag: u32,
    /// Calls a second; 0: as fast as they go.
    pace: u32,
}

async fn bench() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u32| args.next().map_or(Ok(default), |text| text.parse());
    let (recipients, entries, lag) = (number(200_000)?, number(1_000)?, number(5_000)?);
    let synced = args.next().is_none_or(|text| text != "unsynced");
    let held = args.next().map_or(Ok(None), |text| text.parse().map(Some))?;
    let pace: u32 = args.next().map_or(Ok(0), |text| text.parse())?;
    let order = Order { recipients, entries, lag, pace };
    let dir = std::env::temp_dir().join(format!("sluice-ledger-bench-{}", std::process::id()));
    let mut config = EmbeddedConfig::new(&dir);
    config.synced = synced;
    config.messages_held_max = held.unwrap_or(config.messages_held_max);
    let store = EmbeddedStore::open(config, Clock::system())?;
    let (before, written) = (store.counters(), written_bytes());
    let (key, embedded) = life_cycle(Arc::clone(&store) as Arc<dyn Store>, &order).await?;
    let after = store.counters();
    println!(
        "commits {}, checkpoints {}, {} MB written; {} bytes on disk",
        after.commits - before.commits,
        after.checkpoints - before.checkpoints,
        (written_bytes() - written) >> 20,
        store.health().bytes,
    );
    store.close().await?;
    drop(store);
    let watch = Watch::start();
    let store = EmbeddedStore::open(EmbeddedConfig::new(&dir), Clock::system())?;
    store.open_attempts(key, 0, 10_000).await?;
    store.read_window(key, 0, 10_000).await?;
    watch.print("reopen", u64::from(recipients));
    drop(store);
    std::fs::remove_dir_all(dir)?;
    match std::env::var("SLUICE_CQL_NODES") {
        Ok(nodes) => on_cql(&nodes, &order, embedded).await,
        Err(_) => Ok(()),
    }
}

async fn on_cql(nodes: &str, order: &Order, embedded: Duration) -> Outcome<()> {
    println!("--- the ledger on CQL");
    let nodes = nodes.split(',').map(str::to_owned).collect();
    let config = ScyllaConfig::new(nodes, format!("bench_{}", std::process::id()));
    apply_schema(&config, Some(1)).await?;
    let store = ScyllaStore::open(config.clone(), Clock::system()).await?;
    let (key, cpu) = life_cycle(Arc::clone(&store) as Arc<dyn Store>, order).await?;
    let counters = store.counters();
    #[allow(clippy::cast_precision_loss)]
    let share = |a: u64, b: u64| a as f64 / b.max(1) as f64;
    println!(
        "{:.2} row updates a message, {:.1} rows a batch; CPU of this process {:.2} times the embedded ledger's",
        share(counters.rows, u64::from(order.recipients)),
        share(counters.rows, counters.batches),
        cpu.as_secs_f64() / embedded.as_secs_f64(),
    );
    store.close().await?;
    drop(store);
    let watch = Watch::start();
    let store = ScyllaStore::open(config, Clock::system()).await?;
    store.open_attempts(key, 0, 10_000).await?;
    store.read_window(key, 0, 10_000).await?;
    watch.print("reopen", u64::from(order.recipients));
    Ok(store.close().await?)
}

/// Import, seal, five transitions of each message, recount. The campaign, and the CPU time of the transitions.
async fn life_cycle(store: Arc<dyn Store>, order: &Order) -> Outcome<(CampaignKey, Duration)> {
    let Order { recipients, entries, lag, pace } = *order;
    let mut ticks = (pace > 0).then(|| tokio::time::interval(Duration::from_secs(1) / pace));
    let key = store.create_campaign(campaign()?, None).await?.record.key;

    let watch = Watch::start();
    for first in (0..recipients).step_by(CALLS_AT_ONCE * 1_000) {
        let offsets = (first..recipients.min(first + 4_000)).step_by(1_000);
        let chunks =
            offsets.map(|offset| chunk(key, offset, 1_000.min(recipients - offset))).collect::<Outcome<Vec<_>>>()?;
        // Joined futures are polled in order, so that the chunks are queued in order.
        let calls = chunks.into_iter().map(|chunk| store.append_recipients(chunk));
        futures_util::future::try_join_all(calls).await?;
    }
    watch.print("import", u64::from(recipients));
    let watch = Watch::start();
    store.seal(key, UnixMillis(1)).await?;
    watch.print("seal", u64::from(recipients));

    let lines: Arc<[LineKey]> = Arc::new([LineKey(1)]);
    let watch = Watch::start();
    let (mut calls, mut waits) = (Vec::new(), Vec::new());
    let mut sent: u64 = 0;
    let mut batch = Vec::with_capacity(entries as usize);
    // Every message moves five times: as it is sent, and `lag` messages behind each of its stages the next.
    let steps = u64::from(recipients) + 3 * u64::from(lag);
    for step in 0..steps {
        for (stage, behind) in [(0, 0), (1, 0), (2, lag), (3, 2 * lag), (4, 3 * lag)] {
            let Some(seq) = step.checked_sub(u64::from(behind)).filter(|seq| *seq < u64::from(recipients)) else {
                continue;
            };
            let seq = u32::try_from(seq)?;
            batch.push(Entry { key: MessageKey { campaign: key, seq }, event: event(stage, seq, &lines) });
            sent += 1;
        }
        if batch.len() >= entries as usize || step + 1 == steps {
            let (store, entries) = (Arc::clone(&store), std::mem::take(&mut batch));
            calls.push(tokio::spawn(async move {
                let begun = SystemTime::now();
                store.commit(entries).await.map(|_| begun.elapsed().unwrap_or_default())
            }));
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
                while calls.first().is_some_and(tokio::task::JoinHandle::is_finished) {
                    waits.push(calls.remove(0).await??);
                }
            } else if calls.len() >= CALLS_AT_ONCE {
                waits.push(calls.remove(0).await??);
            }
        }
    }
    for call in calls {
        waits.push(call.await??);
    }
    watch.print("transitions", sent);
    let cpu = watch.cpu();
    waits.sort_unstable();
    let wait = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!("a call waits p50 {:?}, p99 {:?}, longest {:?}", wait(50), wait(99), wait(100));
    let watch = Watch::start();
    let (kept, counted) = store.recount(key).await?;
    watch.print("recount", u64::from(recipients));
    println!("tally = recount: {}; peak RSS {} kB", kept == counted, peak_rss_kb());
    Ok((key, cpu))
}

fn event(stage: u8, seq: u32, lines: &Arc<[LineKey]>) -> Event {
    let at = UnixMillis(1_700_000_000_000 + i64::from(seq));
    let report = |what| Event::Report {
        attempt: 1,
        lines: Arc::clone(lines),
        at,
        what,
        provider_at: Some(1_700_000_000),
        provider_id: None,
        failure: None,
    };
    match stage {
        0 => Event::Intent { attempt: 1, line: LineKey(1), at },
        1 => Event::Accepted { attempt: 1, at, provider_id: format!("wamid.HBgLMTU1NTAxMDA{seq:020}ERgSQjE2").into() },
        2 => report(Reported::Sent),
        3 => report(Reported::Delivered),
        _ => report(Reported::Read),
    }
}

struct Watch {
    begun: SystemTime,
    cpu: Duration,
}

impl Watch {
    fn start() -> Self {
        Self { begun: SystemTime::now(), cpu: cpu_time() }
    }

    /// CPU time of the process since the start.
    fn cpu(&self) -> Duration {
        cpu_time() - self.cpu
    }

    #[allow(clippy::cast_precision_loss)]
    fn print(&self, what: &str, count: u64) {
        let took = self.begun.elapsed().unwrap_or_default().as_secs_f64();
        let cpu = self.cpu().as_secs_f64();
        println!(
            "{what:<12} {count:>9} in {took:6.2} s = {:>9.0}/s, {:5.2} µs CPU each",
            count as f64 / took,
            cpu * 1e6 / count as f64
        );
    }
}

/// User and system time of the process so far, from `/proc` (clock ticks of 10 ms).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Bytes this process had written to storage, from `/proc`.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn peak_rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
