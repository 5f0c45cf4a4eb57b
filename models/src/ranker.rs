//! The ranker: one probability for every candidate, whatever source it came from.
//!
//! What a member bought before and what is new to them follow different laws, so each has a scorer of its
//! own; both give the chance of a purchase within the same horizon, so that their candidates can be merged.

use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Section, SectionWriter, Writer};
use crate::feed::{FEATURES, Feature, Features};

/// Levels of a tree.
pub const TREE_DEPTH: usize = 4;
const SPLITS: usize = (1 << TREE_DEPTH) - 1;
const LEAVES: usize = 1 << TREE_DEPTH;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankerFit {
    /// Days within which a purchase counts; 0 for scores that are no probabilities.
    pub horizon_days: u32,
    /// Kind of the scorer of what was bought before.
    pub repeat: ScorerKind,
    /// Kind of the scorer of what is new.
    pub fresh: ScorerKind,
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
    /// Gradient boosted trees.
    Boosting,
}

impl std::fmt::Display for ScorerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blend => "blend",
            Self::Logistic => "logistic",
            Self::Boosting => "boosting",
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

/// Binary trees of [`TREE_DEPTH`] levels, stored level by level, without pointers: a shallower tree repeats
/// its leaves.
#[derive(Clone, Debug, Default)]
pub struct Trees {
    /// Log odds that the trees add to.
    pub bias: f32,
    /// Per tree and inner node, the feature that is asked for.
    pub features: Array<u32>,
    /// Per tree and inner node: below goes left, from here on right.
    pub thresholds: Array<f32>,
    /// Per tree, its leaves from left to right.
    pub leaves: Array<f32>,
}

impl Trees {
    /// Number of trees.
    pub fn len(&self) -> usize {
        self.leaves.len() / LEAVES
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Adds all trees to the scores of the rows. Tree by tree, so that a tree stays in registers and cache,
    /// and without a branch, so that the walks of neighbouring rows overlap.
    fn add(&self, rows: &[Features], scores: &mut [f32]) {
        let trees = self.features.chunks_exact(SPLITS).zip(self.thresholds.chunks_exact(SPLITS));
        for ((features, thresholds), leaves) in trees.zip(self.leaves.chunks_exact(LEAVES)) {
            for (row, score) in rows.iter().zip(scores.iter_mut()) {
                let mut node = 0;
                for _ in 0..TREE_DEPTH {
                    let right = row[features[node] as usize] >= thresholds[node];
                    node = 2 * node + 1 + usize::from(right);
                }
                *score += leaves[node - SPLITS];
            }
        }
    }
}

impl Scorer {
    /// Log odds of every row.
    pub fn log_odds(&self, rows: &[Features]) -> Vec<f32> {
        match self {
            Self::Linear(linear) => rows
                .iter()
                .map(|row| linear.bias + row.iter().zip(linear.weights.iter()).map(|(x, w)| x * w).sum::<f32>())
                .collect(),
            Self::Trees(trees) => {
                let mut scores = vec![trees.bias; rows.len()];
                trees.add(rows, &mut scores);
                scores
            }
        }
    }

    fn write(&self, name: &str, to: &mut SectionWriter) -> Result<(), ArtifactError> {
        let no_weights = Array::<f32>::default();
        let none = Trees::default();
        let (weights, bias, trees) = match self {
            Self::Linear(linear) => (&linear.weights, linear.bias, &none),
            Self::Trees(trees) => (&no_weights, trees.bias, trees),
        };
        to.array(&format!("{name}.bias"), &[bias])?;
        to.array(&format!("{name}.weights"), weights)?;
        to.array(&format!("{name}.tree_features"), &trees.features)?;
        to.array(&format!("{name}.tree_thresholds"), &trees.thresholds)?;
        to.array(&format!("{name}.tree_leaves"), &trees.leaves)
    }

    fn read(name: &str, kind: ScorerKind, from: &Section<'_>) -> Result<Self, ArtifactError> {
        let bias: Array<f32> = from.array(&format!("{name}.bias"))?;
        let weights: Array<f32> = from.array(&format!("{name}.weights"))?;
        let trees = Trees {
            bias: bias.first().copied().unwrap_or_default(),
            features: from.array(&format!("{name}.tree_features"))?,
            thresholds: from.array(&format!("{name}.tree_thresholds"))?,
            leaves: from.array(&format!("{name}.tree_leaves"))?,
        };
        let whole = trees.features.len() == trees.len() * SPLITS
            && trees.thresholds.len() == trees.features.len()
            && trees.leaves.len() == trees.len() * LEAVES
            && trees.features.iter().all(|f| (*f as usize) < FEATURES.len())
            && [0, FEATURES.len()].contains(&weights.len());
        from.ensure(whole, "the ranker's trees or weights are not whole")?;
        Ok(match kind {
            ScorerKind::Boosting => Self::Trees(trees),
            ScorerKind::Blend | ScorerKind::Logistic => Self::Linear(Linear { weights, bias: trees.bias }),
        })
    }
}

/// From log odds to a probability.
pub fn probability(log_odds: f32) -> f32 {
    1.0 / (1.0 + (-log_odds).exp())
}

impl Ranker {
    pub(crate) fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        let features = FEATURES.iter().map(|feature| feature.name().to_owned()).collect();
        to.section("ranker", &Values { fit: self.fit, features }, |s| {
            self.repeat.write("repeat", s)?;
            self.fresh.write("fresh", s)
        })
    }

    pub(crate) fn read(from: &Reader) -> Result<Self, ArtifactError> {
        let s = from.section("ranker")?;
        let Values { fit, features } = s.values()?;
        let known = features.iter().map(String::as_str).eq(FEATURES.into_iter().map(Feature::name));
        s.ensure(known, "the ranker was learned on other features than this kindred makes; train again")?;
        Ok(Self { repeat: Scorer::read("repeat", fit.repeat, &s)?, fresh: Scorer::read("fresh", fit.fresh, &s)?, fit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(first: f32, second: f32) -> Features {
        let mut row = [0.0; FEATURES.len()];
        (row[0], row[1]) = (first, second);
        row
    }

    #[test]
    fn a_tree_is_walked_by_hand() {
        // The root asks feature 0 ≥ 1, its right child feature 1 ≥ 2; below, all go left.
        let mut thresholds = [f32::INFINITY; SPLITS];
        (thresholds[0], thresholds[2]) = (1.0, 2.0);
        let mut features = [0; SPLITS];
        features[2] = 1;
        let leaves: [f32; LEAVES] = std::array::from_fn(|i| i as f32);
        let trees = Trees {
            bias: 0.5,
            features: features.to_vec().into(),
            thresholds: thresholds.to_vec().into(),
            leaves: leaves.to_vec().into(),
        };
        let rows = [row(0.0, 9.0), row(1.0, 1.0), row(1.0, 2.0)];
        assert_eq!(Scorer::Trees(trees).log_odds(&rows), [0.5, 8.5, 12.5]);
    }

    #[test]
    fn linear_scores_worked_by_hand() {
        let mut weights = vec![0.0; FEATURES.len()];
        (weights[0], weights[1]) = (2.0, -1.0);
        let linear = Scorer::Linear(Linear { weights: weights.into(), bias: 1.0 });
        assert_eq!(linear.log_odds(&[row(3.0, 4.0)]), [3.0]);
        assert_eq!(probability(0.0), 0.5);
    }
}
