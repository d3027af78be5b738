//! What tests, runs and the demo need to have a server and a simulator side by side.
//!
//! ```text
//! process  the `sluice` binary as a child: start, kill -9, SIGTERM, its CPU time and memory
//! config   the configuration files of both sides
//! cql      a real CQL server for the ledger
//! people   generated recipients and CSV files of them
//! client   a customer: lines, templates, campaigns, waiting
//! imports  what the customer imports
//! simulator the simulated providers, in this process or one of their own
//! world    all of it together in a directory of its own
//! balancer what stands before several servers where providers call
//! cluster  several servers on one ledger
//! link     a line between two programs that can be cut, made mute, and held back
//! wall     wall clocks of single programs
//! ```
//!
//! Everything that waits has a deadline; everything that was started ends with its handle.

pub mod balancer;
pub mod client;
pub mod cluster;
pub mod config;
pub mod cql;
pub mod imports;
pub mod link;
pub mod people;
pub mod process;
pub mod simulator;
pub mod wall;
pub mod world;

pub use client::Customer;
pub use process::ServerProcess;
pub use world::World;
