//! Fits the repeat model.

use kindred_models::catalogue::Products;
use kindred_models::categories::CategoryTree;
use kindred_models::events::{DAY_SECONDS, day};
use kindred_models::history::{History, Past};
use kindred_models::repeat::{CLASSES, Hazards, Repeat};
use kindred_models::strings::NONE;

use crate::data::Event;
use crate::slice::{Slice, kept_purchases};

/// Gaps, or buyers, at which a product weighs as much as its category, and a category as the base.
const PRIOR: f64 = 5.0;
/// Days between purchases where nobody came back.
const NO_GAP_DAYS: f64 = 90.0;
/// Pairs at which a class of the hazard weighs as much as all.
const CLASS_PRIOR: f64 = 20.0;
/// Days within which a purchase counts for the hazard.
const HORIZON_DAYS: i64 = 28;

/// What was counted of a product, a category or the base.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    days: f64,
    gaps: f64,
    returned: f64,
    buyers: f64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.days += other.days;
        self.gaps += other.gaps;
        self.returned += other.returned;
        self.buyers += other.buyers;
    }

    /// Usual gap and share that comes back, shrunk to the parent's.
    fn shrunk(&self, (gap, rate): (f64, f64)) -> (f64, f64) {
        ((self.days + PRIOR * gap) / (self.gaps + PRIOR), (self.returned + PRIOR * rate) / (self.buyers + PRIOR))
    }
}

/// Fits the model; empty where events have no time.
pub fn fit(slice: &Slice, history: &History, products: &Products) -> Repeat {
    if !slice.has_time() {
        return Repeat::default();
    }
    let (gaps, rates) = usual(history, products);
    let mut repeat = Repeat { gaps: gaps.into(), rates: rates.into(), hazards: Hazards::default() };
    repeat.hazards = hazards(slice, history, &repeat);
    repeat
}

/// Usual gap and share of buyers who came back, per product.
fn usual(history: &History, products: &Products) -> (Vec<f32>, Vec<f32>) {
    let tree = CategoryTree::new(&products.categories, &[]);
    let mut counts = vec![Counts::default(); products.len()];
    for member in 0..history.rows.len() as u32 {
        for past in history.member(member).filter(|p| p.count > 0) {
            let returned = f64::from(u8::from(past.trips > 1));
            counts[past.product as usize].add(&Counts {
                days: f64::from(past.span_days),
                gaps: f64::from(past.trips) - 1.0,
                returned,
                buyers: 1.0,
            });
        }
    }
    let (mut base, mut nodes) = (Counts::default(), vec![Counts::default(); tree.len()]);
    for (count, label) in counts.iter().zip(products.categories.rows.iter()) {
        base.add(count);
        tree.levels(*label).iter().filter(|node| **node != NONE).for_each(|node| nodes[*node as usize].add(count));
    }
    let of_base = base.shrunk((NO_GAP_DAYS, 0.0));
    let of_product = |(count, label): (&Counts, &u32)| {
        let levels = tree.levels(*label);
        let nodes = levels.iter().rev().filter(|node| **node != NONE).map(|node| &nodes[*node as usize]);
        let parent = nodes.fold(of_base, |parent, node| node.shrunk(parent));
        count.shrunk(parent)
    };
    let pairs = counts.iter().zip(products.categories.rows.iter()).map(of_product);
    pairs.map(|(gap, rate)| (gap as f32, rate as f32)).unzip()
}

/// Counts, for pairs as they stood before the last days of the slice, how many were bought again in them.
fn hazards(slice: &Slice, history: &History, repeat: &Repeat) -> Hazards {
    let cut = slice.bought_until() - HORIZON_DAYS * DAY_SECONDS;
    let mut classes = vec![(0f64, 0f64); CLASSES];
    for events in slice.pairs().filter(|events| !history.rows.range(events[0].member).is_empty()) {
        let Some((past, again)) = as_of(events, cut) else { continue };
        if let Some(class) = repeat.class(&past) {
            classes[class].0 += f64::from(u8::from(again));
            classes[class].1 += 1.0;
        }
    }
    let (again, pairs) = classes.iter().fold((0.0, 0.0), |sum, class| (sum.0 + class.0, sum.1 + class.1));
    if again == 0.0 {
        return Hazards::default();
    }
    let share = |class: &(f64, f64)| ((class.0 + CLASS_PRIOR * again / pairs) / (class.1 + CLASS_PRIOR)) as f32;
    Hazards { horizon_days: HORIZON_DAYS as u32, shares: classes.iter().map(share).collect() }
}

/// A pair as it stood at the cut, and whether it was bought afterwards, and kept; `None` if not bought before it.
fn as_of(events: &[Event], cut: i64) -> Option<(Past, bool)> {
    let before = &events[..events.partition_point(|e| e.time <= cut)];
    let times = kept_purchases(before);
    let (first, last) = (times.first()?, times.last()?);
    let days = |from: i64, to: i64| u16::try_from(day(to) - day(from)).unwrap_or(u16::MAX - 1);
    let trips = times.chunk_by(|a, b| day(*a) == day(*b)).count();
    let past = Past {
        count: u16::try_from(times.len()).unwrap_or(u16::MAX),
        // As `Slice::days_since` counts them, which the hazard is asked with.
        days_since: u16::try_from((cut - last) / DAY_SECONDS).unwrap_or(u16::MAX - 1),
        trips: u16::try_from(trips).unwrap_or(u16::MAX),
        span_days: days(*first, *last),
        ..Past::new(before[0].product)
    };
    Some((past, !kept_purchases(&events[before.len()..]).is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Kind;

    #[test]
    fn counts_back_off_to_the_parent() {
        let none = Counts::default().shrunk((40.0, 0.25));
        assert_eq!(none, (40.0, 0.25));
        let some = Counts { days: 50.0, gaps: 5.0, returned: 5.0, buyers: 15.0 }.shrunk((40.0, 0.25));
        assert_eq!(some, (25.0, 0.3125), "as many gaps as the prior: half way; 5 + 5/4 of 20 buyers");
    }

    #[test]
    fn a_pair_is_seen_as_it_stood() {
        let event =
            |day: i64, kind| Event { member: 0, product: 7, time: day * 86_400, store: 0, channel: 0, kind, price: 0 };
        let events =
            [event(1, Kind::Purchase), event(11, Kind::Purchase), event(21, Kind::View), event(40, Kind::Purchase)];
        let (past, again) = as_of(&events, 30 * 86_400).unwrap();
        assert_eq!((past.trips, past.span_days, past.days_since, again), (2, 10, 19, true));
        assert!(!as_of(&events[..3], 30 * 86_400).unwrap().1, "a look is no purchase");
        assert!(as_of(&events[3..], 30 * 86_400).is_none());
        let brought_back = [&events[..], &[event(42, Kind::Refund)]].concat();
        assert!(!as_of(&brought_back, 30 * 86_400).unwrap().1);
    }
}
