//! Files that survive a power cut.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::ArtifactError;

/// Writes a small file and syncs it.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), ArtifactError> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(|e| ArtifactError::io(path, e))
}

/// Syncs a folder, so that a rename in it survives a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), ArtifactError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| ArtifactError::io(path, e))
}
