//! A provider simulator: Meta's Cloud API and Twilio's Messages API on loopback, with books of its own.
//!
//! ```text
//! api      accepts requests, stamps them at the kernel's receive time, answers as the provider would
//! meta,
//! twilio   what is a valid request, what the answers look like
//! digest   what a request asks for, in eight bytes
//! core     faults → ceiling → ledger → planned statuses
//! deliver  collects due statuses into POSTs, signs them (render, sign), posts until acknowledged
//! control  reads the books and turns the knobs, on another port
//! ```
//!
//! It knows nothing of the server it talks to but what a provider knows: requests that come in, webhooks that are answered. It shares
//! no code with it, so that both cannot be wrong in the same way.

pub mod config;
pub mod core;
pub mod date;
pub mod digest;
pub mod faults;
pub mod form;
pub mod ledger;
pub mod meta;
pub mod pairs;
pub mod plan;
pub mod rates;
pub mod records;
pub mod render;
pub mod schedule;
pub mod sign;
pub mod stamp;
pub mod stats;
pub mod text;
pub mod tls;
pub mod twilio;

mod api;
mod control;

mod deliver;
mod handle;

pub use config::SimConfig;
pub use handle::{SimHandle, StartError};
