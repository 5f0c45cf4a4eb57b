//! Caps: how many messages a member may get.

use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, HOUR_SECONDS};
use super::contact::Times;

/// How many messages a calendar month may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MonthCap {
    /// So many.
    Count(u32),
    /// As many as the month has days.
    Days(DaysOfMonth),
}

/// The word for [`MonthCap::Days`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaysOfMonth {
    /// As many as the month has days.
    Days,
}

/// How many messages a member may get at most; `None` is any number. Days are the shops' own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// A day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// In any 7 days that follow each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_7_days: Option<u32>,
    /// In any 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_30_days: Option<u32>,
    /// In a calendar month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_month: Option<MonthCap>,
    /// Hours between two at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gap_hours: Option<u32>,
}

impl Caps {
    /// Whether one more message goes with others. Those before it and after it count alike.
    pub fn admit(&self, calendar: Calendar, others: &[Times], new: Times) -> bool {
        self.is_apart(others, new) && self.admit_day(calendar, others, calendar.day(new.from))
    }

    /// Whether the time between a message and others is long enough, whenever they go out.
    pub(super) fn is_apart(&self, others: &[Times], new: Times) -> bool {
        let gap = HOUR_SECONDS * i64::from(self.min_gap_hours.unwrap_or(0));
        gap == 0 || others.iter().all(|other| new.from - other.until >= gap || other.from - new.until >= gap)
    }

    /// Whether a local day has room for one more message beside others.
    pub(super) fn admit_day(&self, calendar: Calendar, others: &[Times], today: i64) -> bool {
        let mut days: Vec<i64> = others.iter().map(|other| calendar.day(other.from)).collect();
        days.push(today);
        days.sort_unstable();
        within(&days, today, 1, self.per_day)
            && within(&days, today, 7, self.per_7_days)
            && within(&days, today, 30, self.per_30_days)
            && self.per_month.is_none_or(|cap| {
                let month = Calendar::month(today);
                days.iter().filter(|day| Calendar::month(**day) == month).count() <= cap.most(today)
            })
    }
}

impl MonthCap {
    /// How many the month of a local day may have.
    fn most(self, day: i64) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Days(_) => Calendar::days_of_month(day) as usize,
        }
    }
}

/// Whether no run of `length` days that holds `today` has more than `most` of the sorted `days`.
fn within(days: &[i64], today: i64, length: i64, most: Option<u32>) -> bool {
    let Some(most) = most else { return true };
    let first = days.partition_point(|day| *day <= today - length);
    let last = days.partition_point(|day| *day < today + length);
    let near = &days[first..last];
    // One more than are allowed, in too few days.
    !near.windows(most as usize + 1).any(|run| run[run.len() - 1] - run[0] < length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::DAY_SECONDS;
    use proptest::prelude::*;

    fn at(day: i64, hour: i64) -> Times {
        Times::at(day * DAY_SECONDS + hour * HOUR_SECONDS)
    }

    fn admits(caps: Caps, others: &[Times], new: Times) -> bool {
        caps.admit(Calendar::default(), others, new)
    }

    #[test]
    fn days_weeks_and_months_are_counted_apart() {
        let day = Caps { per_day: Some(1), ..Caps::default() };
        assert!(!admits(day, &[at(100, 1)], at(100, 23)) && admits(day, &[at(100, 23)], at(101, 0)));
        let week = Caps { per_7_days: Some(2), ..Caps::default() };
        assert!(!admits(week, &[at(100, 1), at(103, 1)], at(106, 9)));
        assert!(admits(week, &[at(100, 1), at(103, 1)], at(107, 0)));
        assert!(!admits(week, &[at(100, 1), at(104, 1)], at(102, 1)), "in between");
        assert!(admits(week, &[at(100, 1), at(108, 1)], at(104, 1)), "no seven days have three");
        assert!(!admits(Caps { per_30_days: Some(0), ..Caps::default() }, &[], at(100, 1)), "none is none");
    }

    #[test]
    fn a_month_may_have_as_many_as_it_has_days() {
        // Day 20,120 is 2025-02-01.
        let month = Caps { per_month: Some(MonthCap::Days(DaysOfMonth::Days)), ..Caps::default() };
        let sent = |count: usize| vec![at(20_120, 9); count];
        assert!(admits(month, &sent(27), at(20_147, 9)) && !admits(month, &sent(28), at(20_147, 9)));
        assert!(admits(month, &sent(28), at(20_148, 9)), "March begins");
        let four = Caps { per_month: Some(MonthCap::Count(4)), ..Caps::default() };
        assert!(!admits(four, &sent(4), at(20_140, 9)) && admits(four, &sent(4), at(20_148, 0)));
    }

    #[test]
    fn gaps_are_kept_on_both_sides_whenever_they_go_out() {
        let gap = Caps { min_gap_hours: Some(2), ..Caps::default() };
        let waiting = Times { from: at(1, 10).from, until: at(1, 11).from };
        assert!(!admits(gap, &[waiting], at(1, 12)) && admits(gap, &[waiting], at(1, 13)));
        assert!(!admits(gap, &[waiting], at(1, 9)) && admits(gap, &[waiting], at(1, 8)));
    }

    #[test]
    fn caps_are_read_as_they_are_written() {
        let caps: Caps = serde_json::from_str(r#"{"per_day":1,"per_month":"days"}"#).unwrap();
        assert_eq!(caps.per_month, Some(MonthCap::Days(DaysOfMonth::Days)));
        let caps: Caps = serde_json::from_str(r#"{"per_month":4}"#).unwrap();
        assert_eq!(caps.per_month, Some(MonthCap::Count(4)));
        assert!(serde_json::from_str::<Caps>(r#"{"per_month":"years"}"#).is_err());
    }

    proptest! {
        /// Whatever is admitted one by one, no window of days is ever too full.
        #[test]
        fn no_window_is_ever_too_full(
            asked in prop::collection::vec((0i64..60, 0i64..24), 1..60),
            (day, week, month) in (1u32..3, 1u32..6, 1u32..9),
        ) {
            let caps = Caps { per_day: Some(day), per_7_days: Some(week), per_30_days: Some(month), ..Caps::default() };
            let mut sent = Vec::new();
            for (day, hour) in asked {
                if admits(caps, &sent, at(day, hour)) {
                    sent.push(at(day, hour));
                }
            }
            for (length, most) in [(1, day), (7, week), (30, month)] {
                for first in 0i64..60 {
                    let days = sent.iter().map(|t| t.from / DAY_SECONDS);
                    let count = days.filter(|d| (first..first + length).contains(d)).count();
                    prop_assert!(count <= most as usize, "{count} in {length} days from {first}");
                }
            }
        }
    }
}
