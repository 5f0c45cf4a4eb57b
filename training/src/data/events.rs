//! The events table: who did what with which product, when.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytemuck::{CheckedBitPattern, NoUninit};
use kindred_models::events::DAY_SECONDS;
pub use kindred_models::events::Kind;
use kindred_models::state::KEPT_EVENTS;
use kindred_models::strings::NONE;
use rayon::prelude::*;

use super::columns::Columns;
use super::days::Days;
use super::ids::{Ids, NoId};
use super::{files, gate, required};
use crate::config::{DataConfig, TableConfig};
use crate::progress::Progress;
use crate::tables::{Cell, Reason, Rejects, TableError, TableFile, TimeUnit, table_files};

/// Rows between two reports of progress.
const REPORT_ROWS: u64 = 1 << 16;

/// Clocks and time zones may be off by as much.
const CLOCKS_OFF: i64 = DAY_SECONDS;
/// What clocks are put forward by in summer.
const HOUR_SECONDS: i64 = 3600;
/// The first moment of an event, in unix seconds: 1990. Seconds that are taken for milliseconds would be of 1970.
pub(super) const EARLIEST: i64 = 631_152_000;

/// Steps that prices of purchases are told apart by, in natural logarithms.
pub const PRICE_STEP: f64 = 0.075;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, NoUninit, CheckedBitPattern)]
#[repr(C)]
pub struct Event {
    /// Row of the member.
    pub member: u32,
    /// Row of the product; [`NONE`] for a contact about none.
    pub product: u32,
    /// Unix seconds; 0 where the table has no time.
    pub time: i64,
    /// What happened. It comes before where: at one time, what is brought back was bought before, in whatever store.
    pub kind: Kind,
    /// What one piece cost, in steps of [`PRICE_STEP`] from a hundredth on; 0 where unknown.
    pub price: u8,
    /// Row of the channel in [`Events::channels`]; `u16::MAX` where unknown.
    pub channel: u16,
    /// Row of the store in [`Events::stores`]; `u32::MAX` where unknown.
    pub store: u32,
}

/// All events, sorted by member, product and time.
#[derive(Clone, Debug, Default)]
pub struct Events {
    /// The events.
    pub list: Arc<Vec<Event>>,
    /// Names of the stores.
    pub stores: Vec<String>,
    /// Names of the channels.
    pub channels: Vec<String>,
}

impl Events {
    /// With a list of which members and products are brought to their final rows, sorted.
    pub(super) fn with(self, mut list: Vec<Event>, members: &[u32], products: &[u32]) -> Self {
        list.par_iter_mut().for_each(|event| {
            event.member = members[event.member as usize];
            event.product = products.get(event.product as usize).copied().unwrap_or(NONE);
        });
        list.par_sort_unstable();
        list.shrink_to_fit();
        Self { list: list.into(), ..self }
    }
}

/// What a piece cost, as [`Event::price`] has it: an event takes no more memory for it. Beyond some two million all
/// prices are alike.
fn price(amount: Option<f64>, quantity: Option<f64>) -> u8 {
    const LEAST: f64 = 0.01;
    let each = amount.unwrap_or(0.0) / quantity.filter(|quantity| *quantity > 0.0).unwrap_or(1.0);
    if each > 0.0 { 1 + ((each / LEAST).ln() / PRICE_STEP).round().clamp(0.0, 254.0) as u8 } else { 0 }
}

/// The events table with the ids that it named.
#[derive(Debug, Default)]
pub(super) struct ReadEvents {
    /// As they were read: by the order in which members and products were named first.
    pub(super) list: Vec<Event>,
    /// Names of stores and channels.
    pub(super) events: Events,
    pub(super) members: Ids,
    pub(super) products: Ids,
    pub(super) rejects: Rejects,
    /// What a server kept and can't be used: no fault of the table's.
    kept_rejects: Rejects,
    /// Amounts that could not be read.
    bad_amounts: u64,
    /// Whether what is read now was kept by a server.
    pub(super) is_kept: bool,
    /// Events after this moment can't be.
    end: i64,
    /// Time of the newest event.
    pub(super) latest: i64,
    store_numbers: HashMap<String, u32>,
    channel_numbers: HashMap<String, u16>,
}

