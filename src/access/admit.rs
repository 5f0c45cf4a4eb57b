//! Who may ask, how often, and for how much at once.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Keys, Role};

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No key was shown.
    #[error("a key is needed: send `authorization: Bearer …`; `kindred keys create` makes one")]
    NoKey,
    /// A key was shown that nobody has, or has any more.
    #[error("this key is not known, or was revoked, or its time is over")]
    Unknown,
    /// A key was shown that is for something else.
    #[error("this key may not be used for that: it needs the role {0}")]
    Role(String),
    /// It asks too often, or for too much at once.
    #[error("this key asks more than it may")]
    TooMuch(Duration),
}

/// A caller who may ask.
#[derive(Debug)]
pub(super) struct Admitted {
    /// Who it is.
    pub(super) name: String,
    /// What let them in.
    pub(super) pass: Pass,
    /// Held as long as the call goes on.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// What lets a caller in, and keeps open what they opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// None, as no key was ever made.
    NotNeeded,
    /// The key of an id.
    Key(String),
    /// A token, until a moment in unix seconds.
    Token(i64),
}

impl Pass {
    /// Why it lets nobody in any more, if it does not.
    pub(super) fn ended(&self, keys: &Keys, now: i64) -> Option<Refused> {
        match self {
            Self::NotNeeded => keys.are_needed().then_some(Refused::NoKey),
            Self::Key(id) => keys.is_revoked(id).then_some(Refused::Unknown),
            Self::Token(until) => (*until < now).then_some(Refused::Unknown),
        }
    }
}

/// Whether a holder of some roles may ask what needs one of others.
pub(super) fn allow(held: &[Role], needed: &[Role]) -> Result<(), Refused> {
    if held.iter().any(|role| *role == Role::Admin || needed.contains(role)) {
        return Ok(());
    }
    let names: Vec<&str> = needed.iter().map(|role| role.name()).collect();
    Err(Refused::Role(names.join(" or ")))
}

/// How often one caller may ask, and for how much at once.
#[derive(Debug)]
pub(super) struct Limits {
    rate: Option<DefaultDirectRateLimiter>,
    places: Option<Arc<Semaphore>>,
    /// When a call was counted last.
    used: Mutex<Instant>,
}

impl Limits {
    pub(super) fn new(per_second: Option<NonZeroU32>, concurrent: Option<NonZeroU32>) -> Self {
        Self {
            rate: per_second.map(|calls| RateLimiter::direct(Quota::per_second(calls))),
            places: concurrent.map(|calls| Arc::new(Semaphore::new(calls.get() as usize))),
            used: Mutex::new(Instant::now()),
        }
    }

    /// Whether nobody holds a place, and all calls of a second are free again: nothing is lost with it.
    pub(super) fn is_idle(&self) -> bool {
        let is_free = self.places.as_ref().is_none_or(|places| Arc::strong_count(places) == 1);
        is_free && self.used.lock().elapsed() > Duration::from_secs(1)
    }

    /// Counts one call; gives its place, to be held as long as it goes on.
    pub(super) fn take(&self) -> Result<Option<OwnedSemaphorePermit>, Refused> {
        *self.used.lock() = Instant::now();
        if let Some(rate) = &self.rate
            && let Err(not_until) = rate.check()
        {
            return Err(Refused::TooMuch(not_until.wait_time_from(DefaultClock::default().now())));
        }
        let Some(places) = &self.places else { return Ok(None) };
        places.clone().try_acquire_owned().map(Some).map_err(|_| Refused::TooMuch(Duration::from_millis(100)))
    }
}
