//! The gRPC API, generated from `proto/kindred/v1`.

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

/// Version 1 of the API.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, rustdoc::all)]
pub mod v1 {
    tonic::include_proto!("kindred.v1");
}

/// The package of the API.
const PACKAGE: &str = "kindred.v1";

/// Descriptors of the API, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kindred.bin"));

/// `Service/Method` of every call of the API.
pub fn methods() -> BTreeSet<String> {
    methods_where(|_| true)
}

/// Paths of those of many requests each.
pub(crate) fn streamed_methods() -> BTreeSet<String> {
    methods_where(|method| method.client_streaming()).iter().map(|method| format!("/{PACKAGE}.{method}")).collect()
}

fn methods_where(is_meant: impl Fn(&MethodDescriptorProto) -> bool + Copy) -> BTreeSet<String> {
    // It is our own: `build.rs` encoded it.
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let services = set.file.iter().filter(|file| file.package() == PACKAGE).flat_map(|file| &file.service);
    let named = services.flat_map(|service| {
        let meant = service.method.iter().filter(move |method| is_meant(method));
        meant.map(move |method| format!("{}/{}", service.name(), method.name()))
    });
    named.collect()
}
