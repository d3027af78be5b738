//! The gRPC front on a real socket, over a real ledger, with a runtime that does nothing.

pub(crate) mod bench;
mod calls;
mod imports;
mod isolation;
mod transport;
