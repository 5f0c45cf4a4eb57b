//! A question for an audience: a product, as what is to be added up over the members' purchases.

use std::collections::HashSet;

use super::prices::relative_prices;
use super::seeds::{SeedWeights, Seeds, looked_at};
use super::signals::{
    BOUGHT, BRAND, BRAND_CATEGORY, NO_SIGNALS, OTHER_LEVELS, PRICE_BAND, SEED_VECTOR, Signals, TAGS, deviations,
    variances,
};
use super::tags::TagLifts;
use super::tilt::tilt;
use super::{LaunchModel, SCALE_MEMBERS};
use crate::Model;
use crate::affinity::spread;
use crate::artifact::Array;
use crate::categories::LEVELS;
use crate::content::{Attributes, ContentIndex, Group};
use crate::embeddings::Embeddings;
use crate::kernels::add_scaled;
use crate::ranking::Scored;
use crate::scatter::Scatter;
use crate::state::{Profile, Said};
use crate::strings::NONE;

/// How many similar products the signals look at: the nearest count in all three.
pub(super) const ANALOGUE_COUNTS: [usize; 3] = [5, 20, ANALOGUES];
/// How many similar products stand for a product that has no vector yet.
pub const ANALOGUES: usize = 100;
/// How many similar products are asked for what is bought with them, and how many of that count.
const EXPANDED_ANALOGUES: usize = 50;
const EXPANSION: usize = 200;
/// Price bands that are looked at, on both sides of the product's.
const BANDS: i32 = 12;

/// A product to find members for.
#[derive(Clone, Debug, Default)]
pub struct LaunchQuery {
    /// Its vector.
    pub vector: Vec<f32>,
    /// The mean vector of the products most like it.
    pub few_vector: Vec<f32>,
    /// Its habit features: the place of their sum, and their row in the content vocabulary.
    pub(super) habits: Vec<(usize, u32)>,
    /// Rows of the price bands of its finest category, and how many bands each is above its own.
    pub(super) bands: Vec<(f32, u32)>,
    /// How dear it is: against its category, against similar products, and against all; 0 where that is not known.
    pub(super) prices: [f32; 3],
    /// Products like it that somebody bought, best first, with their cosine.
    pub analogues: Vec<Scored>,
    /// Products bought with those, with a weight of up to 1.
    pub goes_with: Vec<Scored>,
    /// By home store of members, whether it carries the product, and the store of each; `None` where all do.
    carried: Option<(Vec<bool>, Array<u32>)>,
    /// What members' tags count; `None` where nothing is known of tags.
    pub(super) tags: Option<TagLifts>,
    /// What its signals are measured in; `None` for what those of all products are.
    scales: Option<Signals>,
    /// Members who are known to like it.
    pub(super) seeds: Seeds,
    /// What it is itself, once it was sold: nobody bought a launch.
    pub(super) own: Option<Own>,
}

/// A product that was sold already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) product: u32,
    /// What a unit of `ln(1 + purchases)` of it counts in a member's score.
    weight: f32,
}

impl LaunchQuery {
    /// From attributes alone; only `allowed` products count as similar.
    pub fn from_attributes(model: &Model, attributes: &Attributes, allowed: impl Fn(u32) -> bool) -> Self {
        let analogues = analogues(model, attributes, &allowed);
        Self::unscaled(model, attributes, analogues, allowed).with_scales(model)
    }

    /// Of a product that has a vector of its own. Who bought it counts as [`Known`](super::Known) says; nothing is more like it
    /// than itself.
    pub fn of_product(model: &Model, product: u32) -> Self {
        let attributes = model.products.attributes(product);
        let mut nearest = analogues(model, &attributes, |row| row != product);
        let is_sold = !model.launch.buyers.rows.range(product).is_empty();
        if is_sold {
            nearest.truncate(ANALOGUES - 1);
            nearest.insert(0, Scored { row: product, score: 1.0 });
        }
        let weight = model.launch.fit.known.map_or(0.0, |known| known.own / known.slope);
        let own = is_sold.then_some(Own { product, weight });
        let vector = model.embeddings.product(product).to_vec();
        let query = Self::unscaled(model, &attributes, nearest, |_| true);
        Self { vector, own, ..query }.with_scales(model)
    }

    /// The same with another weight of its own purchases.
    #[cfg(test)]
    pub(super) fn with_own(self, product: u32, weight: f32) -> Self {
        Self { own: Some(Own { product, weight }), ..self }
    }

