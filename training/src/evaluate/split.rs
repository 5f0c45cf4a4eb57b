//! Cuts the history in two.

use kindred_models::events::DAY_SECONDS;
use kindred_models::history::History;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;

use super::Task;
use crate::data::Event;
use crate::slice::{Slice, kept_products};

/// Share of a member's products held out where events have no time.
const RANDOM_SHARE: f64 = 0.2;

/// What is learned from, and what it is judged by: the last days of all, at one moment for everybody; where
/// events have no time, a random fifth of every member's products. What was bought at one moment is never on
/// both sides.
pub fn split(all: &Slice, test_days: u32, seed: u64) -> (Slice, Vec<Event>) {
    if all.has_time() {
        let end = all.bought_until();
        let cut = end - i64::from(test_days) * DAY_SECONDS;
        let test = all.events().filter(|e| e.time > cut && e.time <= end).copied().collect();
        return (all.until(cut), test);
    }
    // One draw per member and product, so that both sides never share a pair.
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for pair in all.runs() {
        let side = if rng.random_bool(RANDOM_SHARE) { &mut test } else { &mut train };
        side.extend_from_slice(pair);
    }
    (Slice::of(train, false), test)
}

/// Products bought after the cut, and not brought back, by member: of members who bought something before it too.
pub(crate) fn truths(history: &History, test: &[Event], task: Task) -> Vec<(u32, HashSet<u32>)> {
    let by_member = test.chunk_by(|a, b| a.member == b.member);
    by_member
        .filter_map(|events| {
            let member = events[0].member;
            let before: HashSet<u32> = history.member(member).filter(|p| p.count > 0).map(|p| p.product).collect();
            let is_asked = |product: &u32| task == Task::All || !before.contains(product);
            let truth: HashSet<u32> = kept_products(events).filter(is_asked).collect();
            (!truth.is_empty() && !before.is_empty()).then_some((member, truth))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;
    use crate::data::Kind;
    use kindred_models::catalogue::Members;

    #[test]
    fn what_happens_at_the_cut_is_learned_and_not_judged() {
        let at = |day: i64| Event {
            member: 0,
            product: day as u32,
            time: day * DAY_SECONDS,
            store: 0,
            channel: 0,
            kind: Kind::Purchase,
            price: 0,
        };
        let (train, test) = split(&Slice::of(vec![at(0), at(72), at(73), at(100)], true), 28, 1);
        assert_eq!(test.iter().map(|e| e.product).collect::<Vec<_>>(), [73, 100]);
        assert_eq!(train.events().map(|e| e.product).collect::<Vec<_>>(), [0, 72]);
    }

    #[test]
    fn what_was_brought_back_was_not_bought() {
        let event = |member, product, time, kind| Event { member, product, time, store: 0, channel: 0, kind, price: 0 };
        let members =
            Members { ids: ["a", "b", "c"].iter().collect(), consents: vec![3; 3].into(), ..Members::default() };
        let before = vec![event(0, 0, 0, Kind::Purchase), event(1, 9, 0, Kind::Purchase)];
        let history = crate::prepare::history(&Slice::of(before, true), &members, &TrainConfig::default());
        let test = [
            event(0, 0, 1, Kind::Purchase),
            event(0, 1, 1, Kind::Purchase),
            event(0, 1, 3, Kind::Refund),
            event(0, 2, 1, Kind::Refund),
            event(0, 2, 2, Kind::Purchase),
            event(1, 1, 1, Kind::Purchase),
            event(1, 1, 2, Kind::Refund),
            event(2, 1, 1, Kind::Purchase),
        ];
        let truth = |task| truths(&history, &test, task);
        assert_eq!(truth(Task::All), [(0, HashSet::from([0, 2]))], "the second kept nothing, the third is new");
        assert_eq!(truth(Task::New), [(0, HashSet::from([2]))]);
    }
}
