//! What a run is told: parsed low as the config file has it, validated once into types that can't be wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kindred_models::blend::Blend;
use kindred_models::embeddings::Objective;
use kindred_models::index::{HnswParams, IndexParams};
use serde::{Deserialize, Serialize};

use crate::tables::TimeUnit;

/// A parameter that is out of range, or a combination that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} = {value}: {rule}")]
pub struct InvalidParameter {
    /// The parameter, as the config file names it.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub rule: &'static str,
}

fn check<T: std::fmt::Display>(
    name: &'static str,
    value: T,
    holds: bool,
    rule: &'static str,
) -> Result<(), InvalidParameter> {
    if holds { Ok(()) } else { Err(InvalidParameter { name, value: value.to_string(), rule }) }
}

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Folder that the paths below are relative to.
    pub root: PathBuf,
    /// Share of a table's rows that may be rejected, 0 to 1.
    pub max_bad_row_share: f64,
    /// Who bought what, when.
    pub events: TableConfig,
    /// What is sold.
    pub products: TableConfig,
    /// Who buys.
    pub members: TableConfig,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            root: ".".into(),
            max_bad_row_share: 0.001,
            events: TableConfig::default(),
            products: TableConfig::default(),
            members: TableConfig::default(),
        }
    }
}

impl DataConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), InvalidParameter> {
        let share = self.max_bad_row_share;
        check("data.max_bad_row_share", share, (0.0..=1.0).contains(&share), "must be from 0 to 1")
    }
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableConfig {
    /// A file, a folder of files, or a glob; relative to `data.root`.
    pub path: Option<PathBuf>,
    /// The table's own names for Kindred's columns: one name, or, for a category, one per level.
    pub columns: BTreeMap<String, Names>,
    /// How the table writes its times.
    pub time_unit: TimeUnit,
}

impl TableConfig {
    /// The same, without what it says of columns that a table does not have: the table may use Kindred's
    /// own names.
    pub fn where_present(&self, present: &[String]) -> Self {
        let is_there = |names: &Names| names.list().iter().all(|name| present.contains(name));
        let columns = self.columns.iter().filter(|(_, names)| is_there(names));
        Self { columns: columns.map(|(ours, names)| (ours.clone(), names.clone())).collect(), ..self.clone() }
    }
}

/// One or several column names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several, joined.
    Several(Vec<String>),
}

impl Names {
    /// As a list.
    pub fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// How purchases become the weights of the embeddings' objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// `1 + ln(count)`; below one purchase, the count itself.
    #[default]
    Log,
    /// The count.
    Linear,
    /// 1, however often.
    Binary,
}

impl Weighting {
    /// The weight of a count above 0.
    pub fn weight(self, count: f32) -> f32 {
        match self {
            Self::Log if count >= 1.0 => 1.0 + count.ln(),
            Self::Log | Self::Linear => count,
            Self::Binary => count.min(1.0),
        }
    }
}

/// How much an event of each kind counts, where a purchase counts 1. Refunds take a purchase back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventWeights {
    /// Looked at.
    pub view: f32,
    /// Put into the cart.
    pub cart: f32,
    /// Marked as a favorite.
    pub favorite: f32,
    /// Shared.
    pub share: f32,
}

impl Default for EventWeights {
    fn default() -> Self {
        Self { view: 0.05, cart: 0.2, favorite: 0.2, share: 0.2 }
    }
}

/// Parameters of the embeddings, as the config file has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IalsParams {
    /// Length of a vector, 1 to 1024.
    pub factors: usize,
    /// Passes over both sides, 1 to 1000.
    pub epochs: usize,
    /// `α₀`: weight of a pair without a purchase, against 1 for a pair with one.
    pub unobserved_weight: f32,
    /// `λ`.
    pub regularization: f32,
    /// `ν`, 0 to 1.
    pub regularization_exponent: f32,
    /// How purchases add up.
    pub weighting: Weighting,
    /// Days after which a purchase counts half in the embeddings; 0 for never.
    pub half_life_days: f32,
    /// Seed of the first vectors.
    pub seed: u64,
}

impl Default for IalsParams {
    fn default() -> Self {
        Self {
            factors: 64,
            epochs: 12,
            unobserved_weight: 0.1,
            regularization: 0.01,
            regularization_exponent: 1.0,
            weighting: Weighting::Log,
            half_life_days: 0.0,
            seed: 1,
        }
    }
}