    fn unscaled(model: &Model, attributes: &Attributes, analogues: Vec<Scored>, allowed: impl Fn(u32) -> bool) -> Self {
        let content = &model.content;
        let few = &analogues[..analogues.len().min(ANALOGUE_COUNTS[1])];
        Self {
            vector: mean_vector(&model.embeddings, &analogues),
            few_vector: mean_vector(&model.embeddings, few),
            habits: habits(attributes, content),
            bands: bands(attributes, content),
            prices: relative_prices(model, attributes, &analogues),
            goes_with: goes_with(model, &analogues, allowed),
            tags: TagLifts::new(model, &analogues),
            analogues,
            carried: carried(model, attributes),
            scales: None,
            seeds: Seeds::default(),
            own: None,
        }
    }

    fn with_scales(mut self, model: &Model) -> Self {
        let launch = &model.launch;
        if launch.fit.own_share > 0.0 {
            let signals = launch.signals_of(&self, &model.embeddings, &launch.sample_of(SCALE_MEMBERS));
            self.scales = Some(launch.fit.scales(&signals));
        }
        self
    }

    /// A question by seeds alone.
    pub fn without_product(embeddings: &Embeddings) -> Self {
        let zero = vec![0.0; embeddings.factors];
        Self { vector: zero.clone(), few_vector: zero, ..Self::default() }
    }

    /// The same query with members who are known to like the product, and whose liking tilts it.
    pub fn with_seeds(self, seeds: &[u32], model: &Model) -> Self {
        let mut query = self.with_seed_signals(seeds, model);
        // Of who bought nothing, nothing can be learned.
        let bought = |seed: &u32| model.launch.statics.activity.get(*seed as usize).is_some_and(|a| *a > 0.0);
        let seeds: Vec<u32> = seeds.iter().copied().filter(bought).collect();
        if !seeds.is_empty() && !query.is_of_seeds_alone() {
            let signals = |rows: &[u32]| model.launch.signals_of(&query, &model.embeddings, rows);
            query.seeds.tilt = tilt(
                &signals(&looked_at(&seeds)),
                &signals(&model.launch.sample_rows()),
                &query.own_weights(&model.launch),
            );
        }
        query
    }

    /// The same query with members who are known to like the product.
    pub fn with_seed_signals(mut self, seeds: &[u32], model: &Model) -> Self {
        if seeds.is_empty() {
            return self;
        }
        self.seeds = Seeds::new(model, seeds, &self.vector);
        let signals = model.launch.signals_of(&self, &model.embeddings, &model.launch.sample_rows());
        let of_seeds = |row: &Signals| -> SeedWeights { std::array::from_fn(|k| row[SEED_VECTOR + k]) };
        self.seeds.deviations = deviations(&[variances(&signals.iter().map(of_seeds).collect::<Vec<_>>())]);
        self
    }

    /// The signals of seeds among those of a member, in standard deviations.
    pub fn seed_signals(&self, signals: &Signals) -> SeedWeights {
        std::array::from_fn(|k| signals[SEED_VECTOR + k] / self.seeds.deviations[k])
    }

    /// Whether members are known who like it.
    pub(super) fn has_seeds(&self) -> bool {
        self.seeds.count > 0
    }

    /// Whether only some stores carry the product.
    pub(crate) fn is_sold_in_some_stores(&self) -> bool {
        self.carried.is_some()
    }

    /// Whether a member's home store is known not to carry the product.
    #[inline]
    pub(super) fn is_out_of_reach(&self, member: u32) -> bool {
        self.carried.as_ref().is_some_and(|(carried, stores)| {
            let store = stores.get(member as usize).copied().unwrap_or(NONE);
            carried.get(store as usize).is_some_and(|carried| !carried)
        })
    }

    /// Whether nothing but seeds is known: members like them are asked for, however much they buy.
    pub(crate) fn is_of_seeds_alone(&self) -> bool {
        self.habits.is_empty() && self.analogues.is_empty() && self.seeds.count > 0
    }

    /// Signals as they were learned from: in scales.
    pub fn scaled(&self, model: &LaunchModel, signals: &Signals) -> Signals {
        let scales = self.scales.unwrap_or(model.fit.deviations);
        std::array::from_fn(|k| signals[k] / scales[k])
    }

    /// What a unit of each signal counts, whoever is known to like the product.
    fn own_weights(&self, model: &LaunchModel) -> Signals {
        let mut weights = self.scaled(model, &model.fit.weights());
        weights[BOUGHT] = self.own.map_or(0.0, |own| own.weight);
        weights
    }

    /// What a unit of each signal counts.
    pub(super) fn weights(&self, model: &LaunchModel) -> Signals {
        let alone = self.is_of_seeds_alone();
        let mut weights = if alone { NO_SIGNALS } else { self.own_weights(model) };
        if self.seeds.count > 0 {
            self.seeds.add_weights(model, &mut weights, alone);
        }
        weights
    }
}

