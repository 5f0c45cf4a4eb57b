//! What members have in common that only events tell: segments, and how often they were contacted.

use kindred_models::bitmaps::Bitmaps;
use kindred_models::catalogue::Members;
use kindred_models::events::DAY_SECONDS;
use kindred_models::groups::{CONTACT_DAYS, Contacts, Groups, Segment};
use kindred_models::history::{History, UNKNOWN_DAYS};

use crate::data::Kind;
use crate::prepare::Slice;

/// Days from the first purchase in which a member is new.
const NEW_DAYS: u16 = 30;
/// Gaps between purchases that the base's is worth beside a member's own.
const GAP_PRIOR: f32 = 2.0;
/// Gaps since the last purchase up to which a member is active, and up to which the member cools.
const ACTIVE_GAPS: f32 = 2.0;
const COOLING_GAPS: f32 = 5.0;
/// Days since the last purchase up to which every member is active.
const ACTIVE_DAYS: f32 = 14.0;

/// The members of a slice in their groups.
pub(crate) fn groups(slice: &Slice, members: &Members, history: &History) -> Groups {
    Groups::of(members, segments(history), contacts(slice))
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
    fn of(history: &History, member: u32) -> Option<Self> {
        let bought = || history.member(member).filter(|p| p.count > 0 && p.days_since != UNKNOWN_DAYS);
        let last = bought().map(|p| p.days_since).min()?;
        let first = bought().map(|p| p.days_since.saturating_add(p.span_days)).max()?;
        Some(Self { first, last, trips: history.member_trips[member as usize].max(1) })
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

fn segments(history: &History) -> Bitmaps {
    let rhythms: Vec<Option<Rhythm>> =
        (0..history.rows.len() as u32).map(|member| Rhythm::of(history, member)).collect();
    let known = || rhythms.iter().flatten();
    let days: f64 = known().map(|r| f64::from(r.first - r.last)).sum();
    let gaps: f64 = known().map(|r| f64::from(r.trips - 1)).sum();
    let base_gap = if gaps > 0.0 { (days / gaps) as f32 } else { f32::from(NEW_DAYS) };
    let in_segment = |segment: Segment| {
        let placed = (0u32..).zip(&rhythms).filter_map(move |(row, rhythm)| Some((row, (*rhythm)?.segment(base_gap))));
        placed.filter(move |(_, place)| *place == segment).map(|(row, _)| row).collect()
    };
    Bitmaps::of_sets(Segment::ALL.into_iter().map(in_segment))
}

/// Whoever was contacted was, whatever they allow to be learned.
fn contacts(slice: &Slice) -> Option<Contacts> {
    if !slice.has_time() {
        return None;
    }
    let days_ago = |time: i64| (slice.as_of - time).div_euclid(DAY_SECONDS);
    let sent = slice.events.iter().filter(|e| e.kind == Kind::Contact);
    let recent =
        sent.map(|e| (e.member, days_ago(e.time))).filter(|(_, ago)| (0..i64::from(CONTACT_DAYS)).contains(ago));
    let (members, days_ago): (Vec<u32>, Vec<u16>) = recent.map(|(member, ago)| (member, ago as u16)).unzip();
    Some(Contacts { members: members.into(), days_ago: days_ago.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Event;

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
    }

    #[test]
    fn contacts_are_kept_for_some_days() {
        let event =
            |member, day, kind| Event { member, product: 0, time: day * DAY_SECONDS, store: 0, channel: 0, kind };
        let events = vec![
            event(0, 100, Kind::Contact),
            event(0, 191, Kind::Contact),
            event(1, 195, Kind::Purchase),
            event(2, 199, Kind::Contact),
            event(2, 200, Kind::Contact),
        ];
        let found = contacts(&Slice::of(events.clone(), true)).unwrap();
        assert_eq!((&found.members[..], &found.days_ago[..]), (&[0, 2, 2][..], &[9, 1, 0][..]));
        assert!(contacts(&Slice::of(events, false)).is_none(), "without times, nothing is known");
    }
}
