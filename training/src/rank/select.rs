//! Picks the kind of scorer that ranks best where it was not fitted.

use std::collections::BTreeMap;

use kindred_models::blend::Blend;
use kindred_models::ranker::{Scorer, ScorerKind};
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::examples::{Examples, Horizon, Task};
use super::scorer;
use crate::config::RankerParams;
use crate::error::TrainError;

/// Members that the kinds are compared on, at most.
const MAX_MEMBERS: usize = 6000;
/// Items of a ranking that count.
const DEPTH: usize = 10;

/// How the kinds of scorers did on the last cut, fitted to the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// `repeat` or `new`.
    pub task: String,
    /// Kind that was chosen.
    pub chosen: ScorerKind,
    /// nDCG@10 over the task's own candidates, by kind.
    pub ndcg_at_10: BTreeMap<ScorerKind, f64>,
}

/// The best kind for a task. With a single cut, one half of the members judges what the other half taught.
pub(super) fn best(
    horizons: &[Horizon],
    task: Task,
    blend: &Blend,
    params: &RankerParams,
    stop: &Stop,
) -> Result<(ScorerKind, Comparison), TrainError> {
    let halves;
    let (judges, teachers): (&Horizon, Vec<&Horizon>) = match horizons {
        [only] => {
            halves = half(only);
            (&halves.0, vec![&halves.1])
        }
        [last, earlier @ ..] => (last, earlier.iter().collect()),
        [] => return Ok(Default::default()),
    };
    let examples = Examples::of(teachers.into_iter(), task, params, stop)?;
    let mut comparison = Comparison { task: task.name().to_owned(), ..Comparison::default() };
    let kinds = [ScorerKind::Blend, ScorerKind::Logistic, ScorerKind::Boosting];
    let scorers: Vec<Scorer> = kinds.iter().map(|kind| scorer(*kind, &examples, blend, params)).collect();
    let values = judge(judges, task, &scorers, stop)?;
    comparison.ndcg_at_10 = kinds.into_iter().zip(values).collect();
    // Of two alike, the simpler one, which stands first.
    let best = comparison.ndcg_at_10.iter().fold((ScorerKind::Blend, f64::MIN), |best, (kind, value)| {
        if *value > best.1 { (*kind, *value) } else { best }
    });
    comparison.chosen = best.0;
    Ok((best.0, comparison))
}

fn half(horizon: &Horizon) -> (Horizon, Horizon) {
    let (a, b) = horizon.members.split_at(horizon.members.len() / 2);
    let part = |members: &[_]| Horizon { model: horizon.model.clone(), members: members.to_vec() };
    (part(a), part(b))
}

/// nDCG@10 of each scorer, averaged over the members who bought anything of the task's sort.
fn judge(horizon: &Horizon, task: Task, scorers: &[Scorer], stop: &Stop) -> Result<Vec<f64>, TrainError> {
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let per_member: Vec<Option<Vec<f64>>> = horizon.members[..horizon.members.len().min(MAX_MEMBERS)]
        .par_iter()
        .map(|member| {
            stop.check()?;
            let before = |product: u32| horizon.model.history.pair(member.0, product).is_some_and(|p| p.count > 0);
            let truths = member.1.iter().filter(|p| before(**p) == (task == Task::Repeat)).count();
            if truths == 0 {
                return Ok(None);
            }
            let ideal: f64 = (0..truths.min(DEPTH)).map(gain).sum();
            Ok(Some(horizon.candidates(member, task, |products, signals| {
                let rows = signals.features(products, |_| true);
                let ndcg = |scorer: &Scorer| {
                    let mut ranked: Vec<(f32, u32)> =
                        scorer.log_odds(&rows).into_iter().zip(products.iter().copied()).collect();
                    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    let hits = ranked.iter().take(DEPTH).enumerate().filter(|(_, r)| member.1.contains(&r.1));
                    hits.map(|(rank, _)| gain(rank)).sum::<f64>() / ideal
                };
                scorers.iter().map(ndcg).collect()
            })))
        })
        .collect::<Result<_, TrainError>>()?;
    let judged: Vec<Vec<f64>> = per_member.into_iter().flatten().collect();
    let mean = |k: usize| judged.iter().map(|values| values[k]).sum::<f64>() / judged.len().max(1) as f64;
    Ok((0..scorers.len()).map(mean).collect())
}
