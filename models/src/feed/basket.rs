//! What goes with a basket: bought together with what is in it, and no substitute for it.

use super::{AllowedProducts, FeedItem, FeedRequest, Persona, Signals, Source};
use crate::affinity::spread;
use crate::model::Model;
use crate::ranker::probability;
use crate::scatter::Scatter;
use crate::strings::NONE;

/// Products bought together with the basket's that are looked at.
const CANDIDATES: usize = 300;

/// Products that complement the request's basket, best first: those that share most baskets with it, weighed
/// by the root of the chance that this visitor buys them. Products of a finest category that is in the
/// basket are substitutes, and left out. Scores are from 0 to 1, and no probabilities.
pub(super) fn complements(model: &Model, request: &FeedRequest, persona: &Persona) -> Vec<FeedItem> {
    let filter = AllowedProducts::new(&model.products, &request.filter);
    let category = |product: u32| model.products.categories.rows[product as usize];
    let is_substitute = |product: u32| {
        let in_basket =
            |other: &u32| *other == product || (category(product) != NONE && category(*other) == category(product));
        request.basket.iter().any(in_basket)
    };
    let allowed = |product: u32| {
        filter.contains(&model.products, product)
            && !request.excluded.contains(&product)
            && !is_substitute(product)
            && (request.include_purchased || !persona.has_purchased(product))
    };
    let mut together = Scatter::take(model.products.len());
    spread(&model.affinity.by_basket, request.basket.iter().map(|product| (*product, 1.0)), &mut together);
    let found = together.top(CANDIDATES.max(2 * request.page_size), allowed);
    let products: Vec<u32> = found.iter().map(|s| s.row).collect();
    let signals = Signals::new(model, persona, request);
    let chances = chances(model, persona, &signals, &products);
    let (closest, likeliest) = (found.first().map_or(1.0, |s| s.score), chances.iter().copied().fold(1e-9, f32::max));
    let score = |together: f32, chance: f32| together / closest * (chance / likeliest).max(0.0).sqrt();
    let items = found.iter().zip(chances);
    super::sorted(items.map(|(s, chance)| FeedItem::new(s.row, score(s.score, chance), Source::Basket)).collect())
}

/// The chance of each product, in their order.
fn chances(model: &Model, persona: &Persona, signals: &Signals<'_>, products: &[u32]) -> Vec<f32> {
    if !persona.is_personal() {
        return products.iter().map(|product| signals.here.share(*product)).collect();
    }
    let rows = signals.features(products, |_| true);
    let (repeat, fresh) = (model.ranker.repeat.log_odds(&rows), model.ranker.fresh.log_odds(&rows));
    let of = |at: usize| if persona.has_purchased(products[at]) { repeat[at] } else { fresh[at] };
    (0..products.len()).map(|at| probability(of(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::super::{FeedRequest, Visitor, feed};
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
