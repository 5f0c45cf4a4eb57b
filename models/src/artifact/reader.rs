//! Opens a version: checks every byte that nobody checked before, and maps it.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;
use serde::de::DeserializeOwned;

use super::array::Element;
use super::manifest::{FORMAT_VERSION, FileEntry, Manifest};
use super::stamp::Stamp;
use super::{Array, ArtifactError};

/// A version whose every file has the published size and checksum.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    manifest: Manifest,
    checksum: String,
    maps: BTreeMap<String, Mapped>,
}

/// One array file.
#[derive(Debug)]
struct Mapped {
    map: Arc<Mmap>,
    /// As it was when it was opened.
    metadata: Metadata,
    /// Whether its bytes, and what they say, were found sound before.
    is_checked: bool,
}

/// Whether what was found sound before is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Only what has changed since, as far as the file system knows.
    Changed,
    /// All of it.
    All,
}

impl Reader {
    /// Opens the version in `folder` and holds its files against their checksums.
    ///
    /// # Errors
    /// If a file is missing, truncated, changed, or of a later format.
    pub fn open(folder: &Path, check: Check) -> Result<Self, ArtifactError> {
        let (manifest, checksum) = read_manifest(folder)?;
        let stamp = match check {
            Check::Changed => Stamp::read(folder, &checksum),
            Check::All => {
                Stamp::remove(folder);
                Stamp::default()
            }
        };
        let mut maps = BTreeMap::new();
        for (name, entry) in &manifest.files {
            let path = folder.join(format!("{name}.bin"));
            maps.insert(name.clone(), map(&path, entry, |metadata| stamp.vouches_for(name, metadata))?);
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

    /// Says that all of it was found sound, what its sections hold included, so that it need not be read again.
    pub(crate) fn vouch(&self) {
        let files = self.maps.iter().map(|(name, mapped)| (name, &mapped.metadata));
        Stamp::read(&self.folder, &self.checksum).write(&self.folder, files, SystemTime::now());
    }

    /// Bytes of all files.
    #[cfg(target_os = "linux")]
    pub(super) fn bytes(&self) -> u64 {
        self.manifest.files.values().map(|file| file.bytes).sum()
    }

    /// All files.
    #[cfg(target_os = "linux")]
    pub(super) fn maps(&self) -> impl Iterator<Item = &Mmap> {
        self.maps.values().map(|mapped| &*mapped.map)
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
        let Mapped { map, is_checked, .. } = self.maps.get(name).ok_or_else(missing)?;
        Ok(Section { values: self.manifest.sections.get(name), path, file, map, is_checked: *is_checked })
    }
}

/// One section of a [`Reader`].
#[derive(Debug)]
pub struct Section<'a> {
    path: PathBuf,
    file: &'a FileEntry,
    map: &'a Arc<Mmap>,
    is_checked: bool,
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

    /// The same of what takes a look at every element: not asked again of a file that was found sound before.
    ///
    /// # Errors
    /// If it does not hold.
    pub fn ensure_all(&self, holds: impl FnOnce() -> bool, what: &str) -> Result<(), ArtifactError> {
        self.ensure(self.is_checked || holds(), what)
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

fn map(path: &Path, entry: &FileEntry, vouched: impl Fn(&Metadata) -> bool) -> Result<Mapped, ArtifactError> {
    let file = File::open(path).map_err(|e| ArtifactError::io(path, e))?;
    let metadata = file.metadata().map_err(|e| ArtifactError::io(path, e))?;
    let actual = metadata.len();
    if actual != entry.bytes {
        return Err(ArtifactError::Size { path: path.to_owned(), expected: entry.bytes, actual });
    }
    // SAFETY: a published version is never written to (`Writer` renames it into place whole, `delete`
    // unlinks it, which leaves mappings intact). Only a foreign program that truncates the file in place
    // could invalidate the mapping; that is outside of what the registry promises, and documented there.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ArtifactError::io(path, e))?;
    let is_checked = vouched(&metadata);
    if !is_checked {
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(&map);
        if hasher.finalize().to_hex().as_str() != entry.blake3 {
            return Err(ArtifactError::Checksum(path.to_owned()));
        }
    }
    Ok(Mapped { map: Arc::new(map), metadata, is_checked })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Registry, VersionId, fixture};
    use std::time::Duration;

    /// A registry with one version of one array, and the file of that array.
    fn published() -> (tempfile::TempDir, Registry, VersionId, PathBuf) {
        let (root, registry, id) = fixture::published(|to| {
            to.section::<ArtifactError>("numbers", &(), |s| s.array("n", &[1u32, 2, 3])).unwrap();
        });
        let file = registry.folder().join(id.as_str()).join("numbers.bin");
        (root, registry, id, file)
    }

    fn vouch(reader: &Reader, later: Duration) {
        let files = reader.maps.iter().map(|(name, mapped)| (name, &mapped.metadata));
        Stamp::read(&reader.folder, &reader.checksum).write(&reader.folder, files, SystemTime::now() + later);
    }

    #[test]
    fn what_was_found_sound_is_not_read_again() {
        let (_root, registry, id, file) = published();
        let open = |check| registry.open(&id, check);
        // Damaged before anybody looked, and vouched for all the same: only who reads it sees.
        let reader = open(Check::Changed).unwrap();
        std::fs::write(&file, [9; 12]).unwrap();
        let damaged = Reader {
            maps: [("numbers".to_owned(), map_unread(&file))].into(),
            folder: reader.folder.clone(),
            manifest: reader.manifest.clone(),
            checksum: reader.checksum.clone(),
        };
        vouch(&damaged, Duration::from_mins(1));
        let section = |reader: &Reader| reader.section("numbers").unwrap().array::<u32>("n").unwrap().to_vec();
        assert_eq!(section(&open(Check::Changed).unwrap()), [0x0909_0909; 3]);
        assert!(matches!(open(Check::All), Err(ArtifactError::Checksum(path)) if path == file));
        assert!(matches!(open(Check::Changed), Err(ArtifactError::Checksum(_))), "what was vouched for is taken back");
    }

    #[test]
    fn what_changed_is_read_again() {
        let (_root, registry, id, file) = published();
        let open = || registry.open(&id, Check::Changed);
        let reader = open().unwrap();
        vouch(&reader, Duration::ZERO);
        assert!(!open().unwrap().maps["numbers"].is_checked, "it has only just been written");
        vouch(&reader, Duration::from_mins(1));
        assert!(open().unwrap().maps["numbers"].is_checked);
        // The same bytes, in another file.
        let copy = file.with_extension("copy");
        std::fs::copy(&file, &copy).unwrap();
        std::fs::rename(&copy, &file).unwrap();
        assert!(!open().unwrap().maps["numbers"].is_checked);
        vouch(&open().unwrap(), Duration::from_mins(1));
        assert!(open().unwrap().maps["numbers"].is_checked);
        std::fs::write(file.with_file_name("checked.json"), "{}").unwrap();
        assert!(!open().unwrap().maps["numbers"].is_checked, "no stamp of ours");
    }

    fn map_unread(file: &Path) -> Mapped {
        let entry = FileEntry { bytes: 12, blake3: String::new(), arrays: BTreeMap::new() };
        map(file, &entry, |_| true).unwrap()
    }
}
