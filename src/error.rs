//! Every way in which a command can fail, and its exit code.

use std::path::{Path, PathBuf};

use kindred_models::ArtifactError;
use kindred_models::audience::AudienceError;
use kindred_models::outreach::InvalidOutreach;
use kindred_training::TrainError;
use kindred_training::config::InvalidParameter;
use kindred_training::tables::TableError;
use kindred_training::tune::TrialsError;

use crate::live::LiveError;
use crate::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A version or the registry can't be read or written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A table can't be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The config is not understood.
    #[error("config: {}", without_source(.0))]
    Config(#[from] Box<figment::Error>),
    /// There is no such config file.
    #[error("{}: no such config file", .0.display())]
    NoConfig(PathBuf),
    /// A parameter is out of range.
    #[error("config: {0}")]
    Parameter(#[from] InvalidParameter),
    /// A setting of the contact budget is out of range.
    #[error("config: {0}")]
    Outreach(#[from] InvalidOutreach),
    /// The parameters do not lead to a model.
    #[error("{0}")]
    Diverged(String),
    /// The trials of a search can't be kept.
    #[error(transparent)]
    Trials(#[from] TrialsError),
    /// The tables hold too little.
    #[error("{0}")]
    NothingToJudgeBy(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A flag's value makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The server can't listen, or broke off.
    #[error("can't serve: {0}")]
    Serve(String),
    /// The state store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What must not change was changed.
    #[error("{0}")]
    Tampered(String),
    /// A file or folder can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system refused something else.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The user ended the run.
    #[error("stopped on request; nothing was published")]
    Stopped,
}

impl From<LiveError> for Error {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::Artifact(e) => Self::Artifact(e),
            LiveError::Store(e) => Self::Store(e),
            LiveError::NoOlderVersion | LiveError::Broken(_) => Self::Serve(error.to_string()),
        }
    }
}

impl From<AudienceError> for Error {
    fn from(error: AudienceError) -> Self {
        match error {
            AudienceError::Stopped(_) => Self::Stopped,
            AudienceError::NoChances
            | AudienceError::NoFeedChances
            | AudienceError::NoContacts
            | AudienceError::TooMany(..) => Self::Usage(error.to_string()),
        }
    }
}

impl From<TrainError> for Error {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Table(e) => Self::Table(e),
            TrainError::Parameter(e) => Self::Parameter(e),
            TrainError::Artifact(e) => Self::Artifact(e),
            TrainError::Diverged => Self::Diverged(error.to_string()),
            TrainError::Trials(e) => Self::Trials(e),
            TrainError::NothingToJudgeBy | TrainError::NothingNewToJudgeBy => Self::NothingToJudgeBy(error.to_string()),
            TrainError::Stopped => Self::Stopped,
        }
    }
}

impl Error {
    /// What the operating system said of a file or folder.
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }

    /// The exit code, as in BSD's `sysexits.h`; 130 for a run that the user ended.
    pub fn exit_code(&self) -> u8 {
        const USAGE: u8 = 64;
        const DATA: u8 = 65;
        const NO_INPUT: u8 = 66;
        const UNAVAILABLE: u8 = 69;
        const IO: u8 = 74;
        const CONFIG: u8 = 78;
        const INTERRUPTED: u8 = 130;
        match self {
            Self::Artifact(e) => match e {
                ArtifactError::Io { .. } => IO,
                ArtifactError::Missing(_)
                | ArtifactError::NoSuchVersion { .. }
                | ArtifactError::NoCurrentVersion(_) => NO_INPUT,
                ArtifactError::Size { .. }
                | ArtifactError::Checksum(_)
                | ArtifactError::FutureFormat { .. }
                | ArtifactError::Malformed { .. } => DATA,
                ArtifactError::Busy(_) => UNAVAILABLE,
                ArtifactError::BadName(_) | ArtifactError::DeleteCurrent(_) => USAGE,
            },
            Self::Table(e) => match e {
                TableError::Io { .. } => IO,
                TableError::OnlyParquet(_) => USAGE,
                TableError::NotFound(_) | TableError::NoExport(_) => NO_INPUT,
                TableError::UnknownFormat(_)
                | TableError::Subfolder(_)
                | TableError::Malformed { .. }
                | TableError::MissingColumn { .. }
                | TableError::ColumnType { .. }
                | TableError::TooManyBadRows { .. }
                | TableError::Empty(_)
                | TableError::Unjoined { .. }
                | TableError::NoPurchase(_)
                | TableError::NoTimes => DATA,
            },
            Self::Config(_) | Self::NoConfig(_) | Self::Parameter(_) | Self::Outreach(_) | Self::Diverged(_) => CONFIG,
            Self::Trials(e) => match e {
                TrialsError::Io { .. } | TrialsError::Best(_) => IO,
                TrialsError::OtherSearch { .. } => USAGE,
                TrialsError::Busy(_) => UNAVAILABLE,
                TrialsError::Malformed { .. } => DATA,
            },
            Self::NothingToJudgeBy(_) | Self::Tampered(_) => DATA,
            Self::NotFound(_) => NO_INPUT,
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NO_INPUT,
            Self::File { .. } => IO,
            Self::Usage(_) => USAGE,
            Self::Serve(_) => UNAVAILABLE,
            Self::Store(e) => match e {
                StoreError::Open(..)
                | StoreError::Unavailable(_)
                | StoreError::Migrate(..)
                | StoreError::Gone(_)
                | StoreError::TooSlow(_)
                | StoreError::NotTakenOver => UNAVAILABLE,
                StoreError::Newer(..) | StoreError::Broken(..) | StoreError::Damaged(..) => DATA,
            },
            Self::Io(_) => IO,
            Self::Stopped => INTERRUPTED,
        }
    }
}
/// What is wrong with a config, without the lines of it that are quoted: a password may stand there.
fn without_source(error: &figment::Error) -> String {
    let told = error.to_string();
    let is_quoted =
        |line: &&str| line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|');
    told.lines().filter(|line| !is_quoted(line)).collect::<Vec<_>>().join(": ")
}
