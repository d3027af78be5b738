//! Posting status webhooks: a pump that collects what is due into POSTs, and workers that own one connection each.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::core::{AccountKind, Core};
use super::plan::{Dice, Plan};
use super::render::{Batch, Callback, Extras, meta_body, twilio_callback};
use super::schedule::{Due, Schedule};
use super::stats::{FirstPost, Stats};
use super::twilio::{Overrides, overrides};
use crate::wire::client::{Address, Connection, render, split_url};

/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long Meta's side waits for an answer before it counts the POST as not acknowledged.
const META_READ: Duration = Duration::from_secs(20);
/// First pause before a POST is tried again; it doubles.
const RETRY_MS: u64 = 50;

/// One POST to be made.
#[derive(Debug)]
struct Job {
    items: Vec<Due>,
    /// Tries so far.
    tries: u32,
    /// Chooses what is random about this POST, the same at each try.
    seed: u64,
    /// The moment for which it was planned, ns since the epoch.
    planned_ns: u64,
    /// A connection was free when it was formed: if it begins late, the simulator is late and not the server.
    connection_free: bool,
    /// When it was formed.
    since: Instant,
}

/// Jobs between pump and workers. Bounded by what the books hold: each job is a few statuses of accepted messages.
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    ready: Semaphore,
    retries: Mutex<Schedule<Job>>,
    /// Workers without a job.
    idle: AtomicUsize,
}

impl Queue {
    fn put(&self, mut job: Job) {
        let mut jobs = self.jobs.lock();
        job.connection_free = self.idle.load(Ordering::Relaxed) > jobs.len();
        jobs.push_back(job);
        drop(jobs);
        self.ready.add_permits(1);
    }

    async fn take(&self) -> Option<Job> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        let permit = self.ready.acquire().await;
        self.idle.fetch_sub(1, Ordering::Relaxed);
        permit.ok()?.forget();
        self.jobs.lock().pop_front()
    }
}

/// Delivers the webhooks of one account until stopped.
pub(super) async fn deliver(core: Arc<Core>, account: usize, stop: CancellationToken) {
    let queue = Arc::new(Queue {
        jobs: Mutex::new(VecDeque::new()),
        ready: Semaphore::new(0),
        retries: Mutex::new(Schedule::default()),
        idle: AtomicUsize::new(0),
    });
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..core.config.webhook_connections {
        let worker = Worker {
            core: Arc::clone(&core),
            queue: Arc::clone(&queue),
            account,
            connection: None,
            batch: Batch::default(),
            plans: Vec::new(),
            body: Vec::new(),
            false_body: Vec::new(),
            first: Vec::new(),
        };
        workers.spawn(worker.run());
    }
    tokio::select! {
        () = pump(&core, account, &queue) => {}
        () = stop.cancelled() => {}
    }
    workers.shutdown().await;
}

