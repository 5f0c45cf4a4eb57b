//! Contacts: one message sent, or about to be sent, to one member.

use serde::{Deserialize, Serialize};

use crate::events::DAY_SECONDS;

/// What became of a contact. Later ones in the order of the list outrank earlier ones, up to `Complained`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum ContactStatus {
    /// It has a place, until its time is over.
    Reserved,
    /// Its sender asked whether it may go out, and was told that it may.
    Claimed,
    /// It went out.
    Sent,
    /// The member opened it.
    Opened,
    /// The member followed it.
    Clicked,
    /// The member complained.
    Complained,
    /// It did not go out.
    Failed,
    /// It gave way to a campaign that comes first.
    Displaced,
    /// Nobody claimed it in time.
    Expired,
    /// It was called off: by its campaign, or because the member no longer allows it.
    Cancelled,
}

impl ContactStatus {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Self; 10] = [
        Self::Reserved,
        Self::Claimed,
        Self::Sent,
        Self::Opened,
        Self::Clicked,
        Self::Complained,
        Self::Failed,
        Self::Displaced,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Whether it was never sent, and never will be.
    pub fn is_void(self) -> bool {
        (Self::Failed..=Self::Cancelled).contains(&self)
    }

    /// Whether it went out, or may have.
    pub fn is_out(self) -> bool {
        (Self::Claimed..=Self::Complained).contains(&self)
    }

    /// Whether the member did something with it.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Opened | Self::Clicked)
    }

    /// The status after a report `said`. Reports may arrive out of order; `is_later` tells whether this one is of a later
    /// moment than the last. That it went out outranks whatever became of its place; an answered message cannot have
    /// failed; of sent and failed, the later holds.
    pub fn after(self, said: Self, is_later: bool) -> Self {
        match (self, said) {
            (Self::Reserved | Self::Claimed, Self::Failed) => Self::Failed,
            (Self::Sent, Self::Failed) | (Self::Failed, Self::Sent) if is_later => said,
            (_, Self::Failed) | (Self::Failed, Self::Sent) => self,
            (now, said) if now.is_out() => now.max(said),
            (_, said) => said,
        }
    }
}

/// When a message goes out, in unix seconds: at the earliest, and at the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// At the earliest.
    pub from: i64,
    /// At the latest, not before; on the same local day.
    pub until: i64,
}

impl Times {
    /// Of what went out at a moment.
    pub fn at(moment: i64) -> Self {
        Self { from: moment, until: moment }
    }
}

/// Where a contact goes, as a [`Policy`](super::Policy) numbers channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// One of its channels.
    Channel(u16),
    /// Another one: counts over all channels, and for none of its.
    Elsewhere,
    /// Nobody said: counts for each.
    Unknown,
}

/// A contact as caps see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Where.
    pub place: Place,
    /// When.
    pub times: Times,
    /// What became of it.
    pub status: ContactStatus,
    /// How much its campaign comes first, 0 to 9.
    pub priority: u8,
    /// When something was said of it last, in unix seconds.
    pub said_at: i64,
}

impl Held {
    /// A message that others sent.
    pub fn by_others(place: Place, time: i64) -> Self {
        Self { place, times: Times::at(time), status: ContactStatus::Sent, priority: 0, said_at: time }
    }

    /// Whether it counts at a moment: it is out, or has a place that it may still take.
    pub fn counts(&self, now: i64) -> bool {
        self.status.is_out() || (self.status == ContactStatus::Reserved && self.times.until >= now)
    }

    /// Whether it gives way to a campaign of a priority: it is not out, and comes after.
    pub fn gives_way(&self, priority: u8) -> bool {
        self.status == ContactStatus::Reserved && self.priority < priority
    }
}

/// Messages that a version learned of, of which it knows the day alone, with what others told more of them, and those
/// that it should have learned of, and did not, as its tables had no contacts. Of a version of days, the day begins
/// with the moment that is known; of others it ends there.
pub fn told_more(learned: &[Held], mut told: Vec<Held>, is_of_days: bool) -> Vec<Held> {
    let days = if is_of_days { 1 - DAY_SECONDS..1 } else { 0..DAY_SECONDS };
    let more = |of: &Held| {
        let is_it = |told: &Held| days.contains(&(of.times.from - told.times.from));
        told.iter().position(is_it).map_or(*of, |at| told.swap_remove(at))
    };
    let mut all: Vec<Held> = learned.iter().map(more).collect();
    all.extend(told);
    all
}

#[cfg(test)]
mod tests {
    use super::ContactStatus::{Cancelled, Claimed, Clicked, Complained, Expired, Failed, Opened, Reserved, Sent};
    use super::*;

    #[test]
    fn what_is_told_more_of_is_counted_once() {
        let at = |place, time: i64| Held::by_others(place, time);
        let learned = [10, 9, 9].map(|day| at(Place::Unknown, day * DAY_SECONDS));
        // One of the tenth day, one of the ninth, and one that was not learned of.
        let told = [10 * DAY_SECONDS - 7, 8 * DAY_SECONDS + 1, 3 * DAY_SECONDS].map(|time| at(Place::Channel(1), time));
        assert_eq!(told_more(&learned, told.to_vec(), false), [told[0], told[1], learned[2], told[2]]);
        assert_eq!(told_more(&[], told.to_vec(), false), told, "of tables without contacts");
        // Of days, what is told of a day comes after its beginning.
        let told = [10 * DAY_SECONDS + 7, 9 * DAY_SECONDS, 11 * DAY_SECONDS].map(|time| at(Place::Channel(1), time));
        assert_eq!(told_more(&learned, told.to_vec(), true), [told[0], told[1], learned[2], told[2]]);
    }

    #[test]
    fn what_is_said_may_come_in_any_order() {
        assert!(ContactStatus::ALL.iter().enumerate().all(|(i, status)| *status as usize == i));
        for (now, said, is_later, then) in [
            (Reserved, Sent, true, Sent),
            (Clicked, Opened, true, Clicked),
            (Clicked, Sent, false, Clicked),
            (Sent, Complained, true, Complained),
            (Claimed, Failed, false, Failed),
            (Opened, Failed, true, Opened),
            (Failed, Sent, false, Failed),
            (Failed, Sent, true, Sent),
            (Sent, Failed, true, Failed),
            (Sent, Failed, false, Sent),
            (Failed, Opened, false, Opened),
            (Expired, Sent, true, Sent),
            (Cancelled, Failed, true, Cancelled),
        ] {
            assert_eq!(now.after(said, is_later), then, "{now:?}, then {said:?}");
        }
    }
}
