//! `kindred tune`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use kindred_training::TrainError;
use kindred_training::config::TrainConfig;
use kindred_training::tune::{Search, Source, Trial, tune};
use serde_json::Value;

use super::inputs::Tables;
use super::train::in_pool;
use super::{Common, print};
use crate::clock::unix_now;
use crate::config::Config;
use crate::error::Error;
use crate::progress::{Terminal, say};
use crate::signal::stop_flag;

/// Trials shown at the end.
const SHOWN: usize = 10;

/// Searches for better parameters.
///
/// Those of a source, judged by what members bought for the first time in the days before those that `evaluate` holds
/// out. Keeps every trial, so that a search that was ended goes on where it stood; writes the best config.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred tune --config kindred.toml                    30 trials; tune/best.toml is the best config\n  \
    kindred tune --config kindred.toml --trials 60        goes on with 30 more\n  \
    kindred tune --config tune/best.toml --source affinity --out tune-affinity\n  \
    kindred train --config tune-affinity/best.toml")]
pub(super) struct Tune {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tables: Tables,
    /// What is tuned.
    #[arg(long, value_enum, default_value_t = Tunable::Embeddings)]
    source: Tunable,
    /// Trials altogether, those of earlier runs in the same folder counted; the first is the config itself.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    trials: u64,
    /// Length of a vector, at most.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u16).range(8..=512))]
    max_factors: u16,
    /// Days judged by.
    #[arg(long, value_name = "DAYS", default_value_t = 28, value_parser = clap::value_parser!(u32).range(1..=3650))]
    validation_days: u32,
    /// Days at the end of history that are not looked at; 0 where they were cut off already [default: 28]
    #[arg(long, value_name = "DAYS")]
    test_days: Option<u32>,
    /// Folder of the trials and the best config.
    #[arg(long, value_name = "DIR", default_value = "tune")]
    out: PathBuf,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tunable {
    /// Factors, weights, regularization, epochs and decay of the embeddings.
    Embeddings,
    /// Exponents, shrinkage and ridge of the item–item model by member.
    Affinity,
}

impl Tune {
    pub(super) fn run(self) -> Result<(), Error> {
        let mut config = self.common.load()?;
        self.tables.apply(&mut config)?;
        // For the search alone: the best config holds out what the given one does.
        let kept_days = config.evaluate.test_days;
        if let Some(days) = self.test_days {
            config.evaluate.test_days = days;
        }
        std::fs::create_dir_all(&self.out).map_err(|e| Error::file(&self.out, e))?;
        let best_file = self.out.join("best.toml");
        let search = Search {
            config: config.training(),
            source: match self.source {
                Tunable::Embeddings => Source::Embeddings,
                Tunable::Affinity => Source::Affinity,
            },
            trials: self.trials,
            validation_days: self.validation_days,
            max_factors: self.max_factors.into(),
            trials_file: &self.out.join("trials.ndjson"),
        };
        let stop = stop_flag();
        let mut on_best = |best: &TrainConfig, trial: &Trial| {
            let mut best = best.clone();
            best.evaluate.test_days = kept_days;
            write_best(&best_file, &config, &best, trial)
        };
        let run = || tune(&search, unix_now(), &mut on_best, &Terminal::new(), &stop);
        let trials = in_pool(self.threads, run)?.inspect_err(|error| {
            if matches!(error, TrainError::Stopped) {
                say(&format!("{} keeps the trials so far: run again to go on", search.trials_file.display()));
            }
        });
        self.show(trials?, &best_file)
    }

    fn show(&self, mut trials: Vec<Trial>, best_file: &Path) -> Result<(), Error> {
        let value = |trial: &Trial| trial.ndcg_at_10.map_or(f64::MIN, |estimate| estimate.value);
        trials.sort_by(|a, b| value(b).total_cmp(&value(a)));
        if self.json {
            return print::json(&serde_json::json!({ "best": best_file, "trials": trials }));
        }
        let short = |name: &str| name.split_once('.').map_or(name, |(_, short)| short).to_owned();
        let mut columns = vec!["trial".to_owned(), "nDCG@10 (95%)".to_owned()];
        columns.extend(trials.first().iter().flat_map(|trial| trial.parameters.keys()).map(|name| short(name)));
        let rows = trials.iter().take(SHOWN).map(|trial| {
            let shown = trial.ndcg_at_10.map(|e| format!("{:.4} ({:.4}–{:.4})", e.value, e.low, e.high));
            let mut row = vec![(trial.number + 1).to_string(), shown.unwrap_or_else(|| "diverged".to_owned())];
            row.extend(trial.parameters.values().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
            row
        });
        print::table(&columns.iter().map(String::as_str).collect::<Vec<_>>(), rows)?;
        match trials.first() {
            Some(best) if best.ndcg_at_10.is_some() => print::line(format!("best: {}", best_file.display())),
            _ => print::line("no trial led to a model; the ranges do not suit the data"),
        }
    }
}

/// Writes the config with the best parameters: what differs from the defaults, and what was searched for.
fn write_best(path: &Path, config: &Config, best: &TrainConfig, trial: &Trial) -> std::io::Result<()> {
    let mut value = written(config)?;
    // What training is told are sections of the config.
    if let (Value::Object(sections), Value::Object(best)) = (&mut value, written(best)?) {
        sections.extend(best);
    }
    // The file is for others to see, and this may hold a password.
    let url = value.pointer_mut("/state").and_then(Value::as_object_mut).and_then(|state| state.remove("url"));
    let has_url = url.is_some_and(|url| url.as_str().is_some_and(|url| !url.is_empty()));
    let note = if has_url { "# Not repeated here: state.url, where a server keeps its state.\n" } else { "" };
    let searched: Vec<&str> = trial.parameters.keys().map(String::as_str).collect();
    keep_telling(&mut value, &written(&Config::default())?, "", &searched);
    let value = toml::to_string(&value).map_err(std::io::Error::other)?;
    let score = trial.ndcg_at_10.map_or(0.0, |estimate| estimate.value);
    let text = format!(
        "# Found by `kindred tune`, trial {}: nDCG@10 of what is new {score:.4} on the validation days.\n{note}\n{value}",
        trial.number + 1
    );
    // In one step, so that no run that is ended leaves half a config.
    let new = path.with_extension("toml.new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

/// By way of text: single-precision numbers as a person would write them.
fn written(config: &impl serde::Serialize) -> std::io::Result<Value> {
    Ok(serde_json::from_str(&serde_json::to_string(config)?)?)
}

/// Drops every setting that has its default value, but for those that are named.
fn keep_telling(value: &mut Value, default: &Value, name: &str, named: &[&str]) {
    let Value::Object(fields) = value else { return };
    let path = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    fields.retain(|key, field| {
        keep_telling(field, &default[key], &path(key), named);
        let says_nothing = *field == default[key] || field.as_object().is_some_and(serde_json::Map::is_empty);
        named.contains(&path(key).as_str()) || !(field.is_null() || says_nothing)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_config_holds_no_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.toml");
        let mut config = Config::default();
        let trial = Trial { number: 0, parameters: Default::default(), ndcg_at_10: None };
        for (url, is_told) in [("postgres://u:secret@db/state", true), ("", false)] {
            config.state.url = url.to_owned();
            write_best(&path, &config, &config.training(), &trial).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("secret") && text.contains("state.url") == is_told, "{text}");
            Config::load(Some(&path)).unwrap();
        }
    }
}
