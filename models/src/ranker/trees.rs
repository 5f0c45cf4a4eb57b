//! Boosted trees, walked for many rows side by side.

use crate::artifact::Array;
use crate::feed::{FEATURES, Features};

/// Levels of a tree.
pub const TREE_DEPTH: usize = 4;
const SPLITS: usize = (1 << TREE_DEPTH) - 1;
const LEAVES: usize = 1 << TREE_DEPTH;

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

/// One tree.
#[derive(Clone, Copy)]
struct Tree<'a> {
    features: &'a [u32; SPLITS],
    thresholds: &'a [f32; SPLITS],
    leaves: &'a [f32; LEAVES],
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

    /// Whether every tree has all its nodes, and asks for features that exist.
    pub(super) fn is_whole(&self) -> bool {
        self.features.len() == self.len() * SPLITS
            && self.thresholds.len() == self.features.len()
            && self.leaves.len() == self.len() * LEAVES
            && self.features.iter().all(|f| (*f as usize) < FEATURES.len())
    }

    fn iter(&self) -> impl Iterator<Item = Tree<'_>> {
        let splits = self.features.as_chunks().0.iter().zip(self.thresholds.as_chunks().0);
        let trees = splits.zip(self.leaves.as_chunks().0);
        trees.map(|((features, thresholds), leaves)| Tree { features, thresholds, leaves })
    }

    /// Adds all trees to the scores of the rows, in the order of the trees.
    pub(super) fn add(&self, rows: &[Features], scores: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if crate::kernels::has_avx2() {
            // SAFETY: the CPU has AVX2, checked on the line above.
            #[allow(unsafe_code)]
            return unsafe { avx2::add(self, rows, scores) };
        }
        self.add_scalar(rows, scores);
    }

    /// The scalar twin: tree by tree, so that a tree stays in cache, and without a branch, so that the walks of
    /// neighbouring rows overlap.
    fn add_scalar(&self, rows: &[Features], scores: &mut [f32]) {
        for tree in self.iter() {
            for (row, score) in rows.iter().zip(scores.iter_mut()) {
                let mut node = 0;
                for _ in 0..TREE_DEPTH {
                    let right = row[tree.features[node] as usize] >= tree.thresholds[node];
                    node = 2 * node + 1 + usize::from(right);
                }
                *score += tree.leaves[node - SPLITS];
            }
        }
    }
}

/// Asks every split of a tree of eight rows at once and picks the way by masks: no step waits for a load whose
/// place the step before it decides, which is what bounds a walk node by node.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    use bytemuck::cast;

    use super::{Features, Tree, Trees};
    use crate::feed::FEATURES;

    const LANES: usize = 8;
    /// Groups of rows whose columns stay in the nearest cache together while all trees pass by.
    const GROUPS: usize = 8;

    /// Features of some rows by column, in groups of eight rows.
    type Columns = [[[f32; LANES]; GROUPS]; FEATURES.len()];

    #[target_feature(enable = "avx2")]
    pub(super) fn add(trees: &Trees, rows: &[Features], scores: &mut [f32]) {
        let mut columns: Columns = [[[0.0; LANES]; GROUPS]; FEATURES.len()];
        for (rows, scores) in rows.chunks(LANES * GROUPS).zip(scores.chunks_mut(LANES * GROUPS)) {
            let mut sums = [[0f32; LANES]; GROUPS];
            for (at, (row, score)) in rows.iter().zip(scores.iter()).enumerate() {
                sums[at / LANES][at % LANES] = *score;
                for (column, value) in columns.iter_mut().zip(row) {
                    column[at / LANES][at % LANES] = *value;
                }
            }
            for tree in trees.iter() {
                let asked = tree.features.map(|feature| &columns[feature as usize]);
                for (group, sum) in sums.iter_mut().enumerate().take(rows.len().div_ceil(LANES)) {
                    *sum = cast(_mm256_add_ps(cast(*sum), leaf(tree, |node| asked[node][group])));
                }
            }
            scores.copy_from_slice(&sums.as_flattened()[..rows.len()]);
        }
    }

    /// The leaf that each of eight rows comes to; `asked` gives their values of the feature that a node asks for.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn leaf(tree: Tree<'_>, asked: impl Fn(usize) -> [f32; LANES]) -> __m256 {
        // Of two nodes' answers, that of the one which the level above leads to.
        let pick = |left: __m256, right: __m256, way: __m256| _mm256_blendv_ps(left, right, way);
        let ask = |node: usize| _mm256_cmp_ps::<_CMP_GE_OQ>(cast(asked(node)), _mm256_set1_ps(tree.thresholds[node]));
        let first = ask(0);
        let second = pick(ask(1), ask(2), first);
        let third = pick(pick(ask(3), ask(4), second), pick(ask(5), ask(6), second), first);
        let left = pick(pick(ask(7), ask(8), third), pick(ask(9), ask(10), third), second);
        let right = pick(pick(ask(11), ask(12), third), pick(ask(13), ask(14), third), second);
        let fourth = pick(left, right, first);
        // The leaf's place within its half, from the ways of the last three levels.
        let bit = |way: __m256, value: i32| _mm256_and_si256(_mm256_castps_si256(way), _mm256_set1_epi32(value));
        let place = _mm256_or_si256(bit(second, 4), _mm256_or_si256(bit(third, 2), bit(fourth, 1)));
        let [low, high]: [__m256; 2] = cast(*tree.leaves);
        pick(_mm256_permutevar8x32_ps(low, place), _mm256_permutevar8x32_ps(high, place), first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            bias: 0.0,
            features: features.to_vec().into(),
            thresholds: thresholds.to_vec().into(),
            leaves: leaves.to_vec().into(),
        };
        let rows = [row(0.0, 9.0), row(1.0, 1.0), row(1.0, 2.0), row(f32::NAN, 2.0)];
        let (mut scores, mut scalar) = ([0.5; 4], [0.5; 4]);
        trees.add(&rows, &mut scores);
        trees.add_scalar(&rows, &mut scalar);
        assert_eq!(scores, [0.5, 8.5, 12.5, 0.5]);
        assert_eq!(scalar, scores);
    }

    proptest! {
        #[test]
        fn walking_side_by_side_gives_the_very_same_sums(
            asked in prop::collection::vec((0..FEATURES.len() as u32, -1f32..1.0), 3 * SPLITS),
            leaves in prop::collection::vec(-1f32..1.0, 3 * LEAVES),
            rows in prop::collection::vec(prop::array::uniform32(-1f32..1.0), 0..150),
        ) {
            let (features, thresholds): (Vec<u32>, Vec<f32>) = asked.into_iter().unzip();
            let trees = Trees {
                bias: 0.0,
                features: features.into(),
                thresholds: thresholds.into(),
                leaves: leaves.into(),
            };
            let rows: Vec<Features> = rows.iter().map(|row| std::array::from_fn(|k| row[k % 32])).collect();
            let (mut scores, mut scalar) = (vec![0.25; rows.len()], vec![0.25; rows.len()]);
            trees.add(&rows, &mut scores);
            trees.add_scalar(&rows, &mut scalar);
            prop_assert_eq!(scores, scalar);
        }
    }
}
