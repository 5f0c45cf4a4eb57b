//! Who may be in an audience.

use roaring::RoaringBitmap;
use serde::Serialize;

use super::filter::{Part, everyone};
use super::{AudienceError, AudienceRequest, MemberFilter};
use crate::catalogue::Consent;
use crate::model::Model;
use crate::state::Said;
use crate::stop::Stop;

/// Members left out, each counted once, by the first reason that applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Excluded {
    /// Gone: they asked to be forgotten.
    pub erased: usize,
    /// No consent to marketing, or none any more that what the model knows of them may be used.
    pub no_consent: usize,
    /// Minors.
    pub minor: usize,
    /// Seeds of the request.
    pub seed: usize,
    /// Of another store than the filter asks for; what follows, by the other parts of the filter.
    pub store: usize,
    /// By city.
    pub city: usize,
    /// By guide.
    pub guide: usize,
    /// By segment.
    pub segment: usize,
    /// By tag.
    pub tag: usize,
    /// By what they bought last.
    pub last_purchase: usize,
    /// Contacted too often, or at rest, as they complained.
    pub contacts: usize,
    /// Of another birthday.
    pub birthday: usize,
    /// For whom it is not time to buy something again.
    pub due_for_repeat: usize,
    /// By the filters of which one must let them in.
    pub any_of: usize,
    /// By the filters of which none may.
    pub none_of: usize,
}

impl Excluded {
    /// How many the filter leaves out.
    pub fn by_filter(&self) -> usize {
        let places = self.store + self.city + self.guide;
        let moments = self.last_purchase + self.contacts + self.birthday + self.due_for_repeat;
        places + self.segment + self.tag + moments + self.any_of + self.none_of
    }

    fn of(&mut self, part: Part) -> &mut usize {
        match part {
            Part::Store => &mut self.store,
            Part::City => &mut self.city,
            Part::Guide => &mut self.guide,
            Part::Segment => &mut self.segment,
            Part::Tag => &mut self.tag,
            Part::LastPurchase => &mut self.last_purchase,
            Part::Contacts => &mut self.contacts,
            Part::Birthday => &mut self.birthday,
            Part::DueForRepeat => &mut self.due_for_repeat,
            Part::AnyOf => &mut self.any_of,
            Part::NoneOf => &mut self.none_of,
        }
    }
}

/// What members allow now.
struct Allowed {
    marketing: RoaringBitmap,
    minors: RoaringBitmap,
}

impl Allowed {
    fn of(model: &Model) -> Self {
        let (mut marketing, mut minors) = (model.groups.marketing.clone(), model.groups.minors.clone());
        let set = |rows: &mut RoaringBitmap, row, is_in| if is_in { rows.insert(row) } else { rows.remove(row) };
        for (row, _) in model.state.described(Said::Consent) {
            let consent = model.state.consent(model, row);
            let of_age = Consent { minor: false, ..consent };
            set(&mut marketing, row, of_age.allows_contact(model.members.consent(row)));
            set(&mut minors, row, consent.minor);
        }
        Self { marketing, minors }
    }
}

/// Who may be in the audience.
#[derive(Clone, Debug)]
pub(crate) struct Eligibility {
    pub(crate) rows: RoaringBitmap,
    pub(crate) excluded: Excluded,
}

impl Eligibility {
    pub(super) fn of(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Self, AudienceError> {
        Self::with(model, &request.seeds, &request.filter, stop)
    }

    /// The only place that says who may be contacted; whatever a filter says, nobody comes back in.
    pub(crate) fn with(
        model: &Model,
        seeds: &[u32],
        filter: &MemberFilter,
        stop: &Stop,
    ) -> Result<Self, AudienceError> {
        if filter.asks_for_contacts() && model.groups.contacts.is_none() {
            return Err(AudienceError::NoContacts);
        }
        let (mut rows, mut excluded) = (everyone(model), Excluded::default());
        let mut keep = |change: &dyn Fn(&mut RoaringBitmap)| {
            let before = rows.len();
            change(&mut rows);
            (before - rows.len()) as usize
        };
        let Allowed { marketing, minors } = Allowed::of(model);
        excluded.erased = keep(&|rows| *rows -= model.state.erased());
        excluded.no_consent = keep(&|rows| *rows &= &marketing);
        excluded.minor = keep(&|rows| *rows -= &minors);
        excluded.seed = keep(&|rows| *rows -= seeds.iter().copied().collect::<RoaringBitmap>());
        let resting = model.state.at_rest(model);
        excluded.contacts = keep(&|rows| *rows -= &resting);
        filter.each_part(model, stop, &mut |part, set| *excluded.of(part) += keep(&|rows| *rows &= &set))?;
        Ok(Self { rows, excluded })
    }

    /// How many may be in it.
    pub(super) fn count(&self) -> usize {
        self.rows.len() as usize
    }
}
