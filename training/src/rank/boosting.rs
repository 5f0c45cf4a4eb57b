//! Gradient boosted trees: few, shallow and strongly regularised, so that one season does not decide.

use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::tree::Tree;
use forust_ml::{GradientBooster, Matrix};
use kindred_models::ranker::{TREE_DEPTH, Trees};

use super::examples::Examples;
use crate::config::RankerParams;

/// Share of the rows, and of the features, that each tree sees: trees that differ make a steadier sum.
const ROWS_PER_TREE: f32 = 0.7;
const FEATURES_PER_TREE: f64 = 0.5;

/// Fits the trees; none where only one outcome was seen.
pub(super) fn fit(examples: &Examples, params: &RankerParams) -> Trees {
    let n = examples.rows.len();
    let width = examples.rows.first().map_or(0, |row| row.len());
    let positives = examples.bought.iter().filter(|b| **b).count();
    if positives == 0 || positives == n {
        return Trees::default();
    }
    let columns: Vec<f64> = (0..width).flat_map(|k| examples.rows.iter().map(move |row| f64::from(row[k]))).collect();
    let targets: Vec<f64> = examples.bought.iter().map(|b| f64::from(u8::from(*b))).collect();
    let mut booster = GradientBooster::default()
        .set_objective_type(ObjectiveType::LogLoss)
        .set_iterations(params.trees)
        .set_learning_rate(params.learning_rate)
        .set_max_depth(TREE_DEPTH)
        .set_max_leaves(1 << TREE_DEPTH)
        .set_l2(params.l2)
        .set_min_leaf_weight(params.min_leaf_weight)
        .set_nbins(255)
        .set_sample_method(SampleMethod::Random)
        .set_subsample(ROWS_PER_TREE)
        .set_colsample_bytree(FEATURES_PER_TREE)
        .set_seed(0)
        .set_num_threads(None)
        .set_initialize_base_score(true)
        .set_create_missing_branch(false);
    if booster.fit(&Matrix::new(&columns, n, width), &targets, &vec![1.0; n], None).is_err() {
        return Trees::default();
    }
    let mut trees = Flat::default();
    booster.trees.iter().for_each(|tree| trees.push(tree));
    Trees {
        bias: (booster.base_score + f64::from(examples.negative_share).ln()) as f32,
        features: trees.features.into(),
        thresholds: trees.thresholds.into(),
        leaves: trees.leaves.into(),
    }
}

/// Trees level by level.
#[derive(Default)]
struct Flat {
    features: Vec<u32>,
    thresholds: Vec<f32>,
    leaves: Vec<f32>,
}

impl Flat {
    fn push(&mut self, tree: &Tree) {
        let mut level = vec![0];
        for _ in 0..TREE_DEPTH {
            let mut next = Vec::with_capacity(2 * level.len());
            for at in level {
                let node = &tree.nodes[at];
                if node.is_leaf {
                    // Both ways lead to the leaf.
                    self.features.push(0);
                    self.thresholds.push(f32::INFINITY);
                    next.extend([at, at]);
                } else {
                    self.features.push(node.split_feature as u32);
                    self.thresholds.push(node.split_value as f32);
                    next.extend([node.left_child, node.right_child]);
                }
            }
            level = next;
        }
        self.leaves.extend(level.iter().map(|at| tree.nodes[*at].weight_value));
    }
}
