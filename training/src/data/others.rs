//! Columns that Kindred has no name for: what they say becomes tags.

use std::collections::HashMap;

use super::columns::Columns;
use crate::tables::Cell;

/// What a row says in such columns: the number of the column's name, and the value.
pub(super) type Values = Vec<(usize, String)>;

/// Names of these columns, numbered over all files of a table.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<String>);

impl Others {
    /// Those of a file, but for some: the number of the name, and where the column stands.
    pub(super) fn numbered(&mut self, columns: &Columns, but_for: &[&str]) -> Vec<(usize, usize)> {
        let mut number = |name: &String| {
            self.0.iter().position(|known| known == name).unwrap_or_else(|| {
                self.0.push(name.clone());
                self.0.len() - 1
            })
        };
        let others = columns.others.iter().filter(|at| !but_for.contains(&&*columns.names[**at]));
        others.map(|at| (number(&columns.names[*at]), *at)).collect()
    }

    /// What a row says in the columns of its file.
    pub(super) fn values(numbered: &[(usize, usize)], cells: &[Cell<'_>]) -> Values {
        numbered.iter().filter_map(|(number, at)| Some((*number, cells[*at].text()?))).collect()
    }

    /// Which of the columns tell single rows apart, as barcodes and phone numbers do, more than they say what kind those
    /// are of: of the rows that have a value, more than half have one of their own.
    pub(super) fn naming<'a>(&self, rows: impl Iterator<Item = &'a Values>) -> Vec<bool> {
        let mut rows_of: Vec<HashMap<&str, usize>> = vec![HashMap::new(); self.0.len()];
        for (column, value) in rows.flatten() {
            *rows_of[*column].entry(value).or_default() += 1;
        }
        let own = |of: &HashMap<&str, usize>| of.values().filter(|rows| **rows == 1).count();
        rows_of.iter().map(|of| 2 * own(of) > of.values().sum::<usize>()).collect()
    }

    /// Tags `column=value` of what a row says, as far as a column's are wanted.
    pub(super) fn tags(&self, values: Values, is_wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = String> {
        let wanted = values.into_iter().filter(move |(column, _)| is_wanted(*column));
        wanted.map(|(column, value)| format!("{}={value}", self.0[column]))
    }
}