pub(super) fn read(
    config: &DataConfig,
    utc_offset_minutes: i32,
    now: i64,
    progress: &dyn Progress,
) -> Result<ReadEvents, TableError> {
    let table = &config.events;
    let mut read = ReadEvents { end: now + CLOCKS_OFF, ..ReadEvents::default() };
    let path = required(config, table, "events")?;
    let (mut needed, mut optional) = (vec!["member_id", "product_id"], vec!["kind", "quantity", "store_id", "channel"]);
    if table.time_unit == TimeUnit::None {
        optional.push("time")
    } else {
        needed.push("time")
    }
    // The basket is in the contract, and of no use to what is learned so far: naming it in the config is fine.
    optional.extend(["amount", "basket_id"]);
    for file in files(config, table)? {
        let columns = Columns::of(&file, table, &needed, &optional, false)?;
        read.add_file(&file, &columns, table.time_unit, progress)?;
    }
    let offset = 60 * i64::from(utc_offset_minutes);
    if !matches!(table.time_unit, TimeUnit::Date | TimeUnit::None) {
        read.without_summer_time(offset);
    }
    if let Some(folder) = &config.state {
        read.add_kept(&config.root.join(folder).join(KEPT_EVENTS), table.time_unit, offset, progress)?;
    }
    progress.advance(read.rejects.rows % REPORT_ROWS);
    gate("events", &read.rejects, config)?;
    if read.list.is_empty() {
        return Err(TableError::Empty(path.display().to_string()));
    }
    Ok(read)
}

impl ReadEvents {
    fn add_file(
        &mut self,
        file: &TableFile,
        columns: &Columns,
        unit: TimeUnit,
        progress: &dyn Progress,
    ) -> Result<(), TableError> {
        file.read(&columns.names, &mut |(row, cells)| {
            self.rejects.rows += 1;
            if self.rejects.rows.is_multiple_of(REPORT_ROWS) {
                progress.advance(REPORT_ROWS);
            }
            let outcome = cells.ok_or(Reason::Malformed).and_then(|c| self.add(columns, c, unit));
            if let Err(reason) = outcome {
                self.rejects.add(reason, &file.path, row);
            }
        })
    }

    /// Adds the events that a server kept, at the table's resolution. Those that the table has as well, of the same member,
    /// product, time and kind, count once: the tills may have told both. Shops' clocks are `offset` seconds ahead of UTC.
    fn add_kept(
        &mut self,
        path: &Path,
        unit: TimeUnit,
        offset: i64,
        progress: &dyn Progress,
    ) -> Result<(), TableError> {
        if !path.exists() {
            // Nothing happened.
            return Ok(());
        }
        let table = self.list.len();
        let days = if unit == TimeUnit::None { None } else { Days::of(&self.list, offset) };
        self.is_kept = true;
        let of_table = std::mem::take(&mut self.rejects);
        for file in table_files(path)? {
            let optional = ["kind", "quantity", "store_id", "channel", "amount", "basket_id"];
            let columns =
                Columns::of(&file, &TableConfig::default(), &["member_id", "product_id", "time"], &optional, false)?;
            // Its times are moments, whatever the table's are.
            let unit = if unit == TimeUnit::None { unit } else { TimeUnit::Timestamp };
            self.add_file(&file, &columns, unit, progress)?;
        }
        self.kept_rejects = std::mem::replace(&mut self.rejects, of_table);
        let mut kept = self.list.split_off(table);
        if let Some(days) = days {
            kept.iter_mut().for_each(|e| e.time = days.time(e.time));
        }
        let earliest = kept.iter().map(|e| e.time).min().unwrap_or(i64::MAX);
        let name = |e: &Event| (e.member, e.product, e.time, e.kind);
        // Names of kept events, not of the table's: these are mostly many more.
        let mut new: HashSet<_> = kept.iter().map(name).collect();
        if unit != TimeUnit::None {
            for event in self.list.iter().filter(|e| e.time >= earliest) {
                new.remove(&name(event));
            }
        }
        self.list.extend(kept.into_iter().filter(|e| new.contains(&name(e))));
        Ok(())
    }

