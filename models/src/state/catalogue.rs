//! Products as they are now: added, changed and retired since a model learned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::artifact::Array;
use crate::catalogue::Products;
use crate::categories::CategoryTree;
use crate::content::{Attributes, Feature};
use crate::events::day;
use crate::feed::Unsold;
use crate::index::Table;
use crate::launch::{ANALOGUES, mean_vector};
use crate::model::Model;
use crate::ranking::Scored;
use crate::sparse::Rows;
use crate::strings::{Labels, NONE, Strings};

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
    /// When it was launched, in unix seconds, of one that the version did not know when that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launched_at: Option<i64>,
}

impl ProductPatch {
    /// Takes over what a later word says; what it does not say stays.
    pub fn merge(&mut self, later: Self) {
        let Self { title, category, brand, price, tags, stores, available, launched_at } = later;
        self.title = title.or(self.title.take());
        self.category = category.or(self.category.take());
        self.brand = brand.or(self.brand.take());
        self.price = price.or(self.price);
        self.tags = tags.or(self.tags.take());
        self.stores = stores.or(self.stores.take());
        self.available = available.or(self.available);
        self.launched_at = launched_at.or(self.launched_at);
    }

    /// What the product is made of now, where a version learned this of it.
    pub fn applied(&self, learned: Attributes) -> Attributes {
        let patch = self.clone();
        let given = |text: String| (!text.is_empty()).then_some(text);
        Attributes {
            title: patch.title.unwrap_or(learned.title),
            category: patch.category.map_or(learned.category, given),
            brand: patch.brand.map_or(learned.brand, given),
            price: patch.price.or(learned.price),
            tags: patch.tags.unwrap_or(learned.tags),
            stores: patch.stores.unwrap_or(learned.stores),
        }
    }

    /// What of it a version does not know of the product in one of its rows.
    pub fn beyond(self, products: &Products, row: u32) -> Self {
        let text = |said: Option<String>, learned: &str| said.filter(|said| said != learned);
        let list = |said: Option<Vec<String>>, rows: &Rows, names: &Strings| {
            let learned = || rows.row(row).iter().map(|name| names.get(*name));
            said.filter(|said| !said.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().eq(learned()))
        };
        let at = row as usize;
        Self {
            title: text(self.title, products.titles.get(row)),
            category: text(self.category, products.categories.get(row).unwrap_or("")),
            brand: text(self.brand, products.brands.get(row).unwrap_or("")),
            price: self.price.filter(|price| products.prices.get(at) != Some(price)),
            tags: list(self.tags, &products.tags, &products.tag_names),
            stores: list(self.stores, &products.stores, &products.store_names),
            available: self.available.filter(|is| products.available.get(at) != Some(&u8::from(*is))),
            launched_at: None,
        }
    }
}

/// The sold products most like what products are made of that were added to a model, as they were found when it was last
/// given products: only what is new is looked for.
#[derive(Clone, Debug, Default)]
pub struct Analogues(BTreeMap<Vec<Feature>, Arc<[Scored]>>);

impl Model {
    /// Days from a moment to the newest event that the model learned; below 0 for what came after.
    fn days_since(&self, moment: i64) -> i32 {
        let days = day(self.info.as_of_time).saturating_sub(day(moment));
        days.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
    }

