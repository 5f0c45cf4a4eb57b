//! What is fuzzed: whatever comes in from outside. Each takes any bytes, and must neither panic nor hang. The tests
//! replay what is in `fuzz/corpus` (`tests/corpus.rs`).
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod artifact;
mod requests;

use std::path::{Path, PathBuf};

pub use artifact::artifact;
use kindred::config::Config;
use kindred_models::artifact::FORMAT_VERSION;
use kindred_training::tables::table_files;
pub use requests::requests;

/// A registry with a version as it was frozen, of the format that is written now.
fn frozen() -> PathBuf {
    let asset = format!("tests/assets/format-{FORMAT_VERSION}/two-tastes");
    let mut assets = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join(&asset));
    assets.find(|dir| dir.is_dir()).unwrap()
}

/// The table readers: the first byte chooses the format, the rest is the file.
///
/// Run it with `-timeout=300`: a Parquet footer of 100 bytes may claim lists of booleans that take no bytes, through
/// which the library (60.1) counts for seconds.
pub fn tables(data: &[u8]) {
    let Some((format, bytes)) = data.split_first() else { return };
    let name = ["t.csv", "t.ndjson", "t.parquet"][*format as usize % 3];
    in_file(name, bytes, |path| {
        let Ok(files) = table_files(path) else { return };
        for file in files {
            let Ok(columns) = file.columns() else { continue };
            let mut rows = 0;
            // Rows that can't be read are given as such.
            let _ = file.read(&columns, &mut |(_, cells)| {
                rows += 1;
                for cell in cells.into_iter().flatten() {
                    let _ = (cell.text(), cell.list(), cell.flag());
                }
            });
            assert!(rows as usize <= bytes.len().max(1 << 20), "rows out of nothing");
        }
    });
}

/// The config: read, and each part of it checked.
pub fn config(data: &[u8]) {
    in_file("kindred.toml", data, |path| {
        let Ok(config) = Config::load(Some(path)) else { return };
        let _ = config.policy();
        let _ = config.state.validate();
        let _ = config.registry();
        let _ = config.training().validate();
    });
}

fn in_file(name: &str, bytes: &[u8], look: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    look(&path);
}
