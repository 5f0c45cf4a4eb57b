//! Rules: what the retailer wants of a page, whatever the ranker thinks.
//!
//! They come after the ranker, in this order: products seen lately count less; then the page is filled place
//! by place, each time with the candidate whose score, less its likeness to what stands there already, is
//! highest among those that the caps allow. Where the page has fewer launches, or fewer products to explore,
//! than their shares ask for at that place, only such candidates are looked at.

use std::collections::HashMap;

use serde::Serialize;

use super::{FeedItem, Persona};
use crate::catalogue::Products;
use crate::kernels::dot;
use crate::model::Model;
use crate::strings::NONE;

/// What a feed's scores are multiplied by for each time that a product was seen, where nobody says otherwise.
pub const SEEN_DECAY: f32 = 0.8;
/// Candidates per place that diversity chooses among.
const POOL_PER_PLACE: usize = 10;

/// What is wanted of a page; the default wants nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Products shown to the member lately, and how often; of others, it is how often the member looked at them.
    pub seen: HashMap<u32, u16>,
    /// What a score is multiplied by for each time that the product was seen; 0 to 1.
    pub seen_decay: f32,
    /// Share of places for products in categories that the member never bought; 0 to 1.
    pub explore_share: f32,
    /// Share of places for products first sold within [`LAUNCH_DAYS`](crate::popularity::LAUNCH_DAYS); 0 to 1.
    pub launch_share: f32,
    /// Products of one finest category at most.
    pub max_per_category: Option<usize>,
    /// Products of one brand at most.
    pub max_per_brand: Option<usize>,
    /// How much likeness to what stands on the page already counts against a candidate: 0 not at all, 1 as
    /// much as the score (maximal marginal relevance, Carbonell and Goldstein 1998).
    pub diversity: f32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            seen_decay: 1.0,
            explore_share: 0.0,
            launch_share: 0.0,
            max_per_category: None,
            max_per_brand: None,
            diversity: 0.0,
        }
    }
}

/// The rule that put an item where its score alone would not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The share of launches.
    Launch,
    /// The share of products to explore.
    Explore,
    /// It is less like what stands before it, or others were over a cap.
    Diversity,
}

impl Rules {
    /// Whether every page is simply the head of the ranking.
    fn are_idle(&self) -> bool {
        let Self { explore_share, launch_share, diversity, .. } = self;
        *explore_share <= 0.0 && *launch_share <= 0.0 && *diversity <= 0.0 && !self.have_caps()
    }

    /// Whether there may be at most so many of something.
    pub(super) fn have_caps(&self) -> bool {
        self.max_per_category.is_some() || self.max_per_brand.is_some()
    }

    /// The page of ranked items, best first.
    pub(super) fn apply(
        &self,
        model: &Model,
        persona: &Persona,
        mut items: Vec<FeedItem>,
        page: usize,
    ) -> Vec<FeedItem> {
        if self.seen_decay < 1.0 && (!self.seen.is_empty() || persona.has_seen_any()) {
            for item in &mut items {
                let times = self.seen.get(&item.product).copied();
                let times = times.unwrap_or_else(|| persona.times_seen(item.product));
                item.score *= self.seen_decay.max(0.0).powi(times.into());
            }
            items = super::sorted(items);
        }
        if self.are_idle() {
            items.truncate(page);
            return items;
        }
        Page::new(self, model, persona, items, page).fill()
    }
}

/// A page in the making.
struct Page<'a> {
    rules: &'a Rules,
    model: &'a Model,
    length: usize,
    /// Candidates that are left, best first, each with what it is.
    left: Vec<Candidate>,
    chosen: Vec<FeedItem>,
    caps: Caps<'a>,
    launches: usize,
    explored: usize,
    best_score: f32,
}

struct Candidate {
    item: FeedItem,
    is_launch: bool,
    is_explore: bool,
    /// Of its vector, where likeness counts.
    length: f32,
    /// Largest likeness to an item of the page; 0 to 1.
    likeness: f32,
}

