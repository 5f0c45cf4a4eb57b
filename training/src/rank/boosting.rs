//! Gradient boosted trees: few, shallow and strongly regularised, so that one season does not decide.

use forust_ml::objective::ObjectiveType;
use forust_ml::sampler::SampleMethod;
use forust_ml::tree::Tree;
use forust_ml::{GradientBooster, Matrix};
use kindred_models::feed::FEATURES;
use kindred_models::ranker::{TREE_DEPTH, Trees};

use super::examples::Examples;
use crate::config::RankerParams;

/// Share of the rows, and of the features, that each tree sees: trees that differ make a steadier sum.
const ROWS_PER_TREE: f32 = 0.7;
const FEATURES_PER_TREE: f64 = 0.5;

/// Fits the trees; none where only one outcome was seen.
pub(super) fn fit(examples: &Examples, params: &RankerParams) -> Trees {
    let Some(booster) = boosted(examples, params) else { return Trees::default() };
    let mut trees = Flat::default();
    booster.trees.iter().for_each(|tree| trees.push(tree));
    Trees {
        bias: (booster.base_score + f64::from(examples.negative_share).ln()) as f32,
        features: trees.features.into(),
        thresholds: trees.thresholds.into(),
        leaves: trees.leaves.into(),
    }
}

fn boosted(examples: &Examples, params: &RankerParams) -> Option<GradientBooster> {
    let n = examples.rows.len();
    let positives = examples.bought.iter().filter(|b| **b).count();
    if positives == 0 || positives == n {
        return None;
    }
    let columns = columns(examples);
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
    booster.fit(&Matrix::new(&columns, n, FEATURES.len()), &targets, &vec![1.0; n], None).ok()?;
    Some(booster)
}

/// The rows, column by column.
fn columns(examples: &Examples) -> Vec<f64> {
    (0..FEATURES.len()).flat_map(|k| examples.rows.iter().map(move |row| f64::from(row[k]))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rank::{ftrl, logistic};
    use kindred_models::feed::Features;
    use kindred_models::ranker::{Linear, Scorer};
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    /// Rows of uniform features, bought where `is_bought` says so, nine times out of ten.
    fn examples(is_bought: impl Fn(&Features) -> bool) -> Examples {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut examples = Examples { negative_share: 1.0, ..Examples::default() };
        for _ in 0..12_000 {
            let row: Features = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            let noise = rng.random_bool(0.1);
            examples.push(row, is_bought(&row) != noise, 0.0);
        }
        examples
    }

    fn right(scorer: &Scorer, examples: &Examples) -> f64 {
        let said = scorer.log_odds(&examples.rows).into_iter().zip(&examples.bought);
        said.filter(|(score, bought)| (*score > 0.0) == **bought).count() as f64 / examples.rows.len() as f64
    }

    fn params() -> RankerParams {
        RankerParams { trees: 60, l2: 1.0, min_leaf_weight: 5.0, ..RankerParams::default() }
    }

    #[test]
    fn trees_learn_what_no_weighted_sum_can() {
        let examples = examples(|row| (row[3] > 0.0) != (row[7] > 0.0));
        let trees = Scorer::Trees(fit(&examples, &params()));
        assert!(right(&trees, &examples) > 0.8, "{}", right(&trees, &examples));
        assert!(right(&Scorer::Linear(logistic::fit(&examples)), &examples) < 0.65);
    }

    #[test]
    fn flat_trees_say_what_the_library_says() {
        let examples = examples(|row| row[0] + row[1] * row[2] > 0.2);
        let booster = boosted(&examples, &params()).unwrap();
        let (columns, n) = (columns(&examples), examples.rows.len());
        let theirs = booster.predict(&Matrix::new(&columns, n, FEATURES.len()), false);
        let ours = Scorer::Trees(fit(&examples, &params())).log_odds(&examples.rows);
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{ours} {theirs}");
        }
    }

    #[test]
    fn both_regressions_find_the_weights() {
        let mut examples = examples(|row| 3.0 * row[0] - row[5] > 0.0);
        examples.negative_share = 0.5;
        for (name, Linear { weights, bias }) in [("solved", logistic::fit(&examples)), ("ftrl", ftrl::fit(&examples))] {
            assert!((weights[0] / weights[5] + 3.0).abs() < 0.8, "{name}: {} {}", weights[0], weights[5]);
            let others =
                (0..FEATURES.len()).filter(|k| ![0, 5].contains(k)).map(|k| weights[k].abs()).fold(0.0, f32::max);
            assert!(others < 0.15 * weights[0], "{name}: {others}");
            assert!((bias - 0.5f32.ln()).abs() < 0.2, "{name}: {bias}: half of what was not bought is missing");
        }
    }

    #[test]
    fn without_both_outcomes_nothing_is_learned() {
        let none = examples(|_| true);
        let mut all = Examples { negative_share: 1.0, ..Examples::default() };
        none.rows.iter().for_each(|row| all.push(*row, true, 0.0));
        assert!(fit(&all, &params()).is_empty());
        assert!(logistic::fit(&all).weights.is_empty() && ftrl::fit(&all).weights.is_empty());
        assert!(fit(&Examples::default(), &params()).is_empty());
        assert!(ftrl::fit(&Examples::default()).weights.is_empty());
        assert!(logistic::fit(&Examples::default()).weights.is_empty());
    }
}