    /// The same model with what was said of products, each named once. Products that it does not know come after its own, in
    /// the order given: they have a vector by their content, and nobody bought them. What is like a product that it knows is
    /// still told by what that was made of when it learned. Costs time in proportion to the products, and a search for each
    /// that is made of what `found` does not have. The model is one that was loaded: to one with added products, no more can be
    /// added.
    pub fn with_products(&self, said: &[(String, ProductPatch)], found: &mut Analogues) -> Self {
        if said.is_empty() {
            return self.clone();
        }
        debug_assert!(self.products.added.is_empty());
        let (mut changed, mut added) = (HashMap::new(), Vec::new());
        for (id, patch) in said {
            match self.products.find(id) {
                Some(row) => drop(changed.insert(row, patch)),
                None => added.push((id.as_str(), patch)),
            }
        }
        let mut model = self.clone();
        model.products = self.products.changed(&changed, &added);
        let age = |(_, patch): &(&str, &ProductPatch)| patch.launched_at.map_or(0, |at| self.days_since(at));
        model.popularity = self.popularity.extended(&added.iter().map(age).collect::<Vec<i32>>());
        model.tree = CategoryTree::new(&model.products.categories, &model.popularity.overall).into();
        if !added.is_empty() {
            let made_of = |(_, patch): &(&str, &ProductPatch)| patch.applied(Attributes::default()).features();
            let features: Vec<_> = added.iter().map(made_of).collect();
            let is_sold = |row: u32| !self.launch.buyers.rows.range(row).is_empty();
            let nearest = |features: &Vec<Feature>| match found.0.get(features) {
                Some(analogues) => analogues.clone(),
                None => self.content.nearest(features, ANALOGUES, is_sold).into(),
            };
            let analogues: Vec<Arc<[Scored]>> = features.par_iter().map(nearest).collect();
            found.0 = features.iter().cloned().zip(analogues.iter().cloned()).collect();
            let vectors: Vec<Vec<f32>> = analogues.iter().map(|a| mean_vector(&self.embeddings, a)).collect();
            let rows = self.products.len() as u32..;
            let is_new = |row: u32| model.popularity.is_new(row);
            let new = rows.zip(&analogues).filter(|(row, _)| is_new(*row));
            let unsold = new.filter_map(|(row, analogues)| Unsold::new(row, analogues));
            model.unsold = self.unsold.iter().cloned().chain(unsold).collect();
            model.content = self.content.extended(&features);
            model.embeddings.products = [&self.embeddings.products[..], &vectors.concat()].concat().into();
            let table = Table { values: model.embeddings.products.clone(), dimension: model.embeddings.factors };
            model.product_index = self.product_index.extended(table);
        }
        model.with_facts()
    }
}

impl Products {
    /// With what was said of some rows, `added` at the end.
    fn changed(&self, changed: &HashMap<u32, &ProductPatch>, added: &[(&str, &ProductPatch)]) -> Self {
        let all = || 0..(self.len() + added.len()) as u32;
        let said = |row: u32| match added.get((row as usize).wrapping_sub(self.len())) {
            Some((_, patch)) => Some(*patch),
            None => changed.get(&row).copied(),
        };
        let (tag_names, tags) = relisted(&self.tags, &self.tag_names, all().map(|row| said(row)?.tags.as_deref()));
        let (store_names, stores) =
            relisted(&self.stores, &self.store_names, all().map(|row| said(row)?.stores.as_deref()));
        let price = |row: u32| said(row).and_then(|patch| patch.price).or(self.prices.get(row as usize).copied());
        let available = |row: u32| match said(row).and_then(|patch| patch.available) {
            Some(available) => u8::from(available),
            None => self.available.get(row as usize).copied().unwrap_or(1),
        };
        let title = |row: u32| said(row).and_then(|patch| patch.title.as_deref()).unwrap_or(self.titles.get(row));
        let number = |(i, (id, _)): (usize, &(&str, _))| ((*id).to_owned(), (self.len() + i) as u32);
        Self {
            ids: self.ids.iter().chain(added.iter().map(|(id, _)| *id)).collect(),
            id_type: self.id_type.with(added.iter().map(|(id, _)| *id)),
            titles: all().map(title).collect(),
            categories: relabelled(&self.categories, all().map(|row| said(row)?.category.as_deref())),
            brands: relabelled(&self.brands, all().map(|row| said(row)?.brand.as_deref())),
            prices: all().map(|row| price(row).unwrap_or(f32::NAN)).collect::<Vec<_>>().into(),
            available: all().map(available).collect::<Vec<_>>().into(),
            tags,
            tag_names,
            stores,
            store_names,
            added: Arc::new(added.iter().enumerate().map(number).collect()),
        }
    }
}

/// A column as said, from the first row on, the others as they were; what is said to be empty has no value.
fn relabelled<'a>(labels: &'a Labels, said: impl Iterator<Item = Option<&'a str>>) -> Labels {
    let now = |(row, said): (u32, Option<&'a str>)| match said {
        Some(text) => (!text.is_empty()).then_some(text),
        None => labels.get(row),
    };
    Labels::encode(&(0..).zip(said).map(now).collect::<Vec<_>>())
}

