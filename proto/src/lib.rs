//! The gRPC contract of Sluice: generated types, clients and servers, and the descriptor that reflection and tests read.
//!
//! The contract itself, documented field by field, is `proto/sluice/v1/*.proto`. What holds for every call (tenant, ids, repeats,
//! pages, filters, errors) stands at the top of `common.proto`. What nodes say to each other is apart, in `proto/sluice/internal`.

/// Version 1 of the contract.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("sluice.v1");
}

mod watch;

/// What the nodes of one installation say to each other; never on the public port.
pub mod internal {
    /// Version 1: what nodes that differ by one version both understand.
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("sluice.internal.v1");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of the contract and what it imports, for reflection and for tests that walk every RPC.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sluice_descriptor.bin"));

/// The same of [`internal`], apart so that reflection does not show it.
pub const INTERNAL_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sluice_internal_descriptor.bin"));
