//! From events to interactions: one entry per member and product, as of a moment.

use std::collections::BTreeMap;

use kindred_models::catalogue::Members;
use kindred_models::events::day;
use kindred_models::history::History;
use kindred_models::sparse::Rows;
use kindred_models::strings::Labels;

use crate::config::{IalsParams, TrainConfig};
use crate::data::{Dataset, Event, Kind};
use crate::slice::{Slice, kept_purchases};

/// What a slice says of one member and product.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Purchases that were not brought back.
    count: usize,
    /// Those, and other events by their weights; decayed for the embeddings.
    mass: f32,
    /// Those alone, decayed for the repeat model.
    decayed: f32,
    /// The same with a short half-life.
    recent: f32,
    /// Days on which it was bought.
    trips: usize,
    first_purchase: Option<i64>,
    last_purchase: Option<i64>,
}

impl Pair {
    fn of(events: &[Event], slice: &Slice, config: &TrainConfig) -> Self {
        let kept = kept_purchases(events);
        let weight = |e: &Event| config.event_weights.interest(e.kind);
        let decay = |e: &Event| slice.decay(e.time, config.embeddings.half_life_days);
        let interest: f32 = events.iter().map(|e| weight(e) * decay(e)).sum();
        let of_purchases = |half_life: f32| kept.iter().map(|time| slice.decay(*time, half_life)).sum::<f32>();
        Self {
            count: kept.len(),
            mass: interest + of_purchases(config.embeddings.half_life_days),
            decayed: of_purchases(config.repeat.half_life_days),
            recent: of_purchases(config.repeat.recent_half_life_days),
            trips: kept.chunk_by(|a, b| day(*a) == day(*b)).count(),
            first_purchase: kept.first().copied(),
            last_purchase: kept.last().copied(),
        }
    }
}

impl Pair {
    fn span_days(&self) -> u16 {
        let days = |(first, last): (i64, i64)| day(last) - day(first);
        let span = self.first_purchase.zip(self.last_purchase).map_or(0, days);
        u16::try_from(span).unwrap_or(u16::MAX - 1)
    }
}

/// The history of all members with consent to personalization; of the others nothing is kept.
pub fn history(slice: &Slice, members: &Members, config: &TrainConfig) -> History {
    let IalsParams { weighting, .. } = config.embeddings;
    let mut offsets = vec![0u64; members.len() + 1];
    let (mut products, mut weights, mut decayed, mut recent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut counts, mut days_since, mut trips, mut span_days) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut trips_since, mut trips_from, mut member_trips) = (Vec::new(), Vec::new(), vec![0; members.len()]);
    let (mut shopper, mut shopping_days) = (u32::MAX, Vec::new());
    for events in slice.pairs() {
        let (member, product) = (events[0].member, events[0].product);
        if !members.consent(member).personalization {
            continue;
        }
        if shopper != member {
            (shopper, shopping_days) = (member, slice.shopping_days(member));
            member_trips[member as usize] = saturated(shopping_days.len());
        }
        let pair = Pair::of(events, slice, config);
        if pair.count == 0 && pair.mass <= 0.0 {
            continue;
        }
        products.push(product);
        weights.push(weighting.weight(pair.mass).max(f32::MIN_POSITIVE));
        decayed.push(pair.decayed);
        recent.push(pair.recent);
        counts.push(saturated(pair.count));
        days_since.push(slice.days_since(pair.last_purchase));
        trips.push(saturated(pair.trips));
        span_days.push(pair.span_days());
        let days_before = |day: i64| shopping_days.partition_point(|d| *d < day);
        let first = pair.first_purchase.map_or(i64::MAX, day);
        let last = pair.last_purchase.map_or(i64::MAX - 1, day);
        trips_since.push(saturated(shopping_days.len() - days_before(last + 1)));
        trips_from.push(saturated(shopping_days.len() - days_before(first)));
        offsets[member as usize + 1] += 1;
    }
    for i in 1..offsets.len() {
        offsets[i] += offsets[i - 1];
    }
    History {
        rows: Rows { offsets: offsets.into(), columns: products.into() },
        weights: weights.into(),
        decayed: decayed.into(),
        counts: counts.into(),
        days_since: days_since.into(),
        trips: trips.into(),
        span_days: span_days.into(),
        recent: recent.into(),
        trips_since: trips_since.into(),
        trips_from: trips_from.into(),
        member_trips: member_trips.into(),
    }
}

/// The members as they stood at the end of a slice: whose home store no table names is at home where they bought
/// last, if that may be used; of several stores at that moment, as on one day of a table of days, where they bought most.
pub fn members(dataset: &Dataset, slice: &Slice) -> Members {
    let members = &dataset.members;
    let mut last = vec![None; members.len()];
    for (member, events) in slice.members().filter(|(member, _)| members.consent(*member).personalization) {
        let in_stores = events.filter(|e| e.kind == Kind::Purchase);
        let in_stores = in_stores.filter_map(|e| Some((e.time, dataset.events.stores.get(e.store as usize)?.as_str())));
        last[member as usize] = last_store(in_stores);
    }
    let stores: Vec<Option<&str>> =
        (0..members.len() as u32).map(|row| members.stores.get(row).or(last[row as usize])).collect();
    Members { stores: Labels::encode(&stores), ..members.clone() }
}

