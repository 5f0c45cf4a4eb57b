//! How far a run is: bars on a terminal, plain lines otherwise; on standard error.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kindred_training::progress::Progress;

/// How long a part of a stage takes that is worth a line of its own.
const LONG: Duration = Duration::from_secs(10);

/// Tells a person how far a run is.
#[derive(Debug)]
pub(crate) struct Terminal {
    is_terminal: bool,
    current: Mutex<Option<Stage>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    bar: ProgressBar,
    since: Instant,
    /// When the last of its parts was done.
    part_since: Instant,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), current: Mutex::new(None) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Option<Stage>) -> T) -> T {
        // A bar is as good after a panic elsewhere as before.
        f(&mut self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Progress for Terminal {
    fn start(&self, stage: &str, total: u64) {
        let bar = if !self.is_terminal {
            ProgressBar::hidden()
        } else if total == 0 {
            let style = ProgressStyle::with_template("{spinner} {prefix:10} {human_pos} ({elapsed})");
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        } else {
            let style = ProgressStyle::with_template("  {prefix:10} [{bar:30}] {human_pos}/{human_len} ({eta} left)");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        };
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        let now = Instant::now();
        let stage = Stage { name: stage.to_owned(), bar, since: now, part_since: now };
        self.with(|current| *current = Some(stage));
    }

    fn advance(&self, steps: u64) {
        self.with(|current| current.iter().for_each(|stage| stage.bar.inc(steps)));
    }

    fn part(&self, what: &str) {
        self.with(|current| {
            let Some(stage) = current else { return };
            let took = std::mem::replace(&mut stage.part_since, Instant::now()).elapsed();
            if took >= LONG {
                stage.tell(&format!("  {}: {what} ({:.1} s)", stage.name, took.as_secs_f64()));
            }
        });
    }

    fn warn(&self, message: &str) {
        self.with(|current| match current {
            Some(stage) => stage.tell(&format!("warning: {message}")),
            None => say(&format!("warning: {message}")),
        });
    }

    fn finish(&self, outcome: &str) {
        if let Some(Stage { name, bar, since, .. }) = self.with(Option::take) {
            bar.finish_and_clear();
            say(&format!("{name:10} {outcome} ({:.1} s)", since.elapsed().as_secs_f64()));
        }
    }
}

impl Stage {
    /// Prints a line beside the bar; a hidden one is not in its way.
    fn tell(&self, line: &str) {
        self.bar.suspend(|| say(line));
    }
}

/// Prints a line on standard error; whoever no longer listens is no reason to give up hours of work.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
