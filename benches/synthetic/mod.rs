//! Models of any size, made up without training: what a base costs does not depend on what it bought.
#![allow(dead_code, unused_imports, reason = "each bench takes some of it")]

mod read;

pub(crate) use read::Read;

use kindred_models::Model;
use kindred_models::affinity::Affinity;
use kindred_models::artifact::Array;
use kindred_models::audience::{AudienceRequest, AudienceSize, Costs, MemberFilter, Quota, Subject};
use kindred_models::blend::Blend;
use kindred_models::catalogue::{IdType, Members, Products};
use kindred_models::categories::CategoryTree;
use kindred_models::content::{Attributes, ContentIndex};
use kindred_models::embeddings::{Embeddings, Fit, Objective};
use kindred_models::groups::Groups;
use kindred_models::history::History;
use kindred_models::index::GatedIndex;
use kindred_models::launch::{LaunchModel, LaunchQuery, Statics, TagBuyers, UsualPrices};
use kindred_models::model::ModelInfo;
use kindred_models::neighbours::Neighbours;
use kindred_models::popularity::Popularity;
use kindred_models::quantized::Quantized;
use kindred_models::ranker::{Ranker, RankerFit, Scorer};
use kindred_models::repeat::Repeat;
use kindred_models::sparse::{Matrix, Rows};
use kindred_models::state::State;
use kindred_models::stop::Stop;
use kindred_models::strings::Labels;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;

/// Products of a finest category, and what there is of the levels above and of brands.
const PER_CATEGORY: usize = 10;
const FINEST_PER_MIDDLE: usize = 5;
const MIDDLE_PER_TOP: usize = 5;
const BRANDS: usize = 100;
/// Products bought with each.
const TOGETHER: u32 = 100;
/// Tags, of which every member of [`launch_model`] has two.
const TAGS: usize = 20;

/// For an audience of this size from all members, as if one of the products launched today.
pub(crate) fn request(model: &Model, product: u32, size: AudienceSize) -> AudienceRequest {
    AudienceRequest {
        subject: Subject::New(model.products.attributes(product)),
        seeds: Vec::new(),
        size,
        filter: MemberFilter::default(),
        quota: Quota::default(),
    }
}

/// The score that a share of the members have at least.
pub(crate) fn least(model: &Model, query: &LaunchQuery, share: f32) -> f32 {
    let mut scores = model.launch.score_all(&[query], &model.embeddings, &Stop::default()).unwrap().remove(0);
    let rank = (scores.len() as f32 * share) as usize;
    *scores.select_nth_unstable_by(rank, |a, b| b.total_cmp(a)).1
}

