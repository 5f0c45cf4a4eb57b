//! Searches for the parameters of a source that rank best.
//!
//! Each trial fits the source alone to the history before a validation window and ranks, for every member,
//! all products that the member never bought: what was bought before is the repeat model's to find. The
//! window lies before the days that `evaluate` holds out, so that those judge what was never looked at. A
//! few trials are drawn from the whole space, the later ones change the best so far step by step.

mod space;
mod trials;

use std::collections::HashSet;
use std::path::Path;

use kindred_models::affinity::spread;
use kindred_models::catalogue::Members;
use kindred_models::history::History;
use kindred_models::kernels::dot;
use kindred_models::ranking::Top;
use kindred_models::scatter::Scatter;
use kindred_models::sparse::Matrix;
use kindred_models::stop::Stop;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use space::Parameters;
pub use trials::{Trial, TrialsError};

use crate::affinity;
use crate::config::{TrainConfig, ValidConfig};
use crate::data::{Dataset, Event};
use crate::error::TrainError;
use crate::evaluate::{Estimate, Judged, PAGE, Task, split, summarize, thin, truths};
use crate::prepare;
use crate::progress::{Progress, Quiet};
use crate::slice::Slice;
use crate::train::{parameters, prepare};
use space::{Dimension, propose, space};
use trials::Trials;

/// Which source is tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The embeddings.
    Embeddings,
    /// The item–item model by member.
    Affinity,
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// What is not searched for stays as it is here.
    pub config: TrainConfig,
    /// Whose parameters are searched for.
    pub source: Source,
    /// Trials altogether, those of earlier runs counted.
    pub trials: u64,
    /// Days judged by, before those that `evaluate` holds out.
    pub validation_days: u32,
    /// Length of a vector, at most.
    pub max_factors: usize,
    /// Where the trials are kept.
    pub trials_file: &'a Path,
}

