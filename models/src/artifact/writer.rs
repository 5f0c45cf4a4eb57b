//! Writes a version aside, and puts it into the registry whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::array::Element;
use super::files::{sync_folder, write_synced};
use super::manifest::{ArrayEntry, FileEntry, Manifest};
use super::registry::WRITING;
use super::{ArtifactError, Registry, VersionId};

/// Arrays start at multiples of a cache line.
const ALIGNMENT: usize = 64;

/// A version in the making, in a folder of its own beside the finished ones. Dropped without
/// [`publish`](Writer::publish), it leaves nothing behind.
#[derive(Debug)]
pub struct Writer {
    registry: Registry,
    /// Held until the writer is dropped.
    _lock: File,
    folder: PathBuf,
    files: BTreeMap<String, FileEntry>,
    sections: BTreeMap<String, serde_json::Value>,
    documents: BTreeMap<String, String>,
    published: bool,
}

impl Writer {
    /// Opens a folder aside in `registry`.
    ///
    /// # Errors
    /// If the folder can't be made, or another process is writing into the same registry.
    pub fn create(registry: &Registry) -> Result<Self, ArtifactError> {
        fs::create_dir_all(registry.folder()).map_err(|e| ArtifactError::io(registry.folder(), e))?;
        if let Some(root) = registry.folder().parent().filter(|root| !root.as_os_str().is_empty()) {
            sync_folder(root)?;
        }
        let lock = registry.lock()?;
        let folder = registry.folder().join(WRITING);
        fs::create_dir(&folder).map_err(|e| ArtifactError::io(&folder, e))?;
        Ok(Self {
            _lock: lock,
            registry: registry.clone(),
            folder,
            files: BTreeMap::new(),
            sections: BTreeMap::new(),
            documents: BTreeMap::new(),
            published: false,
        })
    }

    /// Writes one section: its arrays into the file `NAME.bin`, and its small values into the manifest.
    ///
    /// # Errors
    /// If the file can't be written, for example because the disk is full.
    pub fn section<E: From<ArtifactError>>(
        &mut self,
        name: &str,
        values: &impl Serialize,
        write: impl FnOnce(&mut SectionWriter) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut section = SectionWriter::create(self.folder.join(format!("{name}.bin")))?;
        write(&mut section)?;
        self.files.insert(name.to_owned(), section.finish()?);
        let values = serde_json::to_value(values).map_err(|e| malformed(&self.folder, &e))?;
        self.sections.insert(name.to_owned(), values);
        Ok(())
    }

    /// Adds a file for people, such as a report; `name` as it will be in the version's folder.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn document(&mut self, name: &str, bytes: &[u8]) -> Result<(), ArtifactError> {
        write_synced(&self.folder.join(name), bytes)?;
        self.documents.insert(name.to_owned(), blake3::hash(bytes).to_hex().to_string());
        Ok(())
    }

    /// Checksums, syncs and renames the version into the registry, and makes it the current one last.
    /// `trained_at` is in unix seconds. Fills `files` and `sections` of the manifest.
    ///
    /// # Errors
    /// If anything can't be written. Nothing is published then, unless it was the pointer that could not be moved: the
    /// version is there, and not current.
    pub fn publish(mut self, mut manifest: Manifest, trained_at: i64) -> Result<VersionId, ArtifactError> {
        manifest.files = std::mem::take(&mut self.files);
        manifest.sections.append(&mut self.sections);
        manifest.documents.append(&mut self.documents);
        let json = serde_json::to_vec_pretty(&manifest).map_err(|e| malformed(&self.folder, &e))?;
        let checksum = blake3::hash(&json).to_hex();
        write_synced(&self.folder.join("manifest.json"), &json)?;
        write_synced(&self.folder.join("manifest.blake3"), checksum.as_bytes())?;
        sync_folder(&self.folder)?;
        let id = VersionId::new(trained_at, &checksum);
        let target = self.registry.folder().join(id.as_str());
        if target.exists() {
            // Trained twice within a second with the same result: what is there is this version.
            fs::remove_dir_all(&self.folder).map_err(|e| ArtifactError::io(&self.folder, e))?;
        } else {
            fs::rename(&self.folder, &target).map_err(|e| ArtifactError::io(&target, e))?;
        }
        self.published = true;
        sync_folder(self.registry.folder())?;
        self.registry.activate(&id)?;
        Ok(id)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.published {
            // Nothing more can be done here; `create` clears what may be left.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// One array file in the making.
#[derive(Debug)]
pub struct SectionWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    written: usize,
    arrays: BTreeMap<String, ArrayEntry>,
}

impl SectionWriter {
    fn create(path: PathBuf) -> Result<Self, ArtifactError> {
        let file = File::create(&path).map_err(|e| ArtifactError::io(&path, e))?;
        Ok(Self {
            path,
            file: BufWriter::with_capacity(1 << 20, file),
            hasher: blake3::Hasher::new(),
            written: 0,
            arrays: BTreeMap::new(),
        })
    }

    /// Appends an array.
    ///
    /// # Errors
    /// If the file can't be written.
    #[allow(private_bounds)]
    pub fn array<T: Element>(&mut self, name: &str, values: &[T]) -> Result<(), ArtifactError> {
        let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.append(&[0; ALIGNMENT][..padding])?;
        let entry = ArrayEntry { dtype: T::NAME.to_owned(), offset: self.written as u64, len: values.len() as u64 };
        self.arrays.insert(name.to_owned(), entry);
        self.append(bytemuck::cast_slice(values))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.file.write_all(bytes).map_err(|e| ArtifactError::io(&self.path, e))?;
        self.hasher.update(bytes);
        self.written += bytes.len();
        Ok(())
    }

    fn finish(mut self) -> Result<FileEntry, ArtifactError> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(|e| ArtifactError::io(&self.path, e))?;
        Ok(FileEntry {
            bytes: self.written as u64,
            blake3: self.hasher.finalize().to_hex().to_string(),
            arrays: self.arrays,
        })
    }
}

fn malformed(path: &Path, error: &serde_json::Error) -> ArtifactError {
    ArtifactError::Malformed { path: path.to_owned(), what: error.to_string() }
}
