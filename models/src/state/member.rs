//! What is new of one member.

use std::sync::Arc;

use super::{LiveContact, Profile};
use crate::events::Kind;

/// Events of a member that are remembered, at most: what asks for more is a robot, or the card that a till shows for
/// whoever has none.
pub(super) const MOST_EVENTS: usize = 2000;

/// One thing that a member did, or that was done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveEvent {
    /// Unix seconds.
    pub time: i64,
    /// The product; [`NONE`](crate::strings::NONE) if the model does not know it.
    pub product: u32,
    /// What happened.
    pub kind: Kind,
    /// Number of the channel in the state; [`NO_CHANNEL`](super::NO_CHANNEL) if nobody said it.
    pub channel: u16,
}

/// What is new of one member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveMember {
    /// What they did since, in order of time.
    pub events: Vec<LiveEvent>,
    /// Messages of which something is new since the model was loaded, and some that are called off: see
    /// [`State::contacts`](super::State::contacts).
    pub(super) contacts: Vec<LiveContact>,
    /// What was said of them; of members of the model, what it does not know.
    pub profile: Option<Arc<Profile>>,
}

impl LiveMember {
    /// Adds what they did, in order of time; at one time, what is brought back was bought before. What goes beyond what a
    /// person does is not remembered: the oldest is forgotten, of purchases and refunds last.
    pub(super) fn add(&mut self, event: LiveEvent) {
        let at = self.events.partition_point(|e| (e.time, e.kind) <= (event.time, event.kind));
        self.events.insert(at, event);
        if self.events.len() > MOST_EVENTS {
            let is_more = |e: &LiveEvent| !matches!(e.kind, Kind::Purchase | Kind::Refund);
            self.events.remove(self.events.iter().position(is_more).unwrap_or(0));
        }
    }

    /// What they did after a moment.
    pub(super) fn after(&self, since: i64) -> &[LiveEvent] {
        &self.events[self.events.partition_point(|e| e.time <= since)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NO_CHANNEL;

    #[test]
    fn what_is_brought_back_was_bought_before_at_one_time() {
        let mut member = LiveMember::default();
        for kind in [Kind::Refund, Kind::Purchase] {
            member.add(LiveEvent { time: 7, product: 0, kind, channel: NO_CHANNEL });
        }
        assert_eq!(member.events.iter().map(|e| e.kind).collect::<Vec<_>>(), [Kind::Purchase, Kind::Refund]);
    }

    #[test]
    fn of_too_many_events_the_oldest_views_are_forgotten_first() {
        let mut member = LiveMember::default();
        let mut add = |kind, times: std::ops::Range<i64>| {
            times.for_each(|time| member.add(LiveEvent { time, product: 0, kind, channel: NO_CHANNEL }));
            let views = member.events.iter().filter(|e| e.kind == Kind::View);
            (member.events.len(), views.count(), member.events[0].time, member.events.is_sorted_by_key(|e| e.time))
        };
        let most = MOST_EVENTS as i64;
        assert_eq!(add(Kind::View, 100..most + 100), (MOST_EVENTS, MOST_EVENTS, 100, true));
        assert_eq!(add(Kind::Purchase, 0..3), (MOST_EVENTS, MOST_EVENTS - 3, 0, true), "three views less");
        assert_eq!(add(Kind::Purchase, 5000..5000 + most), (MOST_EVENTS, 0, 5000, true), "the three are the oldest");
    }
}