/// Runs the trials that are still to be run. `on_best` hears of the config whenever it is the best so far,
/// with its trial.
///
/// # Errors
/// If the tables can't be used or hold too little to judge by, the trials can't be kept, or the run was
/// stopped; trials that ended are kept.
pub fn tune(
    search: &Search<'_>,
    now: i64,
    on_best: &mut dyn FnMut(&TrainConfig, &Trial) -> std::io::Result<()>,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Vec<Trial>, TrainError> {
    let given = search.config.clone().validate()?;
    let dataset = prepare(&given, now, progress)?;
    let window = Window::of(&dataset, &given, search.validation_days).ok_or(TrainError::NothingNewToJudgeBy)?;
    let space = space(search.source, search.max_factors, window.slice.has_time());
    let mut trials = Trials::open(search.trials_file, &search.identity(&window, &given, &space))?;
    let mut tell = |best: &Trial| on_best(&with(&search.config, &best.parameters), best).map_err(TrialsError::Best);
    if let Some(best) = trials.best() {
        tell(best)?;
    }
    for number in trials.list.len() as u64..search.trials {
        let best = trials.best().map(|trial| &trial.parameters);
        let tried = |parameters: &Parameters| trials.list.iter().any(|trial| trial.parameters == *parameters);
        let parameters = match number {
            0 => current(&search.config, &space),
            _ => propose(&space, number, search.config.embeddings.seed, best, tried),
        };
        progress.start(&format!("trial {} of {}", number + 1, search.trials), 0);
        let ndcg_at_10 = window.judge(search, &parameters, stop)?;
        trials.add(Trial { number, parameters, ndcg_at_10 })?;
        progress.finish(&outcome(&trials));
        if let Some(best) = trials.best().filter(|best| best.number == number) {
            tell(best)?;
        }
    }
    Ok(trials.list)
}

fn outcome(trials: &Trials) -> String {
    let value = |trial: Option<&Trial>| {
        trial.and_then(|trial| trial.ndcg_at_10).map_or_else(|| "none".to_owned(), |e| format!("{:.4}", e.value))
    };
    let last = trials.list.last();
    let tried = last.iter().flat_map(|trial| &trial.parameters).map(|(name, value)| {
        let short = name.split_once('.').map_or(name.as_str(), |(_, short)| short);
        format!("{short} {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    let tried: Vec<String> = tried.collect();
    format!("nDCG@10 {}, best {}: {}", value(last), value(trials.best()), tried.join(", "))
}

impl Search<'_> {
    /// What trials must have in common to be compared: the data, and everything that is not searched for.
    fn identity(&self, window: &Window<'_>, given: &ValidConfig, space: &[Dimension]) -> Value {
        let mut config = parameters(given);
        for dimension in space {
            if let Some(place) = config.pointer_mut(&pointer(dimension.name)) {
                *place = Value::Null;
            }
        }
        json!({
            "source": self.source,
            "max_factors": self.max_factors,
            "validation_days": self.validation_days,
            "config": config,
            // Last by name too: a setting that differs explains why the window does.
            "window": {
                "as_of": window.slice.as_of,
                "events": window.digest,
                "consents": window.consents,
            },
        })
    }
}

/// The config with parameters of a trial.
fn with(config: &TrainConfig, parameters: &Parameters) -> TrainConfig {
    let mut value = as_written(config);
    for (name, parameter) in parameters {
        if let Some(place) = value.pointer_mut(&pointer(name)) {
            *place = parameter.clone();
        }
    }
    serde_json::from_value(value).unwrap_or_else(|_| config.clone())
}

/// What the config says of a space's parameters.
fn current(config: &TrainConfig, space: &[Dimension]) -> Parameters {
    let value = as_written(config);
    let of = |name: &str| value.pointer(&pointer(name)).cloned().unwrap_or_default();
    space.iter().map(|dimension| (dimension.name.to_owned(), of(dimension.name))).collect()
}

/// Where a parameter stands in the config as JSON.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('.', "/"))
}

/// By way of text: single-precision numbers as a person would write them.
fn as_written(config: &TrainConfig) -> Value {
    serde_json::to_string(config).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
}

/// What trials learn from, and what judges them.
struct Window<'a> {
    slice: Slice,
    members: &'a Members,
    products: usize,
    /// What was bought for the first time within the window, by member.
    truths: Vec<(u32, HashSet<u32>)>,
    /// Of all events on both sides.
    digest: String,
    /// A checksum of who may be learned from.
    consents: String,
}

impl<'a> Window<'a> {
    /// `None` where nobody with a history bought anything new.
    fn of(dataset: &'a Dataset, config: &ValidConfig, days: u32) -> Option<Self> {
        let params = &config.given.evaluate;
        let (all, seed) = (Slice::all(dataset), config.embeddings.seed);
        let before = if params.test_days == 0 { all } else { split(&all, params.test_days, seed).0 };
        let (slice, test) = split(&before, days, seed.wrapping_add(1));
        let members = &dataset.members;
        let history = prepare::history(&slice, members, &config.given);
        let mut truths = truths(&history, &test, Task::New);
        thin(&mut truths, params.max_members);
        let digest = digest(slice.events().chain(&test));
        let may_be_learned = |row| u8::from(dataset.members.consent(row).personalization);
        let consents: Vec<u8> = (0..dataset.members.len() as u32).map(may_be_learned).collect();
        let consents = blake3::hash(&consents).to_hex().to_string();
        let products = dataset.products.len();
        (!truths.is_empty()).then_some(Self { slice, members, products, truths, digest, consents })
    }

    /// How a trial does; `None` where it can't be fitted.
    fn judge(&self, search: &Search<'_>, parameters: &Parameters, stop: &Stop) -> Result<Option<Estimate>, TrainError> {
        let config = with(&search.config, parameters).validate()?;
        let history = prepare::history(&self.slice, self.members, &config.given);
        let judged = match search.source {
            Source::Embeddings => {
                let weights = Matrix { rows: history.rows.clone(), values: history.weights.clone() };
                let e = match crate::ials::fit(&weights, self.products, &config.embeddings, &Quiet, stop) {
                    Err(TrainError::Diverged) => return Ok(None),
                    fitted => fitted?,
                };
                let products = 0..self.products as u32;
                self.rank(&history, stop, |member, top| {
                    let vector = e.member(member);
                    products.clone().for_each(|product| top(product, dot(&vector, e.product(product))));
                })?
            }
            Source::Affinity => {
                let purchases = affinity::purchases(&history);
                let similar = affinity::fit(&purchases, self.products, &config.given.affinity, stop)?;
                self.rank(&history, stop, |member, top| {
                    let mut sums = Scatter::take(self.products);
                    let past = history.member(member).filter(|p| p.weight > 0.0);
                    spread(&similar, past.map(|p| (p.product, p.decayed.ln_1p())), &mut sums);
                    sums.each(top);
                })?
            }
        };
        Ok(summarize(&judged, self.products, config.embeddings.seed).get("ndcg@10").copied())
    }

    /// Ranks for every member what `score` names, but for what the member bought before.
    fn rank(
        &self,
        history: &History,
        stop: &Stop,
        score: impl Fn(u32, &mut dyn FnMut(u32, f32)) + Sync,
    ) -> Result<Vec<Judged>, TrainError> {
        let judge = |(member, truth): &(u32, HashSet<u32>)| {
            stop.check()?;
            let bought: HashSet<u32> = history.member(*member).filter(|p| p.count > 0).map(|p| p.product).collect();
            let mut top = Top::new(PAGE);
            score(*member, &mut |product, score| {
                if !bought.contains(&product) {
                    top.push(product, score);
                }
            });
            let ranking = top.into_sorted().iter().map(|s| s.row).collect();
            Ok(Judged::new(ranking, truth, |_| false))
        };
        self.truths.par_iter().map(judge).collect()
    }
}

/// A checksum of events.
fn digest<'a>(events: impl Iterator<Item = &'a Event>) -> String {
    let mut hasher = blake3::Hasher::new();
    for event in events {
        let Event { member, product, time, kind, .. } = *event;
        hasher.update(&member.to_le_bytes()).update(&product.to_le_bytes());
        hasher.update(&time.to_le_bytes()).update(&[kind as u8]);
    }
    hasher.finalize().to_hex().to_string()
}
