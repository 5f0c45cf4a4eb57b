//! Fits the ranker: on the history as it stood at several earlier moments, each judged by what was bought
//! in the days that followed.
//!
//! At every cut all sources are fitted to what came before it alone, and asked for candidates by the very
//! code that serves. What the member bought before and what is new are two tasks with a scorer each. A
//! fixed blend, a logistic regression (solved, or followed online), boosted trees and a mean of the last two compete
//! on every cut, fitted to the others, so that one season does not decide; the winner of each task is then fitted to
//! all, and calibrated.

mod boosting;
mod calibrate;
mod examples;
mod ftrl;
mod inputs;
mod logistic;
mod select;

use kindred_models::events::DAY_SECONDS;
use std::collections::BTreeMap;

use kindred_models::blend::Blend;
use kindred_models::ranker::{Linear, Ranker, RankerFit, Scorer, ScorerKind, Trees};
use kindred_models::stop::Stop;

use crate::config::{RankerParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::fit::sources;
use crate::progress::Progress;
use crate::slice::{Slice, kept_purchases};
pub use examples::Novelty;
pub(crate) use examples::mix;
use examples::{Examples, Horizon};
pub use select::Comparison;
use select::Judgement;

/// Days before a cut without which there is nothing to learn from.
const MIN_HISTORY_DAYS: i64 = 28;

/// Share of what members buy that they buy again, below which it was no habit.
const RETURNING: f64 = 0.005;
/// Weight of purchases in a blend that puts what was bought before last.
const LAST: f32 = -10.0;

/// A ranker, and how its kinds of scorers did.
#[derive(Debug, Default)]
pub struct Ranked {
    /// The ranker.
    pub ranker: Ranker,
    /// nDCG@10 of every kind, by task.
    pub comparisons: Vec<Comparison>,
}

/// What was learned from earlier moments, by cut and task. Models are dropped once they have been asked: a base's
/// worth of memory each.
#[derive(Debug, Default)]
pub struct Lessons {
    by_cut: BTreeMap<(i64, Novelty), Examples>,
}

const NOVELTIES: [Novelty; 2] = [Novelty::Repeat, Novelty::Fresh];

/// Fits a ranker for a model of this slice; lessons that another slice had of the same cuts are used again.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised, [`TrainError::Diverged`] if the embeddings do not settle.
pub fn fit(
    dataset: &Dataset,
    slice: &Slice,
    config: &ValidConfig,
    lessons: &mut Lessons,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Ranked, TrainError> {
    let (params, blend) = (&config.given.ranker, &config.given.feed);
    let cuts = cuts(slice, params);
    let untaught = || {
        let is_last = blend.repeat > 0.0 && nobody_returns(slice);
        let blend = if is_last { Blend { repeat: LAST, ..*blend } } else { *blend };
        Ok(Ranked { ranker: unranked(&blend), comparisons: Vec::new() })
    };
    if cuts.is_empty() {
        return untaught();
    }
    // Those that the history reaches share the rows among them.
    let params = &RankerParams { slices: cuts.len() as u32, ..*params };
    let horizon = |cut: i64| -> Result<Horizon, TrainError> {
        let model = sources(dataset, &slice.until(cut), config, progress, stop)?;
        Ok(Horizon::new(model, slice, cut, params))
    };
    let mut only = None;
    for cut in &cuts {
        if !lessons.by_cut.contains_key(&(*cut, Novelty::Repeat)) {
            let horizon = horizon(*cut)?;
            lessons.learn(*cut, &horizon, params, stop)?;
            progress.part("examples of one moment");
            only = Some(horizon).filter(|_| cuts.len() == 1);
        }
    }
    // A score is a chance only if something taught it: not where nobody of then may be learned from.
    if NOVELTIES.iter().any(|novelty| !lessons.teaches(&cuts, *novelty)) {
        return untaught();
    }
    let mut judgements: [Vec<Judgement>; NOVELTIES.len()] = Default::default();
    for cut in &cuts {
        // Fitted once more, now that the others have taught: one base's worth of memory at a time.
        let horizon = only.take().map_or_else(|| horizon(*cut), Ok)?;
        let others = apart(&cuts, *cut, params);
        for (novelty, judgements) in NOVELTIES.into_iter().zip(&mut judgements) {
            let (taught, seen) = (lessons.of(&others, novelty), lessons.of(&[*cut], novelty));
            judgements.push(select::judge(&horizon, &taught, &seen, novelty, blend, params, stop)?);
        }
        progress.part("scorers at one moment");
    }
    Ok(winners(&cuts, &judgements, lessons, blend, params))
}

/// Fits the kind that won each task to all cuts, the last of which stands first.
fn winners(
    cuts: &[i64],
    judgements: &[Vec<Judgement>; NOVELTIES.len()],
    lessons: &Lessons,
    blend: &Blend,
    params: &RankerParams,
) -> Ranked {
    let mut ranked = Ranked::default();
    ranked.ranker.fit.horizon_days = params.horizon_days;
    for (novelty, judgements) in NOVELTIES.into_iter().zip(judgements) {
        let (comparison, slope) = select::best(novelty, judgements);
        let scorer = scorer(comparison.chosen, &lessons.of(cuts, novelty), blend, params);
        // How sure it may be, from days that it had not seen; how much is bought, from the latest ones.
        let scorer = calibrate::calibrated(scorer, slope, &lessons.of(&cuts[..1], novelty));
        let RankerFit { repeat, fresh, .. } = &mut ranked.ranker.fit;
        match novelty {
            Novelty::Repeat => (ranked.ranker.repeat, *repeat) = (scorer, comparison.chosen),
            Novelty::Fresh => (ranked.ranker.fresh, *fresh) = (scorer, comparison.chosen),
        }
        ranked.comparisons.push(comparison);
    }
    ranked
}

impl Lessons {
    fn learn(&mut self, cut: i64, horizon: &Horizon, params: &RankerParams, stop: &Stop) -> Result<(), TrainError> {
        for novelty in NOVELTIES {
            self.by_cut.insert((cut, novelty), Examples::of(horizon, &horizon.members, novelty, params, stop)?);
        }
        Ok(())
    }

    /// Whether anything was ranked at any of these cuts.
    fn teaches(&self, cuts: &[i64], novelty: Novelty) -> bool {
        cuts.iter().any(|cut| self.by_cut.get(&(*cut, novelty)).is_some_and(|examples| !examples.rows.is_empty()))
    }

    /// The examples of some cuts together.
    fn of(&self, cuts: &[i64], novelty: Novelty) -> Examples {
        let found: Vec<&Examples> = cuts.iter().filter_map(|cut| self.by_cut.get(&(*cut, novelty))).collect();
        Examples::merged(&found)
    }
}

/// Whether next to nothing is bought twice by one member, though there was time for it.
fn nobody_returns(slice: &Slice) -> bool {
    if slice.has_time() && slice.as_of - slice.start() < MIN_HISTORY_DAYS * DAY_SECONDS {
        return false;
    }
    let counts = || slice.pairs().map(|pair| kept_purchases(pair).len());
    let (bought, again) = (counts().filter(|count| *count > 0).count(), counts().filter(|count| *count > 1).count());
    (again as f64) < RETURNING * bought as f64
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
    let first = slice.start();
    let cut = |k: u32| slice.bought_until() - i64::from(params.horizon_days + k * params.step_days) * DAY_SECONDS;
    (0..params.slices).map(cut).take_while(|cut| *cut - first >= MIN_HISTORY_DAYS * DAY_SECONDS).collect()
}

/// The cuts whose horizons share no day with that of `cut`.
fn apart(cuts: &[i64], cut: i64, params: &RankerParams) -> Vec<i64> {
    let horizon = i64::from(params.horizon_days) * DAY_SECONDS;
    cuts.iter().copied().filter(|other| (other - cut).abs() >= horizon).collect()
}

/// Fits a scorer of a kind.
fn scorer(kind: ScorerKind, examples: &Examples, blend: &Blend, params: &RankerParams) -> Scorer {
    match kind {
        ScorerKind::Blend => Scorer::Linear(logistic::scaled(blend, examples)),
        ScorerKind::Logistic => Scorer::Linear(logistic::fit(examples)),
        ScorerKind::Ftrl => Scorer::Linear(ftrl::fit(examples)),
        ScorerKind::Boosting => Scorer::Trees(boosting::fit(examples, params)),
        ScorerKind::Mean => mean(ftrl::fit(examples), boosting::fit(examples, params)),
    }
}

fn mean(linear: Linear, trees: Trees) -> Scorer {
    // One bias, as a version keeps it: scores stay the same to the bit.
    let linear = Linear { bias: linear.bias + trees.bias, ..linear };
    Scorer::Sum(linear, Trees { bias: 0.0, ..trees }).rescaled(0.5, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Event, Kind};

    const EVENT: Event = Event { member: 0, product: 0, time: 0, kind: Kind::Purchase, store: 0, channel: 0, price: 0 };

    #[test]
    fn what_is_never_bought_again_is_no_habit() {
        let bought = |member, product, time| Event { member, product, time, ..EVENT };
        let once: Vec<Event> = (0..1000).map(|i| bought(i / 10, i % 10, 7)).collect();
        let mut twice: Vec<Event> = once.iter().chain(&once[..6]).copied().collect();
        twice.sort_unstable();
        assert!(nobody_returns(&Slice::of(once.clone(), false)) && !nobody_returns(&Slice::of(twice, false)));
        let within = |days: i64| {
            let event = |e: &Event| Event { time: i64::from(e.product) * days * DAY_SECONDS / 9, ..*e };
            nobody_returns(&Slice::of(once.iter().map(event).collect(), true))
        };
        assert!(!within(20) && within(40), "who came yesterday may yet return");
    }

    #[test]
    fn days_of_which_only_messages_are_known_teach_nothing() {
        let at = |day: i64, kind| Event { time: day * DAY_SECONDS, kind, ..EVENT };
        let slice = Slice::of(vec![at(0, Kind::Purchase), at(100, Kind::Purchase), at(120, Kind::Contact)], true);
        let params = RankerParams { slices: 1, horizon_days: 28, ..RankerParams::default() };
        assert_eq!(cuts(&slice, &params), [72 * DAY_SECONDS]);
        assert_eq!(cuts(&slice.until(90 * DAY_SECONDS), &params), [62 * DAY_SECONDS]);
    }

    #[test]
    fn no_cut_is_judged_by_who_saw_its_days() {
        let cuts: Vec<i64> = [56, 42, 28, 0].map(|day| day * 86_400).to_vec();
        let params = RankerParams { horizon_days: 28, step_days: 14, ..RankerParams::default() };
        assert_eq!(apart(&cuts, cuts[0], &params), cuts[2..]);
        assert_eq!(apart(&cuts, cuts[1], &params), cuts[3..]);
        assert!(apart(&cuts[..1], cuts[0], &params).is_empty());
    }

    #[test]
    fn moments_at_which_nothing_was_ranked_teach_nothing() {
        let mut lessons = Lessons::default();
        assert!(!lessons.teaches(&[1], Novelty::Fresh));
        let mut ranked = Examples::default();
        ranked.push([0.0; kindred_models::feed::FEATURES.len()], false, 0.0);
        lessons.by_cut.insert((1, Novelty::Repeat), Examples::default());
        lessons.by_cut.insert((1, Novelty::Fresh), ranked);
        assert!(lessons.teaches(&[2, 1], Novelty::Fresh) && !lessons.teaches(&[2, 1], Novelty::Repeat));
    }
}