/// Collects due statuses and forms POSTs, about every millisecond while there is something to do.
async fn pump(core: &Core, account: usize, queue: &Queue) {
    let mut ready: VecDeque<(Due, u64)> = VecDeque::new();
    let mut dice = Dice::new(core.config.seed, &[0x9057, account as u64]);
    let mut wanted = 0;
    loop {
        let now_ms = core.clock.now_ns() / 1_000_000;
        let hurried = core.hurried();
        let (plan, posts, idle) = {
            let mut state = core.state.lock();
            let horizon = if hurried { u64::MAX } else { now_ms };
            state.schedules[account].take(horizon, |at_ms, due| ready.push_back((due, at_ms.min(now_ms))));
            let plan = Arc::clone(&state.plans[state.plans.len() - 1]);
            let posts = state.targets[account].is_some() || is_twilio(core, account);
            (plan, posts, state.schedules[account].waiting() == 0)
        };
        let single = is_twilio(core, account);
        while posts && !ready.is_empty() {
            if wanted == 0 {
                wanted = if single { 1 } else { dice.between(plan.batch.map(u32::from)) as usize };
            }
            let waited = ready.front().map_or(0, |(_, since)| now_ms.saturating_sub(*since));
            if ready.len() < wanted && !hurried && waited < u64::from(plan.flush_ms) {
                break;
            }
            let size = wanted.min(ready.len());
            // Planned is when the last one needed was due, or when the first had waited long enough for company.
            let last = ready.get(size - 1).map_or(now_ms, |(_, at_ms)| *at_ms);
            let planned_ms = if ready.len() < wanted && !hurried {
                ready.front().map_or(now_ms, |(_, at_ms)| at_ms + u64::from(plan.flush_ms)).max(last)
            } else {
                last
            };
            queue.put(Job {
                items: ready.drain(..size).map(|(due, _)| due).collect(),
                planned_ns: if hurried { core.clock.now_ns() } else { planned_ms.min(now_ms) * 1_000_000 },
                connection_free: false,
                tries: 0,
                seed: dice.next(),
                since: Instant::now(),
            });
            wanted = 0;
        }
        let mut again = Vec::new();
        let waiting = {
            let mut retries = queue.retries.lock();
            retries.take(now_ms, |_, job| again.push(job));
            retries.waiting()
        };
        again.into_iter().for_each(|job| queue.put(job));
        let nothing = idle && ready.is_empty() && waiting == 0;
        tokio::time::sleep(Duration::from_millis(if nothing { 4 } else { 1 })).await;
    }
}

fn is_twilio(core: &Core, account: usize) -> bool {
    matches!(core.accounts[account].kind, AccountKind::Twilio(..))
}

struct Worker {
    core: Arc<Core>,
    queue: Arc<Queue>,
    account: usize,
    connection: Option<(String, Connection)>,
    batch: Batch,
    plans: Vec<Arc<Plan>>,
    body: Vec<u8>,
    false_body: Vec<u8>,
    /// Statuses of timed lines that were never posted before.
    first: Vec<Due>,
}

