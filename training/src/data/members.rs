//! The members table: who buys, and what they allow.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Months};
use kindred_models::catalogue::{Consent, IdType, Members, YOUNG, month_day};
use kindred_models::state::{ADULT_YEARS, Profile};
use kindred_models::strings::{Labels, Strings};

use super::birthday::{Clock, are_mistaken, birthday};
use super::columns::Columns;
use super::ids::{Ids, NoId};
use super::others::{self, Others};
use super::products::named;
use super::{files, gate};
use crate::config::DataConfig;
use crate::tables::{Cell, Reason, Rejects, TableError, TableFile, table_files};

const OPTIONAL: [&str; 9] = [
    "tags",
    "store_id",
    "guide_id",
    "city",
    "birthday",
    "joined_at",
    "consent_personalization",
    "consent_marketing",
    "minor",
];
/// What everybody allows where nobody was asked.
const ASKED_NOBODY: Consent = Consent { personalization: true, marketing: true, minor: false };
/// What a member allows whose row can't be used.
const NO_CONSENT: Consent = Consent { personalization: false, marketing: false, minor: false };

/// One member as the table has it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    store: Option<String>,
    city: Option<String>,
    guide: Option<String>,
    tags: Vec<String>,
    /// Values of columns that Kindred has no name for, until it is known which of these become tags.
    others: others::Values,
    birthday: Option<i64>,
    consent: Consent,
}

impl Member {
    /// A member of whom nothing is known but what is allowed.
    fn unknown(consent: Consent) -> Self {
        Self { store: None, city: None, guide: None, tags: Vec::new(), others: Vec::new(), birthday: None, consent }
    }
}

impl Member {
    fn say(&mut self, said: &Profile) {
        for (mine, said) in
            [(&mut self.store, &said.store), (&mut self.city, &said.city), (&mut self.guide, &said.guide)]
        {
            if said.is_some() {
                mine.clone_from(said);
            }
        }
        self.tags.retain(|tag| !said.deleted_tags.contains(tag));
        self.tags.extend(said.tags.iter().cloned());
        let born = said.birthday.and_then(|day| day.and_hms_opt(0, 0, 0));
        self.birthday = born.map(|moment| moment.and_utc().timestamp()).or(self.birthday);
        let Consent { personalization, marketing, minor } = &mut self.consent;
        *personalization = said.personalization.unwrap_or(*personalization);
        *marketing = said.marketing.unwrap_or(*marketing);
        *minor = said.minor.unwrap_or(*minor);
    }

