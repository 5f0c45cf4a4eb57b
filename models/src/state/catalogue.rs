//! Products as they are now: added, changed and retired since a model learned.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::artifact::Array;
use crate::catalogue::Products;
use crate::categories::CategoryTree;
use crate::content::Attributes;
use crate::index::Table;
use crate::launch::{ANALOGUES, mean_vector};
use crate::model::Model;
use crate::sparse::Rows;
use crate::strings::{Labels, NONE, Strings};

/// A product as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ProductNow {
    /// Its id.
    pub id: String,
    /// What it is made of.
    pub attributes: Attributes,
    /// Whether it can be sold.
    pub available: bool,
}

/// What was said of a product; what is `None` is as a version has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProductPatch {
    /// Title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Category path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Brand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f32>,
    /// Tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Stores that carry it; empty for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stores: Option<Vec<String>>,
    /// Whether it can be sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<bool>,
}

impl ProductPatch {
    /// Takes over what a later word says; what it does not say stays.
    pub fn merge(&mut self, later: Self) {
        let Self { title, category, brand, price, tags, stores, available } = later;
        self.title = title.or(self.title.take());
        self.category = category.or(self.category.take());
        self.brand = brand.or(self.brand.take());
        self.price = price.or(self.price);
        self.tags = tags.or(self.tags.take());
        self.stores = stores.or(self.stores.take());
        self.available = available.or(self.available);
    }

    /// The product as it is now, where a version knows this of it.
    pub fn applied(&self, id: &str, known: Option<(Attributes, bool)>) -> ProductNow {
        let (learned, available) = known.unwrap_or_else(|| (Attributes::default(), true));
        let patch = self.clone();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let attributes = Attributes {
            title: patch.title.unwrap_or(learned.title),
            category: patch.category.map_or(learned.category, given),
            brand: patch.brand.map_or(learned.brand, given),
            price: patch.price.or(learned.price),
            tags: patch.tags.unwrap_or(learned.tags),
            stores: patch.stores.unwrap_or(learned.stores),
        };
        ProductNow { id: id.to_owned(), attributes, available: self.available.unwrap_or(available) }
    }
}

impl Model {
    /// The same model with products as they are now. Products that it does not know come after its own, in the order
    /// given: they have a vector by their content, and nobody bought them. What is like a product that it knows is
    /// still told by what that was made of when it learned. Costs time in proportion to the products.
    pub fn with_products(&self, now: &[ProductNow]) -> Self {
        if now.is_empty() {
            return self.clone();
        }
        let (known, mut rows) = (self.products.len(), HashMap::new());
        let mut added: Vec<&ProductNow> = Vec::new();
        for product in now {
            let row = self.products.find(&product.id).unwrap_or_else(|| {
                added.push(product);
                (known + added.len() - 1) as u32
            });
            rows.insert(row, product);
        }
        let mut model = self.clone();
        model.products = self.products.changed(&rows, &added);
        model.popularity = self.popularity.extended(added.len());
        model.tree = CategoryTree::new(&model.products.categories, &model.popularity.overall).into();
        if !added.is_empty() {
            let attributes = added.iter().map(|product| &product.attributes);
            let features: Vec<_> = attributes.map(Attributes::features).collect();
            let mut values = self.embeddings.products.to_vec();
            let is_sold = |row: u32| !self.launch.buyers.rows.range(row).is_empty();
            for features in &features {
                let analogues = self.content.nearest(features, ANALOGUES, is_sold);
                values.extend(mean_vector(&self.embeddings, &analogues));
            }
            model.content = self.content.extended(&features);
            model.embeddings.products = values.into();
            let table = Table { values: model.embeddings.products.clone(), dimension: model.embeddings.factors };
            model.product_index = self.product_index.extended(table);
        }
        model.with_facts()
    }
}

