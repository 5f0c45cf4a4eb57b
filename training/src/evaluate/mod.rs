//! Offline metrics: the model is fitted without the last slice of history, and judged by it.
//!
//! Feeds: every member with a purchase on both sides of the cut, all products ranked, no sampled
//! negatives; `all` counts anything bought after the cut, `new` what the member never bought before.
//! Launches: every product first sold after the cut, asked for by its attributes alone, all members
//! ranked. Everything that a ranking is made of was known at the cut.

mod calibration;
mod foretold;
mod html;
mod launches;
mod metrics;
mod presence;
mod rankings;
mod seeds;
mod split;
mod standing;

use std::collections::{BTreeMap, HashSet};

use kindred_models::Model;
use kindred_models::launch::LaunchFit;
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use calibration::{CalibrationClass, RankerCalibration};
pub use foretold::ExpectedReport;
pub use html::html;
pub use metrics::Estimate;
pub(crate) use metrics::{Judged, PAGE, summarize};
pub use seeds::SeedReport;
pub use split::split;
pub(crate) use split::truths;

use crate::config::ValidConfig;
use crate::data::{Dataset, Event};
use crate::error::TrainError;
use crate::fit::{Earlier, Fitted, fit};
use crate::launches::LaunchReport;
use crate::progress::Progress;
use crate::rank::Comparison;
use crate::slice::Slice;
use rankings::Baselines;

/// Products in a member's history, the classes that recall is shown by.
const HISTORY_CLASSES: [usize; 6] = [5, 10, 20, 50, 100, usize::MAX];
/// Categories that recall is shown by, those bought most.
const CATEGORIES: usize = 20;

/// What counts as a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    All,
    New,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::New => "new",
        }
    }
}

/// What the stage found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Moment of the cut, in unix seconds; 0 where events have no time and a random share was held out.
    pub cut_time: i64,
    /// Days held out.
    pub test_days: u32,
    /// What was found of feeds, by task: `all` and `new`.
    pub tasks: Vec<TaskReport>,
    /// The ranker's probabilities against what was bought; `None` where no ranker was learned.
    pub calibration: Option<RankerCalibration>,
    /// How the kinds of scorers did against each other, before the cut.
    pub scorers: Vec<Comparison>,
    /// Means over the launches of the held-out days, by name; beside them those of the fixed sum that nothing
    /// was learned for (`launch_prior.…`), and of the heaviest buyers first (`launch_heaviest.…`).
    pub launches: BTreeMap<String, f64>,
    /// What it gains them when some of their buyers are known.
    pub launch_seeds: Vec<SeedReport>,
    /// How audiences were foretold: of launches of the held-out days, with and without seeds, and of products that had
    /// sold before.
    #[serde(default)]
    pub expected: Vec<ExpectedReport>,
    /// How launches before the cut were foretold by those before them.
    pub launch_replays: LaunchReport,
    /// When and where members were around, against what was foretold; by name.
    #[serde(default)]
    pub presence: BTreeMap<String, f64>,
    /// Why the served model is not among the rankings, if there is one.
    pub served_left_out: Option<String>,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// `all` or `new`.
    pub task: String,
    /// Members judged.
    pub members: usize,
    /// Metrics by ranking (`feed`, `popularity`, …) and name.
    pub rankings: BTreeMap<String, BTreeMap<String, Estimate>>,
    /// The feed's recall@20 by products in the member's history.
    pub by_history: Vec<Part>,
    /// The feed's hits among what was bought, by top category.
    pub by_category: Vec<Part>,
    /// Lorenz curve of the feed's exposure.
    pub exposure: Vec<(f64, f64)>,
}

/// A share for some part of the members or purchases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which part.
    pub name: String,
    /// Members, or purchases, in it.
    pub count: usize,
    /// Recall@20.
    pub recall_at_20: f64,
}

impl Evaluation {
    /// Whether there is no member to judge it by: nobody who bought in the last days is known from before.
    pub fn is_of_nobody(&self) -> bool {
        self.tasks.iter().all(|task| task.members == 0)
    }

    /// Where a baseline did better than the feed beyond doubt, in words.
    pub fn surpassed(&self) -> Vec<String> {
        let mut told = Vec::new();
        for task in &self.tasks {
            let of = |ranking: &str| task.rankings.get(ranking)?.get("ndcg@10");
            let Some(feed) = of("feed") else { continue };
            let others = task.rankings.keys().filter(|name| !["feed", "served before"].contains(&name.as_str()));
            let better = others.filter_map(|name| Some((name, of(name)?))).filter(|(_, of)| of.low > feed.high);
            let best = better.max_by(|a, b| a.1.value.total_cmp(&b.1.value));
            told.extend(best.map(|(name, best)| {
                let (feed, best, task) = (feed.value, best.value, &task.task);
                format!(
                    "{name} alone would do better than the feed: nDCG@10 {best:.4}, the feed {feed:.4} (task {task})"
                )
            }));
        }
        told
    }

