//! What is said of a member by those who know them.

use std::collections::BTreeSet;

use chrono::{DateTime, Months, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::catalogue::{Consent, Members, month_day};
use crate::strings::{Labels, Strings};

/// Age at which a member is no longer a minor.
pub const ADULT_YEARS: u32 = 18;
/// Seconds that a clock may be behind UTC.
const MOST_BEHIND: i64 = 12 * 3600;

/// What was said of a member since the model learned; what is `None` is as the model has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Home store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The guide who owns the member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guide: Option<String>,
    /// Tags that the member got.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// Tags that were deleted: they do not come back from what a model knows.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub deleted_tags: BTreeSet<String>,
    /// Birthday.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub birthday: Option<NaiveDate>,
    /// Whether feeds may use what the member did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personalization: Option<bool>,
    /// Whether the member may be contacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marketing: Option<bool>,
    /// Whether the member is a minor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<bool>,
}

impl Profile {
    /// Takes over what a later word says; what it does not say stays. A tag that it gives is no longer deleted, and
    /// one that it deletes is gone.
    pub fn merge(&mut self, later: Self) {
        for (mine, said) in
            [(&mut self.store, later.store), (&mut self.city, later.city), (&mut self.guide, later.guide)]
        {
            *mine = said.or(mine.take());
        }
        self.birthday = later.birthday.or(self.birthday);
        self.personalization = later.personalization.or(self.personalization);
        self.marketing = later.marketing.or(self.marketing);
        self.minor = later.minor.or(self.minor);
        self.deleted_tags.retain(|tag| !later.tags.contains(tag));
        self.tags.extend(later.tags);
        self.tags.retain(|tag| !later.deleted_tags.contains(tag));
        self.deleted_tags.extend(later.deleted_tags);
    }

    /// What of it a model does not know of the member in one of its rows; nothing else has to be remembered. `now` is in
    /// unix seconds, 0 where nobody said.
    pub(super) fn beyond(self, members: &Members, row: u32, now: i64) -> Self {
        let new = |said: Option<String>, learned: &Labels| said.filter(|said| learned.get(row) != Some(said));
        let learned = members.consent(row);
        let differs = |said: Option<bool>, learned: bool| said.filter(|said| *said != learned);
        let known = members.tags.row(row);
        let has = |tag: &String| members.tag_names.find(tag).is_some_and(|tag| known.contains(&tag));
        // A model knows the day alone: that of a young one is remembered, and of one whom it takes for young.
        let is_of_age = now > 0 && !self.is_young(now) && !members.is_young(row);
        let day = members.birthdays.get(row as usize);
        Self {
            store: new(self.store, &members.stores),
            city: new(self.city, &members.cities),
            guide: new(self.guide, &members.guides),
            tags: self.tags.into_iter().filter(|tag| !has(tag)).collect(),
            deleted_tags: self.deleted_tags.into_iter().filter(has).collect(),
            birthday: self.birthday.filter(|born| !is_of_age || day != Some(&month_day(*born))),
            personalization: differs(self.personalization, learned.personalization),
            marketing: differs(self.marketing, learned.marketing),
            minor: differs(self.minor, learned.minor),
        }
    }

    /// What the member allows, where a model learned something else, and maybe that they are young: who says that they are no
    /// minor must then tell another birthday, too.
    pub fn consent(&self, learned: Consent, is_young: bool, now: i64) -> Consent {
        let is_young = if self.birthday.is_some() { self.is_young(now) } else { is_young };
        Consent {
            personalization: self.personalization.unwrap_or(learned.personalization),
            marketing: self.marketing.unwrap_or(learned.marketing),
            minor: self.minor.unwrap_or(learned.minor) || is_young,
        }
    }

    /// Whether the member has the tag, or not; `None` if nothing was said of it.
    pub fn has_tag(&self, tag: &str) -> Option<bool> {
        if self.tags.contains(tag) { Some(true) } else { self.deleted_tags.contains(tag).then_some(false) }
    }

    /// The tags that a member has now, of those that a model knows, where it learned of some.
    pub(crate) fn tags_now<'a>(&'a self, learned: &'a [u32], names: &'a Strings) -> impl Iterator<Item = u32> + 'a {
        let kept = learned.iter().copied().filter(|tag| self.has_tag(names.get(*tag)) != Some(false));
        kept.chain(self.tags.iter().filter_map(|tag| names.find(tag)).filter(|tag| !learned.contains(tag)))
    }

    /// Whether the member is below [`ADULT_YEARS`] by birthday.
    fn is_young(&self, now: i64) -> bool {
        // Without a clock, nobody's age is known. Wherever the shops are, it is no earlier than there.
        let now = DateTime::from_timestamp(now - MOST_BEHIND, 0).filter(|_| now > 0);
        let (Some(born), Some(now)) = (self.birthday, now) else { return false };
        let adult = born.checked_add_months(Months::new(12 * ADULT_YEARS));
        adult.is_some_and(|adult| now.date_naive() < adult)
    }
}

