//! What is known of products and members: ids and attributes, as the retailer's tables had them.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Datelike;
use serde::{Deserialize, Serialize};

use crate::artifact::{Array, ArtifactError, Reader, Writer};
use crate::content::Attributes;
use crate::sparse::Rows;
use crate::strings::{Labels, NONE, Strings};

/// How ids looked in the tables, so that they go out as they came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdType {
    /// Text, kept byte by byte.
    #[default]
    String,
    /// 64-bit integers.
    Integer,
}

impl IdType {
    /// What these and more ids are: text, unless every one of them comes out as it came in.
    pub fn with<'a>(self, mut more: impl Iterator<Item = &'a str>) -> Self {
        let is_integer = |id: &str| id.parse::<i64>().is_ok_and(|number| number.to_string() == id);
        if self == Self::Integer && more.all(is_integer) { Self::Integer } else { Self::String }
    }
}

/// The products, by row. Rows are in the order of their ids, but for those [`added`](Self::added) since.
#[derive(Clone, Debug, Default)]
pub struct Products {
    /// Ids, sorted.
    pub ids: Strings,
    /// How the ids looked.
    pub id_type: IdType,
    /// Titles; empty where unknown.
    pub titles: Strings,
    /// Category paths, levels joined by `/`.
    pub categories: Labels,
    /// Brands.
    pub brands: Labels,
    /// Prices in the retailer's currency; NaN where unknown.
    pub prices: Array<f32>,
    /// 1 where the product can be sold now.
    pub available: Array<u8>,
    /// Rows of `tag_names` per product.
    pub tags: Rows,
    /// Tag names, sorted.
    pub tag_names: Strings,
    /// Rows of `store_names` per product; a product without any is carried everywhere.
    pub stores: Rows,
    /// Store names, sorted.
    pub store_names: Strings,
    /// Rows of products that were added since the version was made: they come last, in no order. Not stored.
    pub added: Arc<HashMap<String, u32>>,
}

/// The members, by row. Rows are in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// Ids, sorted.
    pub ids: Strings,
    /// How the ids looked.
    pub id_type: IdType,
    /// Home stores.
    pub stores: Labels,
    /// Cities.
    pub cities: Labels,
    /// Guides who own the member.
    pub guides: Labels,
    /// [`Consent`] as bits.
    pub consents: Array<u8>,
    /// Birthdays as [`month_day`]; 0 where unknown.
    pub birthdays: Array<u16>,
    /// Rows of `tag_names` per member.
    pub tags: Rows,
    /// Tag names, sorted; columns that Kindred does not know are tags `column=value`.
    pub tag_names: Strings,
}

/// Beside the bits of [`Consent`]: the member is a minor by the birthday that the version learned, whatever a table calls them.
pub const YOUNG: u8 = 8;

/// What a member allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Whether feeds may use what the member did.
    pub personalization: bool,
    /// Whether the member may be contacted at all.
    pub marketing: bool,
    /// Whether the member is a minor, who is never contacted.
    pub minor: bool,
}

impl Consent {
    /// Whether a member who allows this now may be chosen and contacted. One who withdrew personalization after a model
    /// learned from them (`learned`) may not. Every caller asks here.
    pub fn allows_contact(self, learned: Self) -> bool {
        self.marketing && !self.minor && (self.personalization || !learned.personalization)
    }

    /// As bits: 1 personalization, 2 marketing, 4 minor.
    pub fn to_bits(self) -> u8 {
        u8::from(self.personalization) | u8::from(self.marketing) << 1 | u8::from(self.minor) << 2
    }

    /// The inverse of [`to_bits`](Self::to_bits).
    pub fn from_bits(bits: u8) -> Self {
        Self { personalization: bits & 1 != 0, marketing: bits & 2 != 0, minor: bits & 4 != 0 }
    }
}

impl Products {
    /// Number of products.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The row of a product.
    pub fn find(&self, id: &str) -> Option<u32> {
        self.added.get(id).copied().or_else(|| self.ids.find_within(self.len() - self.added.len(), id))
    }

    /// Whether a product was added since the version was made.
    pub fn is_added(&self, row: u32) -> bool {
        row as usize >= self.len() - self.added.len()
    }

