//! Which files a table is made of, and their rows.

use std::path::{Path, PathBuf};

use super::{Cell, TableError, csv, ndjson, parquet};

/// One file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFile {
    /// Where it is.
    pub path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv(u8),
    Ndjson,
}

/// One row: its number in its file, from 1, and its cells in the order that was asked for; `None` for a row
/// that can't be read.
pub type Row<'a> = (u64, Option<&'a [Cell<'a>]>);

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Some(Self::Parquet),
            "csv" => Some(Self::Csv(b',')),
            "tsv" => Some(Self::Csv(b'\t')),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// The files of a table: one file, the tables in a folder, or what a glob finds; in order of their names.
///
/// # Errors
/// If there is none, one whose format is not known, or, in a folder, a folder.
pub fn table_files(path: &Path) -> Result<Vec<TableFile>, TableError> {
    let shown = path.display().to_string();
    let mut paths = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|e| TableError::io(path, e))? {
            let entry = entry.map_err(|e| TableError::io(path, e))?.path();
            if is_left_out(&entry) {
                continue;
            }
            if entry.is_dir() {
                return Err(TableError::Subfolder(entry));
            }
            paths.push(entry);
        }
    } else if path.is_file() {
        paths.push(path.to_owned());
    } else {
        let found = glob::glob(&shown).map_err(|_| TableError::NotFound(shown.clone()))?;
        paths.extend(found.flatten().filter(|p| p.is_file()));
    }
    paths.sort();
    if paths.is_empty() {
        return Err(TableError::NotFound(shown));
    }
    paths
        .into_iter()
        .map(|path| match Format::of(&path) {
            Some(format) => Ok(TableFile { path, format }),
            None => Err(TableError::UnknownFormat(path)),
        })
        .collect()
}

/// Whether something in a folder of tables is none, such as `_SUCCESS` or `README.md`. What might be a table that can't be
/// read is not: half of the tables say something else than all of them.
fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_none = name.starts_with(['_', '.']) || name.to_ascii_lowercase().ends_with(".md");
    is_none && Format::of(path).is_none()
}

impl TableFile {
    /// Names of the file's columns.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn columns(&self) -> Result<Vec<String>, TableError> {
        match self.format {
            Format::Parquet => parquet::columns(&self.path),
            Format::Csv(delimiter) => csv::columns(&self.path, delimiter),
            Format::Ndjson => ndjson::columns(&self.path),
        }
    }

    /// Names of those whose type holds nothing that can be read, such as pictures or records.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn unreadable(&self) -> Result<Vec<String>, TableError> {
        match self.format {
            Format::Parquet => parquet::unreadable(&self.path),
            Format::Csv(_) | Format::Ndjson => Ok(Vec::new()),
        }
    }

    /// Hands every row to `on_row`, with the cells of the named columns.
    ///
    /// # Errors
    /// If the file can't be read as a whole; a single row that can't be read is handed over as such.
    pub fn read(&self, columns: &[String], on_row: &mut dyn FnMut(Row<'_>)) -> Result<(), TableError> {
        match self.format {
            Format::Parquet => parquet::read(&self.path, columns, on_row),
            Format::Csv(delimiter) => csv::read(&self.path, delimiter, columns, on_row),
            Format::Ndjson => ndjson::read(&self.path, columns, on_row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b.csv", "_a.parquet", "_SUCCESS", "README.md", ".hidden.gz"] {
            std::fs::write(at(name), "").unwrap();
        }
        let names = || table_files(folder.path()).map(|files| files.len());
        assert_eq!(names().unwrap(), 2);
        std::fs::write(at("c.csv.gz"), "").unwrap();
        assert!(matches!(names(), Err(TableError::UnknownFormat(path)) if path == at("c.csv.gz")));
        std::fs::remove_file(at("c.csv.gz")).unwrap();
        std::fs::create_dir(at("day=2")).unwrap();
        assert!(matches!(names(), Err(TableError::Subfolder(path)) if path == at("day=2")));
    }
}
