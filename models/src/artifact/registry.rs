//! The registry: one folder per model name, one folder per version in it, and a `current` pointer.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime};

use super::files::{sync_folder, write_synced};
use super::manifest::Manifest;
use super::reader::read_manifest;
use super::{ArtifactError, Check, Reader};

/// Folder of a version in the making.
pub(super) const WRITING: &str = ".writing";
/// Prefix of a folder that is being deleted.
const DELETING: &str = ".deleting-";
/// How a version id writes its moment.
const MOMENT: &str = "%Y%m%dT%H%M%SZ";

/// The versions of one model.
#[derive(Clone, Debug)]
pub struct Registry {
    folder: PathBuf,
}

/// Names a version: the moment it was trained, in UTC, and the head of its checksum, so that equal
/// versions are seen to be equal. `20261121T193139Z-1f2e3d4c`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(String);

impl VersionId {
    pub(super) fn new(trained_at: i64, checksum: &str) -> Self {
        let moment = DateTime::from_timestamp(trained_at, 0).unwrap_or_default();
        Self(format!("{}-{}", moment.format(MOMENT), &checksum[..8]))
    }

    /// Takes a version id as a user gave it.
    ///
    /// # Errors
    /// If it can't be a folder name.
    pub fn parse(id: &str) -> Result<Self, ArtifactError> {
        check_name(id)?;
        Ok(Self(id.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the version was trained, in unix seconds; `None` for a folder that was renamed by hand.
    pub fn trained_at(&self) -> Option<i64> {
        let (moment, _) = self.0.split_once('-')?;
        Some(NaiveDateTime::parse_from_str(moment, MOMENT).ok()?.and_utc().timestamp())
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Registry {
    /// The registry of model `name` under `root`. Nothing is made on disk.
    ///
    /// # Errors
    /// If the name can't be a folder name.
    pub fn new(root: &Path, name: &str) -> Result<Self, ArtifactError> {
        check_name(name)?;
        Ok(Self { folder: root.join(name) })
    }

    /// The model's folder, which holds its versions.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All versions, oldest first.
    ///
    /// # Errors
    /// If there is no registry, or its folder can't be read.
    pub fn versions(&self) -> Result<Vec<VersionId>, ArtifactError> {
        if !self.folder.is_dir() {
            return Err(ArtifactError::NoCurrentVersion(self.folder.clone()));
        }
        let entries = fs::read_dir(&self.folder).map_err(|e| ArtifactError::io(&self.folder, e))?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| ArtifactError::io(&self.folder, e))?;
            if let Some(name) = entry.file_name().to_str()
                && !name.starts_with('.')
                && entry.path().is_dir()
            {
                ids.push(VersionId(name.to_owned()));
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The active version.
    ///
    /// # Errors
    /// If none is active.
    pub fn current(&self) -> Result<VersionId, ArtifactError> {
        let path = self.folder.join("current");
        match fs::read_to_string(&path) {
            Ok(id) => VersionId::parse(id.trim()).map_err(|_| ArtifactError::Malformed {
                path,
                what: "names no version; activate one with `kindred models activate`".to_owned(),
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(ArtifactError::NoCurrentVersion(self.folder.clone()))
            }
            Err(e) => Err(ArtifactError::io(&path, e)),
        }
    }

    /// Makes a version the active one, by renaming a new pointer over the old one; also while another process writes a
    /// version.
    ///
    /// # Errors
    /// If there is no such version, or the pointer can't be written.
    pub fn activate(&self, id: &VersionId) -> Result<(), ArtifactError> {
        // Where there is nothing at all, there is no folder for a lock either.
        self.existing(id)?;
        let _lock = self.lock_pointer()?;
        self.existing(id)?;
        let (aside, pointer) = (self.folder.join(".current"), self.folder.join("current"));
        write_synced(&aside, id.as_str().as_bytes())?;
        fs::rename(&aside, &pointer).map_err(|e| ArtifactError::io(&pointer, e))?;
        sync_folder(&self.folder)
    }

    /// Deletes a version that is not active: moved aside first, so that a crash leaves no half version.
    ///
    /// # Errors
    /// If there is no such version, it is active, or the folder can't be removed.
    pub fn delete(&self, id: &VersionId) -> Result<(), ArtifactError> {
        self.existing(id)?;
        let _locks = (self.lock()?, self.lock_pointer()?);
        let folder = self.existing(id)?;
        if self.current().is_ok_and(|current| current == *id) {
            return Err(ArtifactError::DeleteCurrent(id.clone()));
        }
        let aside = self.folder.join(format!("{DELETING}{id}"));
        fs::rename(&folder, &aside).map_err(|e| ArtifactError::io(&folder, e))?;
        sync_folder(&self.folder)?;
        fs::remove_dir_all(&aside).map_err(|e| ArtifactError::io(&aside, e))
    }

    /// What a version holds and the checksum of its manifest, without reading or checking its arrays.
    ///
    /// # Errors
    /// If there is no such version or its manifest is damaged.
    pub fn manifest(&self, id: &VersionId) -> Result<(Manifest, String), ArtifactError> {
        read_manifest(&self.existing(id)?)
    }

    /// Opens a version.
    ///
    /// # Errors
    /// As [`Reader::open`], or if there is no such version.
    pub fn open(&self, id: &VersionId, check: Check) -> Result<Reader, ArtifactError> {
        Reader::open(&self.existing(id)?, check)
    }

    /// Makes this process the one that changes the registry, until the lock is dropped; the operating
    /// system lets go of it if the process dies. Clears away what a process that died has left.
    pub(super) fn lock(&self) -> Result<File, ArtifactError> {
        let path = self.folder.join(".lock");
        let file = File::create(&path).map_err(|e| ArtifactError::io(&path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ArtifactError::Busy(path)),
            Err(fs::TryLockError::Error(e)) => return Err(ArtifactError::io(&path, e)),
        }
        for entry in fs::read_dir(&self.folder).map_err(|e| ArtifactError::io(&self.folder, e))?.flatten() {
            let name = entry.file_name();
            if name == WRITING || name.to_string_lossy().starts_with(DELETING) {
                fs::remove_dir_all(entry.path()).map_err(|e| ArtifactError::io(&entry.path(), e))?;
            }
        }
        Ok(file)
    }

    /// Waits until no other process moves the pointer, and lets none until the lock is dropped.
    fn lock_pointer(&self) -> Result<File, ArtifactError> {
        let path = self.folder.join(".current.lock");
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|e| ArtifactError::io(&path, e))
    }

    fn existing(&self, id: &VersionId) -> Result<PathBuf, ArtifactError> {
        let folder = self.folder.join(id.as_str());
        if folder.is_dir() {
            Ok(folder)
        } else {
            Err(ArtifactError::NoSuchVersion { registry: self.folder.clone(), id: id.0.clone() })
        }
    }
}

fn check_name(name: &str) -> Result<(), ArtifactError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=128).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(ArtifactError::BadName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use crate::artifact::{ArtifactError, Writer, fixture};

    #[test]
    fn the_pointer_moves_while_a_version_is_written() {
        let (_root, registry, id) = fixture::published(|_| {});
        let _writing = Writer::create(&registry).unwrap();
        assert!(matches!(Writer::create(&registry), Err(ArtifactError::Busy(_))));
        assert!(matches!(registry.delete(&id), Err(ArtifactError::Busy(_))), "its writer may be about to activate");
        registry.activate(&id).unwrap();
        assert_eq!(registry.current().unwrap(), id);
    }
}