impl<'a> Page<'a> {
    fn new(rules: &'a Rules, model: &'a Model, persona: &Persona, items: Vec<FeedItem>, length: usize) -> Self {
        let untried = (rules.explore_share > 0.0).then(|| persona.untried(model));
        let best_score = items.first().map_or(0.0, |item| item.score).max(f32::MIN_POSITIVE);
        let candidate = |item: FeedItem| {
            let is_launch = model.popularity.is_new(item.product);
            let is_explore = untried.as_ref().is_some_and(|untried| untried(item.product));
            let vector = model.embeddings.product(item.product);
            let length = if rules.diversity > 0.0 { dot(vector, vector).sqrt() } else { 0.0 };
            Candidate { item, is_launch, is_explore, length, likeness: 0.0 }
        };
        Self {
            rules,
            model,
            length,
            left: items.into_iter().map(candidate).collect(),
            chosen: Vec::with_capacity(length),
            caps: Caps::new(rules, &model.products),
            launches: 0,
            explored: 0,
            best_score,
        }
    }

    fn fill(mut self) -> Vec<FeedItem> {
        while self.chosen.len() < self.length {
            let Some((at, rule)) = self.next() else { break };
            let mut candidate = self.left.remove(at);
            candidate.item.rule = rule.or((at > 0).then_some(Rule::Diversity));
            self.place(&candidate);
        }
        self.chosen
    }

    /// The candidate for the next place, and the share that it fills.
    fn next(&self) -> Option<(usize, Option<Rule>)> {
        let due = |share: f32, so_far: usize| ((self.chosen.len() + 1) as f32 * share).floor() as usize > so_far;
        let is_launch: fn(&Candidate) -> bool = |c| c.is_launch;
        let is_explore: fn(&Candidate) -> bool = |c| c.is_explore;
        let floors = [
            (self.rules.launch_share, self.launches, is_launch, Rule::Launch),
            (self.rules.explore_share, self.explored, is_explore, Rule::Explore),
        ];
        let due = floors.into_iter().filter(|(share, so_far, ..)| due(*share, *so_far));
        let mut by_rule = due.filter_map(|(_, _, is, rule)| self.best(is).map(|at| (at, (at > 0).then_some(rule))));
        by_rule.next().or_else(|| self.best(|_| true).map(|at| (at, None)))
    }

    /// The best allowed candidate of a kind, by score less likeness.
    fn best(&self, is: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let allowed = self.left.iter().enumerate().filter(|(_, c)| is(c) && self.caps.allow(c.item.product));
        let value = |c: &Candidate| c.item.score / self.best_score - self.rules.diversity * c.likeness;
        let pool = if self.rules.diversity > 0.0 { POOL_PER_PLACE * self.length } else { 1 };
        // The first of those alike: the one with the higher score.
        allowed
            .take(pool)
            .map(|(at, c)| (at, value(c)))
            .fold(None, |best: Option<(usize, f32)>, (at, value)| match best {
                Some((_, high)) if high >= value => best,
                _ => Some((at, value)),
            })
            .map(|best| best.0)
    }

    fn place(&mut self, candidate: &Candidate) {
        self.caps.take(candidate.item.product);
        self.launches += usize::from(candidate.is_launch);
        self.explored += usize::from(candidate.is_explore);
        self.chosen.push(candidate.item);
        if self.rules.diversity > 0.0 {
            for other in &mut self.left {
                other.likeness = other.likeness.max(likeness(self.model, candidate, other));
            }
        }
    }
}

/// How many there are of each category and brand so far, and how many more there may be.
pub(super) struct Caps<'a> {
    rules: &'a Rules,
    products: &'a Products,
    per_category: HashMap<u32, usize>,
    per_brand: HashMap<u32, usize>,
}

impl<'a> Caps<'a> {
    pub(super) fn new(rules: &'a Rules, products: &'a Products) -> Self {
        Self { rules, products, per_category: HashMap::new(), per_brand: HashMap::new() }
    }

    /// Whether there may be one more like a product.
    fn allow(&self, product: u32) -> bool {
        let within = |cap: Option<usize>, counts: &HashMap<u32, usize>, label: u32| {
            label == NONE || cap.is_none_or(|cap| counts.get(&label).copied().unwrap_or(0) < cap)
        };
        let (category, brand) = self.labels(product);
        within(self.rules.max_per_category, &self.per_category, category)
            && within(self.rules.max_per_brand, &self.per_brand, brand)
    }

