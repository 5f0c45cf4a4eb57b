//! Segments: how long ago members last bought, against how often they do.

use std::sync::Arc;

use parking_lot::Mutex;
use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::bitmaps::Bitmaps;
use crate::history::{History, Past, UNKNOWN_DAYS};
use crate::model::Model;
use crate::stop::{Stop, Stopped};

/// Days from the first purchase in which a member is new.
const NEW_DAYS: u16 = 30;
/// Gaps between purchases that the base's is worth beside a member's own.
const GAP_PRIOR: f32 = 2.0;
/// Gaps since the last purchase up to which a member is active, and up to which the member cools.
const ACTIVE_GAPS: f32 = 2.0;
const COOLING_GAPS: f32 = 5.0;
/// Days since the last purchase up to which every member is active.
const ACTIVE_DAYS: f32 = 14.0;

/// Segments of members. Members of whose purchases nothing is known are in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Segment {
    /// Bought for the first time not long ago.
    New,
    /// Buys as usual.
    Active,
    /// Has not bought for longer than usual.
    Cooling,
    /// Has not bought for much longer.
    Asleep,
}

impl Segment {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Self; 4] = [Self::New, Self::Active, Self::Cooling, Self::Asleep];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Active => "active",
            Self::Cooling => "cooling",
            Self::Asleep => "asleep",
        }
    }

    /// From its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|segment| segment.name() == name)
    }
}

/// Days on which a member bought something, seen from the newest event.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rhythm {
    /// Days since the first and since the last.
    first: u16,
    last: u16,
    /// How many.
    trips: u16,
}

impl Rhythm {
    fn of(pasts: impl Iterator<Item = Past>, trips: u16) -> Option<Self> {
        let bought = pasts.filter(|p| p.count > 0 && p.days_since != UNKNOWN_DAYS);
        let days = bought.map(|p| (p.days_since.saturating_add(p.span_days), p.days_since));
        let (first, last) = days.reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)))?;
        Some(Self { first, last, trips: trips.max(1) })
    }

    fn learned(history: &History, member: u32) -> Option<Self> {
        Self::of(history.member(member), *history.member_trips.get(member as usize)?)
    }

    /// The same, so many days later.
    fn later(self, days: u16) -> Self {
        Self { first: self.first.saturating_add(days), last: self.last.saturating_add(days), ..self }
    }

    /// The segment, where members buy every `base_gap` days.
    fn segment(self, base_gap: f32) -> Segment {
        let gaps = f32::from(self.trips - 1);
        let gap = (f32::from(self.first - self.last) + GAP_PRIOR * base_gap) / (gaps + GAP_PRIOR);
        let since = f32::from(self.last);
        match () {
            () if self.first < NEW_DAYS => Segment::New,
            () if since <= (ACTIVE_GAPS * gap).max(ACTIVE_DAYS) => Segment::Active,
            () if since <= (COOLING_GAPS * gap).max(ACTIVE_DAYS) => Segment::Cooling,
            () => Segment::Asleep,
        }
    }
}

/// Days between two of a member's purchases, over all members.
pub fn base_gap(history: &History) -> f32 {
    let rhythms = (0..history.rows.len() as u32).into_par_iter().filter_map(|member| Rhythm::learned(history, member));
    let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    let counts = rhythms.map(|r| (u64::from(r.first - r.last), u64::from(r.trips - 1)));
    let (days, gaps) = counts.reduce(|| (0, 0), sum);
    if gaps > 0 { (days as f64 / gaps as f64) as f32 } else { f32::from(NEW_DAYS) }
}

/// The segments at the moment of a history, in the order of [`Segment::ALL`].
pub fn segments(history: &History) -> Bitmaps {
    segments_after(0, history, base_gap(history), &Stop::default())
}

/// The same if nobody buys anything for so many days. Not all of it once it is told to stop.
fn segments_after(days: u16, history: &History, base_gap: f32, stop: &Stop) -> Bitmaps {
    let segment = |row| Some(Rhythm::learned(history, row)?.later(days).segment(base_gap));
    let members = (0..history.rows.len() as u32).into_par_iter();
    let placed: Vec<_> = members.map(|row| if stop.is_raised() { None } else { segment(row) }).collect();
    let in_segment = |segment| {
        (0u32..).zip(&placed).filter(move |(_, place)| **place == Some(segment)).map(|(row, _)| row).collect()
    };
    Bitmaps::of_sets(Segment::ALL.into_iter().map(in_segment))
}

/// The segments of members of whom nothing was heard since the model's moment, as they are so many days after it: of those
/// that were asked for last, 0 if none were. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Later(Arc<Mutex<(u16, Bitmaps)>>);

impl Model {
    /// The segment that a member is in now, with what they bought since; `None` where no purchase is known, or may be.
    pub fn segment(&self, row: u32) -> Option<Segment> {
        let state = &self.state;
        let is_known = (row as usize) < self.members.len();
        let rhythm = match is_known && state.is_as_learned(row) {
            // Where the version's events have no times, a first purchase since says nothing of those before.
            _ if state.is_erased(row) || self.info.as_of_time <= 0 => None,
            false if !state.consent(self, row).personalization => None,
            false => {
                let pasts = state.pasts(self, row);
                Rhythm::of(pasts.list.into_iter(), pasts.trips)
            }
            true => Rhythm::learned(&self.history, row).map(|rhythm| rhythm.later(self.state.days_passed(self))),
        };
        rhythm.map(|rhythm| rhythm.segment(self.groups.base_gap))
    }

