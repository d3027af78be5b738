//! The check: a server's export against the simulator's ledger.
//!
//! ```text
//! fetch    reads both sides: gRPC and the control API
//! records  what they say, as plain data
//! compare  the pure comparison, one message at a time
//! report   the result for people and for programs
//! ```

pub mod compare;
pub mod fetch;
pub mod records;
pub mod report;

#[cfg(test)]
mod compare_tests;
