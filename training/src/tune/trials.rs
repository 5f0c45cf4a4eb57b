//! The file of trials: one line each, written as soon as it is known, so that a search that was ended goes on
//! where it stood.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::space::Parameters;
use crate::evaluate::Estimate;

/// What was tried, and how it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 0, which is the config as it was given.
    pub number: u64,
    /// What was tried.
    pub parameters: Parameters,
    /// nDCG@10 of what is new to the member; `None` where the parameters led to nothing.
    pub ndcg_at_10: Option<Estimate>,
}

/// Why trials can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum TrialsError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The best config can't be kept.
    #[error("the best config can't be written: {0}")]
    Best(std::io::Error),
    /// The file holds trials on other data or of other parameters.
    #[error("{}: its trials are of another search ('{what}' differs); name another folder with --out, or delete it", path.display())]
    OtherSearch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Some other process writes to the file.
    #[error("{}: another search is writing to it", .0.display())]
    Busy(PathBuf),
    /// A line is no trial.
    #[error("{}: line {line} is no trial; delete the file to begin again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// The file, open and locked.
#[derive(Debug)]
pub(super) struct Trials {
    path: PathBuf,
    file: File,
    pub(super) list: Vec<Trial>,
}

impl Trials {
    /// Opens the file, or makes it. `search` says what the trials are of: those of another one are refused.
    pub(super) fn open(path: &Path, search: &Value) -> Result<Self, TrialsError> {
        let io = |source| TrialsError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrialsError::Busy(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io)?;
        // A line without its end was being written when the run was killed.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines().enumerate();
        let malformed = |line: usize| TrialsError::Malformed { path: path.to_owned(), line: line + 1 };
        let mut trials = Self { path: path.to_owned(), file, list: Vec::new() };
        trials.file.set_len(whole as u64).map_err(io)?;
        trials.file.seek(SeekFrom::End(0)).map_err(io)?;
        match lines.next() {
            None => trials.append(search)?,
            Some((at, line)) => {
                let earlier: Value = serde_json::from_str(line).map_err(|_| malformed(at))?;
                if let Some(what) = difference(&earlier, search) {
                    return Err(TrialsError::OtherSearch { path: path.to_owned(), what });
                }
            }
        }
        for (at, line) in lines {
            trials.list.push(serde_json::from_str(line).map_err(|_| malformed(at))?);
        }
        Ok(trials)
    }

    /// Adds a trial, durably.
    pub(super) fn add(&mut self, trial: Trial) -> Result<(), TrialsError> {
        self.append(&trial)?;
        self.list.push(trial);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), TrialsError> {
        let io = |source| TrialsError::Io { path: self.path.clone(), source };
        let mut text = serde_json::to_vec(line).map_err(|e| io(e.into()))?;
        text.push(b'\n');
        self.file.write_all(&text).and_then(|()| self.file.sync_data()).map_err(io)
    }

    /// The trial with the highest nDCG@10, of those that have one; of two alike, the earlier one.
    pub(super) fn best(&self) -> Option<&Trial> {
        let judged = self.list.iter().filter_map(|trial| Some((trial, trial.ndcg_at_10?.value)));
        judged.rev().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(trial, _)| trial)
    }
}

/// The first place where two values differ, by its path.
fn difference(a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
            let none = Value::Null;
            let inner = difference(a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none))?;
            Some(if inner.is_empty() { key.clone() } else { format!("{key}.{inner}") })
        }),
        _ => (a != b).then(String::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trial(number: u64, value: f64) -> Trial {
        let estimate = Estimate { value, low: value, high: value };
        Trial { number, parameters: Parameters::new(), ndcg_at_10: Some(estimate) }
    }

    #[test]
    fn trials_outlive_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trials.ndjson");
        let search = json!({ "events": 7, "config": { "embeddings": { "seed": 1 } } });
        let mut trials = Trials::open(&path, &search).unwrap();
        trials.add(Trial { ndcg_at_10: None, ..trial(0, 0.0) }).unwrap();
        assert_eq!(trials.best(), None, "what diverged is no best");
        trials.add(trial(1, 0.3)).unwrap();
        trials.add(trial(2, 0.3)).unwrap();
        assert_eq!(trials.best().unwrap().number, 1);
        assert!(matches!(Trials::open(&path, &search), Err(TrialsError::Busy(_))));
        drop(trials);
        // Killed within a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"number\":3,\"para");
        std::fs::write(&path, &text).unwrap();
        let mut trials = Trials::open(&path, &search).unwrap();
        assert_eq!(trials.list.len(), 3);
        trials.add(trial(3, 0.2)).unwrap();
        drop(trials);
        assert_eq!(Trials::open(&path, &search).unwrap().list.len(), 4);
        let other = json!({ "events": 7, "config": { "embeddings": { "seed": 2 } } });
        let refused = Trials::open(&path, &other).unwrap_err().to_string();
        assert!(refused.contains("config.embeddings.seed"), "{refused}");
        std::fs::write(&path, text.replace("\"number\":1", "\"number\":x")).unwrap();
        assert!(matches!(Trials::open(&path, &search), Err(TrialsError::Malformed { line: 3, .. })));
    }
}
