//! The independent witness: a provider simulator with its own books, the check that compares them with a server's,
//! and what tests and the demo need to run both.
//!
//! It shares no code with the engine. It speaks to a server only as a customer and a provider do: through the
//! gRPC contract and through HTTP.

pub mod grpc;
pub mod harness;
pub mod measure;
pub mod nodes;
pub mod report;
pub mod runs;
pub mod scenario;
pub mod sim;
pub mod wire;
pub mod witness;
