//! The members table: who buys, and what they allow.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Months, NaiveDate};
use kindred_models::catalogue::{Consent, IdType, Members, month_day};
use kindred_models::state::{ADULT_YEARS, Profile};
use kindred_models::strings::{Labels, Strings};

use super::columns::Columns;
use super::ids::{Ids, NoId};
use super::products::named;
use super::{files, gate};
use crate::config::DataConfig;
use crate::tables::{Cell, Reason, Rejects, TableError, TimeUnit, table_files};

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
struct Member {
    store: Option<String>,
    city: Option<String>,
    guide: Option<String>,
    tags: Vec<String>,
    birthday: Option<i64>,
    consent: Consent,
}

impl Member {
    /// A member of whom nothing is known but what is allowed.
    fn unknown(consent: Consent) -> Self {
        Self { store: None, city: None, guide: None, tags: Vec::new(), birthday: None, consent }
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

    fn of(columns: &Columns, cells: &[Cell<'_>], unit: TimeUnit) -> Result<Self, Reason> {
        let text = |name| columns.get(name, cells).text();
        let flag = |name| columns.get(name, cells).flag().map_err(|_| Reason::BadFlag);
        // A table without the column has asked nobody; one with it has, and no answer is no consent.
        let consent = |name| Ok(flag(name)?.unwrap_or(!columns.has(name)));
        // Of no use to what is learned so far; a bad one is told of all the same.
        day(columns.get("joined_at", cells), unit)?;
        let mut tags = columns.get("tags", cells).list();
        for place in &columns.others {
            tags.extend(cells[*place].text().map(|value| format!("{}={value}", columns.names[*place])));
        }
        Ok(Self {
            store: text("store_id"),
            city: text("city"),
            guide: text("guide_id"),
            tags,
            birthday: day(columns.get("birthday", cells), unit)?,
            consent: Consent {
                personalization: consent("consent_personalization")?,
                marketing: consent("consent_marketing")?,
                minor: flag("minor")?.unwrap_or(false),
            },
        })
    }

    fn month_day(&self) -> u16 {
        let born = self.birthday.and_then(|b| DateTime::from_timestamp(b, 0));
        born.map_or(0, |born| month_day(born.date_naive()))
    }

    /// A minor is who the table calls one, and who is one by birthday as of a moment.
    fn consent_at(&self, moment: i64) -> Consent {
        let born = self.birthday.and_then(|b| DateTime::from_timestamp(b, 0));
        let adult = born.and_then(|b| b.checked_add_months(Months::new(12 * ADULT_YEARS)));
        Consent { minor: self.consent.minor || adult.is_some_and(|a| a.timestamp() > moment), ..self.consent }
    }
}

/// A day in unix seconds, below 0 before 1970: a date column, text that begins with a date, or a number in
/// the table's unit.
fn day(cell: &Cell<'_>, unit: TimeUnit) -> Result<Option<i64>, Reason> {
    match cell {
        cell if cell.is_empty() => Ok(None),
        Cell::Moment(seconds) => Ok(Some(*seconds)),
        Cell::Integer(x) if unit == TimeUnit::S => Ok(Some(*x)),
        Cell::Integer(x) if unit == TimeUnit::Ms => Ok(Some(x.div_euclid(1_000))),
        Cell::Integer(x) if unit == TimeUnit::Us => Ok(Some(x.div_euclid(1_000_000))),
        Cell::Text(text) => {
            let day = text.trim().get(..10).unwrap_or_default().replace('/', "-");
            let date = NaiveDate::parse_from_str(&day, "%Y-%m-%d").map_err(|_| Reason::BadTime)?;
            Ok(date.and_hms_opt(0, 0, 0).map(|moment| moment.and_utc().timestamp()))
        }
        _ => Err(Reason::BadTime),
    }
}

/// The members table, by the numbers of its ids.
#[derive(Debug, Default)]
pub(super) struct ReadMembers {
    list: Vec<Option<Member>>,
    /// What a member allows whom only events name: nothing where the table asks the others.
    others: Option<Consent>,
    pub(super) rejects: Rejects,
}

pub(super) fn read(config: &DataConfig, ids: &mut Ids) -> Result<ReadMembers, TableError> {
    let table = &config.members;
    let mut read = ReadMembers::default();
    for file in files(config, table)? {
        let columns = Columns::of(&file, table, &["member_id"], &OPTIONAL, true)?;
        let asked = read.others.get_or_insert(ASKED_NOBODY);
        asked.personalization &= !columns.has("consent_personalization");
        asked.marketing &= !columns.has("consent_marketing");
        file.read(&columns.names, &mut |(row, cells)| {
            read.rejects.rows += 1;
            let outcome = cells.ok_or(Reason::Malformed).and_then(|cells| {
                let id = columns.get("member_id", cells);
                read.add(ids, id, || Member::of(&columns, cells, table.time_unit))
            });
            if let Err(reason) = outcome {
                read.rejects.add(reason, &file.path, row);
            }
        })?;
    }
    gate("members", &read.rejects, config)?;
    read.list.resize_with(ids.len(), || None);
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

    /// Takes over what was said of members since.
    pub(super) fn say(&mut self, said: &BTreeMap<String, Profile>, ids: &mut Ids) {
        let stranger = Member::unknown(self.others.unwrap_or(ASKED_NOBODY));
        for (id, profile) in said {
            let number = ids.number_kept(id) as usize;
            self.list.resize_with(self.list.len().max(ids.len()), || None);
            self.list[number].get_or_insert_with(|| stranger.clone()).say(profile);
        }
    }

    /// As columns by final row; ages as of `moment`.
    pub(super) fn into_columns(self, (ids, id_type): (Strings, IdType), rows: &[u32], moment: i64) -> Members {
        let stranger = Member::unknown(self.others.unwrap_or(ASKED_NOBODY));
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
        let consents: Vec<u8> = sorted.iter().map(|m| m.consent_at(moment).to_bits()).collect();
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
