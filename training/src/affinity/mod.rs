//! Fits the item–item models: what was bought together, kept for the strongest pairs.

mod cosine;
mod ridge;

use kindred_models::events::day;
use kindred_models::history::History;
use kindred_models::ranking::Scored;
use kindred_models::scatter::Scatter;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::stop::Stop;
use rayon::prelude::*;

use crate::config::AffinityParams;
use crate::data::Event;
use crate::error::TrainError;
use crate::slice::{Slice, kept_purchases, pairs};

/// Groups per product that are looked at, evenly spaced: bounds the time that a best-seller takes.
const MAX_GROUPS: usize = 50_000;
/// Products of a group that are looked at, evenly spaced: a buyer of everything says little of each.
const MAX_GROUP_PRODUCTS: usize = 2000;

/// Below this size a product counts as not bought: two such sizes multiplied are nothing in an `f32`.
const LEAST_SIZE: f32 = 1e-18;

/// Groups of products (of a member, of a basket), from both sides.
struct Groups<'a> {
    by_group: &'a Matrix,
    by_product: Matrix,
    /// `s_i = Σ_g x_gi²`, per product.
    sizes: Vec<f32>,
    /// `n_g^−a`, per group.
    weights: Vec<f32>,
}

impl<'a> Groups<'a> {
    fn new(by_group: &'a Matrix, products: usize, exponent: f32) -> Self {
        let by_product = by_group.transposed(products);
        let size = |product: u32| by_product.row(product).1.iter().map(|x| x * x).sum::<f32>();
        let sizes: Vec<f32> = (0..products as u32).into_par_iter().map(size).collect();
        let weight = |group: u32| (by_group.rows.range(group).len().max(1) as f32).powf(-exponent);
        let weights = (0..by_group.rows.len() as u32).map(weight).collect();
        Self { by_group, by_product, sizes, weights }
    }

    fn weight(&self, group: u32) -> f32 {
        self.weights[group as usize]
    }

    /// Whether so much of a product was bought that one can divide by it: others were but looked at.
    fn is_bought(&self, product: u32) -> bool {
        self.sizes[product as usize] > LEAST_SIZE
    }

    /// Adds `Σ_g n_g^−a x_gi x_gj` for every `j`; of those that were not [bought](Self::is_bought) it says nothing.
    fn count_together(&self, product: u32, into: &mut Scatter) {
        let (groups, amounts) = self.by_product.row(product);
        let step = groups.len().div_ceil(MAX_GROUPS).max(1);
        for (group, x) in groups.iter().zip(amounts).step_by(step) {
            let weight = self.weight(*group) * x * step as f32;
            let (others, amounts) = self.by_group.row(*group);
            // Others for each product, so that none is passed over for all.
            let every = others.len().div_ceil(MAX_GROUP_PRODUCTS).max(1);
            let some = others.iter().zip(amounts).skip(product as usize % every).step_by(every);
            some.for_each(|(other, y)| into.add(*other, weight * y));
        }
    }
}

/// Per product, the `params.neighbours` products that it speaks for most: by ridge regression, or, with
/// `params.ridge` 0, by a generalized cosine. Values of `groups` are 0 to 1.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised.
pub fn fit(groups: &Matrix, products: usize, params: &AffinityParams, stop: &Stop) -> Result<Matrix, TrainError> {
    let groups = Groups::new(groups, products, params.group_exponent);
    if params.ridge > 0.0 { ridge::fit(&groups, params, stop) } else { cosine::fit(&groups, params, stop) }
}

fn amount(decayed: f32) -> f32 {
    decayed.min(1.0)
}

/// Members × products: what was bought, at most 1, less where it was long ago.
pub fn purchases(history: &History) -> Matrix {
    bought(history, |i| amount(history.decayed[i]))
}

