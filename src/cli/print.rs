//! Answers on standard output.

use std::fmt::Display;
use std::io::Write;

use comfy_table::{Table, presets};

use crate::error::Error;

/// Prints a line; a closed pipe is an error, not a panic.
pub(super) fn line(text: impl Display) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Prints rows under a header, for a person.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), Error> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.to_vec());
    table.add_rows(rows);
    line(table.trim_fmt())
}

/// Prints a value, for a program.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Error> {
    line(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A number of rows, in groups of three digits.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
