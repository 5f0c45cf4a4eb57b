//! Products like a product: what could be bought instead of it, not what goes with it.

use crate::feed::{AllowedProducts, ProductFilter};
use crate::kernels::dot;
use crate::model::Model;
use crate::ranking::{Scored, Top};
use crate::strings::NONE;

/// Candidates by vector and by content each.
const CANDIDATES: usize = 200;
/// How much being bought by the same members counts, against being made of the same things.
const VECTOR_SHARE: f32 = 0.5;

/// How much of its likeness a product loses that shares as many baskets with the asked one as any does.
const COMPLEMENT_PENALTY: f32 = 0.7;

/// The `k` available products most like one in the model, best first; scores are the mean of the cosines
/// by vector and by content, up to 1, less for those of another finest category that are bought in the same
/// basket: they are complements, and no substitutes. Fewer where no more are at all like it.
pub fn similar(model: &Model, product: u32, k: usize, filter: &ProductFilter) -> Vec<Scored> {
    let products = AllowedProducts::new(&model.products, filter);
    let allowed = |row: u32| row != product && products.contains(&model.products, row);
    let vector = model.embeddings.product(product);
    let count = CANDIDATES.max(2 * k);
    let by_vector = model.product_index.search(vector, count, !filter.is_empty(), &allowed);
    let features = model.products.attributes(product).features();
    let content = model.content.cosines(&features);
    let by_content = content.best(count, allowed);
    let mut rows: Vec<u32> = by_content.iter().map(|s| s.row).collect();
    rows.extend(by_vector.iter().map(|s| s.row));
    rows.sort_unstable();
    rows.dedup();
    let (partners, shared) = model.affinity.by_basket.row(product);
    let most = shared.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let categories = &model.products.categories.rows;
    let is_same =
        |row: u32| categories[row as usize] != NONE && categories[row as usize] == categories[product as usize];
    let substitution = |row: u32| match partners.binary_search(&row) {
        Ok(at) if !is_same(row) => 1.0 - COMPLEMENT_PENALTY * shared[at] / most,
        _ => 1.0,
    };
    let mut top = Top::new(k);
    for row in rows {
        let cosine = cosine(vector, model.embeddings.product(row));
        let likeness = VECTOR_SHARE * cosine + (1.0 - VECTOR_SHARE) * content.get(row);
        if likeness > 0.0 {
            top.push(row, likeness * substitution(row));
        }
    }
    top.into_sorted()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::fixture::model;

    #[test]
    fn what_is_not_alike_is_left_out() {
        let products = [[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [0.0, 0.0]].map(|vector| ("", "", vector, 90));
        let model = model(&products, &[]);
        let rows = |product| -> Vec<u32> {
            similar(&model, product, 9, &ProductFilter::default()).iter().map(|s| s.row).collect()
        };
        assert_eq!(rows(0), [1]);
        assert!(rows(3).is_empty(), "nothing is known of it");
    }
}
