//! Counts popularity. Counts of all members: they name nobody.

use std::collections::{BTreeMap, HashMap};

use kindred_models::events::{DAY_SECONDS, day};
use kindred_models::popularity::{DAYPARTS, Popularity, Segment, daypart};
use kindred_models::ranking::Scored;
use kindred_models::strings::{NONE, Strings};
use rayon::prelude::*;

use crate::config::PopularityParams;
use crate::data::{Dataset, Event, Kind};
use crate::slice::{Slice, kept_purchases};

/// Purchases of a member, in those of the mean one, that count: a till's own card, or a trader's, says little of what others
/// buy. What is bought since a version was made counts in full.
const MOST_OF_ONE: f64 = 50.0;

/// Counts purchases less refunds, each decayed from its own day.
pub fn fit(dataset: &Dataset, slice: &Slice, params: &PopularityParams) -> Popularity {
    let products = dataset.products.len();
    let half_life = params.half_life_days;
    let weights = Weights::of(slice);
    let overall = |half_life: f32| weights.overall(slice, products, half_life);
    let cities = &dataset.members.cities;
    let dayparts: Vec<String> = DAYPARTS.map(str::to_owned).to_vec();
    let of_day = |e: &Event| {
        let hour = (e.time + i64::from(params.utc_offset_minutes) * 60).rem_euclid(DAY_SECONDS) / 3600;
        DAYPARTS.iter().position(|name| *name == daypart(hour as u8)).map(|row| row as u32)
    };
    let known = |row: u32| (row != u32::MAX).then_some(row);
    let segment = |names: Vec<String>, of: &dyn Fn(&Event) -> Option<u32>| {
        segment(slice, products, names, half_life, &weights, of)
    };
    let stores = segment(dataset.events.stores.clone(), &|e| known(e.store));
    Popularity {
        overall: overall(half_life).into(),
        long: overall(params.long_half_life_days).into(),
        short: overall(params.short_half_life_days).into(),
        trials: trials(slice, products, params.trial_half_life_days).into(),
        age_days: ages(slice, &dataset.launched_at, products).into(),
        cities: segment(cities.values.iter().map(str::to_owned).collect(), &|e| known(cities.rows[e.member as usize])),
        channels: segment(dataset.events.channels.clone(), &|e| (e.channel != u16::MAX).then_some(e.channel.into())),
        dayparts: if slice.has_hours() { segment(dayparts, &of_day) } else { segment(Vec::new(), &|_| None) },
        city_of_store: city_of_store(dataset, slice, &stores).into(),
        stores,
        ..Popularity::default()
    }
    .ranked()
}

/// 1 for a purchase, −1 for a refund, nothing for other events.
fn sign(event: &Event) -> Option<f32> {
    match event.kind {
        Kind::Purchase => Some(1.0),
        Kind::Refund => Some(-1.0),
        _ => None,
    }
}

/// Decayed purchases per product.
pub(crate) fn overall(slice: &Slice, products: usize, half_life: f32) -> Vec<f32> {
    Weights::of(slice).overall(slice, products, half_life)
}

/// What a purchase of each member counts: 1, and less of who buys far more than others do.
#[derive(Debug, Default)]
struct Weights(HashMap<u32, f32>);

impl Weights {
    fn of(slice: &Slice) -> Self {
        let (mut members, mut all) = (0u64, 0u64);
        let counts = slice.members().map(|(member, events)| {
            let count = events.filter(|e| e.kind == Kind::Purchase).count() as u64;
            (members, all) = (members + u64::from(count > 0), all + count);
            (member, count)
        });
        let counts: Vec<(u32, u64)> = counts.collect();
        let most = MOST_OF_ONE * all as f64 / members.max(1) as f64;
        let beyond = counts.into_iter().filter(|(_, count)| *count as f64 > most);
        Self(beyond.map(|(member, count)| (member, (most / count as f64) as f32)).collect())
    }

    fn weight(&self, member: u32) -> f32 {
        if self.0.is_empty() { 1.0 } else { self.0.get(&member).copied().unwrap_or(1.0) }
    }

    fn overall(&self, slice: &Slice, products: usize, half_life: f32) -> Vec<f32> {
        let mut counts = vec![0f64; products];
        for event in slice.events() {
            if let Some(sign) = sign(event) {
                let weight = sign * self.weight(event.member);
                counts[event.product as usize] += f64::from(weight * slice.decay(event.time, half_life));
            }
        }
        counts.into_iter().map(|x| x.max(0.0) as f32).collect()
    }
}

/// Per product, the members who bought it and kept it, each decayed from the first time.
fn trials(slice: &Slice, products: usize, half_life: f32) -> Vec<f32> {
    let mut counts = vec![0f64; products];
    for pair in slice.pairs() {
        if let Some(first) = kept_purchases(pair).first() {
            counts[pair[0].product as usize] += f64::from(slice.decay(*first, half_life));
        }
    }
    counts.into_iter().map(|x| x as f32).collect()
}