    /// The members who are in one of some segments now. Once a day takes as long as all histories are large.
    ///
    /// # Errors
    /// If it was told to stop.
    pub fn in_segments(&self, wanted: &[Segment], stop: &Stop) -> Result<RoaringBitmap, Stopped> {
        let sets = wanted.iter().map(|segment| *segment as u32);
        let learned = match self.state.days_passed(self) {
            0 => self.groups.segments.union(sets),
            days => self.later_segments(days, stop)?.union(sets),
        };
        let is_wanted =
            |row: &u32| !stop.is_raised() && self.segment(*row).is_some_and(|segment| wanted.contains(&segment));
        let changed = self.state.changed();
        let rows: Vec<u32> = changed.iter().collect();
        let now: Vec<u32> = rows.into_par_iter().filter(is_wanted).collect();
        stop.check()?;
        Ok((learned - &changed) | now.into_iter().collect::<RoaringBitmap>())
    }

    fn later_segments(&self, days: u16, stop: &Stop) -> Result<Bitmaps, Stopped> {
        let Later(last) = &self.groups.later;
        let (known, sets) = last.lock().clone();
        if known == days {
            return Ok(sets);
        }
        // The lock is not held meanwhile: a thread that waits for others' share takes up the next request, which wants it.
        let sets = segments_after(days, &self.history, self.groups.base_gap, stop);
        stop.check()?;
        *last.lock() = (days, sets.clone());
        Ok(sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Members;
    use crate::events::{DAY_SECONDS, Kind};
    use crate::feed::fixture;
    use crate::sparse::Rows;
    use crate::state::{LiveEvent, NO_CHANNEL, State};

    #[test]
    fn segments_follow_each_member_s_own_rhythm() {
        let segment = |first, last, trips| Rhythm { first, last, trips }.segment(30.0).name();
        assert_eq!(segment(20, 20, 1), "new");
        // Every week for a year: (358 + 60) / (52 + 2), about 8 days.
        assert_eq!(segment(360, 2, 53), "active");
        assert_eq!(segment(390, 30, 53), "cooling");
        assert_eq!(segment(420, 60, 53), "asleep");
        // Every two months: 60 days are nothing.
        assert_eq!(segment(360, 60, 6), "active");
        // Once, long ago: the base's rhythm stands for the member's own.
        assert_eq!(segment(50, 50, 1), "active");
        assert_eq!(segment(100, 100, 1), "cooling");
        assert_eq!(segment(200, 200, 1), "asleep");
        assert_eq!(Rhythm { first: 50, last: 50, trips: 1 }.later(50).segment(30.0), Segment::Cooling);
    }

    /// Members who bought one thing once: 20, 50, 100 and 200 days before the model's moment, and one who bought nothing.
    fn model() -> Model {
        let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100)], &[]);
        let ids = ["a", "b", "c", "d", "e"];
        model.members = Members { ids: ids.iter().collect(), consents: vec![3; 5].into(), ..Members::default() };
        model.history = History {
            rows: Rows::from_lists([vec![0], vec![0], vec![0], vec![0], vec![]]),
            weights: vec![1.0; 4].into(),
            decayed: vec![1.0; 4].into(),
            counts: vec![1; 4].into(),
            days_since: vec![20, 50, 100, 200].into(),
            trips: vec![1; 4].into(),
            span_days: vec![0; 4].into(),
            recent: vec![1.0; 4].into(),
            trips_since: vec![0; 4].into(),
            trips_from: vec![1; 4].into(),
            member_trips: vec![1, 1, 1, 1, 0].into(),
        };
        model.groups.base_gap = 30.0;
        model.groups.segments = segments_after(0, &model.history, 30.0, &Stop::default());
        model.info.as_of_time = 20_000 * DAY_SECONDS;
        model.state = State::of(&model);
        model
    }

    #[test]
    fn segments_are_those_of_the_day() {
        let mut model = model();
        let mut after = |days: i64| {
            let mut state = model.state.clone();
            let time = model.info.as_of_time + days * DAY_SECONDS;
            let event = LiveEvent { time, product: 0, kind: Kind::Purchase, channel: NO_CHANNEL };
            state.record(&model, "d", event, None);
            model.state = state;
            let rows = |segment| model.in_segments(&[segment], &Stop::default()).unwrap().iter().collect::<Vec<u32>>();
            // Once more, as they are known by then.
            assert_eq!(Segment::ALL.map(rows), Segment::ALL.map(rows));
            let one_by_one = |segment| (0..5).filter(|row| model.segment(*row) == Some(segment)).collect::<Vec<u32>>();
            assert_eq!(Segment::ALL.map(rows), Segment::ALL.map(one_by_one));
            Segment::ALL.map(rows)
        };
        // One purchase of `d` more, 200 days after the first: a gap of (200 + 60) / 3 days.
        assert_eq!(after(0), [vec![0], vec![1, 3], vec![2], vec![]]);
        assert_eq!(after(9), [vec![0], vec![1, 3], vec![2], vec![]], "new for 30 days");
        assert_eq!(after(10), [vec![], vec![0, 1, 3], vec![2], vec![]]);
        assert_eq!(after(51), [vec![], vec![3], vec![0, 1], vec![2]], "two gaps of 30 days, and five");
    }
}
