//! The products table: what is sold.

use std::collections::{BTreeMap, BTreeSet};

use kindred_models::catalogue::{IdType, Products};
use kindred_models::content::Attributes;
use kindred_models::sparse::Rows;
use kindred_models::state::ProductPatch;
use kindred_models::strings::{Labels, Strings};

use super::columns::Columns;
use super::events::EARLIEST;
use super::ids::{Ids, NoId};
use super::others::{self, Others};
use super::{files, gate};
use crate::config::{DataConfig, TableConfig};
use crate::tables::{Cell, Reason, Rejects, TableError, TimeUnit};

const OPTIONAL: [&str; 8] = ["title", "category", "brand", "price", "tags", "launched_at", "stores", "available"];
/// What a table of launches may have besides.
const OFFER: [&str; 3] = ["value", "stock", "max_members"];

/// One product as the table has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Product {
    attributes: Attributes,
    launched_at: Option<i64>,
    available: bool,
    offer: Offer,
    /// What columns that Kindred has no name for say: the number of each, and its value.
    others: others::Values,
}

/// What a launch is worth, and how much there is of it, as far as the table says; 0 or above.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Offer {
    /// What a purchase is worth.
    pub value: Option<f64>,
    /// Units in stock.
    pub stock: Option<f64>,
    /// Members who may get it, at most.
    pub max_members: Option<f64>,
}

