//! `sluice migrate`: the whole ledger from one store into the other, while no server runs.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use sluice_engine::domain::time::Clock;
use sluice_engine::store::embedded::{EmbeddedConfig, EmbeddedStore, LEDGER_FILE};
use sluice_engine::store::moving::{self, Movable, Move, MoveError, Moved, Progress};
use sluice_engine::store::scylla::ScyllaStore;
use tokio::time::Instant;

use crate::config::{Config, StoreKind};

/// How often a line about a long campaign is printed.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Differences that are printed one by one.
const DIFFERENCES_MAX: usize = 100;

/// How it ended.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is in the target, which is the ledger now.
    Moved(Moved),
    /// The move was given up.
    GivenUp,
    /// It may not be done as things stand; says what to do. Nothing was changed.
    Refused(String),
    /// Ctrl-C.
    Stopped(String),
}

/// Moves the ledger into the store of this kind; with `give_up`, gives such a move up instead. `stop`: end as soon as what is under way is
/// written.
///
/// # Errors
/// Why a ledger cannot be opened, read or written, or where both differ in the end.
pub async fn run(config: &Config, into: StoreKind, give_up: bool, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    if config.store.scylla.config.contact_points.is_empty() {
        bail!("[store.scylla] contact_points is empty: name the cluster that the ledger is moved to or from");
    }
    let from = if into == StoreKind::Scylla { StoreKind::Embedded } else { StoreKind::Scylla };
    let (source_name, target_name) = (name(config, from), name(config, into));
    let source = open(config, from, true).await?;
    if give_up {
        let given_up = moving::abandon(source.as_ref(), &source_name).await;
        source.close().await?;
        return ended(given_up.map(|()| Outcome::GivenUp));
    }
    let target = match open(config, into, false).await {
        Ok(target) => target,
        Err(error) => {
            // So that its lock, or its lease, is let go of.
            source.close().await?;
            return Err(error);
        }
    };
    eprintln!("moving {source_name} to {target_name}");
    let order = Move {
        source: source.as_ref(),
        target: target.as_ref(),
        names: (&source_name, &target_name),
        now: Clock::system().wall(),
    };
    let mut shown = Shown { last: Instant::now() };
    let mut told = |progress: Progress<'_>| {
        shown.show(progress);
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let moved = moving::move_ledger(order, &mut told).await;
    source.close().await?;
    target.close().await?;
    ended(moved.map(Outcome::Moved))
}

fn ended(result: Result<Outcome, MoveError>) -> anyhow::Result<Outcome> {
    match result {
        Ok(outcome) => Ok(outcome),
        Err(MoveError::Refused(told)) => Ok(Outcome::Refused(told)),
        Err(error @ MoveError::Stopped) => Ok(Outcome::Stopped(error.to_string())),
        Err(MoveError::Differ(differences)) => {
            let mut out = std::io::stderr().lock();
            for difference in differences.iter().take(DIFFERENCES_MAX) {
                // A closed standard error must not hide the outcome.
                let _ = writeln!(out, "differs: {difference}");
            }
            bail!(
                "the two ledgers differ in {} places; nothing was changed over: keep both, report this, and go on with the old one after `sluice migrate --abandon`",
                differences.len()
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// What people call it.
fn name(config: &Config, kind: StoreKind) -> String {
    match kind {
        StoreKind::Embedded => config.data_dir.join(LEDGER_FILE).display().to_string(),
        StoreKind::Scylla => format!("keyspace {}", config.store.scylla.config.keyspace),
    }
}

async fn open(config: &Config, kind: StoreKind, is_source: bool) -> anyhow::Result<Arc<dyn Movable>> {
    let clock = Clock::system();
    if kind == StoreKind::Scylla {
        let store = ScyllaStore::open_to_move(config.store.scylla.config.clone(), clock).await;
        return Ok(store.with_context(|| name(config, kind))?);
    }
    let file = config.data_dir.join(LEDGER_FILE);
    if is_source && !file.exists() {
        bail!("there is no ledger at {}: name its folder in data_dir", file.display());
    }
    Ok(EmbeddedStore::open_to_move(EmbeddedConfig::new(&config.data_dir), clock)?)
}

struct Shown {
    last: Instant,
}

impl Shown {
    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Records => eprintln!("lines, pools, templates: there"),
            Progress::Events => eprintln!("events without a message: there; now both sides are read and counted again"),
            Progress::Copied { campaign, messages } => {
                let is_whole = messages >= campaign.recipients;
                if is_whole || self.last.elapsed() >= TOLD_EVERY {
                    self.last = Instant::now();
                    let (tenant, id, all) = (&campaign.tenant, &campaign.id, campaign.recipients);
                    eprintln!("campaign {tenant}/{id}: {messages} of {all} messages");
                }
            }
            Progress::Compared { campaign } => eprintln!("campaign {}/{}: the same", campaign.tenant, campaign.id),
        }
    }
}

/// What was moved, for people.
#[must_use]
pub fn told(moved: &Moved, into: StoreKind) -> String {
    let Moved { campaigns, messages, lines, templates, requests, events, .. } = moved;
    let kind = if into == StoreKind::Scylla { "scylla" } else { "embedded" };
    format!(
        "moved and compared: {campaigns} campaigns, {messages} messages, {lines} lines, {templates} templates, {requests} request ids, {events} events.\n\
         The ledger is the new one from now on: set [store] kind = \"{kind}\" and start the server. The old one is kept, closed to servers."
    )
}
