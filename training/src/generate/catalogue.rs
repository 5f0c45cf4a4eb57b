//! What the retailer sells, and where.

use kindred_models::events::DAY_SECONDS;
use std::path::Path;

use rand::{Rng, RngExt};
use rand_distr::{Distribution, LogNormal};

use super::words::{ADJECTIVES, BRANDS, CITIES, KINDS};
use super::{Retailer, texts};
use crate::tables::{Column, TableError, TableWriter};

/// Share of the products that are launched during the history.
const LAUNCHED_SHARE: f64 = 0.3;
/// Share of the products that only some stores carry.
const REGIONAL_SHARE: f64 = 0.3;
/// Share of the stores that carry such a product.
const CARRIED_SHARE: f64 = 0.5;

/// One product.
pub(super) struct Product {
    title: String,
    pub(super) kind: usize,
    pub(super) brand: usize,
    pub(super) price: f64,
    /// Usual days between two purchases by one member; 0 for never again.
    pub(super) gap_days: f64,
    /// First day on sale; 0 or below for all the time.
    pub(super) launch_day: i64,
    /// Stores that carry it; empty for all.
    stores: Vec<bool>,
    /// How well it sells within its kind.
    weight: f64,
    tags: Vec<String>,
}

/// Everything that is sold.
pub(super) struct Catalogue {
    pub(super) products: Vec<Product>,
    /// Per kind, its products with their cumulative weights.
    shelves: Vec<Vec<(f64, usize)>>,
    /// Per store, its city.
    pub(super) cities: Vec<usize>,
}

impl Catalogue {
    pub(super) fn draw(retailer: &Retailer, rng: &mut impl Rng) -> Self {
        let cities = (0..retailer.stores).map(|store| store * CITIES.len() / retailer.stores).collect();
        let products: Vec<Product> = (0..retailer.products).map(|i| Product::draw(i, retailer, rng)).collect();
        let mut shelves: Vec<Vec<(f64, usize)>> = KINDS.iter().map(|_| Vec::new()).collect();
        for (i, product) in products.iter().enumerate() {
            let shelf = &mut shelves[product.kind];
            let so_far = shelf.last().map_or(0.0, |(sum, _)| *sum);
            shelf.push((so_far + product.weight, i));
        }
        Self { products, shelves, cities }
    }

    /// A product of a kind, drawn by how well it sells. `None` for a kind without products.
    pub(super) fn pick(&self, kind: usize, rng: &mut impl Rng) -> Option<usize> {
        let shelf = &self.shelves[kind];
        let total = shelf.last()?.0;
        let at = shelf.partition_point(|(sum, _)| *sum <= rng.random_range(0.0..total));
        shelf.get(at).map(|(_, product)| *product)
    }

    pub(super) fn write(&self, path: &Path, start: i64) -> Result<TableWriter, TableError> {
        let names = ["product_id", "title", "category", "brand", "price", "tags", "launched_at", "stores"];
        let mut table = TableWriter::create(path, &names)?;
        let all = || self.products.iter();
        let day = |p: &Product| Some(start + p.launch_day * DAY_SECONDS).filter(|_| p.launch_day > 0);
        let stores = |p: &Product| {
            let carried = p.stores.iter().enumerate().filter(|(_, carries)| **carries);
            carried.map(|(store, _)| store_id(store)).collect()
        };
        table.write(vec![
            Column::Text((0..self.products.len()).map(|i| Some(product_id(i))).collect()),
            texts(all(), |p| p.title.clone()),
            texts(all(), |p| KINDS[p.kind].path.to_owned()),
            texts(all(), |p| BRANDS[p.brand].0.to_owned()),
            Column::Float(all().map(|p| Some(p.price as f32)).collect()),
            Column::Texts(all().map(|p| p.tags.clone()).collect()),
            Column::Moment(all().map(day).collect()),
            Column::Texts(all().map(stores).collect()),
        ])?;
        Ok(table)
    }
}

impl Product {
    fn draw(i: usize, retailer: &Retailer, rng: &mut impl Rng) -> Self {
        let kind = i % KINDS.len();
        let of = &KINDS[kind];
        // Brands with low numbers are drawn more often.
        let brand = (BRANDS.len() as f64 * rng.random_range(0.0f64..1.0).powf(1.6)) as usize;
        let (adjective, noun) =
            (ADJECTIVES[rng.random_range(0..ADJECTIVES.len())], of.nouns[rng.random_range(0..of.nouns.len())]);
        let title = if rng.random_bool(0.5) {
            format!("{} {} {}", BRANDS[brand].0, adjective.0, noun.0)
        } else {
            format!("{}{}{}", BRANDS[brand].1, adjective.1, noun.1)
        };
        let launch_day =
            if rng.random_bool(LAUNCHED_SHARE) { rng.random_range(1..i64::from(retailer.days).max(2)) } else { 0 };
        let regional = rng.random_bool(REGIONAL_SHARE);
        Self {
            title,
            kind,
            brand: brand.min(BRANDS.len() - 1),
            price: (of.price * spread(0.35, rng)).max(1.0).round(),
            gap_days: of.gap_days * spread(0.3, rng),
            launch_day,
            stores: if regional {
                (0..retailer.stores).map(|_| rng.random_bool(CARRIED_SHARE)).collect()
            } else {
                Vec::new()
            },
            // Zipf by rank within the kind, in random order.
            weight: 1.0 / (1.0 + rng.random_range(0.0..(retailer.products / KINDS.len()).max(1) as f64)).powf(1.1),
            tags: (adjective.0 == "organic" || adjective.0 == "sugar-free")
                .then(|| adjective.0.to_owned())
                .into_iter()
                .collect(),
        }
    }

    /// Whether a store sells it on a day.
    pub(super) fn is_sold(&self, store: usize, day: i64) -> bool {
        self.launch_day <= day && self.stores.get(store).copied().unwrap_or(true)
    }
}

/// A factor around 1, log-normal.
pub(super) fn spread(sigma: f64, rng: &mut impl Rng) -> f64 {
    LogNormal::new(0.0, sigma).map_or(1.0, |d| d.sample(rng))
}

pub(super) fn product_id(i: usize) -> String {
    format!("p{i:06}")
}

pub(super) fn store_id(i: usize) -> String {
    format!("s{i:04}")
}
