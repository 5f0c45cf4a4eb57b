//! When and where members were around on held-out days, against what was foretold.

use std::collections::BTreeMap;

use kindred_models::Model;
use kindred_models::presence::{Habit, best};

use crate::config::PopularityParams;
use crate::data::{Dataset, Event};
use crate::presence::{Visit, visits};

/// How the best slot of each member did, and the one that is best for most; by name.
pub(super) fn judge(
    model: &Model,
    dataset: &Dataset,
    test: &[Event],
    params: &PopularityParams,
) -> BTreeMap<String, f64> {
    let (visits, presence) = (visits(test.iter(), &model.members, params), &model.presence);
    let by_channel = |visit: &Visit| visit.channel(&dataset.events.channels, &presence.channel_names);
    let mut metrics = BTreeMap::new();
    for (name, habit, slot) in [
        ("hour", &presence.hours, &(|visit: &Visit| Some(visit.hour_of_day())) as &dyn Fn(&Visit) -> Option<u32>),
        ("channel", &presence.channels, &by_channel),
    ] {
        let Some(judged) = Judged::of(model, habit, &visits, slot) else { continue };
        let mut set = |what: &str, value: f64| metrics.insert(format!("presence.{name}.{what}"), value);
        set("members", judged.members as f64);
        set("hit_rate", judged.hits);
        set("hit_rate.most_common", judged.hits_of_most_common);
        set("log_loss", judged.loss);
        set("log_loss.all_members", judged.loss_of_all);
    }
    metrics
}

/// Means over the members who were around before and after the cut; each counts once.
#[derive(Debug, Default)]
struct Judged {
    members: usize,
    /// Share of a member's visits in the slot that was foretold for them.
    hits: f64,
    hits_of_most_common: f64,
    /// How surprising the slots of a member's visits were: the mean of minus their logarithms.
    loss: f64,
    loss_of_all: f64,
}

impl Judged {
    fn of(model: &Model, habit: &Habit, visits: &[Visit], slot: &dyn Fn(&Visit) -> Option<u32>) -> Option<Self> {
        let (common, all) = (habit.most_common()?, habit.shares(None, None, &[]));
        let mut judged = Self::default();
        for of_member in visits.chunk_by(|a, b| a.member == b.member) {
            let member = of_member[0].member;
            let slots: Vec<u32> = of_member.iter().filter_map(slot).collect();
            if slots.is_empty() || habit.visits.row(member).0.is_empty() {
                continue;
            }
            let shares = habit.shares(Some(member), model.segment(member), &[]);
            let mean = |of: &dyn Fn(u32) -> f64| slots.iter().map(|slot| of(*slot)).sum::<f64>() / slots.len() as f64;
            let hit = |foretold: Option<u32>| mean(&|slot| f64::from(u8::from(foretold == Some(slot))));
            let loss = |shares: &[f32]| mean(&|slot| -f64::from(shares[slot as usize]).ln());
            judged.members += 1;
            judged.hits += hit(best(&shares));
            judged.hits_of_most_common += hit(Some(common));
            judged.loss += loss(&shares);
            judged.loss_of_all += loss(&all);
        }
        let n = judged.members.max(1) as f64;
        let Self { members, hits, hits_of_most_common, loss, loss_of_all } = judged;
        let means = Self {
            members,
            hits: hits / n,
            hits_of_most_common: hits_of_most_common / n,
            loss: loss / n,
            loss_of_all: loss_of_all / n,
        };
        (members > 0).then_some(means)
    }
}
