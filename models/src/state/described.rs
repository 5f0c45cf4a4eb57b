//! Of whom something was said, by what it was.

use std::sync::Arc;

use rayon::prelude::*;
use roaring::RoaringBitmap;
use rpds::HashTrieMapSync;

use super::{Profile, State};
use crate::model::Model;

/// What may be said of a member, but for tags: of these, each has members of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// What they allow, or a birthday that decides it.
    Consent,
    /// Their home store.
    Store,
    /// Their city.
    City,
    /// The guide who owns them.
    Guide,
    /// Their birthday.
    Birthday,
}

impl Said {
    const ALL: [Self; 5] = [Self::Consent, Self::Store, Self::City, Self::Guide, Self::Birthday];

    /// Whether a profile says it.
    fn is_in(self, profile: &Profile) -> bool {
        match self {
            Self::Consent => {
                let said = [profile.personalization, profile.marketing, profile.minor];
                said.iter().any(Option::is_some) || profile.birthday.is_some()
            }
            Self::Store => profile.store.is_some(),
            Self::City => profile.city.is_some(),
            Self::Guide => profile.guide.is_some(),
            Self::Birthday => profile.birthday.is_some(),
        }
    }
}

/// Whose tags changed.
#[derive(Clone, Debug, Default)]
pub struct TagChange {
    /// Who got the tag.
    pub given: RoaringBitmap,
    /// Who had it, and does not any more.
    pub lost: RoaringBitmap,
}

/// Members of the model of whom something was said that it does not know, by what it was: a filter looks at those alone of
/// whom what it asks for was said, and not at all whose points or tags changed today.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    rows: [RoaringBitmap; Said::ALL.len()],
    tags: HashTrieMapSync<String, Arc<TagChange>>,
}

impl Described {
    /// Of whom so much was said.
    pub(super) fn of(&self, said: Said) -> &RoaringBitmap {
        &self.rows[said as usize]
    }

    /// Whose tags changed, by tag.
    pub(super) fn tags(&self) -> &HashTrieMapSync<String, Arc<TagChange>> {
        &self.tags
    }

    /// Notes what was said of a member before, and what is now, in all.
    pub(super) fn note(&mut self, row: u32, before: &Profile, now: &Profile) {
        for said in Said::ALL {
            set(&mut self.rows[said as usize], row, said.is_in(now));
        }
        for tag in before.tags.symmetric_difference(&now.tags) {
            set(&mut self.change(tag).given, row, now.tags.contains(tag));
        }
        for tag in before.deleted_tags.symmetric_difference(&now.deleted_tags) {
            set(&mut self.change(tag).lost, row, now.deleted_tags.contains(tag));
        }
    }

    fn change(&mut self, tag: &str) -> &mut TagChange {
        if !self.tags.contains_key(tag) {
            self.tags.insert_mut(tag.to_owned(), Arc::default());
        }
        // It was just put there.
        #[allow(clippy::unwrap_used)]
        Arc::make_mut(self.tags.get_mut(tag).unwrap())
    }
}

fn set(rows: &mut RoaringBitmap, row: u32, is_in: bool) {
    if is_in {
        rows.insert(row)
    } else {
        rows.remove(row)
    };
}

impl State {
    /// Members of the model of whom something was said that it does not know, each with all that was.
    pub fn described(&self, said: Said) -> impl Iterator<Item = (u32, &Profile)> {
        self.described.of(said).iter().filter_map(|row| Some((row, self.profile(row)?)))
    }

    /// A set of members, mended: of whom something was said is in it if `says` so, and by the set itself where that does
    /// not matter (`None`).
    pub fn mended(
        &self,
        set: RoaringBitmap,
        said: Said,
        says: impl Fn(&Profile) -> Option<bool> + Sync,
    ) -> RoaringBitmap {
        let rows: Vec<u32> = self.described.of(said).iter().collect();
        let heard = rows.into_par_iter().filter_map(|row| Some((row, says(self.profile(row)?)?)));
        let heard: Vec<(u32, bool)> = heard.collect();
        let of = |is_in: bool| heard.iter().filter(move |(_, said)| *said == is_in).map(|(row, _)| *row);
        (set - of(false).collect::<RoaringBitmap>()) | of(true).collect::<RoaringBitmap>()
    }

