//! Launches of the held-out days, replayed: each product first sold there is asked for by its attributes
//! alone, as of the cut.

use std::collections::{BTreeMap, HashSet};

use kindred_models::Model;
use kindred_models::launch::{Calibration, LaunchQuery};
use kindred_models::stop::{Stop, Stopped};
use linfa::ParamGuard;
use linfa::composing::platt_scaling::{PlattParams, platt_newton_method};
use ndarray::Array1;

use crate::data::{Dataset, Event, Kind};
use crate::prepare::Slice;

/// Members per launch that calibration looks at, evenly spaced: all members of many launches would not fit
/// into memory.
const CALIBRATION_MEMBERS: usize = 20_000;

/// A product first sold after the cut.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    product: u32,
    /// Its buyers after the cut, sorted.
    buyers: Vec<u32>,
    /// Days from its first sale to the end of the history.
    days_on_sale: f64,
}

/// Products first sold after the cut, with at least so many buyers there.
pub(super) fn replayable(dataset: &Dataset, slice: &Slice, test: &[Event], min_buyers: u32) -> Vec<Launch> {
    let sold: HashSet<u32> = slice.events.iter().map(|e| e.product).collect();
    let was_there =
        |product: u32| dataset.launched_at[product as usize].is_some_and(|launched| launched <= slice.as_of);
    let end = test.iter().map(|e| e.time).max().unwrap_or(0);
    let mut launches = BTreeMap::<u32, Launch>::new();
    for event in test.iter().filter(|e| e.kind == Kind::Purchase) {
        if dataset.has_time && !sold.contains(&event.product) && !was_there(event.product) {
            let days_on_sale = (end - event.time) as f64 / 86_400.0;
            let launch = launches.entry(event.product).or_insert_with(|| Launch {
                product: event.product,
                buyers: Vec::new(),
                days_on_sale,
            });
            launch.buyers.push(event.member);
            launch.days_on_sale = launch.days_on_sale.max(days_on_sale);
        }
    }
    launches.values_mut().for_each(|launch| launch.buyers.dedup());
    launches.into_values().filter(|launch| launch.buyers.len() >= min_buyers.max(1) as usize).collect()
}

/// What replaying found.
#[derive(Clone, Debug, Default)]
pub(super) struct Judged {
    launches: usize,
    /// Sums over launches.
    auc: f64,
    recall_at_10: f64,
    lift_at_1: f64,
    days_on_sale: f64,
    /// Scores of members of all launches, and whether each bought.
    scores: Vec<f64>,
    labels: Vec<bool>,
}

/// Ranks all members who bought something before the cut for every launch.
pub(super) fn judge(model: &Model, launches: &[Launch], stop: &Stop) -> Result<Judged, Stopped> {
    // As of the cut, a member without a purchase can't be told apart from one who joins later.
    let active: Vec<u32> =
        (0..model.members.len() as u32).filter(|m| model.launch.activity[*m as usize] > 0.0).collect();
    let mut judged = Judged::default();
    for launch in launches {
        let attributes = model.products.attributes(launch.product);
        let others = |row: u32| row != launch.product;
        let (content, embeddings) = (&model.content, &model.embeddings);
        let query = LaunchQuery::from_attributes(&attributes, content, embeddings, &model.launch.buyers, others);
        let scores = model.launch.score_all(&query, embeddings, stop)?;
        let bought = |member: &u32| launch.buyers.binary_search(member).is_ok();
        judged.add(active.iter().map(|m| (scores[*m as usize], bought(m))).collect(), launch.days_on_sale);
    }
    Ok(judged)
}

impl Judged {
    fn add(&mut self, mut ranked: Vec<(f32, bool)>, days_on_sale: f64) {
        let positives = ranked.iter().filter(|r| r.1).count();
        if positives == 0 || positives == ranked.len() {
            return;
        }
        let step = (ranked.len() / CALIBRATION_MEMBERS).max(1);
        self.scores.extend(ranked.iter().step_by(step).map(|r| f64::from(r.0)));
        self.labels.extend(ranked.iter().step_by(step).map(|r| r.1));
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let recall = |k: usize| ranked[..k].iter().filter(|r| r.1).count() as f64 / positives as f64;
        let head = |share: f64| ((ranked.len() as f64 * share).round() as usize).max(1);
        self.launches += 1;
        self.auc += area_under_curve(&ranked);
        self.recall_at_10 += recall(head(0.1));
        self.lift_at_1 += recall(head(0.01)) * ranked.len() as f64 / head(0.01) as f64;
        self.days_on_sale += days_on_sale;
    }

    /// Means over launches, by name.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let n = self.launches as f64;
        let mut metrics = BTreeMap::from([("launch.launches".to_owned(), n)]);
        if self.launches > 0 {
            for (name, sum) in [("auc", self.auc), ("recall@10%", self.recall_at_10), ("lift@1%", self.lift_at_1)] {
                metrics.insert(format!("launch.{name}"), sum / n);
            }
        }
        metrics
    }

    /// Platt scaling over all launches together; `None` with fewer than `min_launches`.
    pub(super) fn calibrate(self, min_launches: u32) -> Option<Calibration> {
        if self.launches < min_launches.max(1) as usize {
            return None;
        }
        let horizon_days = (self.days_on_sale / self.launches as f64).round() as u32;
        let params = PlattParams::<f64, ()>::default().check().ok()?;
        let (scores, labels) = (Array1::from(self.scores), Array1::from(self.labels));
        let (a, b) = platt_newton_method(scores.view(), labels.view(), &params).ok()?;
        // linfa's probability is 1 / (1 + exp(a·x + b)).
        let (slope, intercept) = (-a as f32, -b as f32);
        let launches = self.launches as u32;
        (slope.is_finite() && intercept.is_finite()).then_some(Calibration { slope, intercept, launches, horizon_days })
    }
}

/// Mann–Whitney: the share of buyer and non-buyer pairs in the right order, ties by half; for rows sorted
/// by falling score.
fn area_under_curve(ranked: &[(f32, bool)]) -> f64 {
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

    #[test]
    fn calibration_finds_the_rate() {
        let scores: Vec<f32> = (0..4000).map(|i| (i % 2) as f32).collect();
        let labels = (0..4000).map(|i| if i % 2 == 1 { i % 10 == 1 } else { i % 100 == 0 });
        let mut judged = Judged::default();
        judged.add(scores.into_iter().zip(labels).collect(), 20.0);
        assert!(judged.clone().calibrate(2).is_none(), "one launch is too few");
        let c = judged.calibrate(1).unwrap();
        assert!((c.probability(1.0) - 0.2).abs() < 0.01, "{c:?} {}", c.probability(1.0));
        assert!((c.probability(0.0) - 0.02).abs() < 0.005, "{c:?} {}", c.probability(0.0));
        assert_eq!((c.launches, c.horizon_days), (1, 20));
    }
}
