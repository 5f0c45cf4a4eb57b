//! Picks the kind of scorer that ranks best where it was not fitted.

use std::collections::BTreeMap;

use kindred_models::blend::Blend;
use kindred_models::ranker::{Scorer, ScorerKind};
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::calibrate;
use super::examples::{Examples, Horizon, Member, Novelty};
use super::{boosting, ftrl, mean, scorer};
use crate::config::RankerParams;
use crate::error::TrainError;

/// Members per cut that the kinds are compared on, at most.
const MAX_MEMBERS: usize = 6000;
/// The kinds, the simplest first.
const KINDS: [ScorerKind; 5] =
    [ScorerKind::Blend, ScorerKind::Logistic, ScorerKind::Ftrl, ScorerKind::Boosting, ScorerKind::Mean];
/// Items of a ranking that count.
const DEPTH: usize = 10;

/// How the kinds of scorers did, averaged over the cuts, at each of them fitted to the others.
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

/// How the kinds did at one cut, in the order of [`KINDS`].
#[derive(Debug)]
pub(super) struct Judgement {
    ndcg_at_10: [f64; KINDS.len()],
    /// What their log odds are to be multiplied by; see [`calibrate::slope`].
    slopes: [f64; KINDS.len()],
}

/// Judges every kind at a cut: fitted to the examples of the others, `taught`, and not to its own, `seen`. Where no
/// other is far enough away, one half of its members judges what the other half taught.
pub(super) fn judge(
    horizon: &Horizon,
    taught: &Examples,
    seen: &Examples,
    novelty: Novelty,
    blend: &Blend,
    params: &RankerParams,
    stop: &Stop,
) -> Result<Judgement, TrainError> {
    let (judges, teachers) = horizon.members.split_at(horizon.members.len() / 2);
    let is_only = taught.rows.is_empty();
    let half = |members| Examples::of(horizon, members, novelty, params, stop);
    let (lesson, test) = if is_only { (&half(teachers)?, &half(judges)?) } else { (taught, seen) };
    let judges = if is_only { judges } else { &horizon.members };
    let scorers = scorers(lesson, blend, params);
    let slopes = std::array::from_fn(|k| calibrate::slope(&scorers[k], test));
    Ok(Judgement { ndcg_at_10: ndcg(horizon, judges, novelty, &scorers, stop)?, slopes })
}

/// One of each of [`KINDS`].
fn scorers(examples: &Examples, blend: &Blend, params: &RankerParams) -> [Scorer; KINDS.len()] {
    let (linear, trees) = (ftrl::fit(examples), boosting::fit(examples, params));
    KINDS.map(|kind| match kind {
        ScorerKind::Ftrl => Scorer::Linear(linear.clone()),
        ScorerKind::Boosting => Scorer::Trees(trees.clone()),
        ScorerKind::Mean => mean(linear.clone(), trees.clone()),
        ScorerKind::Blend | ScorerKind::Logistic => scorer(kind, examples, blend, params),
    })
}

/// The kind that did best on average, with its slope at the latest cut, which stands first.
pub(super) fn best(novelty: Novelty, judgements: &[Judgement]) -> (Comparison, f64) {
    let mean = |k: usize| judgements.iter().map(|j| j.ndcg_at_10[k]).sum::<f64>() / judgements.len().max(1) as f64;
    // Of two alike, the simpler one, which stands first.
    let best = (0..KINDS.len()).rev().max_by(|a, b| mean(*a).total_cmp(&mean(*b))).unwrap_or(0);
    let ndcg_at_10 = KINDS.into_iter().enumerate().map(|(k, kind)| (kind, mean(k))).collect();
    let comparison = Comparison { task: novelty.name().to_owned(), chosen: KINDS[best], ndcg_at_10 };
    (comparison, judgements.first().map_or(1.0, |latest| latest.slopes[best]))
}

/// nDCG@10 of each scorer, averaged over the members who bought anything of the task's sort.
fn ndcg(
    horizon: &Horizon,
    members: &[Member],
    novelty: Novelty,
    scorers: &[Scorer; KINDS.len()],
    stop: &Stop,
) -> Result<[f64; KINDS.len()], TrainError> {
    let gain = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let truths = |member: &Member| {
        let before = |product: u32| horizon.model.history.pair(member.0, product).is_some_and(|p| p.count > 0);
        member.1.iter().filter(|p| before(**p) == (novelty == Novelty::Repeat)).count()
    };
    let judges = members.iter().map(|member| (member, truths(member))).filter(|(_, truths)| *truths > 0);
    let judges: Vec<(&Member, usize)> = judges.take(MAX_MEMBERS).collect();
    let per_member: Vec<Vec<f64>> = judges
        .par_iter()
        .map(|(member, truths)| {
            stop.check()?;
            let ideal: f64 = (0..DEPTH.min(*truths)).map(gain).sum();
            Ok(horizon.candidates(member, novelty, |products, signals| {
                let rows = signals.features(products, |_| true);
                let of_scorer = |scorer: &Scorer| {
                    let mut ranked: Vec<(f32, u32)> =
                        scorer.log_odds(&rows).into_iter().zip(products.iter().copied()).collect();
                    ranked.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    let hits = ranked.iter().take(DEPTH).enumerate().filter(|(_, r)| member.1.contains(&r.1));
                    hits.map(|(rank, _)| gain(rank)).sum::<f64>() / ideal
                };
                scorers.iter().map(of_scorer).collect()
            }))
        })
        .collect::<Result<_, TrainError>>()?;
    let mean = |k: usize| per_member.iter().map(|values| values[k]).sum::<f64>() / judges.len().max(1) as f64;
    Ok(std::array::from_fn(mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_season_does_not_decide() {
        let at = |ndcg_at_10, slope| Judgement { ndcg_at_10, slopes: [slope; 5] };
        // The blend wins the latest cut by a little, the trees the one before by much.
        let (comparison, slope) =
            best(Novelty::Fresh, &[at([0.30, 0.28, 0.28, 0.29, 0.28], 0.9), at([0.40, 0.45, 0.44, 0.60, 0.59], 1.1)]);
        assert_eq!(comparison.chosen, ScorerKind::Boosting);
        assert!((comparison.ndcg_at_10[&ScorerKind::Boosting] - 0.445).abs() < 1e-9);
        assert_eq!(slope, 0.9, "of the latest cut");
        let (alike, _) = best(Novelty::Repeat, &[at([0.5; 5], 1.0)]);
        assert_eq!(alike.chosen, ScorerKind::Blend, "of two alike, the simpler one");
    }
}
