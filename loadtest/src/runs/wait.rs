//! Waiting for the simulator, with deadlines.

use std::time::Duration;

use anyhow::bail;
use serde::Deserialize;
use tokio::time::Instant;

use crate::harness::simulator::Simulator;
use crate::witness::fetch::control_json;

/// Longest time for one call of the control API.
const CALL: Duration = Duration::from_secs(30);

/// What the simulator says at no cost.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Progress {
    /// Accepted messages.
    pub accepted: u64,
    /// Statuses neither acknowledged nor given up.
    pub outstanding: u64,
}

/// Asks the control API how far it is.
///
/// # Errors
/// When it does not answer.
pub async fn progress(control: &str) -> anyhow::Result<Progress> {
    control_json("GET", &format!("{control}/accepted"), CALL).await
}

/// Waits until so many were accepted and nothing is outstanding.
///
/// # Errors
/// When that takes longer than `deadline`; says how far it got.
pub async fn all_through(control: &str, accepted: u64, deadline: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + deadline;
    loop {
        let seen = progress(control).await?;
        if seen.accepted >= accepted && seen.outstanding == 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!(
                "{} of {accepted} accepted, {} statuses outstanding after {deadline:?}",
                seen.accepted,
                seen.outstanding
            );
        }
        // Asked seldom: the simulator shares the machine with what is measured.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until more than `accepted` were accepted.
///
/// # Errors
/// When that takes longer than `deadline`.
pub async fn more_than(sim: &Simulator, accepted: u64, deadline: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + deadline;
    while sim.accepted().await? <= accepted {
        if Instant::now() >= end {
            bail!("nothing more was accepted within {deadline:?}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