    /// As a row has it; `unsaid` is what it allows where it does not say.
    fn of(columns: &Columns, cells: &[Cell<'_>], clock: Clock, unsaid: Consent) -> Result<Self, Reason> {
        let text = |name| columns.get(name, cells).text();
        let flag = |name| columns.get(name, cells).flag().map_err(|_| Reason::BadFlag(name));
        let day = |name| birthday(columns.get(name, cells), clock).ok_or(Reason::BadTime(name));
        Ok(Self {
            store: text("store_id"),
            city: text("city"),
            guide: text("guide_id"),
            tags: columns.get("tags", cells).list(),
            others: Vec::new(),
            birthday: day("birthday")?,
            consent: Consent {
                personalization: flag("consent_personalization")?.unwrap_or(unsaid.personalization),
                marketing: flag("consent_marketing")?.unwrap_or(unsaid.marketing),
                minor: flag("minor")?.unwrap_or(false),
            },
        })
    }

    fn month_day(&self) -> u16 {
        let born = self.birthday.and_then(|b| DateTime::from_timestamp(b, 0));
        born.map_or(0, |born| month_day(born.date_naive()))
    }

    /// What the member allows, as bits. A minor is who the table calls one, and who is one by birthday as of a moment.
    fn consent_at(&self, moment: i64) -> u8 {
        let born = self.birthday.and_then(|b| DateTime::from_timestamp(b, 0));
        let adult = born.and_then(|b| b.checked_add_months(Months::new(12 * ADULT_YEARS)));
        let is_young = adult.is_some_and(|adult| adult.timestamp() > moment);
        let consent = Consent { minor: self.consent.minor || is_young, ..self.consent };
        consent.to_bits() | if is_young { YOUNG } else { 0 }
    }
}

/// The members table, by the numbers of its ids.
#[derive(Debug)]
pub(super) struct ReadMembers {
    pub(super) list: Vec<Option<Member>>,
    /// What a member allows who did not say, or whom only events name: nothing where the table asks the others.
    unsaid: Consent,
    /// Columns that Kindred has no name for.
    others: Others,
    pub(super) rejects: Rejects,
    /// What else is odd about the table, in words.
    pub(super) notes: Vec<String>,
}

/// Reads the table; the shops' clocks are `utc_offset_minutes` ahead of UTC.
pub(super) fn read(config: &DataConfig, utc_offset_minutes: i32, ids: &mut Ids) -> Result<ReadMembers, TableError> {
    let table = &config.members;
    let clock = Clock { unit: table.time_unit, offset: 60 * i64::from(utc_offset_minutes) };
    let with_columns = |file: TableFile| {
        let columns = Columns::of(&file, table, &["member_id"], &OPTIONAL, true)?;
        Ok((file, columns))
    };
    let files: Vec<(TableFile, Columns)> =
        files(config, table)?.into_iter().map(with_columns).collect::<Result<_, TableError>>()?;
    // A table without the column has asked nobody; one with it, be it in one of its files, has, and no answer is no
    // consent.
    let asked_nobody = |name: &str| !files.iter().any(|(_, columns)| columns.has(name));
    let unsaid = Consent {
        personalization: asked_nobody("consent_personalization"),
        marketing: asked_nobody("consent_marketing"),
        ..ASKED_NOBODY
    };
    let mut read = ReadMembers {
        list: Vec::new(),
        unsaid,
        others: Others::default(),
        rejects: Rejects::default(),
        notes: Vec::new(),
    };
    for (file, columns) in files {
        let others = read.others.numbered(&columns, &[]);
        file.read(&columns.names, &mut |(row, cells)| {
            read.rejects.rows += 1;
            let outcome = cells.ok_or(Reason::Malformed).and_then(|cells| {
                let id = columns.get("member_id", cells);
                read.add(ids, id, || {
                    let member = Member::of(&columns, cells, clock, unsaid)?;
                    Ok(Member { others: Others::values(&others, cells), ..member })
                })
            });
            if let Err(reason) = outcome {
                read.rejects.add(reason, &file.path, row);
            }
        })?;
    }
    gate("members", &read.rejects, config)?;
    read.list.resize_with(ids.len(), || None);
    read.tag();
    read.judge(config)?;
    Ok(read)
}

fn no_member(e: NoId) -> Reason {
    match e {
        NoId::Missing => Reason::NoMemberId,
        NoId::Bad => Reason::BadId,
    }
}

impl ReadMembers {
    /// Takes in a row. Of a member whose row can't be used, or who has several, the least that any of them
    /// says is allowed.
    fn add(
        &mut self,
        ids: &mut Ids,
        id: &Cell<'_>,
        member: impl FnOnce() -> Result<Member, Reason>,
    ) -> Result<(), Reason> {
        let number = ids.number(id).map_err(no_member)?;
        self.list.resize_with(self.list.len().max(ids.len()), || None);
        let place = &mut self.list[number as usize];
        let member = member();
        if let Some(earlier) = place {
            let consent = member.as_ref().map_or(NO_CONSENT, |m| m.consent);
            earlier.consent.personalization &= consent.personalization;
            earlier.consent.marketing &= consent.marketing;
            earlier.consent.minor |= consent.minor;
            return Err(Reason::DuplicateId);
        }
        let (kept, outcome) = match member {
            Ok(member) => (member, Ok(())),
            Err(reason) => (Member::unknown(NO_CONSENT), Err(reason)),
        };
        *place = Some(kept);
        outcome
    }

