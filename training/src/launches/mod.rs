//! Fits the launch model: past launches, replayed.
//!
//! At several earlier moments the model is fitted to what came before alone. Products first sold in the days
//! that follow are asked for by their attributes, as a campaign tool would, and their buyers within the
//! horizon are what is learned from; where there are few, so are products that sold already, asked for as if they were
//! launched then, and the members who tried them. Weights come from a conditional logit, what to
//! expect of a launch from how many buyers there were; both are judged on launches that they were not fitted to.

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

use kindred_models::launch::{BOUGHT, Known, LaunchFit, OWN_SHARE, SIGNALS, SeedFit, Signals, prior};
use kindred_models::stop::{Stop, Stopped};
use serde::{Deserialize, Serialize};

use crate::config::{LaunchParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::fit::{self, Described};
use crate::progress::Progress;
use crate::slice::Slice;
pub(crate) use expectation::{Foretold, summary};
use logit::{Choice, PENALTY};
use replay::Past;
pub(crate) use replay::{Replayed, SEED_COUNTS, choose_seeds};
use seeds::Revealed;
pub(crate) use selling::selling;
pub(crate) use statics::{launch_times, statics};

/// Days of history before a moment without which there is nothing to learn from.
const MIN_HISTORY_DAYS: i64 = 14;

/// The fewest launches that weights for a number of seeds are learned from.
const MIN_SEEDED: usize = 10;

/// What launch scores are multiplied by for known products, at least and at most.
const LEAST_SLOPE: f32 = 0.2;
const MOST_SLOPE: f32 = 2.0;

/// Launches from which trials of other products teach nothing more of who buys one: they are nearly the same thing. Of
/// what seeds are worth they do, as few launches have thirty buyers.
const ENOUGH_LAUNCHES: usize = 500;

/// Launches and trials below which nothing is learned of who buys, unless fewer launches say how many do.
const MIN_CHOICES: usize = 10;

/// Penalty on how known products differ from launches, per standard deviation.
const KNOWN_PENALTY: f64 = 25.0;

/// Past launches by the moment that they were replayed at.
pub(crate) type PastLaunches = BTreeMap<i64, Replayed>;

/// How past launches were foretold by those before them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LaunchReport {
    /// Launches that were replayed.
    pub launches: usize,
    /// As many as it takes to say how many will buy.
    #[serde(default)]
    pub needed: usize,
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

/// What was asked for at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    cut: i64,
    launches: &'a [Past],
    /// As [`Replayed::trials`].
    trials: &'a [Past],
}

impl Moment<'_> {
    /// Launches, and trials if told, as choices to learn from.
    fn choices(&self, with_trials: bool) -> impl Iterator<Item = Choice<'_, { SIGNALS.len() }>> {
        let trials = self.trials.iter().filter(move |_| with_trials);
        self.launches.iter().chain(trials).filter_map(Past::choice)
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
            let launches = replay::at(&model, slice, dataset, params, *cut, stop)?;
            let sold = replay::Sold::new(&model, slice, params, *cut);
            let (trials, known) = (sold.trials(&model, params, stop)?, sold.known(&model, params, stop)?);
            past.insert(*cut, Replayed { launches, trials, known });
            progress.part("launches of one moment");
        }
    }
    let of_cut = |cut: &i64| Moment { cut: *cut, launches: &past[cut].launches, trials: &past[cut].trials };
    let moments: Vec<Moment<'_>> = cuts.iter().map(of_cut).collect();
    let counted = moments.iter().flat_map(|moment| moment.launches).filter(|launch| params.counts(launch.buyers));
    let needed = params.min_launches as usize;
    let mut report = LaunchReport { launches: counted.clone().count(), needed, ..LaunchReport::default() };
    let mut learned = LaunchFit { learned: learn(&moments, params, stop)?, ..LaunchFit::default() };
    let weights = learned.weights();
    learned.seeds = learn_seeds(&moments, &weights);
    // Launches without a buyer in the sample tell how many buy, but not who.
    if counted.filter(|launch| launch.bought > 0).count() >= needed {
        expectation::foretell(&moments, params, &mut report, stop)?;
        learned.expectation = Some(expectation::fit(&moments, params));
    }
    let sales = selling::learn(dataset, slice, params, &cuts);
    let known: Vec<&Past> = cuts.iter().flat_map(|cut| &past[cut].known).collect();
    let (slope, own) = learn_known(&known, &weights);
    let horizon_days = params.horizon_days;
    learned.known = sales.map(|(log_bias, spread)| Known { horizon_days, log_bias, spread, slope, own });
    Ok((learned, report))
}

