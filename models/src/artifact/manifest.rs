//! The manifest: what a version holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The newest layout that this code reads and the one that it writes.
pub const FORMAT_VERSION: u32 = 17;

/// Everything about a version but its arrays. Holds nothing of the run that made it (no clock, no host, no
/// thread count): the same input and parameters give the same bytes. When it was made is in its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Layout of the folder, see [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the program that wrote it.
    pub kindred_version: String,
    /// Moment of the newest event learned from, in unix seconds; 0 where the events have no time.
    pub as_of_time: i64,
    /// The number of the last change of the state store that was learned from; `None` where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_seq: Option<i64>,
    /// Which store that is; `None` with `state_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_store: Option<String>,
    /// Sizes by name: `members`, `products`, `events`, ….
    pub counts: BTreeMap<String, u64>,
    /// Parameters that it was trained with, as the config file has them.
    pub parameters: Value,
    /// Offline metrics by name, measured before the last slice of history was learned too.
    pub metrics: BTreeMap<String, f64>,
    /// Small values of each section: factors, calibration, index choice, ….
    pub sections: BTreeMap<String, Value>,
    /// The array files by name.
    pub files: BTreeMap<String, FileEntry>,
    /// Files for people, such as reports: BLAKE3, in hex, by name.
    #[serde(default)]
    pub documents: BTreeMap<String, String>,
}

/// One array file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the whole file, in hex.
    pub blake3: String,
    /// Where each array stands, by name.
    pub arrays: BTreeMap<String, ArrayEntry>,
}

/// One array of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayEntry {
    /// Element type: `i8`, `u8`, `u16`, `u32`, `u64`, `i64`, `f32`.
    pub dtype: String,
    /// First byte, a multiple of 64.
    pub offset: u64,
    /// Number of elements.
    pub len: u64,
}
