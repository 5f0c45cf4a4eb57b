//! When, and through which channel, members are around: visits counted, and how much the others' are worth beside a
//! member's own.

use kindred_models::bitmaps::Bitmaps;
use kindred_models::catalogue::Members;
use kindred_models::groups::Segment;
use kindred_models::presence::{HOURS, Habit, Others, Presence};
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::strings::{NONE, Strings};

use crate::config::PopularityParams;
use crate::data::{Dataset, Event, Kind};
use crate::slice::Slice;

/// Seconds of an hour.
const HOUR: i64 = 3600;
/// Visits of all members that a segment's shares are shrunk by.
const SEGMENT_PRIOR: f64 = 1000.0;
/// Candidates for how many of a member's own visits the others' shares are worth.
const STRENGTHS: [f64; 9] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// One time that a member was around.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Visit {
    pub(crate) member: u32,
    /// Hours since 1970, by the shops' clocks.
    hour: i64,
    channel: u16,
}

impl Visit {
    /// The hour of the day.
    pub(crate) fn hour_of_day(&self) -> u32 {
        self.hour.rem_euclid(HOURS as i64) as u32
    }

    /// The channel, if it is one of the sorted `names`.
    pub(crate) fn channel(&self, events: &[String], names: &Strings) -> Option<u32> {
        events.get(self.channel as usize).and_then(|name| names.find(name))
    }
}

/// The visits among events, as far as they may be used: what was done within an hour, through one channel, is one.
pub(crate) fn visits<'a>(
    events: impl Iterator<Item = &'a Event>,
    members: &Members,
    params: &PopularityParams,
) -> Vec<Visit> {
    let offset = 60 * i64::from(params.utc_offset_minutes);
    let is_visit = |e: &&Event| !matches!(e.kind, Kind::Contact | Kind::Refund);
    let usable = events.filter(is_visit).filter(|e| members.consent(e.member).personalization);
    let visit = |e: &Event| Visit { member: e.member, hour: (e.time + offset).div_euclid(HOUR), channel: e.channel };
    let mut visits: Vec<Visit> = usable.map(visit).collect();
    visits.sort_unstable();
    visits.dedup();
    visits
}

/// Counts visits.
pub(crate) fn fit(dataset: &Dataset, slice: &Slice, segments: &Bitmaps, params: &PopularityParams) -> Presence {
    let mut names = dataset.events.channels.clone();
    names.sort_unstable();
    let channel_names: Strings = names.iter().collect();
    let members = dataset.members.len();
    let (has_hours, mut hours, mut channels) = (slice.has_hours(), Counts::new(members), Counts::new(members));
    for (member, events) in slice.members() {
        let visits = visits(events, &dataset.members, params);
        if has_hours {
            hours.add(member, visits.iter().map(Visit::hour_of_day).collect());
        }
        let by_channel = |visit: &Visit| visit.channel(&dataset.events.channels, &channel_names);
        channels.add(member, visits.iter().filter_map(by_channel).collect());
    }
    let mut segment_of = vec![NONE; members];
    for segment in Segment::ALL {
        segments.get(segment as u32).iter().for_each(|row| segment_of[row as usize] = segment as u32);
    }
    Presence {
        hours: habit(hours, HOURS, &segment_of),
        channels: habit(channels, names.len(), &segment_of),
        channel_names,
    }
}

/// Visits by member and slot.
#[derive(Debug)]
struct Counts {
    offsets: Vec<u64>,
    slots: Vec<u32>,
    visits: Vec<f32>,
}

impl Counts {
    fn new(members: usize) -> Self {
        Self { offsets: vec![0; members + 1], slots: Vec::new(), visits: Vec::new() }
    }

    /// Adds a member's visits, a slot each. Members come in order.
    fn add(&mut self, member: u32, mut slots: Vec<u32>) {
        slots.sort_unstable();
        for run in slots.chunk_by(|a, b| a == b) {
            self.slots.push(run[0]);
            self.visits.push(run.len() as f32);
            self.offsets[member as usize + 1] += 1;
        }
    }

    fn into_matrix(mut self) -> Matrix {
        (1..self.offsets.len()).for_each(|i| self.offsets[i] += self.offsets[i - 1]);
        let rows = Rows { offsets: self.offsets.into(), columns: self.slots.into() };
        Matrix { rows, values: self.visits.into() }
    }
}

fn habit(counts: Counts, slots: usize, segment_of: &[u32]) -> Habit {
    if counts.visits.is_empty() {
        return Habit::default();
    }
    let visits = counts.into_matrix();
    let shares = shares(&visits, slots, segment_of);
    let strength = strength(&visits, &shares, segment_of);
    Habit { visits, others: Others { shares, strength } }
}