/// Parameters of the embeddings that were checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IalsValidParams(IalsParams);

impl IalsParams {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(self) -> Result<IalsValidParams, InvalidParameter> {
        let Self { factors, epochs, unobserved_weight: a, regularization: r, regularization_exponent: e, .. } = self;
        check("embeddings.factors", factors, (1..=1024).contains(&factors), "must be from 1 to 1024")?;
        check("embeddings.epochs", epochs, (1..=1000).contains(&epochs), "must be from 1 to 1000")?;
        check("embeddings.unobserved_weight", a, (1e-9..=1e9).contains(&a), "must be above 0, from 1e-9 to 1e9")?;
        check("embeddings.regularization", r, (1e-9..=1e9).contains(&r), "must be above 0, from 1e-9 to 1e9")?;
        check("embeddings.regularization_exponent", e, (0.0..=1.0).contains(&e), "must be from 0 to 1")?;
        check_half_life("embeddings.half_life_days", self.half_life_days)?;
        Ok(IalsValidParams(self))
    }
}

impl IalsValidParams {
    /// The objective to minimize.
    pub fn objective(&self) -> Objective {
        Objective {
            unobserved_weight: self.0.unobserved_weight,
            regularization: self.0.regularization,
            regularization_exponent: self.0.regularization_exponent,
        }
    }
}

impl std::ops::Deref for IalsValidParams {
    type Target = IalsParams;

    fn deref(&self) -> &IalsParams {
        &self.0
    }
}

fn check_half_life(name: &'static str, days: f32) -> Result<(), InvalidParameter> {
    check(name, days, (0.0..=36_500.0).contains(&days), "must be from 0 (never) to 36500")
}

/// The item–item models, as the config file has them; see [`crate::affinity::fit`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AffinityParams {
    /// Products kept per product, 0 to 1000; 0 for no such model.
    pub neighbours: usize,
    /// `a`: how much less a member, or a basket, of many products counts; 0 to 1.
    pub group_exponent: f32,
    /// `b`: how much a product's own size is divided out; 0 to 1.
    pub source_exponent: f32,
    /// `c`: the same of the product that it speaks for; 0 to 1.
    pub target_exponent: f32,
    /// Added to the denominator: pairs seen a few times count less; 0 or above.
    pub shrinkage: f32,
    /// Penalty of the regression of each product on those bought with it most, on the scale of cosines; 0
    /// for cosines instead.
    pub ridge: f32,
}

impl Default for AffinityParams {
    fn default() -> Self {
        Self {
            neighbours: 100,
            group_exponent: 0.5,
            source_exponent: 0.5,
            target_exponent: 0.3,
            shrinkage: 0.0,
            ridge: 0.3,
        }
    }
}

impl AffinityParams {
    fn validate(&self) -> Result<(), InvalidParameter> {
        check("affinity.neighbours", self.neighbours, self.neighbours <= 1000, "must be from 0 to 1000")?;
        for (name, exponent) in [
            ("affinity.group_exponent", self.group_exponent),
            ("affinity.source_exponent", self.source_exponent),
            ("affinity.target_exponent", self.target_exponent),
        ] {
            check(name, exponent, (0.0..=1.0).contains(&exponent), "must be from 0 to 1")?;
        }
        check("affinity.ridge", self.ridge, (0.0..=1e9).contains(&self.ridge), "must be 0 or above")?;
        check("affinity.shrinkage", self.shrinkage, (0.0..=1e9).contains(&self.shrinkage), "must be 0 or above")
    }
}

/// Members alike, as the config file has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeighbourParams {
    /// Members kept per member, 0 to 1000; 0 for no such model.
    pub count: usize,
    /// Members with purchases up to which they are looked for.
    pub max_members: usize,
}

impl Default for NeighbourParams {
    fn default() -> Self {
        Self { count: 100, max_members: 300_000 }
    }
}

