//! When something happened, as a file says it.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde::{Deserialize, Serialize};

use super::Cell;
use super::cell::Unusable;

/// Moments that there may be: after 1970-01-01 and before 2100, in unix seconds.
const POSSIBLE: std::ops::Range<i64> = 1..4_102_444_800;

/// How a table writes its times. Declared, because 1,700,000,000 is a second of 2023 and a millisecond of
/// 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Unix seconds.
    S,
    /// Unix milliseconds.
    Ms,
    /// Unix microseconds.
    Us,
    /// Days: `2026-11-21`, or a date column.
    Date,
    /// Moments: `2026-11-21T19:31:39Z`, `2026-11-21 19:31:39` (UTC where no offset is given), or a
    /// timestamp column.
    #[default]
    Timestamp,
    /// The table has no time: all of it is one moment.
    None,
}

impl TimeUnit {
    /// Unix seconds of a cell; `None` where there is no value.
    ///
    /// # Errors
    /// For a value that is no such time, or an impossible one.
    pub fn seconds(self, cell: &Cell<'_>) -> Result<Option<i64>, Unusable> {
        if self == Self::None {
            return Ok(Some(0));
        }
        if cell.is_empty() {
            return Ok(None);
        }
        let seconds = match (self, cell) {
            (Self::S | Self::Ms | Self::Us, cell) => self.of_number(cell),
            (_, Cell::Moment(seconds)) => Some(*seconds),
            (Self::Date, Cell::Text(text)) => parse_date(text.trim()),
            (Self::Timestamp, Cell::Text(text)) => parse_timestamp(text.trim()),
            _ => None,
        };
        seconds.filter(|s| POSSIBLE.contains(s)).map(Some).ok_or(Unusable)
    }

    /// Unix seconds of a cell that is a number of this unit, or a moment by itself; whatever they are.
    pub(crate) fn of_number(self, cell: &Cell<'_>) -> Option<i64> {
        match (self, cell) {
            (_, Cell::Moment(seconds)) => Some(*seconds),
            (Self::S, cell) => whole(cell),
            (Self::Ms, cell) => whole(cell).map(|x| x.div_euclid(1_000)),
            (Self::Us, cell) => whole(cell).map(|x| x.div_euclid(1_000_000)),
            _ => None,
        }
    }
}

fn whole(cell: &Cell<'_>) -> Option<i64> {
    match cell {
        Cell::Integer(x) => Some(*x),
        Cell::Float(x) if x.fract() == 0.0 && x.abs() < 9e15 => Some(*x as i64),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Midnight in UTC of a date, as `2026-11-21` or `2026/11/21`. Of two digits nobody can tell which year, or whether, they
/// are.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    if text.find(['-', '/']) != Some(4) {
        return None;
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").or_else(|_| NaiveDate::parse_from_str(text, "%Y/%m/%d"));
    Some(date.ok()?.and_hms_opt(0, 0, 0)?.and_utc().timestamp())
}

fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Some(moment.timestamp());
    }
    let formats =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y/%m/%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M"];
    let naive = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    naive.map(|moment| moment.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_the_same_moment() {
        let moment = Ok(Some(1_700_000_000));
        let text = |t: &'static str| Cell::Text(t.into());
        assert_eq!(TimeUnit::S.seconds(&Cell::Integer(1_700_000_000)), moment);
        assert_eq!(TimeUnit::S.seconds(&text("1700000000")), moment);
        assert_eq!(TimeUnit::Ms.seconds(&Cell::Integer(1_700_000_000_999)), moment);
        assert_eq!(TimeUnit::Us.seconds(&Cell::Float(1_700_000_000_000_000.0)), moment);
        assert_eq!(TimeUnit::Timestamp.seconds(&text("2023-11-14T22:13:20Z")), moment);
        assert_eq!(TimeUnit::Timestamp.seconds(&text("2023-11-15T06:13:20+08:00")), moment);
        assert_eq!(TimeUnit::Timestamp.seconds(&text("2023-11-14 22:13:20.5")), moment);
        assert_eq!(TimeUnit::Date.seconds(&text("2023-11-14")), Ok(Some(1_699_920_000)));
        assert_eq!(TimeUnit::None.seconds(&Cell::Null), Ok(Some(0)));
    }

    #[test]
    fn impossible_times_are_refused() {
        assert_eq!(TimeUnit::Timestamp.seconds(&Cell::Text("2023-11-14 22:13".into())), Ok(Some(1_700_000_000 - 20)));
        for (unit, cell) in [
            (TimeUnit::Date, Cell::Text("01-05-13".into())),
            (TimeUnit::Date, Cell::Text("1/5/2013".into())),
            (TimeUnit::S, Cell::Integer(1_700_000_000_000)),
            (TimeUnit::S, Cell::Integer(-5)),
            (TimeUnit::S, Cell::Float(1.5)),
            (TimeUnit::Ms, Cell::Text("yesterday".into())),
            (TimeUnit::Date, Cell::Text("2023-02-30".into())),
            (TimeUnit::Timestamp, Cell::Integer(1_700_000_000)),
        ] {
            assert_eq!(unit.seconds(&cell), Err(Unusable), "{unit:?} {cell:?}");
        }
        assert_eq!(TimeUnit::S.seconds(&Cell::Null), Ok(None));
    }
}
