//! `kindred evaluate`, and the table of what was found.

use std::path::{Path, PathBuf};

use clap::Args;
use kindred_training::evaluate::{Estimate, Evaluation, html};
use kindred_training::launches::LaunchReport;
use kindred_training::train::evaluate_only;

use super::inputs::Tables;
use super::train::in_pool;
use super::{Common, print};
use crate::clock::unix_now;
use crate::error::Error;
use crate::progress::Terminal;
use crate::signal::stop_flag;

/// Judges what would have been shown, by the last days of history.
///
/// Learns from all but the last days of history, and judges the feeds by what was bought in those days.
/// Publishes nothing; the version that is served now is judged beside it, where it has not seen those days.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    kindred evaluate --config kindred.toml\n  \
    kindred evaluate --config kindred.toml --test-days 14 --out report\n  \
    kindred evaluate --config kindred.toml --json | jq '.tasks[0].rankings.feed'")]
pub(super) struct Evaluate {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    tables: Tables,
    /// Days held out at the end of history [default: 28]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    test_days: Option<u32>,
    /// Folder to write evaluation.json and evaluation.html to.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Evaluate {
    pub(super) fn run(self) -> Result<(), Error> {
        let mut config = self.common.load()?;
        self.tables.apply(&mut config)?;
        if let Some(days) = self.test_days {
            config.evaluate.test_days = days;
        }
        if config.evaluate.test_days == 0 {
            let message = "evaluate.test_days is 0: no days are held out to judge by; give --test-days";
            return Err(Error::Usage(message.to_owned()));
        }
        let (valid, registry, stop) = (config.training().validate()?, config.registry()?, stop_flag());
        // Before hours of work: the report can be written.
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
        }
        let run = || evaluate_only(&valid, &registry, unix_now(), &Terminal::new(), &stop);
        let evaluation = in_pool(self.threads, run)??;
        // Whatever can't be written, what was found is told.
        let written = self.out.as_ref().map_or(Ok(()), |folder| write(&evaluation, folder));
        if self.json {
            print::json(&serde_json::json!(evaluation))?;
        } else {
            print_evaluation(&evaluation)?;
        }
        written
    }
}

fn write(evaluation: &Evaluation, folder: &Path) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(evaluation).map_err(std::io::Error::from)?;
    for (name, bytes) in [("evaluation.json", json), ("evaluation.html", html(evaluation).into_bytes())] {
        let file = folder.join(name);
        std::fs::write(&file, bytes).map_err(|e| Error::file(&file, e))?;
    }
    Ok(())
}

/// What was found, as tables.
pub(super) fn print_evaluation(evaluation: &Evaluation) -> Result<(), Error> {
    let interval = |e: Option<&Estimate>| {
        e.map_or_else(|| "–".to_owned(), |e| format!("{:.4} ({:.4}–{:.4})", e.value, e.low, e.high))
    };
    let value = |e: Option<&Estimate>| e.map_or_else(|| "–".to_owned(), |e| format!("{:.4}", e.value));
    let rows = evaluation.tasks.iter().flat_map(|task| {
        task.rankings.iter().map(|(ranking, metrics)| {
            let mut row = vec![task.task.clone(), ranking.clone()];
            row.extend(["ndcg@10", "recall@20"].map(|name| interval(metrics.get(name))));
            row.extend(["hit@10", "coverage@20", "gini@20", "repeats@20"].map(|name| value(metrics.get(name))));
            row
        })
    });
    let columns = ["task", "ranking", "nDCG@10 (95%)", "recall@20 (95%)", "hit@10", "coverage", "Gini", "repeats"];
    print::table(&columns, rows)?;
    if let Some(reason) = &evaluation.served_left_out {
        print::line(format!("served before: not compared, {reason}"))?;
    }
    if let Some(calibration) = &evaluation.calibration {
        let ratios = calibration.classes.iter().map(|class| match class.observed {
            0.0 => "–".to_owned(),
            observed => format!("{:.2}", class.expected / observed),
        });
        let ratios: Vec<String> = ratios.collect();
        print::line(format!("expected over observed purchases, by tenth of the probability: {}", ratios.join(" ")))?;
    }
    print_launches(evaluation)
}

fn print_launches(evaluation: &Evaluation) -> Result<(), Error> {
    let launch = |name: &str| evaluation.launches.get(name).copied();
    let row = |name: &str, prefix: &str| {
        let values = ["auc", "recall@10%", "lift@1%"].map(|metric| launch(&format!("{prefix}.{metric}")));
        let [Some(auc), Some(recall), Some(lift)] = values else { return None };
        Some(vec![name.to_owned(), format!("{auc:.4}"), format!("{recall:.4}"), format!("{lift:.2}")])
    };
    let rows: Vec<Vec<String>> = [
        ("launches", "launch"),
        ("… by the fixed sum", "launch_prior"),
        ("… heaviest buyers first", "launch_heaviest"),
    ]
    .into_iter()
    .filter_map(|(name, prefix)| row(name, prefix))
    .collect();
    if !rows.is_empty() {
        let launches = launch("launch.launches").unwrap_or_default();
        print::line(format!("\n{launches} launches from attributes alone:"))?;
        print::table(&["", "AUC", "recall@10%", "lift@1%"], rows)?;
    }
    if !evaluation.launch_seeds.is_empty() {
        let rows = evaluation.launch_seeds.iter().map(|s| {
            let gain = |e: &Estimate| format!("{:+.4} ({:+.4} to {:+.4})", e.value, e.low, e.high);
            let without = format!("{:.4}", s.recall_without);
            vec![s.seeds.to_string(), s.launches.to_string(), without, gain(&s.recall_gain), gain(&s.auc_gain)]
        });
        print::table(&["seeds", "launches", "recall@10% without", "gain (95%)", "AUC gain (95%)"], rows)?;
    }
    if !evaluation.expected.is_empty() {
        let rows = evaluation.expected.iter().map(|e| {
            let (ratio, coverage) = (format!("{:.2}", e.median_ratio), format!("{:.0}%", 100.0 * e.coverage));
            let own = e.recall_of_own_buyers.map_or_else(String::new, |recall| format!("{recall:.4}"));
            vec![e.subject.clone(), e.audiences.to_string(), format!("{:.4}", e.recall), own, ratio, coverage]
        });
        let (own, expected) = ("of own buyers first", "expected over actual buyers (the middle one)");
        print::table(&["best tenth for", "audiences", "recall@10%", own, expected, "within 10–90%"], rows)?;
    }
    let replayed = &evaluation.launch_replays;
    if replayed.launches < replayed.needed {
        let LaunchReport { launches, needed, .. } = replayed;
        return print::line(format!(
            "{launches} past launches could be replayed, of {needed} that it takes (launch.min_launches) to say how many will \
             buy: audiences of new products come with ranks and lifts alone"
        ));
    }
    if replayed.foretold == 0 {
        return Ok(());
    }
    print::line(format!(
        "{} launches foretold from those before: expected over actual buyers {:.2} (the middle one; {:.2} of the best \
         tenth of members), {:.0}% within the 10–90% interval ({:.0}%), whose end is {:.1} × its start",
        replayed.foretold,
        replayed.median_ratio,
        replayed.median_ratio_of_head,
        100.0 * replayed.coverage,
        100.0 * replayed.coverage_of_head,
        replayed.width,
    ))
}
