//! Why a product is in a feed, in terms that a shopper understands.

use super::{FeedItem, FeedRequest, Persona, Source, Visitor};
use crate::history::{Past, UNKNOWN_DAYS};
use crate::kernels::dot;
use crate::model::Model;
use crate::popularity::Here;
use crate::repeat::LAPSED_GAPS;
use crate::sparse::Matrix;
use crate::strings::NONE;

/// Share of a member's purchases from which a category is one that they buy often.
const OFTEN: f32 = 0.05;

/// A reason: a code with its arguments, for the caller to phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The member buys it every so many days.
    BoughtRegularly {
        /// Days between two purchases.
        every_days: u16,
        /// Days from the last time to the newest event that is known.
        days_since: u16,
    },
    /// The member bought it before.
    BoughtBefore {
        /// How often.
        count: u16,
        /// Days from the last time to the newest event that is known, if events have a time.
        days_since: Option<u16>,
    },
    /// It goes with this product of another finest category, which the member bought.
    GoesWith(u32),
    /// It goes with this product of another finest category, which the visitor looked at just now, or has in the basket.
    GoesWithVisit(u32),
    /// Those who buy this product, which the member bought or looked at just now, like it.
    LikedByBuyersOf(u32),
    /// It is new in a category (a node of the model's tree), which the member buys often.
    NewInCategory(u32),
    /// In the store where the feed is shown, its share of purchases is that of the mean product that is bought at all, or a
    /// larger one, and no smaller than elsewhere.
    PopularHere,
    /// It has as large a share of purchases as the mean product that is bought at all, or a larger one.
    Popular,
    /// Nobody is known to have bought it yet.
    New,
}

/// Says why products are in a feed.
#[derive(Debug)]
pub struct Reasons<'a> {
    model: &'a Model,
    persona: &'a Persona,
    here: Here<'a>,
    /// Share of purchases of the mean product that is bought at all.
    usual_share: f32,
}

impl<'a> Reasons<'a> {
    /// For a feed that was asked for.
    pub fn of(model: &'a Model, persona: &'a Persona, request: &FeedRequest) -> Self {
        let p = &model.popularity;
        let sold = p.order.partition_point(|row| p.overall[*row as usize] > 0.0);
        let usual_share = 1.0 / sold.max(1) as f32;
        Self { model, persona, here: p.here(&persona.context(model, request)), usual_share }
    }

    /// At the member's home.
    pub fn at_home(model: &'a Model, persona: &'a Persona) -> Self {
        Self::of(model, persona, &FeedRequest::new(Visitor::Unknown, 0))
    }

    /// The reason for an item, if there is one that is true.
    pub fn reason(&self, item: &FeedItem) -> Option<Reason> {
        let (model, persona) = (self.model, self.persona);
        if item.source == Source::Basket
            && let Some(reason) = persona.goes_with_basket(model, item.product)
        {
            return Some(reason);
        }
        if let Some(past) = persona.past(item.product).filter(|past| past.count > 0) {
            return Some(bought(model, past));
        }
        if model.popularity.share(item.product) <= 0.0 {
            let new = || model.popularity.is_new(item.product).then_some(Reason::New);
            return persona.new_in_category(model, item.product).or_else(new);
        }
        let of_source = || match item.source {
            Source::Affinity | Source::Repeat => persona.goes_with(model, item.product),
            Source::Neighbours | Source::Taste => None,
            Source::Popular | Source::Basket => self.sells(item.product),
        };
        let reason = persona.new_in_category(model, item.product).or_else(of_source);
        reason.or_else(|| persona.liked_by(model, item.product)).or_else(|| self.sells(item.product))
    }

    /// What its sales say.
    fn sells(&self, product: u32) -> Option<Reason> {
        let is_popular = |share: f32| share >= self.usual_share;
        if self.here.favored_share(product).is_some_and(is_popular) {
            return Some(Reason::PopularHere);
        }
        is_popular(self.model.popularity.share(product)).then_some(Reason::Popular)
    }
}

impl Persona {
    /// The product of the basket that is bought with this one most.
    fn goes_with_basket(&self, model: &Model, product: u32) -> Option<Reason> {
        let speaks = |from: u32| {
            let (products, values) = model.affinity.by_basket.row(from);
            products.binary_search(&product).map_or(0.0, |at| values[at])
        };
        best(self.basket.iter().map(|from| (*from, speaks(*from)))).map(Reason::GoesWithVisit)
    }

    fn new_in_category(&self, model: &Model, product: u32) -> Option<Reason> {
        let label = |product: u32| model.products.categories.rows[product as usize];
        let node = model.tree.levels(label(product))[0];
        if !model.popularity.is_new(product) || node == NONE {
            return None;
        }
        let bought = || self.past.iter().filter(|p| p.count > 0);
        let total: f32 = bought().map(|p| p.decayed).sum();
        let here: f32 = bought().filter(|p| label(p.product) == label(product)).map(|p| p.decayed).sum();
        (here > OFTEN * total && here >= 2.0).then_some(Reason::NewInCategory(node))
    }

