//! Which columns of a file hold what.

use std::collections::BTreeMap;

use crate::config::TableConfig;
use crate::tables::{Cell, TableError, TableFile};

/// The columns of one file that are read, and where Kindred's own columns stand among them.
#[derive(Debug)]
pub(super) struct Columns {
    /// The file's names of the columns to read.
    pub(super) names: Vec<String>,
    /// Kindred's name → places in `names`.
    places: BTreeMap<&'static str, Vec<usize>>,
    /// Places of columns that Kindred has no name for.
    pub(super) others: Vec<usize>,
}

impl Columns {
    /// Looks up the columns of a file. Those that are `required`, and those that the config names, be it to leave them
    /// out, must be there.
    pub(super) fn of(
        file: &TableFile,
        table: &TableConfig,
        required: &[&'static str],
        optional: &[&'static str],
        with_others: bool,
    ) -> Result<Self, TableError> {
        let mut present = file.columns()?;
        if let Some(absent) = table.ignore.iter().find(|name| !present.contains(name)) {
            let problem = format!("no column '{absent}' to ignore; the file has {}", present.join(", "));
            return Err(TableError::malformed(&file.path, problem));
        }
        present.retain(|name| !table.ignore.contains(name));
        let known = || required.iter().chain(optional);
        if let Some(unknown) = table.columns.keys().find(|ours| !known().any(|k| k == ours)) {
            let known: Vec<&str> = known().copied().collect();
            return Err(TableError::malformed(
                &file.path,
                format!("the config maps a column '{unknown}', and this table has only {}", known.join(", ")),
            ));
        }
        if let Some((theirs, ours)) = nearly_known(&present, table, known()) {
            let problem = format!(
                "column '{theirs}' is nearly '{ours}', and nobody can tell whether it is: rename it, map it (columns = \
                 {{ {ours} = \"{theirs}\" }}), or leave it out (ignore = [\"{theirs}\"])"
            );
            return Err(TableError::malformed(&file.path, problem));
        }
        let mut columns = Self { names: Vec::new(), places: BTreeMap::new(), others: Vec::new() };
        for ours in known() {
            let mapped = table.columns.get(*ours);
            let theirs = mapped.map_or_else(|| vec![(*ours).to_owned()], |names| names.list().to_vec());
            for name in theirs {
                if present.contains(&name) {
                    columns.places.entry(ours).or_default().push(columns.names.len());
                    columns.names.push(name);
                } else if mapped.is_some() || required.contains(ours) {
                    return Err(TableError::MissingColumn {
                        path: file.path.clone(),
                        column: name,
                        ours: (*ours).to_owned(),
                        present: present.join(", "),
                    });
                }
            }
        }
        if with_others {
            // Nobody asked for these: what can't be read is no reason to stop.
            let unreadable = file.unreadable()?;
            for name in present {
                if !columns.names.contains(&name) && !unreadable.contains(&name) && !file.is_of_folder(&name) {
                    columns.others.push(columns.names.len());
                    columns.names.push(name);
                }
            }
        }
        Ok(columns)
    }

    /// Whether the file has such a column.
    pub(super) fn has(&self, ours: &str) -> bool {
        self.places.contains_key(ours)
    }

    /// The cell of one of Kindred's columns; null if the file has none.
    pub(super) fn get<'c, 'a>(&self, ours: &str, cells: &'c [Cell<'a>]) -> &'c Cell<'a> {
        self.places.get(ours).map_or(&Cell::Null, |places| &cells[places[0]])
    }

    /// All cells of one of Kindred's columns, which several of the file's may make up.
    pub(super) fn all<'c, 'a>(&self, ours: &str, cells: &'c [Cell<'a>]) -> impl Iterator<Item = &'c Cell<'a>> {
        self.places.get(ours).into_iter().flatten().map(|place| &cells[*place])
    }
}

/// A column of the file that would be one of Kindred's but for its case, spaces and dashes. To read on without it would take
/// refunds for purchases, and everybody to have agreed.
fn nearly_known<'a>(
    present: &'a [String],
    table: &TableConfig,
    known: impl Iterator<Item = &'a &'static str>,
) -> Option<(&'a str, &'static str)> {
    // Of these nothing is made.
    let is_of_use = |ours: &&&str| !["basket_id", "joined_at"].contains(ours);
    let plain = |name: &str| name.to_lowercase().replace([' ', '-', '_', '.'], "");
    let mut absent = known
        .filter(is_of_use)
        .filter(|ours| !table.columns.contains_key(**ours) && !present.iter().any(|p| p == *ours));
    let is_mapped = |name: &str| table.columns.values().any(|names| names.list().iter().any(|n| n == name));
    absent.find_map(|ours| {
        let theirs = present.iter().find(|name| plain(name) == plain(ours) && !is_mapped(name))?;
        Some((theirs.as_str(), *ours))
    })
}
