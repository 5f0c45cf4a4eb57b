//! `kindred train`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use kindred_models::artifact::VersionId;
use kindred_models::stop::Stop;

use super::inputs::Tables;
use super::{Common, print};
use crate::config::Config;
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Learns a version from tables: prepare, fit, evaluate, publish. Prints its id and offline metrics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred train --config kindred.toml\n  \
    kindred train --events events.parquet --products products.parquet --members members.parquet --registry registry")]
pub(super) struct Train {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tables: Tables,
    /// Days held out at the end of history for the offline metrics; 0 to skip them [default: 28]
    #[arg(long, value_name = "DAYS")]
    test_days: Option<u32>,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Train {
    pub(super) fn run(self) -> Result<(), Error> {
        let mut config = self.common.load()?;
        self.tables.apply(&mut config)?;
        if let Some(days) = self.test_days {
            config.evaluate.test_days = days;
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads.unwrap_or(0)).build();
        let pool = pool.map_err(|e| Error::Usage(format!("--threads: {e}")))?;
        let stop = stop_flag();
        let (id, metrics) = pool.install(|| train(&config, &stop))?;
        if self.json {
            return print::json(&serde_json::json!({ "version": id.as_str(), "metrics": metrics }));
        }
        print::line(&id)?;
        print_metrics(&metrics)
    }
}

/// Offline metrics by name.
pub(super) type Metrics = std::collections::BTreeMap<String, f64>;

/// Trains and publishes; gives the version and its metrics.
pub(super) fn train(config: &Config, stop: &Stop) -> Result<(VersionId, Metrics), Error> {
    let valid = config.training().validate()?;
    let registry = config.registry()?;
    // A clock before 1970 is no clock.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let (id, model) = kindred_training::train::train(&valid, &registry, now, &Terminal::new(), stop)?;
    Ok((id, model.info.metrics))
}

/// The metrics as a table: feeds against popularity, and launches.
pub(super) fn print_metrics(metrics: &Metrics) -> Result<(), Error> {
    let value = |name: String| metrics.get(&name).map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
    if metrics.contains_key("feed.all.ndcg@10") {
        let rows = ["all", "new"].into_iter().flat_map(|task| {
            [("feed", "feed"), ("popularity", "popularity")].map(|(label, source)| {
                let ndcg = value(format!("{source}.{task}.ndcg@10"));
                vec![task.to_owned(), label.to_owned(), ndcg, value(format!("{source}.{task}.recall@20"))]
            })
        });
        print::table(&["task", "ranking", "nDCG@10", "recall@20"], rows)?;
    }
    match metrics.get("launch.launches") {
        Some(launches) if *launches > 0.0 => print::line(format!(
            "{launches} launches: AUC {}, recall@10% {}, lift@1% {}",
            value("launch.auc".to_owned()),
            value("launch.recall@10%".to_owned()),
            value("launch.lift@1%".to_owned())
        )),
        _ => Ok(()),
    }
}