    /// The most telling values by name: `feed.all.ndcg@10`, `launch.auc`, ….
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = self.launches.clone();
        metrics.extend(self.presence.clone());
        metrics.extend(self.launch_replays.metrics());
        for report in &self.launch_seeds {
            metrics.insert(format!("launch.seeds_{}.recall@10%.gain", report.seeds), report.recall_gain.value);
        }
        for report in &self.expected {
            let name = report.subject.replace(' ', "_");
            metrics.insert(format!("expected.{name}.median_ratio"), report.median_ratio);
            metrics.insert(format!("expected.{name}.coverage"), report.coverage);
            metrics.insert(format!("expected.{name}.recall@10%"), report.recall);
            let own = report.recall_of_own_buyers.map(|own| (format!("expected.{name}.recall@10%.own_buyers"), own));
            metrics.extend(own);
        }
        for task in &self.tasks {
            metrics.insert(format!("feed.{}.members", task.task), task.members as f64);
            for (ranking, values) in &task.rankings {
                let of = |name: &String| format!("{}.{}.{name}", ranking.replace(' ', "_"), task.task);
                metrics.extend(values.iter().map(|(name, estimate)| (of(name), estimate.value)));
            }
        }
        if let Some(calibration) = &self.calibration {
            metrics.insert("ranker.log_loss".to_owned(), calibration.log_loss);
        }
        metrics
    }
}

