//! Why a training run ended without a version.

use kindred_models::ArtifactError;
use kindred_models::stop::Stopped;

use crate::config::InvalidParameter;
use crate::tables::TableError;

/// Why a training run ended without a version.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A table can't be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A parameter is out of range.
    #[error(transparent)]
    Parameter(#[from] InvalidParameter),
    /// The version can't be written.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The embeddings are not finite.
    #[error("the embeddings diverged; raise embeddings.regularization")]
    Diverged,
    /// The trials of a search can't be kept.
    #[error(transparent)]
    Trials(#[from] crate::tune::TrialsError),
    /// Too short a history.
    #[error(
        "nobody bought before and within the days to judge by: the history is too short, or its tables hold too little"
    )]
    NothingToJudgeBy,
    /// What members buy does not change.
    #[error(
        "nobody bought anything new within the days to judge by, or nobody who had bought before: the history is too short, or its \
         tables hold too little"
    )]
    NothingNewToJudgeBy,
    /// The user ended the run.
    #[error("stopped on request; nothing was published")]
    Stopped,
}

impl From<Stopped> for TrainError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}
