//! Finds members alike.

use kindred_models::history::History;
use kindred_models::neighbours::Neighbours;
use kindred_models::ranking::Scored;
use kindred_models::scatter::Scatter;
use kindred_models::sparse::Matrix;
use kindred_models::stop::Stop;
use rayon::prelude::*;

use crate::affinity::{bought, from_rows};
use crate::config::NeighbourParams;
use crate::error::TrainError;

/// Buyers of a product that a member is compared with, evenly spaced: bounds the time that a best-seller
/// takes.
const MAX_BUYERS: usize = 2000;

/// For every member, the `params.count` others with the highest cosine of decayed purchases, where a product
/// that few buy counts more; empty above `params.max_members`.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised.
pub fn fit(
    history: &History,
    products: usize,
    params: &NeighbourParams,
    stop: &Stop,
) -> Result<Neighbours, TrainError> {
    let members = history.rows.len();
    let has_bought = |member: &u32| history.rows.range(*member).any(|i| history.decayed[i] > 0.0);
    let active = (0..members as u32).filter(has_bought).count();
    if params.count == 0 || active > params.max_members {
        return Ok(Neighbours { similar: Matrix::from_sorted(members, &[]) });
    }
    let vectors = weighted(bought(history, |i| history.decayed[i]), products, active);
    let by_product = vectors.transposed(products);
    let alike = |member: u32| -> Result<Vec<Scored>, TrainError> {
        stop.check()?;
        let mut sums = Scatter::take(members);
        let (products, values) = vectors.row(member);
        for (product, x) in products.iter().zip(values) {
            let (buyers, others) = by_product.row(*product);
            let step = buyers.len().div_ceil(MAX_BUYERS).max(1);
            for (buyer, y) in buyers.iter().zip(others).step_by(step) {
                sums.add(*buyer, x * y);
            }
        }
        let mut kept = sums.best_to_keep(params.count, |other| other != member);
        kept.sort_unstable_by_key(|s| s.row);
        Ok(kept)
    };
    let rows: Vec<Vec<Scored>> = (0..members as u32).into_par_iter().map(alike).collect::<Result<_, _>>()?;
    Ok(Neighbours { similar: from_rows(&rows) })
}

/// Members' decayed purchases times the products' inverse frequency, as vectors of length 1.
fn weighted(bought: Matrix, products: usize, active: usize) -> Matrix {
    let mut buyers = vec![0u32; products];
    bought.rows.columns.iter().for_each(|product| buyers[*product as usize] += 1);
    let rarity = |product: u32| (1.0 + active as f32 / buyers[product as usize].max(1) as f32).ln();
    let mut values = bought.values.to_vec();
    for member in 0..bought.rows.len() as u32 {
        let range = bought.rows.range(member);
        for i in range.clone() {
            values[i] = values[i].ln_1p() * rarity(bought.rows.columns[i]);
        }
        // Wide: squares of what was bought long ago are too small otherwise.
        let squares = values[range.clone()].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
        let norm = squares.sqrt().max(f64::MIN_POSITIVE);
        values[range].iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    Matrix { rows: bought.rows, values: values.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::sparse::Rows;

    /// The first buys one product, the second two, the third the other one, and the last nothing.
    fn history() -> History {
        let lists = [vec![0], vec![0, 1], vec![1], vec![]];
        History { rows: Rows::from_lists(lists), decayed: vec![1.0; 4].into(), ..History::default() }
    }

    fn found(count: usize, max_members: usize) -> Neighbours {
        fit(&history(), 2, &NeighbourParams { count, max_members }, &Stop::default()).unwrap()
    }

    #[test]
    fn members_alike_worked_by_hand() {
        // Both products are as rare: vectors (1, 0), (√½, √½) and (0, 1).
        let Neighbours { similar } = found(5, 3);
        let near = |member: u32, others: &[u32]| {
            let (rows, cosines) = similar.row(member);
            assert_eq!(rows, others, "{member}");
            assert!(cosines.iter().all(|cosine| (cosine - 0.5f32.sqrt()).abs() < 1e-6), "{member}: {cosines:?}");
        };
        near(0, &[1]);
        near(1, &[0, 2]);
        near(2, &[1]);
        near(3, &[]);
        assert_eq!(found(1, 3).similar.row(1).0, [0], "of two alike, the first");
    }

    #[test]
    fn who_only_looked_is_nobody_s_like() {
        let mut looked = history();
        // As the others, and a fourth who looked at both products.
        let lists = [vec![0], vec![0, 1], vec![1], vec![0, 1]];
        (looked.rows, looked.decayed) = (Rows::from_lists(lists), vec![1.0, 1.0, 1.0, 1.0, 0.0, 0.0].into());
        let found_beside = fit(&looked, 2, &NeighbourParams { count: 5, max_members: 3 }, &Stop::default()).unwrap();
        for member in 0..4 {
            assert_eq!(found_beside.similar.row(member), found(5, 3).similar.row(member), "{member}");
        }
    }

    #[test]
    fn of_too_many_members_none_is_looked_for() {
        for (count, max_members) in [(5, 2), (0, 3)] {
            assert_eq!(found(count, max_members).similar.rows.columns.len(), 0);
        }
    }
}