/// A model that answers for audiences: every member bought `purchases` products on average, popular ones more often.
pub(crate) fn launch_model(members: usize, products: usize, factors: usize, purchases: f64) -> Model {
    let (catalogue, popularity) = (catalogue(products), popularity(products));
    let attributes: Vec<Attributes> = (0..products as u32).map(|row| catalogue.attributes(row)).collect();
    let content = ContentIndex::build(&attributes);
    let shares: Vec<f64> = popularity.overall.iter().map(|share| (f64::from(*share) * purchases).min(0.9)).collect();
    let mut of_feature = vec![0.0; content.vocabulary.len()];
    for (attributes, share) in attributes.iter().zip(&shares) {
        for feature in attributes.habits() {
            of_feature[content.feature_row(feature).unwrap() as usize] += share;
        }
    }
    // Of so many purchases at random, the chance of one at least.
    let of_feature: Vec<f64> = of_feature.into_iter().map(|expected: f64| 1.0 - (-expected).exp()).collect();
    let (embeddings, scorer) = (embeddings(members, products, factors), Scorer::Linear(Blend::default().linear()));
    let mut model = Model {
        tree: CategoryTree::new(&catalogue.categories, &popularity.overall).into(),
        state: State::default(),
        product_index: GatedIndex::exact(Model::exact_products(&embeddings), String::new()),
        member_index: GatedIndex::without(String::new()),
        affinity: Affinity { by_member: together(products, 7), by_basket: Matrix::default() },
        members: Members {
            ids: (0..members).map(|row| format!("m{row:08}")).collect(),
            consents: vec![3; members].into(),
            birthdays: vec![0; members].into(),
            tags: two_tags(members),
            tag_names: (0..TAGS).map(|tag| format!("tag{tag:02}")).collect(),
            ..Members::default()
        },
        groups: Groups { marketing: (0..members as u32).collect(), ..Groups::default() },
        audience_costs: Costs { picked: 1e9, ..Costs::default() },
        history: History::default(),
        neighbours: Neighbours::default(),
        repeat: Repeat::default(),
        presence: Default::default(),
        launch: LaunchModel {
            statics: statics(members),
            active: members,
            rates: of_feature
                .iter()
                .map(|share| (*share as f32 / purchases as f32).max(1e-6))
                .collect::<Vec<_>>()
                .into(),
            prices: UsualPrices { of_all: 2.5, of_features: vec![2.5; of_feature.len()].into() },
            habits: chosen(&of_feature, members, 2),
            buyers: chosen(&shares, members, 3),
            tag_buyers: tag_buyers(products, TAGS),
            ..LaunchModel::default()
        },
        content,
        ranker: Ranker { repeat: scorer.clone(), fresh: scorer, fit: RankerFit::default() },
        info: ModelInfo::default(),
        products: catalogue,
        embeddings,
        popularity,
        facts: Default::default(),
        tag_shares: Default::default(),
        unsold: Default::default(),
    };
    model.launch.add_up_leanings();
    model.with_facts()
}

pub(crate) fn catalogue(products: usize) -> Products {
    let name = |kind: &str, number: usize| format!("{kind}{number:05}");
    let category = |row: usize| {
        let finest = row / PER_CATEGORY;
        let middle = finest / FINEST_PER_MIDDLE;
        Some([name("a", middle / MIDDLE_PER_TOP), name("b", middle), name("c", finest)].join("/"))
    };
    let categories: Vec<Option<String>> = (0..products).map(category).collect();
    let brands: Vec<Option<String>> = (0..products).map(|row| Some(name("brand", row * 31 % BRANDS))).collect();
    Products {
        ids: (0..products).map(|row| name("p", row)).collect(),
        id_type: IdType::String,
        titles: (0..products).map(|row| name("product ", row)).collect(),
        categories: Labels::encode(&categories),
        brands: Labels::encode(&brands),
        prices: (0..products).map(|row| 2.0 + (row * 7919 % 97) as f32 / 3.0).collect::<Vec<_>>().into(),
        available: vec![1; products].into(),
        tags: Rows::from_lists(vec![Vec::new(); products]),
        stores: Rows::from_lists(vec![Vec::new(); products]),
        ..Products::default()
    }
}

/// Shares of all purchases, falling slowly.
pub(crate) fn popularity(products: usize) -> Popularity {
    let weight = |row: usize| 1.0 / ((row * 7919 % products + 20) as f32).powf(0.8);
    let total: f32 = (0..products).map(weight).sum();
    let shares: Vec<f32> = (0..products).map(|row| weight(row) / total).collect();
    Popularity {
        long: shares.clone().into(),
        short: shares.clone().into(),
        trials: shares.clone().into(),
        overall: shares.into(),
        age_days: vec![0; products].into(),
        ..Popularity::default()
    }
    .ranked()
}

/// Products bought with each: every so many rows.
pub(crate) fn together(products: usize, step: u32) -> Matrix {
    let of = |row: u32| (1..=TOGETHER).map(move |k| (row, (row + k * step) % products as u32, 1.0 / k as f32));
    let mut entries: Vec<(u32, u32, f32)> = (0..products as u32).flat_map(of).collect();
    entries.sort_by_key(|(row, column, _)| (*row, *column));
    entries.dedup_by_key(|(row, column, _)| (*row, *column));
    Matrix::from_sorted(products, &entries)
}

