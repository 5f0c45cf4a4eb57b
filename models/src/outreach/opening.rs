//! Openings: where and when a member may be told of something, and what it costs to disturb them.

use roaring::RoaringBitmap;

use super::contact::{Held, Place, Times, told_more};
use super::plan::PushRequest;
use super::policy::Policy;
use super::room::Room;
use crate::events::{DAY_SECONDS, Kind};
use crate::model::Model;
use crate::presence::HOURS;
use crate::state::{LiveContact, State};

/// Where and when one message may go to a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Opening {
    /// The member.
    pub member: u32,
    /// Number of the channel in the policy.
    pub channel: u16,
    /// When.
    pub times: Times,
    /// What it costs to send it, and to disturb the member by it.
    pub cost: f64,
}

/// Why a member has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// None of the channels reaches them.
    Unreachable,
    /// They were told enough.
    Capped,
}

/// A channel, and whom it reaches; `None` for all.
pub(super) type Reached = (u16, Option<RoaringBitmap>);

/// Whom the channels of a request reach.
pub(super) fn reached(model: &Model, policy: &Policy, request: &PushRequest) -> Vec<Reached> {
    let of = |number: u16| {
        let tag = policy.channel(number).tag.as_ref()?;
        let learned = model.groups.tags.get(model.members.tag_names.find(tag).unwrap_or(u32::MAX));
        Some(model.state.tagged(learned, tag))
    };
    request.channels.iter().map(|number| (*number, of(*number))).collect()
}

/// Looks for openings.
#[derive(Debug)]
pub(super) struct Openings<'a> {
    model: &'a Model,
    policy: &'a Policy,
    now: i64,
    priority: u8,
    /// When messages may go out.
    times: Vec<Times>,
    channels: &'a [Reached],
    /// Number of each of the channels in the presence; `u32::MAX` for one that it does not know.
    slots: Vec<u32>,
}

impl<'a> Openings<'a> {
    pub(super) fn new(
        model: &'a Model,
        policy: &'a Policy,
        channels: &'a [Reached],
        request: &PushRequest,
        now: i64,
    ) -> Self {
        let name = |number: &u16| policy.names[*number as usize].as_str();
        Self {
            model,
            policy,
            now,
            priority: request.priority,
            times: policy.times(request.start.max(now), request.end),
            channels,
            slots: request
                .channels
                .iter()
                .map(|number| model.presence.channel_names.find(name(number)).unwrap_or(u32::MAX))
                .collect(),
        }
    }

    /// The best opening of a member: the channel that they use most of those that have room, and there the hour at
    /// which they are around most; of hours alike, the first.
    pub(super) fn of(&self, member: u32) -> Result<Opening, Closed> {
        let held: Vec<Held> = held(self.model, self.policy, member);
        let held: Vec<Held> = held.into_iter().filter(|h| h.counts(self.now) && !h.gives_way(self.priority)).collect();
        let (channels, hours) = self.presence(member);
        let mut order: Vec<usize> = (0..self.channels.len()).collect();
        let share = |at: usize| channels.get(self.slots[at] as usize).copied().unwrap_or(0.0);
        order.sort_by(|a, b| share(*b).total_cmp(&share(*a)));
        order.retain(|at| self.channels[*at].1.as_ref().is_none_or(|reached| reached.contains(member)));
        if order.is_empty() {
            return Err(Closed::Unreachable);
        }
        let mut times: Vec<&Times> = self.times.iter().collect();
        let around = |times: &Times| hours.get(self.policy.calendar.hour(times.from) as usize).copied().unwrap_or(0.0);
        times.sort_by(|a, b| around(b).total_cmp(&around(a)));
        for at in order {
            let channel = self.channels[at].0;
            let mut room = Room::of(self.policy, &held, channel);
            if let Some(times) = times.iter().find(|times| room.admit(***times)) {
                let cost = self.policy.channel(channel).cost + self.policy.fatigue(&held, self.now);
                return Ok(Opening { member, channel, times: **times, cost });
            }
        }
        Err(Closed::Capped)
    }

