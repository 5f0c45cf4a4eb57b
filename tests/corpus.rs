//! Replays what fuzzing was begun with, and what it found.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

/// Replays one target's corpus; gives how many inputs there were.
fn replay(name: &str, target: fn(&[u8])) -> usize {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let inputs = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    inputs.map(|path| target(&std::fs::read(path).unwrap())).count()
}

#[test]
fn artifacts() {
    assert!(replay("artifact", targets::artifact) >= 10);
}

#[test]
fn tables() {
    assert!(replay("tables", targets::tables) >= 5);
}

#[test]
fn configs() {
    assert!(replay("config", targets::config) >= 5);
}

#[test]
fn requests() {
    assert!(replay("requests", targets::requests) >= 10);
}
