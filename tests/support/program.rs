//! The program as a user runs it, and the tables that it writes.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use kindred_training::tables::{Cell, table_files};

use super::two_tastes;

pub fn kindred(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kindred")).current_dir(folder).args(arguments.split_whitespace()).output().unwrap()
}

pub fn ok(folder: &Path, arguments: &str) -> String {
    let output = kindred(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The exit code, and what was said on standard error.
pub fn fails(folder: &Path, arguments: &str) -> (i32, String) {
    let output = kindred(folder, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments}: nothing on stdout but the answer");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

pub const CONFIG: &str = r#"
[data.events]
path = "events.csv"
time_unit = "s"
[data.products]
path = "products.csv"
[data.members]
path = "members.csv"
[embeddings]
factors = 8
[evaluate]
test_days = 14
"#;

pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    two_tastes().write(folder.path());
    std::fs::write(folder.path().join("kindred.toml"), CONFIG).unwrap();
    folder
}

/// The rows of a table, every cell as text.
pub fn rows(table: &Path, columns: &[&str]) -> Vec<Vec<String>> {
    let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let mut rows = Vec::new();
    for file in table_files(table).unwrap() {
        file.read(&names, &mut |(_, cells)| rows.push(cells.unwrap().iter().map(text).collect())).unwrap();
    }
    rows
}

fn text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Text(text) => text.to_string(),
        Cell::Integer(number) => number.to_string(),
        Cell::Float(number) => number.to_string(),
        Cell::Boolean(is) => is.to_string(),
        other => panic!("{other:?}"),
    }
}
