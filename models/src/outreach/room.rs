//! Whether there is room for one more message.

use super::caps::Caps;
use super::contact::{Held, Place, Times};
use super::policy::Policy;

/// The room that one channel has for a member beside the messages that they have, asked many times.
#[derive(Debug)]
pub(super) struct Room<'a> {
    policy: &'a Policy,
    held: &'a [Held],
    caps: [Caps; 2],
    /// Over all channels, and here.
    others: [Vec<Times>; 2],
    /// Days that were asked for before.
    days: Vec<(i64, bool)>,
}

impl<'a> Room<'a> {
    pub(super) fn of(policy: &'a Policy, held: &'a [Held], channel: u16) -> Self {
        let is_here = |h: &&Held| matches!(h.place, Place::Unknown) || h.place == Place::Channel(channel);
        let others = [held.iter().map(|h| h.times).collect(), held.iter().filter(is_here).map(|h| h.times).collect()];
        Self { policy, held, caps: [policy.params.caps, policy.channel(channel).caps], others, days: Vec::new() }
    }

    pub(super) fn admit(&mut self, new: Times) -> bool {
        let mut both = self.caps.iter().zip(&self.others);
        !self.policy.rests(self.held, new.from)
            && both.all(|(caps, others)| caps.is_apart(others, new))
            && self.admit_day(self.policy.calendar.day(new.from))
    }

    fn admit_day(&mut self, day: i64) -> bool {
        if let Some((_, admitted)) = self.days.iter().find(|(known, _)| *known == day) {
            return *admitted;
        }
        let mut both = self.caps.iter().zip(&self.others);
        let admitted = both.all(|(caps, others)| caps.admit_day(self.policy.calendar, others, day));
        self.days.push((day, admitted));
        admitted
    }
}
