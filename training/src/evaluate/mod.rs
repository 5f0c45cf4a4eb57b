//! Offline metrics: the model is fitted without the last slice of history, and judged by it.
//!
//! Feeds: every member with a purchase on both sides of the cut, all products ranked, no sampled
//! negatives; `all` counts anything bought after the cut, `new` what the member never bought before.
//! Launches: every product first sold after the cut, asked for by its attributes alone, all members
//! ranked.

mod launches;

use std::collections::{BTreeMap, HashSet};

use kindred_models::Model;
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::launch::Calibration;
use kindred_models::stop::Stop;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

use crate::config::ValidConfig;
use crate::data::{Dataset, Event, Kind};
use crate::error::TrainError;
use crate::fit::fit;
use crate::prepare::Slice;
use crate::progress::Progress;

/// Items ranked per member.
const PAGE: usize = 20;
/// Share of a member's products held out where events have no time.
const RANDOM_SHARE: f64 = 0.2;
/// What the stage found.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Metrics by name: `feed.all.ndcg@10`, `popularity.all.ndcg@10`, `launch.auc`, ….
    pub metrics: BTreeMap<String, f64>,
    /// From launch score to probability; `None` where too few launches could be replayed.
    pub calibration: Option<Calibration>,
}

/// Cuts the history in two.
pub fn split(dataset: &Dataset, test_days: u32, seed: u64) -> (Slice, Vec<Event>) {
    let events = &dataset.events.list;
    let (train, test): (Vec<Event>, Vec<Event>) = if dataset.has_time {
        let end = events.iter().map(|e| e.time).max().unwrap_or(0);
        let cut = end - i64::from(test_days) * 86_400;
        events.iter().partition(|e| e.time <= cut)
    } else {
        // One draw per member and product, so that both sides never share a pair.
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut out = Vec::new();
        for pair in events.chunk_by(|a, b| a.member == b.member && a.product == b.product) {
            let held_out = rng.random_bool(RANDOM_SHARE);
            out.extend(pair.iter().map(|e| (*e, held_out)));
        }
        let (test, train): (Vec<_>, Vec<_>) = out.into_iter().partition(|(_, held_out)| *held_out);
        let events = |list: Vec<(Event, bool)>| list.into_iter().map(|(e, _)| e).collect();
        (events(train), events(test))
    };
    (Slice::of(train, dataset.has_time), test)
}

/// Fits a model to the history before the cut, and judges it by what came after.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised.
pub fn evaluate(
    dataset: &Dataset,
    config: &ValidConfig,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Evaluation, TrainError> {
    let params = &config.given.evaluate;
    let (slice, test) = split(dataset, params.test_days, config.embeddings.seed);
    let mut evaluation = Evaluation::default();
    if slice.events.is_empty() || test.is_empty() {
        return Ok(evaluation);
    }
    let model = fit(dataset, &slice, config, progress, stop)?;
    for task in [Task::All, Task::New] {
        evaluation.metrics.extend(judge_feeds(&model, &test, task, stop)?);
    }
    let launches = launches::replayable(dataset, &slice, &test, params.min_launch_buyers);
    let judged = launches::judge(&model, &launches, stop)?;
    evaluation.metrics.extend(judged.metrics());
    evaluation.calibration = judged.calibrate(params.min_launches);
    Ok(evaluation)
}

/// What counts as a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    All,
    New,
}

/// Metrics of one ranking, summed over members.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    ndcg_at_10: f64,
    recall_at_20: f64,
}

/// nDCG@10 (binary, ideal cut at the number of truths) and recall@20 of one ranking.
fn judge_ranking(ranking: impl Iterator<Item = u32>, truth: &HashSet<u32>) -> Sums {
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let hits: Vec<usize> =
        ranking.take(PAGE).enumerate().filter(|(_, p)| truth.contains(p)).map(|(rank, _)| rank).collect();
    let ideal: f64 = (0..truth.len().min(10)).map(gain).sum();
    Sums {
        ndcg_at_10: hits.iter().filter(|rank| **rank < 10).map(|rank| gain(*rank)).sum::<f64>() / ideal,
        recall_at_20: hits.len() as f64 / truth.len() as f64,
    }
}

/// Products bought after the cut, by member.
fn truths(model: &Model, test: &[Event], task: Task) -> Vec<(u32, HashSet<u32>)> {
    let by_member = test.chunk_by(|a, b| a.member == b.member);
    by_member
        .filter_map(|events| {
            let member = events[0].member;
            let before: HashSet<u32> =
                model.history.member(member).filter(|p| p.count > 0).map(|p| p.product).collect();
            let bought = events.iter().filter(|e| e.kind == Kind::Purchase).map(|e| e.product);
            let truth: HashSet<u32> = bought.filter(|product| task == Task::All || !before.contains(product)).collect();
            (!truth.is_empty() && !before.is_empty()).then_some((member, truth))
        })
        .collect()
}

fn judge_feeds(model: &Model, test: &[Event], task: Task, stop: &Stop) -> Result<BTreeMap<String, f64>, TrainError> {
    let truths = truths(model, test, task);
    let sums: Vec<(Sums, Sums)> = truths
        .par_iter()
        .map(|(member, truth)| {
            stop.check()?;
            let mut request = FeedRequest::new(Visitor::Member(*member), PAGE);
            request.include_purchased = task == Task::All;
            let ours = feed(model, &request).into_iter().map(|item| item.product);
            let before = |row: u32| task == Task::New && model.history.pair(*member, row).is_some_and(|p| p.count > 0);
            let popular = model.popularity.top(PAGE, |row| model.products.available[row as usize] != 0 && !before(row));
            Ok((judge_ranking(ours, truth), judge_ranking(popular, truth)))
        })
        .collect::<Result<_, TrainError>>()?;
    let name = if task == Task::All { "all" } else { "new" };
    let mean = |of: &dyn Fn(&(Sums, Sums)) -> f64| sums.iter().map(of).sum::<f64>() / sums.len().max(1) as f64;
    Ok([
        (format!("feed.{name}.ndcg@10"), mean(&|s| s.0.ndcg_at_10)),
        (format!("feed.{name}.recall@20"), mean(&|s| s.0.recall_at_20)),
        (format!("popularity.{name}.ndcg@10"), mean(&|s| s.1.ndcg_at_10)),
        (format!("popularity.{name}.recall@20"), mean(&|s| s.1.recall_at_20)),
        (format!("feed.{name}.members"), sums.len() as f64),
    ]
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranking_metrics_worked_by_hand() {
        // Hits at ranks 1 and 3 of three truths: (1 + 1/log2(4)) / (1 + 1/log2(3) + 1/2).
        let truth = HashSet::from([1, 3, 9]);
        let sums = judge_ranking([1, 2, 3, 4].into_iter(), &truth);
        assert!((sums.ndcg_at_10 - 1.5 / (1.5 + 1.0 / 3f64.log2())).abs() < 1e-12);
        assert!((sums.recall_at_20 - 2.0 / 3.0).abs() < 1e-12);
    }
}
