//! Rows of CSV and TSV files with a header. Every value is text; empty is no value.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use super::{Cell, Row, TableError};

fn open(path: &Path, delimiter: u8) -> Result<csv::Reader<File>, TableError> {
    csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).map_err(|e| failed(path, e))
}

/// That the file can't be read, or that it is none.
fn failed(path: &Path, error: csv::Error) -> TableError {
    match error.is_io_error() {
        true => TableError::io(path, error.into()),
        false => TableError::malformed(path, error),
    }
}

pub(super) fn columns(path: &Path, delimiter: u8) -> Result<Vec<String>, TableError> {
    let mut reader = open(path, delimiter)?;
    let header = reader.headers().map_err(|e| failed(path, e))?;
    if header.is_empty() {
        return Err(TableError::malformed(path, "empty file; the first row must name the columns"));
    }
    Ok(header.iter().map(|name| name.trim().to_owned()).collect())
}

pub(super) fn read(
    path: &Path,
    delimiter: u8,
    wanted: &[String],
    on_row: &mut dyn FnMut(Row<'_>),
) -> Result<(), TableError> {
    let present = columns(path, delimiter)?;
    let at: Vec<Option<usize>> = wanted.iter().map(|name| present.iter().position(|p| p == name)).collect();
    let mut reader = open(path, delimiter)?;
    let mut record = csv::StringRecord::new();
    reader.headers().map_err(|e| failed(path, e))?;
    // Of lines that end in CR LF, the LF is taken with the next record.
    let behind = u64::from(reader.position().line() == 1);
    loop {
        let line = reader.position().line() + behind;
        match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {
                let cell = |at: &Option<usize>| match at.and_then(|i| record.get(i)) {
                    None | Some("") => Cell::Null,
                    Some(text) => Cell::Text(Cow::Borrowed(text)),
                };
                let cells: Vec<Cell<'_>> = at.iter().map(cell).collect();
                on_row((line, Some(&cells)));
            }
            Err(e) if e.is_io_error() => return Err(failed(path, e)),
            Err(_) => on_row((line, None)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_t_be_read_is_not_called_bad_data() {
        let folder = tempfile::tempdir().unwrap();
        // It opens, as a file does, and can't be read.
        assert!(matches!(columns(folder.path(), b','), Err(TableError::Io { .. })));
        assert!(matches!(columns(&folder.path().join("none.csv"), b','), Err(TableError::Io { .. })));
        std::fs::write(folder.path().join("empty.csv"), "").unwrap();
        assert!(matches!(columns(&folder.path().join("empty.csv"), b','), Err(TableError::Malformed { .. })));
    }
}
