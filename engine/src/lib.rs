//! The engine of Sluice: everything that decides and does. It opens no listening socket and knows nothing of gRPC.
//!
//! The folders are the data flow: `domain` (pure rules), `control` (the façade that requests come in by), `campaign`, `line`
//! and `sender` (the way out), `provider` (in a provider's words), `webhook` and `status` (the way back), `store` (the ledger),
//! and the `supervisor` over the actors.

#[cfg(test)]
mod actor_tests;
mod campaign;
pub mod config;
pub mod control;
pub mod domain;
mod drift;
mod engine;
mod engine_series;
pub mod faults;
mod line;
pub mod metrics;
pub mod nodes;
pub mod provider;
mod sender;
mod status;
pub mod store;
mod supervisor;
pub mod trace;
pub mod webhook;

pub use config::EngineConfig;
pub use engine::{Engine, Stopped};
