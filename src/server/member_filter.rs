//! Which members a request asks for: checked, and put into the words of the model.

use chrono::NaiveDate;
use kindred_models::audience::{Birthday, DueForRepeat, LastPurchase, MaxContacts, MemberFilter};
use kindred_models::groups::{CONTACT_DAYS, Segment};

use super::validate::{Check, MAX_TAGS};
use crate::proto::v1;

/// Stores, cities and guides of a filter at most.
pub(super) const MAX_PLACES: usize = 10_000;
/// Filters within filters and demands of what was bought at most, and how deep.
const MAX_FILTERS: usize = 100;
const MAX_FILTER_DEPTH: usize = 4;
/// Days since a purchase at most.
const MAX_DAYS: i32 = u16::MAX as i32 - 1;
/// Days ahead at most.
const MAX_DAYS_AHEAD: u16 = 365;

/// The filter of a request; `today` by the shops' clocks.
pub(super) fn member_filter(check: &mut Check, given: Option<&v1::MemberFilter>, today: NaiveDate) -> MemberFilter {
    let mut filters = Filters { check, today, count: 0 };
    given.map_or_else(MemberFilter::default, |given| filters.one("filter", given, 1))
}

/// The filters of a request, `count` of which were seen.
struct Filters<'a> {
    check: &'a mut Check,
    today: NaiveDate,
    count: usize,
}