    /// How a member's visits spread over channels and hours, as far as that may be used.
    fn presence(&self, member: u32) -> (Vec<f32>, Vec<f32>) {
        let (model, presence) = (self.model, &self.model.presence);
        if !model.state.consent(model, member).personalization {
            return (presence.channels.shares(None, None, &[]), presence.hours.shares(None, None, &[]));
        }
        let segment = model.segment(member);
        let (mut channels, mut hours) = (Vec::new(), Vec::new());
        for (time, channel) in visits(&model.state, member, self.policy) {
            hours.push(u32::from(self.policy.calendar.hour(time)));
            let name = model.state.channels().get(channel as usize);
            channels.extend(name.and_then(|name| presence.channel_names.find(name)));
        }
        debug_assert!(hours.iter().all(|hour| (*hour as usize) < HOURS));
        (
            presence.channels.shares(Some(member), segment, &channels),
            presence.hours.shares(Some(member), segment, &hours),
        )
    }
}

/// When and where a member was around since the model learned: what they did, and the messages that they answered. As training
/// counts them, what was done within an hour, through one channel, is one visit.
fn visits(state: &State, member: u32, policy: &Policy) -> Vec<(i64, u16)> {
    let did = state.member(member).into_iter().flat_map(|live| &live.events).filter(|e| e.kind != Kind::Refund);
    let answered = state.contacts(member).filter(|c| c.held.status.is_answered());
    let mut visits: Vec<(i64, u16)> =
        did.map(|e| (e.time, e.channel)).chain(answered.map(|c| (c.held.said_at, c.channel))).collect();
    let hour = |(time, channel): &(i64, u16)| (policy.calendar.end_of_hour(*time), *channel);
    visits.sort_unstable_by_key(hour);
    visits.dedup_by_key(|visit| hour(visit));
    visits
}

/// The messages that a member got, or is about to get, as a policy sees them: those that the model learned of, of which
/// it knows the day alone, unless the state was told more, and those since.
pub(super) fn held(model: &Model, policy: &Policy, member: u32) -> Vec<Held> {
    let held = |contact: LiveContact| contact.held(policy, model.state.channels());
    let is_of_days = model.state.counting().is_of_days;
    let learned = told_more(&learned(model, member), model.state.told(member).map(held).collect(), is_of_days);
    learned.into_iter().chain(model.state.contacts(member).map(held)).collect()
}

