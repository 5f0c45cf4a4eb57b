//! The main job: prepare → evaluate → fit → publish.

use std::path::PathBuf;

use kindred_models::artifact::{Registry, VersionId, Writer};
use kindred_models::indexing::build_indexes;
use kindred_models::model::ModelInfo;
use kindred_models::stop::Stop;
use kindred_models::{ArtifactError, Model};

use crate::config::{DataConfig, ValidConfig};
use crate::data::{Dataset, SetAside};
use crate::error::TrainError;
use crate::evaluate::{Evaluation, evaluate, html};
use crate::fit::{Earlier, Fitted, fit};
use crate::progress::Progress;
use crate::rank::Comparison;
use crate::slice::Slice;
use crate::tables::TimeUnit;

/// What a run gave.
#[derive(Debug)]
pub struct Trained {
    /// The version that was published.
    pub id: VersionId,
    /// The same in memory.
    pub model: Model,
    /// Offline metrics; without tasks where none were asked for.
    pub evaluation: Evaluation,
}

/// Reads the tables, fits and judges a model, and publishes it as the registry's current version.
/// `trained_at` is in unix seconds.
///
/// # Errors
/// If the tables can't be used, the version can't be written, or the run was stopped; then nothing is
/// published.
pub fn train(
    config: &ValidConfig,
    registry: &Registry,
    trained_at: i64,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Trained, TrainError> {
    // Before hours of work: the registry can be written to, and nobody else does.
    let mut writer = Writer::create(registry)?;
    let mut dataset = prepare(config, trained_at, progress)?;
    let mut earlier = Earlier::default();
    let aside = set_aside(config, &dataset, registry)?;
    let evaluation = judge(config, &mut dataset, registry, &mut earlier, progress, stop)?;
    if let Some(aside) = aside {
        dataset.events.list = aside.read().map_err(|e| ArtifactError::io(registry.folder(), e))?;
    }
    progress.start("fit", 0);
    let all = take_events(&mut dataset);
    let Fitted { mut model, scorers, launches } = fit(&dataset, all, config, &mut earlier, progress, stop)?;
    model.info.metrics = evaluation.metrics();
    model.info.metrics.extend(launches.metrics());
    model.info.metrics.extend(scorers.iter().flat_map(Comparison::metrics));
    model.info.parameters = parameters(config);
    (model.info.state_seq, model.info.state_store) = dataset.learned_state.clone().unzip();
    progress.finish(&format!("{}, {}", factors(&model, config), ranker(&model, config)));
    if !evaluation.is_of_nobody() && evaluation.scorers.is_empty() && !scorers.is_empty() {
        progress.warn(
            "what was judged had too little history for a ranker, and what is published has one that nobody judged",
        );
    }
    stop.check()?;
    progress.start("publish", 0);
    build_indexes(&mut model, &config.index);
    stop.check()?;
    if !evaluation.is_of_nobody() {
        let json = serde_json::to_vec_pretty(&evaluation).unwrap_or_default();
        writer.document("evaluation.json", &json)?;
        writer.document("evaluation.html", html(&evaluation).as_bytes())?;
    }
    let id = model.publish(writer, config.index.hnsw.ef_search, trained_at)?;
    progress.finish(&format!("version {id}"));
    Ok(Trained { id, model, evaluation })
}

pub(crate) fn prepare(config: &ValidConfig, now: i64, progress: &dyn Progress) -> Result<Dataset, TrainError> {
    progress.start("prepare", 0);
    let dataset = Dataset::read(&config.given.data, config.given.popularity.utc_offset_minutes, now, progress)?;
    let (events, members) = (dataset.events.list.len(), dataset.members.len());
    progress.finish(&format!("{events} events, {members} members, {} products", dataset.products.len()));
    for (table, rejects) in &dataset.rejects {
        if rejects.total() > 0 {
            progress.warn(&format!("{table}: {} of {} rows rejected\n{rejects}", rejects.total(), rejects.rows));
        }
    }
    dataset.notes.iter().for_each(|note| progress.warn(note));
    Ok(dataset)
}

/// Judges a model of the history before the last days, and publishes nothing; the model that is served is
/// judged beside it.
///
/// # Errors
/// If the tables can't be used, are of too short a history, or the run was stopped.
pub fn evaluate_only(
    config: &ValidConfig,
    registry: &Registry,
    now: i64,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Evaluation, TrainError> {
    let mut dataset = prepare(config, now, progress)?;
    let evaluation = judge(config, &mut dataset, registry, &mut Earlier::default(), progress, stop)?;
    if evaluation.is_of_nobody() { Err(TrainError::NothingToJudgeBy) } else { Ok(evaluation) }
}

/// The events, where an evaluation lets go of them: a model and the events of millions of members are much for one
/// memory.
fn set_aside(config: &ValidConfig, dataset: &Dataset, registry: &Registry) -> Result<Option<SetAside>, ArtifactError> {
    let write = || SetAside::write(&dataset.events.list, registry.folder());
    is_judged(config).then(write).transpose().map_err(|e| ArtifactError::io(registry.folder(), e))
}

fn is_judged(config: &ValidConfig) -> bool {
    config.given.evaluate.test_days > 0
}

/// Moves all events into a slice, so that dropping the slice frees them.
fn take_events(dataset: &mut Dataset) -> Slice {
    let all = Slice::all(dataset);
    dataset.events.list = Default::default();
    all
}

/// Judges a model that is fitted without the last days; does nothing if `evaluate.test_days` is 0. Takes the dataset's events,
/// which the caller reads back.
fn judge(
    config: &ValidConfig,
    dataset: &mut Dataset,
    registry: &Registry,
    earlier: &mut Earlier,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Evaluation, TrainError> {
    if !is_judged(config) {
        return Ok(Evaluation::default());
    }
    progress.start("evaluate", 0);
    let served = match registry.current() {
        Err(ArtifactError::NoCurrentVersion(_)) => None,
        current => Some(current.and_then(|id| Model::load(registry, &id)).map_err(|e| e.to_string())),
    };
    let all = take_events(dataset);
    let evaluation = evaluate(dataset, all, config, served, earlier, progress, stop)?;
    progress.finish(&summary(&evaluation));
    evaluation.surpassed().iter().for_each(|told| progress.warn(told));
    Ok(evaluation)
}

fn factors(model: &Model, config: &ValidConfig) -> String {
    let (factors, weight) = (config.embeddings.factors, model.embeddings.fit.objective.unobserved_weight);
    if weight == config.embeddings.unobserved_weight {
        return format!("{factors} factors");
    }
    let given = config.embeddings.unobserved_weight;
    format!(
        "{factors} factors, unobserved_weight {weight:.2e} as {given} left nothing of so few purchases of so many products"
    )
}

fn ranker(model: &Model, config: &ValidConfig) -> String {
    let fit = model.ranker.fit;
    match fit.horizon_days {
        0 if config.given.ranker.slices == 0 => "no ranker, as ranker.slices is 0".to_owned(),
        0 if config.given.data.events.time_unit == TimeUnit::None => "no ranker: events have no times".to_owned(),
        0 => "no ranker: too little history".to_owned(),
        days => format!("ranker: {} for repeats, {} for new, {days} days", fit.repeat, fit.fresh),
    }
}

fn summary(evaluation: &Evaluation) -> String {
    let metrics = evaluation.metrics();
    // Without times whole products of a member are held out: none of them was bought before.
    let (task, what) = if evaluation.cut_time == 0 { ("new", " of what is new") } else { ("all", "") };
    let metric = |ranking: &str| metrics.get(&format!("{ranking}.{task}.ndcg@10"));
    match (metric("feed"), metric("popularity")) {
        (Some(feed), Some(popularity)) => format!("nDCG@10{what} {feed:.4}, popularity {popularity:.4}"),
        _ => "nobody to judge by: no member bought before the days that are held out, and in them".to_owned(),
    }
}

/// The parameters that shaped the model, and how its tables were read; where they lay did not matter.
pub(crate) fn parameters(config: &ValidConfig) -> serde_json::Value {
    let mut given = config.given.clone();
    (given.data.root, given.data.state) = (PathBuf::new(), None);
    for table in [&mut given.data.events, &mut given.data.products, &mut given.data.members] {
        table.path = None;
    }
    serde_json::to_value(&given).unwrap_or_default()
}

/// How the tables of a version were read, so that later ones like them are read the same way.
pub fn data_config(info: &ModelInfo) -> DataConfig {
    let data = info.parameters.get("data").cloned().unwrap_or_default();
    serde_json::from_value(data).unwrap_or_default()
}
