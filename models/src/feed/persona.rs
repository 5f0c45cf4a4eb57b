//! What is known of a visitor.

use std::collections::HashSet;

use super::{FeedRequest, VisitEvent, Visitor};
use crate::history::Past;
use crate::model::Model;
use crate::popularity::Context;
use crate::state::Pasts;
use crate::strings::{Labels, NONE};

/// What is known of a visitor, as far as the visitor allows: the only place that reads a member's data for
/// a feed, and that asks [`State::consent`](crate::state::State::consent) first.
#[derive(Clone, Debug, Default)]
pub struct Persona {
    /// The member, if the model may use what it knows.
    pub(super) row: Option<u32>,
    /// What the member had to do with, this visit included, by product.
    pub(super) past: Vec<Past>,
    /// Products of this visit, the latest first.
    pub(super) visited: Vec<u32>,
    /// Products in the basket.
    pub(super) basket: Vec<u32>,
    /// Products bought during this visit.
    bought_now: HashSet<u32>,
    /// Products that the member looked at lately, and how often, by product.
    seen: Vec<(u32, u16)>,
    /// What they say of what the member likes now, by product; not those of this visit.
    interest: Vec<(u32, f32)>,
    /// Days on which the member bought anything.
    pub(super) trips: u16,
    /// The folded-in vector; `None` where nothing is known.
    pub(super) vector: Option<Vec<f32>>,
}

/// Where a member is at home, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) store: Option<String>,
    city: Option<String>,
}

impl Persona {
    /// Of a visitor: nothing for a member without consent to personalization, the visit alone for one that the model does
    /// not know, and who was not heard saying what they allow.
    pub fn of(model: &Model, visitor: Visitor, visit: &[VisitEvent]) -> Self {
        let has_said = |row| model.state.profile(row).is_some_and(|said| said.personalization.is_some());
        let mut persona = match visitor {
            Visitor::Member(row) if model.state.consent(model, row).personalization => {
                Self::default().with_history(model, row, visit)
            }
            // They said no, or the version has no consent of theirs.
            Visitor::Member(row) if has_said(row) || (row as usize) < model.members.len() => return Self::default(),
            Visitor::Member(_) | Visitor::Unknown => Self::default(),
        };
        persona.add_visit(visit);
        // What the model keeps of a vector is rounded to bytes; the solve that it came from is not.
        persona.fold_in(model);
        persona
    }

    /// The same with a basket, for its reasons.
    pub fn with_basket(mut self, basket: &[u32]) -> Self {
        self.basket = basket.to_vec();
        self
    }

    fn with_history(mut self, model: &Model, row: u32, visit: &[VisitEvent]) -> Self {
        let Pasts { list, trips } = model.state.pasts(model, row);
        (self.row, self.past, self.trips) = (Some(row), list, trips);
        self.seen = model.state.seen(model, row);
        // What is told again with the visit counts once.
        let is_told = |product: u32| visit.iter().any(|event| event.product == product);
        self.interest = model.state.interest(model, row);
        self.interest.retain(|(product, _)| !is_told(*product));
        self
    }

    /// How much fresh interest in a product, told before this visit, says of what the member likes now, where a purchase says
    /// 1.
    pub(super) fn interest(&self, product: u32) -> f32 {
        self.interest.binary_search_by_key(&product, |of| of.0).map_or(0.0, |at| self.interest[at].1)
    }

    /// Adds the visit's events to the history.
    fn add_visit(&mut self, visit: &[VisitEvent]) {
        for event in visit {
            let at = match self.past.binary_search_by_key(&event.product, |p| p.product) {
                Ok(at) => at,
                Err(at) => {
                    self.past.insert(at, Past::new(event.product));
                    at
                }
            };
            let past = &mut self.past[at];
            past.weight += event.weight;
            // Fresh interest speaks for what goes with it, as a purchase of today would.
            past.recent += event.weight;
            past.decayed += event.weight;
            if event.purchased {
                self.bought_now.insert(event.product);
            }
        }
        self.visited = visit.iter().rev().map(|event| event.product).collect();
    }

    /// Solves the row of who has such a history.
    fn fold_in(&mut self, model: &Model) {
        let weighty = self.past.iter().filter(|p| p.weight > 0.0);
        let (products, weights): (Vec<u32>, Vec<f32>) = weighty.map(|p| (p.product, p.weight)).unzip();
        self.vector = (!products.is_empty()).then(|| model.embeddings.fold_in_member(&products, &weights));
    }

    /// The member's vector, with what is new of them; `None` where nothing is known that may be used.
    pub fn vector(&self) -> Option<&[f32]> {
        self.vector.as_deref()
    }

    /// How often the member looked at a product lately.
    pub(super) fn times_seen(&self, product: u32) -> u16 {
        self.seen.binary_search_by_key(&product, |seen| seen.0).map_or(0, |at| self.seen[at].1)
    }

    /// Whether the member looked at anything lately.
    pub(super) fn has_seen_any(&self) -> bool {
        !self.seen.is_empty()
    }

    /// What the member had to do with a product.
    pub(super) fn past(&self, product: u32) -> Option<&Past> {
        self.past.binary_search_by_key(&product, |p| p.product).ok().map(|at| &self.past[at])
    }

    /// Whether the member bought it before, or during this visit.
    pub fn has_purchased(&self, product: u32) -> bool {
        self.past(product).is_some_and(|past| past.count > 0) || self.bought_now.contains(&product)
    }

    /// Whether a product is of a finest category that the member never bought of, as far as is known.
    pub(super) fn untried<'a>(&self, model: &'a Model) -> impl Fn(u32) -> bool + 'a {
        let category = |product: u32| model.products.categories.rows[product as usize];
        let bought = self.past.iter().map(|past| past.product).filter(|product| self.has_purchased(*product));
        let known: HashSet<u32> = bought.map(category).collect();
        move |product| category(product) != NONE && !known.contains(&category(product))
    }

    /// Whether anything is known that may be used.
    pub fn is_personal(&self) -> bool {
        self.vector.is_some() || !self.past.is_empty()
    }

    /// Where a feed is shown: as the request says, else the member's home, if it may be used.
    pub(super) fn context(&self, model: &Model, request: &FeedRequest) -> Context {
        let mut context = request.context.clone();
        context.store = request.filter.store.clone().or(context.store);
        if context.store.is_none() && context.city.is_none() {
            Home { store: context.store, city: context.city } = self.home(model);
        }
        context
    }

    /// Where the member is at home, if that may be used.
    pub(super) fn home(&self, model: &Model) -> Home {
        let Some(row) = self.row else { return Home::default() };
        let said = model.state.profile(row);
        let learned = |labels: &Labels| labels.get(row).map(str::to_owned);
        Home {
            store: said.and_then(|said| said.store.clone()).or_else(|| learned(&model.members.stores)),
            city: said.and_then(|said| said.city.clone()).or_else(|| learned(&model.members.cities)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Visitor;
    use super::super::fixture::model;
    use super::*;

    #[test]
    fn popularity_is_that_of_the_store_that_is_asked_for() {
        let model = model(&[("tea", "a", [1.0, 0.0], 900)], &[]);
        let store = |filter: Option<&str>, shown: Option<&str>| {
            let mut request = FeedRequest::new(Visitor::Unknown, 1);
            request.filter.store = filter.map(str::to_owned);
            request.context.store = shown.map(str::to_owned);
            Persona::default().context(&model, &request).store
        };
        assert_eq!(store(Some("a"), Some("b")).as_deref(), Some("a"));
        assert_eq!(store(None, Some("b")).as_deref(), Some("b"));
        assert_eq!(store(None, None), None);
    }
}