pub(crate) fn embeddings(members: usize, products: usize, factors: usize) -> Embeddings {
    let codes: Vec<i8> = (0..members * factors).into_par_iter().map(|i| (hash(i as u64) >> 56) as i8 / 2).collect();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let vectors: Vec<f32> = (0..products * factors).map(|_| rng.random_range(-0.2f32..0.2)).collect();
    let length = |row: &[i8]| 0.01 * row.iter().map(|c| f32::from(*c).powi(2)).sum::<f32>().sqrt();
    let objective = Objective { unobserved_weight: 0.1, regularization: 0.1, regularization_exponent: 1.0 };
    Embeddings {
        factors,
        members: Quantized {
            lengths: codes.par_chunks(factors).map(length).collect::<Vec<_>>().into(),
            codes: codes.into(),
            scales: vec![0.01; members].into(),
        },
        products: vectors.into(),
        product_gramian: vec![1.0; factors].into(),
        member_gramian: vec![0.0; factors * factors].into(),
        fit: Fit { factors, objective, bought_products: products, active_members: members },
    }
}

pub(crate) fn statics(members: usize) -> Statics {
    let column = |seed: u64, most: f32| -> Array<f32> {
        let of = |row: usize| 0.01 + most * (hash(seed ^ row as u64) >> 40) as f32 / (1u64 << 24) as f32;
        (0..members).into_par_iter().map(of).collect::<Vec<_>>().into()
    };
    Statics {
        activity: column(1 << 60, 30.0),
        recent: column(2 << 60, 5.0),
        trips: column(3 << 60, 40.0),
        recency: column(4 << 60, 200.0),
        early: column(5 << 60, 2.0),
        spend: column(6 << 60, 40.0),
        tried: column(9 << 60, 4.0),
        bargains: column(10 << 60, 1.0),
        repeats: column(11 << 60, 1.0),
        premium: column(7 << 60, 2.0),
        price_level: column(8 << 60, 2.0),
    }
}

/// A tag of each half for every member.
fn two_tags(members: usize) -> Rows {
    let half = TAGS as u64 / 2;
    let of = |row: usize| [hash(row as u64) % half, half + hash(!(row as u64)) % half].map(|tag| tag as u32);
    let columns: Vec<u32> = (0..members).into_par_iter().flat_map_iter(of).collect();
    Rows { offsets: (0..=members as u64).map(|row| 2 * row).collect::<Vec<_>>().into(), columns: columns.into() }
}

/// What is bought by who has each of some tags, a tenth of all.
pub(crate) fn tag_buyers(products: usize, tags: usize) -> TagBuyers {
    let of =
        |product: usize| (0..tags).map(move |tag| (product as u32, tag as u32, 1.0 + (product + tag) as f32 % 7.0));
    TagBuyers {
        tags: (0..tags as u32).collect::<Vec<_>>().into(),
        bought: Matrix::from_sorted(products, &(0..products).flat_map(of).collect::<Vec<_>>()),
        totals: vec![40.0; products].into(),
        shares: vec![0.1; tags].into(),
        per_member: 2,
    }
}

/// Rows of members, each of whom is in a row by its share.
fn chosen(shares: &[f64], members: usize, seed: u64) -> Matrix {
    let row = |(row, share): (usize, &f64)| {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed << 32 | row as u64);
        let (mut at, mut list) = (0.0, Vec::new());
        loop {
            // Gaps between members who are chosen alike are geometric.
            at += 1.0 + (rng.random_range(f64::MIN_POSITIVE..1.0).ln() / (1.0 - share.clamp(1e-9, 0.999)).ln()).floor();
            if at > members as f64 {
                return list;
            }
            list.push((at as u32 - 1, rng.random_range(0.1f32..3.0)));
        }
    };
    let rows: Vec<Vec<(u32, f32)>> = shares.par_iter().enumerate().map(row).collect();
    let entries = rows.iter().map(Vec::len).sum();
    let (mut offsets, mut columns, mut values) = (vec![0u64], Vec::with_capacity(entries), Vec::with_capacity(entries));
    for row in rows {
        for (member, count) in row {
            columns.push(member);
            values.push(count);
        }
        offsets.push(columns.len() as u64);
    }
    Matrix { rows: Rows { offsets: offsets.into(), columns: columns.into() }, values: values.into() }
}

pub(crate) fn hash(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}