/// Members × products: values of what was bought and kept. What was but looked at would stand as zeros, in place of buyers
/// where some are looked at.
pub(crate) fn bought(history: &History, value: impl Fn(usize) -> f32) -> Matrix {
    if history.decayed.iter().all(|decayed| *decayed > 0.0) {
        let values: Vec<f32> = (0..history.decayed.len()).map(value).collect();
        return Matrix { rows: history.rows.clone(), values: values.into() };
    }
    let (mut offsets, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for member in 0..history.rows.len() as u32 {
        for i in history.rows.range(member).filter(|i| history.decayed[*i] > 0.0) {
            columns.push(history.rows.columns[i]);
            values.push(value(i));
        }
        offsets.push(columns.len() as u64);
    }
    Matrix { rows: Rows { offsets: offsets.into(), columns: columns.into() }, values: values.into() }
}

/// Baskets × products: what one member bought on one day, and kept.
pub fn baskets(slice: &Slice, allowed: impl Fn(u32) -> bool) -> Matrix {
    let (mut offsets, mut columns) = (vec![0u64], Vec::new());
    let mut bought: Vec<(i64, u32)> = Vec::new();
    for (_, events) in slice.members().filter(|(member, _)| allowed(*member)) {
        let events: Vec<Event> = events.copied().collect();
        bought.clear();
        for pair in pairs(&events) {
            bought.extend(kept_purchases(pair).into_iter().map(|time| (day(time), pair[0].product)));
        }
        bought.sort_unstable();
        bought.dedup();
        for basket in bought.chunk_by(|a, b| a.0 == b.0) {
            columns.extend(basket.iter().map(|(_, product)| *product));
            offsets.push(columns.len() as u64);
        }
    }
    let values = vec![1.0; columns.len()];
    Matrix { rows: Rows { offsets: offsets.into(), columns: columns.into() }, values: values.into() }
}

/// Rows whose entries are sorted by column.
pub(crate) fn from_rows(rows: &[Vec<Scored>]) -> Matrix {
    let mut offsets = vec![0u64];
    offsets.extend(rows.iter().scan(0, |end, row| {
        *end += row.len() as u64;
        Some(*end)
    }));
    let columns: Vec<u32> = rows.iter().flatten().map(|s| s.row).collect();
    let values: Vec<f32> = rows.iter().flatten().map(|s| s.score).collect();
    Matrix { rows: Rows { offsets: offsets.into(), columns: columns.into() }, values: values.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups: {0,1}, {0,1}, {0,2}. s = 3, 2, 1.
    fn groups() -> Matrix {
        let entries = [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.0), (2, 0, 1.0), (2, 2, 1.0)];
        Matrix::from_sorted(3, &entries)
    }

    const PLAIN: AffinityParams = AffinityParams {
        neighbours: 1,
        group_exponent: 0.0,
        source_exponent: 0.5,
        target_exponent: 0.5,
        shrinkage: 0.0,
        ridge: 0.0,
    };

    fn fitted(params: AffinityParams) -> Matrix {
        fit(&groups(), 4, &params, &Stop::default()).unwrap()
    }

    #[test]
    fn cosines_worked_by_hand() {
        let similar = fitted(AffinityParams { shrinkage: 1.0, ..PLAIN });
        assert_eq!(similar.row(0).0, [1]);
        assert!((similar.row(0).1[0] - 2.0 / (6f32.sqrt() + 1.0)).abs() < 1e-6);
        assert_eq!(similar.row(2).0, [0]);
        assert!(similar.row(3).0.is_empty());
        let weighted = AffinityParams { group_exponent: 1.0, source_exponent: 1.0, target_exponent: 0.0, ..PLAIN };
        let similar = fitted(weighted);
        assert!((similar.row(0).1[0] - 1.0 / 3.0).abs() < 1e-6, "two groups that count a half each");
    }

    #[test]
    fn of_a_buyer_of_everything_no_product_is_passed_over() {
        let n = 2 * MAX_GROUP_PRODUCTS as u32;
        let all: Vec<(u32, u32, f32)> = (0..n).map(|product| (0, product, 1.0)).collect();
        let groups = Matrix::from_sorted(1, &all);
        let groups = Groups::new(&groups, n as usize, 0.0);
        let mut counted = vec![0; n as usize];
        for product in 0..n {
            let mut together = Scatter::take(n as usize);
            groups.count_together(product, &mut together);
            together.each(|other, sum| counted[other as usize] += usize::from(sum == 1.0));
        }
        assert!(counted.iter().all(|count| *count == MAX_GROUP_PRODUCTS), "each with as many, once");
    }

    #[test]
    fn what_was_looked_at_and_never_bought_changes_nothing() {
        // Product 3 in every group, with a value of 0; and one bought so long ago that nothing is left of it.
        let mut entries: Vec<(u32, u32, f32)> = vec![(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, 1.0), (2, 0, 1.0)];
        entries.extend([(0, 3, 0.0), (1, 3, 0.0), (2, 2, 1.0), (2, 3, 0.0), (2, 4, 1e-25)]);
        entries.sort_unstable_by_key(|(group, product, _)| (*group, *product));
        let viewed = Matrix::from_sorted(3, &entries);
        for ridge in [0.0, 0.3] {
            let params = AffinityParams { neighbours: 4, target_exponent: 0.3, ridge, ..PLAIN };
            let [with, without] = [&viewed, &groups()].map(|groups| fit(groups, 5, &params, &Stop::default()).unwrap());
            for product in 0..5 {
                assert_eq!(with.row(product), without.row(product), "{product}, ridge {ridge}");
            }
            assert!(!with.row(0).0.is_empty());
        }
    }

    #[test]
    fn a_regression_worked_by_hand() {
        // Target 0 on {1, 2}, which are never together: each weight is its cosine over 1 + ridge.
        let similar = fitted(AffinityParams { neighbours: 2, ridge: 1.0, ..PLAIN });
        assert_eq!(similar.row(1).0, [0]);
        assert!((similar.row(1).1[0] - 2.0 / 6f32.sqrt() / 2.0).abs() < 1e-6);
        assert!((similar.row(2).1[0] - 1.0 / 3f32.sqrt() / 2.0).abs() < 1e-6);
        // Target 1 on {0}; target 2 on {0}.
        assert_eq!(similar.row(0).0, [1, 2]);
    }

    #[test]
    fn two_products_that_say_the_same_share_a_weight() {
        // 0 and 1 are always bought together, and half of the time with 2.
        let entries: Vec<(u32, u32, f32)> = (0..8)
            .flat_map(|g| [(g, 0, 1.0), (g, 1, 1.0), (g, 2, 1.0)].into_iter().take(if g % 2 == 0 { 3 } else { 2 }))
            .collect();
        let groups = Matrix::from_sorted(8, &entries);
        let of = |ridge| {
            let params = AffinityParams { neighbours: 2, ridge, ..PLAIN };
            let similar = fit(&groups, 3, &params, &Stop::default()).unwrap();
            let (columns, values) = similar.row(0);
            values[columns.binary_search(&2).unwrap()]
        };
        let cosine = 4.0 / 32f32.sqrt();
        assert!((of(0.0) - cosine).abs() < 1e-6);
        assert!((of(0.001) - cosine / 2.0).abs() < 1e-3, "{}", of(0.001));
    }
}
