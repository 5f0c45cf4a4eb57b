//! What was bought since a model learned: as popularity counts it, and by whom.

use std::sync::Arc;

use super::{LiveEvent, LiveMember, State};
use crate::categories::CategoryTree;
use crate::events::{DAY_SECONDS, decayed, kept_purchases};
use crate::model::Model;
use crate::popularity::{Bought, Since, daypart};

/// How much one purchase may count at most, before all are counted from a later moment: far from what a number holds.
const MOST_COUNTED: f32 = 1e15;

impl Model {
    /// The same model with what its state says was bought since.
    pub fn with_popularity(&self, learned: &Self) -> Self {
        let mut model = self.clone();
        let state = &self.state;
        let (left, days) = (state.popularity_left(self), state.days_passed(self));
        model.popularity = learned.popularity.with_purchases(days, left, state.bought(), state.bought_in(left[0]));
        // What was added may be new no more.
        model.unsold =
            learned.unsold.iter().filter(|unsold| model.popularity.is_new(unsold.product())).cloned().collect();
        // What a product's share is compared with.
        model.tree = CategoryTree::new(&model.products.categories, &model.popularity.overall).into();
        model.with_facts()
    }
}

impl State {
    /// Purchases less refunds of each product since the model, as popularity counts them now.
    fn bought(&self) -> impl Iterator<Item = (u32, [f32; 3])> {
        let faded = self.faded(self.newest - self.counted_from);
        self.bought.iter().map(move |(product, counts)| (*product, std::array::from_fn(|k| counts[k] * faded[k])))
    }

    /// The same by store, city, channel and daypart, where so much is left of what the model counted.
    fn bought_in(&self, left: f32) -> [Since; 4] {
        let [scale, ..] = self.faded(self.newest - self.counted_from);
        self.bought_in.clone().map(|parts| Since { left, scale, parts })
    }

    /// What is left now of 1 that popularity counted at the model's moment.
    fn popularity_left(&self, model: &Model) -> [f32; 3] {
        self.faded(self.passed(model))
    }

    fn faded(&self, seconds: i64) -> [f32; 3] {
        self.counting.popularity_half_life_days.map(|half_life| decayed(seconds, half_life))
    }

    /// Members of the model who bought a product that was added since, and of whom that may be known.
    pub fn buyers(&self, model: &Model, product: u32) -> impl Iterator<Item = u32> {
        let bought = move |member: &LiveMember| {
            let of_product = member.events.iter().filter(|e| e.product == product);
            !kept_purchases(of_product.map(|e| (e.kind, e.time))).0.is_empty()
        };
        let rows = self.bought_added.get(&product).into_iter().flat_map(|rows| rows.iter());
        let buyers = rows.filter(move |row| self.member(*row).is_some_and(bought));
        buyers.filter(|row| self.consent(model, *row).personalization)
    }

    /// Remembers who bought, or brought back, a product that was added since.
    pub(super) fn note_buyer(&mut self, model: &Model, row: u32, product: u32) {
        if !model.products.is_added(product) || row as usize >= model.members.len() {
            return;
        }
        match self.bought_added.get_mut(&product) {
            Some(rows) => drop(Arc::make_mut(rows).insert(row)),
            None => self.bought_added.insert_mut(product, Arc::new([row].into_iter().collect())),
        }
    }

    /// Counts from a later moment.
    fn count_from(&mut self, moment: i64) {
        let faded = self.faded(moment - self.counted_from);
        let scaled = |counts: &[f32; 3]| std::array::from_fn(|k| counts[k] * faded[k]);
        self.bought = self.bought.iter().map(|(product, counts)| (*product, scaled(counts))).collect();
        for parts in &mut self.bought_in {
            *parts = parts.iter().map(|(part, bought)| (*part, bought.scaled(faded[0]))).collect();
        }
        self.counted_from = moment;
    }

    /// Counts a purchase, or a refund, in what is popular.
    pub(super) fn count(&mut self, model: &Model, row: u32, event: LiveEvent, store: Option<&str>, sign: f32) {
        if self.bought.is_empty() {
            self.counted_from = event.time;
        } else if self.faded(self.counted_from - event.time).iter().any(|more| *more > MOST_COUNTED) {
            self.count_from(event.time);
        }
        let counts = self.bought.get(&event.product).copied().unwrap_or_default();
        // What comes later than that moment counts more than 1, and what `bought` gives of it no more than that.
        let more = self.faded(self.counted_from - event.time).map(|more| sign * more);
        self.bought.insert_mut(event.product, std::array::from_fn(|k| counts[k] + more[k]));
        let popularity = &model.popularity;
        let said = self.profile(row).and_then(|profile| profile.city.as_deref());
        let city = said.or_else(|| model.members.cities.get(row));
        let channel = self.channels.get(event.channel as usize).map(String::as_str);
        let hour = (event.time + self.counting.utc_offset_seconds).rem_euclid(DAY_SECONDS) / 3600;
        let parts = [
            popularity.stores.find(store),
            popularity.cities.find(city),
            popularity.channels.find(channel),
            popularity.dayparts.find(Some(daypart(hour as u8))),
        ];
        for (bought, part) in self.bought_in.iter_mut().zip(parts) {
            let Some(part) = part else { continue };
            match bought.get_mut(&part) {
                Some(here) => here.add(event.product, more[0]),
                None => {
                    bought.insert_mut(part, Bought::of(event.product, more[0]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Kind;
    use crate::feed::fixture::model;
    use crate::state::NO_CHANNEL;

    #[test]
    fn counts_stay_finite_whatever_lies_between_them() {
        let model = model(&[("tea", "a", [1.0, 0.0], 900), ("nuts", "b", [0.0, 1.0], 900)], &[]);
        let mut state = State::default();
        state.counting.popularity_half_life_days = [30.0, 0.0, 7.0];
        // In half-lives of a week: 143, which is more than a number holds, and one.
        for (product, day) in [(0, 0), (1, 1000), (0, 1007), (1, 1007)] {
            let event = LiveEvent { time: day * DAY_SECONDS, product, kind: Kind::Purchase, channel: NO_CHANNEL };
            state.count(&model, 0, event, None, 1.0);
        }
        state.newest = 1007 * DAY_SECONDS;
        let counts: std::collections::BTreeMap<u32, [f32; 3]> = state.bought().collect();
        let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4;
        assert!(near(counts[&0][0], 1.0) && counts[&0][1] == 2.0 && near(counts[&0][2], 1.0), "{counts:?}");
        let week = (-7.0 / 30.0_f64).exp2();
        assert!(near(counts[&1][0], 1.0 + week) && counts[&1][1] == 2.0 && near(counts[&1][2], 1.5), "{counts:?}");
    }
}
