//! Rows of NDJSON files: one JSON object per line. Lines may have different keys.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::{Cell, Row, TableError};

/// What some programs begin a file of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn lines(path: &Path) -> Result<std::io::Split<BufReader<File>>, TableError> {
    let refused = |e| TableError::io(path, e);
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(refused)?);
    if file.fill_buf().map_err(refused)?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    Ok(file.split(b'\n'))
}

pub(super) fn columns(path: &Path) -> Result<Vec<String>, TableError> {
    let mut names = BTreeSet::new();
    for line in lines(path)? {
        let line = line.map_err(|e| TableError::io(path, e))?;
        if let Ok(object) = serde_json::from_slice::<Map<String, Value>>(&line) {
            names.extend(object.into_iter().map(|(name, _)| name));
        }
    }
    Ok(names.into_iter().collect())
}

pub(super) fn read(path: &Path, wanted: &[String], on_row: &mut dyn FnMut(Row<'_>)) -> Result<(), TableError> {
    for (number, line) in (1..).zip(lines(path)?) {
        let line = line.map_err(|e| TableError::io(path, e))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(object) => {
                let cells: Vec<Cell<'_>> = wanted.iter().map(|name| cell(object.get(name))).collect();
                on_row((number, Some(&cells)));
            }
            Err(_) => on_row((number, None)),
        }
    }
    Ok(())
}

fn cell(value: Option<&Value>) -> Cell<'_> {
    match value {
        // Records are left out, as those of Parquet are.
        None | Some(Value::Null | Value::Object(_)) => Cell::Null,
        Some(Value::Bool(x)) => Cell::Boolean(*x),
        Some(Value::String(text)) => Cell::Text(Cow::Borrowed(text)),
        Some(Value::Number(x)) => match x.as_i64() {
            Some(x) => Cell::Integer(x),
            None => Cell::Float(x.as_f64().unwrap_or(f64::NAN)),
        },
        Some(Value::Array(values)) => {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            Cell::List(values.iter().map(text).collect())
        }
    }
}
