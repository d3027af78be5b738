//! The gRPC contract of Sluice.

/// Version 1 of the contract.
#[allow(missing_docs)]
pub mod v1 {
    tonic::include_proto!("sluice.v1");
}

/// The file descriptor set, for reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sluice_descriptor.bin"));
