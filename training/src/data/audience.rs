//! Tables of a campaign: an audience as it was written, and what its members bought later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;

use kindred_models::strings::Strings;

use super::columns::Columns;
use super::events;
use super::gate;
use super::ids::{Ids, NoId};
use crate::config::{DataConfig, TableConfig};
use crate::progress::Progress;
use crate::slice::{kept_purchases, pairs};
use crate::tables::{Cell, Reason, Rejects, TableError, TimeUnit, table_files};

/// One member of an audience.
#[derive(Clone, Debug, PartialEq)]
pub struct AudienceRow {
    /// The member.
    pub member_id: String,
    /// Whether the member was held out.
    pub held_out: bool,
    /// The chance of a purchase; `None` where the table does not say.
    pub probability: Option<f64>,
}

/// The rows of an audience table, by product id, in its order.
///
/// # Errors
/// If the table can't be read, or a row of it can't be used: half an audience says nothing.
pub fn read_audience(path: &Path) -> Result<Vec<(String, AudienceRow)>, TableError> {
    let (table, mut list, mut rejects) = (TableConfig::default(), Vec::new(), Rejects::default());
    let mut seen = HashSet::new();
    for file in table_files(path)? {
        let columns = Columns::of(&file, &table, &["product_id", "member_id", "held_out"], &["probability"], false)?;
        file.read(&columns.names, &mut |(row, cells)| {
            rejects.rows += 1;
            let parsed = cells.ok_or(Reason::Malformed).and_then(|cells| {
                let held_out = columns.get("held_out", cells).flag().ok().flatten();
                let held_out = held_out.ok_or(Reason::BadFlag("held_out"))?;
                let probability =
                    columns.get("probability", cells).number().map_err(|_| Reason::BadNumber("probability"))?;
                if probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
                    return Err(Reason::NoChance("probability"));
                }
                let (product_id, member_id) = pair(&columns, cells)?;
                Ok((product_id, AudienceRow { member_id, held_out, probability }))
            });
            match parsed {
                Ok(parsed) if !seen.insert((parsed.0.clone(), parsed.1.member_id.clone())) => {
                    rejects.add(Reason::DuplicateId, &file.path, row);
                }
                Ok(parsed) => list.push(parsed),
                Err(reason) => rejects.add(reason, &file.path, row),
            }
        })?;
    }
    gate("audience", &rejects, &DataConfig { max_bad_row_share: 0.0, ..DataConfig::default() })?;
    if list.is_empty() {
        return Err(TableError::Empty(path.display().to_string()));
    }
    Ok(list)
}

/// Members who are known to want a product, by the product's id: its seeds.
///
/// # Errors
/// If the table can't be read, or a row of it can't be used.
pub fn read_seeds(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, TableError> {
    let (table, mut rejects) = (TableConfig::default(), Rejects::default());
    let mut seeds = BTreeMap::<String, BTreeSet<String>>::new();
    for file in table_files(path)? {
        let columns = Columns::of(&file, &table, &["product_id", "member_id"], &[], false)?;
        file.read(&columns.names, &mut |(row, cells)| {
            rejects.rows += 1;
            match cells.ok_or(Reason::Malformed).and_then(|cells| pair(&columns, cells)) {
                Ok((product_id, member_id)) => {
                    seeds.entry(product_id).or_default().insert(member_id);
                }
                Err(reason) => rejects.add(reason, &file.path, row),
            }
        })?;
    }
    gate("seeds", &rejects, &DataConfig { max_bad_row_share: 0.0, ..DataConfig::default() })?;
    Ok(seeds)
}

/// The product and the member of a row.
fn pair(columns: &Columns, cells: &[Cell<'_>]) -> Result<(String, String), Reason> {
    let id = |name: &str, missing: Reason| match Ids::id_of(columns.get(name, cells)) {
        Ok((id, _)) => Ok(id.into_owned()),
        Err(NoId::Missing) => Err(missing),
        Err(NoId::Bad) => Err(Reason::BadId),
    };
    Ok((id("product_id", Reason::NoProductId)?, id("member_id", Reason::NoMemberId)?))
}

/// Who bought what.
#[derive(Debug, Default)]
pub struct Purchases {
    by_product: HashMap<String, HashSet<String>>,
    /// Events within the time.
    within: usize,
    /// Everybody whom events name, whatever they did and when.
    members: Strings,
}

impl Purchases {
    /// Whether events name a member.
    pub fn knows(&self, member_id: &str) -> bool {
        self.members.find(member_id).is_some()
    }

    /// Whether anything happened within the time.
    pub fn any(&self) -> bool {
        self.within > 0
    }

    /// Whether a member bought a product.
    pub fn contains(&self, member_id: &str, product_id: &str) -> bool {
        self.by_product.get(product_id).is_some_and(|members| members.contains(member_id))
    }
}

/// Purchases of the events table within some time (unix seconds) that were not brought back, then or later. Days of a table
/// are those of shops whose clocks are `utc_offset_minutes` ahead of UTC.
///
/// # Errors
/// If the table can't be read, or too many rows of it can't be used.
pub fn read_purchases(
    config: &DataConfig,
    utc_offset_minutes: i32,
    times: &RangeInclusive<i64>,
    now: i64,
    progress: &dyn Progress,
) -> Result<Purchases, TableError> {
    if config.events.time_unit == TimeUnit::None && *times != (i64::MIN..=i64::MAX) {
        return Err(TableError::NoTimes);
    }
    let read = events::read(config, utc_offset_minutes, now, progress)?;
    let ((members, _), member_rows) = read.members.into_sorted();
    let ((products, _), product_rows) = read.products.into_sorted();
    let mut list = read.list;
    // What was brought back later must be known; what was bought before says nothing.
    list.retain(|e| e.time >= *times.start());
    let events = read.events.with(list, &member_rows, &product_rows);
    let within = events.list.iter().filter(|e| times.contains(&e.time)).count();
    let mut purchases = Purchases { within, ..Purchases::default() };
    for pair in pairs(&events.list) {
        if kept_purchases(pair).iter().any(|time| times.contains(time)) {
            let buyers = purchases.by_product.entry(products.get(pair[0].product).to_owned()).or_default();
            buyers.insert(members.get(pair[0].member).to_owned());
        }
    }
    purchases.members = members;
    Ok(purchases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_in_an_audience_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audience.csv");
        let read = |rows: &str| {
            std::fs::write(&path, format!("product_id,member_id,held_out\n{rows}")).unwrap();
            read_audience(&path)
        };
        assert_eq!(read("tea,a,true\nnuts,a,false\n").unwrap().len(), 2);
        for unsaid in ["tea,a,\n", "tea,a,maybe\n"] {
            assert!(read(unsaid).unwrap_err().to_string().contains("held_out"), "{unsaid}");
        }
        let twice = read("tea,a,true\ntea,a,false\n").unwrap_err().to_string();
        assert!(twice.contains("an earlier row has") && twice.contains("audience.csv:3"), "{twice}");
    }
}
