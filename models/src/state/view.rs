//! What members looked at lately.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::State;
use super::member::MOST_EVENTS;
use crate::events::{DAY_SECONDS, Kind, decayed};
use crate::feed::visit_weight;
use crate::model::Model;
use crate::strings::NONE;

/// Days for which a product that was looked at counts as seen.
pub const SEEN_DAYS: i64 = 7;

/// Days after which what a member was interested in says half of what they like now.
const INTEREST_HALF_LIFE_DAYS: f32 = 1.0;

/// What members looked at lately before a version learned: it knows how much they like it by that, and not when they saw
/// it. There may be many, and none of them changes.
#[derive(Clone, Debug, Default)]
pub struct LoadedViews {
    /// Sorted by member, then time, once all are there.
    list: Vec<View>,
}

/// A look of a member at a product, in unix seconds from 1970 to 2106.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    member: u32,
    time: u32,
    product: u32,
}

impl LoadedViews {
    /// Puts them in order.
    pub(super) fn sort(&mut self) {
        self.list.par_sort_unstable();
        self.list.shrink_to_fit();
    }

    /// What a member looked at after a moment; of a robot, the first looks alone.
    fn of(&self, member: u32, since: i64) -> impl Iterator<Item = u32> {
        let first = self.list.partition_point(|view| (view.member, i64::from(view.time)) <= (member, since));
        self.list[first..].iter().take_while(move |view| view.member == member).take(MOST_EVENTS).map(|v| v.product)
    }
}

impl State {
    /// Adds a product that a member looked at, and the model learned of, to those that are being loaded.
    pub fn add_view(&mut self, model: &Model, member_id: &str, product: u32, time: i64, to: &mut LoadedViews) {
        if product == NONE {
            return;
        }
        let (member, time) = (self.row(model, member_id), u32::try_from(time.max(0)).unwrap_or(u32::MAX));
        if !self.is_erased(member) {
            to.list.push(View { member, time, product });
        }
    }

    /// Products that a member looked at in the days before the newest event, by row, and how often.
    pub fn seen(&self, model: &Model, row: u32) -> Vec<(u32, u16)> {
        let since = self.now(model) - SEEN_DAYS * DAY_SECONDS;
        let learned = (!self.is_erased(row)).then(|| self.views.of(row, since)).into_iter().flatten();
        let live = self.member(row).into_iter().flat_map(|member| member.viewed(since));
        let mut seen: Vec<u32> = live.chain(learned).filter(|product| *product != NONE).collect();
        seen.sort_unstable();
        seen.chunk_by(|a, b| a == b).map(|run| (run[0], u16::try_from(run.len()).unwrap_or(u16::MAX))).collect()
    }

    /// What a member was told to be interested in since the model learned, by product: as an event of a visit that goes on, and
    /// less the longer ago. What was bought counts as bought.
    pub fn interest(&self, model: &Model, row: u32) -> Vec<(u32, f32)> {
        let now = self.now(model);
        let since = now - SEEN_DAYS * DAY_SECONDS;
        let events = self.member(row).filter(|_| !self.is_erased(row)).map_or(&[][..], |member| &member.events);
        let late = events.iter().filter(|e| e.time > since && e.product != NONE && e.kind != Kind::Purchase);
        let mut interest = BTreeMap::<u32, f32>::new();
        for event in late {
            let weight = visit_weight(event.kind) * decayed(now - event.time, INTEREST_HALF_LIFE_DAYS);
            let most = interest.entry(event.product).or_default();
            *most = most.max(weight);
        }
        interest.into_iter().filter(|(_, weight)| *weight > 0.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Members;
    use crate::events::Kind;
    use crate::feed::fixture;
    use crate::state::{LiveEvent, Loaded, NO_CHANNEL};

    #[test]
    fn what_was_put_into_the_cart_says_less_each_day() {
        let mut model = fixture::model(&[("tea", "a", [1.0, 0.0], 90), ("tea", "b", [1.0, 0.0], 90)], &[]);
        model.members = Members { ids: ["m"].into_iter().collect(), consents: vec![3].into(), ..Members::default() };
        let mut state = State::of(&model);
        let event = |product, kind, time| LiveEvent { product, kind, time, channel: NO_CHANNEL };
        for event in [
            event(0, Kind::Cart, 28 * DAY_SECONDS),
            event(0, Kind::View, 29 * DAY_SECONDS),
            event(1, Kind::View, 29 * DAY_SECONDS),
            event(1, Kind::Favorite, 20 * DAY_SECONDS),
            event(1, Kind::Purchase, 30 * DAY_SECONDS),
        ] {
            state.record(&model, "m", event, None);
        }
        model.state = state;
        // The cart of two days ago says as much as the look of yesterday; a purchase is told by itself.
        assert_eq!(model.state.interest(&model, 0), [(0, 0.25), (1, 0.25)]);
    }

    #[test]
    fn what_was_seen_before_the_model_learned_and_since_counts_together() {
        let mut model = fixture::model(&[("tea", "a", [1.0, 0.0], 90), ("tea", "b", [1.0, 0.0], 90)], &[]);
        model.members =
            Members { ids: ["m", "n"].into_iter().collect(), consents: vec![3; 2].into(), ..Members::default() };
        let (mut state, mut loaded) = (State::of(&model), Loaded::default());
        for day in 0..30 {
            state.add_view(&model, "m", day % 2, i64::from(day) * DAY_SECONDS, &mut loaded.views);
        }
        state.add_view(&model, "a stranger", 1, 29 * DAY_SECONDS, &mut loaded.views);
        state.load(loaded);
        let event = |day: i64| LiveEvent { time: day * DAY_SECONDS, product: 1, kind: Kind::View, channel: NO_CHANNEL };
        state.record(&model, "m", event(30), None);
        assert_eq!(state.seen(&model, 0), [(0, 3), (1, 4)], "of days 24 to 29, and of the last");
        let stranger = state.find(&model, "a stranger").unwrap();
        assert_eq!((state.seen(&model, 1), state.seen(&model, stranger)), (vec![], vec![(1, 1)]));
        state.erase(&model, "m");
        assert_eq!(state.seen(&model, 0), []);
    }
}
