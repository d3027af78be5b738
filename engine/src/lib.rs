//! The engine of Sluice: everything that decides and does. It opens no listening socket and knows nothing of gRPC.
//!
//! The folders are the data flow: `domain` (pure rules), `provider` (outbound), `webhook` (inbound), `store` (the ledger),
//! and the actors that move messages between them.

pub mod control;
pub mod domain;
pub mod provider;
pub mod store;
pub mod webhook;
