//! What members were interested in lately: looked at, put into the cart, marked, shared.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::member::MOST_EVENTS;
use super::{LiveEvent, State};
use crate::events::{DAY_SECONDS, Kind, decayed};
use crate::feed::visit_weight;
use crate::model::Model;
use crate::strings::NONE;

/// Days for which a product that was looked at counts as seen, and any interest is remembered.
pub const SEEN_DAYS: i64 = 7;

/// Days after which what a member was interested in says half of what they like now.
const INTEREST_HALF_LIFE_DAYS: f32 = 1.0;

/// What members were interested in lately before a version learned: it knows how much they like it by that, and not when
/// that was. There may be many, and none of them changes.
#[derive(Clone, Debug, Default)]
pub struct LoadedInterest {
    /// Sorted by member, then time, once all are there.
    list: Vec<Interest>,
}

/// One sign of interest of a member in a product, in unix seconds from 1970 to 2106.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Interest {
    member: u32,
    time: u32,
    product: u32,
    kind: Kind,
}

impl LoadedInterest {
    /// Puts them in order.
    pub(super) fn sort(&mut self) {
        self.list.par_sort_unstable();
        self.list.shrink_to_fit();
    }

    /// What a member did after a moment; of a robot, the first alone.
    fn of(&self, member: u32, since: i64) -> impl Iterator<Item = (i64, u32, Kind)> {
        let first = self.list.partition_point(|of| (of.member, i64::from(of.time)) <= (member, since));
        let of_member = self.list[first..].iter().take_while(move |of| of.member == member);
        of_member.take(MOST_EVENTS).map(|of| (i64::from(of.time), of.product, of.kind))
    }
}

impl State {
    /// Adds a sign of interest that the model learned of to those that are being loaded.
    pub fn add_interest(&mut self, model: &Model, member_id: &str, event: LiveEvent, to: &mut LoadedInterest) {
        let LiveEvent { time, product, kind, .. } = event;
        if product == NONE {
            return;
        }
        let (member, time) = (self.row(model, member_id), u32::try_from(time.max(0)).unwrap_or(u32::MAX));
        if !self.is_erased(member) {
            to.list.push(Interest { member, time, product, kind });
        }
    }

    /// What a member did in the days before the newest event that is no purchase: when, with which product, and what. What a
    /// version had learned of before it was loaded is among it.
    fn lately(&self, model: &Model, row: u32) -> impl Iterator<Item = (i64, u32, Kind)> {
        let since = self.now(model) - SEEN_DAYS * DAY_SECONDS;
        let is_erased = self.is_erased(row);
        let learned = (!is_erased).then(|| self.interest.of(row, since)).into_iter().flatten();
        let live = self.member(row).filter(|_| !is_erased).into_iter().flat_map(move |member| member.after(since));
        let live = live.map(|event| (event.time, event.product, event.kind));
        live.chain(learned).filter(|(_, product, kind)| *product != NONE && *kind != Kind::Purchase)
    }

    /// Products that a member looked at in the days before the newest event, by row, and how often.
    pub fn seen(&self, model: &Model, row: u32) -> Vec<(u32, u16)> {
        let looks = self.lately(model, row).filter(|(.., kind)| *kind == Kind::View);
        let mut seen: Vec<u32> = looks.map(|(_, product, _)| product).collect();
        seen.sort_unstable();
        seen.chunk_by(|a, b| a == b).map(|run| (run[0], u16::try_from(run.len()).unwrap_or(u16::MAX))).collect()
    }

    /// What a member was told to be interested in lately, by product: as an event of a visit that goes on, and less the
    /// longer ago. What was bought counts as bought.
    pub fn interest(&self, model: &Model, row: u32) -> Vec<(u32, f32)> {
        let now = self.now(model);
        let mut interest = BTreeMap::<u32, f32>::new();
        for (time, product, kind) in self.lately(model, row) {
            let weight = visit_weight(kind) * decayed(now - time, INTEREST_HALF_LIFE_DAYS);
            let most = interest.entry(product).or_default();
            *most = most.max(weight);
        }
        interest.into_iter().filter(|(_, weight)| *weight > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Members;
    use crate::feed::fixture;
    use crate::state::{Loaded, NO_CHANNEL};

    fn event(day: u32, kind: Kind, product: u32) -> LiveEvent {
        LiveEvent { time: i64::from(day) * DAY_SECONDS, product, kind, channel: NO_CHANNEL }
    }

    fn model_of(ids: &[&str]) -> Model {
        let mut model = fixture::model(&[("tea", "a", [1.0, 0.0], 90), ("tea", "b", [1.0, 0.0], 90)], &[]);
        let consents = vec![3; ids.len()].into();
        model.members = Members { ids: ids.iter().copied().collect(), consents, ..Members::default() };
        model
    }

    #[test]
    fn what_was_put_into_the_cart_says_less_each_day() {
        let events = [
            event(28, Kind::Cart, 0),
            event(29, Kind::View, 0),
            event(29, Kind::View, 1),
            event(20, Kind::Favorite, 1),
            event(30, Kind::Purchase, 1),
        ];
        // Whether a version learned of it before it was loaded, or not.
        for learned in 0..4 {
            let model = model_of(&["m"]);
            let (mut state, mut loaded) = (State::of(&model), Loaded::default());
            for (i, event) in events.into_iter().enumerate() {
                match i < learned {
                    true => state.add_interest(&model, "m", event, &mut loaded.interest),
                    false => state.record(&model, "m", event, None),
                }
            }
            state.load(loaded);
            // The cart of two days ago says as much as the look of yesterday; a purchase is told by itself.
            assert_eq!(state.interest(&model, 0), [(0, 0.25), (1, 0.25)]);
            assert_eq!(state.seen(&model, 0), [(0, 1), (1, 1)], "a cart is no look");
        }
    }

    #[test]
    fn what_was_seen_before_the_model_learned_and_since_counts_together() {
        let model = model_of(&["m", "n"]);
        let (mut state, mut loaded) = (State::of(&model), Loaded::default());
        for day in 0..30 {
            state.add_interest(&model, "m", event(day, Kind::View, day % 2), &mut loaded.interest);
        }
        state.add_interest(&model, "a stranger", event(29, Kind::View, 1), &mut loaded.interest);
        state.load(loaded);
        state.record(&model, "m", event(30, Kind::View, 1), None);
        assert_eq!(state.seen(&model, 0), [(0, 3), (1, 4)], "of days 24 to 29, and of the last");
        let stranger = state.find(&model, "a stranger").unwrap();
        assert_eq!((state.seen(&model, 1), state.seen(&model, stranger)), (vec![], vec![(1, 1)]));
        state.erase(&model, "m");
        assert_eq!((state.seen(&model, 0), state.interest(&model, 0)), (vec![], vec![]));
    }
}
