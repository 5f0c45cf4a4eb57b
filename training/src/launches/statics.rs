//! What the launch score knows of a member whatever the product.

use kindred_models::events::DAY_SECONDS;
use kindred_models::history::{History, UNKNOWN_DAYS};
use kindred_models::launch::Statics;
use rayon::prelude::*;

use crate::config::TrainConfig;
use crate::data::{Dataset, Kind, PRICE_STEP};
use crate::slice::Slice;

/// Seconds after its launch within which who buys a product is early.
const EARLY_SECONDS: i64 = 28 * DAY_SECONDS;
/// How far below its usual price a bargain is, in natural logarithms.
const BARGAIN: f64 = 0.1;
/// Purchases' worth of the base's shares that a member's own are pulled by.
const SHARE_PRIOR: f32 = 10.0;

/// The columns of all members; [`super::prices`] fills in how dear they buy.
pub(crate) fn statics(dataset: &Dataset, slice: &Slice, history: &History, config: &TrainConfig) -> Statics {
    let members = 0..history.rows.len() as u32;
    let of = |f: &(dyn Fn(u32) -> f32 + Sync)| -> Vec<f32> { members.clone().into_par_iter().map(f).collect() };
    let recency = |member: u32| {
        let days = history.member(member).map(|p| p.days_since).min().unwrap_or(UNKNOWN_DAYS);
        // Without times, all were here at the same moment.
        if slice.has_time() { f32::from(days.min(3650)) } else { 0.0 }
    };
    Statics {
        activity: of(&|member| history.member(member).map(|p| p.decayed).sum()).into(),
        recent: of(&|member| history.member(member).map(|p| p.recent).sum()).into(),
        trips: of(&|member| f32::from(history.member_trips[member as usize])).into(),
        recency: of(&recency).into(),
        spend: spend(dataset, history).into(),
        tried: of(&|member| history.member(member).filter(|p| p.trips == 1).map(|p| p.recent).sum()).into(),
        bargains: bargains(slice, history, dataset.products.len(), config.repeat.half_life_days).into(),
        repeats: repeats(history).into(),
        early: early(dataset, slice, history, config).into(),
        ..Statics::default()
    }
}

/// What was spent, in mean prices of what the base buys; a product of unknown price counts as one of those.
fn spend(dataset: &Dataset, history: &History) -> Vec<f32> {
    let price = |product: u32| dataset.products.prices.get(product as usize).copied().filter(|price| *price > 0.0);
    let members = 0..history.rows.len() as u32;
    let (mut total, mut count) = (0.0, 0.0);
    for past in members.clone().flat_map(|member| history.member(member)) {
        if let Some(price) = price(past.product) {
            total += f64::from(past.decayed) * f64::from(price);
            count += f64::from(past.decayed);
        }
    }
    let mean = if total > 0.0 { (total / count) as f32 } else { 1.0 };
    let relative = |product: u32| price(product).map_or(1.0, |price| price / mean);
    let of = |member: u32| history.member(member).map(|past| past.decayed * relative(past.product)).sum();
    members.into_par_iter().map(of).collect()
}

/// Share of decayed purchases that cost at least [`BARGAIN`] less than the product usually does.
fn bargains(slice: &Slice, history: &History, products: usize, half_life_days: f32) -> Vec<f32> {
    let paid = || slice.events().filter(|e| e.kind == Kind::Purchase && e.price > 0);
    let mut usual = vec![(0f64, 0f64); products];
    for event in paid() {
        let (steps, count) = &mut usual[event.product as usize];
        (*steps, *count) = (*steps + f64::from(event.price), *count + 1.0);
    }
    let mut shares = vec![(0.0, 0.0); history.rows.len()];
    for event in paid().filter(|e| !history.rows.range(e.member).is_empty()) {
        let (steps, count) = usual[event.product as usize];
        let below = (steps / count - f64::from(event.price)) * PRICE_STEP;
        let decayed = slice.decay(event.time, half_life_days);
        let (bargains, all) = &mut shares[event.member as usize];
        (*bargains, *all) = (*bargains + if below >= BARGAIN { decayed } else { 0.0 }, *all + decayed);
    }
    pulled(&shares)
}

/// Share of the products that were bought on more days than one.
fn repeats(history: &History) -> Vec<f32> {
    let of = |member: u32| {
        let days = || history.member(member).map(|past| past.trips);
        (days().filter(|days| *days > 1).count() as f32, days().filter(|days| *days > 0).count() as f32)
    };
    pulled(&(0..history.rows.len() as u32).into_par_iter().map(of).collect::<Vec<_>>())
}

