//! What the sources say of each product for one visitor, and the features that the ranker looks at.

use std::collections::HashSet;

use super::facts::{Facts, SHARE_PRIOR};
use super::habits::{Habits, NEVER};
use super::{FeedRequest, Persona};
use crate::affinity::spread;
use crate::history::{Past, UNKNOWN_DAYS};
use crate::kernels::{dot, fetch, ln_1p};
use crate::model::Model;
use crate::popularity::Here;
use crate::scatter::{Borrowed, Scatter};
use crate::strings::NONE;

/// How many candidates before its turn a product is asked for.
const AHEAD: usize = 8;
/// Products of a member that the sparse sources look at, the most recent ones: bounds the time of a request.
const MAX_SPREAD: usize = 300;

macro_rules! features {
    ($($name:ident: $doc:literal,)*) => {
        /// What the ranker knows of a candidate, in the order of its inputs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        #[allow(missing_docs, reason = "each is described by its text")]
        pub enum Feature { $(#[doc = $doc] $name,)* }

        /// All features.
        pub const FEATURES: [Feature; [$(Feature::$name),*].len()] = [$(Feature::$name),*];

        impl Feature {
            /// Name in artifacts.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

features! {
    Hazard: "Chance to be bought again, by [`crate::repeat`].",
    Count: "ln(1 + purchases by this member).",
    Decayed: "ln(1 + decayed purchases by this member).",
    Recent: "The same with a short half-life.",
    DaysSince: "ln(1 + days since the member last bought it).",
    Due: "ln of those days over the usual gap.",
    Gap: "ln of the usual gap in days, shrunk to the product's.",
    TripsSince: "ln(1 + the member's shopping days since).",
    TripShare: "Share of the member's shopping days since the first purchase on which it was bought.",
    OwnShare: "Share of the member's decayed purchases in its finest category.",
    Taste: "Inner product of the vectors.",
    TasteScaled: "The same in standard deviations above the candidates' mean.",
    Affinity: "What the member's products speak for it, over the root of their number.",
    AffinityScaled: "The same in standard deviations above the candidates' mean.",
    RecentAffinity: "Root of what the products bought lately speak for it.",
    RecentAffinityScaled: "The same in standard deviations above the candidates' mean.",
    Basket: "The same by basket.",
    BasketScaled: "The same in standard deviations above the candidates' mean.",
    Neighbours: "Root of what members alike bought.",
    NeighboursScaled: "The same in standard deviations above the candidates' mean.",
    Popularity: "ln of its share of all purchases.",
    PopularityScore: "Square root of its share here over the best's in the chain.",
    PopularityHere: "ln of its share here over its share of all.",
    LongTrend: "ln of its share lately over its share of the year.",
    ShortTrend: "ln of its share this week over its share lately.",
    Age: "ln(1 + days since it was first sold).",
    ReturnRate: "Share of its buyers who came back.",
    ProductGap: "ln of its usual gap in days.",
    Category1: "ln(1 + decayed purchases in its finest category).",
    Category2: "The same one level up.",
    Category3: "The same two levels up.",
    CategoryShare1: "Share of the member's decayed purchases in its finest category.",
    CategoryShare2: "The same one level up.",
    CategoryRecent: "ln(1 + recent purchases in its finest category).",
    CategoryIdle: "ln(1 + days since the last purchase in its finest category).",
    ShareInCategory: "ln of its share of the purchases in its finest category, by all members.",
    Brand: "ln(1 + decayed purchases of its brand).",
    BrandShare: "Share of the member's decayed purchases of its brand.",
    Price: "ln of its price.",
    PriceAgainstUsual: "ln of its price over the member's mean.",
    PriceAgainstCategory: "ln of its price over what the member pays in its category.",
    Trips: "ln(1 + the member's shopping days).",
    Products: "ln(1 + products that the member bought).",
    Idle: "ln(1 + days since the member bought anything).",
    RepeatShare: "Share of the member's purchases that were repeats.",
    Trial: "ln of its share lately of what members buy for the first time.",
    Tags: "Mean over its tags of ln of how many times their usual share they have among the member's decayed purchases.",
    BestTag: "The highest of these.",
}

/// The inputs of the ranker for one candidate.
pub type Features = [f32; FEATURES.len()];

/// Sources whose scores are also looked at relative to those of the other candidates.
const SCALED: [(Feature, Feature); 5] = [
    (Feature::Taste, Feature::TasteScaled),
    (Feature::Affinity, Feature::AffinityScaled),
    (Feature::RecentAffinity, Feature::RecentAffinityScaled),
    (Feature::Basket, Feature::BasketScaled),
    (Feature::Neighbours, Feature::NeighboursScaled),
];

/// What all sources say for one request, looked up once.
#[derive(Debug)]
pub struct Signals<'a> {
    pub(super) model: &'a Model,
    pub(super) persona: &'a Persona,
    pub(crate) here: Here<'a>,
    pub(crate) affinity: Borrowed,
    pub(crate) recent: Borrowed,
    pub(crate) basket: Borrowed,
    pub(crate) neighbours: Borrowed,
    habits: Habits,
    member: MemberFacts,
    /// Root of the number of products that the sparse sources looked at.
    root: f32,
}

impl<'a> Signals<'a> {
    /// Asks all sources.
    pub fn new(model: &'a Model, persona: &'a Persona, request: &FeedRequest) -> Self {
        let n = model.products.len();
        let mut signals = Self {
            model,
            persona,
            here: model.popularity.here(&persona.context(model, request)),
            affinity: Scatter::take(n),
            recent: Scatter::take(n),
            basket: Scatter::take(n),
            neighbours: Scatter::take(n),
            habits: Habits::of(model, &persona.past),
            member: MemberFacts::of(persona, model.ranker.fit.knows_lookers),
            root: 1.0,
        };
        signals.spread();
        signals
    }

    fn spread(&mut self) {
        // Fresh interest speaks for what goes with it, as a purchase of today would, and is no purchase. What was but looked at
        // once speaks for nothing.
        let with_interest = |p: &'a Past| (p, self.persona.interest(p.product));
        let speaks = |(p, interest): &(&Past, f32)| p.decayed > 0.0 || *interest > 0.0;
        let mut past: Vec<(&Past, f32)> = self.persona.past.iter().map(with_interest).filter(speaks).collect();
        // What the visitor looks at right now is the most recent of all.
        let visited: HashSet<u32> = self.persona.visited.iter().copied().collect();
        let is_past = |product: u32, interest: f32| !visited.contains(&product) && interest <= 0.0;
        past.sort_by_key(|(p, interest)| {
            (is_past(p.product, *interest), p.days_since, std::cmp::Reverse(p.count), p.product)
        });
        past.truncate(MAX_SPREAD);
        self.root = (past.len().max(1) as f32).sqrt();
        let affinity = &self.model.affinity;
        let all = past.iter().map(|(p, interest)| (p.product, ln_1p(p.decayed + interest)));
        spread(&affinity.by_member, all, &mut self.affinity);
        let recent = || past.iter().map(|(p, interest)| (p.product, p.recent + interest));
        let recent =
            || recent().filter(|(_, recent)| *recent > 0.05).map(|(product, recent)| (product, recent.min(1.0)));
        spread(&affinity.by_member, recent(), &mut self.recent);
        spread(&affinity.by_basket, recent(), &mut self.basket);
        if let Some(row) = self.persona.row {
            let (model, state) = (self.model, &self.model.state);
            let may_be_read = |other: u32| state.may_be_read(model, other);
            model.neighbours.spread(row, &model.history, may_be_read, &mut self.neighbours);
        }
    }

    /// The features of those candidates that are wanted, by their place in the list; the others count for
    /// what a score is relative to.
    pub fn features(&self, candidates: &[u32], wanted: impl Fn(usize) -> bool) -> Vec<Features> {
        let sources = self.sources_of(candidates);
        let scales = self.scales(candidates, &sources);
        let here = self.shares_here(candidates);
        let wanted: Vec<usize> = (0..candidates.len()).filter(|at| wanted(*at)).collect();
        let mut rows = vec![[0.0; FEATURES.len()]; wanted.len()];
        for (at, row) in wanted.into_iter().zip(&mut rows) {
            self.fill(row, candidates[at], &sources[at], here[at], &scales);
        }
        rows
    }

    /// The features of products, relative to candidates that they may not be among.
    pub(super) fn features_among(&self, products: &[u32], candidates: &[u32]) -> Vec<Features> {
        let (scales, here) = (self.scales(candidates, &self.sources_of(candidates)), self.shares_here(products));
        let mut rows = vec![[0.0; FEATURES.len()]; products.len()];
        for (((row, product), sources), here) in rows.iter_mut().zip(products).zip(self.sources_of(products)).zip(here)
        {
            self.fill(row, *product, &sources, here, &scales);
        }
        rows
    }

    /// What scores are relative to: those of candidates like the ranker learned from, which were all sold.
    fn scales(&self, candidates: &[u32], sources: &[[f32; SCALED.len()]]) -> Scales {
        // Mostly, there is nothing to leave out, and nothing to copy.
        if self.model.unsold.is_empty() {
            return Scales::of(sources);
        }
        let is_sold = |product: &u32| self.model.facts[*product as usize].unsold == NONE;
        let sold = candidates.iter().zip(sources).filter(|(product, _)| is_sold(product));
        Scales::of(&sold.map(|(_, sources)| *sources).collect::<Vec<_>>())
    }

    /// Products' shares of purchases here, 0 to 1; of a new one that nobody had bought when the model learned, those of the
    /// products most like it in the chain, at least.
    pub(super) fn shares_here(&self, products: &[u32]) -> Vec<f32> {
        let mut shares = self.here.shares(products);
        for (share, product) in shares.iter_mut().zip(products) {
            let facts = &self.model.facts[*product as usize];
            *share = if facts.unsold == NONE { *share } else { share.max(facts.share) };
        }
        shares
    }

    /// The scores of candidates, in the order of [`SCALED`].
    fn sources_of(&self, candidates: &[u32]) -> Vec<[f32; SCALED.len()]> {
        let sources = |(at, product): (usize, &u32)| {
            if let Some(later) = candidates.get(at + AHEAD) {
                self.fetch(*later);
            }
            self.sources(*product)
        };
        candidates.iter().enumerate().map(sources).collect()
    }

    /// Asks for what is known of a product, without waiting for it.
    fn fetch(&self, product: u32) {
        fetch(&self.model.facts[product as usize..][..1]);
        if self.persona.vector.is_some() {
            fetch(self.model.embeddings.product(product));
        }
    }

    /// The scores of one candidate, in the order of [`SCALED`].
    fn sources(&self, product: u32) -> [f32; SCALED.len()] {
        let vector = self.persona.vector.as_ref();
        let taste = vector.map_or(0.0, |vector| dot(vector, self.model.embeddings.product(product)));
        // What speaks for products like one that nobody bought speaks for it.
        let unsold = self.model.unsold.get(self.model.facts[product as usize].unsold as usize);
        let of = |score: &dyn Fn(u32) -> f32| unsold.map_or_else(|| score(product), |unsold| unsold.mean(score));
        let root_of = |scatter: &Scatter| of(&|row| scatter.get(row).sqrt());
        let affinity = of(&|row| self.affinity.get(row)) / self.root;
        [taste, affinity, root_of(&self.recent), root_of(&self.basket), root_of(&self.neighbours)]
    }

    fn fill(&self, row: &mut Features, product: u32, sources: &[f32; SCALED.len()], here: f32, scales: &Scales) {
        let mut set = |feature: Feature, value: f32| row[feature as usize] = value;
        for (k, (raw, scaled)) in SCALED.into_iter().enumerate() {
            set(raw, sources[k]);
            set(scaled, (sources[k] - scales.means[k]) / scales.deviations[k]);
        }
        let (facts, past) = (&self.model.facts[product as usize], self.persona.past(product));
        if let Some(past) = past.filter(|past| past.count > 0) {
            self.repeat(past, &mut set);
        }
        self.popularity(facts, here, &mut set);
        self.habits(facts, past, &mut set);
        if let Some([mean, best]) = self.habits.tags(self.model.products.tags.row(product)) {
            set(Feature::Tags, mean);
            set(Feature::BestTag, best);
        }
        set(Feature::Trips, self.member.trips);
        set(Feature::Products, self.member.products);
        set(Feature::Idle, self.member.idle);
        set(Feature::RepeatShare, self.member.repeat_share);
    }

    fn repeat(&self, past: &Past, set: &mut impl FnMut(Feature, f32)) {
        let repeat = &self.model.repeat;
        set(Feature::Hazard, repeat.hazard(past));
        set(Feature::Count, ln_1p(f32::from(past.count)));
        set(Feature::Decayed, ln_1p(past.decayed));
        set(Feature::Recent, ln_1p(past.recent));
        set(Feature::TripsSince, ln_1p(f32::from(past.trips_since)));
        set(Feature::TripShare, f32::from(past.trips) / f32::from(past.trips_from.max(1)));
        if let Some(gap) = repeat.gap(past) {
            set(Feature::DaysSince, ln_1p(f32::from(past.days_since)));
            set(Feature::Gap, gap.ln());
            set(Feature::Due, ((f32::from(past.days_since) + 0.5) / gap).ln());
        }
    }

    fn popularity(&self, facts: &Facts, here: f32, set: &mut impl FnMut(Feature, f32)) {
        set(Feature::Popularity, facts.popularity);
        set(Feature::PopularityScore, self.here.score_of(here));
        set(Feature::PopularityHere, ((here + SHARE_PRIOR) / facts.share).ln());
        set(Feature::LongTrend, facts.long_trend);
        set(Feature::ShortTrend, facts.short_trend);
        set(Feature::Trial, facts.trial);
        set(Feature::Age, facts.age);
        set(Feature::ReturnRate, facts.return_rate);
        set(Feature::ProductGap, facts.gap);
    }

    fn habits(&self, facts: &Facts, past: Option<&Past>, set: &mut impl FnMut(Feature, f32)) {
        let (h, [finest, ..]) = (&self.habits, facts.nodes);
        let [category, above, above_2] = facts.nodes.map(|node| h.category(node));
        set(Feature::Category1, category.log_count);
        set(Feature::Category2, above.log_count);
        set(Feature::Category3, above_2.log_count);
        set(Feature::CategoryShare1, category.share);
        set(Feature::CategoryShare2, above.share);
        if finest != NONE {
            set(Feature::CategoryRecent, category.log_recent);
            set(Feature::CategoryIdle, category.log_idle);
            set(Feature::ShareInCategory, facts.share_in_category);
            let own = past.map_or(0.0, |past| past.decayed);
            set(Feature::OwnShare, own / category.count.max(1e-3));
        }
        if facts.brand != NONE {
            let count = h.brand(facts.brand);
            set(Feature::Brand, if count > 0.0 { ln_1p(count) } else { 0.0 });
            set(Feature::BrandShare, count / h.total.max(f32::MIN_POSITIVE));
        }
        if let Some(price) = facts.price {
            set(Feature::Price, price);
            set(Feature::PriceAgainstUsual, price - h.usual_price.unwrap_or(price));
            let in_category = category.log_price.unwrap_or(price);
            set(Feature::PriceAgainstCategory, (price - in_category).clamp(-3.0, 3.0));
        }
    }
}

/// What is true of the member whatever the product.
#[derive(Debug, Default)]
struct MemberFacts {
    trips: f32,
    products: f32,
    idle: f32,
    repeat_share: f32,
}

impl MemberFacts {
    fn of(persona: &Persona, knows_lookers: bool) -> Self {
        let bought = || persona.past.iter().filter(|p| p.count > 0);
        let purchases: f32 = bought().map(|p| f32::from(p.count)).sum();
        let products = bought().count() as f32;
        // Without times all is of one moment.
        let days = |days: u16| if days == UNKNOWN_DAYS { 0.0 } else { f32::from(days) };
        let never = if knows_lookers { NEVER } else { 0.0 };
        let idle = bought().map(|p| p.days_since).min().map_or(never, days);
        Self {
            trips: ln_1p(f32::from(persona.trips)),
            products: ln_1p(products),
            idle: ln_1p(idle),
            repeat_share: if purchases > 0.0 { 1.0 - products / purchases } else { 0.0 },
        }
    }
}

/// Mean and standard deviation of each source over the candidates.
#[derive(Debug)]
struct Scales {
    means: [f32; SCALED.len()],
    deviations: [f32; SCALED.len()],
}

impl Scales {
    fn of(sources: &[[f32; SCALED.len()]]) -> Self {
        let n = sources.len().max(1) as f32;
        let mean = |f: &dyn Fn(f32) -> f32, k: usize| sources.iter().map(|s| f(s[k])).sum::<f32>() / n;
        let means = std::array::from_fn(|k| mean(&|x| x, k));
        let deviation = |k: usize| mean(&|x| (x - means[k]).powi(2), k).sqrt();
        // Where a source has nothing to say, all candidates stand at its mean.
        let deviations = std::array::from_fn(|k| if deviation(k) > 1e-9 { deviation(k) } else { 1.0 });
        Self { means, deviations }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::model;
    use super::super::{VisitEvent, Visitor};
    use super::*;
    use crate::sparse::Matrix;

    #[test]
    fn a_visit_counts_before_a_long_history() {
        let n = MAX_SPREAD as u32 + 2;
        let mut model = model(&vec![("a", "A", [1.0, 0.0], 90); n as usize], &[]);
        // The last product but one goes with the last.
        let pair = [(n - 2, n - 1, 0.5)];
        model.affinity.by_member = Matrix::from_sorted(n as usize, &pair);
        let visit = [VisitEvent { product: n - 2, weight: 0.4, purchased: false }];
        let mut persona = Persona::of(&model, Visitor::Unknown, &visit);
        let bought = |product| Past { weight: 1.0, decayed: 1.0, count: 1, days_since: 3, ..Past::new(product) };
        persona.past.splice(0..0, (0..n - 2).map(bought));
        let signals = Signals::new(&model, &persona, &FeedRequest::new(Visitor::Unknown, 5));
        assert!(signals.affinity.get(n - 1) > 0.0);
    }
}
