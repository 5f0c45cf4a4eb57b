//! The clock on the wall of the shops.

use chrono::{DateTime, Datelike, NaiveDate};

use crate::events::DAY_SECONDS;

/// Seconds of an hour.
pub(super) const HOUR_SECONDS: i64 = 3600;

/// Local time: UTC and a fixed offset. No summer time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calendar {
    offset: i64,
}

impl Calendar {
    /// Of clocks that are so many minutes ahead of UTC.
    pub fn ahead_of_utc(minutes: i32) -> Self {
        Self { offset: 60 * i64::from(minutes) }
    }

    /// The local day of a moment in unix seconds, counted from 1970.
    pub fn day(&self, time: i64) -> i64 {
        (time + self.offset).div_euclid(DAY_SECONDS)
    }

    /// The local hour of a moment, 0 to 23.
    pub fn hour(&self, time: i64) -> u8 {
        ((time + self.offset).rem_euclid(DAY_SECONDS) / HOUR_SECONDS) as u8
    }

    /// The moment at which the local hour of another one ends.
    pub fn end_of_hour(&self, time: i64) -> i64 {
        time - (time + self.offset).rem_euclid(HOUR_SECONDS) + HOUR_SECONDS
    }

    /// The moment at which a local day ends.
    pub fn end_of_day(&self, time: i64) -> i64 {
        (self.day(time) + 1) * DAY_SECONDS - self.offset
    }

    /// The local date of a moment.
    pub fn today(&self, time: i64) -> NaiveDate {
        Self::date(self.day(time))
    }

    /// The date of a local day.
    pub fn date(day: i64) -> NaiveDate {
        DateTime::from_timestamp(day.saturating_mul(DAY_SECONDS), 0).unwrap_or_default().date_naive()
    }

    /// The month of a local day, counted from year 0.
    pub fn month(day: i64) -> i32 {
        let date = Self::date(day);
        12 * date.year() + date.month0() as i32
    }

    /// How many days the month of a local day has.
    pub fn days_of_month(day: i64) -> u32 {
        u32::from(Self::date(day).num_days_in_month())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours_are_those_of_the_shops() {
        // 2026-11-21 20:30 UTC is 2026-11-22 04:30 in Wuhan.
        let time = 1_795_293_000;
        let wuhan = Calendar::ahead_of_utc(480);
        assert_eq!((Calendar::default().hour(time), wuhan.hour(time)), (20, 4));
        assert_eq!(wuhan.day(time), Calendar::default().day(time) + 1);
        assert_eq!(Calendar::date(wuhan.day(time)).to_string(), "2026-11-22");
        assert_eq!(wuhan.end_of_hour(time), time + 1800);
        assert_eq!(wuhan.end_of_day(time), time + 19 * HOUR_SECONDS + 1800);
        let february = wuhan.day(1_709_000_000);
        assert_eq!((Calendar::days_of_month(february), Calendar::month(february)), (29, 12 * 2024 + 1));
        assert_eq!(Calendar::date(i64::MAX), NaiveDate::default(), "no panic");
    }
}
