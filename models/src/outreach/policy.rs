//! The contact budget: who may be sent what, when, and what it costs to disturb somebody.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calendar::{Calendar, HOUR_SECONDS};
use super::caps::Caps;
use super::contact::{ContactStatus, Held, Place, Times};
use super::room::Room;
use crate::events::{DAY_SECONDS, decayed};

/// Days for which contacts are remembered.
pub const REMEMBERED_DAYS: i64 = 100;
/// The longest gap between two messages, in hours, that may be configured: shorter than they are remembered.
const MAX_GAP_HOURS: u32 = 720;
/// Days after which a contact disturbs half as much as a new one.
const RECENT_HALF_LIFE_DAYS: f32 = 7.0;
/// Seconds after which a contact that was not answered was ignored.
const IGNORED_AFTER: i64 = DAY_SECONDS;

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelParams {
    /// What a message costs, in the currency of prices; 0 or above.
    pub cost: f64,
    /// Tag of the members who can be reached there; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How many of its messages a member may get.
    pub caps: Caps,
}

/// What it costs to disturb a member, in the currency of prices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FatigueParams {
    /// A message to who got none lately; 0 or above.
    pub cost: f64,
    /// How much of that more for each message got lately, which counts half after a week.
    pub per_recent: f64,
    /// How much of that more for each message ignored since the member last answered one.
    pub per_ignored: f64,
}

impl Default for FatigueParams {
    fn default() -> Self {
        Self { cost: 0.05, per_recent: 1.0, per_ignored: 0.5 }
    }
}

/// The contact budget as it is configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutreachParams {
    /// Hour, by the shops' clocks, from which nobody is disturbed, 0 to 23.
    pub quiet_from: u8,
    /// Hour until which nobody is; the same as `quiet_from` for no quiet hours.
    pub quiet_until: u8,
    /// Minutes after its planned moment in which a message may still go out; its place is free after that.
    pub hold_minutes: u32,
    /// Days for which a member who complained is left alone.
    pub rest_days: u32,
    /// Days for which a member is not told of the same product again.
    pub same_product_days: u32,
    /// Over all channels.
    pub caps: Caps,
    /// What disturbing costs.
    pub fatigue: FatigueParams,
    /// The channels; without one, nothing can be planned.
    pub channels: BTreeMap<String, ChannelParams>,
}

impl Default for OutreachParams {
    fn default() -> Self {
        let caps = Caps {
            per_day: Some(1),
            per_7_days: Some(3),
            per_30_days: Some(8),
            min_gap_hours: Some(12),
            per_month: None,
        };
        Self {
            quiet_from: 21,
            quiet_until: 9,
            hold_minutes: 60,
            rest_days: 90,
            same_product_days: 30,
            caps,
            fatigue: FatigueParams::default(),
            channels: BTreeMap::new(),
        }
    }
}

/// A parameter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outreach.{name} = {value}: {rule}")]
pub struct InvalidOutreach {
    name: String,
    value: String,
    rule: &'static str,
}

