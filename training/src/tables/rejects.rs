//! Rows that can't be used: counted by reason, the first few named.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kindred_models::events::Kind;

/// Places named per reason.
const PLACES_SHOWN: usize = 5;

/// Why a row can't be used; of several columns that may be to blame, which one, by Kindred's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The row itself can't be read: wrong number of fields, not JSON, not UTF-8.
    Malformed,
    /// No member id.
    NoMemberId,
    /// No product id.
    NoProductId,
    /// An id that is neither text nor an integer.
    BadId,
    /// No time, one that can't be read, or one that can't be.
    BadTime(&'static str),
    /// An event that is still to come.
    Future,
    /// A purchase of a negative quantity.
    NegativeQuantity,
    /// An event kind that Kindred does not know.
    UnknownKind,
    /// Text where a number should be.
    BadNumber(&'static str),
    /// A number below 0 where there can be none.
    BelowZero(&'static str),
    /// A number that is no chance.
    NoChance(&'static str),
    /// Neither true nor false.
    BadFlag(&'static str),
    /// An id that an earlier row has.
    DuplicateId,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("row that can't be read (is the file UTF-8?)"),
            Self::NoMemberId => f.write_str("no member_id"),
            Self::NoProductId => f.write_str("no product_id"),
            Self::BadId => f.write_str("id that is neither text nor an integer (write it as one of these)"),
            Self::BadTime(column) => write!(f, "{column}: no time, or an impossible one (is time_unit right?)"),
            Self::Future => f.write_str("time: in the future (is time_unit right?)"),
            Self::NegativeQuantity => f.write_str("negative quantity on a purchase (refunds have kind = \"refund\")"),
            Self::UnknownKind => {
                let known = Kind::ALL.map(Kind::name).join(", ");
                write!(f, "unknown kind (known are {known})")
            }
            Self::BadNumber(column) => write!(f, "{column}: not a number"),
            Self::BelowZero(column) => write!(f, "{column}: a number below 0, or without end"),
            Self::NoChance(column) => write!(f, "{column}: a number that is not from 0 to 1"),
            Self::BadFlag(column) => write!(f, "{column}: neither true nor false"),
            Self::DuplicateId => f.write_str("id that an earlier row has"),
        }
    }
}

/// What was read of a table, and what was rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejects {
    /// Rows read, the rejected ones too.
    pub rows: u64,
    by_reason: BTreeMap<Reason, (u64, Vec<(PathBuf, u64)>)>,
}

impl Rejects {
    /// Counts a row as rejected.
    pub fn add(&mut self, reason: Reason, file: &Path, row: u64) {
        let (count, places) = self.by_reason.entry(reason).or_default();
        *count += 1;
        if places.len() < PLACES_SHOWN {
            places.push((file.to_owned(), row));
        }
    }

    /// Rows rejected.
    pub fn total(&self) -> u64 {
        self.by_reason.values().map(|(count, _)| count).sum()
    }

    /// Rows rejected for a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.by_reason.get(&reason).map_or(0, |(count, _)| *count)
    }
}

impl fmt::Display for Rejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (reason, (count, places))) in self.by_reason.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let named: Vec<String> = places.iter().map(|(file, row)| format!("{}:{row}", file.display())).collect();
            let more = if *count > places.len() as u64 { ", …" } else { "" };
            write!(f, "  {count} × {reason}: {}{more}", named.join(", "))?;
        }
        Ok(())
    }
}