/// Days from the first purchase of each product; of one that nobody bought, from its launch within the history, or in the
/// night after it, whose day a table of days does not name yet.
fn ages(slice: &Slice, launched_at: &[Option<i64>], products: usize) -> Vec<u16> {
    if !slice.has_time() {
        return vec![0; products];
    }
    let mut first = vec![i64::MAX; products];
    for event in slice.events().filter(|e| e.kind == Kind::Purchase) {
        let first = &mut first[event.product as usize];
        *first = event.time.min(*first);
    }
    let oldest = first.iter().copied().min().unwrap_or(i64::MAX);
    let history = oldest..=i64::MAX;
    let is_over = |at: i64| day(at) <= day(slice.as_of) + 1;
    let launched =
        |row: usize| launched_at.get(row).copied().flatten().filter(|at| history.contains(at) && is_over(*at));
    let age = |(row, first): (usize, i64)| match (first, launched(row)) {
        (i64::MAX, None) => 0,
        (i64::MAX, Some(launched)) => (day(slice.as_of) - day(launched)).max(1),
        (first, _) => day(slice.as_of) - day(first),
    };
    first.into_iter().enumerate().map(|of| age(of).clamp(0, i64::from(u16::MAX)) as u16).collect()
}

/// Counts by a part of the chain; `of` gives a row of `names`, which need not be sorted.
fn segment(
    slice: &Slice,
    products: usize,
    names: Vec<String>,
    half_life: f32,
    weights: &Weights,
    of: &dyn Fn(&Event) -> Option<u32>,
) -> Segment {
    let mut order: Vec<u32> = (0..names.len() as u32).collect();
    order.sort_by_key(|row| &names[*row as usize]);
    let mut sorted_row = vec![0u32; names.len()];
    order.iter().zip(0..).for_each(|(row, sorted)| sorted_row[*row as usize] = sorted);
    let counted = || slice.events().filter_map(|e| Some((sorted_row[of(e)? as usize] as usize, e, sign(e)?)));
    let mut ends = vec![0usize; names.len() + 1];
    counted().for_each(|(row, ..)| ends[row + 1] += 1);
    (0..names.len()).for_each(|row| ends[row + 1] += ends[row]);
    let (mut next, mut amounts) = (ends.clone(), vec![(0u32, 0f32); ends[names.len()]]);
    for (row, event, sign) in counted() {
        let weight = sign * weights.weight(event.member);
        amounts[next[row]] = (event.product, weight * slice.decay(event.time, half_life));
        next[row] += 1;
    }
    let rows: Vec<Vec<Scored>> = (0..names.len())
        .into_par_iter()
        .map_init(|| vec![0f64; products], |sums, row| summed(&amounts[ends[row]..ends[row + 1]], sums))
        .collect();
    let sorted: Strings = order.iter().map(|row| &names[*row as usize]).collect();
    Segment::new(sorted, crate::affinity::from_rows(&rows))
}

/// The sum of each product's amounts, those above 0, by product; `sums` are 0 per product, and left so.
fn summed(amounts: &[(u32, f32)], sums: &mut [f64]) -> Vec<Scored> {
    let mut products: Vec<u32> = amounts.iter().map(|(product, _)| *product).collect();
    products.sort_unstable();
    products.dedup();
    amounts.iter().for_each(|(product, amount)| sums[*product as usize] += f64::from(*amount));
    let sum = |row: u32| Scored { row, score: std::mem::take(&mut sums[row as usize]) as f32 };
    products.into_iter().map(sum).filter(|sum| sum.score > 0.0).collect()
}