impl OutreachParams {
    /// The budget, for shops whose clocks are so many minutes ahead of UTC.
    ///
    /// # Errors
    /// For the first parameter that is out of range.
    pub fn validate(self, utc_offset_minutes: i32) -> Result<Policy, InvalidOutreach> {
        let wrong = |name: &str, value: &dyn ToString, rule| {
            Err(InvalidOutreach { name: name.to_owned(), value: value.to_string(), rule })
        };
        if !(-1440..=1440).contains(&utc_offset_minutes) {
            let rule = "popularity.utc_offset_minutes must be from -1440 to 1440";
            return wrong("utc_offset_minutes", &utc_offset_minutes, rule);
        }
        for (name, hour) in [("quiet_from", self.quiet_from), ("quiet_until", self.quiet_until)] {
            if hour > 23 {
                return wrong(name, &hour, "must be an hour from 0 to 23");
            }
        }
        if !(1..=1440).contains(&self.hold_minutes) {
            return wrong("hold_minutes", &self.hold_minutes, "must be from 1 to 1440");
        }
        let all_caps = self.channels.values().map(|channel| channel.caps).chain([self.caps]);
        if let Some(gap) = all_caps.filter_map(|caps| caps.min_gap_hours).find(|gap| *gap > MAX_GAP_HOURS) {
            return wrong("caps.min_gap_hours", &gap, "must be up to 720");
        }
        for (name, days) in [("rest_days", self.rest_days), ("same_product_days", self.same_product_days)] {
            if i64::from(days) > REMEMBERED_DAYS - 1 {
                return wrong(name, &days, "must be up to 99");
            }
        }
        let FatigueParams { cost, per_recent, per_ignored } = self.fatigue;
        let costs = [("fatigue.cost", cost), ("fatigue.per_recent", per_recent), ("fatigue.per_ignored", per_ignored)];
        for (name, cost) in costs {
            if !(cost.is_finite() && cost >= 0.0) {
                return wrong(name, &cost, "must be 0 or above");
            }
        }
        for (name, channel) in &self.channels {
            if name.is_empty() || name.len() > 64 {
                return wrong("channels", name, "must have names of 1 to 64 bytes");
            }
            if !(channel.cost.is_finite() && channel.cost >= 0.0) {
                return wrong(&format!("channels.{name}.cost"), &channel.cost, "must be 0 or above");
            }
        }
        let (names, channels) = self.channels.clone().into_iter().unzip();
        Ok(Policy { calendar: Calendar::ahead_of_utc(utc_offset_minutes), names, channels, params: self })
    }
}

/// A contact budget that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The shops' clocks.
    pub calendar: Calendar,
    /// Names of the channels, sorted.
    pub names: Vec<String>,
    channels: Vec<ChannelParams>,
    pub(super) params: OutreachParams,
}

impl Policy {
    /// Where a contact of a channel's name goes.
    pub fn place(&self, channel: Option<&str>) -> Place {
        match channel {
            None => Place::Unknown,
            Some(name) => self.find(name).map_or(Place::Elsewhere, Place::Channel),
        }
    }

