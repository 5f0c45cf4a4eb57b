//! What members have in common that only events tell: segments, and how often they were contacted.

use kindred_models::catalogue::Members;
use kindred_models::events::DAY_SECONDS;
use kindred_models::groups::{CONTACT_DAYS, Contacts, Groups, base_gap, segments};
use kindred_models::history::History;

use crate::data::Kind;
use crate::slice::Slice;

/// The members of a slice in their groups.
pub(crate) fn groups(slice: &Slice, members: &Members, history: &History) -> Groups {
    Groups { base_gap: base_gap(history), ..Groups::of(members, segments(history), contacts(slice)) }
}

/// Whoever was contacted was, whatever they allow to be learned.
fn contacts(slice: &Slice) -> Option<Contacts> {
    if !slice.has_time() {
        return None;
    }
    let days_ago = |time: i64| (slice.as_of - time).div_euclid(DAY_SECONDS);
    let sent = slice.events().filter(|e| e.kind == Kind::Contact);
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
    fn contacts_are_kept_for_some_days() {
        let event = |member, day, kind| Event {
            member,
            product: 0,
            time: day * DAY_SECONDS,
            store: 0,
            channel: 0,
            kind,
            price: 0,
        };
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
