//! The main job: prepare → fit → evaluate → publish.

use std::path::PathBuf;

use kindred_models::Model;
use kindred_models::artifact::{Registry, VersionId, Writer};
use kindred_models::indexing::build_indexes;
use kindred_models::model::ModelInfo;
use kindred_models::stop::Stop;

use crate::config::{DataConfig, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::evaluate::{Evaluation, evaluate};
use crate::fit::fit;
use crate::prepare::Slice;
use crate::progress::Progress;

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
) -> Result<(VersionId, Model), TrainError> {
    // Before hours of work: the registry can be written to, and nobody else does.
    let writer = Writer::create(registry)?;
    let dataset = prepare(config, trained_at, progress)?;
    let epochs = config.embeddings.epochs as u64;
    let mut evaluation = Evaluation::default();
    if config.given.evaluate.test_days > 0 {
        progress.start("evaluate", epochs);
        evaluation = evaluate(&dataset, config, progress, stop)?;
        progress.finish(&summary(&evaluation));
    }
    progress.start("fit", epochs);
    let mut model = fit(&dataset, &Slice::all(&dataset), config, progress, stop)?;
    model.launch.fit.calibration = evaluation.calibration;
    model.info.metrics = evaluation.metrics;
    model.info.parameters = parameters(config);
    progress.finish(&format!("{} factors", config.embeddings.factors));
    stop.check()?;
    progress.start("publish", 0);
    build_indexes(&mut model, &config.index);
    stop.check()?;
    let id = model.publish(writer, config.index.hnsw.ef_search, trained_at)?;
    progress.finish(&format!("version {id}"));
    Ok((id, model))
}

fn prepare(config: &ValidConfig, now: i64, progress: &dyn Progress) -> Result<Dataset, TrainError> {
    progress.start("prepare", 0);
    let dataset = Dataset::read(&config.given.data, now, progress)?;
    let (events, members) = (dataset.events.list.len(), dataset.members.len());
    progress.finish(&format!("{events} events, {members} members, {} products", dataset.products.len()));
    for (table, rejects) in &dataset.rejects {
        if rejects.total() > 0 {
            progress.warn(&format!("{table}: {} of {} rows rejected\n{rejects}", rejects.total(), rejects.rows));
        }
    }
    Ok(dataset)
}

fn summary(evaluation: &Evaluation) -> String {
    let metric = |name: &str| evaluation.metrics.get(name).copied();
    match (metric("feed.all.ndcg@10"), metric("popularity.all.ndcg@10")) {
        (Some(feed), Some(popularity)) => format!("nDCG@10 {feed:.4}, popularity {popularity:.4}"),
        _ => "too little history to hold some out".to_owned(),
    }
}

/// The parameters that shaped the model, and how its tables were read; where they lay did not matter.
fn parameters(config: &ValidConfig) -> serde_json::Value {
    let mut given = config.given.clone();
    given.data.root = PathBuf::new();
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
