//! Fits every part of a model to a slice of the history.

use std::collections::BTreeMap;

use kindred_models::Model;
use kindred_models::affinity::Affinity;
use kindred_models::categories::CategoryTree;
use kindred_models::content::{Attributes, ContentIndex};
use kindred_models::embeddings::Embeddings;
use kindred_models::history::History;
use kindred_models::index::GatedIndex;
use kindred_models::launch::{ANALOGUES, LaunchModel, LaunchQuery, Signals, mean_vector};
use kindred_models::model::ModelInfo;
use kindred_models::sparse::Matrix;
use kindred_models::stop::Stop;
use rayon::prelude::*;

use crate::affinity;
use crate::config::{AffinityParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::prepare::{self, Slice};
use crate::progress::Progress;
use crate::rank::{self, Comparison, Lessons};

/// Products that the scales of the launch signals are measured on, as if each were new.
const SCALE_PRODUCTS: usize = 200;
/// Members sampled per product for that, at most.
const SCALE_MEMBERS: usize = 2000;

/// Fits a model, served by exact indexes, to a slice of the dataset; gives it with how the kinds of scorers
/// did.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised.
pub fn fit(
    dataset: &Dataset,
    slice: &Slice,
    config: &ValidConfig,
    lessons: &mut Lessons,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<(Model, Vec<Comparison>), TrainError> {
    let mut model = sources(dataset, slice, config, progress, stop)?;
    let products = dataset.products.len();
    let attributes: Vec<Attributes> = (0..products as u32).map(|row| dataset.products.attributes(row)).collect();
    model.content = ContentIndex::build(&attributes);
    stop.check()?;
    let launch = launch(&model.history, &attributes, &model.content);
    model.embeddings = with_cold_products(model.embeddings, &attributes, &model.content, &launch);
    stop.check()?;
    model.launch = with_scales(launch, &attributes, &model.content, &model.embeddings);
    model.product_index = GatedIndex::exact(&Model::product_table(&model.embeddings), "not built yet".to_owned());
    let ranked = rank::fit(dataset, slice, config, lessons, progress, stop)?;
    model.ranker = ranked.ranker;
    Ok((model, ranked.comparisons))
}

/// Fits the sources of a feed: everything but what launches and the ranker need.
pub(crate) fn sources(
    dataset: &Dataset,
    slice: &Slice,
    config: &ValidConfig,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Model, TrainError> {
    let (given, products) = (&config.given, dataset.products.len());
    let history = prepare::history(slice, &dataset.members, given);
    let weights = Matrix { rows: history.rows.clone(), values: history.weights.clone() };
    let embeddings = crate::ials::fit(&weights, products, &config.embeddings, progress, stop)?;
    let baskets = affinity::baskets(slice, |member| dataset.members.consent(member).personalization);
    let affinity_models = Affinity {
        by_member: affinity::fit(&affinity::purchases(&history), products, &given.affinity, stop)?,
        // Baskets are many and small, and all count alike: cosines, without a regression.
        by_basket: affinity::fit(&baskets, products, &AffinityParams::of_baskets(given.affinity.neighbours), stop)?,
    };
    let neighbours = crate::neighbours::fit(&history, products, &given.neighbours, stop)?;
    let popularity = crate::popularity::fit(dataset, slice, &given.popularity);
    let mut model = Model {
        product_index: GatedIndex::exact(&Model::product_table(&embeddings), "not built yet".to_owned()),
        member_index: GatedIndex::exact(&Model::member_table(&embeddings), "not built yet".to_owned()),
        products: dataset.products.clone(),
        members: prepare::members(dataset, slice),
        repeat: crate::repeat::fit(slice, &history, &dataset.products),
        ranker: rank::unranked(&given.feed),
        tree: CategoryTree::new(&dataset.products.categories, &popularity.overall),
        popularity,
        info: ModelInfo { as_of_time: slice.as_of, ..ModelInfo::default() },
        content: ContentIndex::default(),
        launch: LaunchModel::default(),
        affinity: affinity_models,
        neighbours,
        embeddings,
        history,
    };
    model.info.counts = counts(&model, slice);
    Ok(model)
}

fn counts(model: &Model, slice: &Slice) -> BTreeMap<String, u64> {
    let fit = &model.embeddings.fit;
    [
        ("members", model.members.len()),
        ("members_with_purchases", fit.active_members),
        ("products", model.products.len()),
        ("products_bought", fit.bought_products),
        ("events", slice.events.len()),
        ("pairs", model.history.rows.columns.len()),
    ]
    .map(|(name, count)| (name.to_owned(), count as u64))
    .into()
}

/// Purchases per member and product, and per habit feature and member; both decayed.
fn launch(history: &History, attributes: &[Attributes], content: &ContentIndex) -> LaunchModel {
    let products = attributes.len();
    let bought = Matrix { rows: history.rows.clone(), values: history.decayed.clone() };
    let habits_of: Vec<Vec<u32>> = attributes
        .par_iter()
        .map(|a| {
            let habits = a.features().into_iter().filter(|f| f.group.is_habit());
            habits.filter_map(|f| content.feature_row(f)).collect()
        })
        .collect();
    let rows: Vec<BTreeMap<u32, f32>> = (0..bought.rows.len() as u32)
        .into_par_iter()
        .map(|member| {
            let mut counts = BTreeMap::new();
            let (products, decayed) = bought.row(member);
            for (product, count) in products.iter().zip(decayed).filter(|(_, count)| **count > 0.0) {
                for feature in &habits_of[*product as usize] {
                    *counts.entry(*feature).or_default() += count;
                }
            }
            counts
        })
        .collect();
    let entries: Vec<(u32, u32, f32)> = rows
        .into_iter()
        .enumerate()
        .flat_map(|(member, counts)| counts.into_iter().map(move |(f, count)| (member as u32, f, count)))
        .collect();
    let habits = Matrix::from_sorted(bought.rows.len(), &entries).transposed(content.vocabulary.len());
    LaunchModel::new(&bought, habits, products)
}

/// Gives every product that nobody bought the mean vector of the products most like it.
fn with_cold_products(
    mut embeddings: Embeddings,
    attributes: &[Attributes],
    content: &ContentIndex,
    launch: &LaunchModel,
) -> Embeddings {
    let has_buyers = |row: u32| !launch.buyers.rows.range(row).is_empty();
    let cold: Vec<(usize, Vec<f32>)> = (0..attributes.len() as u32)
        .into_par_iter()
        .filter(|row| !has_buyers(*row))
        .map(|row| {
            let features = attributes[row as usize].features();
            let analogues = content.nearest(&features, ANALOGUES, has_buyers);
            (row as usize, mean_vector(&embeddings, &analogues))
        })
        .collect();
    let mut products = embeddings.products.to_vec();
    for (row, vector) in cold {
        products[row * embeddings.factors..][..embeddings.factors].copy_from_slice(&vector);
    }
    embeddings.products = products.into();
    embeddings
}

/// Measures the standard deviation of each launch signal within a product's members, over products that
/// are asked for as if they were new.
fn with_scales(
    mut launch: LaunchModel,
    attributes: &[Attributes],
    content: &ContentIndex,
    embeddings: &Embeddings,
) -> LaunchModel {
    let bought: Vec<u32> =
        (0..attributes.len() as u32).filter(|row| !launch.buyers.rows.range(*row).is_empty()).collect();
    let sample: Vec<u32> = bought.iter().copied().step_by((bought.len() / SCALE_PRODUCTS).max(1)).collect();
    let step = launch.activity.len() / SCALE_MEMBERS;
    let variances: Vec<[f64; 5]> = sample
        .par_iter()
        .map(|product| {
            let a = &attributes[*product as usize];
            let query = LaunchQuery::from_attributes(a, content, embeddings, &launch.buyers, |row| row != *product);
            variances(&launch.sample_signals(&query, embeddings, step))
        })
        .collect();
    for k in 0..5 {
        let mean = variances.iter().map(|v| v[k]).sum::<f64>() / variances.len().max(1) as f64;
        launch.fit.deviations[k] = if mean > 1e-12 { mean.sqrt() as f32 } else { 1.0 };
    }
    launch
}

fn variances(signals: &[Signals]) -> [f64; 5] {
    let n = signals.len().max(1) as f64;
    std::array::from_fn(|k| {
        let mean = signals.iter().map(|s| f64::from(s[k])).sum::<f64>() / n;
        signals.iter().map(|s| (f64::from(s[k]) - mean).powi(2)).sum::<f64>() / n
    })
}