    /// The product of the visit, or else of the past, that speaks for this one most.
    fn goes_with(&self, model: &Model, product: u32) -> Option<Reason> {
        let speaks = |similar: &Matrix, from: u32| {
            let (products, values) = similar.row(from);
            products.binary_search(&product).map_or(0.0, |at| values[at])
        };
        let affinity = &model.affinity;
        let visited = self.visited.iter();
        let visited = visited.map(|p| (*p, speaks(&affinity.by_basket, *p).max(speaks(&affinity.by_member, *p))));
        let past = self.past.iter().filter(|p| p.count > 0);
        let past = past.map(|p| (p.product, p.decayed.ln_1p() * speaks(&affinity.by_member, p.product)));
        // What is bought instead of a product does not go with it.
        let kind = |product: u32| model.products.categories.rows[product as usize];
        let is_substitute = |(other, _): &(u32, f32)| kind(*other) != NONE && kind(*other) == kind(product);
        let (instead, beside): (Vec<_>, Vec<_>) = visited.partition(is_substitute);
        let (instead_of_past, beside_past): (Vec<_>, Vec<_>) = past.partition(is_substitute);
        let goes_with = best(beside).map(Reason::GoesWithVisit).or(best(beside_past).map(Reason::GoesWith));
        goes_with.or(best(instead).or(best(instead_of_past)).map(Reason::LikedByBuyersOf))
    }

    /// The product of the visit, or else of the past, whose vector is closest.
    fn liked_by(&self, model: &Model, product: u32) -> Option<Reason> {
        let vector = model.embeddings.product(product);
        let closeness = |other: u32| if other == product { 0.0 } else { dot(vector, model.embeddings.product(other)) };
        let visited = best(self.visited.iter().map(|p| (*p, closeness(*p))));
        let past = self.past.iter().filter(|p| p.count > 0);
        let past = best(past.map(|p| (p.product, p.weight * closeness(p.product))));
        visited.or(past).map(Reason::LikedByBuyersOf)
    }
}

fn bought(model: &Model, past: &Past) -> Reason {
    let days_since = (past.days_since != UNKNOWN_DAYS).then_some(past.days_since);
    match (model.repeat.gap(past), days_since) {
        // Who has stopped, as far as one can tell, buys it regularly no more.
        (Some(gap), Some(days_since)) if past.trips >= 3 && f32::from(days_since) <= LAPSED_GAPS * gap => {
            Reason::BoughtRegularly { every_days: gap.round().max(1.0) as u16, days_since }
        }
        _ => Reason::BoughtBefore { count: past.count, days_since },
    }
}

/// The product with the largest value above 0.
fn best(values: impl IntoIterator<Item = (u32, f32)>) -> Option<u32> {
    values.into_iter().filter(|v| v.1 > 0.0).max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|v| v.0)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::*;

    #[test]
    fn what_is_bought_instead_goes_with_nothing() {
        let given = [("tea", "a"), ("tea", "b"), ("cups", "c"), ("soap", "d")];
        let mut model = model(&given.map(|(category, brand)| (category, brand, [1.0, 0.0], 900)), &[]);
        model.affinity.by_member = Matrix::from_sorted(4, &[(0, 1, 0.5), (0, 2, 0.4)]);
        let mut persona = Persona::default();
        persona.past.push(Past { count: 1, decayed: 1.0, ..Past::new(0) });
        assert_eq!(persona.goes_with(&model, 1), Some(Reason::LikedByBuyersOf(0)), "the other tea");
        assert_eq!(persona.goes_with(&model, 2), Some(Reason::GoesWith(0)), "cups");
        persona.past.push(Past { count: 1, decayed: 1.0, ..Past::new(3) });
        model.affinity.by_member = Matrix::from_sorted(4, &[(0, 1, 0.5), (0, 2, 0.4), (3, 1, 0.1)]);
        assert_eq!(persona.goes_with(&model, 1), Some(Reason::GoesWith(3)), "soap, though less");
        persona.past.pop();
        persona.visited = vec![0];
        assert_eq!(persona.goes_with(&model, 1), Some(Reason::LikedByBuyersOf(0)));
        assert_eq!(persona.goes_with(&model, 2), Some(Reason::GoesWithVisit(0)));
        assert_eq!(persona.goes_with(&model, 3), None);
    }

    #[test]
    fn popular_is_what_sells_like_the_mean_product() {
        let mut products = [("tea", "a", [1.0, 0.0], 900); 5];
        products[4].3 = 5;
        let mut model = model(&products, &[]);
        model.popularity.overall = vec![5.0, 2.0, 1.0, 0.0, 0.0].into();
        model.popularity = model.popularity.ranked();
        let persona = Persona::default();
        let reasons = Reasons::at_home(&model, &persona);
        let item = |product| FeedItem::new(product, 0.5, Source::Popular);
        let said = [0, 1, 2, 3, 4].map(|product| reasons.reason(&item(product)));
        assert_eq!(said, [Some(Reason::Popular), None, None, None, Some(Reason::New)], "the last was launched lately");
    }

    #[test]
    fn who_has_stopped_buys_nothing_regularly() {
        let mut model = model(&[("tea", "a", [1.0, 0.0], 900)], &[]);
        model.repeat.gaps = vec![10.0].into();
        // Five shopping days within 40 days: ten days between them, as with others.
        let past = |days_since| Past { count: 5, trips: 5, span_days: 40, days_since, ..Past::new(0) };
        assert_eq!(bought(&model, &past(20)), Reason::BoughtRegularly { every_days: 10, days_since: 20 });
        assert_eq!(bought(&model, &past(21)), Reason::BoughtBefore { count: 5, days_since: Some(21) });
    }

    #[test]
    fn nobody_buys_often_what_they_looked_at() {
        let model = model(&[("tea", "a", [1.0, 0.0], 900), ("tea", "b", [1.0, 0.0], 3)], &[]);
        let of = |count| {
            let mut persona = Persona::default();
            persona.past.push(Past { count, decayed: 3.0, ..Past::new(0) });
            persona
        };
        assert!(matches!(of(3).new_in_category(&model, 1), Some(Reason::NewInCategory(_))));
        assert_eq!(of(0).new_in_category(&model, 1), None);
    }
}
