//! When a member was born, as a table has it.

use chrono::DateTime;
use kindred_models::events::{DAY_SECONDS, day};

use crate::tables::{Cell, TimeUnit, parse_date};

/// Days that a member may have been born on: from 1900 to 2100, in unix seconds.
const BIRTHDAYS: std::ops::Range<i64> = -2_208_988_800..4_102_444_800;

/// What databases hold for a date that nobody told.
const NO_DATE: &str = "0000-00-00";
/// Summer time puts midnight off by as much.
const HOUR_SECONDS: i64 = 3600;

/// How a table writes moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) unit: TimeUnit,
    /// Seconds that the shops' clocks are ahead of UTC.
    pub(super) offset: i64,
}

impl Clock {
    /// Midnight in UTC of the day that a moment is of: one at midnight is a date; others are midnights of the shops' clocks,
    /// be it in summer.
    fn day_of(self, moment: i64) -> i64 {
        match moment.rem_euclid(DAY_SECONDS) {
            0 => moment,
            _ => day(moment + self.offset + HOUR_SECONDS) * DAY_SECONDS,
        }
    }
}

/// A birthday, as midnight in UTC, in unix seconds, below 0 before 1970: a date column, text that begins with a date, or a
/// moment or number in the table's unit. `None` for what is none; a cell may hold none. What is before 1900 stands for a
/// birthday that nobody told.
pub(super) fn birthday(cell: &Cell<'_>, clock: Clock) -> Option<Option<i64>> {
    if cell.is_empty() {
        return Some(None);
    }
    let text = match cell {
        Cell::Text(text) => text.trim(),
        _ => "",
    };
    if text.starts_with(NO_DATE) {
        return Some(None);
    }
    let date = || {
        let date = text.split(['T', ' ']).next().unwrap_or_default();
        parse_date(date).or_else(|| parse_date(date.get(..10)?))
    };
    // Of a moment in UTC the date may be that of the day before.
    let in_utc = DateTime::parse_from_rfc3339(text).ok().filter(|_| text.ends_with('Z'));
    let moment = || in_utc.map(|moment| moment.timestamp()).or_else(|| clock.unit.of_number(cell));
    let born = if in_utc.is_some() { None } else { date() };
    let born = born.or_else(|| moment().map(|moment| clock.day_of(moment)))?;
    (born < BIRTHDAYS.end).then(|| Some(born).filter(|born| BIRTHDAYS.contains(born)))
}

/// Birthdays that are taken for milliseconds, and are in seconds, all lie about the first day of 1970.
const MISTAKEN: std::ops::Range<i64> = -31 * DAY_SECONDS..31 * DAY_SECONDS;
/// Birthdays from which it is no chance that all are of those weeks.
const ENOUGH: usize = 3;

/// Whether so many are born about the first day of 1970 that the table's unit must be another: children would be of age.
pub(super) fn are_mistaken(born: impl Iterator<Item = i64>) -> bool {
    let (mut all, mut mistaken) = (0, 0);
    born.for_each(|born| (all, mistaken) = (all + 1, mistaken + usize::from(MISTAKEN.contains(&born))));
    all >= ENOUGH && mistaken == all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn birthdays_are_read_however_they_are_written() {
        let text = |text: &'static str| Cell::Text(text.into());
        let day = Some(Some(641_520_000));
        let clock = |unit| Clock { unit, offset: 8 * 3600 };
        for (cell, unit) in [
            (text("1990-05-01"), TimeUnit::Timestamp),
            (text("1990/5/1"), TimeUnit::S),
            (text("1990-05-01T00:00:00Z"), TimeUnit::None),
            (text("1990-05-01+08:00"), TimeUnit::Date),
            (text("641520000"), TimeUnit::S),
            (Cell::Float(641_520_000.0), TimeUnit::S),
            (Cell::Integer(641_520_000_000), TimeUnit::Ms),
            (Cell::Moment(641_520_000), TimeUnit::Date),
            // Midnight in Shanghai, where clocks went an hour ahead in the summer of 1990, and in a column of moments.
            (Cell::Integer(641_520_000_000 - 9 * 3_600_000), TimeUnit::Ms),
            (Cell::Moment(641_520_000 - 8 * 3600), TimeUnit::Timestamp),
            (text("1990-04-30T16:00:00.000Z"), TimeUnit::Timestamp),
            (text("1990-05-01T00:00:00+09:00"), TimeUnit::Timestamp),
        ] {
            assert_eq!(birthday(&cell, clock(unit)), day, "{cell:?} in {unit:?}");
        }
        let birthday = |cell: &Cell<'_>, unit| birthday(cell, clock(unit));
        assert_eq!(birthday(&text("1950-01-01"), TimeUnit::Date), Some(Some(-631_152_000)));
        assert_eq!(birthday(&Cell::Null, TimeUnit::S), Some(None));
        for nobody_told in ["0001-01-01", "0000-00-00", "0000-00-00 00:00:00"] {
            assert_eq!(birthday(&text(nobody_told), TimeUnit::Date), Some(None));
        }
        // A child of the year 22,299 would be a minor for long.
        for (cell, unit) in [
            (Cell::Integer(641_520_000_000), TimeUnit::S),
            (text("9999-12-31"), TimeUnit::Date),
            (text("1st of May"), TimeUnit::Date),
            (text("01/05/13"), TimeUnit::Date),
            (text("13-05-01"), TimeUnit::Date),
        ] {
            assert_eq!(birthday(&cell, unit), None, "{cell:?} in {unit:?}");
        }
    }

    #[test]
    fn seconds_that_are_taken_for_milliseconds_are_told() {
        // Of 1965, 1990 and 2015.
        let seconds = [-157_766_400, 641_520_000, 1_420_070_400];
        let born = |unit| seconds.map(|s| birthday(&Cell::Integer(s), Clock { unit, offset: 0 }).unwrap().unwrap());
        assert!(are_mistaken(born(TimeUnit::Ms).into_iter()) && !are_mistaken(born(TimeUnit::S).into_iter()));
        assert!(!are_mistaken(born(TimeUnit::Ms).into_iter().take(2)), "two may be of one month");
        assert!(!are_mistaken(born(TimeUnit::Ms).into_iter().chain([641_520_000])));
    }
}
