//! Feeds: what should this member see now?
//!
//! Candidates come from all sources: what the member bought before, what goes with it, what members alike
//! bought, products whose vector fits the member's, and what is popular here. Every candidate gets one
//! score from the [ranker](crate::ranker), and the rules decide which may stay.

mod basket;
mod candidates;
mod facts;
mod filter;
#[cfg(test)]
pub(crate) mod fixture;
mod group;
mod habits;
mod persona;
mod reason;
mod rules;
mod signals;
mod unsold;

use std::collections::HashSet;

use serde::Serialize;

pub use facts::Facts;
pub use filter::{AllowedProducts, ProductFilter};
pub use group::{GroupFeed, GroupItem, GroupRequest, MAX_GROUP, MAX_GROUP_PAGE, group_feed};
pub use persona::Persona;
pub use reason::{Reason, Reasons};
pub use rules::{Rule, Rules, SEEN_DECAY};
pub use signals::{FEATURES, Feature, Features, Signals};
pub use unsold::Unsold;

use crate::events::Kind;
use crate::model::Model;
use crate::popularity::Context;
use crate::ranker::probability;
use crate::ranking::distinct;

/// Items of a page, where nobody says how many.
pub const DEFAULT_PAGE: usize = 20;

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

/// How much an event of a visit says of what the visitor likes now, where a purchase says 1.
pub fn visit_weight(kind: Kind) -> f32 {
    match kind {
        Kind::View => 0.5,
        Kind::Cart | Kind::Favorite | Kind::Share | Kind::Purchase => 1.0,
        Kind::Refund | Kind::Contact => 0.0,
    }
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
    /// Where and when it is shown; a member's home where not said.
    pub context: Context,
    /// Products in the visitor's basket: the answer is what goes with them. Empty for a feed.
    pub basket: Vec<u32>,
    /// What is wanted of the page.
    pub rules: Rules,
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
            context: Context::default(),
            basket: Vec::new(),
            rules: Rules::default(),
        }
    }
}

/// Where an item came from: the source that speaks for it most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The member bought it before.
    Repeat,
    /// It is bought by those who buy what the member buys.
    Affinity,
    /// Members alike bought it.
    Neighbours,
    /// Its vector fits what the member buys.
    Taste,
    /// Many buy it.
    Popular,
    /// It is bought together with what is in the basket.
    Basket,
}

/// One product of a feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedItem {
    /// The product.
    pub product: u32,
    /// The chance of a purchase within the ranker's horizon, 0 to 1, where a ranker was learned; of a visitor of whom
    /// nothing is known, the product's share of purchases here, or, of a new one that nobody bought, that of those most like
    /// it. Less for what was seen lately; with a basket, and of a
    /// group, no chance. Higher is better.
    pub score: f32,
    /// Where it came from.
    pub source: Source,
    /// The rule that put it here, if its score alone would not have.
    pub rule: Option<Rule>,
}

impl FeedItem {
    fn new(product: u32, score: f32, source: Source) -> Self {
        Self { product, score, source, rule: None }
    }
}

/// The feed of a visitor, best first.
pub fn feed(model: &Model, request: &FeedRequest) -> Vec<FeedItem> {
    let persona = Persona::of(model, request.visitor, &request.visit).with_basket(&request.basket);
    feed_for(model, request, &persona)
}

/// The feed of a persona that was looked up before, best first.
pub fn feed_for(model: &Model, request: &FeedRequest, persona: &Persona) -> Vec<FeedItem> {
    let may_be_shown = allowed_products(model, request);
    let allowed =
        |product: u32| may_be_shown(product) && (request.include_purchased || !persona.has_purchased(product));
    let signals = Signals::new(model, persona, request);
    let rules = &request.rules;
    if !request.basket.is_empty() {
        let items = basket::complements(model, request, persona, &signals, &allowed);
        return rules.apply(model, persona, items, request.page_size);
    }
    let page = |rows: &[u32]| {
        let items = score(model, persona, &signals, rows);
        rules.apply(model, persona, items, request.page_size)
    };
    let mut rows = candidates(model, request, &signals, &allowed);
    let (found, looked_at) = (page(&rows), rows.len());
    if found.len() < request.page_size && rules.have_caps() {
        // All that sources speak for may be of a few brands: there are others.
        rows.extend(signals.capped_candidates(rules, request.page_size, &allowed));
        rows = distinct(rows, model.products.len());
        if rows.len() > looked_at {
            return page(&rows);
        }
    }
    found
}

