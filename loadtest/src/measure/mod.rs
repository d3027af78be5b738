//! Measuring: what a run reads while it goes on, and what it makes of it.
//!
//! ```text
//! histogram  latencies
//! process    /proc: CPU, memory, context switches and bytes written of a process, the machine's idle and stolen time
//! exposition the server's own page of metrics
//! series     values over time
//! sampler    reads all of these at a fixed beat, and knows how late it was itself
//! open_loop  arrivals by schedule: latency counts from the scheduled moment
//! arrivals   the simulator's ledger: pacing error, start to first byte, intent to accept, fair shares
//! own_rate   the same ledger: whether campaigns kept to their own rates
//! visible    probes: from a status' POST to its count in the watch stream
//! limit      who was the limit of a run: the server, or those who measured it
//! ```
//!
//! What is computed is computed by plain functions on plain data; only `sampler`, `open_loop` and `visible` touch sockets.

pub mod arrivals;
pub mod exposition;
pub mod histogram;
pub mod limit;
pub mod open_loop;
pub mod own_rate;
pub mod process;
pub mod sampler;
pub mod series;
pub mod visible;