    /// Looks at the table as a whole.
    fn judge(&mut self, config: &DataConfig) -> Result<(), TableError> {
        if are_mistaken(self.list.iter().flatten().filter_map(|member| member.birthday)) {
            let path = config.root.join(config.members.path.as_deref().unwrap_or(Path::new("")));
            let problem = "all birthdays are of about 1970-01-01, which makes children of age: is time_unit right? A day that \
                           stands for none is better left empty";
            return Err(TableError::malformed(&path, problem));
        }
        let asked_nobody = [(self.unsaid.personalization, "personalization"), (self.unsaid.marketing, "marketing")];
        if config.members.path.is_none() {
            self.notes.push("no members table; all are taken to be of age and to have agreed to everything".to_owned());
        } else {
            for (_, name) in asked_nobody.iter().filter(|(asked_nobody, _)| *asked_nobody) {
                self.notes.push(format!("members: no column consent_{name}; all are taken to have agreed"));
            }
        }
        let nameless = [Reason::Malformed, Reason::NoMemberId, Reason::BadId].map(|reason| self.rejects.count(reason));
        let nameless: u64 = nameless.iter().sum();
        if nameless > 0 && (self.unsaid.personalization || self.unsaid.marketing) {
            // One of them may be a minor, or have said no.
            self.unsaid = NO_CONSENT;
            let whose = "rows do not tell whose they are; whoever has no other is taken to allow nothing";
            self.notes.push(format!("members: {nameless} {whose}"));
        }
        Ok(())
    }

    /// Makes tags of the columns that Kindred has no name for, but for those that name members.
    fn tag(&mut self) {
        let names_members = self.others.naming(self.list.iter().flatten().map(|member| &member.others));
        for member in self.list.iter_mut().flatten() {
            let others = std::mem::take(&mut member.others);
            member.tags.extend(self.others.tags(others, |column| !names_members[column]));
        }
    }

    /// Takes over what was said of members since.
    pub(super) fn say(&mut self, said: &BTreeMap<String, Profile>, ids: &mut Ids) {
        let stranger = Member::unknown(self.unsaid);
        for (id, profile) in said {
            let number = ids.number_kept(id) as usize;
            self.list.resize_with(self.list.len().max(ids.len()), || None);
            self.list[number].get_or_insert_with(|| stranger.clone()).say(profile);
        }
    }

