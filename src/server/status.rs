//! From a problem to a gRPC status: the only place where one becomes the other.

use std::time::Duration;

use kindred_models::ArtifactError;
use kindred_models::audience::AudienceError;
use kindred_models::stop::Stopped;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::live::{LiveError, WriteError};
use crate::store::StoreError;

/// When to try again where too much is waiting.
const RETRY: Duration = Duration::from_millis(200);
/// Domain of error reasons.
const DOMAIN: &str = "kindred";

/// Why a call can't be answered.
#[derive(Debug)]
pub(super) enum Problem {
    /// Fields of the request that make no sense.
    Invalid(Vec<FieldViolation>),
    /// A product that the model does not know.
    UnknownProduct(String),
    /// A version that the registry does not have.
    UnknownVersion(String),
    /// A plan that nobody made, or that was made too long ago to be remembered.
    UnknownPlan(String),
    /// A version that can't be read.
    Artifact(ArtifactError),
    /// A question that this version knows too little for.
    NotKnown(AudienceError),
    /// More is asked for at once than memory holds.
    TooMuch(AudienceError),
    /// A member whom nobody heard of, or who must be forgotten.
    UnknownMember(String),
    /// There is no version to go back to.
    NoOlderVersion,
    /// Something could not be kept.
    NotKept(WriteError),
    /// Too many calls wait already.
    Overloaded,
    /// The state store does not answer.
    Store(StoreError),
    /// The call was cancelled or its deadline passed.
    Stopped,
    /// The computation broke off.
    Broken,
}

impl From<Stopped> for Problem {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<AudienceError> for Problem {
    fn from(error: AudienceError) -> Self {
        match error {
            AudienceError::Stopped(_) => Self::Stopped,
            AudienceError::NoChances | AudienceError::NoFeedChances | AudienceError::NoContacts => {
                Self::NotKnown(error)
            }
            AudienceError::TooMany(..) => Self::TooMuch(error),
        }
    }
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::NoSuchVersion { id, .. } | ArtifactError::BadName(id) => Self::UnknownVersion(id),
            error => Self::Artifact(error),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        Self::NotKept(error)
    }
}

/// Violations that the text of a status tells; its details have more.
const MOST_IN_MESSAGE: usize = 5;

impl From<LiveError> for Problem {
    fn from(error: LiveError) -> Self {
        match error {
            LiveError::NoOlderVersion => Self::NoOlderVersion,
            LiveError::Artifact(e) => e.into(),
            LiveError::Store(e) => Self::Store(e),
            LiveError::Broken(_) => Self::Broken,
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let not_found = |reason: &str, message: String, kind: &str, id: &str| {
            let metadata = [(kind.to_owned(), id.to_owned())];
            Self::with_error_details(Code::NotFound, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
        };
        match problem {
            Problem::Invalid(violations) => {
                let told = violations.iter().take(MOST_IN_MESSAGE).map(|v| format!("{} {}", v.field, v.description));
                let mut told: Vec<String> = told.collect();
                if violations.len() > told.len() {
                    told.push(format!("and {} more", violations.len() - told.len()));
                }
                let message = format!("invalid: {}", told.join("; "));
                Self::with_error_details(Code::InvalidArgument, message, ErrorDetails::with_bad_request(violations))
            }
            Problem::UnknownProduct(id) => {
                let message = format!(
                    "the model knows no product '{id}'; add it (UpsertProducts), or, for an audience, describe it"
                );
                not_found("UNKNOWN_PRODUCT", message, "product_id", &id)
            }
            Problem::UnknownMember(id) => {
                not_found("UNKNOWN_MEMBER", "nothing is known of this member".to_owned(), "member_id", &id)
            }
            Problem::UnknownPlan(id) => {
                not_found("UNKNOWN_PLAN", format!("nothing was planned as '{id}'"), "plan_id", &id)
            }
            Problem::NoOlderVersion => Self::failed_precondition("there is no version older than the one that serves"),
            Problem::NotKept(error @ WriteError::Overloaded) => busy(error.to_string()),
            Problem::Overloaded => busy("more calls wait than can be answered soon".to_owned()),
            Problem::NotKept(WriteError::Unavailable(error)) => of_store(&error),
            Problem::NotKept(error) => Self::unavailable(error.to_string()),
            Problem::Store(error) => of_store(&error),
            Problem::UnknownVersion(id) => {
                not_found("UNKNOWN_VERSION", format!("the registry has no version '{id}'"), "version", &id)
            }
            Problem::Artifact(error) => {
                tracing::error!(%error, "the registry can't be read");
                Self::internal("the registry can't be read; the server's log says why")
            }
            Problem::NotKnown(error) => Self::failed_precondition(error.to_string()),
            Problem::TooMuch(error) => Self::invalid_argument(error.to_string()),
            Problem::Stopped => Self::cancelled("the call was cancelled"),
            Problem::Broken => Self::internal("the computation broke off; the server's log says why"),
        }
    }
}

/// The store may answer later; what is damaged in it does not mend itself.
fn of_store(error: &StoreError) -> Status {
    match error {
        StoreError::Damaged(..) => {
            tracing::error!(%error, "the state store holds what can't be understood");
            Status::internal("the state store is damaged; the server's log says where")
        }
        _ => Status::unavailable(error.to_string()),
    }
}

/// What is answered to one call too many.
fn busy(message: String) -> Status {
    Status::with_error_details(Code::ResourceExhausted, message, ErrorDetails::with_retry_info(Some(RETRY)))
}