impl Filters<'_> {
    /// A filter and those within it.
    fn one(&mut self, field: &str, given: &v1::MemberFilter, depth: usize) -> MemberFilter {
        self.count += 1 + given.last_purchases.len();
        if depth > MAX_FILTER_DEPTH || self.count > MAX_FILTERS {
            let most = format!("{MAX_FILTER_DEPTH} deep, or {MAX_FILTERS} filters and last purchases in all");
            self.check.that(false, field, &format!("must not go beyond {most}"));
            return MemberFilter::default();
        }
        let mut ids = |name: &str, ids: &[String], most| self.check.ids(&format!("{field}.{name}"), ids, most);
        ids("store_ids", &given.store_ids, MAX_PLACES);
        ids("cities", &given.cities, MAX_PLACES);
        ids("guide_ids", &given.guide_ids, MAX_PLACES);
        ids("tags", &given.tags, MAX_TAGS);
        let last = given.last_purchases.iter().enumerate();
        MemberFilter {
            any_of: self.within(&format!("{field}.any_of"), &given.any_of, depth),
            none_of: self.within(&format!("{field}.none_of"), &given.none_of, depth),
            stores: given.store_ids.clone(),
            cities: given.cities.clone(),
            guides: given.guide_ids.clone(),
            tags: given.tags.clone(),
            segments: self.segments(&format!("{field}.segments"), &given.segments),
            last_purchases: last.map(|(i, l)| self.last_purchase(&format!("{field}.last_purchases[{i}]"), l)).collect(),
            max_contacts: given.max_contacts.map(|max| self.max_contacts(&format!("{field}.max_contacts"), max)),
            birthday: given.birthday.map(|birthday| Birthday {
                within_days: self.days_ahead(&format!("{field}.birthday"), birthday.within_days),
                from: Some(self.today),
            }),
            due_for_repeat: given.due_for_repeat.as_ref().map(|due| self.due(&format!("{field}.due_for_repeat"), due)),
        }
    }

    fn within(&mut self, field: &str, filters: &[v1::MemberFilter], depth: usize) -> Vec<MemberFilter> {
        // One more than are allowed is enough to say so.
        let each = filters.iter().take(MAX_FILTERS + 1).enumerate();
        each.map(|(i, filter)| self.one(&format!("{field}[{i}]"), filter, depth + 1)).collect()
    }

    fn segments(&mut self, field: &str, given: &[String]) -> Vec<Segment> {
        self.check.ids(field, given, Segment::ALL.len());
        let segments: Option<Vec<Segment>> = given.iter().map(|name| Segment::parse(name)).collect();
        let names = Segment::ALL.map(Segment::name).join(", ");
        self.check.that(segments.is_some(), field, &format!("must be of {names}"));
        segments.unwrap_or_default()
    }

    fn last_purchase(&mut self, field: &str, given: &v1::LastPurchase) -> LastPurchase {
        let (least, most) = (given.min_days.unwrap_or(0), given.max_days.unwrap_or(MAX_DAYS));
        let in_order = 0 <= least && least <= most && most <= MAX_DAYS;
        self.check.that(in_order, field, &format!("must have 0 up to min_days up to max_days up to {MAX_DAYS}"));
        let days = |days: Option<i32>| days.and_then(|days| u16::try_from(days).ok());
        LastPurchase {
            category: self.category(field, &given.category),
            min_days: days(given.min_days),
            max_days: days(given.max_days),
        }
    }

    fn max_contacts(&mut self, field: &str, given: v1::MaxContacts) -> MaxContacts {
        let days = i32::from(CONTACT_DAYS);
        self.check.that(given.count >= 0, &format!("{field}.count"), "must be 0 or above");
        let is_kept = (1..=days).contains(&given.days);
        self.check.that(is_kept, &format!("{field}.days"), &format!("must be from 1 to {days}"));
        MaxContacts { count: usize::try_from(given.count).unwrap_or(0), days: u16::try_from(given.days).unwrap_or(0) }
    }

    fn due(&mut self, field: &str, given: &v1::DueForRepeat) -> DueForRepeat {
        DueForRepeat {
            category: self.category(field, &given.category),
            within_days: self.days_ahead(field, given.within_days),
        }
    }

    fn category(&mut self, field: &str, given: &str) -> Option<String> {
        self.check.category(&format!("{field}.category"), given);
        Some(given.to_owned()).filter(|category| !category.is_empty())
    }

    fn days_ahead(&mut self, field: &str, days: i32) -> u16 {
        let days = u16::try_from(days).ok().filter(|days| *days <= MAX_DAYS_AHEAD);
        let limits = format!("must be from 0 to {MAX_DAYS_AHEAD}");
        self.check.that(days.is_some(), &format!("{field}.within_days"), &limits);
        days.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_asked_for_is_in_the_filter() {
        let today = NaiveDate::from_ymd_opt(2026, 2, 28).unwrap();
        let inner = v1::MemberFilter { tags: vec!["vip".to_owned()], ..v1::MemberFilter::default() };
        let given = v1::MemberFilter {
            store_ids: vec!["s".to_owned()],
            cities: vec!["c".to_owned()],
            guide_ids: vec!["g".to_owned()],
            segments: vec![Segment::ALL[0].name().to_owned()],
            last_purchases: vec![v1::LastPurchase { category: "tea".to_owned(), min_days: Some(1), max_days: Some(2) }],
            max_contacts: Some(v1::MaxContacts { count: 3, days: 30 }),
            any_of: vec![inner.clone()],
            none_of: vec![inner.clone(), inner],
            birthday: Some(v1::Birthday { within_days: 7 }),
            due_for_repeat: Some(v1::DueForRepeat { category: "drinks/tea".to_owned(), within_days: 3 }),
            tags: Vec::new(),
        };
        let mut check = Check::default();
        let vip = MemberFilter { tags: vec!["vip".to_owned()], ..MemberFilter::default() };
        let expected = MemberFilter {
            stores: vec!["s".to_owned()],
            cities: vec!["c".to_owned()],
            guides: vec!["g".to_owned()],
            segments: vec![Segment::ALL[0]],
            last_purchases: vec![LastPurchase {
                category: Some("tea".to_owned()),
                min_days: Some(1),
                max_days: Some(2),
            }],
            max_contacts: Some(MaxContacts { count: 3, days: 30 }),
            any_of: vec![vip.clone()],
            none_of: vec![vip.clone(), vip],
            birthday: Some(Birthday { within_days: 7, from: Some(today) }),
            due_for_repeat: Some(DueForRepeat { category: Some("drinks/tea".to_owned()), within_days: 3 }),
            tags: Vec::new(),
        };
        assert_eq!(member_filter(&mut check, Some(&given), today), expected);
        assert!(check.finish().is_ok());
    }
}
