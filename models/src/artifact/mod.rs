//! A version on disk: the only module that knows bytes. `docs/artifact-format.md` draws the layout.
//!
//! A version is a folder of array files beside one manifest. It is written aside, synced, checksummed and
//! renamed into place ([`Writer`]), never changed afterwards, and mapped into memory to be read
//! ([`Reader`]), after every byte has been held against its checksum, once on each machine.

mod array;
mod files;
#[cfg(test)]
pub(crate) mod fixture;
mod manifest;
mod populate;
mod reader;
mod registry;
mod stamp;
mod writer;

use std::path::PathBuf;

pub use array::Array;
pub use manifest::{ArrayEntry, FORMAT_VERSION, FileEntry, Manifest};
pub use reader::{Check, Reader, Section};
pub use registry::{Registry, VersionId};
pub use writer::{SectionWriter, Writer};

/// Why a version, or the registry that holds it, can't be read or written. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file of a version, or what it lies in, is not there.
    #[error("{}: missing; restore the version from a backup or train again", .0.display())]
    Missing(PathBuf),
    /// A file is shorter or longer than the manifest says.
    #[error("{path}: {actual} bytes where the manifest says {expected}; the file is truncated or was changed", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes by the manifest.
        expected: u64,
        /// Bytes found.
        actual: u64,
    },
    /// A file's bytes do not have their checksum.
    #[error("{}: its bytes do not have the checksum that was published; the file is damaged or was changed", .0.display())]
    Checksum(PathBuf),
    /// The version was written by a later Kindred.
    #[error("{path}: format version {found}, this kindred reads up to {FORMAT_VERSION}; use a newer kindred", path = path.display())]
    FutureFormat {
        /// The manifest.
        path: PathBuf,
        /// Its format version.
        found: u32,
    },
    /// The bytes are those that were published, and still make no sense.
    #[error("{path}: {what}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The registry has no such version.
    #[error("{registry}: no version '{id}'; `kindred models list` shows what is there", registry = registry.display())]
    NoSuchVersion {
        /// The registry folder of the model.
        registry: PathBuf,
        /// The version asked for.
        id: String,
    },
    /// The registry has no current version.
    #[error("{}: no version is active; train one, or activate one with `kindred models activate`", .0.display())]
    NoCurrentVersion(PathBuf),
    /// Another process writes into the registry.
    #[error("{}: another kindred process is writing a version into this registry; wait for it", .0.display())]
    Busy(PathBuf),
    /// The version that is active can't be deleted.
    #[error("version {0} is active; activate another one before deleting it")]
    DeleteCurrent(VersionId),
    /// A name or version id with characters that a folder name should not have.
    #[error("'{0}' is not a valid name: use 1 to 128 letters, digits, '-', '_' and '.', not starting with '.'")]
    BadName(String),
}

impl ArtifactError {
    /// What the operating system said of a file or folder.
    pub fn io(path: &std::path::Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing(path.to_owned())
        } else {
            Self::Io { path: path.to_owned(), source }
        }
    }
}