impl Products {
    /// With some rows as they are now, `added` at the end.
    fn changed(&self, now: &HashMap<u32, &ProductNow>, added: &[&ProductNow]) -> Self {
        let all = || 0..(self.len() + added.len()) as u32;
        let of = |row: &u32| now.get(row).map(|product| &product.attributes);
        let ids = self.ids.iter().chain(added.iter().map(|product| product.id.as_str()));
        let label = |labels: &Labels, own: fn(&Attributes) -> Option<&str>| {
            let value = |row: u32| of(&row).map_or_else(|| labels.get(row), own);
            // Borrowed from two places: both outlive the column.
            Labels::encode(&all().map(|row| value(row).map(str::to_owned)).collect::<Vec<_>>())
        };
        let list = |rows: &Rows, names: &Strings, own: fn(&Attributes) -> &[String]| {
            let said: Vec<Option<&[String]>> = all().map(|row| of(&row).map(own)).collect();
            relisted(rows, names, &said)
        };
        let price = |row: u32| match of(&row) {
            Some(attributes) => attributes.price.unwrap_or(f32::NAN),
            None => self.prices[row as usize],
        };
        let available = |row: u32| match now.get(&row) {
            Some(product) => u8::from(product.available),
            None => self.available[row as usize],
        };
        let title = |row: u32| of(&row).map_or_else(|| self.titles.get(row), |a| a.title.as_str());
        let (tag_names, tags) = list(&self.tags, &self.tag_names, |a| &a.tags);
        let (store_names, stores) = list(&self.stores, &self.store_names, |a| &a.stores);
        let number = |(i, product): (usize, &&ProductNow)| (product.id.clone(), (self.len() + i) as u32);
        Self {
            ids: ids.collect(),
            id_type: self.id_type.with(added.iter().map(|product| product.id.as_str())),
            titles: all().map(title).collect(),
            categories: label(&self.categories, |a| a.category.as_deref()),
            brands: label(&self.brands, |a| a.brand.as_deref()),
            prices: all().map(price).collect::<Vec<_>>().into(),
            available: all().map(available).collect::<Vec<_>>().into(),
            tags,
            tag_names,
            stores,
            store_names,
            added: Arc::new(added.iter().enumerate().map(number).collect()),
        }
    }
}

/// Lists of names as rows of a sorted table: as `said` has them, the others as they were. These stay numbers: thousands of
/// stores may carry a product.
fn relisted(rows: &Rows, names: &Strings, said: &[Option<&[String]>]) -> (Strings, Rows) {
    let new = said.iter().flatten().copied().flatten().map(String::as_str);
    let all: BTreeSet<&str> = names.iter().chain(new).collect();
    let all: Strings = all.into_iter().collect();
    let moved: Vec<u32> = names.iter().map(|name| all.find(name).unwrap_or(NONE)).collect();
    let lists = (0..).zip(said).map(|(row, said)| match said {
        Some(list) => list.iter().filter_map(|name| all.find(name)).collect(),
        None => rows.row(row).iter().map(|name| moved[*name as usize]).collect(),
    });
    let rows = Rows::from_lists(lists);
    (all, rows)
}

/// An array with so many more entries.
pub(crate) fn extended<T: bytemuck::Pod>(array: &[T], more: usize, with: T) -> Array<T> {
    let mut values = Vec::with_capacity(array.len() + more);
    values.extend_from_slice(array);
    values.resize(array.len() + more, with);
    values.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::fixture;

    fn now(id: &str, category: &str, available: bool) -> ProductNow {
        let attributes =
            Attributes { category: Some(category.to_owned()), tags: vec!["new".to_owned()], ..Attributes::default() };
        ProductNow { id: id.to_owned(), attributes, available }
    }

    #[test]
    fn what_is_added_comes_last_and_what_is_retired_stays_unavailable() {
        let learned = fixture::model(&[("a/x", "k", [1.0, 0.0], 90), ("a/y", "k", [0.0, 1.0], 90)], &[]);
        let model = learned.with_products(&[now("p000", "a/x", false), now("aaa", "b", true), now("zzz", "a/x", true)]);
        let p = &model.products;
        assert_eq!(
            (p.len(), p.find("aaa"), p.find("zzz"), p.find("p001"), p.find("p002")),
            (4, Some(2), Some(3), Some(1), None)
        );
        assert_eq!(p.available[..], [0, 1, 1, 1]);
        assert_eq!((p.categories.get(1), p.categories.get(2)), (Some("a/y"), Some("b")));
        assert_eq!(p.attributes(3).tags, ["new"]);
        assert_eq!((p.attributes(1).tags.len(), p.ids.get(3)), (0, "zzz"));
        assert!(model.popularity.is_new(3, 30) && !model.popularity.is_new(1, 30));
        assert_eq!(model.embeddings.product(3).len(), 2);
        let [changed, .., added] = &model.facts[..] else { panic!("facts of all products") };
        assert_eq!((model.facts.len(), changed.brand, added.nodes), (4, NONE, changed.nodes));
        let again = model.clone().with_products(&[]);
        assert_eq!(again.products.find("zzz"), Some(3));
    }

    #[test]
    fn lists_keep_their_names_where_others_come_between() {
        let names: Strings = ["b", "d"].into_iter().collect();
        let rows = Rows::from_lists([vec![0, 1], vec![1], vec![0]]);
        let said = ["c", "a", "b"].map(str::to_owned);
        // The second is said anew, the third to be in no list, and the last is added.
        let (names, rows) = relisted(&rows, &names, &[None, Some(&said), Some(&[]), Some(&said[..1])]);
        let list = |row: u32| rows.row(row).iter().map(|name| names.get(*name)).collect::<Vec<_>>();
        assert_eq!((0..4).map(list).collect::<Vec<_>>(), [vec!["b", "d"], vec!["a", "b", "c"], vec![], vec!["c"]]);
    }
}