/// How the ranker is learned, as the config file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankerParams {
    /// Days within which a purchase counts, 1 to 365.
    pub horizon_days: u32,
    /// Moments of the past that it learns from, 0 to 24; 0 for the fixed blend.
    pub slices: u32,
    /// Days between two of them, 1 to 365.
    pub step_days: u32,
    /// Members per moment that it learns from, at most.
    pub max_members: usize,
    /// Candidates per task that it learns from, about, besides those that were bought.
    pub max_rows: usize,
    /// Trees, 1 to 1000.
    pub trees: usize,
    /// What each tree corrects of what is left, above 0 to 1.
    pub learning_rate: f32,
    /// Penalty on the leaves' squares.
    pub l2: f32,
    /// Sum of `p (1 − p)` over the rows of a leaf, at least.
    pub min_leaf_weight: f32,
}

impl Default for RankerParams {
    fn default() -> Self {
        Self {
            horizon_days: 28,
            slices: 3,
            step_days: 28,
            max_members: 20_000,
            max_rows: 600_000,
            trees: 200,
            learning_rate: 0.1,
            l2: 20.0,
            min_leaf_weight: 20.0,
        }
    }
}

impl RankerParams {
    fn validate(&self) -> Result<(), InvalidParameter> {
        let days = 1..=365;
        check("ranker.horizon_days", self.horizon_days, days.contains(&self.horizon_days), "must be from 1 to 365")?;
        check("ranker.step_days", self.step_days, days.contains(&self.step_days), "must be from 1 to 365")?;
        check("ranker.slices", self.slices, self.slices <= 24, "must be from 0 to 24")?;
        check("ranker.trees", self.trees, (1..=1000).contains(&self.trees), "must be from 1 to 1000")?;
        let (rate, l2, leaf) = (self.learning_rate, self.l2, self.min_leaf_weight);
        check("ranker.learning_rate", rate, rate > 0.0 && rate <= 1.0, "must be above 0, up to 1")?;
        check("ranker.l2", l2, (0.0..=1e9).contains(&l2), "must be 0 or above")?;
        check("ranker.min_leaf_weight", leaf, (0.0..=1e9).contains(&leaf), "must be 0 or above")
    }
}

/// How purchases are counted for popularity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PopularityParams {
    /// Days after which a purchase counts half; 0 for never.
    pub half_life_days: f32,
    /// The same, for what is bought all the year.
    pub long_half_life_days: f32,
    /// The same, for the trend.
    pub short_half_life_days: f32,
    /// Minutes that the stores' clocks are ahead of UTC, for parts of the day; -1440 to 1440.
    pub utc_offset_minutes: i32,
}

impl Default for PopularityParams {
    fn default() -> Self {
        Self { half_life_days: 30.0, long_half_life_days: 180.0, short_half_life_days: 7.0, utc_offset_minutes: 0 }
    }
}

impl PopularityParams {
    fn validate(&self) -> Result<(), InvalidParameter> {
        check_half_life("popularity.half_life_days", self.half_life_days)?;
        check_half_life("popularity.long_half_life_days", self.long_half_life_days)?;
        check_half_life("popularity.short_half_life_days", self.short_half_life_days)?;
        let offset = self.utc_offset_minutes;
        check("popularity.utc_offset_minutes", offset, (-1440..=1440).contains(&offset), "must be from -1440 to 1440")
    }
}

/// Decay of a member's own counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepeatParams {
    /// Days after which a purchase counts half; 0 for never.
    pub half_life_days: f32,
    /// The same for what is recent.
    pub recent_half_life_days: f32,
}

impl Default for RepeatParams {
    fn default() -> Self {
        Self { half_life_days: 120.0, recent_half_life_days: 20.0 }
    }
}

/// How the offline metrics are measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateParams {
    /// Last days held out; 0 to skip the stage.
    pub test_days: u32,
    /// Members that are judged, evenly spaced, at most.
    pub max_members: usize,
    /// Buyers in the test window from which a product first sold there counts as a launch.
    pub min_launch_buyers: u32,
    /// Launches from which the number of buyers to expect can be said.
    pub min_launches: u32,
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { test_days: 28, max_members: 50_000, min_launch_buyers: 10, min_launches: 30 }
    }
}