/// Whether a product may be shown, whoever asks.
fn allowed_products(model: &Model, request: &FeedRequest) -> impl Fn(u32) -> bool + Sync {
    let products = AllowedProducts::new(&model.products, &request.filter);
    move |product| products.contains(&model.products, product) && !request.excluded.contains(&product)
}

/// All that sources speak for, and what the rules want besides, each once.
fn candidates(
    model: &Model,
    request: &FeedRequest,
    signals: &Signals<'_>,
    allowed: &(dyn Fn(u32) -> bool + Sync),
) -> Vec<u32> {
    let mut candidates = signals.candidates(request.page_size, !request.filter.is_empty(), allowed);
    let found = candidates.len();
    if request.rules.launch_share > 0.0 {
        candidates.extend(signals.launch_candidates(request.page_size, allowed));
    }
    if request.rules.explore_share > 0.0 {
        candidates.extend(signals.explore_candidates(request.page_size, allowed));
    }
    if candidates.len() > found {
        candidates = distinct(candidates, model.products.len());
    }
    candidates
}

/// Puts given products, each named once, in order for a persona, best first. A score does not depend on what else is
/// given: it is that of an unfiltered feed at the member's home, before what was seen counts less, told by how the
/// product stands out among that feed's candidates.
pub fn rank(model: &Model, persona: &Persona, products: &[u32]) -> Vec<FeedItem> {
    let request = FeedRequest::new(Visitor::Unknown, DEFAULT_PAGE);
    let signals = Signals::new(model, persona, &request);
    let beside = match persona.is_personal() {
        true => candidates(model, &request, &signals, &allowed_products(model, &request)),
        false => Vec::new(),
    };
    score_among(model, persona, &signals, products, Some(&beside))
}

/// Scores and sorts candidates, each named once.
fn score(model: &Model, persona: &Persona, signals: &Signals<'_>, candidates: &[u32]) -> Vec<FeedItem> {
    score_among(model, persona, signals, candidates, None)
}

/// Scores and sorts products, each named once, as they stand among candidates, or else among themselves.
fn score_among(
    model: &Model,
    persona: &Persona,
    signals: &Signals<'_>,
    products: &[u32],
    candidates: Option<&[u32]>,
) -> Vec<FeedItem> {
    if !persona.is_personal() {
        let item = |(product, share): (&u32, f32)| FeedItem::new(*product, share, Source::Popular);
        return sorted(products.iter().zip(signals.shares_here(products)).map(item).collect());
    }
    let mut items = Vec::with_capacity(products.len());
    for (scorer, purchased) in [(&model.ranker.repeat, true), (&model.ranker.fresh, false)] {
        let of_task = |rows: &[u32]| -> Vec<u32> {
            rows.iter().copied().filter(|row| persona.has_purchased(*row) == purchased).collect()
        };
        let products = of_task(products);
        let rows = match candidates {
            None => signals.features(&products, |_| true),
            Some(candidates) => signals.features_among(&products, &of_task(candidates)),
        };
        let scores = scorer.log_odds(&rows).into_iter().zip(&rows).zip(products);
        items.extend(
            scores
                .map(|((score, row), product)| FeedItem::new(product, probability(score), Source::of(row, purchased))),
        );
    }
    sorted(items)
}

impl Source {
    /// The source in whose scores the candidate stands out most, in standard deviations; what is popular, on a
    /// scale from 0 to 1, where it stands out in none.
    fn of(row: &Features, purchased: bool) -> Self {
        if purchased {
            return Self::Repeat;
        }
        let sources = [
            (Feature::PopularityScore, Self::Popular),
            (Feature::TasteScaled, Self::Taste),
            (Feature::NeighboursScaled, Self::Neighbours),
            (Feature::AffinityScaled, Self::Affinity),
        ];
        let strength = |feature: Feature| row[feature as usize];
        sources.into_iter().max_by(|a, b| strength(a.0).total_cmp(&strength(b.0))).map_or(Self::Popular, |s| s.1)
    }
}

fn sorted(mut items: Vec<FeedItem>) -> Vec<FeedItem> {
    items.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.product.cmp(&b.product)));
    items
}