/// Fits a model to the history before the cut, and judges it by what came after. `served` is the model that
/// was served before, if any, or why it can't be read. The events that it is given are let go as soon as they are
/// counted.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised, [`TrainError::Diverged`] if the embeddings do not settle.
pub fn evaluate(
    dataset: &Dataset,
    all: Slice,
    config: &ValidConfig,
    served: Option<Result<Model, String>>,
    earlier: &mut Earlier,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Evaluation, TrainError> {
    let params = &config.given.evaluate;
    let (slice, test) = split(&all, params.test_days, config.embeddings.seed);
    drop(all);
    let mut evaluation = Evaluation { test_days: params.test_days, ..Evaluation::default() };
    if slice.events().next().is_none() || test.is_empty() {
        return Ok(evaluation);
    }
    let cut = slice.has_time().then_some(slice.as_of);
    let baselines = Baselines::new(&slice, dataset.products.len());
    let new_products = launches::new_products(dataset, &slice);
    let were_there = launches::was_there(&new_products, &slice);
    let Fitted { mut model, scorers, launches } = fit(dataset, slice, config, earlier, progress, stop)?;
    evaluation.launch_replays = launches;
    // What is available today says nothing of then; what was neither sold nor launched by then was not there.
    model.products.available = were_there.into();
    evaluation.scorers = scorers;
    evaluation.cut_time = cut.unwrap_or(0);
    let served = match served.map(|served| served.and_then(|served| comparable(served, &model, cut))) {
        Some(Ok(served)) => Some(served),
        Some(Err(reason)) => {
            evaluation.served_left_out = Some(reason);
            None
        }
        None => None,
    };
    // A random part of a member's products has nothing in it that they bought before.
    let tasks = if cut.is_some() { &[Task::All, Task::New][..] } else { &[Task::New] };
    for task in tasks.iter().copied() {
        evaluation.tasks.push(judge_feeds(&model, served.as_ref(), &baselines, &test, task, config, stop)?);
    }
    let mut members: Vec<u32> =
        (0..model.members.len() as u32).filter(|m| !model.history.rows.range(*m).is_empty()).collect();
    thin(&mut members, params.max_members);
    evaluation.calibration = calibration::judge(&model, &members, &test, params.test_days, stop)?;
    evaluation.presence = presence::judge(&model, dataset, &test, &config.given.popularity);
    let active = launches::active(&model);
    let mut launches = launches::replayable(&new_products, &test, &active, &config.given.launch);
    thin(&mut launches, params.max_launches);
    evaluation.launch_seeds = seeds::judge(&model, &launches, &active, config.embeddings.seed, stop)?;
    evaluation.expected = foretold::judge(&model, dataset, &launches, &active, &test, &config.given.launch, stop)?;
    evaluation.launches = judge_launches(&mut model, &launches, &active, stop)?;
    Ok(evaluation)
}

/// Ranks the members for every launch, and once more by how much they buy, and by the prior.
fn judge_launches(
    model: &mut Model,
    launches: &[launches::Launch],
    active: &[u32],
    stop: &Stop,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let judged = launches::judge(model, launches, active, stop)?;
    let mut metrics = judged.metrics("launch");
    metrics.insert("launch.launches".to_owned(), judged.launches() as f64);
    metrics.extend(launches::judge_heaviest(model, launches, active).metrics("launch_heaviest"));
    if model.launch.fit.learned.is_some() {
        let unlearned = LaunchFit { learned: None, ..model.launch.fit.clone() };
        let learned = std::mem::replace(&mut model.launch.fit, unlearned);
        metrics.extend(launches::judge(model, launches, active, stop)?.metrics("launch_prior"));
        model.launch.fit = learned;
    }
    Ok(metrics)
}

/// A served model may be judged if it has not seen what it is judged by; beside another one, both on the same
/// assortment.
fn comparable(mut served: Model, beside: &Model, cut: Option<i64>) -> Result<Model, String> {
    let Some(cut) = cut.filter(|_| served.info.as_of_time != 0) else {
        return Err(format!("version {} may have learned what was held out: events have no time", served.info.version));
    };
    if served.info.as_of_time > cut {
        let of = |task: &str| served.info.metrics.get(&format!("feed.{task}.ndcg@10"));
        let own = match (of("all"), of("new")) {
            (Some(all), Some(new)) => {
                format!("; on days held out of it, its feed had nDCG@10 {all:.4}, and {new:.4} of what was new")
            }
            _ => String::new(),
        };
        Err(format!("version {} has learned from days after the cut{own}", served.info.version))
    } else {
        let available =
            |id: &str| beside.products.ids.find(id).map_or(0, |row| beside.products.available[row as usize]);
        served.products.available = served.products.ids.iter().map(available).collect::<Vec<_>>().into();
        Ok(served)
    }
}

/// Keeps every n-th of a list, so that at most `max` are left, which is 1 or more.
pub(crate) fn thin<T>(list: &mut Vec<T>, max: usize) {
    let step = list.len().div_ceil(max).max(1);
    let mut at = 0;
    list.retain(|_| {
        at += 1;
        (at - 1) % step == 0
    });
}

fn judge_feeds(
    model: &Model,
    served: Option<&Model>,
    baselines: &Baselines,
    test: &[Event],
    task: Task,
    config: &ValidConfig,
    stop: &Stop,
) -> Result<TaskReport, TrainError> {
    let mut truths = truths(&model.history, test, task);
    thin(&mut truths, config.given.evaluate.max_members);
    let judged: Vec<Vec<(&'static str, Judged)>> = truths
        .par_iter()
        .map(|(member, truth)| {
            stop.check()?;
            let is_repeat = |product: u32| model.history.pair(*member, product).is_some_and(|p| p.count > 0);
            let mut rankings = vec![("feed", rankings::ours(model, *member, task))];
            rankings.extend(baselines.rank(model, *member, task));
            rankings.extend(served.map(|served| ("served before", rankings::served(served, model, *member, task))));
            Ok(rankings.into_iter().map(|(name, list)| (name, Judged::new(list, truth, is_repeat))).collect())
        })
        .collect::<Result<_, TrainError>>()?;
    let mut by_ranking = BTreeMap::<&'static str, Vec<Judged>>::new();
    judged.into_iter().flatten().for_each(|(name, judged)| by_ranking.entry(name).or_default().push(judged));
    let (products, seed) = (model.products.len(), config.embeddings.seed);
    let feed = by_ranking.get("feed").map_or(&[][..], Vec::as_slice);
    Ok(TaskReport {
        task: task.name().to_owned(),
        members: truths.len(),
        by_history: by_history(model, &truths, feed),
        by_category: by_category(model, &truths, feed),
        exposure: metrics::lorenz(feed, products),
        rankings: by_ranking
            .iter()
            .map(|(name, judged)| ((*name).to_owned(), metrics::summarize(judged, products, seed)))
            .collect(),
    })
}

fn by_history(model: &Model, truths: &[(u32, HashSet<u32>)], judged: &[Judged]) -> Vec<Part> {
    let mut sums = [(0usize, 0f64); HISTORY_CLASSES.len()];
    for ((member, _), judged) in truths.iter().zip(judged) {
        let products = model.history.member(*member).filter(|p| p.count > 0).count();
        let sum = &mut sums[HISTORY_CLASSES.partition_point(|end| *end < products)];
        (sum.0, sum.1) = (sum.0 + 1, sum.1 + judged.recall_at_20());
    }
    let mut from = 1;
    let part = |(end, (count, recall)): (usize, (usize, f64))| {
        let name = if end == usize::MAX { format!("{from}+") } else { format!("{from}–{end}") };
        from = end.saturating_add(1);
        Part { name, count, recall_at_20: recall / count.max(1) as f64 }
    };
    HISTORY_CLASSES.into_iter().zip(sums).map(part).collect()
}

fn by_category(model: &Model, truths: &[(u32, HashSet<u32>)], judged: &[Judged]) -> Vec<Part> {
    let top = |product: u32| {
        let path = model.products.categories.get(product).unwrap_or("(none)");
        path.split_once('/').map_or(path, |(top, _)| top)
    };
    let mut counts = BTreeMap::<&str, (usize, usize)>::new();
    for ((_, truth), judged) in truths.iter().zip(judged) {
        truth.iter().for_each(|product| counts.entry(top(*product)).or_default().0 += 1);
        judged.hits.iter().for_each(|product| counts.entry(top(*product)).or_default().1 += 1);
    }
    let mut parts: Vec<Part> = counts
        .into_iter()
        .map(|(name, (count, hits))| Part {
            name: name.to_owned(),
            count,
            recall_at_20: hits as f64 / count.max(1) as f64,
        })
        .collect();
    parts.sort_by(|a, b| b.count.cmp(&a.count).then(a.name.cmp(&b.name)));
    parts.truncate(CATEGORIES);
    parts
}
