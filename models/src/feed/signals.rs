//! What the sources say of each product for one visitor, and the features that the ranker looks at.

use super::{FeedRequest, Persona};
use crate::affinity::spread;
use crate::categories::LEVELS;
use crate::history::{Past, UNKNOWN_DAYS};
use crate::kernels::{dot, ln_1p};
use crate::model::Model;
use crate::popularity::Here;
use crate::scatter::{Borrowed, Scatter};
use crate::strings::NONE;

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
    RecentAffinity: "As affinity, of what was bought lately.",
    RecentAffinityScaled: "The same in standard deviations above the candidates' mean.",
    Basket: "As affinity, by basket, of what was bought lately.",
    BasketScaled: "The same in standard deviations above the candidates' mean.",
    Neighbours: "What members alike bought.",
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
            habits: Habits::of(model, persona),
            member: MemberFacts::of(persona),
            root: 1.0,
        };
        signals.spread();
        signals
    }

    fn spread(&mut self) {
        let mut past: Vec<&Past> = self.persona.past.iter().filter(|p| p.weight > 0.0).collect();
        past.sort_by_key(|p| (p.days_since, std::cmp::Reverse(p.count), p.product));
        past.truncate(MAX_SPREAD);
        self.root = (past.len().max(1) as f32).sqrt();
        let affinity = &self.model.affinity;
        spread(&affinity.by_member, past.iter().map(|p| (p.product, ln_1p(p.decayed))), &mut self.affinity);
        let recent = || past.iter().filter(|p| p.recent > 0.05).map(|p| (p.product, p.recent.min(1.0)));
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
        let sources: Vec<[f32; SCALED.len()]> = candidates.iter().map(|product| self.sources(*product)).collect();
        let scales = Scales::of(&sources);
        let here = self.here.shares(candidates);
        let facts: Vec<Facts> = candidates.iter().map(|product| Facts::of(self.model, *product)).collect();
        let wanted = (0..candidates.len()).filter(|at| wanted(*at));
        wanted.map(|at| self.of(candidates[at], &sources[at], here[at], &facts[at], &scales)).collect()
    }

    /// The scores of one candidate, in the order of [`SCALED`].
    fn sources(&self, product: u32) -> [f32; SCALED.len()] {
        let vector = self.persona.vector.as_ref();
        let taste = vector.map_or(0.0, |vector| dot(vector, self.model.embeddings.product(product)));
        let root = |scatter: &Scatter| scatter.get(product).sqrt();
        let affinity = self.affinity.get(product) / self.root;
        [taste, affinity, root(&self.recent), root(&self.basket), root(&self.neighbours)]
    }

    fn of(&self, product: u32, sources: &[f32; SCALED.len()], here: f32, facts: &Facts, scales: &Scales) -> Features {
        let mut row = [0.0; FEATURES.len()];
        let mut set = |feature: Feature, value: f32| row[feature as usize] = value;
        for (k, (raw, scaled)) in SCALED.into_iter().enumerate() {
            set(raw, sources[k]);
            set(scaled, (sources[k] - scales.means[k]) / scales.deviations[k]);
        }
        let past = self.persona.past(product);
        if let Some(past) = past.filter(|past| past.count > 0) {
            self.repeat(past, &mut set);
        }
        self.popularity(facts, here, &mut set);
        self.habits(facts, past, &mut set);
        set(Feature::Trips, self.member.trips);
        set(Feature::Products, self.member.products);
        set(Feature::Idle, self.member.idle);
        set(Feature::RepeatShare, self.member.repeat_share);
        row
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
        let prior = SHARE_PRIOR;
        let [chain, long, short] = facts.shares.map(|share| share + prior);
        set(Feature::Popularity, chain.ln());
        set(Feature::PopularityScore, self.here.score_of(here));
        set(Feature::PopularityHere, ((here + prior) / chain).ln());
        set(Feature::LongTrend, (chain / long).ln());
        set(Feature::ShortTrend, (short / chain).ln());
        set(Feature::Trial, (facts.trial + prior).ln());
        set(Feature::Age, ln_1p(f32::from(facts.age_days)));
        if let Some((rate, gap)) = facts.repeat {
            set(Feature::ReturnRate, rate);
            set(Feature::ProductGap, gap.ln());
        }
    }

    fn habits(&self, facts: &Facts, past: Option<&Past>, set: &mut impl FnMut(Feature, f32)) {
        let (h, nodes) = (&self.habits, facts.nodes);
        let total = h.total.max(f32::MIN_POSITIVE);
        let count = |node: u32| if node == NONE { 0.0 } else { h.categories.get(node) };
        let counts = nodes.map(count);
        set(Feature::Category1, ln_1p(counts[0]));
        set(Feature::Category2, ln_1p(counts[1]));
        set(Feature::Category3, ln_1p(counts[2]));
        set(Feature::CategoryShare1, counts[0] / total);
        set(Feature::CategoryShare2, counts[1] / total);
        if nodes[0] != NONE {
            set(Feature::CategoryRecent, ln_1p(h.recent.get(nodes[0])));
            let last = h.last.get(nodes[0]);
            let idle = if last > 0.0 { LAST_OFFSET - last } else { LAST_OFFSET };
            set(Feature::CategoryIdle, ln_1p(idle));
            let in_category = self.model.tree.share(nodes[0]);
            let share = (facts.shares[0] + SHARE_PRIOR) / (in_category + 10.0 * SHARE_PRIOR);
            set(Feature::ShareInCategory, share.ln());
            let own = past.map_or(0.0, |past| past.decayed);
            set(Feature::OwnShare, own / counts[0].max(1e-3));
        }
        if facts.brand != NONE {
            let count = h.brands.get(facts.brand);
            set(Feature::Brand, ln_1p(count));
            set(Feature::BrandShare, count / total);
        }
        if facts.price > 0.0 {
            let price = facts.price.ln();
            set(Feature::Price, price);
            set(Feature::PriceAgainstUsual, price - h.usual_price.unwrap_or(price));
            let paid = nodes[0] != NONE && counts[0] > 0.0;
            let in_category = if paid { h.log_prices.get(nodes[0]) / counts[0] - PRICE_OFFSET } else { price };
            set(Feature::PriceAgainstCategory, (price - in_category).clamp(-3.0, 3.0));
        }
    }
}