    /// The members of the model who have a tag now, where it learned that `learned` had it.
    pub fn tagged(&self, learned: RoaringBitmap, tag: &str) -> RoaringBitmap {
        match self.described.tags().get(tag) {
            Some(change) => (learned - &change.lost) | &change.given,
            None => learned,
        }
    }

    /// Whether a member of the model has a tag now.
    pub fn has_tag(&self, model: &Model, row: u32, tag: &str) -> bool {
        let change = self.described.tags().get(tag);
        let learned =
            || model.members.tag_names.find(tag).is_some_and(|tag| model.members.tags.row(row).contains(&tag));
        match change {
            Some(change) if change.given.contains(row) => true,
            Some(change) if change.lost.contains(row) => false,
            _ => learned(),
        }
    }

    /// Whose tags changed since the model learned, by tag, in no order.
    pub fn tag_changes(&self) -> impl Iterator<Item = (&str, &TagChange)> {
        self.described.tags().iter().map(|(tag, change)| (tag.as_str(), change.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::bitmaps::Bitmaps;
    use crate::catalogue::Members;
    use crate::feed::fixture;
    use crate::sparse::Rows;
    use crate::strings::Labels;

    proptest! {
        /// Whatever is said, and in whatever order, each member is where what was said of them, and what was learned, puts them.
        #[test]
        fn members_are_found_by_what_was_said_last(
            said in prop::collection::vec((0u32..4, 0u8..8, 0u8..8, prop::option::of(0u8..2)), 0..30),
            erased in prop::option::of(0u32..4),
        ) {
            let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100)], &[]);
            let tag_rows = Rows::from_lists([vec![0], vec![0, 1], vec![], vec![1]]);
            let (ids, tags, city) = (["a", "b", "c", "d"], ["new", "vip"], |n: u8| ["Wuhan", "Xi'an"][n as usize].to_owned());
            model.members = Members {
                ids: ids.iter().collect(),
                cities: Labels::encode(&[Some("Wuhan"), None, Some("Xi'an"), None]),
                consents: vec![3; 4].into(),
                tags: tag_rows.clone(),
                tag_names: tags.iter().collect(),
                ..Members::default()
            };
            let learned = Bitmaps::of_rows(&tag_rows, tags.len());
            let mut state = State::of(&model);
            let all = ["new", "vip", "unheard of"];
            let of_bits = |bits: u8| (0..3).filter(|k| bits >> k & 1 == 1).map(|k| all[k].to_owned()).collect::<BTreeSet<_>>();
            for (row, given, lost, to) in said {
                let (tags, deleted_tags) = (&of_bits(given) - &of_bits(lost), of_bits(lost));
                let profile = Profile { tags, deleted_tags, city: to.map(city), ..Profile::default() };
                state.describe(&model, ids[row as usize], profile);
            }
            erased.into_iter().for_each(|row| state.erase(&model, ids[row as usize]));
            for (at, tag) in all.into_iter().enumerate() {
                let set = learned.get(at as u32);
                let has = |row: &u32| state.profile(*row).and_then(|said| said.has_tag(tag)).unwrap_or(set.contains(*row));
                prop_assert_eq!(state.tagged(set.clone(), tag), (0..4).filter(has).collect::<RoaringBitmap>());
            }
            let moved: Vec<u32> = state.described(Said::City).map(|(row, _)| row).collect();
            let has_city = |row: &u32| state.profile(*row).is_some_and(|said| said.city.is_some());
            prop_assert_eq!(moved, (0..4).filter(has_city).collect::<Vec<u32>>());
        }
    }
}
