//! The façade over a real ledger: one file for each part of it.

mod campaigns;
mod imports;
mod lifecycle;
mod lines;
mod messages;
mod tenants;
mod watching;
