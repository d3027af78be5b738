//! Compiles the contract with protox, so that no `protoc` is needed.
use protox::prost::Message as _;

/// The contract with callers.
const FILES: [&str; 7] = [
    "sluice/v1/admin.proto",
    "sluice/v1/campaigns.proto",
    "sluice/v1/common.proto",
    "sluice/v1/imports.proto",
    "sluice/v1/lines.proto",
    "sluice/v1/messages.proto",
    "sluice/v1/templates.proto",
];

/// What nodes say to each other; apart, so that reflection does not show it.
const INTERNAL: [&str; 1] = ["sluice/internal/v1/nodes.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A folder is watched by its time stamp alone; each file is named so that an edit is seen.
    println!("cargo:rerun-if-changed=sluice/v1");
    println!("cargo:rerun-if-changed=sluice/internal/v1");
    for file in FILES.iter().chain(&INTERNAL) {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("sluice_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".sluice.v1").compile_fds(descriptors)?;
    let internal = protox::compile(INTERNAL, ["."])?;
    std::fs::write(out.join("sluice_internal_descriptor.bin"), internal.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(internal)?;
    Ok(())
}