    /// A table of days whose midnights are those of shops with summer time has two seconds of the day, an hour apart: with
    /// this, one. `offset` is what the shops' clocks are ahead of UTC in winter, in seconds.
    fn without_summer_time(&mut self, offset: i64) {
        let winter = (-offset).rem_euclid(DAY_SECONDS);
        let summer = (winter - HOUR_SECONDS).rem_euclid(DAY_SECONDS);
        let second = |e: &Event| e.time.rem_euclid(DAY_SECONDS);
        if self.list.iter().all(|e| [winter, summer].contains(&second(e))) {
            for event in self.list.iter_mut().filter(|e| second(e) == summer) {
                event.time += HOUR_SECONDS;
                self.latest = self.latest.max(event.time);
            }
        }
    }

    /// What there is to say of amounts.
    pub(super) fn unread_amounts(&self) -> Option<String> {
        let (bad, rows) = (self.bad_amounts, self.rejects.rows);
        (bad > 0).then(|| format!("events: amount is no number in {bad} of {rows} rows, whose prices are not known"))
    }

    /// What there is to say of events that a server kept and that can't be used.
    pub(super) fn unusable_kept(&self) -> Option<String> {
        let (rejects, unusable) = (&self.kept_rejects, self.kept_rejects.total());
        (unusable > 0)
            .then(|| format!("{unusable} of {} events that a server kept are left out:\n{rejects}", rejects.rows))
    }

    /// Forgets members.
    pub(super) fn forget(&mut self, is_meant: impl Fn(&str) -> bool) {
        let gone = self.members.forget(is_meant);
        self.list.retain(|e| !gone.contains(&e.member));
    }

