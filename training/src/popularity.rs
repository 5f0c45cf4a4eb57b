//! Counts popularity. Counts of all members: they name nobody.

use std::collections::BTreeMap;

use kindred_models::popularity::{DAYPARTS, Popularity, Segment, daypart};
use kindred_models::sparse::Matrix;
use kindred_models::strings::{NONE, Strings};

use crate::config::PopularityParams;
use crate::data::{Dataset, Event, Events, Kind};
use crate::prepare::Slice;

/// Counts purchases, less refunds, decayed.
pub fn fit(dataset: &Dataset, slice: &Slice, params: &PopularityParams) -> Popularity {
    let products = dataset.products.len();
    let half_life = params.half_life_days;
    let overall = |half_life: f32| overall(slice, products, half_life);
    let cities = &dataset.members.cities;
    let dayparts: Vec<String> = DAYPARTS.map(str::to_owned).to_vec();
    let of_day = |e: &Event| {
        let hour = (e.time + i64::from(params.utc_offset_minutes) * 60).rem_euclid(86_400) / 3600;
        DAYPARTS.iter().position(|name| *name == daypart(hour as u8)).map(|row| row as u32)
    };
    let known = |row: u32| (row != u32::MAX).then_some(row);
    let segment = |names: Vec<String>, of: &dyn Fn(&Event) -> Option<u32>| segment(slice, names, half_life, of);
    let has_hours = slice.has_time() && slice.events.windows(2).any(|e| (e[0].time - e[1].time) % 86_400 != 0);
    let stores = segment(dataset.events.stores.clone(), &|e| known(e.store));
    Popularity {
        overall: overall(half_life).into(),
        long: overall(params.long_half_life_days).into(),
        short: overall(params.short_half_life_days).into(),
        age_days: ages(slice, products).into(),
        cities: segment(cities.values.iter().map(str::to_owned).collect(), &|e| known(cities.rows[e.member as usize])),
        channels: segment(dataset.events.channels.clone(), &|e| (e.channel != u16::MAX).then_some(e.channel.into())),
        // A table of dates alone knows no part of the day.
        dayparts: if has_hours { segment(dayparts, &of_day) } else { segment(Vec::new(), &|_| None) },
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

pub(crate) fn overall(slice: &Slice, products: usize, half_life: f32) -> Vec<f32> {
    let mut counts = vec![0f64; products];
    for event in &slice.events {
        if let Some(sign) = sign(event) {
            counts[event.product as usize] += f64::from(sign * slice.decay(event.time, half_life));
        }
    }
    counts.into_iter().map(|x| x.max(0.0) as f32).collect()
}

/// Days from the first purchase of each product.
fn ages(slice: &Slice, products: usize) -> Vec<u16> {
    let mut first = vec![i64::MAX; products];
    for event in slice.events.iter().filter(|e| e.kind == Kind::Purchase) {
        let first = &mut first[event.product as usize];
        *first = event.time.min(*first);
    }
    let age = |first: i64| if slice.has_time() { Events::day(slice.as_of) - Events::day(first) } else { 0 };
    first.into_iter().map(|f| if f == i64::MAX { 0 } else { age(f).clamp(0, i64::from(u16::MAX)) as u16 }).collect()
}

/// Counts by a part of the chain; `of` gives a row of `names`, which need not be sorted.
fn segment(slice: &Slice, names: Vec<String>, half_life: f32, of: &dyn Fn(&Event) -> Option<u32>) -> Segment {
    let mut order: Vec<u32> = (0..names.len() as u32).collect();
    order.sort_by_key(|row| &names[*row as usize]);
    let mut sorted_row = vec![0u32; names.len()];
    order.iter().zip(0..).for_each(|(row, sorted)| sorted_row[*row as usize] = sorted);
    let mut counts = BTreeMap::<(u32, u32), f64>::new();
    for event in &slice.events {
        if let (Some(sign), Some(row)) = (sign(event), of(event)) {
            let count = f64::from(sign * slice.decay(event.time, half_life));
            *counts.entry((sorted_row[row as usize], event.product)).or_default() += count;
        }
    }
    let entries: Vec<(u32, u32, f32)> =
        counts.into_iter().filter(|(_, x)| *x > 0.0).map(|((row, product), x)| (row, product, x as f32)).collect();
    let sorted: Strings = order.iter().map(|row| &names[*row as usize]).collect();
    Segment::new(sorted, Matrix::from_sorted(names.len(), &entries))
}

/// Per store, the city where most purchases' members live.
fn city_of_store(dataset: &Dataset, slice: &Slice, stores: &Segment) -> Vec<u32> {
    let rows: Vec<u32> = dataset.events.stores.iter().map(|name| stores.names.find(name).unwrap_or(NONE)).collect();
    let mut counts = vec![BTreeMap::<u32, u64>::new(); stores.names.len()];
    for event in slice.events.iter().filter(|e| e.kind == Kind::Purchase && e.store != u32::MAX) {
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