/// Parts over wholes, pulled towards that of all; 0 where there are none.
fn pulled(shares: &[(f32, f32)]) -> Vec<f32> {
    let (part, whole) = shares.iter().fold((0f64, 0f64), |sum, of| (sum.0 + f64::from(of.0), sum.1 + f64::from(of.1)));
    let usual = if whole > 0.0 { (part / whole) as f32 } else { 0.0 };
    shares.iter().map(|(part, whole)| (part + SHARE_PRIOR * usual) / (whole + SHARE_PRIOR)).collect()
}

/// Decayed purchases of products that were launched shortly before; what was there from the start was not.
fn early(dataset: &Dataset, slice: &Slice, history: &History, config: &TrainConfig) -> Vec<f32> {
    let mut early = vec![0.0; history.rows.len()];
    if !slice.has_time() {
        return early;
    }
    let launched = launch_times(dataset, slice);
    let start = slice.start();
    for event in slice.events().filter(|e| e.kind == Kind::Purchase) {
        let at = launched[event.product as usize];
        let is_early = at > start + EARLY_SECONDS && event.time - at <= EARLY_SECONDS;
        if is_early && !history.rows.range(event.member).is_empty() {
            early[event.member as usize] += slice.decay(event.time, config.repeat.half_life_days);
        }
    }
    early
}

/// When each product was launched: as its table says, or when it was first sold; `i64::MAX` where neither is
/// known yet.
pub(crate) fn launch_times(dataset: &Dataset, slice: &Slice) -> Vec<i64> {
    let mut times: Vec<i64> = vec![i64::MAX; dataset.products.len()];
    for event in slice.events().filter(|e| e.kind == Kind::Purchase) {
        let time = &mut times[event.product as usize];
        *time = event.time.min(*time);
    }
    for (time, launched) in times.iter_mut().zip(&dataset.launched_at) {
        // Whatever the table says, nothing is sold before it is launched.
        *time = launched.map_or(*time, |launched| launched.min(*time));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Event;
    use kindred_models::sparse::Rows;

    fn close(found: &[f32], expected: &[f32]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5)
    }

    /// Four members of whom the first two bought product 0, and the first product 1 as well; the third is not known.
    fn history() -> History {
        let rows = Rows { offsets: vec![0, 2, 3, 3, 3].into(), columns: vec![0, 1, 0].into() };
        History {
            rows,
            weights: vec![1.0; 3].into(),
            decayed: vec![3.0, 1.0, 1.0].into(),
            recent: vec![0.0; 3].into(),
            counts: vec![3, 1, 1].into(),
            days_since: vec![0; 3].into(),
            trips: vec![2, 1, 1].into(),
            span_days: vec![0; 3].into(),
            trips_since: vec![0; 3].into(),
            trips_from: vec![0; 3].into(),
            ..History::default()
        }
    }

    #[test]
    fn who_buys_below_the_usual_price_worked_by_hand() {
        let event = |member, product, price, kind| Event {
            member,
            product,
            time: 0,
            store: u32::MAX,
            channel: u16::MAX,
            kind,
            price,
        };
        let bought = |member, price| event(member, 0, price, Kind::Purchase);
        let mut events = vec![bought(0, 62), bought(0, 62), bought(0, 62), bought(1, 58)];
        // Nothing is said by what cost nobody knows how much, or was brought back.
        events.extend([bought(1, 0), event(1, 0, 9, Kind::Refund)]);
        let found = |events: &[Event]| bargains(&Slice::of(events.to_vec(), false), &history(), 2, 60.0);
        // Usual are 61 steps, of which 58 are exp(0.225) below: one of four purchases.
        assert!(close(&found(&events), &[2.5 / 13.0, 3.5 / 11.0, 0.25, 0.25]), "{:?}", found(&events));
        // Prices of members of whom nothing may be known say what is usual, and no more: 60.4 steps.
        events.push(bought(2, 58));
        assert!(close(&found(&events), &[2.5 / 13.0, 3.5 / 11.0, 0.25, 0.25]), "{:?}", found(&events));
        assert!(close(&found(&[bought(0, 0)]), &[0.0; 4]), "no price is known");
    }

    #[test]
    fn who_buys_again_worked_by_hand() {
        // One of three.
        let usual = 1.0 / 3.0;
        let expected = [(1.0 + 10.0 * usual) / 12.0, 10.0 * usual / 11.0, usual, usual];
        assert!(close(&repeats(&history()), &expected), "{:?}", repeats(&history()));
        assert!(close(&repeats(&History::default()), &[]));
    }
}
