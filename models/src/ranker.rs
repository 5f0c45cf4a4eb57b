//! The ranker: one probability for every candidate, whatever source it came from.
//!
//! What a member bought before and what is new to them follow different laws, so each has a scorer of its
//! own; both give the chance of a purchase within the same horizon, so that their candidates can be merged.

mod trees;

use serde::{Deserialize, Serialize};

pub use trees::{TREE_DEPTH, Trees};

use crate::artifact::{Array, ArtifactError, Reader, Section, SectionWriter, Writer};
use crate::feed::{FEATURES, Features};
use crate::kernels::dispatched;

/// Features that are weighed side by side.
const LANES: usize = 8;
/// Features that versions had before these were named: the first ones, for ever.
const UNNAMED: usize = 45;

/// Both scorers.
#[derive(Clone, Debug, Default)]
pub struct Ranker {
    /// Of what the member bought before.
    pub repeat: Scorer,
    /// Of what is new to the member.
    pub fresh: Scorer,
    /// Where they come from.
    pub fit: RankerFit,
}

/// How a [`Ranker`] was fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankerFit {
    /// Days within which a purchase counts; 0 for scores that are no probabilities.
    pub horizon_days: u32,
    /// Kind of the scorer of what was bought before.
    pub repeat: ScorerKind,
    /// Kind of the scorer of what is new.
    pub fresh: ScorerKind,
    /// Whether it learned of members who never bought anything; not in versions of formats up to 16, for which these are as
    /// those who bought today.
    #[serde(default)]
    pub knows_lookers: bool,
}

impl Default for RankerFit {
    fn default() -> Self {
        Self { horizon_days: 0, repeat: ScorerKind::default(), fresh: ScorerKind::default(), knows_lookers: true }
    }
}

/// The small values of the section.
#[derive(Serialize, Deserialize)]
struct Values {
    fit: RankerFit,
    /// Names of the inputs, in the order that weights and trees number them.
    features: Vec<String>,
}

/// What a scorer is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScorerKind {
    /// A fixed sum of a few features, scaled to a probability.
    #[default]
    Blend,
    /// Logistic regression on all features.
    Logistic,
    /// The same, learned row by row.
    Ftrl,
    /// Gradient boosted trees.
    Boosting,
    /// The mean of [`Ftrl`](Self::Ftrl) and [`Boosting`](Self::Boosting), which err in different ways.
    Mean,
}

impl std::fmt::Display for ScorerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blend => "blend",
            Self::Logistic => "logistic",
            Self::Ftrl => "ftrl",
            Self::Boosting => "boosting",
            Self::Mean => "mean",
        })
    }
}

/// Gives the log odds of a purchase.
#[derive(Clone, Debug)]
pub enum Scorer {
    /// `bias + Σ weight · feature`.
    Linear(Linear),
    /// A sum of trees.
    Trees(Trees),
    /// The sum of both.
    Sum(Linear, Trees),
}

impl Default for Scorer {
    fn default() -> Self {
        Self::Linear(Linear::default())
    }
}

/// A weighted sum of the features.
#[derive(Clone, Debug, Default)]
pub struct Linear {
    /// One weight per feature.
    pub weights: Array<f32>,
    /// Log odds where all features are 0.
    pub bias: f32,
}

impl Scorer {
    /// Log odds of every row.
    pub fn log_odds(&self, rows: &[Features]) -> Vec<f32> {
        match self {
            Self::Linear(linear) => linear.log_odds(rows),
            Self::Trees(trees) => trees.added_to(vec![0.0; rows.len()], rows),
            Self::Sum(linear, trees) => trees.added_to(linear.log_odds(rows), rows),
        }
    }

    /// The same with all log odds multiplied by `slope`, and `shift` added.
    pub fn rescaled(self, slope: f32, shift: f32) -> Self {
        match self {
            Self::Linear(linear) => Self::Linear(linear.rescaled(slope, shift)),
            Self::Trees(trees) => Self::Trees(trees.rescaled(slope, shift)),
            Self::Sum(linear, trees) => Self::Sum(linear.rescaled(slope, shift), trees.rescaled(slope, 0.0)),
        }
    }

    fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        let (no_weights, no_trees) = (Linear::default(), Trees::default());
        let (linear, trees) = match self {
            Self::Linear(linear) => (linear, &no_trees),
            Self::Trees(trees) => (&no_weights, trees),
            Self::Sum(linear, trees) => (linear, trees),
        };
        to.array(&format!("{name}.bias"), &[linear.bias + trees.bias])?;
        to.array(&format!("{name}.weights"), &linear.weights)?;
        to.array(&format!("{name}.tree_features"), &trees.features)?;
        to.array(&format!("{name}.tree_thresholds"), &trees.thresholds)?;
        to.array(&format!("{name}.tree_leaves"), &trees.leaves)
    }

    /// Reads a scorer whose k-th input is now at the k-th of `places`.
    fn read(name: &str, kind: ScorerKind, places: &[usize], from: &Section<'_>) -> Result<Self, ArtifactError> {
        let bias: Array<f32> = from.array(&format!("{name}.bias"))?;
        let weights: Array<f32> = from.array(&format!("{name}.weights"))?;
        let asked: Array<u32> = from.array(&format!("{name}.tree_features"))?;
        // One that is not there is no feature, which is found out below.
        let moved = |feature: &u32| places.get(*feature as usize).map_or(u32::MAX, |place| *place as u32);
        let trees = Trees {
            bias: bias.first().copied().unwrap_or_default(),
            features: asked.iter().map(moved).collect::<Vec<_>>().into(),
            thresholds: from.array(&format!("{name}.tree_thresholds"))?,
            leaves: from.array(&format!("{name}.tree_leaves"))?,
        };
        let whole = trees.is_whole() && [0, places.len()].contains(&weights.len());
        from.ensure(whole, "the ranker's trees or weights are not whole")?;
        let mut all = vec![0.0; if weights.is_empty() { 0 } else { FEATURES.len() }];
        places.iter().zip(weights.iter()).for_each(|(place, weight)| all[*place] = *weight);
        let linear = Linear { weights: all.into(), bias: trees.bias };
        Ok(match kind {
            ScorerKind::Boosting => Self::Trees(trees),
            ScorerKind::Blend | ScorerKind::Logistic | ScorerKind::Ftrl => Self::Linear(linear),
            ScorerKind::Mean => Self::Sum(linear, Trees { bias: 0.0, ..trees }),
        })
    }
}

impl Linear {
    fn log_odds(&self, rows: &[Features]) -> Vec<f32> {
        let mut scores = vec![self.bias; rows.len()];
        // One that was never fitted has none.
        if let Some(weights) = self.weights.first_chunk() {
            add_weighted(rows, weights, &mut scores);
        }
        scores
    }

    fn rescaled(self, slope: f32, shift: f32) -> Self {
        Self { weights: scaled(&self.weights, slope), bias: slope * self.bias + shift }
    }
}

dispatched! {
    fn add_weighted(rows: &[Features], weights: &Features, scores: &mut [f32]) {
        let (weights, rest) = weights.as_chunks::<LANES>();
        for (row, score) in rows.iter().zip(scores) {
            let (row, of_rest) = row.as_chunks::<LANES>();
            let mut sums = [0f32; LANES];
            for (x, w) in row.iter().zip(weights) {
                (0..LANES).for_each(|lane| sums[lane] += x[lane] * w[lane]);
            }
            of_rest.iter().zip(rest).zip(&mut sums).for_each(|((x, w), sum)| *sum += x * w);
            *score += sums.iter().sum::<f32>();
        }
    }
}

impl Trees {
    fn added_to(&self, mut scores: Vec<f32>, rows: &[Features]) -> Vec<f32> {
        scores.iter_mut().for_each(|score| *score += self.bias);
        self.add(rows, &mut scores);
        scores
    }

    fn rescaled(self, slope: f32, shift: f32) -> Self {
        Self { leaves: scaled(&self.leaves, slope), bias: slope * self.bias + shift, ..self }
    }
}

fn scaled(values: &[f32], slope: f32) -> Array<f32> {
    values.iter().map(|x| slope * x).collect::<Vec<f32>>().into()
}

