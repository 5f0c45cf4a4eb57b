//! Picks the kind of scorer that ranks best where it was not fitted.

use std::collections::BTreeMap;

use kindred_models::blend::Blend;
use kindred_models::ranker::{Scorer, ScorerKind};
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::examples::{Examples, Horizon, Member, Task};
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

/// Fits every kind to the examples of earlier cuts, and judges it on the last one. Where that is the only one, one
/// half of its members judges what the other half taught.
pub(super) fn best(
    horizon: &Horizon,
    earlier: &Examples,
    task: Task,
    blend: &Blend,
    params: &RankerParams,
    stop: &Stop,
) -> Result<Comparison, TrainError> {
    let kinds = [ScorerKind::Blend, ScorerKind::Logistic, ScorerKind::Boosting];
    let fit = |examples: &Examples| kinds.map(|kind| scorer(kind, examples, blend, params));
    let values = if earlier.rows.is_empty() {
        let (judges, teachers) = horizon.members.split_at(horizon.members.len() / 2);
        let scorers = fit(&Examples::of(horizon, teachers, task, params, stop)?);
        judge(horizon, judges, task, &scorers, stop)?
    } else {
        judge(horizon, &horizon.members, task, &fit(earlier), stop)?
    };
    let ndcg_at_10: BTreeMap<ScorerKind, f64> = kinds.into_iter().zip(values).collect();
    // Of two alike, the simpler one, which stands first.
    let best =
        ndcg_at_10.iter().fold(
            (ScorerKind::Blend, f64::MIN),
            |best, (kind, value)| {
                if *value > best.1 { (*kind, *value) } else { best }
            },
        );
    Ok(Comparison { task: task.name().to_owned(), chosen: best.0, ndcg_at_10 })
}

/// nDCG@10 of each scorer, averaged over the members who bought anything of the task's sort.
fn judge(
    horizon: &Horizon,
    members: &[Member],
    task: Task,
    scorers: &[Scorer],
    stop: &Stop,
) -> Result<Vec<f64>, TrainError> {
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let per_member: Vec<Option<Vec<f64>>> = members[..members.len().min(MAX_MEMBERS)]
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
