//! Opens a version: checks every byte, then maps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::de::DeserializeOwned;

use super::array::Element;
use super::manifest::{FORMAT_VERSION, FileEntry, Manifest};
use super::{Array, ArtifactError};

/// A version whose every file has the published size and checksum.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    manifest: Manifest,
    checksum: String,
    maps: BTreeMap<String, Arc<Mmap>>,
}

impl Reader {
    /// Opens the version in `folder` and verifies it.
    ///
    /// # Errors
    /// If a file is missing, truncated, changed, or of a later format.
    pub fn open(folder: &Path) -> Result<Self, ArtifactError> {
        let (manifest, checksum) = read_manifest(folder)?;
        let mut maps = BTreeMap::new();
        for (name, entry) in &manifest.files {
            let path = folder.join(format!("{name}.bin"));
            maps.insert(name.clone(), Arc::new(map_verified(&path, entry)?));
        }
        for (name, expected) in &manifest.documents {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(|e| ArtifactError::io(&path, e))?;
            if blake3::hash(&bytes).to_hex().as_str() != expected {
                return Err(ArtifactError::Checksum(path));
            }
        }
        Ok(Self { folder: folder.to_owned(), manifest, checksum, maps })
    }

    /// What the version holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// BLAKE3 of the manifest, in hex, which vouches for every file through their checksums in it.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// One section's arrays and small values.
    ///
    /// # Errors
    /// If the version has no such section.
    pub fn section(&self, name: &str) -> Result<Section<'_>, ArtifactError> {
        let path = self.folder.join(format!("{name}.bin"));
        let missing = || ArtifactError::Missing(path.clone());
        let file = self.manifest.files.get(name).ok_or_else(missing)?;
        let map = self.maps.get(name).ok_or_else(missing)?;
        Ok(Section { values: self.manifest.sections.get(name), path, file, map })
    }
}

/// One section of a [`Reader`].
#[derive(Debug)]
pub struct Section<'a> {
    path: PathBuf,
    file: &'a FileEntry,
    map: &'a Arc<Mmap>,
    values: Option<&'a serde_json::Value>,
}

impl Section<'_> {
    /// The array `name`.
    ///
    /// # Errors
    /// If it is not there, of another type, or outside of its file.
    #[allow(private_bounds)]
    pub fn array<T: Element>(&self, name: &str) -> Result<Array<T>, ArtifactError> {
        let entry = self.file.arrays.get(name).ok_or_else(|| self.malformed(format!("no array '{name}'")))?;
        if entry.dtype != T::NAME {
            return Err(self.malformed(format!("array '{name}' holds {}, not {}", entry.dtype, T::NAME)));
        }
        window(entry.offset, entry.len, size_of::<T>())
            .and_then(|(start, end)| Array::mapped(self.map.clone(), start, end))
            .ok_or_else(|| self.malformed(format!("array '{name}' lies outside of the file")))
    }

    /// The small values of the section.
    ///
    /// # Errors
    /// If they are not there or of another shape.
    pub fn values<T: DeserializeOwned>(&self) -> Result<T, ArtifactError> {
        let value = self.values.ok_or_else(|| self.malformed("no values in the manifest".to_owned()))?;
        T::deserialize(value).map_err(|e| self.malformed(format!("values in the manifest: {e}")))
    }

    /// Checks a relation between arrays, such as equal lengths.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn ensure(&self, holds: bool, what: &str) -> Result<(), ArtifactError> {
        if holds { Ok(()) } else { Err(self.malformed(what.to_owned())) }
    }

    fn malformed(&self, what: String) -> ArtifactError {
        ArtifactError::Malformed { path: self.path.clone(), what }
    }
}

fn window(offset: u64, len: u64, element_bytes: usize) -> Option<(usize, usize)> {
    let start = usize::try_from(offset).ok()?;
    let bytes = usize::try_from(len).ok()?.checked_mul(element_bytes)?;
    Some((start, start.checked_add(bytes)?))
}

/// Reads the manifest and its checksum, which is held against the bytes before they are parsed in full.
pub(super) fn read_manifest(folder: &Path) -> Result<(Manifest, String), ArtifactError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format_version: u32,
    }
    let path = folder.join("manifest.json");
    let json = std::fs::read(&path).map_err(|e| ArtifactError::io(&path, e))?;
    if let Ok(Format { format_version: found }) = serde_json::from_slice(&json)
        && found > FORMAT_VERSION
    {
        return Err(ArtifactError::FutureFormat { path, found });
    }
    let sum_path = folder.join("manifest.blake3");
    let published = std::fs::read_to_string(&sum_path).map_err(|e| ArtifactError::io(&sum_path, e))?;
    let checksum = blake3::hash(&json).to_hex().to_string();
    if published.trim() != checksum {
        return Err(ArtifactError::Checksum(path));
    }
    let manifest = serde_json::from_slice(&json).map_err(|e| ArtifactError::Malformed { path, what: e.to_string() })?;
    Ok((manifest, checksum))
}

fn map_verified(path: &Path, entry: &FileEntry) -> Result<Mmap, ArtifactError> {
    let file = File::open(path).map_err(|e| ArtifactError::io(path, e))?;
    let actual = file.metadata().map_err(|e| ArtifactError::io(path, e))?.len();
    if actual != entry.bytes {
        return Err(ArtifactError::Size { path: path.to_owned(), expected: entry.bytes, actual });
    }
    // SAFETY: a published version is never written to (`Writer` renames it into place whole, `delete`
    // unlinks it, which leaves mappings intact). Only a foreign program that truncates the file in place
    // could invalidate the mapping; that is outside of what the registry promises, and documented there.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ArtifactError::io(path, e))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_rayon(&map);
    if hasher.finalize().to_hex().as_str() != entry.blake3 {
        return Err(ArtifactError::Checksum(path.to_owned()));
    }
    Ok(map)
}