/// From log odds to a probability.
pub fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

impl Ranker {
    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        let features = FEATURES.iter().map(|feature| feature.name().to_owned()).collect();
        to.section("ranker", &Values { fit: self.fit, features }, |s| {
            self.repeat.write("repeat", s)?;
            self.fresh.write("fresh", s)
        })
    }

    pub(crate) fn read(from: &Reader) -> Result<Self, ArtifactError> {
        let s = from.section("ranker")?;
        let Values { fit, features } = if from.manifest().format_version < 3 {
            // It did not name its features: the first ones of today's.
            let features = FEATURES[..UNNAMED].iter().map(|feature| feature.name().to_owned()).collect();
            Values { fit: s.values()?, features }
        } else {
            s.values()?
        };
        let place = |name: &String| FEATURES.iter().position(|feature| feature.name() == name.as_str());
        let places: Option<Vec<usize>> = features.iter().map(place).collect();
        s.ensure(places.is_some(), "the ranker was learned on features that this kindred does not make; train again")?;
        let places = places.unwrap_or_default();
        let (repeat, fresh) =
            (Scorer::read("repeat", fit.repeat, &places, &s)?, Scorer::read("fresh", fit.fresh, &places, &s)?);
        Ok(Self { repeat, fresh, fit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::{Check, fixture};

    #[test]
    fn linear_scores_worked_by_hand() {
        let mut weights = vec![0.0; FEATURES.len()];
        (weights[0], weights[1]) = (2.0, -1.0);
        let linear = Linear { weights: weights.into(), bias: 1.0 };
        let mut row = [0.0; FEATURES.len()];
        (row[0], row[1]) = (3.0, 4.0);
        assert_eq!(Scorer::Linear(linear.clone()).log_odds(&[row]), [3.0]);
        let trees = Trees { bias: 0.5, ..Trees::default() };
        assert_eq!(Scorer::Sum(linear.clone(), trees).rescaled(2.0, 1.0).log_odds(&[row]), [8.0]);
        assert_eq!(probability(0.0), 0.5);
    }

    #[test]
    fn every_feature_counts_by_its_own_weight() {
        let weights: Features = std::array::from_fn(|k| (k + 1) as f32);
        let rows: [Features; FEATURES.len()] =
            std::array::from_fn(|at| std::array::from_fn(|k| if k == at { 2.0 } else { 0.0 }));
        let linear = Linear { weights: weights.to_vec().into(), bias: 0.5 };
        for scores in crate::kernels::widest::each(|| linear.log_odds(&rows)) {
            assert!(scores.iter().zip(weights).all(|(score, weight)| *score == 0.5 + 2.0 * weight));
        }
        assert_eq!(Linear { bias: 0.5, ..Linear::default() }.log_odds(&rows[..1]), [0.5]);
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let linear = Linear { weights: vec![0.5; FEATURES.len()].into(), bias: 1.0 };
        let mut trees = Trees { bias: -2.0, features: vec![1; 15].into(), ..Trees::default() };
        (trees.thresholds, trees.leaves) = (vec![0.1; 15].into(), (0..16).map(|k| k as f32).collect::<Vec<_>>().into());
        let row = std::array::from_fn(|k| k as f32 / 8.0);
        for (kind, scorer) in [
            (ScorerKind::Ftrl, Scorer::Linear(linear.clone())),
            (ScorerKind::Boosting, Scorer::Trees(trees.clone())),
            (ScorerKind::Mean, Scorer::Sum(linear, trees)),
        ] {
            let fit = RankerFit { horizon_days: 7, repeat: kind, fresh: kind, ..RankerFit::default() };
            let ranker = Ranker { repeat: scorer.clone(), fresh: scorer, fit };
            let (_root, registry, id) = fixture::published(|to| ranker.write(to).unwrap());
            let found = Ranker::read(&registry.open(&id, Check::All).unwrap()).unwrap();
            assert_eq!(found.fit, fit);
            assert_eq!(found.fresh.log_odds(&[row]), ranker.fresh.log_odds(&[row]), "{kind}");
        }
    }
}