#[cfg(test)]
mod tests {
    use chrono::Datelike;

    use super::*;

    fn tags(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|tag| (*tag).to_owned()).collect()
    }

    #[test]
    fn a_later_word_counts_and_what_it_leaves_out_stays() {
        let mut profile = Profile { store: Some("s1".into()), tags: tags(&["vip", "tea"]), ..Profile::default() };
        profile.merge(Profile { city: Some("Wuhan".into()), deleted_tags: tags(&["vip"]), ..Profile::default() });
        assert_eq!((profile.store.as_deref(), profile.city.as_deref()), (Some("s1"), Some("Wuhan")));
        assert_eq!(
            (profile.has_tag("vip"), profile.has_tag("tea"), profile.has_tag("x")),
            (Some(false), Some(true), None)
        );
        profile.merge(Profile { tags: tags(&["vip"]), marketing: Some(false), ..Profile::default() });
        assert_eq!(
            (profile.has_tag("vip"), profile.deleted_tags.len(), profile.marketing),
            (Some(true), 0, Some(false))
        );
    }

    #[test]
    fn what_a_model_knows_is_not_remembered() {
        let some = |text: &str| Some(text.to_owned());
        let adult = NaiveDate::from_ymd_opt(1980, 5, 1).unwrap();
        let consent = Consent { personalization: true, marketing: false, minor: false };
        let members = Members {
            stores: Labels::encode(&[Some("s0"), Some("s1")]),
            cities: Labels::encode(&[Some("Wuhan"), None]),
            guides: Labels::encode::<&str>(&[None, None]),
            consents: vec![0, consent.to_bits()].into(),
            birthdays: vec![0, month_day(adult)].into(),
            tags: crate::sparse::Rows::from_lists([vec![0], vec![1]]),
            tag_names: ["gold", "vip"].into_iter().collect(),
            ..Members::default()
        };
        let all = Profile {
            store: some("s1"),
            city: some("Wuhan"),
            guide: some("g1"),
            tags: tags(&["gold", "vip", "new"]),
            birthday: Some(adult),
            personalization: Some(true),
            marketing: Some(true),
            minor: Some(false),
            ..Profile::default()
        };
        let now = 1_800_000_000;
        let said = all.clone().beyond(&members, 1, now);
        let new = Profile {
            city: some("Wuhan"),
            guide: some("g1"),
            tags: tags(&["gold", "new"]),
            marketing: Some(true),
            ..Profile::default()
        };
        assert_eq!(said, new, "nobody's city is not Wuhan");
        assert_eq!(all.beyond(&members, 1, 0).birthday, Some(adult), "without a clock, who is of age is not known");
        let child = Profile { birthday: adult.with_year(2015), ..Profile::default() };
        assert_eq!(child.clone().beyond(&members, 1, now), child, "until 2033");
        let deleted = Profile { deleted_tags: tags(&["gold", "vip"]), ..Profile::default() };
        assert_eq!(deleted.beyond(&members, 1, now).deleted_tags, tags(&["vip"]));
    }

    #[test]
    fn who_is_young_is_a_minor_whatever_was_said() {
        let adult = Consent { personalization: true, marketing: true, minor: false };
        let born =
            |y, m, d| Profile { birthday: NaiveDate::from_ymd_opt(y, m, d), minor: Some(false), ..Profile::default() };
        // 2026-02-28, at noon, when the day has begun everywhere.
        let now = 1_772_236_800 + MOST_BEHIND;
        assert!(born(2008, 3, 1).consent(adult, false, now).minor);
        assert!(!born(2008, 2, 28).consent(adult, false, now).minor);
        assert!(born(2008, 2, 28).consent(adult, false, now - 1).minor, "somewhere it is the 27th");
        let told = |minor| Profile { minor: Some(minor), ..Profile::default() };
        assert!(told(true).consent(adult, false, now).minor);
        // A version took a table's birthday for that of a child.
        let child = Consent { minor: true, ..adult };
        assert!(told(false).consent(child, true, now).minor && !told(false).consent(child, false, now).minor);
        assert!(!born(2008, 2, 28).consent(child, true, now).minor && born(2008, 3, 1).consent(child, true, now).minor);
    }

    #[test]
    fn what_was_not_said_is_not_written() {
        assert_eq!(serde_json::to_string(&Profile::default()).unwrap(), "{}");
        let said =
            Profile { marketing: Some(false), birthday: NaiveDate::from_ymd_opt(1990, 1, 2), ..Profile::default() };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(text, r#"{"birthday":"1990-01-02","marketing":false}"#);
        assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), said);
    }
}
