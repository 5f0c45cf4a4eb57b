//! How a caller ends a long computation early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the caller raises when nobody waits for the answer any more (cancelled, or past its
/// deadline). Long loops look at it now and then.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

/// The computation was ended by its [`Stop`] flag before it had an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped before the answer was complete")]
pub struct Stopped;

impl Stop {
    /// Raises the flag; every clone sees it.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the computation if the flag is up.
    ///
    /// # Errors
    /// [`Stopped`] once the flag is up.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_raised() { Err(Stopped) } else { Ok(()) }
    }
}