/// The products most like these attributes that were sold, best first.
fn analogues(model: &Model, attributes: &Attributes, allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
    let is_sold = |row: u32| !model.launch.buyers.rows.range(row).is_empty();
    model.content.nearest(&attributes.features(), ANALOGUES, |row| is_sold(row) && allowed(row))
}

fn carried(model: &Model, attributes: &Attributes) -> Option<(Vec<bool>, Array<u32>)> {
    let (homes, stores) = (&model.members.stores, attributes.stores.iter().map(String::as_str));
    let carrying: HashSet<&str> = stores.collect();
    let carries = |name: &str| carrying.contains(name);
    if carrying.is_empty() {
        return None;
    }
    // Who moved since is at home elsewhere; in a store that the model does not know, nobody can tell.
    let moved = |(row, said): (u32, &Profile)| said.store.as_deref().map(|name| (row, homes.values.find(name)));
    let moved: Vec<_> = model.state.described(Said::Store).filter_map(moved).collect();
    let mut rows = homes.rows.clone();
    if !moved.is_empty() {
        let mut now = rows.to_vec();
        moved.into_iter().for_each(|(row, store)| now[row as usize] = store.unwrap_or(NONE));
        rows = now.into();
    }
    Some((homes.values.iter().map(carries).collect(), rows))
}

fn habits(attributes: &Attributes, content: &ContentIndex) -> Vec<(usize, u32)> {
    let (mut level, mut band_level) = (0, 0);
    let mut place = |group: Group| match group {
        Group::Category => {
            level += 1;
            if level <= LEVELS { level - 1 } else { OTHER_LEVELS }
        }
        Group::Brand => BRAND,
        Group::BrandCategory => BRAND_CATEGORY,
        Group::PriceBand => {
            band_level += 1;
            PRICE_BAND + band_level - 1
        }
        Group::Tag | Group::Title => TAGS,
    };
    let features = attributes.habits().into_iter().map(|f| (place(f.group), f)).collect::<Vec<_>>();
    features.into_iter().filter_map(|(place, f)| Some((place, content.feature_row(f)?))).collect()
}

fn bands(attributes: &Attributes, content: &ContentIndex) -> Vec<(f32, u32)> {
    let own = attributes.price_band();
    let around = own.into_iter().flat_map(|own| (-BANDS..=BANDS).map(move |above| (above, own + above)));
    around
        .filter_map(|(above, band)| Some((above as f32, content.feature_row(attributes.in_price_band(band))?)))
        .collect()
}

/// What is bought by the buyers of similar products.
fn goes_with(model: &Model, analogues: &[Scored], allowed: impl Fn(u32) -> bool) -> Vec<Scored> {
    let by_member = &model.affinity.by_member;
    if by_member.rows.is_empty() {
        return Vec::new();
    }
    let mut sums = Scatter::take(model.products.len());
    let from = analogues.iter().take(EXPANDED_ANALOGUES).map(|a| (a.row, a.score));
    spread(by_member, from, &mut sums);
    let mut found = sums.best_to_keep(EXPANSION, allowed);
    found.sort_unstable();
    let best = found.first().map_or(1.0, |s| s.score);
    found.iter_mut().for_each(|s| s.score /= best);
    found
}

/// The mean vector of similar products, weighted by their cosine: the embedding of a product that nobody
/// bought.
pub fn mean_vector(embeddings: &Embeddings, analogues: &[Scored]) -> Vec<f32> {
    let mut mean = vec![0.0; embeddings.factors];
    let total: f32 = analogues.iter().map(|a| a.score).sum();
    for analogue in analogues.iter().filter(|_| total > 0.0) {
        add_scaled(&mut mean, analogue.score / total, embeddings.product(analogue.row));
    }
    mean
}

/// `Σ weight · signal`.
#[inline]
pub(super) fn weighed(weights: &Signals, signals: &Signals) -> f32 {
    weights.iter().zip(signals).map(|(weight, signal)| weight * signal).sum()
}

#[cfg(test)]
impl LaunchQuery {
    /// One of everything: its vectors; places and rows of habits; price bands; analogues, and what goes with them.
    pub(super) fn example(
        [vector, few_vector]: [Vec<f32>; 2],
        habits: Vec<(usize, u32)>,
        bands: Vec<(f32, u32)>,
        [analogues, goes_with]: [Vec<Scored>; 2],
        seeds: Seeds,
    ) -> Self {
        let prices = [0.5, -0.2, 0.3];
        let (carried, tags, scales, own) = (None, Some(TagLifts::example()), None, None);
        Self { vector, few_vector, habits, bands, prices, analogues, goes_with, carried, tags, scales, seeds, own }
    }
}
