//! Launches of the held-out days, replayed: each product first sold there is asked for by its attributes
//! alone, as of the cut.

use std::collections::BTreeMap;

use kindred_models::Model;
use kindred_models::launch::LaunchQuery;
use kindred_models::stop::{Stop, Stopped};

use super::standing::Standing;
use crate::config::LaunchParams;
use crate::data::{Dataset, Event};
use crate::launches::launch_times;
use crate::slice::{Slice, kept_purchases, pairs};

/// A product first sold after the cut.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) product: u32,
    /// Its buyers after the cut, sorted.
    pub(super) buyers: Vec<u32>,
}

/// By product, whether it was neither sold nor launched up to a slice's end, though it may have been looked at: nothing is,
/// where events have no time.
pub(super) fn new_products(dataset: &Dataset, slice: &Slice) -> Vec<bool> {
    launch_times(dataset, slice).into_iter().map(|launched| slice.has_time() && launched > slice.as_of).collect()
}

/// By product, whether anything is known of it up to a slice's end.
pub(super) fn was_there(is_new: &[bool], slice: &Slice) -> Vec<u8> {
    let mut was_there: Vec<u8> = is_new.iter().map(|is_new| u8::from(!is_new)).collect();
    slice.pairs().for_each(|pair| was_there[pair[0].product as usize] = 1);
    was_there
}

/// New products with at least so many buyers after the cut among the members to rank.
pub(super) fn replayable(is_new: &[bool], test: &[Event], active: &[u32], params: &LaunchParams) -> Vec<Launch> {
    let mut launches = BTreeMap::<u32, Launch>::new();
    for pair in pairs(test) {
        let (member, product) = (pair[0].member, pair[0].product);
        if is_new[product as usize] && active.binary_search(&member).is_ok() && !kept_purchases(pair).is_empty() {
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
        judged.add(&Standing::new(&scores, active, &[], &launch.buyers));
    }
    Ok(judged)
}

/// Ranks members by how much they buy of anything.
pub(super) fn judge_heaviest(model: &Model, launches: &[Launch], active: &[u32]) -> Judged {
    let (mut judged, activity) = (Judged::default(), &model.launch.statics.activity);
    launches.iter().for_each(|launch| judged.add(&Standing::new(activity, active, &[], &launch.buyers)));
    judged
}

impl Judged {
    fn add(&mut self, standing: &Standing) {
        if standing.tells() {
            self.launches += 1;
            self.auc += standing.area_under_curve();
            self.recall_at_10 += standing.recall(standing.head(0.1));
            self.lift_at_1 += standing.lift(0.01);
        }
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
