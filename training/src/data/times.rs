//! What is odd about the times of events as a whole.

use std::collections::BTreeMap;

use chrono::DateTime;
use kindred_models::events::{DAY_SECONDS, Kind, day};

use super::Event;

/// Days without any event before the newest, and the part of all that these are at most, from which their times are doubtful.
const LONELY_DAYS: i64 = 30;
const LONELY_SHARE: usize = 1000;
/// Share of events that are the same as another, from which it is told: pieces rung up one by one are fewer.
const TWICE_SHARE: f64 = 0.05;
/// Days that purchases may end before other events do, before it is told.
const ENDS_APART: i64 = 2;

/// What there is to say of the newest events, if these stand alone: all is reckoned from the newest, so that a single one of a
/// wrong time makes everything else old.
pub(super) fn lonely_end(events: &[Event]) -> Option<String> {
    let mut days = BTreeMap::<i64, usize>::new();
    events.iter().for_each(|e| *days.entry(day(e.time)).or_default() += 1);
    let few = (events.len() / LONELY_SHARE).max(1);
    let (mut newest, mut told) = (0, None);
    for ((later, count), (earlier, _)) in days.iter().rev().zip(days.iter().rev().skip(1)) {
        newest += count;
        if newest > few {
            break;
        }
        let gap = later - earlier;
        if gap >= LONELY_DAYS {
            let date = DateTime::from_timestamp(later * DAY_SECONDS, 0)?.date_naive();
            told = Some(format!(
                "events: the newest ({newest}, from {date} on) come {gap} days after all others, and all that is learned \
                 counts from the newest: are their times right?"
            ));
        }
    }
    told
}

/// What there is to say of purchases that end before other events do.
pub(super) fn early_end(events: &[Event]) -> Option<String> {
    let last = events.iter().map(|e| day(e.time)).max()?;
    let last_purchase = events.iter().filter(|e| e.kind == Kind::Purchase).map(|e| day(e.time)).max()?;
    let days = last - last_purchase;
    (days > ENDS_APART).then(|| {
        format!(
            "events: the last purchase is of {days} days before the last event, and what is learned of who buys ends with it"
        )
    })
}

/// What there is to say of sorted events that are the same in all that is known of them, if these are many.
pub(super) fn told_twice(events: &[Event]) -> Option<String> {
    let twice = events.windows(2).filter(|pair| pair[0] == pair[1]).count();
    (twice as f64 > TWICE_SHARE * events.len() as f64).then(|| {
        format!(
            "events: {twice} of {} are the same as another, of one member, product, time and store: do files overlap? Each counts",
            events.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, kind: Kind) -> Event {
        Event { member: 0, product: 0, time: day * DAY_SECONDS, kind, store: 0, channel: 0, price: 0 }
    }

    #[test]
    fn a_single_event_far_behind_all_others_is_told() {
        let told = |last: &[i64]| {
            let days = (0..3000).map(|i| i / 10).chain(last.iter().copied());
            lonely_end(&days.map(|day| at(day, Kind::Purchase)).collect::<Vec<_>>())
        };
        assert_eq!((told(&[]), told(&[328])), (None, None));
        assert!(told(&[340, 400]).unwrap().contains("(2, from 1970-12-07 on) come 41 days"), "{:?}", told(&[340, 400]));
        assert_eq!(told(&[400; 10]), None, "these are no slip");
    }

    #[test]
    fn messages_of_days_whose_sales_are_not_there_yet_are_told() {
        let told = |day| early_end(&[at(7, Kind::Purchase), at(day, Kind::Contact)]);
        assert_eq!((told(3), told(9)), (None, None));
        assert!(told(10).unwrap().contains("3 days before the last event"), "{:?}", told(10));
    }

    #[test]
    fn files_that_overlap_are_told_of() {
        let events: Vec<Event> = (0..100).map(|day| at(day, Kind::Purchase)).collect();
        let with = |again: usize| {
            let mut all = [&events[..], &events[..again]].concat();
            all.sort_unstable();
            told_twice(&all)
        };
        assert_eq!(with(5), None, "5 of 105");
        assert!(with(6).is_some_and(|told| told.starts_with("events: 6 of 106 ")));
    }
}
