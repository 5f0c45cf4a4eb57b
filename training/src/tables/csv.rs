//! Rows of CSV and TSV files with a header. Every value is text; empty is no value, and so is what databases write for
//! none.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Chain, Read};
use std::path::Path;

use csv::ByteRecord;

use super::{Cell, Row, TableError};

/// What databases write where there is no value.
const NULLS: [&str; 3] = ["", "\\N", "NULL"];
/// Read behind a file's end: it is a row of its own unless a quote was never closed, which the reader takes for the end of
/// the last value.
const END: &[u8] = b"\r\n\0end of the file";
/// Bytes of it that end the row before, of which files whose lines end in LF alone have one less.
const CR_LF: usize = 2;
/// Lines of a row at most: more were swallowed by a stray quote.
const MOST_LINES: u64 = 1000;

type Reader = csv::Reader<Chain<File, &'static [u8]>>;

fn open(path: &Path, delimiter: u8, end: &'static [u8]) -> Result<Reader, TableError> {
    let file = File::open(path).map_err(|e| TableError::io(path, e))?;
    Ok(csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(file.chain(end)))
}

/// That the file can't be read, or that it is none.
fn failed(path: &Path, error: csv::Error) -> TableError {
    match error.is_io_error() {
        true => TableError::io(path, error.into()),
        false => TableError::malformed(path, error),
    }
}

pub(super) fn columns(path: &Path, delimiter: u8) -> Result<Vec<String>, TableError> {
    Ok(header(path, delimiter)?.0)
}

/// Names of the columns, and whether lines end in CR LF.
fn header(path: &Path, delimiter: u8) -> Result<(Vec<String>, bool), TableError> {
    let mut reader = open(path, delimiter, END)?;
    let header = reader.headers().map_err(|e| failed(path, e))?;
    if is_end(header.as_byte_record()) {
        return Err(TableError::malformed(path, "empty file; the first row must name the columns"));
    }
    if header.as_byte_record().as_slice().ends_with(&END[CR_LF..]) {
        return Err(TableError::malformed(path, "a quote that opens in the first row is never closed"));
    }
    let names = header.iter().map(|name| name.trim().to_owned()).collect();
    // Of CR LF, the LF is taken with the next record.
    Ok((names, reader.position().line() == 1))
}

pub(super) fn read(
    path: &Path,
    delimiter: u8,
    wanted: &[String],
    on_row: &mut dyn FnMut(Row<'_>),
) -> Result<(), TableError> {
    let (present, of_cr_lf) = header(path, delimiter)?;
    let at: Vec<Option<usize>> = wanted.iter().map(|name| present.iter().position(|p| p == name)).collect();
    let mut reader = open(path, delimiter, &END[usize::from(!of_cr_lf)..])?;
    let mut record = ByteRecord::new();
    let behind = u64::from(of_cr_lf);
    let mut line = 1;
    while reader.read_byte_record(&mut record).map_err(|e| failed(path, e))? && !is_end(&record) {
        if record.as_slice().ends_with(&END[CR_LF..]) {
            return Err(TableError::malformed(path, format!("a quote that opens behind line {line} is never closed")));
        }
        // From its end: empty lines are passed over before it.
        let lines = 1 + record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        line = (reader.position().line() + behind).saturating_sub(lines).max(1);
        let cells = at.iter().map(|at| cell(at.and_then(|i| record.get(i)))).collect::<Option<Vec<Cell<'_>>>>();
        match cells {
            Some(cells) if record.len() == present.len() && lines <= MOST_LINES => on_row((line, Some(&cells))),
            _ => (line..line + lines).for_each(|line| on_row((line, None))),
        }
    }
    Ok(())
}

/// A value; `None` if it is not UTF-8.
fn cell(bytes: Option<&[u8]>) -> Option<Cell<'_>> {
    match str::from_utf8(bytes.unwrap_or_default()).ok()? {
        text if NULLS.contains(&text) => Some(Cell::Null),
        text => Some(Cell::Text(Cow::Borrowed(text))),
    }
}

fn is_end(record: &ByteRecord) -> bool {
    record.len() == 1 && record[0] == END[CR_LF..]
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

    /// The line and the second value of each row.
    fn rows(csv: &[u8]) -> Result<Vec<(u64, Option<String>)>, TableError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), csv).unwrap();
        let mut rows = Vec::new();
        read(file.path(), b',', &["b".to_owned()], &mut |(line, cells)| {
            rows.push((line, cells.map(|cells| cells[0].text().unwrap_or_default())));
        })?;
        Ok(rows)
    }

    #[test]
    fn rows_are_named_by_their_lines() {
        let value = |text: &str| Some(text.to_owned());
        let wanted = [(2, value("1")), (5, value("2\n3")), (7, None), (8, value("4"))];
        let text = "a,b\nx,1\n\n\ny,\"2\n3\"\nz\nz,4";
        assert_eq!(rows(text.as_bytes()).unwrap(), wanted);
        let windows = rows(text.replace('\n', "\r\n").as_bytes()).unwrap();
        assert_eq!(windows.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 5, 7, 8]);
        let nulls = rows(b"a,b\nx,NULL\nx,\\N\nx,null\n").unwrap();
        assert_eq!(nulls.into_iter().map(|row| row.1).collect::<Vec<_>>(), [value(""), value(""), value("null")]);
        // What nobody asked for may be anything.
        assert_eq!(rows(b"a,b\n\xe9,1\nx,\xe9\n").unwrap(), [(2, value("1")), (3, None)]);
        assert_eq!(rows(b"a,b\n").unwrap(), []);
    }

    #[test]
    fn a_stray_quote_swallows_no_rows() {
        let lines = |n: usize| "x,1\n".repeat(n);
        let told = rows(format!("a,b\n{}x,\"1\n{}", lines(3), lines(9)).as_bytes()).unwrap_err().to_string();
        assert!(told.contains("line 4") && told.contains("never closed"), "{told}");
        let twice = rows(format!("a,b\n\"x,1\n{}x\",1\n{}", lines(2000), lines(2)).as_bytes()).unwrap();
        assert_eq!(twice.len(), 2004, "each line counts");
        assert_eq!(twice.iter().filter(|row| row.1.is_none()).count(), 2002);
        let header = rows(b"a,\"b\nx,1\nx,1\n").unwrap_err().to_string();
        assert!(header.contains("first row is never closed"), "{header}");
    }
}
