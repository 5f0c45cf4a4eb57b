//! What was checked once need not be read again: a stamp beside a version's files says which of them were found sound,
//! by what the file system knows of them.
//!
//! The largest versions take minutes to read, and a server should not take these at every start. Whoever changes or
//! copies a file changes when the file system last saw it change, which no program can set; then the file is read
//! again. What a disk loses of itself only a full check finds.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::manifest::FORMAT_VERSION;

/// File of the stamp, in the version's folder.
const STAMP: &str = "checked.json";
/// How long a file must have been as it is: file systems tell moments apart by some milliseconds only, so that a
/// change right after a check could look like none.
const SETTLED: Duration = Duration::from_secs(2);

/// Which files of a version were found sound.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// Checksum of the version's manifest.
    manifest: String,
    /// The program that checked: another one may check more.
    program: String,
    files: BTreeMap<String, FileState>,
}

/// What the file system knows of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct FileState {
    inode: u64,
    bytes: u64,
    /// When its bytes, name, owner or times last changed: unix seconds, nanoseconds.
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { inode: metadata.ino(), bytes: metadata.len(), changed }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(changed + SETTLED).is_some_and(|from| from <= now)
    }
}

impl Stamp {
    /// Of a version whose manifest has this checksum; says nothing where there is none, or it is another's.
    pub(super) fn read(folder: &Path, manifest: &str) -> Self {
        let nothing = Self { manifest: manifest.to_owned(), program: program(), files: BTreeMap::new() };
        let found = fs::read(folder.join(STAMP)).ok().and_then(|json| serde_json::from_slice::<Self>(&json).ok());
        found.filter(|stamp| stamp.manifest == nothing.manifest && stamp.program == nothing.program).unwrap_or(nothing)
    }

    /// Takes back what was said of a version. Where that fails, what was said still holds for files that have not
    /// changed since.
    pub(super) fn remove(folder: &Path) {
        let _ = fs::remove_file(folder.join(STAMP));
    }

    /// Whether a file is the one that was found sound.
    pub(super) fn vouches_for(&self, name: &str, metadata: &Metadata) -> bool {
        self.files.get(name) == Some(&FileState::of(metadata))
    }

    /// Says that these files, as they were when they were opened, are sound. What has just changed is left out. A
    /// folder that can't be written to has no stamp, and is read in full every time.
    pub(super) fn write<'a>(
        mut self,
        folder: &Path,
        files: impl Iterator<Item = (&'a String, &'a Metadata)>,
        now: SystemTime,
    ) {
        let states = files.map(|(name, metadata)| (name.clone(), FileState::of(metadata)));
        let sound: BTreeMap<String, FileState> = states.filter(|(_, state)| state.is_settled(now)).collect();
        if sound == self.files || sound.is_empty() {
            return;
        }
        self.files = sound;
        let aside = folder.join(format!(".{STAMP}.{}", std::process::id()));
        let written = serde_json::to_vec(&self).map_err(std::io::Error::from).and_then(|json| fs::write(&aside, json));
        if written.and_then(|()| fs::rename(&aside, folder.join(STAMP))).is_err() {
            let _ = fs::remove_file(&aside);
        }
    }
}

fn program() -> String {
    format!("{} reading {FORMAT_VERSION}", env!("CARGO_PKG_VERSION"))
}
