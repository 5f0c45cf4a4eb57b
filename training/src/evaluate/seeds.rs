//! What seeds are worth: launches ranked with some of their buyers known, against the same without.

use kindred_models::Model;
use kindred_models::launch::LaunchQuery;
use kindred_models::stop::{Stop, Stopped};
use serde::{Deserialize, Serialize};

use super::launches::Launch;
use super::metrics::{Estimate, mean};
use super::standing::Standing;
use crate::launches::{SEED_COUNTS, choose_seeds};

/// Share of the members that an audience has here.
const HEAD: f64 = 0.1;

/// The others among a launch's buyers, found with and without so many seeds; means over launches, with 95%
/// intervals of the paired difference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    /// Buyers revealed.
    pub seeds: usize,
    /// Launches with other buyers besides.
    pub launches: usize,
    /// Recall@10% without them.
    pub recall_without: f64,
    /// What recall@10% gains by them.
    pub recall_gain: Estimate,
    /// Area under the curve without them.
    pub auc_without: f64,
    /// What it gains by them.
    pub auc_gain: Estimate,
}

/// Judges every launch with every number of seeds; `active` are the members to rank.
pub(super) fn judge(
    model: &Model,
    launches: &[Launch],
    active: &[u32],
    seed: u64,
    stop: &Stop,
) -> Result<Vec<SeedReport>, Stopped> {
    // By launch: without seeds and with them, recall and area under the curve of the other buyers, among members who are no seeds.
    let mut pairs: [Vec<[[f64; 2]; 2]>; SEED_COUNTS.len()] = Default::default();
    for launch in launches {
        let attributes = model.products.attributes(launch.product);
        let query = LaunchQuery::from_attributes(model, &attributes, |row| row != launch.product);
        let without = model.launch.score_all(&[&query], &model.embeddings, stop)?.remove(0);
        let buyers = &launch.buyers;
        for (seeds, pairs) in SEED_COUNTS.into_iter().zip(&mut pairs).filter(|(seeds, _)| *seeds < buyers.len()) {
            let is_seed = choose_seeds(launch.product, buyers, seeds);
            let of = |wanted: bool| -> Vec<u32> {
                buyers.iter().zip(&is_seed).filter(|(_, is)| **is == wanted).map(|(m, _)| *m).collect()
            };
            let (seeds, others) = (of(true), of(false));
            let with = query.clone().with_seeds(&seeds, model);
            let with = model.launch.score_all(&[&with], &model.embeddings, stop)?.remove(0);
            let standings = [&without, &with].map(|scores| Standing::new(scores, active, &seeds, &others));
            if standings[0].tells() {
                pairs.push(
                    standings.map(|standing| [standing.recall(standing.head(HEAD)), standing.area_under_curve()]),
                );
            }
        }
    }
    let report = |(seeds, pairs): (usize, Vec<[[f64; 2]; 2]>)| {
        let column = |k: usize, with: usize| pairs.iter().map(move |pair| pair[with][k]);
        let gain = |k: usize| mean(&column(k, 1).zip(column(k, 0)).map(|(a, b)| a - b).collect::<Vec<f64>>(), seed);
        let mean_of = |k: usize| column(k, 0).sum::<f64>() / pairs.len() as f64;
        SeedReport {
            seeds,
            launches: pairs.len(),
            recall_without: mean_of(0),
            recall_gain: gain(0),
            auc_without: mean_of(1),
            auc_gain: gain(1),
        }
    };
    Ok(SEED_COUNTS.into_iter().zip(pairs).filter(|(_, pairs)| !pairs.is_empty()).map(report).collect())
}