/// What is kept of a product, looked up for all candidates before any of it is reckoned with: memory fetches many
/// things at a time, unless arithmetic stands between.
#[derive(Debug)]
struct Facts {
    /// Its share of purchases over all, over months, and over a week.
    shares: [f32; 3],
    /// Its share of first purchases.
    trial: f32,
    age_days: u16,
    /// Share of its buyers who came back, and the usual gap in days.
    repeat: Option<(f32, f32)>,
    /// Of its category, finest first.
    nodes: [u32; LEVELS],
    brand: u32,
    price: f32,
}

impl Facts {
    fn of(model: &Model, product: u32) -> Self {
        let (p, repeat, products, row) = (&model.popularity, &model.repeat, &model.products, product as usize);
        Self {
            shares: [p.share(product), p.long_share(product), p.short_share(product)],
            trial: p.trial_share(product),
            age_days: p.age_days[row],
            repeat: repeat.rates.get(row).copied().zip(repeat.gaps.get(row).copied()),
            nodes: model.tree.levels(products.categories.rows[row]),
            brand: products.brands.rows[row],
            price: products.prices[row],
        }
    }
}

/// Added to shares, so that a product never bought differs by a step and not without bound.
const SHARE_PRIOR: f32 = 1e-7;
/// What days since the last purchase in a category are taken from, so that the last one has the largest value.
const LAST_OFFSET: f32 = 100_000.0;
/// Added to logarithms of prices so that what is summed up is above 0.
const PRICE_OFFSET: f32 = 20.0;

/// How much the member buys of each category and brand, in decayed purchases.
#[derive(Debug)]
struct Habits {
    categories: Borrowed,
    recent: Borrowed,
    /// [`LAST_OFFSET`] less the days since the last purchase.
    last: Borrowed,
    brands: Borrowed,
    /// Sums of `ln price + PRICE_OFFSET` by finest category, weighted by decayed purchases.
    log_prices: Borrowed,
    /// Mean logarithm of the prices.
    usual_price: Option<f32>,
    total: f32,
}

impl Habits {
    fn of(model: &Model, persona: &Persona) -> Self {
        let (nodes, products) = (model.tree.len(), &model.products);
        let mut habits = Self {
            categories: Scatter::take(nodes),
            recent: Scatter::take(nodes),
            last: Scatter::take(nodes),
            brands: Scatter::take(products.brands.values.len()),
            log_prices: Scatter::take(nodes),
            usual_price: None,
            total: 0.0,
        };
        let (mut priced, mut log_prices) = (0.0, 0.0);
        for past in persona.past.iter().filter(|p| p.decayed > 0.0) {
            let row = past.product as usize;
            habits.total += past.decayed;
            let levels: [u32; LEVELS] = model.tree.levels(products.categories.rows[row]);
            for node in levels.into_iter().filter(|node| *node != NONE) {
                habits.categories.add(node, past.decayed);
            }
            let brand = products.brands.rows[row];
            if brand != NONE {
                habits.brands.add(brand, past.decayed);
            }
            let price = products.prices[row];
            let log_price = if price > 0.0 { price.ln() } else { 0.0 };
            if price > 0.0 {
                priced += past.decayed;
                log_prices += past.decayed * log_price;
            }
            if levels[0] != NONE {
                habits.recent.add(levels[0], past.recent);
                if past.days_since != UNKNOWN_DAYS {
                    habits.last.raise(levels[0], LAST_OFFSET - f32::from(past.days_since));
                }
                habits.log_prices.add(levels[0], past.decayed * (log_price + PRICE_OFFSET));
            }
        }
        habits.usual_price = (priced > 0.0).then(|| log_prices / priced);
        habits
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
    fn of(persona: &Persona) -> Self {
        let bought = || persona.past.iter().filter(|p| p.count > 0);
        let purchases: f32 = bought().map(|p| f32::from(p.count)).sum();
        let products = bought().count() as f32;
        let idle = bought().map(|p| p.days_since).min().filter(|days| *days != UNKNOWN_DAYS);
        Self {
            trips: ln_1p(f32::from(persona.trips)),
            products: ln_1p(products),
            idle: ln_1p(f32::from(idle.unwrap_or(0))),
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