impl Product {
    fn of(columns: &Columns, cells: &[Cell<'_>], unit: TimeUnit) -> Result<Self, Reason> {
        let text = |name| columns.get(name, cells).text();
        let amount = |name| amount(columns, cells, name);
        let levels: Vec<String> = columns.all("category", cells).map_while(Cell::path).collect();
        let price =
            columns.get("price", cells).number().map_err(|_| Reason::BadNumber("price"))?.map(|price| price as f32);
        // One that is endless in single precision would be in the mean of all.
        if price.is_some_and(f32::is_infinite) {
            return Err(Reason::BadNumber("price"));
        }
        Ok(Self {
            attributes: Attributes {
                title: text("title").unwrap_or_default(),
                category: (!levels.is_empty()).then(|| levels.join("/")),
                brand: text("brand"),
                price: price.filter(|p| *p > 0.0),
                tags: columns.get("tags", cells).list(),
                stores: columns.get("stores", cells).list(),
            },
            launched_at: launched_at(columns.get("launched_at", cells), unit)?,
            available: columns
                .get("available", cells)
                .flag()
                .map_err(|_| Reason::BadFlag("available"))?
                .unwrap_or(true),
            offer: Offer { value: amount("value")?, stock: amount("stock")?, max_members: amount("max_members")? },
            others: Vec::new(),
        })
    }
}

/// When a product was launched; a table without times says of none.
fn launched_at(cell: &Cell<'_>, unit: TimeUnit) -> Result<Option<i64>, Reason> {
    let bad = Reason::BadTime("launched_at");
    let moment = if unit == TimeUnit::None { None } else { unit.seconds(cell).map_err(|_| bad)? };
    // Seconds that are taken for milliseconds would be of 1970.
    let is_number = matches!(unit, TimeUnit::S | TimeUnit::Ms | TimeUnit::Us);
    if is_number && moment.is_some_and(|moment| moment < EARLIEST) { Err(bad) } else { Ok(moment) }
}

/// A number of 0 or above in one of a row's columns.
fn amount(columns: &Columns, cells: &[Cell<'_>], name: &'static str) -> Result<Option<f64>, Reason> {
    let amount = columns.get(name, cells).number().map_err(|_| Reason::BadNumber(name))?;
    if amount.is_some_and(|x| x < 0.0 || !x.is_finite()) { Err(Reason::BelowZero(name)) } else { Ok(amount) }
}

/// The products table, by the numbers of its ids.
#[derive(Debug, Default)]
pub(super) struct ReadProducts {
    /// `None` for a product that only events name.
    pub(super) list: Vec<Option<Product>>,
    /// Names of the columns that Kindred has no name for.
    others: Others,
    /// Products that events name, with a row that can't be used.
    spoiled: Vec<u32>,
    pub(super) rejects: Rejects,
}

pub(super) fn read(config: &DataConfig, ids: &mut Ids) -> Result<ReadProducts, TableError> {
    let mut read = read_as(config, ids, &OPTIONAL, |table, _| table.clone())?;
    let names_products = read.others.naming(read.list.iter().flatten().map(|product| &product.others));
    read.tag(|column| !names_products[column]);
    // Whether it can be sold, nobody can tell.
    for number in std::mem::take(&mut read.spoiled) {
        read.list[number as usize].get_or_insert(Product { available: false, ..Product::default() });
    }
    Ok(read)
}

/// Reads the table, with its config adapted to each file's columns.
fn read_as(
    config: &DataConfig,
    ids: &mut Ids,
    optional: &[&'static str],
    adapt: impl Fn(&TableConfig, &[String]) -> TableConfig,
) -> Result<ReadProducts, TableError> {
    let mut read = ReadProducts::default();
    for file in files(config, &config.products)? {
        let table = &adapt(&config.products, &file.columns()?);
        let columns = Columns::of(&file, table, &["product_id"], optional, true)?;
        let others = read.others.numbered(&columns, &OFFER);
        file.read(&columns.names, &mut |(row, cells)| {
            read.rejects.rows += 1;
            let outcome = cells.ok_or(Reason::Malformed).and_then(|cells| {
                let id = columns.get("product_id", cells);
                let product = Product::of(&columns, cells, table.time_unit);
                let mut product = product.inspect_err(|_| read.spoiled.extend(ids.find(id)))?;
                let number = ids.number(id).map_err(|e| match e {
                    NoId::Missing => Reason::NoProductId,
                    NoId::Bad => Reason::BadId,
                })?;
                product.others = Others::values(&others, cells);
                read.list.resize_with(read.list.len().max(ids.len()), || None);
                let place = &mut read.list[number as usize];
                if place.is_some() {
                    return Err(Reason::DuplicateId);
                }
                *place = Some(product);
                Ok(())
            });
            if let Err(reason) = outcome {
                read.rejects.add(reason, &file.path, row);
            }
        })?;
    }
    gate("products", &read.rejects, config)?;
    read.list.resize_with(ids.len(), || None);
    Ok(read)
}

impl ReadProducts {
    /// Makes tags `column=value` of the other columns, as far as those are wanted.
    fn tag(&mut self, is_wanted: impl Fn(usize) -> bool) {
        for product in self.list.iter_mut().flatten() {
            let others = std::mem::take(&mut product.others);
            product.attributes.tags.extend(self.others.tags(others, &is_wanted));
        }
    }

    /// Takes over what was said of products since.
    pub(super) fn say(&mut self, said: &BTreeMap<String, ProductPatch>, ids: &mut Ids) {
        for (id, patch) in said {
            let number = ids.number_kept(id) as usize;
            self.list.resize_with(self.list.len().max(ids.len()), || None);
            let known = self.list[number].take().unwrap_or_else(|| Product { available: true, ..Product::default() });
            let available = patch.available.unwrap_or(known.available);
            let (attributes, launched_at) = (patch.applied(known.attributes), known.launched_at.or(patch.launched_at));
            self.list[number] = Some(Product { attributes, launched_at, available, ..known });
        }
    }

    /// As columns by final row, with the launch times beside them.
    pub(super) fn into_columns(self, (ids, id_type): (Strings, IdType), rows: &[u32]) -> (Products, Vec<Option<i64>>) {
        let mut sorted: Vec<Product> = vec![Product { available: true, ..Product::default() }; ids.len()];
        for (number, product) in self.list.into_iter().enumerate() {
            if let Some(product) = product {
                sorted[rows[number] as usize] = product;
            }
        }
        let (tag_names, tags) = named(sorted.iter().map(|p| &p.attributes.tags));
        let (store_names, stores) = named(sorted.iter().map(|p| &p.attributes.stores));
        let label = |of: fn(&Product) -> &Option<String>| {
            Labels::encode(&sorted.iter().map(|p| of(p).clone()).collect::<Vec<_>>())
        };
        let prices: Vec<f32> = sorted.iter().map(|p| p.attributes.price.unwrap_or(f32::NAN)).collect();
        let available: Vec<u8> = sorted.iter().map(|p| u8::from(p.available)).collect();
        let products = Products {
            added: Default::default(),
            ids,
            id_type,
            titles: sorted.iter().map(|p| &p.attributes.title).collect(),
            categories: label(|p| &p.attributes.category),
            brands: label(|p| &p.attributes.brand),
            prices: prices.into(),
            available: available.into(),
            tags,
            tag_names,
            stores,
            store_names,
        };
        (products, sorted.iter().map(|p| p.launched_at).collect())
    }
}

/// Lists of names as rows of a sorted table of the names.
pub(super) fn named<'a>(lists: impl Iterator<Item = &'a Vec<String>> + Clone) -> (Strings, Rows) {
    let distinct: BTreeSet<&str> = lists.clone().flatten().map(String::as_str).collect();
    let names: Strings = distinct.into_iter().collect();
    let rows = Rows::from_lists(lists.map(|list| list.iter().filter_map(|name| names.find(name)).collect()));
    (names, rows)
}

/// A product that a model does not know.
#[derive(Clone, Debug)]
pub struct NewProduct {
    /// Its id.
    pub id: String,
    /// What it is made of.
    pub attributes: Attributes,
    /// What it is worth, and how much there is of it.
    pub offer: Offer,
}

/// Products that a model does not know.
#[derive(Clone, Debug)]
pub struct NewProducts {
    /// The products, in the order of the table.
    pub list: Vec<NewProduct>,
    /// How the ids looked.
    pub id_type: IdType,
    /// Rows that could not be used.
    pub rejects: Rejects,
}

/// Products that a model does not know, by id, from a table like the products table, in its order; its
/// columns have the names that the config says, or Kindred's own. Offers are read where they are asked for.
///
/// # Errors
/// If the table can't be read, or has too many rows that can't be used.
pub fn read_new_products(config: &DataConfig, with_offers: bool) -> Result<NewProducts, TableError> {
    let mut ids = Ids::default();
    let optional = if with_offers { [&OPTIONAL[..], &OFFER].concat() } else { OPTIONAL.to_vec() };
    let mut read = read_as(config, &mut ids, &optional, TableConfig::where_present)?;
    read.tag(|_| true);
    let ((names, id_type), rows) = ids.into_sorted();
    let products = read.list.into_iter().enumerate();
    let named = products.filter_map(|(number, product)| {
        let Product { attributes, offer, .. } = product?;
        Some(NewProduct { id: names.get(rows[number]).to_owned(), attributes, offer })
    });
    let list: Vec<_> = named.collect();
    if list.is_empty() {
        let path = config.products.path.as_ref().map(|p| p.display().to_string());
        return Err(TableError::Empty(path.unwrap_or_else(|| "products".to_owned())));
    }
    Ok(NewProducts { list, id_type, rejects: read.rejects })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray, UInt64Array};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::config::Names;

    fn config(csv: &str) -> (tempfile::TempDir, DataConfig) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("products.csv"), csv).unwrap();
        let mut config = DataConfig { root: folder.path().to_owned(), ..DataConfig::default() };
        config.products.path = Some("products.csv".into());
        (folder, config)
    }

    #[test]
    fn other_columns_are_tags_unless_they_name_products() {
        let (_folder, config) = config(
            "product_id,brand,tags,flavour,barcode,stock\n\
             a,X,new,plum,111,1\nb,X,,plum,222,1\nc,Y,gift;new,plum,333,1\nd,Y,,,,1\ne,Y,,lime,444,1\n",
        );
        let mut ids = Ids::default();
        let read = read(&config, &mut ids).unwrap();
        let (ids, rows) = ids.into_sorted();
        let (products, _) = read.into_columns(ids, &rows);
        let tags: Vec<Vec<String>> = (0..5).map(|row| products.attributes(row).tags).collect();
        let own: [&[&str]; 5] =
            [&["flavour=plum", "new"], &["flavour=plum"], &["flavour=plum", "gift", "new"], &[], &["flavour=lime"]];
        assert_eq!(tags, own, "every product has a barcode of its own, and stock is of an offer");
        // Of a few launches nobody can tell which columns name products; what no product had counts nothing.
        let launched = read_new_products(&config, false).unwrap();
        assert_eq!(launched.list[3].attributes.tags.len(), 0);
        assert_eq!(launched.list[4].attributes.tags, ["flavour=lime", "barcode=444"]);
    }

    #[test]
    fn a_table_without_times_says_of_nothing_when_it_was_launched() {
        let (_folder, mut config) = config("product_id,launched_at\na,1700000000\nb,\n");
        for (unit, launched) in [(TimeUnit::None, [None, None]), (TimeUnit::S, [Some(1_700_000_000), None])] {
            config.products.time_unit = unit;
            let mut ids = Ids::default();
            let read = read(&config, &mut ids).unwrap();
            let (ids, rows) = ids.into_sorted();
            assert_eq!(read.into_columns(ids, &rows).1, launched);
        }
    }

    #[test]
    fn a_product_whose_row_cannot_be_used_is_not_sold() {
        let (_folder, mut config) = config("product_id,price,available\na,1,true\nb,n/a,true\n");
        config.max_bad_row_share = 1.0;
        let mut ids = Ids::default();
        for id in ["b", "c"] {
            ids.number_kept(id);
        }
        let read = read(&config, &mut ids).unwrap();
        assert_eq!(read.rejects.total(), 1);
        let (ids, rows) = ids.into_sorted();
        assert_eq!(read.into_columns(ids, &rows).0.available[..], [1, 0, 1], "what has no row may be sold");
    }

    #[test]
    fn columns_that_nobody_asked_for_and_nobody_can_read_are_left_out() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let kinds: ArrayRef = Arc::new(StringArray::from(vec!["tea", "tea"]));
        let pictures: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x", b"y"]));
        let hashes: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX; 2]));
        let sizes: ArrayRef = Arc::new(StructArray::try_from(vec![("unit", kinds.clone())]).unwrap());
        let columns = [("product_id", ids), ("kind", kinds), ("picture", pictures), ("hash", hashes), ("size", sizes)];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let (folder, mut config) = config("");
        let file = fs::File::create(folder.path().join("products.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
        writer.write(&rows).unwrap();
        writer.close().unwrap();
        config.products.path = Some("products.parquet".into());
        let read = read_new_products(&config, false).unwrap();
        assert!(read.list.len() == 2 && read.list.iter().all(|product| product.attributes.tags == ["kind=tea"]));
        config.products.columns.insert("brand".to_owned(), Names::One("size".to_owned()));
        assert!(
            matches!(read_new_products(&config, false), Err(TableError::ColumnType { column, .. }) if column == "size")
        );
    }
}
