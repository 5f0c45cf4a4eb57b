//! Fits the launch model: past launches, replayed.
//!
//! At several earlier moments the model is fitted to what came before alone. Products first sold in the days
//! that follow are asked for by their attributes, as a campaign tool would, and their buyers within the
//! horizon are what is learned from. Weights come from a conditional logit, what to expect of a launch from
//! how many buyers there were; both are judged on launches that they were not fitted to.

mod expectation;
mod logit;
pub(crate) mod prices;
mod replay;
mod seeds;
mod selling;
mod statics;
pub(crate) mod tags;

use kindred_models::events::DAY_SECONDS;
use std::collections::BTreeMap;

use kindred_models::launch::{Expectation, LaunchFit, OWN_SHARE, SeedFit, Signals, prior};
use kindred_models::stop::Stop;
use serde::{Deserialize, Serialize};

use crate::config::{LaunchParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::fit::{self, Described};
use crate::progress::Progress;
use crate::slice::Slice;
pub(crate) use expectation::{Foretold, summary};
use logit::PENALTY;
pub(crate) use replay::{Past, SEED_COUNTS, choose_seeds};
use seeds::Revealed;
pub(crate) use selling::selling;
pub(crate) use statics::statics;

/// Days of history before a moment without which there is nothing to learn from.
const MIN_HISTORY_DAYS: i64 = 14;

/// The fewest launches that weights for a number of seeds are learned from.
const MIN_SEEDED: usize = 10;

/// Past launches by the moment that they were replayed at.
pub(crate) type PastLaunches = BTreeMap<i64, Vec<Past>>;

/// How past launches were foretold by those before them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchReport {
    /// Launches that were replayed.
    pub launches: usize,
    /// Those foretold: enough others had ended before.
    pub foretold: usize,
    /// The middle launch's expected over actual buyers, of all members that were replayed.
    pub median_ratio: f64,
    /// The same of the tenth of the members most likely to buy.
    pub median_ratio_of_head: f64,
    /// Share of launches whose buyers were within the 10–90% interval.
    pub coverage: f64,
    /// The same of the tenth of the members.
    pub coverage_of_head: f64,
    /// The interval's end over its start, for the middle launch.
    pub width: f64,
}

impl LaunchReport {
    /// The values by name: `launch.replay.coverage`, ….
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([("launches", self.launches as f64), ("foretold", self.foretold as f64)]);
        if self.foretold > 0 {
            metrics.extend([
                ("median_ratio", self.median_ratio),
                ("median_ratio_of_head", self.median_ratio_of_head),
                ("coverage", self.coverage),
                ("coverage_of_head", self.coverage_of_head),
                ("width", self.width),
            ]);
        }
        metrics.into_iter().map(|(name, value)| (format!("launch.replay.{name}"), value)).collect()
    }
}

/// Learns weights and what to expect from all launches of a slice; the deviations of signals are the caller's to
/// measure. Launches that another slice replayed at the same moments are used again.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised, [`TrainError::Diverged`] if the embeddings do not settle.
pub(crate) fn fit(
    dataset: &Dataset,
    described: &Described,
    slice: &Slice,
    config: &ValidConfig,
    past: &mut PastLaunches,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<(LaunchFit, LaunchReport), TrainError> {
    let params = &config.given.launch;
    let cuts = cuts(slice, config);
    for cut in &cuts {
        if !past.contains_key(cut) {
            let mut model =
                fit::as_of(dataset, described, &slice.until(*cut).thinned(params.max_members), config, progress, stop)?;
            let deviations = fit::deviations(&model, &described.attributes);
            model.launch.fit = LaunchFit { deviations, own_share: OWN_SHARE, ..LaunchFit::default() };
            past.insert(*cut, replay::at(&model, slice, dataset, params, *cut, stop)?);
            progress.part("launches of one moment");
        }
    }
    let moments: Vec<(i64, &[Past])> = cuts.iter().map(|cut| (*cut, past[cut].as_slice())).collect();
    let all = || moments.iter().flat_map(|(_, launches)| launches.iter());
    let counted = all().filter(|launch| params.counts(launch.buyers));
    let mut report = LaunchReport { launches: counted.clone().count(), ..LaunchReport::default() };
    let mut learned = LaunchFit::default();
    // Launches without a buyer in the sample tell how many buy, but not who.
    if counted.filter(|launch| launch.choice().is_some()).count() < params.min_launches as usize {
        return Ok((learned, report));
    }
    expectation::foretell(&moments, params, &mut report);
    let (weights, mut expectation) = learn(&moments, params);
    expectation.known = selling::learn(dataset, slice, params, &expectation, &cuts);
    learned.seeds = learn_seeds(&moments, &weights);
    (learned.learned, learned.expectation) = (Some(weights), Some(expectation));
    Ok((learned, report))
}

/// Weights and what to expect, from launches by the moment that they were replayed at.
fn learn(moments: &[(i64, &[Past])], params: &LaunchParams) -> (Signals, Expectation) {
    let all: Vec<_> = moments.iter().flat_map(|(_, launches)| launches.iter().filter_map(Past::choice)).collect();
    let deviations = logit::deviations(&all);
    let weights = logit::fit(&all, &deviations, &prior(), PENALTY);
    // How sure the scores may be, from launches of moments that they were not fitted to.
    let mut unseen = Vec::new();
    for (cut, launches) in moments.iter().filter(|_| moments.len() > 1) {
        let others = moments.iter().filter(|(c, _)| c != cut).flat_map(|(_, l)| l.iter().filter_map(Past::choice));
        let others: Vec<_> = others.collect();
        if !others.is_empty() && !launches.is_empty() {
            let weights = logit::fit(&others, &deviations, &prior(), PENALTY);
            unseen.extend(launches.iter().filter(|l| l.bought > 0).map(|launch| launch.scored(&weights)));
        }
    }
    let slope = logit::slope(&unseen);
    (weights.map(|w| w * slope), expectation::fit(moments, params))
}

/// Weights of the signals of seeds, by their number, beside the weights of launches.
fn learn_seeds(moments: &[(i64, &[Past])], weights: &Signals) -> Vec<SeedFit> {
    let launches = || moments.iter().flat_map(|(cut, launches)| launches.iter().map(move |launch| (*cut, launch)));
    let of = |seeds: usize| {
        let revealed: Vec<Revealed<'_>> =
            launches().filter_map(|(cut, launch)| Revealed::new(cut, launch, seeds, weights)).collect();
        (revealed.len() >= MIN_SEEDED).then(|| SeedFit { seeds: seeds as u32, weights: seeds::fit(&revealed) })
    };
    SEED_COUNTS.into_iter().filter_map(of).collect()
}

/// Moments to replay at, the latest first: each launch found in the step that follows has a whole horizon.
fn cuts(slice: &Slice, config: &ValidConfig) -> Vec<i64> {
    let params = &config.given.launch;
    if !slice.has_time() {
        return Vec::new();
    }
    let first = slice.start();
    let cut = |k: u32| slice.as_of - i64::from(params.horizon_days + (k + 1) * params.step_days) * DAY_SECONDS;
    (0..params.replays).map(cut).take_while(|cut| *cut - first >= MIN_HISTORY_DAYS * DAY_SECONDS).collect()
}