/// Per store, the city where most purchases' members live.
fn city_of_store(dataset: &Dataset, slice: &Slice, stores: &Segment) -> Vec<u32> {
    let rows: Vec<u32> = dataset.events.stores.iter().map(|name| stores.names.find(name).unwrap_or(NONE)).collect();
    let mut counts = vec![BTreeMap::<u32, u64>::new(); stores.names.len()];
    for event in slice.events().filter(|e| e.kind == Kind::Purchase && e.store != u32::MAX) {
        let city = dataset.members.cities.rows[event.member as usize];
        if city != NONE {
            *counts[rows[event.store as usize] as usize].entry(city).or_default() += 1;
        }
    }
    let most = |counts: &BTreeMap<u32, u64>| {
        counts.iter().max_by_key(|(row, count)| (**count, std::cmp::Reverse(**row))).map_or(NONE, |(row, _)| *row)
    };
    counts.iter().map(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Events;
    use kindred_models::catalogue::{Members, Products};
    use kindred_models::popularity::Context;
    use kindred_models::strings::Labels;

    const DAY: i64 = 86_400;

    /// Two members, of Wuhan and of nowhere, buy in the stores `east` and `west`, online and by hand.
    fn dataset() -> Dataset {
        let bought = |member, product, time, store, channel, kind| Event {
            member,
            product,
            time,
            store,
            channel,
            kind,
            price: 0,
        };
        let events = vec![
            bought(0, 0, 10 * DAY, 0, 0, Kind::Purchase),
            bought(0, 0, 40 * DAY + 9 * 3600, 0, 0, Kind::Purchase),
            bought(0, 1, 40 * DAY + 20 * 3600, 1, 1, Kind::Purchase),
            bought(1, 1, 40 * DAY + 20 * 3600, 1, u16::MAX, Kind::Purchase),
            bought(1, 2, 40 * DAY + 20 * 3600, u32::MAX, 1, Kind::Purchase),
            bought(1, 2, 40 * DAY + 20 * 3600, u32::MAX, 1, Kind::Refund),
            bought(1, 2, 40 * DAY + 20 * 3600, 0, 1, Kind::View),
        ];
        Dataset {
            products: Products { ids: ["a", "b", "c"].iter().collect(), ..Products::default() },
            launched_at: vec![None; 3],
            members: Members {
                ids: ["m", "n"].iter().collect(),
                cities: Labels::encode(&[Some("Wuhan"), None]),
                ..Members::default()
            },
            events: Events {
                list: events.into(),
                stores: vec!["west".to_owned(), "east".to_owned()],
                channels: vec!["online".to_owned(), "till".to_owned()],
            },
            has_time: true,
            learned_state: None,
            rejects: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn count(segment: &Segment, name: &str, product: u32) -> f32 {
        let (products, counts) = segment.counts.row(segment.names.find(name).unwrap());
        products.binary_search(&product).map_or(0.0, |at| counts[at])
    }

    #[test]
    fn purchases_are_counted_by_place_channel_and_hour() {
        let dataset = dataset();
        let mut slice = Slice::all(&dataset);
        slice.as_of = 40 * DAY + 20 * 3600;
        let params = PopularityParams { half_life_days: 0.0, ..PopularityParams::default() };
        let p = fit(&dataset, &slice, &params);
        assert_eq!(p.overall.to_vec(), [2.0, 2.0, 0.0], "a refund takes its purchase back, a view is none");
        assert_eq!([count(&p.stores, "west", 0), count(&p.stores, "east", 1)], [2.0, 2.0]);
        assert_eq!([count(&p.stores, "west", 1), count(&p.stores, "west", 2)], [0.0, 0.0]);
        assert_eq!([count(&p.cities, "Wuhan", 0), count(&p.cities, "Wuhan", 1)], [2.0, 1.0]);
        assert_eq!([count(&p.channels, "online", 0), count(&p.channels, "till", 1)], [2.0, 1.0]);
        assert_eq!([count(&p.dayparts, "morning", 0), count(&p.dayparts, "evening", 1)], [1.0, 2.0]);
        assert_eq!(count(&p.dayparts, "night", 0), 1.0, "midnight in UTC");
        let east = p.stores.names.find("east").unwrap();
        assert_eq!(p.cities.names.get(p.city_of_store[east as usize]), "Wuhan", "of those whose city is known");
        assert_eq!(p.age_days.to_vec(), [30, 0, 0]);
        let age_of_unsold = |launched: i64| ages(&slice, &[None, None, None, Some(launched * DAY)], 4)[3];
        assert_eq!([9, 10, 38, 41, 42].map(age_of_unsold), [0, 30, 2, 1, 0], "within the history");
        let later = PopularityParams { utc_offset_minutes: 8 * 60, ..params };
        let p = fit(&dataset, &slice, &later);
        assert_eq!(count(&p.dayparts, "morning", 0), 1.0, "midnight in UTC is eight in the morning there");
        assert_eq!(count(&p.dayparts, "afternoon", 0), 1.0);
    }

    #[test]
    fn one_who_buys_for_many_is_no_crowd() {
        let bought = |member, product, day: i64, kind| Event {
            member,
            product,
            time: day * DAY,
            store: 0,
            channel: 0,
            kind,
            price: 0,
        };
        let mut events: Vec<Event> = (1..200).map(|member| bought(member, 0, 40, Kind::Purchase)).collect();
        events.extend((0..10_000).map(|i| bought(0, 1, 40 - i % 40, Kind::Purchase)));
        events.sort_unstable();
        let counts = overall(&Slice::of(events, true), 2, 0.0);
        let most = 50.0 * 10_199.0 / 200.0;
        assert!((counts[0] - 199.0).abs() < 1e-3 && (counts[1] - most).abs() < 1.0, "{counts:?}");
    }

    #[test]
    fn old_purchases_count_less_and_a_store_speaks_for_itself() {
        let dataset = dataset();
        let mut slice = Slice::all(&dataset);
        slice.as_of = 40 * DAY;
        let params = PopularityParams { half_life_days: 30.0, ..PopularityParams::default() };
        let p = fit(&dataset, &slice, &params);
        assert!((p.overall[0] - 1.5).abs() < 1e-6, "one of 30 days ago, one of today");
        let trials = trials(&slice, 3, 30.0);
        assert!((trials[0] - 0.5).abs() < 1e-6, "whoever buys it again has known it for 30 days: {trials:?}");
        assert_eq!(trials[1..], [2.0, 0.0], "what was brought back was not tried");
        let at = |store: &str| p.here(&Context { store: Some(store.to_owned()), ..Context::default() });
        assert!(at("west").shares(&[0])[0] > p.share(0) && at("east").shares(&[0])[0] < p.share(0));
    }
}
