//! Launches of the held-out days, replayed: each product first sold there is asked for by its attributes
//! alone, as of the cut.

use std::collections::{BTreeMap, HashSet};

use kindred_models::Model;
use kindred_models::launch::LaunchQuery;
use kindred_models::stop::{Stop, Stopped};

use crate::config::LaunchParams;
use crate::data::{Dataset, Event};
use crate::slice::{Slice, kept_purchases, pairs};

/// A product first sold after the cut.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) product: u32,
    /// Its buyers after the cut, sorted.
    pub(super) buyers: Vec<u32>,
}

/// Products first sold after the cut, with at least so many buyers there among the members to rank.
pub(super) fn replayable(
    dataset: &Dataset,
    slice: &Slice,
    test: &[Event],
    active: &[u32],
    params: &LaunchParams,
) -> Vec<Launch> {
    let sold: HashSet<u32> = slice.events().map(|e| e.product).collect();
    let was_there =
        |product: u32| dataset.launched_at[product as usize].is_some_and(|launched| launched <= slice.as_of);
    let mut launches = BTreeMap::<u32, Launch>::new();
    for pair in pairs(test) {
        let (member, product) = (pair[0].member, pair[0].product);
        let is_new = dataset.has_time && !sold.contains(&product) && !was_there(product);
        if is_new && active.binary_search(&member).is_ok() && !kept_purchases(pair).is_empty() {
            let new = || Launch { product, buyers: Vec::new() };
            launches.entry(product).or_insert_with(new).buyers.push(member);
        }
    }
    launches.into_values().filter(|launch| params.counts(launch.buyers.len())).collect()
}

/// What replaying found.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    launches: usize,
    /// Sums over launches.
    auc: f64,
    recall_at_10: f64,
    lift_at_1: f64,
}

/// Members to rank: as of the cut, one without a purchase can't be told apart from one who joins later.
pub(super) fn active(model: &Model) -> Vec<u32> {
    let activity = &model.launch.statics.activity;
    (0..activity.len() as u32).filter(|m| activity[*m as usize] > 0.0).collect()
}

/// Ranks members for every launch.
pub(super) fn judge(model: &Model, launches: &[Launch], active: &[u32], stop: &Stop) -> Result<Judged, Stopped> {
    let mut judged = Judged::default();
    for launch in launches {
        let attributes = model.products.attributes(launch.product);
        let query = LaunchQuery::from_attributes(model, &attributes, |row| row != launch.product);
        let scores = model.launch.score_all(&[&query], &model.embeddings, stop)?.remove(0);
        let bought = |member: &u32| launch.buyers.binary_search(member).is_ok();
        judged.add(active.iter().map(|m| (scores[*m as usize], bought(m))).collect());
    }
    Ok(judged)
}

impl Judged {
    fn add(&mut self, mut ranked: Vec<(f32, bool)>) {
        let positives = ranked.iter().filter(|r| r.1).count();
        if positives == 0 || positives == ranked.len() {
            return;
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let recall = |k: usize| ranked[..k].iter().filter(|r| r.1).count() as f64 / positives as f64;
        let head = |share: f64| ((ranked.len() as f64 * share).round() as usize).max(1);
        self.launches += 1;
        self.auc += area_under_curve(&ranked);
        self.recall_at_10 += recall(head(0.1));
        self.lift_at_1 += recall(head(0.01)) * ranked.len() as f64 / head(0.01) as f64;
    }

    /// Means over launches, by name, which starts with `prefix`.
    pub(super) fn metrics(&self, prefix: &str) -> BTreeMap<String, f64> {
        let n = self.launches as f64;
        let means = [("auc", self.auc), ("recall@10%", self.recall_at_10), ("lift@1%", self.lift_at_1)];
        means.into_iter().filter(|_| n > 0.0).map(|(name, sum)| (format!("{prefix}.{name}"), sum / n)).collect()
    }

    /// How many launches were judged.
    pub(super) fn launches(&self) -> usize {
        self.launches
    }
}

/// Mann–Whitney: the share of buyer and non-buyer pairs in the right order, ties by half; for rows sorted
/// by falling score.
pub(super) fn area_under_curve(ranked: &[(f32, bool)]) -> f64 {
    let positives = ranked.iter().filter(|r| r.1).count() as f64;
    let negatives = ranked.len() as f64 - positives;
    let (mut above, mut area) = (0.0, 0.0);
    for tied in ranked.chunk_by(|a, b| a.0 == b.0) {
        let here = tied.iter().filter(|r| r.1).count() as f64;
        let others = tied.len() as f64 - here;
        area += others * (above + here / 2.0);
        above += here;
    }
    area / (positives * negatives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_under_curve_worked_by_hand() {
        // Pairs: (0.9 vs 0.8 right), (0.9 vs 0.5 right), (0.5 vs 0.8 wrong), (0.5 vs 0.5 tied).
        let ranked = [(0.9, true), (0.8, false), (0.5, true), (0.5, false)];
        assert!((area_under_curve(&ranked) - 2.5 / 4.0).abs() < 1e-12);
    }
}