/// The index, as the config file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Links per point; 2 to 128.
    pub m: usize,
    /// Candidates while building; 1 to 10000.
    pub ef_construction: usize,
    /// Candidates while searching; 1 to 10000.
    pub ef_search: usize,
    /// Points from which a graph is built: below, the exact scan is faster.
    pub hnsw_min_points: usize,
    /// Points up to which a graph is built: above, building takes longer than a night allows.
    pub hnsw_max_points: usize,
    /// Recall that a graph must reach to serve.
    pub min_recall: f32,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 200,
            ef_search: 200,
            hnsw_min_points: 20_000,
            hnsw_max_points: 300_000,
            min_recall: 0.95,
        }
    }
}

impl IndexConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(self) -> Result<IndexParams, InvalidParameter> {
        let range = 1..=10_000;
        check("index.m", self.m, (2..=128).contains(&self.m), "must be from 2 to 128")?;
        let ef = self.ef_construction;
        check("index.ef_construction", ef, range.contains(&ef), "must be from 1 to 10000")?;
        check("index.ef_search", self.ef_search, range.contains(&self.ef_search), "must be from 1 to 10000")?;
        let recall = self.min_recall;
        check("index.min_recall", recall, (0.0..=1.0).contains(&recall), "must be from 0 to 1")?;
        Ok(IndexParams {
            hnsw: HnswParams { m: self.m, ef_construction: self.ef_construction, ef_search: self.ef_search },
            hnsw_points: self.hnsw_min_points..=self.hnsw_max_points,
            min_recall: self.min_recall,
        })
    }
}

/// Everything that training is told, as the config file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Where the tables are.
    pub data: DataConfig,
    /// What events count.
    pub event_weights: EventWeights,
    /// The embeddings.
    pub embeddings: IalsParams,
    /// Decay of popularity.
    pub popularity: PopularityParams,
    /// Decay of a member's own counts.
    pub repeat: RepeatParams,
    /// Products bought together.
    pub affinity: AffinityParams,
    /// Members alike.
    pub neighbours: NeighbourParams,
    /// How a feed's sources are mixed where no ranker is learned, or none is better.
    pub feed: Blend,
    /// What candidates are worth.
    pub ranker: RankerParams,
    /// Offline metrics.
    pub evaluate: EvaluateParams,
    /// The index.
    pub index: IndexConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            data: DataConfig::default(),
            event_weights: EventWeights::default(),
            embeddings: IalsParams::default(),
            popularity: PopularityParams::default(),
            repeat: RepeatParams::default(),
            affinity: AffinityParams::default(),
            neighbours: NeighbourParams::default(),
            feed: Blend::default(),
            ranker: RankerParams::default(),
            evaluate: EvaluateParams::default(),
            index: IndexConfig::default(),
        }
    }
}

/// A [`TrainConfig`] that was checked.
#[derive(Clone, Debug)]
pub struct ValidConfig {
    /// As it was given.
    pub given: TrainConfig,
    /// The embeddings' parameters.
    pub embeddings: IalsValidParams,
    /// The index's parameters.
    pub index: IndexParams,
}

impl TrainConfig {
    /// Checks all ranges.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(self) -> Result<ValidConfig, InvalidParameter> {
        self.data.validate()?;
        let w = self.event_weights;
        for (name, weight) in [
            ("event_weights.view", w.view),
            ("event_weights.cart", w.cart),
            ("event_weights.favorite", w.favorite),
            ("event_weights.share", w.share),
        ] {
            check(name, weight, (0.0..=1.0).contains(&weight), "must be from 0 to 1")?;
        }
        self.popularity.validate()?;
        check_half_life("repeat.half_life_days", self.repeat.half_life_days)?;
        check_half_life("repeat.recent_half_life_days", self.repeat.recent_half_life_days)?;
        self.affinity.validate()?;
        let count = self.neighbours.count;
        check("neighbours.count", count, count <= 1000, "must be from 0 to 1000")?;
        self.ranker.validate()?;
        for (name, weight) in [
            ("feed.repeat", self.feed.repeat),
            ("feed.taste", self.feed.taste),
            ("feed.affinity", self.feed.affinity),
            ("feed.neighbours", self.feed.neighbours),
            ("feed.popularity", self.feed.popularity),
        ] {
            check(name, weight, (0.0..=1e6).contains(&weight), "must be 0 or above")?;
        }
        let days = self.evaluate.test_days;
        check("evaluate.test_days", days, days <= 3650, "must be from 0 to 3650")?;
        Ok(ValidConfig { embeddings: self.embeddings.validate()?, index: self.index.validate()?, given: self })
    }
}
