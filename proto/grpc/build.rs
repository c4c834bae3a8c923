//! Compiles the contracts with protox, so that no `protoc` is needed.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const CONTRACTS: [&str; 6] = [
    "conveyor/v1/metadata.proto",
    "conveyor/v1/produce.proto",
    "conveyor/v1/fetch.proto",
    "conveyor/v1/admin.proto",
    "conveyor/v1/group.proto",
    "conveyor/v1/transaction.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "..";
    println!("cargo:rerun-if-changed={root}/conveyor");
    let descriptors = protox::compile(CONTRACTS, [root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("conveyor_descriptor.bin");
    fs::write(&out, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Batches stay slices of the frame they came in.
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
