//! Who may be in an audience.

use serde::{Deserialize, Serialize};

use super::AudienceRequest;
use crate::catalogue::{Consent, Members};
use crate::model::Model;
use crate::stop::{Stop, Stopped};
use crate::strings::{Labels, NONE};

/// Members looked at between two looks at the stop flag.
const STOP_ROWS: usize = 1 << 16;

/// Which members a caller wants; an empty list means "any".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberFilter {
    /// Home stores.
    pub stores: Vec<String>,
    /// Cities.
    pub cities: Vec<String>,
    /// Guides.
    pub guides: Vec<String>,
    /// Tags, all of which a member must have.
    pub tags: Vec<String>,
}

/// Members left out, each counted once, by the first reason that applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// No consent to marketing.
    pub no_consent: usize,
    /// Minors.
    pub minor: usize,
    /// Seeds of the request.
    pub seed: usize,
    /// Not what the filter asks for.
    pub filter: usize,
}

/// Who may be in the audience.
pub(super) struct Eligibility {
    pub(super) rows: Vec<bool>,
    pub(super) excluded: Excluded,
}

impl Eligibility {
    pub(super) fn of(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Self, Stopped> {
        let members = &model.members;
        let filter = AllowedMembers::new(members, &request.filter);
        let mut rows = vec![true; members.len()];
        let mut excluded = Excluded::default();
        for seed in &request.seeds {
            rows[*seed as usize] = false;
        }
        for (row, eligible) in rows.iter_mut().enumerate() {
            if row.is_multiple_of(STOP_ROWS) {
                stop.check()?;
            }
            let Consent { marketing, minor, .. } = members.consent(row as u32);
            let reason = match () {
                () if !marketing => &mut excluded.no_consent,
                () if minor => &mut excluded.minor,
                () if !*eligible => &mut excluded.seed,
                () if !filter.contains(members, row as u32) => &mut excluded.filter,
                () => continue,
            };
            *reason += 1;
            *eligible = false;
        }
        Ok(Self { rows, excluded })
    }
}

/// A filter looked up once.
struct AllowedMembers {
    /// By row of the labels; `None` for any.
    stores: Option<Vec<bool>>,
    cities: Option<Vec<bool>>,
    guides: Option<Vec<bool>>,
    tags: Vec<u32>,
}

impl AllowedMembers {
    fn new(members: &Members, filter: &MemberFilter) -> Self {
        let rows = |labels: &Labels, wanted: &[String]| {
            let mut rows = vec![false; labels.values.len()];
            wanted.iter().filter_map(|value| labels.values.find(value)).for_each(|row| rows[row as usize] = true);
            (!wanted.is_empty()).then_some(rows)
        };
        Self {
            stores: rows(&members.stores, &filter.stores),
            cities: rows(&members.cities, &filter.cities),
            guides: rows(&members.guides, &filter.guides),
            tags: filter.tags.iter().map(|tag| members.tag_names.find(tag).unwrap_or(NONE)).collect(),
        }
    }

    fn contains(&self, members: &Members, row: u32) -> bool {
        let labelled = |rows: &Option<Vec<bool>>, labels: &Labels| {
            let value = labels.rows[row as usize] as usize;
            rows.as_ref().is_none_or(|rows| rows.get(value).copied().unwrap_or(false))
        };
        labelled(&self.stores, &members.stores)
            && labelled(&self.cities, &members.cities)
            && labelled(&self.guides, &members.guides)
            && self.tags.iter().all(|tag| members.tags.row(row).binary_search(tag).is_ok())
    }
}
