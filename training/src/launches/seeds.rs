//! What seeds are worth: some of a past launch's buyers known, the others looked for.

use std::collections::{BTreeMap, BTreeSet};

use kindred_models::launch::{SeedWeights, Signals};

use super::logit::{self, Choice};
use super::replay::{Past, Seeded};

/// Penalty on a weight's squared size, per standard deviation: few launches have many buyers.
const PENALTY: f64 = 20.0;

/// A past launch some of whose buyers are known.
#[derive(Clone, Debug)]
pub(super) struct Revealed<'a> {
    /// The moment that it was replayed at.
    cut: i64,
    /// Signals of the others, buyers first.
    rows: &'a [SeedWeights],
    /// Their scores without any seeds.
    offsets: Vec<f32>,
    /// How many of the rows are buyers.
    bought: usize,
    /// How many members one that did not buy stands for.
    weight: f32,
}

impl<'a> Revealed<'a> {
    /// A launch with so many seeds beside the `weights` of launches; `None` where it had too few buyers.
    pub(super) fn new(cut: i64, launch: &'a Past, seeds: usize, weights: &Signals) -> Option<Self> {
        let Seeded { places, rows, bought, .. } = launch.seeded.iter().find(|seeded| seeded.seeds == seeds)?;
        let scores = launch.scored(weights).scores;
        let offsets = places.iter().map(|place| scores[*place]).collect();
        Some(Self { cut, rows, offsets, bought: *bought, weight: launch.weight })
    }

    fn choice<'b, const W: usize>(&'b self, rows: &'b [[f32; W]]) -> Choice<'b, W> {
        Choice { rows, offsets: &self.offsets, bought: self.bought, weight: self.weight }
    }

    /// What the seeds add to each score.
    fn added(&self, weights: &SeedWeights) -> Vec<[f32; 1]> {
        self.rows.iter().map(|row| [row.iter().zip(weights).map(|(x, w)| x * w).sum()]).collect()
    }
}

/// Weights of the signals of seeds, as far as what was learned from some launches helped others: from not at all to in
/// full. Where buyers have nothing in common that the launch model does not know, seeds must not make it worse.
pub(super) fn fit(launches: &[Revealed<'_>]) -> SeedWeights {
    // Helped are those of another moment, or, where there is but one, every other launch.
    let one_moment = launches.iter().all(|launch| launch.cut == launches[0].cut);
    let folds: Vec<i64> =
        (0i64..).zip(launches).map(|(place, launch)| if one_moment { place % 2 } else { launch.cut }).collect();
    let without = |fold: i64| learn(launches.iter().zip(&folds).filter(|(_, f)| **f != fold).map(|(launch, _)| launch));
    let distinct: BTreeSet<i64> = folds.iter().copied().collect();
    let others: BTreeMap<i64, SeedWeights> = distinct.into_iter().map(|fold| (fold, without(fold))).collect();
    let added: Vec<_> = launches.iter().zip(&folds).map(|(launch, fold)| launch.added(&others[fold])).collect();
    let choices: Vec<_> = launches.iter().zip(&added).map(|(launch, rows)| launch.choice(rows)).collect();
    let [slope] = logit::fit(&choices, &logit::deviations(&choices), &[0.0], PENALTY, None);
    learn(launches).map(|weight| weight * slope.clamp(0.0, 1.0))
}

fn learn<'a>(launches: impl IntoIterator<Item = &'a Revealed<'a>>) -> SeedWeights {
    let choices: Vec<_> = launches.into_iter().map(|launch| launch.choice(launch.rows)).collect();
    let none = SeedWeights::default();
    logit::fit(&choices, &none.map(|_| 1.0), &none, PENALTY, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::mix;

    const BOUGHT: usize = 5;

    /// A launch's signals: noise, of buyers `shift` more.
    fn rows(launch: u64, shift: f32) -> Vec<SeedWeights> {
        let noise = |place: u64| (mix(launch * 1000 + place) % 2001) as f32 / 1000.0 - 1.0;
        let more = |place: u64| if place < BOUGHT as u64 { shift } else { 0.0 };
        (0..200).map(|place| [0.0, noise(place) + more(place), 0.0]).collect()
    }

    /// What is learned of launches, by their moment.
    fn learned(launches: &[Vec<SeedWeights>], moment: impl Fn(usize) -> i64) -> SeedWeights {
        let revealed = launches.iter().enumerate().map(|(place, rows)| Revealed {
            cut: moment(place),
            rows,
            offsets: vec![0.0; rows.len()],
            bought: BOUGHT,
            weight: 10.0,
        });
        fit(&revealed.collect::<Vec<_>>())
    }

    #[test]
    fn what_helps_launches_that_were_not_learned_from_counts() {
        let launches: Vec<_> = (0..100).map(|launch| rows(launch, 0.3)).collect();
        let weights = learned(&launches, |place| place as i64 % 2);
        // Of normals, the log odds would be the shift over the variance: 0.9.
        assert!((0.7..1.1).contains(&weights[1]) && weights[0] == 0.0, "{weights:?}");
    }

    #[test]
    fn what_only_some_launches_have_counts_nothing() {
        let shift = |launch: u64| if launch.is_multiple_of(2) { 0.3 } else { -0.2 };
        let launches: Vec<_> = (0..100).map(|launch| rows(launch, shift(launch))).collect();
        assert_eq!(learned(&launches, |place| place as i64 % 2), [0.0; 3], "those of one moment");
        assert_eq!(learned(&launches, |_| 0), [0.0; 3], "every other one of a single moment");
        let all_of_a_kind: Vec<_> = launches.iter().step_by(2).cloned().collect();
        assert!(learned(&all_of_a_kind, |_| 0)[1] > 0.5);
    }
}