/// Where most of the latest purchases were, by their moments; of stores alike, the last by name.
fn last_store<'a>(purchases: impl Iterator<Item = (i64, &'a str)>) -> Option<&'a str> {
    let (mut latest, mut counts) = (i64::MIN, BTreeMap::<&str, usize>::new());
    for (time, store) in purchases {
        if time > latest {
            (latest, counts) = (time, BTreeMap::new());
        }
        if time == latest {
            *counts.entry(store).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(store, _)| store)
}

fn saturated(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Events;
    use kindred_models::catalogue::Consent;

    const DAY: i64 = 86_400;

    fn slice(events: &[(i64, Kind)]) -> Slice {
        let event = |(day, kind): &(i64, Kind)| Event {
            member: 0,
            product: 0,
            time: day * DAY,
            store: 0,
            channel: 0,
            kind: *kind,
            price: 0,
        };
        Slice::of(events.iter().map(event).collect(), true)
    }

    fn pair(events: &[(i64, Kind)]) -> Pair {
        let mut config = TrainConfig::default();
        config.embeddings.half_life_days = 100.0;
        config.repeat.half_life_days = 50.0;
        let slice = slice(events);
        Pair::of(slice.pairs().next().unwrap(), &slice, &config)
    }

    #[test]
    fn counts_decay_by_half_lives() {
        let pair = pair(&[(100, Kind::Purchase), (200, Kind::Purchase)]);
        assert_eq!(pair.count, 2);
        assert!((pair.mass - 1.5).abs() < 1e-6 && (pair.decayed - 1.25).abs() < 1e-6, "{pair:?}");
        assert_eq!(pair.last_purchase, Some(200 * DAY));
    }

    #[test]
    fn a_refund_takes_back_the_purchase_before_it() {
        let pair = pair(&[(100, Kind::Purchase), (190, Kind::Purchase), (195, Kind::Refund), (200, Kind::View)]);
        assert_eq!(pair.count, 1);
        assert_eq!(pair.last_purchase, Some(100 * DAY));
        assert!((pair.decayed - 0.25).abs() < 1e-6);
        assert!((pair.mass - 0.55).abs() < 1e-6, "an old purchase and a view: {pair:?}");
    }

    #[test]
    fn more_refunds_than_purchases_leave_nothing() {
        let pair = pair(&[(1, Kind::Refund), (2, Kind::Purchase), (3, Kind::Refund), (4, Kind::Refund)]);
        assert_eq!((pair.count, pair.mass, pair.decayed), (0, 0.0, 0.0));
    }

    #[test]
    fn of_the_stores_of_the_last_day_the_one_with_most_purchases_is_home() {
        let store = |purchases: &[(i64, &'static str)]| last_store(purchases.iter().copied());
        assert_eq!(store(&[(1, "z"), (1, "z"), (2, "a"), (2, "b"), (2, "a"), (1, "z")]), Some("a"));
        assert_eq!(store(&[(0, "a"), (0, "b")]), Some("b"));
        assert_eq!(store(&[]), None);
    }

    #[test]
    fn a_member_is_at_home_where_they_bought_last_before_the_cut() {
        let none: Vec<Option<String>> = vec![None; 3];
        let allowed = |personalization| Consent { personalization, marketing: true, minor: false }.to_bits();
        let members = Members {
            ids: ["a", "b", "c"].iter().collect(),
            stores: Labels::encode(&[None, None, Some("own")]),
            cities: Labels::encode(&none),
            guides: Labels::encode(&none),
            consents: vec![allowed(true), allowed(false), allowed(true)].into(),
            ..Members::default()
        };
        let bought = |member, day, store| Event {
            member,
            product: 0,
            time: day * DAY,
            store,
            channel: u16::MAX,
            kind: Kind::Purchase,
            price: 0,
        };
        let events = vec![bought(0, 1, 0), bought(0, 2, 1), bought(0, 9, 0), bought(1, 1, 0), bought(2, 1, 0)];
        let stores = vec!["east".to_owned(), "west".to_owned()];
        let dataset = Dataset {
            products: kindred_models::catalogue::Products::default(),
            launched_at: Vec::new(),
            members,
            events: Events { list: events.into(), stores, channels: Vec::new() },
            has_time: true,
            learned_state: None,
            rejects: Vec::new(),
            notes: Vec::new(),
        };
        let homes = |slice: &Slice| {
            let stores = super::members(&dataset, slice).stores;
            [0, 1, 2].map(|row| stores.get(row).map(str::to_owned))
        };
        let named = |name: &str| Some(name.to_owned());
        let all = Slice::all(&dataset);
        assert_eq!(homes(&all), [named("east"), None, named("own")]);
        assert_eq!(homes(&all.until(5 * DAY)), [named("west"), None, named("own")], "what came later is not known");
    }
}
