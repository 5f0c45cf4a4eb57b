//! The artifact reader: a version with some of its bytes replaced, and its checksums mended, as a broken writer would
//! leave it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kindred_models::Model;
use kindred_models::artifact::{Registry, VersionId};
use serde_json::Value;

/// A version as it was frozen: its id, its files by name.
static VERSION: LazyLock<(String, BTreeMap<String, Vec<u8>>)> = LazyLock::new(|| {
    let folder = super::frozen();
    let id = std::fs::read_to_string(folder.join("current")).unwrap().trim().to_owned();
    let entries = std::fs::read_dir(folder.join(&id)).unwrap().map(Result::unwrap);
    let files = entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()));
    (id, files.collect())
});

/// The first byte chooses the file. Of the manifest all is replaced; of others, 4 bytes say from where on.
pub fn artifact(data: &[u8]) {
    let (id, files) = &*VERSION;
    let Some((file, rest)) = data.split_first() else { return };
    let mut files = files.clone();
    let names: Vec<String> = files.keys().filter(|name| name.ends_with(".bin")).cloned().collect();
    let mut manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    match names.get(*file as usize % (names.len() + 1)) {
        Some(name) => {
            let Some((at, bytes)) = rest.split_first_chunk::<4>() else { return };
            let old = files.get_mut(name).unwrap();
            let at = u32::from_le_bytes(*at) as usize % (old.len() + 1);
            let end = old.len().min(at + bytes.len());
            old[at..end].copy_from_slice(&bytes[..end - at]);
            manifest["files"][name.trim_end_matches(".bin")]["blake3"] = blake3::hash(old).to_hex().as_str().into();
            files.insert("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap());
        }
        None => drop(files.insert("manifest.json".to_owned(), rest.to_vec())),
    }
    let checksum = blake3::hash(&files["manifest.json"]).to_hex().to_string();
    files.insert("manifest.blake3".to_owned(), checksum.into_bytes());
    load(id, &files);
}

fn load(id: &str, files: &BTreeMap<String, Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(folder.path(), "default").unwrap();
    let version = registry.folder().join(id);
    std::fs::create_dir_all(&version).unwrap();
    for (name, bytes) in files {
        std::fs::write(version.join(name), bytes).unwrap();
    }
    // It may well be read: not every byte is one that could be told to be wrong.
    let _ = Model::load(&registry, &VersionId::parse(id).unwrap());
}
