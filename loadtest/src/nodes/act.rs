//! One disturbance, from its beginning to its end.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::plan::{Disturbance, Fate, What};
use super::scene::Scene;
use crate::harness::link::Way;

/// How long a node may take to come back, while others are disturbed, too.
const BACK: Duration = Duration::from_secs(150);
/// Longest time for a graceful end.
const TERMINATE: Duration = Duration::from_secs(90);
/// Between two tries of a start.
const AGAIN: Duration = Duration::from_millis(300);
/// Batches of a node are held back for so long before something happens to it.
const GATHER: Duration = Duration::from_millis(700);
/// What was held back lands within this.
const LANDS: Duration = Duration::from_millis(300);

/// Lets it happen; returns when it is over.
///
/// # Errors
/// When a node does not come back, or does not end.
pub async fn happen(scene: &Scene, it: &Disturbance) -> anyhow::Result<()> {
    let node = it.node;
    match it.what {
        What::Kill(down) => {
            die(scene, node).await?;
            sleep(down).await;
            come_back(scene, node).await
        }
        What::Freeze(time) => {
            let frozen = freeze(scene, node).await?;
            sleep(time).await;
            frozen.thaw()
        }
        What::Drain(away) => {
            let server = {
                let mut cluster = scene.cluster.lock().await;
                cluster.let_go(node)?
            };
            server.terminate(TERMINATE).await?;
            sleep(away).await;
            come_back(scene, node).await
        }
        What::Ledger(down) => {
            let mut ledger = scene.ledger.lock().await;
            if ledger.kill().await? {
                sleep(down).await;
                ledger.start_again().await?;
            }
            Ok(())
        }
        What::Cut(way, time) => {
            let link = scene.ledger_links.get(node).context("no such node")?;
            link.set(way);
            sleep(time).await;
            link.set(Way::Open);
            Ok(())
        }
        What::Apart(other, way, time) => {
            let lines = [(node, other), (other, node)];
            let set = |way| {
                for (to, from) in lines {
                    scene.node_links.get(to).into_iter().for_each(|link| link.set_of(from, way));
                }
            };
            set(way);
            sleep(time).await;
            set(Way::Open);
            Ok(())
        }
        What::Late(fate, time) => late(scene, node, fate, time).await,
        What::Wall(seconds) => scene.set_wall(node, seconds),
    }
}

/// Batches that land after another node has read what they write to.
async fn late(scene: &Scene, node: usize, fate: Fate, time: Duration) -> anyhow::Result<()> {
    let link = scene.ledger_links.get(node).context("no such node")?;
    link.set(Way::Held);
    sleep(GATHER).await;
    match fate {
        Fate::Killed => {
            die(scene, node).await?;
            sleep(time).await;
            link.set(Way::Open);
            sleep(LANDS).await;
            come_back(scene, node).await
        }
        Fate::Frozen | Fate::Woken => {
            let frozen = freeze(scene, node).await?;
            sleep(time).await;
            if fate == Fate::Woken {
                frozen.thaw()?;
                sleep(LANDS).await;
                link.set(Way::Open);
                return Ok(());
            }
            link.set(Way::Open);
            sleep(LANDS).await;
            frozen.thaw()
        }
    }
}

async fn die(scene: &Scene, node: usize) -> anyhow::Result<()> {
    scene.cluster.lock().await.kill(node).await
}

/// Starts a node until it stays: the ledger may be away just now.
async fn come_back(scene: &Scene, node: usize) -> anyhow::Result<()> {
    let end = Instant::now() + BACK;
    loop {
        let mut cluster = scene.cluster.lock().await;
        let started = cluster.start_node(node).await;
        scene.learn(&cluster);
        drop(cluster);
        match started {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(error.context(format!("node-{node} does not come back"))),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

/// A node that stands still; it goes on with this value's end at the latest.
struct Frozen(Pid);

async fn freeze(scene: &Scene, node: usize) -> anyhow::Result<Frozen> {
    let cluster = scene.cluster.lock().await;
    let process = cluster.processes().get(node).copied().flatten().context("the node is down")?;
    let frozen = Frozen(Pid::from_raw(process));
    kill(frozen.0, Signal::SIGSTOP)?;
    Ok(frozen)
}

impl Frozen {
    fn thaw(self) -> anyhow::Result<()> {
        Ok(kill(self.0, Signal::SIGCONT)?)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // It can only be gone.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}
