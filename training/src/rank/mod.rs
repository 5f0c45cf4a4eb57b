//! Fits the ranker: on the history as it stood at several earlier moments, each judged by what was bought
//! in the days that followed.
//!
//! At every cut all sources are fitted to what came before it alone, and asked for candidates by the very
//! code that serves. What the member bought before and what is new are two tasks with a scorer each. A
//! fixed blend, a logistic regression and boosted trees compete on the last cut, fitted to the ones before;
//! the winner of each task is then fitted to all of them.

mod boosting;
mod examples;
mod logistic;
mod select;

use kindred_models::Model;
use kindred_models::blend::Blend;
use kindred_models::ranker::{Ranker, RankerFit, Scorer, ScorerKind};
use kindred_models::stop::Stop;

use crate::config::{RankerParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::fit::Snapshots;
use crate::prepare::Slice;
use crate::progress::Progress;
pub use examples::Task;
use examples::{Examples, Horizon};
pub use select::Comparison;

/// Days before a cut without which there is nothing to learn from.
const MIN_HISTORY_DAYS: i64 = 28;

/// A ranker, and how its kinds of scorers did.
#[derive(Debug, Default)]
pub struct Ranked {
    /// The ranker.
    pub ranker: Ranker,
    /// nDCG@10 of every kind, by task, on the last cut.
    pub comparisons: Vec<Comparison>,
}

/// Fits a ranker for a model of this slice.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised.
pub fn fit(
    dataset: &Dataset,
    slice: &Slice,
    config: &ValidConfig,
    snapshots: &mut Snapshots,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Ranked, TrainError> {
    let params = &config.given.ranker;
    let blend = config.given.feed;
    let cuts = cuts(slice, params);
    if cuts.is_empty() {
        return Ok(Ranked { ranker: unranked(&blend), comparisons: Vec::new() });
    }
    let mut horizons = Vec::new();
    for cut in cuts {
        let model = snapshots.at(dataset, slice, cut, config, progress, stop)?;
        horizons.push(Horizon::new(model, slice, cut, params));
        stop.check()?;
    }
    let (mut scorers, mut kinds, mut comparisons) = (Vec::new(), Vec::new(), Vec::new());
    for task in [Task::Repeat, Task::Fresh] {
        let (kind, comparison) = select::best(&horizons, task, &blend, params, stop)?;
        let examples = Examples::of(horizons.iter(), task, params, stop)?;
        scorers.push(scorer(kind, &examples, &blend, params));
        kinds.push(kind);
        comparisons.push(comparison);
    }
    let fit = RankerFit { horizon_days: params.horizon_days, repeat: kinds[0], fresh: kinds[1] };
    let fresh = scorers.pop().unwrap_or_default();
    let repeat = scorers.pop().unwrap_or_default();
    Ok(Ranked { ranker: Ranker { repeat, fresh, fit }, comparisons })
}

/// The fixed blend, for a history too short to learn from.
pub fn unranked(blend: &Blend) -> Ranker {
    let scorer = Scorer::Linear(blend.linear());
    Ranker { repeat: scorer.clone(), fresh: scorer, fit: RankerFit::default() }
}

/// Moments to stand at, the last one first: each with a whole horizon after it and enough history before.
fn cuts(slice: &Slice, params: &RankerParams) -> Vec<i64> {
    if !slice.has_time() {
        return Vec::new();
    }
    let first = slice.events.iter().map(|e| e.time).min().unwrap_or(slice.as_of);
    let cut = |k: u32| slice.as_of - i64::from(params.horizon_days + k * params.step_days) * 86_400;
    (0..params.slices).map(cut).take_while(|cut| *cut - first >= MIN_HISTORY_DAYS * 86_400).collect()
}

/// Fits a scorer of a kind.
fn scorer(kind: ScorerKind, examples: &Examples, blend: &Blend, params: &RankerParams) -> Scorer {
    match kind {
        ScorerKind::Blend => Scorer::Linear(logistic::scaled(blend, examples)),
        ScorerKind::Logistic => Scorer::Linear(logistic::fit(examples)),
        ScorerKind::Boosting => Scorer::Trees(boosting::fit(examples, params)),
    }
}

/// What the model of a cut may be asked for.
pub(crate) type CutModel = std::sync::Arc<Model>;
