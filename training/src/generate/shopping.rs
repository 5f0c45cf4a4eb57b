//! What members do, visit by visit.

use kindred_models::events::DAY_SECONDS;
use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Poisson};

use super::Retailer;
use super::catalogue::{Catalogue, product_id, spread, store_id};
use super::members::Member;
use super::words::KINDS;
use crate::tables::Column;

/// Mean products per visit.
const BASKET: f64 = 2.5;
/// Chance that a product that is due again is bought at a visit.
const AGAIN_SHARE: f64 = 0.35;
/// Chance that a first purchase becomes a habit.
const HABIT_SHARE: f64 = 0.35;
/// Share of purchases that are brought back.
const REFUND_SHARE: f64 = 0.015;
/// Share of online visits in which something is looked at and not bought.
const VIEW_SHARE: f64 = 0.3;
/// Days for which a product is new.
const NEW_DAYS: i64 = 35;
/// How much more than usual a kind sells in its best month.
const PEAK: f64 = 2.5;

/// Columns of the events table.
pub(super) const COLUMNS: [&str; 9] =
    ["member_id", "product_id", "time", "kind", "quantity", "amount", "store_id", "channel", "basket_id"];

/// One event.
pub(super) struct Event {
    product: usize,
    second: i64,
    kind: &'static str,
    quantity: u32,
    online: bool,
    basket: u32,
}

/// Everything that a member does during the history, in order of time.
pub(super) fn shop(member: &Member, retailer: &Retailer, catalogue: &Catalogue, rng: &mut impl Rng) -> Vec<Event> {
    let mut shopper = Shopper { member, catalogue, start: retailer.start, due: BTreeMap::new(), events: Vec::new() };
    let end = i64::from(retailer.days);
    let share = (end - member.first_day()) as f64 / end as f64;
    let visits = Poisson::new((member.activity * share * retailer.purchases() / BASKET).max(1e-9));
    let count = visits.map_or(0, |d| d.sample(rng) as usize);
    let mut days: Vec<i64> = (0..count).map(|_| rng.random_range(member.first_day()..end)).collect();
    days.sort_unstable();
    for (basket, day) in days.into_iter().enumerate() {
        shopper.visit(basket as u32, day, end, rng);
    }
    shopper.events.sort_by_key(|event| event.second);
    shopper.events
}

struct Shopper<'a> {
    member: &'a Member,
    catalogue: &'a Catalogue,
    /// Of the history, in unix seconds.
    start: i64,
    /// Products that the member uses up, with the day on which they are due again.
    due: BTreeMap<usize, i64>,
    events: Vec<Event>,
}

impl Shopper<'_> {
    fn visit(&mut self, basket: u32, day: i64, end: i64, rng: &mut impl Rng) {
        let hour = (self.member.hour + rng.random_range(-2.5..2.5)).clamp(7.0, 22.9);
        let second = self.start + day * DAY_SECONDS + (hour * 3600.0) as i64;
        let online = rng.random_bool(self.member.online);
        let items = Poisson::new(BASKET).map_or(1, |d| d.sample(rng) as usize).max(1);
        let due: Vec<usize> = self.due.iter().filter(|(_, when)| **when <= day).map(|(product, _)| *product).collect();
        let mut bought = Vec::new();
        for product in due {
            if bought.len() < items
                && self.catalogue.products[product].is_sold(self.member.store, day)
                && rng.random_bool(AGAIN_SHARE)
            {
                bought.push(product);
            }
        }
        while bought.len() < items {
            match self.discover(day, rng) {
                Some(product) if !bought.contains(&product) => bought.push(product),
                _ => break,
            }
        }
        for product in bought {
            self.buy(product, basket, day, second, online, end, rng);
        }
        if online
            && rng.random_bool(VIEW_SHARE)
            && let Some(product) = self.discover(day, rng)
        {
            self.events.push(Event { product, second: second - 60, kind: "view", quantity: 0, online, basket });
        }
    }

    /// A product that the member likes, of a kind that it is the season for.
    fn discover(&self, day: i64, rng: &mut impl Rng) -> Option<usize> {
        let month = (day / 30 % 12) as u32;
        let season = |kind: usize| if KINDS[kind].peak_month == Some(month) { PEAK } else { 1.0 };
        let weights: Vec<f64> =
            self.member.tastes.iter().enumerate().map(|(kind, taste)| (taste + 0.01) * season(kind)).collect();
        // Every draw may be refused: not liked, not new enough, not sold here.
        for _ in 0..40 {
            let kind = weighted(&weights, rng);
            let Some(candidate) = self.catalogue.pick(kind, rng) else { continue };
            let product = &self.catalogue.products[candidate];
            let is_new = product.launch_day > 0 && day - product.launch_day < NEW_DAYS;
            let novelty = if is_new { self.member.novelty } else { 1.0 };
            let liked = (0.05 + self.member.brands[product.brand]) * novelty / 3.0;
            if product.is_sold(self.member.store, day) && rng.random_bool(liked.clamp(0.0, 1.0)) {
                return Some(candidate);
            }
        }
        None
    }

    #[allow(clippy::too_many_arguments)]
    fn buy(&mut self, product: usize, basket: u32, day: i64, second: i64, online: bool, end: i64, rng: &mut impl Rng) {
        let quantity = 1 + u32::from(rng.random_bool(0.2));
        self.events.push(Event { product, second, kind: "purchase", quantity, online, basket });
        let returned = day + rng.random_range(1..8);
        if rng.random_bool(REFUND_SHARE) && returned < end {
            let second = second + (returned - day) * DAY_SECONDS;
            self.events.push(Event { product, second, kind: "refund", quantity, online, basket });
            self.due.remove(&product);
            return;
        }
        let gap = self.catalogue.products[product].gap_days;
        // Not everything that could be bought again is.
        if gap > 0.0 && (self.due.contains_key(&product) || rng.random_bool(HABIT_SHARE)) {
            self.due.insert(product, day + (gap * spread(0.25, rng)) as i64);
        }
    }
}

fn weighted(weights: &[f64], rng: &mut impl Rng) -> usize {
    let total: f64 = weights.iter().sum();
    let mut left = rng.random_range(0.0..total);
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return i;
        }
    }
    weights.len() - 1
}

/// Events as columns.
pub(super) fn columns(rows: &[(&Member, &Event)], catalogue: &Catalogue) -> Vec<Column> {
    let text =
        |of: &dyn Fn(&Member, &Event) -> Option<String>| Column::Text(rows.iter().map(|(m, e)| of(m, e)).collect());
    let sign = |e: &Event| if e.kind == "refund" { -1.0 } else { 1.0 };
    let amount = |e: &Event| sign(e) * catalogue.products[e.product].price as f32 * e.quantity as f32;
    vec![
        text(&|m, _| Some(m.id.clone())),
        text(&|_, e| Some(product_id(e.product))),
        Column::Moment(rows.iter().map(|(_, e)| Some(e.second)).collect()),
        text(&|_, e| Some(e.kind.to_owned())),
        Column::Float(rows.iter().map(|(_, e)| Some(sign(e) * e.quantity as f32)).collect()),
        Column::Float(rows.iter().map(|(_, e)| Some(amount(e))).collect()),
        text(&|m, _| Some(store_id(m.store))),
        text(&|_, e| Some(if e.online { "mini-program" } else { "store" }.to_owned())),
        text(&|m, e| Some(format!("{}-{}", m.id, e.basket))),
    ]
}
