//! Where the tables are and how they are written.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{InvalidParameter, check};
use crate::tables::TimeUnit;

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Folder that the paths below are relative to.
    pub root: PathBuf,
    /// Share of a table's rows that may be rejected, 0 to 1.
    pub max_bad_row_share: f64,
    /// Who bought what, when.
    pub events: TableConfig,
    /// What is sold.
    pub products: TableConfig,
    /// Who buys.
    pub members: TableConfig,
    /// Folder that `kindred state export` wrote: what a server kept since, over the tables; relative to `root`.
    pub state: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            root: ".".into(),
            max_bad_row_share: 0.001,
            events: TableConfig::default(),
            products: TableConfig::default(),
            members: TableConfig::default(),
            state: None,
        }
    }
}

impl DataConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), InvalidParameter> {
        let share = self.max_bad_row_share;
        check("data.max_bad_row_share", share, (0.0..=1.0).contains(&share), "must be from 0 to 1")?;
        for (name, table) in [
            ("data.events.columns", &self.events),
            ("data.products.columns", &self.products),
            ("data.members.columns", &self.members),
        ] {
            let several =
                table.columns.iter().find(|(ours, names)| *ours != MADE_OF_SEVERAL && names.list().len() != 1);
            let shown = several.map_or("", |(ours, _)| ours);
            check(
                name,
                shown,
                several.is_none(),
                "must name one column for each but category, which may be made of several",
            )?;
        }
        Ok(())
    }
}

/// The only column that several of a table's may make up.
const MADE_OF_SEVERAL: &str = "category";

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    /// A file, a folder of files, or a glob; relative to `data.root`.
    pub path: Option<PathBuf>,
    /// The table's own names for Kindred's columns: one name, or, for a category, one per level.
    pub columns: BTreeMap<String, Names>,
    /// Columns of the table that are not read, and make no tags.
    pub ignore: Vec<String>,
    /// How the table writes its times.
    pub time_unit: TimeUnit,
}

impl TableConfig {
    /// The same, without what it says of columns that a table does not have: the table may use Kindred's
    /// own names. Of several levels, those above the first that is not there are kept.
    pub fn where_present(&self, present: &[String]) -> Self {
        let there = |(ours, names): (&String, &Names)| {
            let kept: Vec<String> = names.list().iter().take_while(|name| present.contains(name)).cloned().collect();
            (!kept.is_empty()).then(|| (ours.clone(), Names::Several(kept)))
        };
        let ignore = self.ignore.iter().filter(|name| present.contains(name)).cloned().collect();
        Self { columns: self.columns.iter().filter_map(there).collect(), ignore, ..self.clone() }
    }
}

/// One or several column names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several, joined.
    Several(Vec<String>),
}

impl Names {
    /// As a list.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ours: &str, theirs: &[&str]) -> TableConfig {
        let names = Names::Several(theirs.iter().map(|&name| name.to_owned()).collect());
        TableConfig { columns: [(ours.to_owned(), names)].into(), ..TableConfig::default() }
    }

    #[test]
    fn only_a_category_is_made_of_several_columns() {
        let check = |products| DataConfig { products, ..DataConfig::default() }.validate();
        assert!(
            check(table("category", &["department", "class"])).is_ok() && check(table("tags", &["season"])).is_ok()
        );
        assert_eq!(check(table("tags", &["season", "theme"])).unwrap_err().value, "tags");
    }

    #[test]
    fn of_a_category_the_levels_above_what_is_missing_are_kept() {
        let kept = |present: &[&str]| {
            let present: Vec<String> = present.iter().map(|&name| name.to_owned()).collect();
            let kept = table("category", &["a", "b", "c"]).where_present(&present);
            kept.columns.get("category").map_or_else(Vec::new, |names| names.list().to_vec())
        };
        assert_eq!(kept(&["c", "b", "a"]), ["a", "b", "c"]);
        assert_eq!(kept(&["a", "c"]), ["a"]);
        assert!(kept(&["b", "c", "category"]).is_empty(), "it may use our name");
    }
}
