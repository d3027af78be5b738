//! The check: a server's export against the simulator's ledger.
//!
//! ```text
//! fetch     reads both sides: gRPC and the control API (server: what the contract says as plain data; watch: the watch stream)
//! records   what they say, as plain data
//! audience  who was imported, and what each is to get
//! compare   the pure comparison, one message at a time (judge: what is wrong with one; doubts: what may be in doubt for good)
//! fold      one campaign while it is compared
//! kinds     what can differ
//! report    the result for people and for programs
//! ```

pub mod audience;
pub mod compare;
pub mod doubts;
pub mod fetch;
pub mod fold;
pub mod judge;
pub mod kinds;
pub mod records;
pub mod report;
pub mod server;
pub mod watch;

#[cfg(test)]
mod compare_tests;