/// Weights, from what was asked for by moment; `None` where that was hardly anything.
fn learn(moments: &[Moment<'_>], params: &LaunchParams, stop: &Stop) -> Result<Option<Signals>, Stopped> {
    let with_trials = moments.iter().map(|moment| moment.launches.len()).sum::<usize>() < ENOUGH_LAUNCHES;
    let choices = |moment| Moment::choices(moment, with_trials);
    let all: Vec<_> = moments.iter().flat_map(choices).collect();
    if all.len() < MIN_CHOICES.min(params.min_launches as usize) {
        return Ok(None);
    }
    let deviations = logit::deviations(&all);
    let weights = logit::fit(&all, &deviations, &prior(), PENALTY, None);
    // How sure the scores may be, from launches, or else trials, of moments that they were not fitted to.
    let has_launches = moments.iter().any(|moment| !moment.launches.is_empty());
    let mut unseen = Vec::new();
    for moment in moments {
        let judged = if has_launches { moment.launches } else { moment.trials };
        let others: Vec<_> = moments.iter().filter(|other| other.cut != moment.cut).flat_map(choices).collect();
        if !others.is_empty() && !judged.is_empty() {
            stop.check()?;
            let weights = logit::fit(&others, &deviations, &prior(), PENALTY, Some(&weights));
            unseen.extend(judged.iter().filter(|past| past.bought > 0).map(|past| past.scored(&weights)));
        }
    }
    let slope = logit::slope(&unseen);
    Ok(Some(weights.map(|w| w * slope)))
}

/// How scores learned of launches are to be taken for products that were sold before: what they are multiplied by, and what
/// purchases of the product itself count.
fn learn_known(known: &[&Past], weights: &Signals) -> (f32, f32) {
    let rows = |past: &&Past| -> Vec<[f32; 2]> {
        let scores = past.scored(weights).scores;
        scores.into_iter().zip(&past.rows).map(|(score, row)| [score, row[BOUGHT]]).collect()
    };
    let rows: Vec<Vec<[f32; 2]>> = known.iter().map(rows).collect();
    let choice = |(past, rows)| {
        let (past, rows): (&&Past, &Vec<[f32; 2]>) = (past, rows);
        Choice { rows, offsets: &[], bought: past.bought, weight: past.weight }
    };
    let choices: Vec<Choice<'_, 2>> = known.iter().zip(&rows).map(choice).collect();
    let deviations = logit::deviations(&choices);
    let [slope, own] = logit::fit(&choices, &deviations, &[deviations[0], 0.0], KNOWN_PENALTY, None);
    // Who bought it is not kept from it, and who would is not turned around.
    (slope.clamp(LEAST_SLOPE, MOST_SLOPE), own.max(0.0))
}

/// Weights of the signals of seeds, by their number, beside the weights of launches.
fn learn_seeds(moments: &[Moment<'_>], weights: &Signals) -> Vec<SeedFit> {
    let launches = || moments.iter().flat_map(|m| m.launches.iter().chain(m.trials).map(|launch| (m.cut, launch)));
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
    let cut = |k: u32| slice.bought_until() - i64::from(params.horizon_days + (k + 1) * params.step_days) * DAY_SECONDS;
    (0..params.replays).map(cut).take_while(|cut| *cut - first >= MIN_HISTORY_DAYS * DAY_SECONDS).collect()
}

#[cfg(test)]
mod tests {
    use kindred_models::launch::NO_SIGNALS;

    use super::*;

    #[test]
    fn who_bought_it_buys_it_again_where_they_did() {
        // Of ten buyers five had bought it, of two hundred others ten; the first signal tells one of both from the rest.
        let row = |score: f32, bought: f32| {
            let mut row = NO_SIGNALS;
            (row[0], row[BOUGHT]) = (score, bought);
            row
        };
        let past = |share: usize| {
            let buyers = (0..10).map(|i| row((i % 2) as f32, f32::from(u8::from(i < share))));
            let others = (0..200).map(|i| row((i % 20 == 0) as u8 as f32, f32::from(u8::from(i % 20 == 1))));
            Past {
                category: String::new(),
                members: 210,
                buyers: 10,
                rows: buyers.chain(others).collect(),
                bought: 10,
                weight: 1.0,
                seeded: Vec::new(),
            }
        };
        let mut weights = NO_SIGNALS;
        weights[0] = 1.0;
        let learned = |share: usize| {
            let past: Vec<Past> = (0..40).map(|_| past(share)).collect();
            learn_known(&past.iter().collect::<Vec<_>>(), &weights)
        };
        let (slope, own) = learned(5);
        assert!(slope > 1.5 && own > 1.5, "{slope} {own}");
        assert_eq!(learned(0).1, 0.0, "nobody does");
        assert_eq!(learn_known(&[], &weights), (1.0, 0.0));
    }
}
