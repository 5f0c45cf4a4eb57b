//! Maps by row whose copies share what did not change.

use foldhash::fast::FixedState;
use rpds::HashTrieMapSync;

/// By row of a table: rows are ours, so that nobody can choose them to collide, and are asked for by the hundred per feed.
pub(crate) type RowMap<V> = HashTrieMapSync<u32, V, FixedState>;
