//! A base of any size, written as a version part by part: no more of it is in memory than the largest part.

use kindred_models::Model;
use kindred_models::affinity::Affinity;
use kindred_models::artifact::{Array, FORMAT_VERSION, Manifest, Registry, Writer};
use kindred_models::catalogue::{Consent, Members, Products};
use kindred_models::content::{Attributes, ContentIndex};
use kindred_models::embeddings::Embeddings;
use kindred_models::groups::{Groups, Segment as LifeStage};
use kindred_models::history::History;
use kindred_models::index::GatedIndex;
use kindred_models::launch::LaunchModel;
use kindred_models::neighbours::Neighbours;
use kindred_models::popularity::{Popularity, Segment};
use kindred_models::presence::Presence;
use kindred_models::repeat::Repeat;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::strings::Labels;
use rayon::prelude::*;

use crate::synthetic::{self, hash};

const FACTORS: usize = 64;
/// Products that a member bought, on average, and at most.
const PURCHASES: f64 = 3.0;
const MOST_PURCHASES: usize = 40;
const STORES: usize = 5000;
const CITIES: usize = 300;
const TAGS: u32 = 20;
/// Purchases of a store, and of a city, that popularity counts.
const SOLD: usize = 400;
const SOLD_IN_CITY: usize = 4000;
/// Products are drawn by where a number falls among so many.
const QUANTILES: usize = 1 << 16;
/// Members whose rows are made side by side.
const BLOCK: usize = 1 << 18;

pub(crate) struct Base {
    pub(crate) members: usize,
    products: Products,
    popularity: Popularity,
    /// By quantile of all purchases, the product.
    quantiles: Vec<u32>,
}

impl Base {
    pub(crate) fn new(members: usize, products: usize) -> Self {
        let (catalogue, mut popularity) = (synthetic::catalogue(products), synthetic::popularity(products));
        let mut quantiles = Vec::with_capacity(QUANTILES);
        let mut sum = 0.0;
        for (row, share) in popularity.overall.iter().enumerate() {
            sum += f64::from(*share);
            quantiles.resize(((sum * QUANTILES as f64) as usize).min(QUANTILES), row as u32);
        }
        quantiles.resize(QUANTILES, 0);
        popularity.age_days = (0..products).map(|row| 10 + (row * 37 % 700) as u16).collect::<Vec<_>>().into();
        let sold = |part: usize, count: usize| {
            let draws = (0..count).map(|k| quantiles[hash((part << 20 | k) as u64) as usize % QUANTILES]);
            let mut rows: Vec<u32> = draws.collect();
            rows.sort_unstable();
            rows.dedup();
            rows.into_iter().map(move |row| (part as u32, row, 1.0 + (row % 40) as f32)).collect::<Vec<_>>()
        };
        let parts = |letter, parts: usize, count: usize| {
            let entries: Vec<(u32, u32, f32)> = (0..parts).flat_map(|part| sold(part, count)).collect();
            Segment::new(names(letter, parts).collect(), Matrix::from_sorted(parts, &entries))
        };
        popularity.stores = parts("s", STORES, SOLD);
        popularity.cities = parts("c", CITIES, SOLD_IN_CITY);
        popularity.city_of_store = (0..STORES).map(|store| (store % CITIES) as u32).collect::<Vec<_>>().into();
        Self { members, products: catalogue, popularity: popularity.ranked(), quantiles }
    }

