//! What members have in common, as sets: what a filter of an audience asks for.

mod segment;

pub use segment::{Later, Segment, base_gap, segments};

use rayon::prelude::*;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::bitmaps::Bitmaps;
use crate::catalogue::{Consent, Members};
use crate::history::History;

/// Members whose consents are read by one task: some parts of a bitmap, whole.
const CONSENT_ROWS: usize = 1 << 20;

/// Days for which contacts are kept.
pub const CONTACT_DAYS: u16 = 90;

/// The members by what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// By home store, in the order of [`Members::stores`].
    pub stores: Bitmaps,
    /// By city.
    pub cities: Bitmaps,
    /// By guide.
    pub guides: Bitmaps,
    /// By tag.
    pub tags: Bitmaps,
    /// By segment at the model's moment, in the order of [`Segment::ALL`]; [`Model::segment`](crate::Model::segment) knows
    /// those of now.
    pub segments: Bitmaps,
    /// The same of a later day.
    pub later: Later,
    /// Who consents to marketing.
    pub marketing: RoaringBitmap,
    /// Minors.
    pub minors: RoaringBitmap,
    /// Messages sent; `None` where that is not known.
    pub contacts: Option<Contacts>,
    /// Days between two of a member's purchases, over all members.
    pub base_gap: f32,
}

/// The small values of [`Groups`].
#[derive(Serialize, Deserialize)]
struct Values {
    segments: Vec<Segment>,
    has_contacts: bool,
    /// Formats up to 8 did not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_gap: Option<f32>,
}

/// Messages sent to members in the [`CONTACT_DAYS`] up to the newest event.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    /// The member of each, sorted.
    pub members: Array<u32>,
    /// How many days before the newest event it was sent.
    pub days_ago: Array<u16>,
}

impl Contacts {
    /// How many days before the newest event each message to a member was sent.
    pub fn days_ago_of(&self, member: u32) -> &[u16] {
        let (first, last) =
            (self.members.partition_point(|m| *m < member), self.members.partition_point(|m| *m <= member));
        &self.days_ago[first..last]
    }

    /// How many messages a member got less than `days` days before the newest event.
    pub fn of(&self, member: u32, days: u16) -> usize {
        self.days_ago_of(member).iter().filter(|ago| **ago < days).count()
    }

    /// Members who got more than `count` messages less than `days` days before the newest event.
    pub fn more_than(&self, count: usize, days: u16) -> RoaringBitmap {
        let all = self.members.iter().zip(self.days_ago.iter());
        let recent: Vec<u32> = all.filter(|(_, ago)| **ago < days).map(|(member, _)| *member).collect();
        recent.chunk_by(|a, b| a == b).filter(|of_member| of_member.len() > count).map(|m| m[0]).collect()
    }
}

impl Groups {
    /// Groups members by their columns; segments and contacts are known to whoever saw the events.
    pub fn of(members: &Members, segments: Bitmaps, contacts: Option<Contacts>) -> Self {
        Self {
            stores: Bitmaps::of_labels(&members.stores),
            cities: Bitmaps::of_labels(&members.cities),
            guides: Bitmaps::of_labels(&members.guides),
            tags: Bitmaps::of_rows(&members.tags, members.tag_names.len()),
            segments,
            contacts,
            ..Self::consenting(members)
        }
    }

    /// Who may be contacted: never stored a second time, so that there is one truth.
    fn consenting(members: &Members) -> Self {
        let chosen = |is_chosen: fn(Consent) -> bool| {
            let starts = (0..members.len()).into_par_iter().step_by(CONSENT_ROWS);
            let part = |start: usize| -> RoaringBitmap {
                let rows = start as u32..members.len().min(start + CONSENT_ROWS) as u32;
                rows.filter(|row| is_chosen(members.consent(*row))).collect()
            };
            starts.map(part).reduce(RoaringBitmap::new, |a, b| a | b)
        };
        Self { marketing: chosen(|c| c.marketing), minors: chosen(|c| c.minor), ..Self::default() }
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        let none = Contacts::default();
        let contacts = self.contacts.as_ref().unwrap_or(&none);
        let values = Values {
            segments: Segment::ALL.to_vec(),
            has_contacts: self.contacts.is_some(),
            base_gap: Some(self.base_gap),
        };
        to.section("groups", &values, |s| {
            self.stores.write("stores", s)?;
            self.cities.write("cities", s)?;
            self.guides.write("guides", s)?;
            self.tags.write("tags", s)?;
            self.segments.write("segments", s)?;
            s.array("contact_members", &contacts.members)?;
            s.array("contact_days_ago", &contacts.days_ago)
        })
    }

    pub(crate) fn read(from: &Reader, members: &Members, history: &History) -> Result<Self, ArtifactError> {
        if from.manifest().format_version < 5 {
            let groups = Self::of(members, segments(history), None);
            return Ok(Self { base_gap: base_gap(history), ..groups });
        }
        let s = from.section("groups")?;
        let Values { segments: known, has_contacts, base_gap: gap } = s.values()?;
        s.ensure(gap.is_none_or(|gap| gap.is_finite() && gap >= 0.0), "the days between purchases are none")?;
        s.ensure(known == Segment::ALL, "segments are not those that this program knows")?;
        let sets = |name, values| Bitmaps::read(name, values, members.len(), &s);
        let contacts = Contacts { members: s.array("contact_members")?, days_ago: s.array("contact_days_ago")? };
        let last = contacts.members.last().map_or(0, |last| *last as usize);
        let whole = contacts.members.len() == contacts.days_ago.len() && last < members.len().max(1);
        let what = "contacts are not those of the members, in their order";
        s.ensure(whole, what)?;
        s.ensure_all(|| contacts.members.is_sorted(), what)?;
        Ok(Self {
            stores: sets("stores", members.stores.values.len())?,
            cities: sets("cities", members.cities.values.len())?,
            guides: sets("guides", members.guides.values.len())?,
            tags: sets("tags", members.tag_names.len())?,
            segments: sets("segments", Segment::ALL.len())?,
            contacts: has_contacts.then_some(contacts),
            base_gap: gap.unwrap_or_else(|| base_gap(history)),
            ..Self::consenting(members)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_counted_within_days() {
        let contacts = Contacts { members: vec![1, 1, 1, 4, 9, 9].into(), days_ago: vec![0, 5, 30, 3, 6, 7].into() };
        let more = |count, days| contacts.more_than(count, days).iter().collect::<Vec<_>>();
        assert_eq!(more(0, 7), [1, 4, 9]);
        assert_eq!(more(1, 7), [1]);
        assert_eq!(more(1, 8), [1, 9]);
        assert_eq!(more(2, 31), [1]);
        assert_eq!(more(2, 30), [0u32; 0]);
    }
}
