//! Tables that tell days, and no more of when something happened.

use kindred_models::events::{DAY_SECONDS, day};

use super::Event;

/// How a table of days writes a day: as one second of it, in UTC or by the shops' clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Days {
    /// Seconds that the shops' clocks are ahead of UTC.
    offset: i64,
    /// Seconds from midnight in UTC of a day of the shops to what the table writes of it.
    second: i64,
}

impl Days {
    /// Of events that all happened at one second of the day; `None` where they tell more than the day.
    pub(super) fn of(events: &[Event], offset: i64) -> Option<Self> {
        let second = events.first()?.time.rem_euclid(DAY_SECONDS);
        let is_of_days = events.iter().all(|e| e.time.rem_euclid(DAY_SECONDS) == second);
        let is_local_midnight = second != 0 && (second + offset) % DAY_SECONDS == 0;
        is_of_days.then_some(Self { offset, second: if is_local_midnight { -offset } else { second } })
    }

    /// What the table would write of a moment.
    pub(super) fn time(self, moment: i64) -> i64 {
        day(moment + self.offset) * DAY_SECONDS + self.second
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn days_are_written_as_the_table_has_them() {
        let at = |time| Event { member: 0, product: 0, time, kind: Kind::Purchase, store: 0, channel: 0, price: 0 };
        let (east, noon) = (8 * 3600, 10 * DAY_SECONDS + 4 * 3600);
        // 01:00 in the shops, the day before in UTC.
        let night = 9 * DAY_SECONDS + 17 * 3600;
        let midnights = [at(3 * DAY_SECONDS), at(9 * DAY_SECONDS)];
        let naive = Days::of(&midnights, east).unwrap();
        assert_eq!([naive.time(noon), naive.time(night)], [10 * DAY_SECONDS; 2]);
        let aware = Days::of(&midnights.map(|e| at(e.time - east)), east).unwrap();
        assert_eq!([aware.time(noon), aware.time(night)], [10 * DAY_SECONDS - east; 2]);
        let utc = Days::of(&midnights, 0).unwrap();
        assert_eq!([utc.time(noon), utc.time(night)], [10 * DAY_SECONDS, 9 * DAY_SECONDS]);
        assert_eq!(Days::of(&[at(5), at(6)], east), None, "it tells seconds");
        assert_eq!(Days::of(&[], east), None);
    }
}
