//! What a server kept since, as a file that training reads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ProductPatch, Profile};

/// Name of the file; the events stand beside it.
pub const KEPT_FILE: &str = "state.json";
/// Name of the events table beside it.
pub const KEPT_EVENTS: &str = "events.parquet";

/// What a server kept but the events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The number of the last change that it, and the events beside it, hold.
    pub seq: i64,
    /// The key that ids are hashed with, in hex.
    pub hash_key: String,
    /// Hashes of the ids of members who must be forgotten.
    pub erased: BTreeSet<String>,
    /// What was said of members, by id.
    pub members: BTreeMap<String, Profile>,
    /// What was said of products, by id.
    pub products: BTreeMap<String, ProductPatch>,
    /// Events in the table beside it; `None` in exports that do not say.
    #[serde(default)]
    pub events: Option<u64>,
}

impl Kept {
    /// Whether a member must be forgotten, by id.
    pub fn is_erased(&self, key: &[u8; 32], member_id: &str) -> bool {
        !self.erased.is_empty() && self.erased.contains(&hash(key, member_id))
    }

    /// The key, if it is one.
    pub fn key(&self) -> Option<[u8; 32]> {
        blake3::Hash::from_hex(&self.hash_key).ok().map(|hash| *hash.as_bytes())
    }
}

/// All that remains of a member who must be forgotten: BLAKE3 of the id, keyed, in hex.
pub fn hash(key: &[u8; 32], member_id: &str) -> String {
    blake3::keyed_hash(key, member_id.as_bytes()).to_hex().to_string()
}

/// What tells a store from others: the hash of the key of its hashes, in hex. Says nothing of the key.
pub fn store_name(key: &[u8; 32]) -> String {
    blake3::hash(key).to_hex()[..16].to_owned()
}
