//! A sparse approximation of EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data").
//!
//! EASE regresses each product on all others, with one dense inverse. Here each product is regressed on the
//! few that are bought together with it most, which is the same ridge regression over a hundred columns:
//! products that say the same thing share a weight, where cosines would count it twice.

use kindred_models::linalg::solve_spd;
use kindred_models::ranking::{Scored, Top};
use kindred_models::scatter::Scatter;
use kindred_models::sparse::{Matrix, gallop};
use kindred_models::stop::Stop;
use rayon::prelude::*;

use super::{Groups, from_rows};
use crate::config::AffinityParams;
use crate::error::TrainError;

/// Purchases of a target's neighbours that its Gramian is counted from; beyond, a sample of the groups.
const MAX_PURCHASES: usize = 60_000;

/// As [`super::fit`]: per source product, the targets that it speaks for.
pub(super) fn fit(groups: &Groups<'_>, params: &AffinityParams, stop: &Stop) -> Result<Matrix, TrainError> {
    let products = groups.sizes.len();
    let by_target: Vec<Vec<Scored>> = (0..products as u32)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, target| {
            stop.check()?;
            Ok(regress(groups, params, target, scratch))
        })
        .collect::<Result<_, TrainError>>()?;
    let mut by_source: Vec<Top> = (0..products).map(|_| Top::new(params.neighbours)).collect();
    for (target, weights) in by_target.iter().enumerate() {
        for source in weights {
            by_source[source.row as usize].push(target as u32, source.score);
        }
    }
    let rows: Vec<Vec<Scored>> = by_source
        .into_iter()
        .map(|top| {
            let mut kept = top.into_sorted();
            kept.sort_unstable_by_key(|s| s.row);
            kept
        })
        .collect();
    Ok(from_rows(&rows))
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    /// A neighbour's number and its amount, by group.
    purchases: Vec<(u32, u16, f32)>,
    gramian: Vec<f32>,
}

/// The weights of a target's neighbours, those above 0.
fn regress(groups: &Groups<'_>, params: &AffinityParams, target: u32, scratch: &mut Scratch) -> Vec<Scored> {
    let size = |product: u32| groups.sizes[product as usize];
    let lean = 0.5 - params.target_exponent;
    if !groups.is_bought(target) {
        return Vec::new();
    }
    let mut sums = Scatter::take(groups.sizes.len());
    groups.count_together(target, &mut sums);
    let mut top = Top::new(params.neighbours);
    sums.each(|other, sum| {
        if other != target && groups.is_bought(other) {
            top.push(other, sum / (size(other) * size(target)).sqrt() * size(other).powf(lean));
        }
    });
    let neighbours = top.into_sorted();
    if neighbours.is_empty() {
        return neighbours;
    }
    let together = |other: u32| sums.get(other) / (size(other) * size(target)).sqrt();
    let mut weights: Vec<f32> = neighbours.iter().map(|s| together(s.row)).collect();
    gramian(groups, &neighbours, scratch);
    let n = neighbours.len();
    for i in 0..n {
        scratch.gramian[i * n + i] += params.ridge;
    }
    solve_spd(&mut scratch.gramian, &mut weights);
    let scale = size(target).powf(lean);
    let weighted = neighbours.iter().zip(weights).filter(|(_, w)| *w > 0.0);
    weighted.map(|(s, w)| Scored { row: s.row, score: w * scale }).collect()
}

/// Fills `scratch` with the neighbours' normalized co-occurrences, row-major. Where they have very many
/// purchases, those of a sample of the groups: the same groups for all, so that it stays positive definite.
fn gramian(groups: &Groups<'_>, neighbours: &[Scored], scratch: &mut Scratch) {
    let n = neighbours.len();
    let total: usize = neighbours.iter().map(|s| groups.by_product.rows.range(s.row).len()).sum();
    let step = total.div_ceil(MAX_PURCHASES).max(1) as u32;
    scratch.purchases.clear();
    for (number, neighbour) in neighbours.iter().enumerate() {
        let (members, amounts) = groups.by_product.row(neighbour.row);
        let sampled = every(members, step).map(|at| (members[at], number as u16, amounts[at]));
        scratch.purchases.extend(sampled);
    }
    // Runs that are in order each, of one neighbour after the other: the stable sort merges them.
    scratch.purchases.sort_by_key(|(group, ..)| *group);
    scratch.gramian.clear();
    scratch.gramian.resize(n * n, 0.0);
    for group in scratch.purchases.chunk_by(|a, b| a.0 == b.0) {
        let weight = groups.weight(group[0].0) * step as f32;
        for (k, (_, i, x)) in group.iter().enumerate() {
            let row = &mut scratch.gramian[*i as usize * n..][..n];
            for (_, j, y) in &group[..=k] {
                row[*j as usize] += weight * x * y;
            }
        }
    }
    for i in 0..n {
        for j in 0..=i {
            let norm = (groups.sizes[neighbours[i].row as usize] * groups.sizes[neighbours[j].row as usize]).sqrt();
            scratch.gramian[i * n + j] /= norm;
        }
    }
}

/// The places of the multiples of `step` among sorted groups: of a best-seller's, most are leapt over.
fn every(groups: &[u32], step: u32) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(group) = groups.get(at) {
            let next = group.next_multiple_of(step);
            if next == *group {
                at += 1;
                return Some(at - 1);
            }
            at = gallop(groups, at, next);
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leaping_finds_every_multiple(groups in prop::collection::btree_set(0u32..2000, 0..300), step in 1u32..90) {
            let groups: Vec<u32> = groups.into_iter().collect();
            let multiples: Vec<usize> = (0..groups.len()).filter(|at| groups[*at].is_multiple_of(step)).collect();
            prop_assert_eq!(every(&groups, step).collect::<Vec<_>>(), multiples);
        }
    }
}
