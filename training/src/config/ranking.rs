//! How candidates are ranked, indexed and judged.

use kindred_models::index::{HnswParams, IndexParams};
use serde::{Deserialize, Serialize};

use super::{InvalidParameter, check};

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
            slices: 6,
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
    pub(super) fn validate(&self) -> Result<(), InvalidParameter> {
        let days = 1..=365;
        check("ranker.horizon_days", self.horizon_days, days.contains(&self.horizon_days), "must be from 1 to 365")?;
        check("ranker.step_days", self.step_days, days.contains(&self.step_days), "must be from 1 to 365")?;
        check("ranker.slices", self.slices, self.slices <= 24, "must be from 0 to 24")?;
        check("ranker.trees", self.trees, (1..=1000).contains(&self.trees), "must be from 1 to 1000")?;
        let (rate, l2, leaf) = (self.learning_rate, self.l2, self.min_leaf_weight);
        check("ranker.learning_rate", rate, rate > 0.0 && rate <= 1.0, "must be above 0, up to 1")?;
        check("ranker.l2", l2, (0.0..=1e9).contains(&l2), "must be from 0 to 1e9")?;
        check("ranker.min_leaf_weight", leaf, (0.0..=1e9).contains(&leaf), "must be from 0 to 1e9")?;
        // To learn no ranker, there is `slices` 0.
        check("ranker.max_rows", self.max_rows, self.max_rows > 0, "must be 1 or above")?;
        check("ranker.max_members", self.max_members, self.max_members > 0, "must be 1 or above")
    }
}

/// How the launch model is learned, as the config file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LaunchParams {
    /// Days from its launch within which a purchase counts, 1 to 365.
    pub horizon_days: u32,
    /// Moments of the past that launches are replayed at, 0 to 100; 0 for a fixed sum of signals.
    pub replays: u32,
    /// Days between two of them, 1 to 365: members are described as of up to so many days before a launch.
    pub step_days: u32,
    /// Buyers within the horizon from which a product counts as a launch, 1 or more.
    pub min_buyers: u32,
    /// Launches from which the number of buyers of new products to expect can be said, 1 or more.
    pub min_launches: u32,
    /// Members that are replayed, at most.
    pub max_members: usize,
    /// Whether scores look at which tags members have who buy what is like the product. Tags may be of what a retailer will
    /// not choose people by, or made from purchases: as they have no dates, replays would know what came later.
    pub member_tags: bool,
}

impl Default for LaunchParams {
    fn default() -> Self {
        Self {
            horizon_days: 28,
            replays: 8,
            step_days: 14,
            min_buyers: 10,
            min_launches: 30,
            max_members: 200_000,
            member_tags: true,
        }
    }
}

impl LaunchParams {
    /// Whether a product with so many buyers within the horizon is a launch that numbers of buyers speak of.
    pub fn counts(&self, buyers: usize) -> bool {
        buyers >= self.min_buyers as usize
    }

    pub(super) fn validate(&self) -> Result<(), InvalidParameter> {
        let days = 1..=365;
        check("launch.horizon_days", self.horizon_days, days.contains(&self.horizon_days), "must be from 1 to 365")?;
        check("launch.step_days", self.step_days, days.contains(&self.step_days), "must be from 1 to 365")?;
        check("launch.replays", self.replays, self.replays <= 100, "must be from 0 to 100")?;
        check("launch.min_buyers", self.min_buyers, self.min_buyers > 0, "must be 1 or above")?;
        check("launch.min_launches", self.min_launches, self.min_launches > 0, "must be 1 or above")?;
        check("launch.max_members", self.max_members, self.max_members > 0, "must be 1 or above")
    }
}

/// How the offline metrics are measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateParams {
    /// Last days held out; 0 to skip the stage.
    pub test_days: u32,
    /// Members that are judged, evenly spaced, at most; 1 or more.
    pub max_members: usize,
    /// Launches that are judged, evenly spaced, at most, 1 or more; each is ranked for by all members several times.
    pub max_launches: usize,
}

impl Default for EvaluateParams {
    fn default() -> Self {
        Self { test_days: 28, max_members: 20_000, max_launches: 300 }
    }
}

/// The index, as the config file has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Half the links that a point has at most; 2 to 128.
    pub m: usize,
    /// Candidates while building; 1 to 10000.
    pub ef_construction: usize,
    /// Candidates while searching; 1 to 10000.
    pub ef_search: usize,
    /// A graph is built only if an exact search looks at so many vectors or more on average; below, that is faster.
    pub hnsw_min_points: usize,
    /// Vectors of a table up to which a graph is built: above, building takes too long.
    pub hnsw_max_points: usize,
    /// Recall that a graph must reach to serve.
    pub min_recall: f32,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construction: 100,
            ef_search: 200,
            hnsw_min_points: 15_000,
            hnsw_max_points: 1_000_000,
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
            hnsw_min_points: self.hnsw_min_points,
            hnsw_max_points: self.hnsw_max_points,
            min_recall: self.min_recall,
        })
    }
}