    /// The number of a channel.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).ok().map(|at| at as u16)
    }

    /// A channel.
    pub fn channel(&self, number: u16) -> &ChannelParams {
        &self.channels[number as usize]
    }

    /// Days for which a member is not told of the same product again.
    pub fn same_product_days(&self) -> u32 {
        self.params.same_product_days
    }

    /// Whether one more message goes with those that a member has: within all caps, and not soon after a complaint.
    /// Which of them count was asked before, see [`Held::counts`].
    pub fn admit(&self, held: &[Held], channel: u16, new: Times) -> bool {
        Room::of(self, held, channel).admit(new)
    }

    /// The reserved contacts of a member that must give way so that one more message goes with the others, as few of
    /// them as can be, those first that come last; `None` if they are not enough. All of `held` count.
    pub fn make_room(&self, held: &[Held], channel: u16, new: Times, priority: u8) -> Option<Vec<usize>> {
        let mut may: Vec<usize> = (0..held.len()).filter(|i| held[*i].gives_way(priority)).collect();
        may.sort_by_key(|i| (held[*i].priority, std::cmp::Reverse(held[*i].times.from)));
        let admitted = |gone: &[usize]| {
            let left: Vec<Held> = (0..held.len()).filter(|i| !gone.contains(i)).map(|i| held[i]).collect();
            self.admit(&left, channel, new)
        };
        let enough = (0..=may.len()).find(|count| admitted(&may[..*count]))?;
        let mut gone = may[..enough].to_vec();
        // Those that gave way for nothing stay, the most important first.
        for i in may[..enough].iter().rev() {
            let fewer: Vec<usize> = gone.iter().copied().filter(|g| g != i).collect();
            if admitted(&fewer) {
                gone = fewer;
            }
        }
        Some(gone)
    }

    /// Whether a member complained so lately that they are left alone at a moment.
    pub(super) fn rests(&self, held: &[Held], time: i64) -> bool {
        let rest = DAY_SECONDS * i64::from(self.params.rest_days);
        held.iter().any(|h| h.status == ContactStatus::Complained && time - h.said_at < rest)
    }

    /// What it costs to disturb a member at a moment, by the contacts that they have.
    pub fn fatigue(&self, held: &[Held], now: i64) -> f64 {
        let FatigueParams { cost, per_recent, per_ignored } = self.params.fatigue;
        let age = |h: &Held| now - h.times.from;
        let recent: f64 = held.iter().map(|h| f64::from(decayed(age(h).max(0), RECENT_HALF_LIFE_DAYS))).sum();
        let answered = held.iter().filter(|h| h.status.is_answered()).map(|h| h.times.from).max();
        let was_ignored = |h: &&Held| {
            let is_silent = matches!(h.status, ContactStatus::Claimed | ContactStatus::Sent);
            is_silent
                && h.place != Place::Unknown
                && age(h) > IGNORED_AFTER
                && answered.is_none_or(|at| h.times.from > at)
        };
        let ignored = held.iter().filter(was_ignored).count() as f64;
        cost * (1.0 + per_recent * recent + per_ignored * ignored)
    }

    /// When messages may go out between two moments: one time per hour that is not quiet, in order.
    pub fn times(&self, start: i64, end: i64) -> Vec<Times> {
        let (mut times, mut from) = (Vec::new(), start);
        while from < end {
            let next = self.calendar.end_of_hour(from);
            if !self.is_quiet(self.calendar.hour(from)) {
                times.push(Times { from, until: self.until(from, end) });
            }
            from = next;
        }
        times
    }

    /// Until when a message planned for a moment may go out: it keeps to its day, and out of the quiet hours.
    fn until(&self, from: i64, end: i64) -> i64 {
        let held = from + 60 * i64::from(self.params.hold_minutes);
        let latest = held.min(end).min(self.calendar.end_of_day(from) - 1);
        let mut hour = self.calendar.end_of_hour(from);
        while hour <= latest {
            if self.is_quiet(self.calendar.hour(hour)) {
                return hour - 1;
            }
            hour += HOUR_SECONDS;
        }
        latest
    }

    /// Whether nobody is disturbed in an hour.
    pub fn is_quiet(&self, hour: u8) -> bool {
        let OutreachParams { quiet_from, quiet_until, .. } = self.params;
        if quiet_from <= quiet_until {
            (quiet_from..quiet_until).contains(&hour)
        } else {
            hour >= quiet_from || hour < quiet_until
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 100 * DAY_SECONDS + 12 * HOUR_SECONDS;

    fn policy(change: impl Fn(&mut OutreachParams)) -> Policy {
        let mut params = OutreachParams { caps: Caps::default(), ..OutreachParams::default() };
        for name in ["sms", "wecom"] {
            params.channels.insert(name.to_owned(), ChannelParams::default());
        }
        change(&mut params);
        params.validate(0).unwrap()
    }

    fn held(channel: u16, from: i64, status: ContactStatus, priority: u8) -> Held {
        Held { status, priority, ..Held::by_others(Place::Channel(channel), from) }
    }

    #[test]
    fn a_channel_has_caps_of_its_own_besides_those_over_all() {
        let policy = policy(|p| {
            p.caps.per_7_days = Some(2);
            p.channels.get_mut("sms").unwrap().caps.per_7_days = Some(1);
        });
        let by_sms = held(0, NOON - DAY_SECONDS, ContactStatus::Sent, 0);
        let new = Times::at(NOON);
        assert!(!policy.admit(&[by_sms], 0, new) && policy.admit(&[by_sms], 1, new));
        assert!(!policy.admit(&[by_sms, by_sms], 1, new), "two over all channels");
        let somewhere = Held { place: Place::Unknown, ..by_sms };
        assert!(!policy.admit(&[somewhere], 0, new), "what may have been a text message counts as one");
        let elsewhere = Held { place: Place::Elsewhere, ..by_sms };
        assert!(policy.admit(&[elsewhere], 0, new));
    }

    #[test]
    fn whoever_complained_is_left_alone() {
        let policy = policy(|p| p.rest_days = 10);
        let complained = held(0, NOON, ContactStatus::Complained, 0);
        assert!(!policy.admit(&[complained], 1, Times::at(NOON + 9 * DAY_SECONDS)));
        assert!(policy.admit(&[complained], 1, Times::at(NOON + 10 * DAY_SECONDS)));
        let late = Held { said_at: NOON + 5 * DAY_SECONDS, ..complained };
        assert!(!policy.admit(&[late], 1, Times::at(NOON + 14 * DAY_SECONDS)), "from the complaint on");
    }

    #[test]
    fn as_few_give_way_as_can_be() {
        let policy = policy(|p| p.caps = Caps { per_7_days: Some(2), per_day: Some(1), ..Caps::default() });
        let all = [
            held(0, NOON, ContactStatus::Reserved, 3),
            held(0, NOON - DAY_SECONDS, ContactStatus::Reserved, 1),
            held(0, NOON + 40 * DAY_SECONDS, ContactStatus::Reserved, 0),
        ];
        let new = Times::at(NOON + HOUR_SECONDS);
        assert_eq!(policy.make_room(&all, 1, new, 5), Some(vec![0]), "one of today, and then there is room");
        assert_eq!(policy.make_room(&all, 1, new, 3), None, "of the same priority, the first stays");
        assert_eq!(policy.make_room(&all[1..], 1, new, 0), Some(vec![]));
        let sent = [held(0, NOON, ContactStatus::Claimed, 0)];
        assert_eq!(policy.make_room(&sent, 1, new, 9), None, "what may be out stays");
    }

    #[test]
    fn disturbing_costs_more_the_more_was_sent_and_ignored() {
        let policy = policy(|p| p.fatigue = FatigueParams { cost: 2.0, per_recent: 1.0, per_ignored: 0.5 });
        assert_eq!(policy.fatigue(&[], NOON), 2.0);
        let week_ago = NOON - 7 * DAY_SECONDS;
        assert_eq!(policy.fatigue(&[held(0, week_ago, ContactStatus::Opened, 0)], NOON), 3.0, "half of one, answered");
        assert_eq!(policy.fatigue(&[held(0, week_ago, ContactStatus::Sent, 0)], NOON), 4.0, "and ignored");
        let both = [held(0, week_ago - 1, ContactStatus::Sent, 0), held(0, week_ago, ContactStatus::Clicked, 0)];
        assert!(policy.fatigue(&both, NOON) < 4.01, "what came before the answer is forgiven");
    }

    #[test]
    fn nothing_goes_out_in_quiet_hours() {
        let policy = policy(|p| (p.quiet_from, p.quiet_until, p.hold_minutes) = (21, 9, 180));
        let evening = 100 * DAY_SECONDS + 19 * HOUR_SECONDS + 1200;
        let times = policy.times(evening, evening + DAY_SECONDS);
        let hour = |time: i64| Calendar::default().hour(time);
        assert_eq!(times[0].from, evening);
        assert_eq!(hour(times[0].until), 20, "held for three hours, and still out before it is quiet");
        assert_eq!(times.iter().map(|t| hour(t.from)).take(4).collect::<Vec<_>>(), [19, 20, 9, 10]);
        assert!(times.iter().all(|t| t.until >= t.from && !policy.is_quiet(hour(t.until))));
        assert!(times.iter().all(|t| policy.calendar.day(t.from) == policy.calendar.day(t.until)));
        let hour_long = super::tests::policy(|p| (p.quiet_from, p.quiet_until, p.hold_minutes) = (21, 9, 60));
        let last = hour_long.times(evening, evening + DAY_SECONDS)[1];
        assert_eq!((hour(last.from), hour(last.until)), (20, 20), "and does not end as they begin");
        let always = super::tests::policy(|p| (p.quiet_from, p.quiet_until) = (0, 0));
        assert_eq!(always.times(evening, evening + DAY_SECONDS).len(), 25);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let wrong = |change: fn(&mut OutreachParams)| {
            let mut params = OutreachParams::default();
            change(&mut params);
            params.validate(0).unwrap_err().to_string()
        };
        assert!(wrong(|p| p.quiet_from = 24).contains("quiet_from = 24"));
        assert!(wrong(|p| p.hold_minutes = 0).contains("hold_minutes"));
        assert!(wrong(|p| p.rest_days = 100).contains("rest_days"));
        assert!(wrong(|p| p.fatigue.cost = f64::NAN).contains("fatigue.cost"));
        let sms = ChannelParams { cost: -1.0, ..ChannelParams::default() };
        let mut params = OutreachParams::default();
        params.channels.insert("sms".to_owned(), sms);
        assert!(params.validate(0).unwrap_err().to_string().contains("channels.sms.cost"));
    }
}
