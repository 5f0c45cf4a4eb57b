//! Versions for tests.

use std::collections::BTreeMap;

use super::{FORMAT_VERSION, Manifest, Registry, VersionId, Writer};

/// A registry with one version of what is written.
pub(crate) fn published(write: impl FnOnce(&mut Writer)) -> (tempfile::TempDir, Registry, VersionId) {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::new(root.path(), "m").unwrap();
    let mut to = Writer::create(&registry).unwrap();
    write(&mut to);
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        kindred_version: String::new(),
        as_of_time: 0,
        state_seq: None,
        state_store: None,
        counts: BTreeMap::new(),
        parameters: serde_json::Value::Null,
        metrics: BTreeMap::new(),
        sections: BTreeMap::new(),
        files: BTreeMap::new(),
        documents: BTreeMap::new(),
    };
    let id = to.publish(manifest, 0).unwrap();
    (root, registry, id)
}