/// Shares of the slots by segment, and of all.
fn shares(visits: &Matrix, slots: usize, segment_of: &[u32]) -> Vec<Vec<f32>> {
    let mut sums = vec![vec![0.0f64; slots]; Segment::ALL.len() + 1];
    for (member, segment) in (0u32..).zip(segment_of) {
        let (slots, visits) = visits.row(member);
        for (slot, visits) in slots.iter().zip(visits) {
            sums[Segment::ALL.len()][*slot as usize] += f64::from(*visits);
            if let Some(of_segment) = sums.get_mut(*segment as usize) {
                of_segment[*slot as usize] += f64::from(*visits);
            }
        }
    }
    // One visit more in each slot: nothing is impossible.
    let all: f64 = sums[Segment::ALL.len()].iter().map(|visits| visits + 1.0).sum();
    let base: Vec<f64> = sums[Segment::ALL.len()].iter().map(|visits| (visits + 1.0) / all).collect();
    let of_segment = |sums: &Vec<f64>| -> Vec<f32> {
        let total: f64 = sums.iter().sum::<f64>() + SEGMENT_PRIOR;
        sums.iter().zip(&base).map(|(visits, share)| ((visits + SEGMENT_PRIOR * share) / total) as f32).collect()
    };
    let mut shares: Vec<Vec<f32>> = sums[..Segment::ALL.len()].iter().map(of_segment).collect();
    shares.push(base.iter().map(|share| *share as f32).collect());
    shares
}

/// How many visits of a member's own the others' shares are worth: each visit is foretold by the member's other ones.
fn strength(visits: &Matrix, shares: &[Vec<f32>], segment_of: &[u32]) -> f32 {
    let likelihood = |strength: f64| -> f64 {
        (0..visits.rows.len() as u32)
            .map(|member| {
                let (slots, counts) = visits.row(member);
                let others = &shares[(segment_of[member as usize] as usize).min(Segment::ALL.len())];
                let total: f64 = counts.iter().map(|count| f64::from(*count)).sum();
                let of_slot = |(slot, count): (&u32, &f32)| {
                    let (count, share) = (f64::from(*count), f64::from(others[*slot as usize]));
                    count * ((count - 1.0 + strength * share) / (total - 1.0 + strength)).ln()
                };
                slots.iter().zip(counts).map(of_slot).sum::<f64>()
            })
            .sum()
    };
    let tried = STRENGTHS.map(|strength| (strength, likelihood(strength)));
    tried.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(1.0, |(strength, _)| strength as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(member: u32, hour: i64, channel: u16) -> Visit {
        Visit { member, hour, channel }
    }

    #[test]
    fn what_is_done_within_an_hour_is_one_visit() {
        let event = |time, kind| Event { member: 0, product: 0, time, store: 0, channel: 0, kind, price: 0 };
        let events = [
            event(10 * HOUR, Kind::Purchase),
            event(10 * HOUR + 600, Kind::View),
            event(11 * HOUR, Kind::Contact),
            event(34 * HOUR, Kind::Purchase),
        ];
        let members = Members { consents: vec![3].into(), ..Members::default() };
        let params = PopularityParams { utc_offset_minutes: 480, ..PopularityParams::default() };
        let found = visits(events.iter(), &members, &params);
        assert_eq!(found, [visit(0, 18, 0), visit(0, 42, 0)]);
        assert_eq!(found.iter().map(Visit::hour_of_day).collect::<Vec<_>>(), [18, 18]);
        let silent = Members { consents: vec![2].into(), ..Members::default() };
        assert!(visits(events.iter(), &silent, &params).is_empty(), "nothing is learned of who does not allow it");
    }

    #[test]
    fn own_visits_count_more_where_members_keep_to_their_own() {
        // Each member has an hour of their own, or all come at any hour.
        let own: Vec<Visit> = (0..24).flat_map(|m| (0..10).map(move |d| visit(m, 24 * d + i64::from(m), 0))).collect();
        let any: Vec<Visit> =
            (0..24).flat_map(|m| (0..10).map(move |d| visit(m, 24 * d + (7 * d + i64::from(m) * 5) % 24, 0))).collect();
        let fit = |visits: &[Visit]| {
            let mut counts = Counts::new(24);
            for of_member in visits.chunk_by(|a, b| a.member == b.member) {
                counts.add(of_member[0].member, of_member.iter().map(Visit::hour_of_day).collect());
            }
            habit(counts, HOURS, &[NONE; 24])
        };
        let (own, any) = (fit(&own), fit(&any));
        assert!(own.others.strength <= 1.0 && any.others.strength >= 64.0, "{:?} {:?}", own.others, any.others);
        assert!(own.shares(Some(5), None, &[])[5] > 0.9);
        assert!(any.shares(Some(5), None, &[]).iter().all(|share| *share < 0.1));
    }
}
