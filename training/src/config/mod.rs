//! What a run is told: parsed low as the config file has it, validated once into types that can't be wrong.

mod data;
mod ranking;
mod sources;

pub use data::{DataConfig, Names, TableConfig};
use kindred_models::blend::Blend;
use kindred_models::index::IndexParams;
pub use ranking::{EvaluateParams, IndexConfig, LaunchParams, RankerParams};
use serde::{Deserialize, Serialize};
use sources::check_half_life;
pub use sources::{
    AffinityParams, EventWeights, IalsParams, IalsValidParams, NeighbourParams, PopularityParams, RepeatParams,
    Weighting,
};

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

pub(crate) fn check<T: std::fmt::Display>(
    name: &'static str,
    value: T,
    holds: bool,
    rule: &'static str,
) -> Result<(), InvalidParameter> {
    if holds { Ok(()) } else { Err(InvalidParameter { name, value: value.to_string(), rule }) }
}

/// Everything that training is told, as the config file has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Who buys what is launched.
    pub launch: LaunchParams,
    /// Offline metrics.
    pub evaluate: EvaluateParams,
    /// The index.
    pub index: IndexConfig,
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
        self.launch.validate()?;
        for (name, weight) in [
            ("feed.repeat", self.feed.repeat),
            ("feed.taste", self.feed.taste),
            ("feed.affinity", self.feed.affinity),
            ("feed.neighbours", self.feed.neighbours),
            ("feed.popularity", self.feed.popularity),
        ] {
            check(name, weight, (0.0..=1e6).contains(&weight), "must be from 0 to 1e6")?;
        }
        let days = self.evaluate.test_days;
        check("evaluate.test_days", days, days <= 3650, "must be from 0 to 3650")?;
        let EvaluateParams { max_members, max_launches, .. } = self.evaluate;
        check("evaluate.max_members", max_members, max_members > 0, "must be 1 or above")?;
        check("evaluate.max_launches", max_launches, max_launches > 0, "must be 1 or above")?;
        Ok(ValidConfig { embeddings: self.embeddings.validate()?, index: self.index.validate()?, given: self })
    }
}