/// A POST ready to go.
struct Prepared {
    authority: String,
    request: Vec<u8>,
    /// The false POST that goes first.
    forged: Option<Vec<u8>>,
    /// What Twilio's URL fragment asks.
    overrides: Option<Overrides>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(job) = self.queue.take().await {
            let prepared = self.prepare(&job);
            let overrides = prepared.as_ref().ok().and_then(|p| p.overrides);
            if job.tries == 0 && job.connection_free {
                let now_ns = self.core.clock.now_ns();
                self.core.stats.own_lag.note_us(now_ns.saturating_sub(job.planned_ns) / 1_000);
            }
            let status = match prepared {
                Ok(prepared) => self.post(&prepared).await,
                Err(error) => Err(error),
            };
            self.settle(job, status, overrides);
        }
    }

    /// Copies what the POST speaks of out of the books and renders it.
    fn prepare(&mut self, job: &Job) -> io::Result<Prepared> {
        self.batch.clear();
        let (target, url) = {
            let mut state = self.core.state.lock();
            for item in &job.items {
                let entry = *state.ledger.entry(item.entry);
                if entry.tried & item.status.bit() == 0 && self.core.lines[usize::from(entry.line)].timed {
                    self.first.push(*item);
                }
                state.ledger.tried(item.entry, item.status);
                let entry = state.ledger.entry(item.entry);
                let correlation = state.ledger.correlation(entry);
                self.batch.push(item.entry, item.status, entry, correlation);
            }
            if self.plans.len() != state.plans.len() {
                self.plans.clone_from(&state.plans);
            }
            let first = job.items.first().map(|item| state.ledger.entry(item.entry).url);
            let url = state.urls[usize::from(first.unwrap_or(0))].clone();
            (state.targets[self.account].clone(), url)
        };
        let mut dice = Dice::new(job.seed, &[1]);
        let latest = Arc::clone(&self.plans[self.plans.len() - 1]);
        let stranger = dice.hit(latest.unknown);
        let forged = job.tries == 0 && dice.hit(latest.forged);
        if stranger && job.tries == 0 {
            Stats::add(&self.core.stats.unknown, 1);
        }
        let core = Arc::clone(&self.core);
        match &core.accounts[self.account].kind {
            AccountKind::Meta(account, _, signer) => {
                let target = target.ok_or(io::ErrorKind::NotConnected)?;
                let address = split_url(&target)?;
                self.batch.group();
                let place = (self.account, account);
                self.body.clear();
                let extras = Extras { stranger, forged: false };
                meta_body(&mut self.body, &core, place, &self.batch, &self.plans, &mut dice, extras);
                let signature = signer.sign(&self.body);
                let request = meta_request(&address, &signature, &self.body);
                let forged = forged.then(|| {
                    self.false_body.clear();
                    let extras = Extras { stranger: false, forged: true };
                    let plans = &self.plans;
                    meta_body(&mut self.false_body, &core, place, &self.batch, plans, &mut dice, extras);
                    // The signature of other contents: right in form, wrong for this body.
                    meta_request(&address, &signature, &self.false_body)
                });
                Ok(Prepared { authority: address.authority, request, forged, overrides: None })
            }
            AccountKind::Twilio(account, _, signer) => {
                let place = (self.account, account);
                let plan = &latest;
                let callback = |extras| twilio_callback(&core, place, &self.batch, &url, plan, extras);
                let real = callback(Extras { stranger: false, forged: false });
                let address = callback_address(&real, target)?;
                let sign = |of: &Callback| {
                    let params: Vec<(&str, &str)> = of.params.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    signer.sign(&of.url, &params)
                };
                let signature = sign(&real);
                let mut request = Vec::with_capacity(1024);
                if stranger && job.tries == 0 {
                    let other = callback(Extras { stranger: true, forged: false });
                    // Its answer is of no interest, so that it may travel in front on the same connection.
                    let other_address = callback_address(&other, Some(address.authority.clone()))?;
                    self.false_body = twilio_request(&other_address, &other, &sign(&other), job.seed ^ 1);
                } else {
                    self.false_body.clear();
                }
                request.extend(twilio_request(&address, &real, &signature, job.seed));
                let forged = if forged {
                    let other = callback(Extras { stranger: false, forged: true });
                    Some(twilio_request(&address, &other, &signature, job.seed ^ 2))
                } else {
                    None
                };
                Ok(Prepared {
                    authority: address.authority,
                    request,
                    forged,
                    overrides: Some(overrides(&real.fragment)),
                })
            }
        }
    }

    /// Makes the POST, after the false one and the stranger's if there are any. Returns the HTTP status.
    async fn post(&mut self, prepared: &Prepared) -> io::Result<u16> {
        let read = prepared.overrides.map_or(META_READ, |o| Duration::from_millis(u64::from(o.read_ms)));
        if let Some(forged) = &prepared.forged {
            let answered = self.exchange(&prepared.authority, forged, read).await;
            Stats::add(&self.core.stats.forged, 1);
            if matches!(answered, Ok(200..300)) {
                Stats::add(&self.core.stats.forged_accepted, 1);
            }
        }
        if prepared.overrides.is_some() && !self.false_body.is_empty() {
            let stranger = std::mem::take(&mut self.false_body);
            let _ = self.exchange(&prepared.authority, &stranger, read).await;
        }
        if !self.first.is_empty() {
            let at_ns = self.core.clock.now_ns();
            let post = |due: Due| FirstPost { entry: due.entry, status: due.status, at_ns };
            self.core.stats.first_posts(self.first.drain(..).map(post));
        }
        let began = Instant::now();
        let status = self.exchange(&prepared.authority, &prepared.request, read).await?;
        self.core.stats.answered(began.elapsed(), status);
        Ok(status)
    }

    async fn exchange(&mut self, authority: &str, request: &[u8], read: Duration) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some((to, connection)) if to == authority && connection.usable() => connection,
            _ => Connection::open(authority, CONNECT).await?,
        };
        let (status, _) = tokio::time::timeout(read, connection.exchange(request))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.connection = Some((authority.to_owned(), connection));
        Ok(status)
    }

    /// Books the acknowledgement, or plans the next try, or gives up where the provider would.
    fn settle(&self, job: Job, status: io::Result<u16>, overrides: Option<Overrides>) {
        let stats = &self.core.stats;
        let number = job.items.len() as u64;
        // Meta takes nothing but 200; Twilio documents 200 and 204.
        let acked = matches!((&status, overrides), (Ok(200), _) | (Ok(204), Some(_)));
        if acked {
            let mut state = self.core.state.lock();
            for item in &job.items {
                state.ledger.acked(item.entry, item.status);
            }
            state.outstanding -= number;
            drop(state);
            let now_ns = self.core.clock.now_ns();
            stats.planned_to_acked.note_us(now_ns.saturating_sub(job.planned_ns) / 1_000);
            Stats::add(&stats.posts_acked, 1);
            Stats::add(&stats.statuses_acked, number);
            return;
        }
        Stats::add(&stats.posts_refused, 1);
        *stats.refusals.lock().entry(*status.as_ref().unwrap_or(&0)).or_default() += 1;
        let plan = {
            let state = self.core.state.lock();
            Arc::clone(&state.plans[state.plans.len() - 1])
        };
        let longest = if self.core.hurried() { 200 } else { u64::from(plan.retry_ms_max) };
        if let Some(asked) = overrides {
            let covered = match &status {
                Ok(400..500) => asked.on_4xx,
                Ok(_) => asked.on_5xx,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => asked.on_read,
                Err(_) => asked.on_connect,
            };
            let late = job.since.elapsed() >= Duration::from_millis(u64::from(asked.total_ms));
            if !covered || late || job.tries >= u32::from(asked.retries) {
                self.core.state.lock().outstanding -= number;
                Stats::add(&stats.statuses_given_up, number);
                return;
            }
        }
        let pause = RETRY_MS.saturating_mul(1 << job.tries.min(16));
        // Twilio's few retries are spread over its 15 seconds; Meta's go on for days.
        let pause = if overrides.is_some() { (pause * 4).min(5_000) } else { pause.min(longest) };
        let at = self.core.clock.now_ns() / 1_000_000 + pause.max(1);
        let job = Job { tries: job.tries + 1, ..job };
        self.queue.retries.lock().put(at, job);
    }
}

fn callback_address(callback: &Callback, target: Option<String>) -> io::Result<Address> {
    // With a target of our own only the path of the public URL matters for the way.
    let plain = match callback.url.strip_prefix("https://") {
        Some(rest) if target.is_some() => format!("http://{rest}"),
        _ => callback.url.clone(),
    };
    let address = split_url(&plain)?;
    Ok(Address { authority: target.unwrap_or(address.authority), target: address.target })
}

fn meta_request(address: &Address, signature: &str, body: &[u8]) -> Vec<u8> {
    let headers = format!(
        "user-agent: facebookexternalua\r\naccept: */*\r\ncontent-type: application/json\r\nx-hub-signature-256: {signature}\r\n"
    );
    render("POST", address, &headers, body)
}

fn twilio_request(address: &Address, callback: &Callback, signature: &str, token: u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(512);
    callback.write_form(&mut body);
    let headers = format!(
        "user-agent: TwilioProxy/1.1\r\naccept: */*\r\ncontent-type: application/x-www-form-urlencoded; charset=UTF-8\r\nx-twilio-signature: {signature}\r\ni-twilio-idempotency-token: {token:016x}\r\n"
    );
    render("POST", address, &headers, &body)
}