/// Lists of names as rows of a sorted table: as `said` has them, the others as they were. These stay numbers: thousands of
/// stores may carry a product.
fn relisted<'a>(rows: &Rows, names: &Strings, said: impl Iterator<Item = Option<&'a [String]>>) -> (Strings, Rows) {
    let said: Vec<Option<&[String]>> = said.collect();
    let new = said.iter().flatten().copied().flatten().map(String::as_str);
    let all: BTreeSet<&str> = names.iter().chain(new).collect();
    let all: Strings = all.into_iter().collect();
    let moved: Vec<u32> = names.iter().map(|name| all.find(name).unwrap_or(NONE)).collect();
    let lists = (0..).zip(&said).map(|(row, said)| match said {
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

    fn now(id: &str, category: &str, available: bool) -> (String, ProductPatch) {
        let patch = ProductPatch {
            category: Some(category.to_owned()),
            brand: Some(String::new()),
            tags: Some(vec!["new".to_owned()]),
            available: Some(available),
            ..ProductPatch::default()
        };
        (id.to_owned(), patch)
    }

    #[test]
    fn what_is_added_comes_last_and_what_is_retired_stays_unavailable() {
        let learned = fixture::model(&[("a/x", "k", [1.0, 0.0], 90), ("a/y", "k", [0.0, 1.0], 90)], &[]);
        let mut found = Analogues::default();
        let said = [now("p000", "a/x", false), now("aaa", "b", true), now("zzz", "a/x", true)];
        let model = learned.with_products(&said, &mut found);
        let p = &model.products;
        assert_eq!(
            (p.len(), p.find("aaa"), p.find("zzz"), p.find("p001"), p.find("p002")),
            (4, Some(2), Some(3), Some(1), None)
        );
        assert_eq!(p.available[..], [0, 1, 1, 1]);
        assert_eq!((p.categories.get(1), p.categories.get(2)), (Some("a/y"), Some("b")));
        assert_eq!(p.attributes(3).tags, ["new"]);
        assert_eq!((p.attributes(1).tags.len(), p.ids.get(3)), (0, "zzz"));
        assert!(model.popularity.is_new(3) && !model.popularity.is_new(1));
        assert_eq!(model.embeddings.product(3).len(), 2);
        let [changed, .., added] = &model.facts[..] else { panic!("facts of all products") };
        assert_eq!((model.facts.len(), changed.brand, added.nodes), (4, NONE, changed.nodes));
        let again = model.clone().with_products(&[], &mut found);
        assert_eq!(again.products.find("zzz"), Some(3));
    }

    #[test]
    fn what_a_version_knows_of_a_product_is_not_remembered() {
        let learned = fixture::model(&[("a/x", "k", [1.0, 0.0], 90), ("a/y", "", [0.0, 1.0], 90)], &[]);
        let text = |text: &str| Some(text.to_owned());
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let said = ProductPatch {
            title: text("p000"),
            category: text("a/x"),
            brand: text(""),
            price: Some(2.0),
            tags: list(&["b", "a", "b"]),
            stores: list(&[]),
            available: Some(true),
            launched_at: Some(7),
        };
        let ProductPatch { brand, price, tags, .. } = said.clone();
        let beyond = ProductPatch { brand, price, tags, ..ProductPatch::default() };
        assert_eq!(said.clone().beyond(&learned.products, 0), beyond, "it has a brand, no price and no tags");
        let model = learned.with_products(&[("p000".to_owned(), beyond)], &mut Analogues::default());
        let sorted = Attributes { tags: ["a", "b"].map(str::to_owned).to_vec(), ..said.applied(Attributes::default()) };
        assert_eq!(model.products.attributes(0), sorted, "and knows the rest");
        assert_eq!(said.beyond(&model.products, 0), ProductPatch::default());
    }

    #[test]
    fn lists_keep_their_names_where_others_come_between() {
        let names: Strings = ["b", "d"].into_iter().collect();
        let rows = Rows::from_lists([vec![0, 1], vec![1], vec![0]]);
        let said = ["c", "a", "b"].map(str::to_owned);
        // The second is said anew, the third to be in no list, and the last is added.
        let (names, rows) = relisted(&rows, &names, [None, Some(&said[..]), Some(&[]), Some(&said[..1])].into_iter());
        let list = |row: u32| rows.row(row).iter().map(|name| names.get(*name)).collect::<Vec<_>>();
        assert_eq!((0..4).map(list).collect::<Vec<_>>(), [vec!["b", "d"], vec!["a", "b", "c"], vec![], vec!["c"]]);
    }
}
