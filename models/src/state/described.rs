//! Of whom something was said, by what it was.

use roaring::RoaringBitmap;

use super::Profile;

/// What may be said of a member.
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
    /// Tags that they got or lost.
    Tags,
    /// Their birthday.
    Birthday,
}

impl Said {
    const ALL: [Self; 6] = [Self::Consent, Self::Store, Self::City, Self::Guide, Self::Tags, Self::Birthday];

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
            Self::Tags => !profile.tags.is_empty() || !profile.deleted_tags.is_empty(),
            Self::Birthday => profile.birthday.is_some(),
        }
    }
}

/// Members of the model of whom something was said that it does not know, by what it was: a filter looks at those alone of
/// whom what it asks for was said, and not at all whose points or tags changed today.
#[derive(Clone, Debug, Default)]
pub(super) struct Described([RoaringBitmap; Said::ALL.len()]);

impl Described {
    /// Of whom so much was said.
    pub(super) fn of(&self, said: Said) -> &RoaringBitmap {
        &self.0[said as usize]
    }

    /// Whether anything was said of a member.
    pub(super) fn contains(&self, row: u32) -> bool {
        self.0.iter().any(|rows| rows.contains(row))
    }

    /// Notes what is said of a member now, in all.
    pub(super) fn note(&mut self, row: u32, profile: &Profile) {
        for said in Said::ALL {
            let rows = &mut self.0[said as usize];
            if said.is_in(profile) {
                rows.insert(row)
            } else {
                rows.remove(row)
            };
        }
    }
}
