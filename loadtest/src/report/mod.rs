//! Reports: what a run came to, for people and for programs.
//!
//! ```text
//! figures  the list of everything that can be measured
//! bound    `<= 5`
//! verdict  evidence → conditions → verdict
//! data     the report as JSON
//! machine  what it ran on
//! plot     series → SVG
//! page     the report as one self-contained HTML page
//! compare  two reports: what changed beyond noise
//! table    a report in the terminal
//! ```

pub mod bound;
pub mod compare;
pub mod data;
pub mod figures;
pub mod machine;
pub mod page;
pub mod plot;
pub mod table;
pub mod verdict;

#[cfg(test)]
mod verdict_tests;

pub use data::{RunReport, Verdict};
