//! The three tables of the data contract, read into memory: events, products, members.

mod aside;
mod audience;
mod birthday;
mod columns;
mod days;
mod events;
mod ids;
mod members;
mod others;
mod products;
mod times;

use std::path::{Path, PathBuf};

pub(crate) use aside::SetAside;
pub use audience::{AudienceRow, Purchases, read_audience, read_purchases, read_seeds};
pub use events::{Event, Events, Kind, PRICE_STEP};
pub use members::read_member_ids;
pub use products::{NewProduct, NewProducts, Offer, read_new_products};

use kindred_models::catalogue::{Members, Products};
use kindred_models::state::{KEPT_EVENTS, KEPT_FILE, Kept, store_name};

use crate::config::{DataConfig, TableConfig};
use crate::progress::Progress;
use crate::tables::{Rejects, TableError, TimeUnit, table_files};

/// Everything that is known before anything is learned. Members and products are by row, in the order of
/// their ids; events name rows.
#[derive(Debug)]
pub struct Dataset {
    /// The products: of the products table, and those that only events name.
    pub products: Products,
    /// When each product was launched, in unix seconds; `None` where unknown.
    pub launched_at: Vec<Option<i64>>,
    /// The members: of the members table, and those that only events name.
    pub members: Members,
    /// What happened, by member, product and time.
    pub events: Events,
    /// Whether events have a time.
    pub has_time: bool,
    /// The number of the last change that a server kept and the tables were mended by, and which store kept it; `None`
    /// where there was none.
    pub learned_state: Option<(i64, String)>,
    /// What was read and rejected, per table.
    pub rejects: Vec<(String, Rejects)>,
    /// What else is odd about the tables, in words.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Reads all tables. `now`, in unix seconds, is the moment after which nothing can have happened.
    ///
    /// # Errors
    /// If a table can't be read, lacks a column, or has too many rows that can't be used.
    pub fn read(
        config: &DataConfig,
        utc_offset_minutes: i32,
        now: i64,
        progress: &dyn Progress,
    ) -> Result<Self, TableError> {
        let has_time = config.events.time_unit != TimeUnit::None;
        let mut read = events::read(config, utc_offset_minutes, now, progress)?;
        if read.list.iter().all(|event| event.kind != Kind::Purchase) {
            return Err(TableError::NoPurchase(required(config, &config.events, "events")?.display().to_string()));
        }
        let mut notes: Vec<String> =
            [read.unread_amounts(), read.unusable_kept(), times::lonely_end(&read.list), times::early_end(&read.list)]
                .into_iter()
                .flatten()
                .collect();
        let named = [read.products.len(), read.members.len()];
        let mut products = products::read(config, &mut read.products)?;
        let mut members = members::read(config, utc_offset_minutes, &mut read.members)?;
        notes.extend(joined("products", &products.list, named[0])?);
        notes.extend(joined("members", &members.list, named[1])?);
        notes.append(&mut members.notes);
        let kept = config.state.as_ref().map(|folder| read_kept(&config.root.join(folder))).transpose()?;
        if let Some((kept, key)) = &kept {
            if kept.events.is_some_and(|events| events > 0) && !read.is_kept {
                let path = config.root.join(config.state.as_deref().unwrap_or(Path::new(""))).join(KEPT_EVENTS);
                return Err(TableError::NoExport(path));
            }
            products.say(&kept.products, &mut read.products);
            members.say(&kept.members, &mut read.members);
            read.forget(|id| kept.is_erased(key, id));
        }
        let mut rejects = vec![("events".to_owned(), std::mem::take(&mut read.rejects))];
        rejects.push(("products".to_owned(), std::mem::take(&mut products.rejects)));
        rejects.push(("members".to_owned(), std::mem::take(&mut members.rejects)));
        let (product_ids, product_rows) = read.products.into_sorted();
        let (member_ids, member_rows) = read.members.into_sorted();
        // Ages are as of the newest event, so that the same tables give the same model on another day.
        let age_at = if has_time { read.latest } else { now };
        let (products, launched_at) = products.into_columns(product_ids, &product_rows);
        let events = read.events.with(read.list, &member_rows, &product_rows);
        notes.extend(times::told_twice(&events.list).filter(|_| has_time));
        Ok(Self {
            products,
            launched_at,
            members: members.into_columns(member_ids, &member_rows, age_at),
            events,
            has_time,
            rejects,
            notes,
            learned_state: kept.map(|(kept, key)| (kept.seq, store_name(&key))),
        })
    }
}

/// What a server kept, and the key of its hashes.
fn read_kept(folder: &Path) -> Result<(Kept, [u8; 32]), TableError> {
    let path = folder.join(KEPT_FILE);
    let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => TableError::NoExport(path.clone()),
        _ => TableError::io(&path, e),
    })?;
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|e| TableError::malformed(&path, e))?;
    let key = kept.key().ok_or_else(|| TableError::malformed(&path, "hash_key is none"))?;
    Ok((kept, key))
}

