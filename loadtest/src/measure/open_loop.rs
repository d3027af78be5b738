//! Arrivals by schedule: whatever the server does, the n-th POST is due at its time, and its latency counts from there. Answers that are slow
//! delay nothing but the connection they are on, so no waiting is hidden.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::histogram::{Latencies, Snapshot};
use crate::wire::client::Connection;

/// Longest time for an answer; afterwards the POST counts as not answered.
const ANSWER: Duration = Duration::from_secs(20);
/// A POST that leaves later than this is late; a timer alone may be two milliseconds late.
const LATE: Duration = Duration::from_millis(5);

/// What is to arrive.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// `host:port` of the receiver.
    pub authority: String,
    /// Rendered requests, taken in turn.
    pub requests: Arc<Vec<Vec<u8>>>,
    /// Arrivals per second.
    pub per_second: u32,
    /// Connections: so many may wait for an answer at once.
    pub connections: u32,
    /// For so long.
    pub lasts: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// POSTs that were due.
    pub due: u64,
    /// How many were to arrive per second.
    pub ordered: f64,
    /// How many left per second, from the first to the last, at most as many as were ordered.
    pub rate: f64,
    /// POSTs that left late.
    pub late: u64,
    /// Of these: those that found every connection waiting for an answer.
    pub all_busy: u64,
    /// Answers by HTTP status; 0: no answer.
    pub answers: BTreeMap<u16, u64>,
    /// From the scheduled moment to 200.
    pub taken: Snapshot,
    /// From the first byte to any other answer.
    pub refused: Snapshot,
    /// How late a POST left although a connection was free.
    pub own_lag: Snapshot,
}

struct Shared {
    begin: Instant,
    next: AtomicU64,
    total: u64,
    connections: u32,
    /// Connections that wait for an answer.
    busy: AtomicU32,
    late: AtomicU64,
    all_busy: AtomicU64,
    /// When the last POST left, ns since the begin.
    last_ns: AtomicU64,
    gap_ns: f64,
    answers: Mutex<BTreeMap<u16, u64>>,
    taken: Latencies,
    refused: Latencies,
    own_lag: Latencies,
}

/// Lets everything arrive and waits for the last answer.
pub async fn run(schedule: Schedule) -> Outcome {
    let total = (f64::from(schedule.per_second) * schedule.lasts.as_secs_f64()) as u64;
    if schedule.requests.is_empty() || total == 0 {
        return Outcome::default();
    }
    let shared = Arc::new(Shared {
        begin: Instant::now(),
        next: AtomicU64::new(0),
        total,
        connections: schedule.connections.max(1),
        busy: AtomicU32::new(0),
        late: AtomicU64::new(0),
        all_busy: AtomicU64::new(0),
        last_ns: AtomicU64::new(0),
        gap_ns: 1e9 / f64::from(schedule.per_second.max(1)),
        answers: Mutex::new(BTreeMap::new()),
        taken: Latencies::default(),
        refused: Latencies::default(),
        own_lag: Latencies::default(),
    });
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..shared.connections {
        let (shared, authority) = (Arc::clone(&shared), schedule.authority.clone());
        let requests = Arc::clone(&schedule.requests);
        workers.spawn(async move { work(&shared, &authority, &requests).await });
    }
    while workers.join_next().await.is_some() {}
    let answers = std::mem::take(&mut *shared.answers.lock());
    let left_s = Duration::from_nanos(shared.last_ns.load(Ordering::Relaxed)).max(schedule.lasts).as_secs_f64();
    Outcome {
        due: total,
        ordered: total as f64 / schedule.lasts.as_secs_f64(),
        rate: total as f64 / left_s,
        late: shared.late.load(Ordering::Relaxed),
        all_busy: shared.all_busy.load(Ordering::Relaxed),
        answers,
        taken: shared.taken.snapshot(),
        refused: shared.refused.snapshot(),
        own_lag: shared.own_lag.snapshot(),
    }
}

async fn work(shared: &Shared, authority: &str, requests: &[Vec<u8>]) {
    let mut connection = None;
    loop {
        let n = shared.next.fetch_add(1, Ordering::Relaxed);
        if n >= shared.total {
            return;
        }
        let due = shared.begin + Duration::from_nanos((n as f64 * shared.gap_ns) as u64);
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
            shared.own_lag.note(due.elapsed());
        }
        let began = Instant::now();
        // This one comes on top of those that wait already.
        let busy = shared.busy.fetch_add(1, Ordering::Relaxed) + 1;
        if began.saturating_duration_since(due) > LATE {
            shared.late.fetch_add(1, Ordering::Relaxed);
            shared.all_busy.fetch_add(u64::from(busy >= shared.connections), Ordering::Relaxed);
        }
        shared.last_ns.fetch_max((began - shared.begin).as_nanos() as u64, Ordering::Relaxed);
        let request = &requests[(n % requests.len() as u64) as usize];
        let status = exchange(&mut connection, authority, request).await.unwrap_or(0);
        shared.busy.fetch_sub(1, Ordering::Relaxed);
        match status {
            200 => shared.taken.note(due.elapsed()),
            0 => {}
            _ => shared.refused.note(began.elapsed()),
        }
        *shared.answers.lock().entry(status).or_default() += 1;
    }
}

async fn exchange(held: &mut Option<Connection>, authority: &str, request: &[u8]) -> io::Result<u16> {
    let mut connection = match held.take() {
        Some(connection) if connection.usable() => connection,
        _ => Connection::open(authority, ANSWER).await?,
    };
    let (status, _) = tokio::time::timeout(ANSWER, connection.exchange(request))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    *held = Some(connection);
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A receiver that holds every answer back until `open` is let go counts the waiting of all that were due meanwhile.
    #[tokio::test]
    async fn latency_counts_from_the_scheduled_moment() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let authority = listener.local_addr().expect("bound").to_string();
        let held = Duration::from_millis(120);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let mut first = true;
                    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {
                        if std::mem::take(&mut first) {
                            tokio::time::sleep(held).await;
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        let outcome = run(Schedule {
            authority,
            requests: Arc::new(vec![b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n".to_vec()]),
            per_second: 1_000,
            connections: 1,
            lasts: Duration::from_millis(100),
        })
        .await;
        assert_eq!((outcome.due, outcome.answers[&200]), (100, 100));
        // With one connection the first answer alone is slow; a closed loop would show a median near nothing.
        assert!(outcome.taken.quantile_ms(0.1).is_some_and(|ms| ms >= 20.0), "{outcome:?}");
        // The server held it up, and it shows.
        assert!(outcome.rate < 0.95 * outcome.ordered, "{outcome:?}");
        assert!(outcome.late > 50 && outcome.all_busy == outcome.late, "{outcome:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        let outcome = run(Schedule {
            authority: "127.0.0.1:1".to_owned(),
            requests: Arc::new(vec![b"x".to_vec()]),
            per_second: 100,
            connections: 2,
            lasts: Duration::from_millis(50),
        })
        .await;
        assert_eq!(outcome.answers, BTreeMap::from([(0, 5)]));
    }
}
