//! The server `sluice`: gRPC front, webhook endpoint, metrics page, configuration, command line.
//!
//! Everything that decides lives in `sluice_engine`; this crate maps between the world and the engine.

pub mod assembly;
pub mod auth;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod grpc;
pub mod listener;
pub mod metrics;
pub mod migrate;
pub mod nodes;
pub mod ops;
pub mod schema;
pub mod serve;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod webhooks;