    /// What a product is made of.
    pub fn attributes(&self, row: u32) -> Attributes {
        let price = self.prices[row as usize];
        Attributes {
            title: self.titles.get(row).to_owned(),
            category: self.categories.get(row).map(str::to_owned),
            brand: self.brands.get(row).map(str::to_owned),
            price: (price > 0.0).then_some(price),
            tags: self.tags.row(row).iter().map(|tag| self.tag_names.get(*tag).to_owned()).collect(),
            stores: self.stores.row(row).iter().map(|store| self.store_names.get(*store).to_owned()).collect(),
        }
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("products", &self.id_type, |s| {
            self.ids.write("ids", s)?;
            self.titles.write("titles", s)?;
            self.categories.write("categories", s)?;
            self.brands.write("brands", s)?;
            s.array("prices", &self.prices)?;
            s.array("available", &self.available)?;
            self.tags.write("tags", s)?;
            self.tag_names.write("tag_names", s)?;
            self.stores.write("stores", s)?;
            self.store_names.write("store_names", s)
        })
    }

    pub(crate) fn read(from: &Reader) -> Result<Self, ArtifactError> {
        let s = from.section("products")?;
        let ids = read_ids(&s)?;
        let n = ids.len();
        let (tag_names, store_names) = (Strings::read("tag_names", &s)?, Strings::read("store_names", &s)?);
        let products = Self {
            id_type: s.values()?,
            titles: Strings::read("titles", &s)?,
            categories: Labels::read("categories", n, &s)?,
            brands: Labels::read("brands", n, &s)?,
            prices: s.array("prices")?,
            available: s.array("available")?,
            tags: Rows::read("tags", n, tag_names.len(), &s)?,
            stores: Rows::read("stores", n, store_names.len(), &s)?,
            ids,
            tag_names,
            store_names,
            added: Arc::default(),
        };
        let lengths = [products.titles.len(), products.prices.len(), products.available.len()];
        s.ensure(lengths.iter().all(|l| *l == n), "columns of products differ in length")?;
        Ok(products)
    }
}

impl Members {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// What a member allows. Beyond the last row, nothing.
    pub fn consent(&self, row: u32) -> Consent {
        Consent::from_bits(self.consents.get(row as usize).copied().unwrap_or(0))
    }

    /// Whether a member is a minor by the birthday that the version learned.
    pub fn is_young(&self, row: u32) -> bool {
        self.consents.get(row as usize).is_some_and(|bits| bits & YOUNG != 0)
    }

    /// Writes them as a section of a version.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, to: &mut Writer) -> Result<(), ArtifactError> {
        to.section("members", &self.id_type, |s| {
            self.ids.write("ids", s)?;
            self.stores.write("stores", s)?;
            self.cities.write("cities", s)?;
            self.guides.write("guides", s)?;
            s.array("consents", &self.consents)?;
            s.array("birthdays", &self.birthdays)?;
            self.tags.write("tags", s)?;
            self.tag_names.write("tag_names", s)
        })
    }

    pub(crate) fn read(from: &Reader) -> Result<Self, ArtifactError> {
        let s = from.section("members")?;
        let ids = read_ids(&s)?;
        let n = ids.len();
        let tag_names = Strings::read("tag_names", &s)?;
        let members = Self {
            id_type: s.values()?,
            stores: Labels::read("stores", n, &s)?,
            cities: Labels::read("cities", n, &s)?,
            guides: Labels::read("guides", n, &s)?,
            consents: s.array("consents")?,
            birthdays: if from.manifest().format_version < 8 { vec![0; n].into() } else { s.array("birthdays")? },
            tags: Rows::read("tags", n, tag_names.len(), &s)?,
            ids,
            tag_names,
        };
        let lengths = [members.consents.len(), members.birthdays.len()];
        s.ensure(lengths == [n, n], "columns of members differ in length")?;
        Ok(members)
    }
}

/// A day of the year: 100 times the month, and the day of the month.
pub fn month_day(date: chrono::NaiveDate) -> u16 {
    (100 * date.month() + date.day()) as u16
}

fn read_ids(s: &crate::artifact::Section<'_>) -> Result<Strings, ArtifactError> {
    let ids = Strings::read("ids", s)?;
    s.ensure(ids.len() < NONE as usize, "more rows than the format can number")?;
    s.ensure_all(|| ids.iter().is_sorted(), "ids are not sorted")?;
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::IdType;

    #[test]
    fn ids_stay_integers_while_each_comes_out_as_it_came_in() {
        let with = |ids: &[&str]| IdType::Integer.with(ids.iter().copied());
        assert_eq!([with(&[]), with(&["7", "-3"])], [IdType::Integer; 2]);
        assert_eq!([with(&["7", "new-1"]), with(&["007"]), with(&["+7"])], [IdType::String; 3]);
        assert_eq!(IdType::String.with(["7"].into_iter()), IdType::String);
    }
}
