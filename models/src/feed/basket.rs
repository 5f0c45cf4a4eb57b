//! What goes with a basket: bought together with what is in it, and no substitute for it.

use super::{FeedItem, FeedRequest, Persona, Signals, Source, score, sorted};
use crate::affinity::spread;
use crate::launch::ANALOGUES;
use crate::model::Model;
use crate::scatter::Scatter;
use crate::strings::NONE;

/// Products bought together with the basket's that are looked at.
const CANDIDATES: usize = 300;

/// Allowed products that complement the request's basket, best first: those that share most baskets with it,
/// weighed by the root of the chance that this visitor buys them. Products of a finest category that is in the
/// basket are substitutes, and left out. Scores are from 0 to 1, and no probabilities.
pub(super) fn complements(
    model: &Model,
    request: &FeedRequest,
    persona: &Persona,
    signals: &Signals<'_>,
    allowed: &dyn Fn(u32) -> bool,
) -> Vec<FeedItem> {
    let category = |product: u32| model.products.categories.rows[product as usize];
    let same_kind = |a: u32, b: u32| a == b || (category(a) != NONE && category(a) == category(b));
    let is_substitute = |product: u32| request.basket.iter().any(|other| same_kind(product, *other));
    let mut together = Scatter::take(model.products.len());
    let sold: Vec<(u32, f32)> = request.basket.iter().flat_map(|product| sold(model, *product)).collect();
    spread(&model.affinity.by_basket, sold, &mut together);
    let mut found = together.best(CANDIDATES.max(2 * request.page_size), |row| allowed(row) && !is_substitute(row));
    found.sort_unstable();
    let products: Vec<u32> = found.iter().map(|s| s.row).collect();
    let mut items = score(model, persona, signals, &products);
    let closest = found.first().map_or(1.0, |s| s.score);
    let likeliest = items.first().map_or(1.0, |item| item.score).max(f32::MIN_POSITIVE);
    for item in &mut items {
        item.score = together.get(item.product) / closest * (item.score / likeliest).max(0.0).sqrt();
        item.source = Source::Basket;
    }
    sorted(items)
}

/// The product itself, or, where it was never sold together with anything, those most like it by content that
/// were, with their likeness.
fn sold(model: &Model, product: u32) -> Vec<(u32, f32)> {
    let has_partners = |row: u32| !model.affinity.by_basket.rows.range(row).is_empty();
    if has_partners(product) {
        return vec![(product, 1.0)];
    }
    let features = model.products.attributes(product).features();
    let analogues = model.content.nearest(&features, ANALOGUES, has_partners);
    analogues.iter().map(|s| (s.row, s.score / analogues.len() as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::super::{Visitor, feed};
    use super::*;
    use crate::similar::similar;

    #[test]
    fn what_goes_with_a_basket_is_not_what_could_stand_for_it() {
        // Tea and cups are bought together, and so are two teas, which stand for each other.
        let products = [
            ("tea", "A", [1.0, 0.0], 90),
            ("tea", "B", [1.0, 0.0], 90),
            ("cups", "C", [0.9, 0.1], 90),
            ("soap", "D", [0.0, 1.0], 90),
        ];
        let model = model(&products, &[(0, 1, 0.5), (0, 2, 0.4)]);
        let mut request = FeedRequest::new(Visitor::Unknown, 10);
        request.basket = vec![0];
        let items = feed(&model, &request);
        assert_eq!(items.iter().map(|i| (i.product, i.source)).collect::<Vec<_>>(), [(2, Source::Basket)]);
        let alike = similar(&model, 0, 10, &Default::default());
        assert_eq!(alike[0].row, 1, "the other tea: {alike:?}");
        let cups = alike.iter().find(|s| s.row == 2).unwrap().score;
        assert!(cups < 0.5 * alike[0].score, "close by vector, and yet no substitute: {alike:?}");
    }
}
