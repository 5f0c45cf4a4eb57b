//! The gRPC API, generated from `proto/kindred/v1`.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Version 1 of the API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("kindred.v1");
}

/// Descriptors of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kindred.bin"));

/// `Service/Method` of every call of the API.
pub fn methods() -> BTreeSet<String> {
    // It is our own: `build.rs` encoded it.
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let services = set.file.iter().filter(|file| file.package() == "kindred.v1").flat_map(|file| &file.service);
    services.flat_map(|s| s.method.iter().map(move |method| format!("{}/{}", s.name(), method.name()))).collect()
}
