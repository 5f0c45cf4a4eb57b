//! Contacts as the state knows them.

use super::LiveEvent;
use crate::outreach::{ContactStatus, Held, Place, Policy, Times};
use crate::strings::NONE;

/// The channel of what nobody said it of.
pub const NO_CHANNEL: u16 = u16::MAX;

/// One message that went out to a member, or has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveContact {
    /// Tells it from others; 0 for one that others sent, and that never changes.
    pub id: u128,
    /// The product; [`NONE`] if the model does not know it, or it was about none.
    pub product: u32,
    /// Number of the channel in the state; [`NO_CHANNEL`] if nobody said it.
    pub channel: u16,
    /// When, what became of it, and how much it comes first; its place is not yet known.
    pub held: Held,
    /// When that was said of it last, in unix seconds.
    pub said_at: i64,
}

impl LiveContact {
    /// One that others sent, as an event tells of it.
    pub fn by_others(event: LiveEvent) -> Self {
        let (times, status) = (Times::at(event.time), ContactStatus::Sent);
        let held = Held { place: Place::Unknown, times, status, priority: 0 };
        Self { id: 0, product: event.product, channel: event.channel, held, said_at: event.time }
    }

    /// Whether it is about a product, and went out or has a place since a moment.
    pub fn told_of(&self, product: u32, since: i64, now: i64) -> bool {
        product != NONE && self.product == product && self.held.times.from > since && self.held.counts(now)
    }

    /// As a policy sees it; `names` are the state's channels.
    pub fn held(&self, policy: &Policy, names: &[String]) -> Held {
        Held { place: policy.place(names.get(self.channel as usize).map(String::as_str)), ..self.held }
    }
}
