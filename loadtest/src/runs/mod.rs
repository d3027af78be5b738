//! Runs with a report: the kill story and the table of figures.

mod ceilings;
pub mod figures;
pub mod floor;
pub mod kill;
pub mod measure;
