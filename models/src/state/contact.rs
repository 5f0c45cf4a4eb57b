//! Contacts as the state knows them.

use super::LiveEvent;
use crate::outreach::{ContactStatus, Held, Place, Policy};
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
}

impl LiveContact {
    /// One that others sent, as an event tells of it.
    pub fn by_others(event: LiveEvent) -> Self {
        let held = Held::by_others(Place::Unknown, event.time);
        Self { id: 0, product: event.product, channel: event.channel, held }
    }

    /// Whether it is out, or has a place: of others nothing needs to be known.
    pub(super) fn matters(&self) -> bool {
        self.held.status.is_out() || self.held.status == ContactStatus::Reserved
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
