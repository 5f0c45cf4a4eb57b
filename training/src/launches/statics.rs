//! What the launch score knows of a member whatever the product.

use kindred_models::history::{History, UNKNOWN_DAYS};
use kindred_models::launch::Statics;
use rayon::prelude::*;

use crate::config::TrainConfig;
use crate::data::{Dataset, Kind};
use crate::slice::Slice;

/// Days after its launch within which who buys a product is early.
const EARLY_SECONDS: i64 = 28 * 86_400;

/// Of all members; how dear they buy is told by [`super::prices`].
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
pub(super) fn launch_times(dataset: &Dataset, slice: &Slice) -> Vec<i64> {
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