    /// Counts a product, if there may be one more like it.
    pub(super) fn take(&mut self, product: u32) -> bool {
        let is_allowed = self.allow(product);
        if is_allowed {
            let (category, brand) = self.labels(product);
            *self.per_category.entry(category).or_default() += 1;
            *self.per_brand.entry(brand).or_default() += 1;
        }
        is_allowed
    }

    fn labels(&self, product: u32) -> (u32, u32) {
        (self.products.categories.rows[product as usize], self.products.brands.rows[product as usize])
    }
}

/// How alike two products are, 0 to 1: half by their vectors, half by their finest category.
fn likeness(model: &Model, one: &Candidate, other: &Candidate) -> f32 {
    let (a, b, norms) = (one.item.product, other.item.product, one.length * other.length);
    let product = dot(model.embeddings.product(a), model.embeddings.product(b));
    let cosine = if norms > 0.0 { (product / norms).clamp(0.0, 1.0) } else { 0.0 };
    let rows = &model.products.categories.rows;
    let same = rows[a as usize] != NONE && rows[a as usize] == rows[b as usize];
    0.5 * cosine + if same { 0.5 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Given, model, ranking};
    use super::*;

    /// Three of tea by A, two of nuts by B, one new cup by C.
    const PRODUCTS: [Given; 6] = [
        ("tea", "A", [1.0, 0.0], 90),
        ("tea", "A", [1.0, 0.0], 90),
        ("tea", "A", [1.0, 0.1], 90),
        ("nuts", "B", [0.0, 1.0], 90),
        ("nuts", "B", [0.1, 1.0], 90),
        ("cups", "C", [0.7, 0.7], 5),
    ];

    fn page(rules: &Rules, length: usize) -> Vec<(u32, Option<Rule>)> {
        let model = model(&PRODUCTS, &[]);
        let items = rules.apply(&model, &Persona::default(), ranking(6), length);
        items.iter().map(|item| (item.product, item.rule)).collect()
    }

    #[test]
    fn without_rules_the_ranking_stands() {
        assert_eq!(page(&Rules::default(), 3), [(0, None), (1, None), (2, None)]);
    }

    #[test]
    fn what_was_seen_counts_less_each_time() {
        // 1 · 0.8² = 0.64 stands between 0.7 and 0.6.
        let rules = Rules { seen: HashMap::from([(0, 2)]), seen_decay: 0.8, ..Rules::default() };
        assert_eq!(page(&rules, 5).iter().map(|i| i.0).collect::<Vec<_>>(), [1, 2, 3, 0, 4]);
    }

    #[test]
    fn caps_hold_for_categories_and_brands() {
        let rules = Rules { max_per_category: Some(1), ..Rules::default() };
        assert_eq!(page(&rules, 6), [(0, None), (3, Some(Rule::Diversity)), (5, Some(Rule::Diversity))]);
        let rules = Rules { max_per_brand: Some(2), ..Rules::default() };
        assert_eq!(page(&rules, 3).iter().map(|i| i.0).collect::<Vec<_>>(), [0, 1, 3]);
    }

    #[test]
    fn a_launch_has_its_share_of_places() {
        let rules = Rules { launch_share: 0.5, ..Rules::default() };
        assert_eq!(page(&rules, 4), [(0, None), (5, Some(Rule::Launch)), (1, None), (2, None)], "there is but one");
    }

    #[test]
    fn categories_never_bought_have_their_share_of_places() {
        let model = model(&PRODUCTS, &[]);
        let mut persona = Persona::default();
        persona.past.push(crate::history::Past { count: 1, ..crate::history::Past::new(0) });
        let rules = Rules { explore_share: 0.5, ..Rules::default() };
        let items = rules.apply(&model, &persona, ranking(6), 4);
        let page: Vec<_> = items.iter().map(|item| (item.product, item.rule)).collect();
        assert_eq!(page, [(0, None), (3, Some(Rule::Explore)), (1, None), (4, Some(Rule::Explore))]);
    }

    #[test]
    fn diversity_prefers_what_is_unlike() {
        let rules = Rules { diversity: 1.0, ..Rules::default() };
        // After 0: 1 is worth 0.9 − 1, 3 is worth 0.7 − 0.
        assert_eq!(page(&rules, 2), [(0, None), (3, Some(Rule::Diversity))]);
        let little = Rules { diversity: 0.01, ..Rules::default() };
        assert_eq!(page(&little, 3).iter().map(|i| i.0).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