    /// As columns by final row; ages as of `moment`.
    pub(super) fn into_columns(self, (ids, id_type): (Strings, IdType), rows: &[u32], moment: i64) -> Members {
        let stranger = Member::unknown(self.unsaid);
        let mut sorted = vec![stranger.clone(); ids.len()];
        for (number, member) in self.list.into_iter().enumerate() {
            // Who was forgotten has no row.
            if let (Some(place), Some(member)) = (sorted.get_mut(rows[number] as usize), member) {
                *place = member;
            }
        }
        let (tag_names, tags) = named(sorted.iter().map(|m| &m.tags));
        let label = |of: fn(&Member) -> &Option<String>| {
            Labels::encode(&sorted.iter().map(|m| of(m).as_deref()).collect::<Vec<_>>())
        };
        let consents: Vec<u8> = sorted.iter().map(|m| m.consent_at(moment)).collect();
        Members {
            ids,
            id_type,
            stores: label(|m| &m.store),
            cities: label(|m| &m.city),
            guides: label(|m| &m.guide),
            consents: consents.into(),
            birthdays: sorted.iter().map(Member::month_day).collect::<Vec<_>>().into(),
            tags,
            tag_names,
        }
    }
}

/// Ids of a table with a column `member_id`, or the name that the config has for it; in its order.
///
/// # Errors
/// If the table can't be read, or a row has no id.
pub fn read_member_ids(path: &Path, like: &DataConfig) -> Result<Vec<String>, TableError> {
    let (mut list, mut rejects) = (Vec::new(), Rejects::default());
    for file in table_files(path)? {
        let mut table = like.members.where_present(&file.columns()?);
        table.columns.retain(|ours, _| ours == "member_id");
        let columns = Columns::of(&file, &table, &["member_id"], &[], false)?;
        file.read(&columns.names, &mut |(row, cells)| {
            rejects.rows += 1;
            let id = cells.ok_or(Reason::Malformed).and_then(|cells| {
                let (id, _) = Ids::id_of(columns.get("member_id", cells)).map_err(no_member)?;
                Ok(id.into_owned())
            });
            match id {
                Ok(id) => list.push(id),
                Err(reason) => rejects.add(reason, &file.path, row),
            }
        })?;
    }
    gate("members", &rejects, &DataConfig { max_bad_row_share: 0.0, ..DataConfig::default() })?;
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn columns_that_name_members_and_those_to_ignore_make_no_tags() {
        let folder = tempfile::tempdir().unwrap();
        let rows = "member_id,tags,level,phone,street\n\
            a,vip,gold,111,Elm St\nb,,gold,222,Elm St\nc,vip,plain,333,Elm St\nd,,plain,,Oak St\ne,,gold,111,Oak St\n";
        fs::write(folder.path().join("members.csv"), rows).unwrap();
        let mut config = DataConfig { root: folder.path().to_owned(), ..DataConfig::default() };
        config.members.path = Some("members.csv".into());
        let tags_of = |config: &DataConfig| {
            let mut ids = Ids::default();
            let read = read(config, 0, &mut ids)?;
            let (ids, numbers) = ids.into_sorted();
            Ok(read.into_columns(ids, &numbers, 0).tag_names.iter().map(str::to_owned).collect::<Vec<_>>())
        };
        // Two of four phones are one member's each: not more than half.
        let tags = tags_of(&config).unwrap();
        assert!(tags.iter().any(|tag| tag == "phone=111"), "{tags:?}");
        fs::write(folder.path().join("members.csv"), rows.replace("e,,gold,111", "e,,gold,555")).unwrap();
        assert_eq!(tags_of(&config).unwrap(), ["level=gold", "level=plain", "street=Elm St", "street=Oak St", "vip"]);
        config.members.ignore = vec!["street".to_owned()];
        assert_eq!(tags_of(&config).unwrap(), ["level=gold", "level=plain", "vip"]);
        config.members.ignore = vec!["street".to_owned(), "tags".to_owned()];
        assert_eq!(
            tags_of(&config).unwrap(),
            ["level=gold", "level=plain"],
            "nor are columns read that have a name here"
        );
        config.members.ignore = vec!["streets".to_owned()];
        let told: Result<_, TableError> = tags_of(&config);
        assert!(
            told.unwrap_err().to_string().contains("no column 'streets' to ignore"),
            "a slip must not let it through"
        );
    }

    #[test]
    fn who_is_below_eighteen_by_birthday_is_a_minor_whatever_the_table_says() {
        let folder = tempfile::tempdir().unwrap();
        let rows = "member_id,minor,birthday\na,false,2005-11-15\nb,false,2005-11-14\nc,true,1990-01-01\n";
        fs::write(folder.path().join("members.csv"), rows).unwrap();
        let mut config = DataConfig { root: folder.path().to_owned(), ..DataConfig::default() };
        config.members.path = Some("members.csv".into());
        let mut ids = Ids::default();
        let read = read(&config, 0, &mut ids).unwrap();
        let (ids, numbers) = ids.into_sorted();
        // As of the evening of 2023-11-14.
        let members = read.into_columns(ids, &numbers, 1_700_000_000);
        assert_eq!([0, 1, 2].map(|row| members.consent(row).minor), [true, false, true]);
    }

    #[test]
    fn whoever_is_in_a_file_that_does_not_ask_has_not_agreed() {
        let folder = tempfile::tempdir().unwrap();
        let yes = r#"{"member_id":"a","consent_marketing":true}"#;
        for (name, text) in [("1.ndjson", yes), ("2.ndjson", r#"{"member_id":"b"}"#)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut config = DataConfig { root: folder.path().to_owned(), ..DataConfig::default() };
        config.members.path = Some(".".into());
        let mut ids = Ids::default();
        ids.number_kept("c");
        let read = read(&config, 0, &mut ids).unwrap();
        let (ids, numbers) = ids.into_sorted();
        let members = read.into_columns(ids, &numbers, 0);
        let consents: Vec<(bool, bool)> =
            (0..3).map(|row| members.consent(row)).map(|c| (c.marketing, c.personalization)).collect();
        assert_eq!(consents, [(true, true), (false, true), (false, true)], "nobody was asked of personalization");
    }
}
