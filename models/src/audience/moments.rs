//! Filters by moments: a birthday, or the time to buy something again.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, Days, NaiveDate};
use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde::Deserialize;

use super::filter::is_of_category;
use crate::catalogue::month_day;
use crate::history::Past;
use crate::model::Model;
use crate::repeat::LAPSED_GAPS;
use crate::state::Said;

/// A birthday soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Birthday {
    /// Within so many days, 0 for that day alone; up to 365.
    pub within_days: u16,
    /// From this day on; the day of the newest event that the model knows if it is not said.
    #[serde(default)]
    pub from: Option<NaiveDate>,
}

impl Birthday {
    pub(super) fn set(&self, model: &Model) -> RoaringBitmap {
        let days = birthdays(self.from.unwrap_or_else(|| newest_day(model)), self.within_days);
        let born = (0u32..).zip(model.members.birthdays.iter()).filter(|(_, day)| days.contains(*day));
        let learned = born.map(|(row, _)| row).collect();
        model.state.mended(learned, Said::Birthday, |said| said.birthday.map(|born| days.contains(&month_day(born))))
    }
}

/// The day of the newest event that is known, by the shops' clocks.
fn newest_day(model: &Model) -> NaiveDate {
    let (now, counting) = (model.state.now(model), model.state.counting());
    // A table of days says which it is.
    let is_day = counting.is_of_days && now == model.info.as_of_time;
    let offset = if is_day { 0 } else { counting.utc_offset_seconds };
    DateTime::from_timestamp(now + offset, 0).unwrap_or_default().date_naive()
}

/// The birthdays within some days. Who was born on 29 February has it on the 28th where there is no 29th.
fn birthdays(from: NaiveDate, within_days: u16) -> BTreeSet<u16> {
    let date = |days: u16| from.checked_add_days(Days::new(days.into()));
    let mut days = BTreeSet::new();
    for date in (0..=within_days).filter_map(date) {
        days.insert(month_day(date));
        if (date.month(), date.day()) == (2, 28) && !date.leap_year() {
            days.insert(229);
        }
    }
    days
}

/// Time to buy something again that was bought on several days: the usual gap is over, or will be soon, and not so long
/// ago that the member has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DueForRepeat {
    /// Path of its category, at any level; `None` for anything.
    #[serde(default)]
    pub category: Option<String>,
    /// Days within which it is time, 0 for now.
    #[serde(default)]
    pub within_days: u16,
}

impl DueForRepeat {
    pub(super) fn set(&self, model: &Model) -> RoaringBitmap {
        let state = &model.state;
        let is_meant = is_of_category(&model.products.categories, self.category.as_deref());
        let passed = state.days_passed(model);
        let is_due = |past: &Past, passed: u16| {
            past.trips > 1 && is_meant(past.product) && self.holds(past.days_since, passed, model.repeat.gap(past))
        };
        let lets_in = |member: &u32| match state.is_as_learned(*member) {
            true => model.history.member(*member).any(|past| is_due(&past, passed)),
            false if !state.consent(model, *member).personalization => false,
            false => state.pasts(model, *member).list.iter().any(|past| is_due(past, 0)),
        };
        let rows: Vec<u32> = (0..model.members.len() as u32).into_par_iter().filter(lets_in).collect();
        rows.into_iter().collect()
    }

    fn holds(&self, days_since: u16, passed: u16, gap: Option<f32>) -> bool {
        let since = f32::from(days_since.saturating_add(passed));
        gap.is_some_and(|gap| since + f32::from(self.within_days) >= gap && since <= LAPSED_GAPS * gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::DAY_SECONDS;
    use crate::feed::fixture;
    use crate::state::State;

    #[test]
    fn birthdays_go_on_over_the_new_year_and_no_29th_is_lost() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
        assert_eq!(birthdays(day(2026, 12, 30), 3).into_iter().collect::<Vec<_>>(), [101, 102, 1230, 1231]);
        assert_eq!(birthdays(day(2027, 2, 28), 0).into_iter().collect::<Vec<_>>(), [228, 229]);
        assert_eq!(birthdays(day(2028, 2, 28), 0).into_iter().collect::<Vec<_>>(), [228]);
        assert_eq!(birthdays(day(2027, 3, 1), 365).len(), 366);
    }

    #[test]
    fn days_are_those_of_the_shops() {
        let mut model = fixture::model(&[("tea", "a", [1.0, 0.0], 90)], &[]);
        // The last evening of 1970 in UTC, and the new year in China.
        model.info.as_of_time = 365 * DAY_SECONDS - 4 * 3600;
        let day = |minutes: i32, unit: &str| {
            let mut model = model.clone();
            model.info.parameters = serde_json::json!({
                "popularity": { "utc_offset_minutes": minutes }, "data": { "events": { "time_unit": unit } }
            });
            model.state = State::of(&model);
            newest_day(&model).to_string()
        };
        assert_eq!([day(0, "s"), day(480, "s"), day(480, "date")], ["1970-12-31", "1971-01-01", "1970-12-31"]);
    }

    #[test]
    fn who_stopped_is_not_due() {
        let due = DueForRepeat { category: None, within_days: 3 };
        let holds = |days| due.holds(days, 0, Some(30.0));
        assert!(!holds(26) && holds(27) && holds(60) && !holds(61));
        assert!(due.holds(20, 10, Some(30.0)), "days that passed since count");
        assert!(!due.holds(40, 0, None), "without times, nobody is");
    }
}
