//! `kindred train`.

use clap::Args;
use kindred_models::stop::Stop;
use kindred_training::train::Trained;

use super::evaluate::print_evaluation;
use super::inputs::Tables;
use super::{Common, print};
use crate::clock::unix_now;
use crate::config::Config;
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Learns a version from tables: prepare, evaluate, fit, publish. Prints its id and offline metrics.
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
        let stop = stop_flag();
        let trained = in_pool(self.threads, || train(&config, &stop))??;
        if self.json {
            let metrics = &trained.model.info.metrics;
            return print::json(&serde_json::json!({ "version": trained.id.as_str(), "metrics": metrics }));
        }
        print::line(&trained.id)?;
        if trained.evaluation.is_of_nobody() { Ok(()) } else { print_evaluation(&trained.evaluation) }
    }
}

/// Runs on a number of threads, one per core if not said.
pub(super) fn in_pool<R: Send>(threads: Option<usize>, run: impl FnOnce() -> R + Send) -> Result<R, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    Ok(pool.map_err(|e| Error::Usage(format!("--threads: {e}")))?.install(run))
}

/// Trains and publishes.
pub(super) fn train(config: &Config, stop: &Stop) -> Result<Trained, Error> {
    let valid = config.training().validate()?;
    let registry = config.registry()?;
    Ok(kindred_training::train::train(&valid, &registry, unix_now(), &Terminal::new(), stop)?)
}
