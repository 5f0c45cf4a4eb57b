//! Picks the kind of scorer that ranks best where it was not fitted.

use std::collections::BTreeMap;

use kindred_models::blend::Blend;
use kindred_models::ranker::{Scorer, ScorerKind};
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibrate;
use super::examples::{Examples, Horizon, Member, Task};
use super::scorer;
use crate::config::RankerParams;
use crate::error::TrainError;

/// Members that the kinds are compared on, at most.
const MAX_MEMBERS: usize = 6000;
/// The kinds, the simplest first.
const KINDS: [ScorerKind; 4] = [ScorerKind::Blend, ScorerKind::Logistic, ScorerKind::Ftrl, ScorerKind::Boosting];
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

impl Comparison {
    /// Values by name: `scorer.new.boosting.ndcg@10`, ….
    pub fn metrics(&self) -> impl Iterator<Item = (String, f64)> {
        self.ndcg_at_10.iter().map(|(kind, value)| (format!("scorer.{}.{kind}.ndcg@10", self.task), *value))
    }
}

/// A kind of scorer, and how sure it may be.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) comparison: Comparison,
    /// What its log odds are to be multiplied by; see [`calibrate::slope`].
    pub(super) slope: f64,
}

/// Fits every kind to the examples of earlier cuts, and judges it on the last one, whose examples are `latest`.
/// Where that is the only one, one half of its members judges what the other half taught.
pub(super) fn best(
    horizon: &Horizon,
    earlier: &Examples,
    latest: &Examples,
    task: Task,
    blend: &Blend,
    params: &RankerParams,
    stop: &Stop,
) -> Result<Choice, TrainError> {
    let (judges, teachers) = horizon.members.split_at(horizon.members.len() / 2);
    let is_only = earlier.rows.is_empty();
    let half = |members| Examples::of(horizon, members, task, params, stop);
    let (lesson, test) = if is_only { (&half(teachers)?, &half(judges)?) } else { (earlier, latest) };
    let judges = if is_only { judges } else { &horizon.members };
    let scorers = KINDS.map(|kind| scorer(kind, lesson, blend, params));
    let values = judge(horizon, judges, task, &scorers, stop)?;
    // Of two alike, the simpler one, which stands first.
    let best = (0..KINDS.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0);
    let ndcg_at_10: BTreeMap<ScorerKind, f64> = KINDS.into_iter().zip(values).collect();
    Ok(Choice {
        comparison: Comparison { task: task.name().to_owned(), chosen: KINDS[best], ndcg_at_10 },
        slope: calibrate::slope(&scorers[best], test),
    })
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
