//! Feeds: what should this member see now?
//!
//! Candidates come from three sources: what the member bought before, products whose vector fits the
//! member's, and what is popular. Every candidate gets one score, a weighted sum over all sources, and the
//! rules decide which may stay.

mod filter;
mod reason;

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

pub use filter::{AllowedProducts, ProductFilter};
pub use reason::Reason;

use crate::history::Past;
use crate::kernels::dot;
use crate::model::Model;
use crate::ranking::Top;

/// Candidates that each source gives, at least; more for long pages.
const CANDIDATES: usize = 300;

/// What happened during a visit so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VisitEvent {
    /// The product.
    pub product: u32,
    /// How much it says of what the visitor likes, where a purchase says 1; above 0.
    pub weight: f32,
    /// Whether it was bought.
    pub purchased: bool,
}

/// Whom a feed is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// A member of the model.
    Member(u32),
    /// Nobody that the model knows.
    Unknown,
}

/// A question for a feed.
#[derive(Clone, Debug)]
pub struct FeedRequest {
    /// Whom it is for.
    pub visitor: Visitor,
    /// How many items at most.
    pub page_size: usize,
    /// Products not to show.
    pub excluded: HashSet<u32>,
    /// Products that may be shown.
    pub filter: ProductFilter,
    /// Whether products that the member bought before may be shown.
    pub include_purchased: bool,
    /// Events of this visit, not yet in the model.
    pub visit: Vec<VisitEvent>,
}

impl FeedRequest {
    /// A page for a visitor, without filters.
    pub fn new(visitor: Visitor, page_size: usize) -> Self {
        Self {
            visitor,
            page_size,
            excluded: HashSet::new(),
            filter: ProductFilter::default(),
            include_purchased: true,
            visit: Vec::new(),
        }
    }
}

/// Where an item came from: the source that adds most to its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The member bought it before.
    Repeat,
    /// It fits what the member buys.
    Taste,
    /// Many buy it.
    Popular,
}

/// One product of a feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedItem {
    /// The product.
    pub product: u32,
    /// Higher is better; comparable within one answer.
    pub score: f32,
    /// Where it came from.
    pub source: Source,
}

/// What is known of a visitor, as far as the visitor allows: the only place that reads a member's data for
/// a feed, and where consent is decided.
#[derive(Clone, Debug)]
pub struct Persona {
    /// Purchases by product.
    past: BTreeMap<u32, Past>,
    /// Products of this visit, the latest first.
    visited: Vec<u32>,
    /// Products bought, in the model or during the visit.
    purchased: HashSet<u32>,
    /// The folded-in vector; `None` where nothing is known.
    vector: Option<Vec<f32>>,
}

impl Persona {
    /// Of a visitor: nothing for a member without consent to personalization, the visit alone for one that
    /// the model does not know.
    pub fn of(model: &Model, visitor: Visitor, visit: &[VisitEvent]) -> Self {
        let nobody = Self { past: BTreeMap::new(), visited: Vec::new(), purchased: HashSet::new(), vector: None };
        let mut persona = match visitor {
            Visitor::Member(row) if !model.members.consent(row).personalization => return nobody,
            Visitor::Member(row) => nobody.with_history(model, row),
            Visitor::Unknown => nobody,
        };
        persona.add_visit(model, visit);
        persona
    }

    fn with_history(mut self, model: &Model, row: u32) -> Self {
        self.past = model.history.member(row).map(|past| (past.product, past)).collect();
        self.purchased = self.past.values().filter(|p| p.count > 0).map(|p| p.product).collect();
        let vector = model.embeddings.member(row);
        self.vector = vector.iter().any(|x| *x != 0.0).then(|| vector.to_vec());
        self
    }

