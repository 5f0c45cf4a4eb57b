//! Presence: when, and through which channel, a member is around.
//!
//! Counts of a member's own visits, backed off to those of the segment and of all members: a Dirichlet prior around
//! the others' shares, whose strength is learned (MacKay and Bauman Peto 1995, "A hierarchical Dirichlet language
//! model", section 3).

use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactError, Reader, Writer};
use crate::groups::Segment;
use crate::sparse::Matrix;
use crate::strings::Strings;

/// Hours of a day.
pub const HOURS: usize = 24;

/// When and where members are around; empty where events have no times, or no channels.
#[derive(Clone, Debug, Default)]
pub struct Presence {
    /// By local hour, 0 to 23.
    pub hours: Habit,
    /// By channel.
    pub channels: Habit,
    /// Names of the channels, sorted.
    pub channel_names: Strings,
}

/// How a member's visits spread over some slots.
#[derive(Clone, Debug, Default)]
pub struct Habit {
    /// Visits per member and slot.
    pub visits: Matrix,
    /// What is known of others.
    pub others: Others,
}

/// How the visits of others spread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Others {
    /// Shares of the slots by segment, in the order of [`Segment::ALL`], and then of all members; each sums to 1. Empty
    /// where nothing is known.
    pub shares: Vec<Vec<f32>>,
    /// Visits of a member's own that the others' shares are worth; above 0.
    pub strength: f32,
}

#[derive(Serialize, Deserialize)]
struct Values {
    hours: Others,
    channels: Others,
}

impl Others {
    /// Shares of a segment's members, or of all.
    pub fn shares_of(&self, segment: Option<Segment>) -> Option<&[f32]> {
        let place = segment.map_or(Segment::ALL.len(), |segment| segment as usize);
        self.shares.get(place).map(Vec::as_slice)
    }
}

impl Habit {
    /// How likely the next visit falls into each slot: a member's own visits, `more` that came since by slot, and those
    /// of their segment. Empty where nothing is known.
    pub fn shares(&self, member: Option<u32>, segment: Option<Segment>, more: &[u32]) -> Vec<f32> {
        let Some(others) = self.others.shares_of(segment) else { return Vec::new() };
        let strength = self.others.strength;
        let mut shares: Vec<f32> = others.iter().map(|share| share * strength).collect();
        let mut total = strength;
        let mut add = |slot: u32, visits: f32| {
            if let Some(share) = shares.get_mut(slot as usize) {
                *share += visits;
                total += visits;
            }
        };
        if let Some(row) = member.filter(|row| (*row as usize) < self.visits.rows.len()) {
            let (slots, visits) = self.visits.row(row);
            slots.iter().zip(visits).for_each(|(slot, visits)| add(*slot, *visits));
        }
        more.iter().for_each(|slot| add(*slot, 1.0));
        shares.iter_mut().for_each(|share| *share /= total);
        shares
    }

    /// The slot of most visits by all members.
    pub fn most_common(&self) -> Option<u32> {
        best(self.others.shares_of(None)?)
    }
}

/// The first of the largest shares.
pub fn best(shares: &[f32]) -> Option<u32> {
    (0u32..).zip(shares).max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map(|(slot, _)| slot)
}

impl Presence {
    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        let values = Values { hours: self.hours.others.clone(), channels: self.channels.others.clone() };
        to.section("presence", &values, |s| {
            self.hours.visits.write("hours", s)?;
            self.channels.visits.write("channels", s)?;
            self.channel_names.write("channel_names", s)
        })
    }

    pub(crate) fn read(from: &Reader, members: usize) -> Result<Self, ArtifactError> {
        let s = from.section("presence")?;
        let Values { hours, channels } = s.values()?;
        let channel_names = Strings::read("channel_names", &s)?;
        for (others, slots) in [(&hours, HOURS), (&channels, channel_names.len())] {
            let fits =
                |shares: &Vec<f32>| shares.len() == slots && shares.iter().all(|share| (0.0..=1.0).contains(share));
            let is_whole = others.shares.is_empty()
                || (others.shares.len() == Segment::ALL.len() + 1 && others.shares.iter().all(fits));
            let is_known = others.shares.is_empty() || (others.strength.is_finite() && others.strength > 0.0);
            s.ensure(is_whole && is_known, "shares are not those of the segments")?;
        }
        let habit = |name: &str, slots: usize, others: Others| {
            // Without shares there are no visits either.
            let rows = if others.shares.is_empty() { 0 } else { members };
            Ok::<_, ArtifactError>(Habit { visits: Matrix::read(name, rows, slots, &s)?, others })
        };
        Ok(Self {
            hours: habit("hours", HOURS, hours)?,
            channels: habit("channels", channel_names.len(), channels)?,
            channel_names,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habit() -> Habit {
        let shares = vec![vec![0.5, 0.5], vec![0.25, 0.75], vec![0.5, 0.5], vec![0.5, 0.5], vec![0.75, 0.25]];
        let visits = Matrix::from_sorted(2, &[(0, 1, 2.0)]);
        Habit { visits, others: Others { shares, strength: 4.0 } }
    }

    #[test]
    fn own_visits_count_beside_those_of_others() {
        let habit = habit();
        assert_eq!(habit.shares(Some(0), None, &[]), [3.0 / 6.0, 3.0 / 6.0]);
        assert_eq!(habit.shares(Some(0), Some(Segment::Active), &[]), [1.0 / 6.0, 5.0 / 6.0]);
        assert_eq!(habit.shares(Some(1), None, &[1, 1, 1, 1, 7]), [3.0 / 8.0, 5.0 / 8.0], "slot 7 is none");
        assert_eq!(habit.shares(None, None, &[]), [0.75, 0.25]);
        assert_eq!((habit.most_common(), best(&[0.5, 0.5])), (Some(0), Some(0)));
        assert!(Habit::default().shares(Some(0), None, &[1]).is_empty());
    }
}