/// The messages to a member that the model learned of. Where, nobody said.
pub fn learned(model: &Model, member: u32) -> Vec<Held> {
    let Some(contacts) = &model.groups.contacts else { return Vec::new() };
    let as_of = model.info.as_of_time - model.state.counting().days_offset().unwrap_or(0);
    let time = |days_ago: u16| as_of - i64::from(days_ago) * DAY_SECONDS;
    let sent = |days_ago| Held::by_others(Place::Unknown, time(days_ago));
    contacts.days_ago_of(member).iter().map(|days| sent(*days)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::MemberFilter;
    use crate::catalogue::Members;
    use crate::events::Kind;
    use crate::feed::{ProductFilter, fixture};
    use crate::groups::{Contacts, Groups};
    use crate::outreach::{ChannelParams, FatigueParams, OutreachParams};
    use crate::presence::{Habit, Others, Presence};
    use crate::sparse::Matrix;
    use crate::state::{LiveEvent, Profile};

    /// Midnight of a day.
    const NOW: i64 = 20_000 * DAY_SECONDS;

    /// Members come at ten, by "app"; member 1 comes at eight in the evening, by "sms".
    fn model() -> Model {
        let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100)], &[]);
        let consents = vec![3; 3].into();
        model.members = Members { ids: ["m0", "m1", "m2"].iter().collect(), consents, ..Members::default() };
        let shares = |slots: usize, usual: usize| {
            let mut shares = vec![0.1 / slots as f32; slots];
            shares[usual] += 0.9;
            Others { shares: vec![shares; crate::groups::Segment::ALL.len() + 1], strength: 1.0 }
        };
        let visits = |slot| Matrix::from_sorted(3, &[(1, slot, 20.0)]);
        model.presence = Presence {
            hours: Habit { visits: visits(20), others: shares(HOURS, 10) },
            channels: Habit { visits: visits(1), others: shares(2, 0) },
            channel_names: ["app", "sms"].iter().collect(),
        };
        model.info.as_of_time = NOW - DAY_SECONDS;
        model.state = State::of(&model);
        model
    }

    fn policy(change: impl Fn(&mut OutreachParams)) -> Policy {
        let mut params = OutreachParams::default();
        for name in ["app", "sms"] {
            params.channels.insert(name.to_owned(), ChannelParams::default());
        }
        change(&mut params);
        params.validate(0).unwrap()
    }

    fn opening(model: &Model, policy: &Policy, member: u32) -> Result<(u16, u8), Closed> {
        found(model, policy, member).map(|found| (found.channel, policy.calendar.hour(found.times.from)))
    }

    fn found(model: &Model, policy: &Policy, member: u32) -> Result<Opening, Closed> {
        let request = PushRequest {
            offers: Vec::new(),
            products: ProductFilter::default(),
            filter: MemberFilter::default(),
            channels: vec![0, 1],
            start: NOW,
            end: NOW + DAY_SECONDS,
            priority: 0,
        };
        let channels = reached(model, policy, &request);
        Openings::new(model, policy, &channels, &request, NOW).of(member)
    }

    #[test]
    fn an_opening_costs_what_the_channel_does_and_what_was_told_lately() {
        let mut model = model();
        // A week ago, which is six days before what the version knows last: half of it is forgotten.
        model.groups =
            Groups { contacts: Some(Contacts { members: vec![1].into(), days_ago: vec![6].into() }), ..model.groups };
        let policy = policy(|p| {
            p.channels.values_mut().for_each(|channel| channel.cost = 0.25);
            p.fatigue = FatigueParams { cost: 0.5, per_recent: 2.0, per_ignored: 0.0 };
        });
        assert_eq!(found(&model, &policy, 0).unwrap().cost, 0.75);
        assert_eq!(found(&model, &policy, 1).unwrap().cost, 0.25 + 0.5 * (1.0 + 2.0 * 0.5));
    }

    #[test]
    fn members_are_met_where_and_when_they_are_around() {
        let (mut model, policy) = (model(), policy(|_| ()));
        assert_eq!(opening(&model, &policy, 0), Ok((0, 10)), "as others are");
        assert_eq!(opening(&model, &policy, 1), Ok((1, 20)), "as they were");
        let silent = Profile { personalization: Some(false), ..Profile::default() };
        let mut state = model.state.clone();
        state.describe(&model, "m1", silent);
        let sms = state.channel(Some("sms"));
        for day in 1..9 {
            let time = NOW - day * DAY_SECONDS + 16 * 3600;
            state.record(&model, "m2", LiveEvent { time, product: 0, kind: Kind::View, channel: sms }, None);
        }
        model.state = state;
        assert_eq!(opening(&model, &policy, 1), Ok((0, 10)), "that may no longer be used");
        assert_eq!(opening(&model, &policy, 2), Ok((1, 16)), "as they have been since");
    }

    #[test]
    fn an_hour_of_browsing_is_one_visit() {
        let (mut model, policy) = (model(), policy(|_| ()));
        let mut state = model.state.clone();
        let (app, afternoon) = (state.channel(Some("app")), NOW - DAY_SECONDS + 15 * 3600);
        for second in 0..60 {
            let time = afternoon + second;
            state.record(&model, "m1", LiveEvent { time, product: 0, kind: Kind::View, channel: app }, None);
        }
        for day in 1..30 {
            let time = afternoon - day * DAY_SECONDS;
            state.record(&model, "m1", LiveEvent { time, product: 0, kind: Kind::Refund, channel: app }, None);
        }
        model.state = state;
        assert_eq!(opening(&model, &policy, 1), Ok((1, 20)), "who was around there and then on twenty evenings");
    }

    #[test]
    fn the_next_best_is_taken_where_the_best_has_no_room() {
        let mut model = model();
        let quiet = policy(|p| (p.quiet_from, p.quiet_until) = (19, 11));
        assert_eq!(opening(&model, &quiet, 1), Ok((1, 11)));
        let no_sms = policy(|p| p.channels.get_mut("sms").unwrap().caps.per_30_days = Some(0));
        assert_eq!(opening(&model, &no_sms, 1), Ok((0, 20)));
        let tagged = policy(|p| p.channels.values_mut().for_each(|c| c.tag = Some("friend".to_owned())));
        assert_eq!(opening(&model, &tagged, 1), Err(Closed::Unreachable));
        // One of two days ago, and the caps have room for none.
        model.groups =
            Groups { contacts: Some(Contacts { members: vec![1].into(), days_ago: vec![1].into() }), ..model.groups };
        let full = policy(|p| p.caps.per_7_days = Some(1));
        assert_eq!((opening(&model, &full, 1), opening(&model, &full, 0)), (Err(Closed::Capped), Ok((0, 10))));
    }
}
