//! Offline metrics: the model is fitted without the last slice of history, and judged by it.
//!
//! Feeds: every member with a purchase on both sides of the cut, all products ranked, no sampled
//! negatives; `all` counts anything bought after the cut, `new` what the member never bought before.
//! Launches: every product first sold after the cut, asked for by its attributes alone, all members
//! ranked.

use std::collections::{BTreeMap, HashSet};

use kindred_models::Model;
use kindred_models::feed::{FeedRequest, Visitor, feed};
use kindred_models::launch::{Calibration, LaunchQuery};
use kindred_models::stop::Stop;
use linfa::ParamGuard;
use linfa::composing::platt_scaling::{PlattParams, platt_newton_method};
use ndarray::Array1;
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
/// Members per launch that calibration looks at: all buyers' scores would fit into any memory, all
/// members' of many launches would not.
const CALIBRATION_MEMBERS: usize = 20_000;

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
    let launches = launches(dataset, &slice, &test, params.min_launch_buyers);
    judge_launches(&model, &launches, config, stop, &mut evaluation)?;
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

/// Products first sold after the cut, with their buyers there.
fn launches(dataset: &Dataset, slice: &Slice, test: &[Event], min_buyers: u32) -> Vec<(u32, Vec<u32>)> {
    let sold: HashSet<u32> = slice.events.iter().map(|e| e.product).collect();
    let was_there =
        |product: u32| dataset.launched_at[product as usize].is_some_and(|launched| launched <= slice.as_of);
    let mut buyers = BTreeMap::<u32, Vec<u32>>::new();
    for event in test.iter().filter(|e| e.kind == Kind::Purchase) {
        if dataset.has_time && !sold.contains(&event.product) && !was_there(event.product) {
            buyers.entry(event.product).or_default().push(event.member);
        }
    }
    buyers.values_mut().for_each(|list| list.dedup());
    buyers.into_iter().filter(|(_, list)| list.len() >= min_buyers.max(1) as usize).collect()
}

fn judge_launches(
    model: &Model,
    launches: &[(u32, Vec<u32>)],
    config: &ValidConfig,
    stop: &Stop,
    evaluation: &mut Evaluation,
) -> Result<(), TrainError> {
    // As of the cut, a member without a purchase can't be told apart from one who joins later.
    let active: Vec<u32> =
        (0..model.members.len() as u32).filter(|m| model.launch.activity[*m as usize] > 0.0).collect();
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    let (mut auc, mut recall, mut lift, mut judged) = (0.0, 0.0, 0.0, 0usize);
    for (product, buyers) in launches {
        let attributes = model.attributes(*product);
        let (content, embeddings) = (&model.content, &model.embeddings);
        let query =
            LaunchQuery::from_attributes(&attributes, content, embeddings, &model.launch.buyers, |row| row != *product);
        let all = model.launch.score_all(&query, embeddings, stop)?;
        let mut ranked: Vec<(f32, bool)> =
            active.iter().map(|m| (all[*m as usize], buyers.binary_search(m).is_ok())).collect();
        let step = (ranked.len() / CALIBRATION_MEMBERS).max(1);
        scores.extend(ranked.iter().step_by(step).map(|r| r.0));
        labels.extend(ranked.iter().step_by(step).map(|r| r.1));
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let positives = ranked.iter().filter(|r| r.1).count() as f64;
        if positives == 0.0 || positives as usize == ranked.len() {
            continue;
        }
        judged += 1;
        auc += area_under_curve(&ranked);
        let found = |share: f64| {
            let k = ((ranked.len() as f64 * share).round() as usize).max(1);
            (ranked[..k].iter().filter(|r| r.1).count() as f64 / positives, k as f64 / ranked.len() as f64)
        };
        recall += found(0.1).0;
        let (share, of) = found(0.01);
        lift += share / of;
    }
    let params = &config.given.evaluate;
    evaluation.metrics.insert("launch.launches".to_owned(), judged as f64);
    if judged > 0 {
        for (name, sum) in [("launch.auc", auc), ("launch.recall@10%", recall), ("launch.lift@1%", lift)] {
            evaluation.metrics.insert(name.to_owned(), sum / judged as f64);
        }
    }
    if judged >= params.min_launches.max(1) as usize {
        evaluation.calibration = calibrate(scores, labels, judged as u32, params.test_days);
    }
    Ok(())
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

/// Platt scaling over all replayed launches together.
fn calibrate(scores: Vec<f32>, labels: Vec<bool>, launches: u32, horizon_days: u32) -> Option<Calibration> {
    let params = PlattParams::<f64, ()>::default().check().ok()?;
    let scores: Array1<f64> = scores.into_iter().map(f64::from).collect();
    let labels = Array1::from(labels);
    let (a, b) = platt_newton_method(scores.view(), labels.view(), &params).ok()?;
    // linfa's probability is 1 / (1 + exp(a·x + b)).
    let (slope, intercept) = (-a as f32, -b as f32);
    (slope.is_finite() && intercept.is_finite()).then_some(Calibration { slope, intercept, launches, horizon_days })
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

    #[test]
    fn area_under_curve_worked_by_hand() {
        // Pairs: (0.9 vs 0.8 right), (0.9 vs 0.5 right), (0.5 vs 0.8 wrong), (0.5 vs 0.5 tied).
        let ranked = [(0.9, true), (0.8, false), (0.5, true), (0.5, false)];
        assert!((area_under_curve(&ranked) - 2.5 / 4.0).abs() < 1e-12);
    }

    #[test]
    fn calibration_finds_the_rate() {
        let scores: Vec<f32> = (0..4000).map(|i| (i % 2) as f32).collect();
        let labels: Vec<bool> = (0..4000).map(|i| if i % 2 == 1 { i % 10 == 1 } else { i % 100 == 0 }).collect();
        let c = calibrate(scores, labels, 40, 28).unwrap();
        assert!((c.probability(1.0) - 0.2).abs() < 0.01, "{c:?} {}", c.probability(1.0));
        assert!((c.probability(0.0) - 0.02).abs() < 0.005, "{c:?} {}", c.probability(0.0));
    }
}
