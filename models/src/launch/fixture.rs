//! Members of whom everything is made up.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::{LaunchFit, LaunchModel, Statics};
use crate::artifact::Array;
use crate::embeddings::{Embeddings, Fit, Objective};
use crate::quantized::Quantized;
use crate::sparse::Matrix;

pub(crate) const MEMBERS: usize = 40_000;
const PRODUCTS: usize = 150;
const FEATURES: usize = 40;

/// Members, one in ten of whom bought nothing, and everything that a question may ask for.
pub(crate) fn members(factors: usize) -> (LaunchModel, Embeddings) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(factors as u64);
    let mut matrix = |rows: usize| {
        let entries: Vec<(u32, u32, f32)> = (0..rows as u32)
            .flat_map(|row| (0..MEMBERS as u32).map(move |m| (row, m)))
            .filter(|(row, m)| m % 10 != 3 && (m * 31 + row * 17) % (3 + row * 5) == 0)
            .map(|(row, m)| (row, m, rng.random_range(0.1f32..3.0)))
            .collect();
        Matrix::from_sorted(rows, &entries)
    };
    let (habits, buyers) = (matrix(FEATURES), matrix(PRODUCTS));
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut column = |most: f32| -> Array<f32> {
        (0..MEMBERS).map(|m| if m % 10 == 3 { 0.0 } else { rng.random_range(0.01..most) }).collect::<Vec<_>>().into()
    };
    let statics = Statics {
        activity: column(20.0),
        recent: column(5.0),
        trips: column(30.0),
        recency: column(90.0),
        early: column(2.0),
        spend: column(40.0),
        tried: column(4.0),
        bargains: column(1.0),
        repeats: column(1.0),
        premium: column(3.0),
        price_level: column(2.0),
    };
    let fit = LaunchFit {
        learned: Some(std::array::from_fn(|k| rng.random_range(-1.0f32..1.0) + k as f32 / 50.0)),
        ..LaunchFit::default()
    };
    let rates = (0..FEATURES).map(|_| rng.random_range(0.01f32..0.3)).collect::<Vec<_>>().into();
    let vectors: Vec<f32> = (0..MEMBERS * factors).map(|_| rng.random_range(-0.3f32..0.3)).collect();
    let objective = Objective { unobserved_weight: 0.1, regularization: 0.1, regularization_exponent: 1.0 };
    let embeddings = Embeddings {
        factors,
        members: Quantized::new(&vectors, factors),
        products: Array::default(),
        product_gramian: Array::default(),
        member_gramian: Array::default(),
        fit: Fit { factors, objective, bought_products: PRODUCTS, active_members: MEMBERS },
    };
    (
        LaunchModel { active: statics.active(), statics, habits, rates, buyers, fit, ..LaunchModel::default() },
        embeddings,
    )
}
