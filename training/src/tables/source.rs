//! Which files a table is made of, and their rows.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::{Cell, TableError, csv, ndjson, parquet};

/// What Hive calls the folder of rows that have no value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// One file of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableFile {
    /// Where it is.
    pub path: PathBuf,
    format: Format,
    /// What its folders say of all of its rows, as `store_id=17` does, by column.
    of_folders: Vec<(String, Cell<'static>)>,
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
        paths = found_by(&shown)?;
    }
    paths.sort();
    if paths.is_empty() {
        return Err(TableError::NotFound(shown));
    }
    paths
        .into_iter()
        .map(|path| match Format::of(&path) {
            Some(format) => Ok(TableFile { of_folders: of_folders(&path), path, format }),
            None => Err(TableError::UnknownFormat(path)),
        })
        .collect()
}

/// The files that a glob finds, but for such as are hidden, or in a hidden folder, unless it names these: programs leave them
/// when they break off. A glob with `**` whose last part is for any name finds the files of a folder beside it.
fn found_by(pattern: &str) -> Result<Vec<PathBuf>, TableError> {
    let parts: Vec<Cow<'_, str>> = parts(Path::new(pattern)).collect();
    let named = parts.iter().take_while(|part| !part.contains(['*', '?', '['])).count();
    let is_hidden = |part: &str| part.starts_with(['_', '.']) && part != "..";
    let last_is_hidden = parts.last().is_some_and(|last| is_hidden(last));
    let is_left_out = |path: &Path| {
        let behind: Vec<Cow<'_, str>> = self::parts(path).skip(named).collect();
        let asked_for = usize::from(last_is_hidden);
        behind[..behind.len().saturating_sub(asked_for)].iter().any(|part| is_hidden(part))
    };
    let is_of_any_name = parts.last().is_some_and(|last| last.starts_with('*')) && pattern.contains("**");
    let mut paths = Vec::new();
    for path in glob::glob(pattern).map_err(|_| TableError::NotFound(pattern.to_owned()))? {
        let path = match path {
            Err(e) if is_left_out(e.path()) => continue,
            Err(e) => {
                let path = e.path().to_owned();
                return Err(TableError::io(&path, e.into()));
            }
            Ok(path) => path,
        };
        if is_left_out(&path) || is_of_any_name && path.is_dir() {
            continue;
        }
        if path.is_dir() {
            return Err(TableError::Subfolder(path));
        }
        paths.push(path);
    }
    Ok(paths)
}

/// The parts of a path, but for those that stand for where it begins.
fn parts(path: &Path) -> impl Iterator<Item = Cow<'_, str>> {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir));
    parts.map(|part| part.as_os_str().to_string_lossy())
}

/// Whether something in a folder of tables is none, such as `_SUCCESS` or `README.md`. What might be a table that can't be
/// read is not: half of the tables say something else than all of them.
fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let is_none = name.starts_with(['_', '.']) || name.to_ascii_lowercase().ends_with(".md");
    is_none && Format::of(path).is_none()
}

/// What folders named `column=value` say of the rows within, as Hive and Spark write tables.
fn of_folders(path: &Path) -> Vec<(String, Cell<'static>)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    let folders = folders.filter_map(|folder| folder.as_os_str().to_str()?.split_once('='));
    let said = folders.map(|(column, value)| {
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        let cell = if value == NO_VALUE { Cell::Null } else { Cell::Text(Cow::Owned(value)) };
        (column.to_owned(), cell)
    });
    said.collect()
}

impl TableFile {
    /// Names of the file's columns, and of those that its folders name.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn columns(&self) -> Result<Vec<String>, TableError> {
        let mut columns = match self.format {
            Format::Parquet => parquet::columns(&self.path)?,
            Format::Csv(delimiter) => csv::columns(&self.path, delimiter)?,
            Format::Ndjson => ndjson::columns(&self.path)?,
        };
        for (name, _) in &self.of_folders {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        Ok(columns)
    }

    /// Whether a folder names a column; what the file itself says comes before it.
    pub fn is_of_folder(&self, column: &str) -> bool {
        self.of_folders.iter().any(|(name, _)| name == column)
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
        let of_folder = |name: &String| self.of_folders.iter().rfind(|(column, _)| column == name);
        let of_folders: Vec<Option<&Cell<'_>>> =
            columns.iter().map(|name| of_folder(name).map(|(_, cell)| cell)).collect();
        if of_folders.iter().all(Option::is_none) {
            return self.read_within(columns, on_row);
        }
        self.read_within(columns, &mut |(row, cells)| {
            let mut cells = cells.map(<[Cell<'_>]>::to_vec);
            for (cell, said) in cells.iter_mut().flatten().zip(&of_folders) {
                if let (Cell::Null, Some(said)) = (&cell, said) {
                    *cell = (*said).clone();
                }
            }
            on_row((row, cells.as_deref()));
        })
    }

    /// The same of what stands in the file itself.
    fn read_within(&self, columns: &[String], on_row: &mut dyn FnMut(Row<'_>)) -> Result<(), TableError> {
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
        let found = |glob: &str| table_files(&at(glob)).map(|files| files.len());
        assert!(matches!(found("*"), Err(TableError::Subfolder(path)) if path == at("day=2")));
        for folder in ["day=2/store_id=a%2Fb", "_temporary", ".staging"] {
            std::fs::create_dir_all(at(folder)).unwrap();
            std::fs::write(at(folder).join("c.csv"), "member_id\n1\n").unwrap();
        }
        std::fs::create_dir(at("day=2/old.csv")).unwrap();
        assert_eq!(found("**/*.csv").unwrap(), 2, "what was broken off is no table");
        assert_eq!(
            [found("b*.csv"), found("./_staging/../*.csv"), found("_temporary/*")].map(Result::ok),
            [Some(1), None, Some(1)]
        );
        assert_eq!(
            [found("_t*/*.csv"), found("_a*.parquet"), found("d*/s*/c*")].map(Result::ok),
            [None, Some(1), Some(1)]
        );
        assert!(matches!(found("**/old.csv"), Err(TableError::Subfolder(_))), "its files would be left out");
        std::os::unix::fs::symlink(at("none"), at("e.csv")).unwrap();
        assert!(table_files(&at("*.csv")).unwrap()[1].columns().is_err(), "nothing is left out in silence");
    }

    #[test]
    fn folders_say_what_all_of_their_rows_have() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kind=view/store_id=a%2Fb/city=__HIVE_DEFAULT_PARTITION__/1.csv");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "member_id,kind\n1,\n2,cart\n").unwrap();
        let file = table_files(&folder.path().join("**/*.csv")).unwrap().remove(0);
        let columns = ["member_id", "kind", "store_id", "city"].map(str::to_owned);
        assert_eq!(file.columns().unwrap(), columns);
        let mut rows = Vec::new();
        file.read(&columns, &mut |(_, cells)| {
            rows.push(cells.unwrap().iter().map(|cell| cell.text().unwrap_or_default()).collect::<Vec<_>>());
        })
        .unwrap();
        assert_eq!(rows, [["1", "view", "a/b", ""], ["2", "cart", "a/b", ""]]);
    }
}