    fn add(&mut self, columns: &Columns, cells: &[Cell<'_>], unit: TimeUnit) -> Result<(), Reason> {
        let kind = match columns.get("kind", cells).text() {
            None => Kind::Purchase,
            Some(name) => Kind::parse(&name).ok_or(Reason::UnknownKind)?,
        };
        let quantity = columns.get("quantity", cells).number().map_err(|_| Reason::BadNumber("quantity"))?;
        if kind == Kind::Purchase && quantity.is_some_and(|q| q < 0.0) {
            return Err(Reason::NegativeQuantity);
        }
        let time = unit.seconds(columns.get("time", cells)).ok().flatten();
        let time = match time.ok_or(Reason::BadTime("time"))? {
            ..EARLIEST if unit != TimeUnit::None => return Err(Reason::BadTime("time")),
            time if time > self.end => return Err(Reason::Future),
            time => time,
        };
        let reason = |missing: Reason| move |e: NoId| if matches!(e, NoId::Missing) { missing } else { Reason::BadId };
        let (member, product) = (columns.get("member_id", cells), columns.get("product_id", cells));
        // Both are looked at before either is numbered, so that a rejected row leaves nothing behind.
        Ids::id_of(member).map_err(reason(Reason::NoMemberId))?;
        let product = match Ids::id_of(product) {
            // A message need not be about a product.
            Err(NoId::Missing) if kind == Kind::Contact => NONE,
            id => {
                let (id, _) = id.map_err(reason(Reason::NoProductId))?;
                if self.is_kept {
                    self.products.number_kept(&id)
                } else {
                    self.products.number(product).map_err(reason(Reason::NoProductId))?
                }
            }
        };
        let member = match Ids::id_of(member) {
            Ok((id, _)) if self.is_kept => self.members.number_kept(&id),
            _ => self.members.number(member).map_err(reason(Reason::NoMemberId))?,
        };
        let store = match columns.get("store_id", cells).text() {
            Some(name) => self.store(name),
            None => u32::MAX,
        };
        let channel = columns.get("channel", cells).text().map_or(u16::MAX, |name| self.channel(name));
        // One that can't be read costs no purchase: little depends on it.
        let amount = columns.get("amount", cells).number();
        self.bad_amounts += u64::from(amount.is_err());
        let price = price(amount.ok().flatten(), quantity);
        self.latest = self.latest.max(time);
        self.list.push(Event { member, product, time, store, channel, kind, price });
        Ok(())
    }

    /// The number of a channel; beyond 65,535 of them the column is no channel, and says nothing.
    fn channel(&mut self, name: String) -> u16 {
        if let Some(number) = self.channel_numbers.get(&name) {
            return *number;
        }
        let number = u16::try_from(self.events.channels.len()).unwrap_or(u16::MAX);
        if number < u16::MAX {
            self.channel_numbers.insert(name.clone(), number);
            self.events.channels.push(name);
        }
        number
    }

    fn store(&mut self, name: String) -> u32 {
        if let Some(number) = self.store_numbers.get(&name) {
            return *number;
        }
        let number = self.events.stores.len() as u32;
        self.store_numbers.insert(name.clone(), number);
        self.events.stores.push(name);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;

    #[test]
    fn prices_of_a_piece_worked_by_hand() {
        let step = |amount, quantity| price(Some(amount), quantity);
        // ln(100) / 0.075 = 61.4; ln(200) / 0.075 = 70.6.
        assert_eq!((step(1.0, None), step(2.0, Some(1.0)), step(4.0, Some(2.0))), (62, 72, 72));
        assert_eq!((step(0.01, None), step(0.001, None), step(1e12, Some(0.0))), (1, 1, 255));
        assert_eq!([price(None, Some(1.0)), step(0.0, None), step(-3.0, None)], [0; 3], "not known");
        assert_eq!(size_of::<Event>(), 24, "hundreds of millions are kept in memory");
    }

    #[test]
    fn what_was_paid_is_read_and_loses_no_purchase() {
        let folder = tempfile::tempdir().unwrap();
        let rows = ["a,p,1700000000,1,1.00", "a,p,1700000001,2,4.00", "a,p,1700000002,1,", "a,p,1700000003,1,dear"];
        let csv = format!("member_id,product_id,time,quantity,amount\n{}\n", rows.join("\n"));
        std::fs::write(folder.path().join("events.csv"), csv).unwrap();
        let events = TableConfig { path: Some("events.csv".into()), time_unit: TimeUnit::S, ..TableConfig::default() };
        let config = DataConfig { root: folder.path().to_owned(), events, ..DataConfig::default() };
        let read = read(&config, 0, 1_800_000_000, &Quiet).unwrap();
        assert_eq!(read.list.iter().map(|e| e.price).collect::<Vec<_>>(), [62, 72, 0, 0]);
        assert_eq!(read.rejects.total(), 0);
        assert!(read.unread_amounts().unwrap().contains("in 1 of 4 rows"), "dear");
        let events = TableConfig { time_unit: TimeUnit::Ms, ..config.events };
        let seconds_for_milliseconds = super::read(&DataConfig { events, ..config }, 0, 1_800_000_000, &Quiet);
        assert!(seconds_for_milliseconds.unwrap_err().to_string().contains("is time_unit right?"));
    }

    #[test]
    fn days_of_shops_with_summer_time_are_days() {
        let folder = tempfile::tempdir().unwrap();
        let of = |times: &[&str], utc_offset_minutes| {
            let rows: Vec<String> = times.iter().map(|time| format!("a,p,{time}")).collect();
            let csv = format!("member_id,product_id,time\n{}\n", rows.join("\n"));
            std::fs::write(folder.path().join("events.csv"), csv).unwrap();
            let events = TableConfig { path: Some("events.csv".into()), ..TableConfig::default() };
            let config = DataConfig { root: folder.path().to_owned(), events, ..DataConfig::default() };
            let read = read(&config, utc_offset_minutes, 1_800_000_000, &Quiet).unwrap();
            read.list.iter().map(|e| e.time.rem_euclid(DAY_SECONDS) / 3600).collect::<Vec<_>>()
        };
        let midnights = ["2024-01-10T00:00:00+01:00", "2024-07-10T00:00:00+02:00"];
        assert_eq!(of(&midnights, 60), [23, 23]);
        assert_eq!(of(&midnights, 480), [23, 22], "of shops elsewhere");
        assert_eq!(of(&[midnights[1], "2024-07-10T12:00:00+02:00"], 60), [22, 10], "moments are as they are told");
    }

    #[test]
    fn what_is_brought_back_at_the_same_time_comes_after_the_purchase_wherever_that_was() {
        let event = |kind, store| Event { member: 0, product: 0, time: 5, kind, store, channel: u16::MAX, price: 0 };
        for [bought, returned] in [[0, 1], [1, 0], [u32::MAX, 0]] {
            let mut pair = [event(Kind::Refund, returned), event(Kind::Purchase, bought)];
            pair.sort_unstable();
            assert!(crate::slice::kept_purchases(&pair).is_empty(), "{bought} {returned}");
        }
    }
}
