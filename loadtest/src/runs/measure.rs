//! What figures are measured with.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use tokio::time::Instant;

use crate::harness::process::ServerProcess;
use crate::harness::world::{Simulator, World};

/// CPU and time between two points.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Usage {
    /// Wall time, seconds.
    pub wall_s: f64,
    /// CPU time of the server, seconds.
    pub server_s: f64,
    /// CPU time of the simulator, seconds (with the customer when it is in the same process).
    pub sim_s: f64,
}

/// A running measurement.
#[derive(Debug)]
pub struct Stopwatch {
    at: Instant,
    server_ns: u64,
    sim_ns: u64,
}

impl Stopwatch {
    /// Starts.
    ///
    /// # Errors
    /// When the simulator does not answer or the server is down.
    pub async fn start(world: &World) -> anyhow::Result<Self> {
        Ok(Self { server_ns: world.server()?.cpu_ns(), sim_ns: sim_cpu(&world.sim).await?, at: Instant::now() })
    }

    /// Stops.
    ///
    /// # Errors
    /// When the simulator does not answer or the server is down.
    pub async fn stop(&self, world: &World) -> anyhow::Result<Usage> {
        let wall_s = self.at.elapsed().as_secs_f64();
        let server: &ServerProcess = world.server()?;
        Ok(Usage {
            wall_s,
            server_s: server.cpu_ns().saturating_sub(self.server_ns) as f64 / 1e9,
            sim_s: sim_cpu(&world.sim).await?.saturating_sub(self.sim_ns) as f64 / 1e9,
        })
    }
}

/// CPU time that the simulator has used, in nanoseconds.
///
/// # Errors
/// When it does not answer.
pub async fn sim_cpu(sim: &Simulator) -> anyhow::Result<u64> {
    Ok(sim.read("/cpu").await?["cpu_ns"].as_u64().unwrap_or(0))
}

/// Waits until so many were accepted and nothing is outstanding.
///
/// # Errors
/// When that takes longer than `deadline`; says how far it got.
pub async fn all_through(sim: &Simulator, accepted: u64, deadline: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + deadline;
    loop {
        let seen = sim.read("/accepted").await?;
        let (got, open) = (seen["accepted"].as_u64().unwrap_or(0), seen["outstanding"].as_u64().unwrap_or(0));
        if got >= accepted && open == 0 {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("{got} of {accepted} accepted, {open} statuses outstanding after {deadline:?}");
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

/// The middle value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
