//! Batch scoring: the feed's own code, for many members.

use kindred_models::Model;
use kindred_models::feed::{FeedItem, FeedRequest, Persona, Source, Visitor, feed};
use kindred_models::ranking::Scored;
use kindred_models::stop::{Stop, Stopped};
use rayon::prelude::*;

/// What every member is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// Products per member.
    pub top: usize,
    /// Whether to leave out what the member bought before.
    pub exclude_purchased: bool,
    /// What products are put in order by.
    pub by: By,
}

/// What a batch puts products in order by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The feed's own ranker: the score is the chance of a purchase, where the version learned a ranker.
    #[default]
    Ranker,
    /// How well the vectors of member and product fit: many times as fast, and less right. The score is their inner
    /// product.
    Taste,
}

/// Each visitor's products, best first, in the order of the visitors; in parallel.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub fn score(
    model: &Model,
    visitors: &[Visitor],
    request: BatchRequest,
    stop: &Stop,
) -> Result<Vec<Vec<FeedItem>>, Stopped> {
    visitors
        .par_iter()
        .map(|visitor| {
            stop.check()?;
            let mut question = FeedRequest::new(*visitor, request.top);
            question.include_purchased = !request.exclude_purchased;
            Ok(match request.by {
                By::Taste => by_taste(model, *visitor, request).unwrap_or_else(|| feed(model, &question)),
                By::Ranker => feed(model, &question),
            })
        })
        .collect()
}

/// The available products whose vectors fit the visitor's best; `None` for one without.
fn by_taste(model: &Model, visitor: Visitor, request: BatchRequest) -> Option<Vec<FeedItem>> {
    let persona = Persona::of(model, visitor, &[]);
    let may_be_shown = |product: u32| {
        model.products.available[product as usize] != 0
            && model.popularity.is_alive(product)
            && !(request.exclude_purchased && persona.has_purchased(product))
    };
    let found = model.product_index.search(persona.vector()?, request.top, false, &may_be_shown);
    let item = |s: &Scored| FeedItem { product: s.row, score: s.score, source: Source::Taste, rule: None };
    Some(found.iter().map(item).collect())
}

/// The visitor behind a member id.
pub fn visitor(model: &Model, member_id: &str) -> Visitor {
    model.state.find(model, member_id).map_or(Visitor::Unknown, Visitor::Member)
}

/// Whether a member asked to be forgotten: nothing is said of them, not even what is popular.
pub fn is_erased(model: &Model, member_id: &str) -> bool {
    model.state.is_forgotten(member_id)
}
