//! From a problem to a gRPC status: the only place where one becomes the other.

use std::collections::HashMap;
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
    /// Fields of the request that make no sense, and how many more there are.
    Invalid(Vec<FieldViolation>, usize),
    /// A product that the model does not know.
    UnknownProduct(String),
    /// A product that is not for sale.
    NotSold(String),
    /// A version that the registry does not have.
    UnknownVersion(String),
    /// A plan that nobody made, or that was made too long ago to be remembered.
    UnknownPlan(String),
    /// A plan of this name was asked for something else.
    OtherPlan(String),
    /// A version that can't be read.
    Artifact(ArtifactError),
    /// A question that this version knows too little for.
    NotKnown(AudienceError),
    /// More is asked for at once than memory holds.
    TooMuch(AudienceError),
    /// A member whom nobody heard of, or who must be forgotten.
    UnknownMember(String),
    /// No channels are configured.
    NoChannels,
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
        let not_found = |reason, message, kind: &str, id: &str| because(Code::NotFound, reason, message, &[(kind, id)]);
        let not_now = |reason, message| because(Code::FailedPrecondition, reason, message, &[]);
        match problem {
            Problem::Invalid(violations, others) => {
                let told = violations.iter().take(MOST_IN_MESSAGE).map(|v| format!("{} {}", v.field, v.description));
                let mut told: Vec<String> = told.collect();
                let others = others + violations.len() - told.len();
                if others > 0 {
                    told.push(format!("and {others} more"));
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
            Problem::OtherPlan(id) => {
                let message =
                    format!("plan '{id}' was asked for something else; take another plan_id, or ask as before");
                because(Code::FailedPrecondition, "PLAN_DIFFERS", message, &[("plan_id", &id)])
            }
            Problem::NoOlderVersion => {
                not_now("NO_OLDER_VERSION", "there is no version older than the one that serves".to_owned())
            }
            Problem::NotSold(id) => {
                let message = format!("product '{id}' is not for sale, and members can't be told of it now");
                because(Code::FailedPrecondition, "PRODUCT_NOT_SOLD", message, &[("product_id", &id)])
            }
            Problem::NoChannels => {
                let message = "this server plans nothing: add [outreach.channels.NAME] to its config".to_owned();
                not_now("NO_CHANNELS", message)
            }
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
            Problem::NotKnown(error) => not_now(lacking(&error), error.to_string()),
            Problem::TooMuch(error) => because(Code::InvalidArgument, "TOO_MANY_CHANCES", error.to_string(), &[]),
            Problem::Stopped => Self::cancelled("the call was cancelled"),
            Problem::Broken => Self::internal("the computation broke off; the server's log says why"),
        }
    }
}

/// A status with a reason that programs can tell from others, and what it is about.
fn because(code: Code, reason: &str, message: String, about: &[(&str, &str)]) -> Status {
    let about: HashMap<String, String> = about.iter().map(|(kind, id)| ((*kind).into(), (*id).into())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, about))
}

/// What a version lacks.
fn lacking(error: &AudienceError) -> &'static str {
    match error {
        AudienceError::NoFeedChances => "NO_FEED_CHANCES",
        AudienceError::NoContacts => "NO_CONTACTS",
        AudienceError::NoChances | AudienceError::Stopped(_) | AudienceError::TooMany(..) => "NO_CHANCES",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_can_tell_what_is_lacking() {
        let id = || "x".to_owned();
        for (problem, code, reason) in [
            (Problem::from(AudienceError::NoChances), Code::FailedPrecondition, "NO_CHANCES"),
            (AudienceError::NoFeedChances.into(), Code::FailedPrecondition, "NO_FEED_CHANCES"),
            (AudienceError::NoContacts.into(), Code::FailedPrecondition, "NO_CONTACTS"),
            (Problem::NoOlderVersion, Code::FailedPrecondition, "NO_OLDER_VERSION"),
            (Problem::NoChannels, Code::FailedPrecondition, "NO_CHANNELS"),
            (Problem::NotSold(id()), Code::FailedPrecondition, "PRODUCT_NOT_SOLD"),
            (Problem::OtherPlan(id()), Code::FailedPrecondition, "PLAN_DIFFERS"),
            (Problem::UnknownProduct(id()), Code::NotFound, "UNKNOWN_PRODUCT"),
            (Problem::UnknownMember(id()), Code::NotFound, "UNKNOWN_MEMBER"),
            (Problem::UnknownPlan(id()), Code::NotFound, "UNKNOWN_PLAN"),
            (Problem::UnknownVersion(id()), Code::NotFound, "UNKNOWN_VERSION"),
        ] {
            let status = Status::from(problem);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, DOMAIN));
        }
    }
}