/// The files of a table, or nothing if the config has none.
fn files(config: &DataConfig, table: &TableConfig) -> Result<Vec<crate::tables::TableFile>, TableError> {
    match &table.path {
        Some(path) => table_files(&config.root.join(path)),
        None => Ok(Vec::new()),
    }
}

/// Share of those whom events name below which it is told how many of them a table has.
const MOST_JOIN: f64 = 0.9;

/// What there is to say of a table in which not most, or none, of those are whom events name: the first `named` of its list.
fn joined<T>(table: &'static str, list: &[Option<T>], named: usize) -> Result<Option<String>, TableError> {
    let known = list.iter().take(named).flatten().count();
    match list.iter().flatten().count() {
        0 => Ok(None),
        listed if known == 0 => Err(TableError::Unjoined { table, named, listed }),
        _ if (known as f64) < MOST_JOIN * named as f64 => Ok(Some(format!(
            "{table}: of {named} that events name, the table has {known}; nothing is known of the others; are all ids written alike?"
        ))),
        _ => Ok(None),
    }
}

/// Stops the run if too many rows were rejected.
fn gate(name: &str, rejects: &Rejects, config: &DataConfig) -> Result<(), TableError> {
    let (bad, total) = (rejects.total(), rejects.rows);
    if bad as f64 > config.max_bad_row_share * total as f64 {
        return Err(TableError::TooManyBadRows {
            table: name.to_owned(),
            bad,
            total,
            max_share: config.max_bad_row_share,
            rejects: Box::new(rejects.clone()),
        });
    }
    Ok(())
}

/// Where a table that must be there should be named.
fn required(config: &DataConfig, table: &TableConfig, what: &str) -> Result<PathBuf, TableError> {
    match &table.path {
        Some(path) => Ok(config.root.join(path)),
        None => Err(TableError::NotFound(format!("{what} (no path given: use --{what} or data.{what}.path)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    /// Events of members 0001 to 0020, with a members table, of which half may be bad.
    fn read(members: &[&str]) -> Result<Dataset, TableError> {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, head: &str, rows: Vec<String>| {
            std::fs::write(folder.path().join(name), format!("{head}\n{}\n", rows.join("\n"))).unwrap();
            TableConfig { path: Some(name.into()), time_unit: TimeUnit::S, ..TableConfig::default() }
        };
        let events = (1..21).map(|m| format!("{m:04},tea,1700000000")).collect();
        let events = write("events.csv", "member_id,product_id,time", events);
        let members = members.iter().map(|m| format!("{m}{}", if m.contains(',') { "" } else { "," })).collect();
        let members = write("members.csv", "member_id,minor", members);
        let root = folder.path().to_owned();
        let config = DataConfig { root, events, members, max_bad_row_share: 0.5, ..DataConfig::default() };
        Dataset::read(&config, 0, 1_800_000_000, &Quiet)
    }

    #[test]
    fn tables_that_do_not_join_are_told_of() {
        let unjoined = read(&["1", "2", "3"]).unwrap_err().to_string();
        assert!(unjoined.starts_with("members: none of the 20 that events name is among the 3"), "{unjoined}");
        let few = read(&["0001", "0002", "3", "new"]).unwrap();
        assert_eq!((few.members.len(), few.notes.len()), (22, 3));
        assert!(few.notes[0].starts_with("members: of 20 that events name, the table has 2"), "{:?}", few.notes);
        assert!(few.notes[2].ends_with("no column consent_marketing; all are taken to have agreed"), "{:?}", few.notes);
        let most: Vec<String> = (1..19).map(|m| format!("{m:04}")).collect();
        let most = read(&most.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        assert_eq!([most.notes.len(), read(&[]).unwrap().notes.len()], [2; 2]);
        let nameless = read(&["0001", "0002,1", "0003,1,1"]).unwrap();
        let allowed = |row| nameless.members.consent(row).marketing;
        assert_eq!([0, 1, 2].map(allowed), [true, true, false], "the third may have said no: {:?}", nameless.notes);
        assert!(nameless.notes[3].starts_with("members: 1 rows do not tell whose they are"), "{:?}", nameless.notes);
        let bad_rows_of_others = read(&["0001", "0002", "x,perhaps", "y,perhaps"]).unwrap();
        assert!(bad_rows_of_others.notes[0].contains("the table has 2"), "{:?}", bad_rows_of_others.notes);
    }

    #[test]
    fn a_members_table_that_is_missing_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.csv"), "member_id,product_id\nm,tea\n").unwrap();
        let events =
            TableConfig { path: Some("events.csv".into()), time_unit: TimeUnit::None, ..TableConfig::default() };
        let config = DataConfig { root: folder.path().to_owned(), events, ..DataConfig::default() };
        let read = Dataset::read(&config, 0, 1_800_000_000, &Quiet).unwrap();
        assert!(read.notes.iter().any(|note| note.starts_with("no members table")), "{:?}", read.notes);
    }
}