    /// Solves the member's row again with the visit's events added to the history.
    fn add_visit(&mut self, model: &Model, visit: &[VisitEvent]) {
        if visit.is_empty() {
            return;
        }
        let mut weights: BTreeMap<u32, f32> = self.past.values().map(|p| (p.product, p.weight)).collect();
        for event in visit {
            *weights.entry(event.product).or_default() += event.weight;
            if event.purchased {
                self.purchased.insert(event.product);
            }
        }
        let (products, weights): (Vec<u32>, Vec<f32>) = weights.into_iter().unzip();
        self.vector = Some(model.embeddings.fold_in_member(&products, &weights));
        self.visited = visit.iter().rev().map(|event| event.product).collect();
    }

    /// Whether anything is known that may be used.
    pub fn is_personal(&self) -> bool {
        self.vector.is_some() || !self.past.is_empty()
    }

    /// The parts of a product's score: repeat, taste, popularity.
    fn parts(&self, model: &Model, product: u32, popularity: f32) -> [f32; 3] {
        let repeat = self.past.get(&product).map_or(0.0, Past::repeat_score);
        let taste = self.vector.as_ref().map_or(0.0, |v| dot(v, model.embeddings.product(product)));
        [model.blend.repeat * repeat, model.blend.taste * taste, model.blend.popularity * popularity]
    }

    fn score(&self, model: &Model, product: u32, popularity: f32) -> FeedItem {
        let parts = self.parts(model, product, popularity);
        let sources = [Source::Repeat, Source::Taste, Source::Popular];
        let largest = (0..3).max_by(|a, b| parts[*a].total_cmp(&parts[*b])).unwrap_or(2);
        FeedItem { product, score: parts.iter().sum(), source: sources[largest] }
    }
}

/// The feed of a visitor, best first.
pub fn feed(model: &Model, request: &FeedRequest) -> Vec<FeedItem> {
    feed_for(model, request, &Persona::of(model, request.visitor, &request.visit))
}

/// The feed of a persona that was looked up before, best first.
pub fn feed_for(model: &Model, request: &FeedRequest, persona: &Persona) -> Vec<FeedItem> {
    let products = AllowedProducts::new(&model.products, &request.filter);
    let allowed = |product: u32| {
        products.contains(&model.products, product)
            && !request.excluded.contains(&product)
            && (request.include_purchased || !persona.purchased.contains(&product))
    };
    let local = request.filter.store.as_deref().and_then(|store| model.popularity.scores_in_store(store));
    let popularity = |product: u32| match &local {
        Some(scores) => scores[product as usize],
        None => model.popularity.score(product),
    };
    let count = CANDIDATES.max(2 * request.page_size);
    let mut candidates = taste_candidates(model, persona, count, !request.filter.is_empty(), &allowed);
    candidates.extend(persona.purchased.iter().copied().filter(|product| allowed(*product)));
    match &local {
        Some(scores) => {
            let mut top = Top::new(count);
            let rows = (0..scores.len() as u32).filter(|row| allowed(*row));
            rows.for_each(|row| top.push(row, scores[row as usize]));
            candidates.extend(top.into_sorted().iter().map(|s| s.row));
        }
        None => candidates.extend(model.popularity.top(count, allowed)),
    }
    candidates.sort_unstable();
    candidates.dedup();
    let mut items: Vec<FeedItem> = candidates.into_iter().map(|p| persona.score(model, p, popularity(p))).collect();
    sort(&mut items);
    items.truncate(request.page_size);
    items
}

/// Products whose vector fits.
fn taste_candidates(
    model: &Model,
    persona: &Persona,
    count: usize,
    filtered: bool,
    allowed: &(dyn Fn(u32) -> bool + Sync),
) -> Vec<u32> {
    let Some(vector) = &persona.vector else { return Vec::new() };
    model.product_index.search(vector, count, filtered, allowed).iter().map(|s| s.row).collect()
}

/// Puts given products, each named once, in order for a persona, best first; the scores are those of a feed
/// without a store.
pub fn rank(model: &Model, persona: &Persona, products: &[u32]) -> Vec<FeedItem> {
    let mut items: Vec<FeedItem> =
        products.iter().map(|p| persona.score(model, *p, model.popularity.score(*p))).collect();
    sort(&mut items);
    items
}

fn sort(items: &mut [FeedItem]) {
    items.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.product.cmp(&b.product)));
}