    /// Writes all of it; the ranker, and what was learned of launches, are those of `like`.
    pub(crate) fn write(&self, registry: &Registry, like: &Model) {
        let mut to = Writer::create(registry).unwrap();
        let n = self.members;
        self.products.write(&mut to).unwrap();
        self.popularity.write(&mut to).unwrap();
        let members = self.members();
        members.write(&mut to).unwrap();
        Groups { base_gap: 20.0, ..Groups::of(&members, self.stages(), None) }.write(&mut to).unwrap();
        drop(members);
        let embeddings = synthetic::embeddings(n, self.products.len(), FACTORS);
        Embeddings { products: self.by_popularity(&embeddings.products), ..embeddings }.write(&mut to).unwrap();
        self.history().write(&mut to).unwrap();
        let products = self.products.len();
        let (by_member, by_basket) = (synthetic::together(products, 7), synthetic::together(products, 11));
        Affinity { by_member, by_basket }.write(&mut to).unwrap();
        // As training leaves it for a base this large.
        Neighbours { similar: Matrix::from_sorted(n, &[]) }.write(&mut to).unwrap();
        let gaps = vec![30.0; products].into();
        let rates = vec![0.3; products].into();
        Repeat { gaps, rates, hazards: like.repeat.hazards.clone() }.write(&mut to).unwrap();
        Presence::default().write(&mut to).unwrap();
        like.ranker.write(&mut to).unwrap();
        GatedIndex::without(String::new()).write("product_index", 100, &mut to).unwrap();
        GatedIndex::without(String::new()).write("member_index", 100, &mut to).unwrap();
        self.launch(like, &mut to);
        let counts = [("members", n), ("products", products)].map(|(name, count)| (name.to_owned(), count as u64));
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            kindred_version: env!("CARGO_PKG_VERSION").to_owned(),
            as_of_time: like.info.as_of_time,
            state_seq: None,
            state_store: None,
            counts: counts.into(),
            parameters: like.info.parameters.clone(),
            metrics: Default::default(),
            sections: Default::default(),
            files: Default::default(),
            documents: Default::default(),
        };
        to.publish(manifest, 1_800_000_000).unwrap();
    }

    /// Vectors as long as those that are learned: products that many buy have longer ones.
    fn by_popularity(&self, vectors: &[f32]) -> Array<f32> {
        let shares = &self.popularity.overall;
        let most = shares.iter().fold(0.0f32, |most, share| share.max(most));
        let scale = |row: usize| (shares[row] / most).sqrt();
        vectors.iter().enumerate().map(|(i, x)| x * scale(i / FACTORS)).collect::<Vec<_>>().into()
    }

    fn members(&self) -> Members {
        let n = self.members;
        let label = |seed: u64, values: usize, letter: &'static str| {
            let rows: Vec<u32> =
                (0..n).into_par_iter().map(|row| (hash(seed ^ row as u64) % values as u64) as u32).collect();
            Labels { values: names(letter, values).collect(), rows: rows.into() }
        };
        let consent = |row: usize| {
            let draw = hash(5 << 60 ^ row as u64) % 100;
            Consent { personalization: draw < 85, marketing: draw < 80, minor: draw % 25 == 7 }.to_bits()
        };
        let tags: Vec<u32> =
            (0..n).into_par_iter().map(|row| (hash(6 << 60 ^ row as u64) % u64::from(TAGS)) as u32).collect();
        Members {
            ids: names("m", n).collect(),
            stores: label(1 << 60, STORES, "s"),
            cities: label(2 << 60, CITIES, "c"),
            guides: Labels { values: Default::default(), rows: vec![u32::MAX; n].into() },
            consents: (0..n).into_par_iter().map(consent).collect::<Vec<_>>().into(),
            birthdays: vec![0; n].into(),
            tags: Rows { offsets: (0..=n as u64).collect::<Vec<_>>().into(), columns: tags.into() },
            tag_names: names("tag", TAGS as usize).collect(),
            ..Members::default()
        }
    }

    fn stages(&self) -> kindred_models::bitmaps::Bitmaps {
        let count = LifeStage::ALL.len() as u64;
        let of =
            |stage: u64| (0..self.members as u32).filter(move |row| hash(7 << 60 ^ u64::from(*row)) % count == stage);
        kindred_models::bitmaps::Bitmaps::of_sets((0..count).map(|stage| of(stage).collect()))
    }

    /// The products of a member, sorted.
    fn bought(&self, member: u32, into: &mut Vec<u32>) {
        let mut draw = (0u64..).map(|k| hash(u64::from(member) << 8 ^ k << 56));
        let mut next = || draw.next().unwrap_or_default();
        let uniform = ((next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        // Geometric, with this mean.
        let count = (uniform.ln() / (PURCHASES / (1.0 + PURCHASES)).ln()) as usize;
        into.clear();
        into.extend((0..count.min(MOST_PURCHASES)).map(|_| self.quantiles[next() as usize % QUANTILES]));
        into.sort_unstable();
        into.dedup();
    }

    fn history(&self) -> History {
        let (mut offsets, mut columns) = (vec![0u64], Vec::new());
        for start in (0..self.members).step_by(BLOCK) {
            let rows = (start..self.members.min(start + BLOCK)).into_par_iter().map(|member| {
                let mut products = Vec::new();
                self.bought(member as u32, &mut products);
                products
            });
            for products in rows.collect::<Vec<_>>() {
                columns.extend(products);
                offsets.push(columns.len() as u64);
            }
        }
        let n = columns.len();
        let floats = |most: f32| -> Array<f32> {
            (0..n)
                .into_par_iter()
                .map(|i| most * (1.0 + (hash(i as u64) % 100) as f32) / 100.0)
                .collect::<Vec<_>>()
                .into()
        };
        let numbers = |seed: u64, least: u64, most: u64| -> Array<u16> {
            let number = |i: usize| (least + hash(seed << 40 ^ i as u64) % (most - least + 1)) as u16;
            (0..n).into_par_iter().map(number).collect::<Vec<_>>().into()
        };
        History {
            rows: Rows { offsets: offsets.into(), columns: columns.into() },
            weights: floats(2.0),
            decayed: floats(3.0),
            recent: floats(1.0),
            counts: numbers(1, 1, 6),
            days_since: numbers(2, 0, 300),
            trips: numbers(3, 1, 6),
            span_days: numbers(4, 0, 60),
            trips_since: numbers(5, 0, 20),
            trips_from: numbers(6, 6, 30),
            member_trips: vec![8; self.members].into(),
        }
    }

    /// Written last: it is the largest.
    fn launch(&self, like: &Model, to: &mut Writer) {
        let attributes: Vec<Attributes> =
            (0..self.products.len() as u32).map(|row| self.products.attributes(row)).collect();
        let content = ContentIndex::build(&attributes);
        content.write(to).unwrap();
        let habits: Vec<Vec<u32>> = attributes
            .iter()
            .map(|a| a.habits().into_iter().filter_map(|f| content.feature_row(f)).collect())
            .collect();
        let count =
            |member: u32, product: u32| 0.1 + (hash(u64::from(member) << 20 ^ u64::from(product)) % 30) as f32 / 10.0;
        let buyers = Matrix::transposed_of(self.members, self.products.len(), |member, into| {
            let mut products = Vec::new();
            self.bought(member, &mut products);
            into.extend(products.iter().map(|product| (*product, count(member, *product))));
        });
        let habits = Matrix::transposed_of(self.members, content.vocabulary.len(), |member, into| {
            let mut products = Vec::new();
            self.bought(member, &mut products);
            for product in products {
                into.extend(habits[product as usize].iter().map(|feature| (*feature, count(member, product))));
            }
            into.sort_by_key(|(feature, _)| *feature);
            into.dedup_by_key(|(feature, _)| *feature);
        });
        let rate = |row: u32| (habits.rows.row(row).len() as f32 / self.members as f32).max(1e-6);
        let mut launch = LaunchModel {
            statics: synthetic::statics(self.members),
            active: self.members,
            rates: (0..habits.rows.len() as u32).map(rate).collect::<Vec<_>>().into(),
            habits,
            buyers,
            tag_buyers: synthetic::tag_buyers(self.products.len(), TAGS as usize),
            fit: like.launch.fit.clone(),
            ..LaunchModel::default()
        };
        launch.add_up_leanings();
        launch.write(to).unwrap();
    }
}

fn names(letter: &'static str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |row| format!("{letter}{row:08}"))
}
