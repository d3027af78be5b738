//! The command line: everything that `sluice` does against a running server, over the same contract as any other client.

pub mod csv_chunks;
pub mod csv_columns;
pub mod csv_record;
pub mod csv_source;
