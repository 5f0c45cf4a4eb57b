//! Fits every part of a model to a slice of the history.

use std::collections::BTreeMap;

use kindred_models::Model;
use kindred_models::affinity::Affinity;
use kindred_models::audience::Costs;
use kindred_models::categories::CategoryTree;
use kindred_models::content::{Attributes, ContentIndex};
use kindred_models::embeddings::Embeddings;
use kindred_models::groups::Groups;
use kindred_models::index::GatedIndex;
use kindred_models::launch::{
    self, ANALOGUES, LaunchFit, LaunchModel, LaunchQuery, OWN_SHARE, Signals, Statics, mean_vector,
};
use kindred_models::model::ModelInfo;
use kindred_models::neighbours::Neighbours;
use kindred_models::popularity::Popularity;
use kindred_models::presence::Presence;
use kindred_models::repeat::Repeat;
use kindred_models::sparse::Matrix;
use kindred_models::state::State;
use kindred_models::stop::Stop;
use rayon::prelude::*;

use crate::affinity;
use crate::config::{AffinityParams, IalsValidParams, LaunchParams, ValidConfig};
use crate::data::Dataset;
use crate::error::TrainError;
use crate::ials;
use crate::launches::{self, LaunchReport, PastLaunches, prices, tags};
use crate::prepare;
use crate::progress::Progress;
use crate::rank::{self, Comparison, Lessons};
use crate::slice::Slice;

/// Products that the scales of the launch signals are measured on, as if each were new.
const SCALE_PRODUCTS: usize = 200;
/// Members sampled per product for that, at most.
const SCALE_MEMBERS: usize = 2000;

/// A model, and how its parts did on days that they had not seen.
#[derive(Debug)]
pub struct Fitted {
    /// The model.
    pub model: Model,
    /// The kinds of scorers.
    pub scorers: Vec<Comparison>,
    /// What was foretold of launches.
    pub launches: LaunchReport,
}

/// What was learned from earlier moments; another slice that stands at the same ones uses it again.
#[derive(Debug, Default)]
pub struct Earlier {
    lessons: Lessons,
    launches: PastLaunches,
    /// Parameters of the embeddings, decided once: vectors of all moments are to be of one kind.
    embeddings: Option<IalsValidParams>,
}

impl Earlier {
    /// The config, with parameters of the embeddings with which these come to something.
    fn settled(
        &mut self,
        dataset: &Dataset,
        slice: &Slice,
        config: &ValidConfig,
        stop: &Stop,
    ) -> Result<ValidConfig, TrainError> {
        let embeddings = match self.embeddings {
            Some(embeddings) => embeddings,
            None => {
                let history = prepare::history(slice, &dataset.members, &config.given);
                let weights = Matrix { rows: history.rows, values: history.weights };
                ials::settled(&weights, dataset.products.len(), &config.embeddings, stop)?
            }
        };
        self.embeddings = Some(embeddings);
        Ok(ValidConfig { embeddings, ..config.clone() })
    }
}

/// Fits a model, served by exact indexes, to a slice of the dataset, which is let go once it is counted.
///
/// # Errors
/// [`TrainError::Stopped`] once `stop` is raised, [`TrainError::Diverged`] if the embeddings do not settle.
pub fn fit(
    dataset: &Dataset,
    slice: Slice,
    config: &ValidConfig,
    earlier: &mut Earlier,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Fitted, TrainError> {
    let described = Described::of(dataset);
    let config = &earlier.settled(dataset, &slice, config, stop)?;
    progress.part("whether embeddings come to something");
    // Before the model itself: those of earlier moments take as much memory, and are gone by then.
    let (learned, launches) =
        launches::fit(dataset, &described, &slice, config, &mut earlier.launches, progress, stop)?;
    progress.part("weights of launches");
    let ranked = rank::fit(dataset, &slice, config, &mut earlier.lessons, progress, stop)?;
    progress.part("scorers of the ranker");
    let mut model = sources(dataset, &slice, config, progress, stop)?;
    model.presence = crate::presence::fit(dataset, &slice, &model.groups.segments, &config.given.popularity);
    let selling = learned.known.map(|_| launches::selling(dataset, &slice, &config.given.launch));
    let statics = launches::statics(dataset, &slice, &model.history, &config.given);
    // What is left to count takes as much memory as the events.
    drop(slice);
    progress.part("visits, and what launches ask of a member");
    add_launch_signals(&mut model, &described, statics, &config.given.launch);
    model.info.counts.insert("members_with_purchases".to_owned(), model.launch.active as u64);
    model.launch.selling = selling.unwrap_or_default().into();
    stop.check()?;
    model.embeddings = with_cold_products(&model, &described.attributes);
    model.product_index = GatedIndex::exact(Model::exact_products(&model.embeddings), "not built yet".to_owned());
    stop.check()?;
    model.launch.fit =
        LaunchFit { deviations: deviations(&model, &described.attributes), own_share: OWN_SHARE, ..learned };
    model.launch.add_up_leanings();
    model.ranker = ranked.ranker;
    let model = model.with_unsold();
    progress.part("launch signals");
    Ok(Fitted { model, scorers: ranked.comparisons, launches })
}

/// Fits what launches need, as of a slice.
pub(crate) fn as_of(
    dataset: &Dataset,
    described: &Described,
    slice: &Slice,
    config: &ValidConfig,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Model, TrainError> {
    let mut model = base(dataset, slice, config, progress, stop)?;
    model.members = prepare::members(dataset, slice);
    let statics = launches::statics(dataset, slice, &model.history, &config.given);
    add_launch_signals(&mut model, described, statics, &config.given.launch);
    stop.check()?;
    Ok(model)
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
    let mut model = base(dataset, slice, config, progress, stop)?;
    let baskets = affinity::baskets(slice, |member| dataset.members.consent(member).personalization);
    // Baskets are many and small, and all count alike: cosines, without a regression.
    model.affinity.by_basket =
        affinity::fit(&baskets, products, &AffinityParams::of_baskets(given.affinity.neighbours), stop)?;
    progress.part("affinity by basket");
    model.neighbours = crate::neighbours::fit(&model.history, products, &given.neighbours, stop)?;
    progress.part("members alike");
    model.popularity = crate::popularity::fit(dataset, slice, &given.popularity);
    model.members = prepare::members(dataset, slice);
    model.groups = crate::groups::groups(slice, &model.members, &model.history);
    model.repeat = crate::repeat::fit(slice, &model.history, &dataset.products);
    model.tree = CategoryTree::new(&dataset.products.categories, &model.popularity.overall).into();
    model.info.counts = counts(&model, slice);
    progress.part("popularity, repeats and groups");
    Ok(model.with_facts())
}

/// Fits the vectors, and what is bought by the same members.
fn base(
    dataset: &Dataset,
    slice: &Slice,
    config: &ValidConfig,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Model, TrainError> {
    let (given, products) = (&config.given, dataset.products.len());
    let history = prepare::history(slice, &dataset.members, given);
    let weights = Matrix { rows: history.rows.clone(), values: history.weights.clone() };
    progress.part("what each member bought");
    let embeddings = ials::fit(&weights, products, &config.embeddings, progress, stop)?;
    progress.part(&format!("embeddings, {} epochs", config.embeddings.epochs));
    let by_member = affinity::fit(&affinity::purchases(&history), products, &given.affinity, stop)?;
    progress.part("affinity by member");
    Ok(Model {
        product_index: GatedIndex::exact(Model::exact_products(&embeddings), "not built yet".to_owned()),
        member_index: GatedIndex::without("not built yet".to_owned()),
        products: dataset.products.clone(),
        members: dataset.members.clone(),
        repeat: Repeat::default(),
        presence: Presence::default(),
        ranker: rank::unranked(&given.feed),
        tree: Default::default(),
        popularity: Popularity::default(),
        facts: Default::default(),
        tag_shares: Default::default(),
        unsold: Default::default(),
        state: State::default(),
        info: ModelInfo { as_of_time: slice.as_of, ..ModelInfo::default() },
        content: ContentIndex::default(),
        launch: LaunchModel::default(),
        affinity: Affinity { by_member, by_basket: Matrix::default() },
        neighbours: Neighbours::default(),
        embeddings,
        history,
        groups: Groups::default(),
        audience_costs: Costs::default(),
    })
}

fn counts(model: &Model, slice: &Slice) -> BTreeMap<String, u64> {
    [
        ("members", model.members.len()),
        ("products", model.products.len()),
        ("products_bought", model.embeddings.fit.bought_products),
        ("events", slice.events().count()),
        ("pairs", model.history.rows.columns.len()),
    ]
    .map(|(name, count)| (name.to_owned(), count as u64))
    .into()
}

/// The products by what they are: the same at every moment.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) attributes: Vec<Attributes>,
    content: ContentIndex,
    /// Rows of the content vocabulary that members form habits of, by product.
    habits: Vec<Vec<u32>>,
    /// Row of the category that prices are compared in, by product.
    price_peers: Vec<Option<u32>>,
}

impl Described {
    fn of(dataset: &Dataset) -> Self {
        let rows = 0..dataset.products.len() as u32;
        // Lists of stores are long, and say nothing of what a product is.
        let without_stores = |row| Attributes { stores: Vec::new(), ..dataset.products.attributes(row) };
        let attributes: Vec<Attributes> = rows.map(without_stores).collect();
        let content = ContentIndex::build(&attributes);
        let habits_of = |a: &Attributes| a.habits().into_iter().filter_map(|f| content.feature_row(f)).collect();
        let habits = attributes.par_iter().map(habits_of).collect();
        let peers_of = |a: &Attributes| a.price_peers().and_then(|f| content.feature_row(f));
        let price_peers = attributes.par_iter().map(peers_of).collect();
        Self { attributes, content, habits, price_peers }
    }
}

/// Adds content, and what the launch score looks at.
fn add_launch_signals(model: &mut Model, described: &Described, statics: Statics, params: &LaunchParams) {
    model.content = described.content.clone();
    let bought = Matrix { rows: model.history.rows.clone(), values: model.history.decayed.clone() };
    let habits = habits(&bought, described);
    let (history, prices) = (&model.history, &model.products.prices);
    let usual = prices::usual(history, prices, &described.habits, described.content.vocabulary.len());
    let [premium, price_level] = prices::dear(history, prices, &described.price_peers, &usual);
    let statics = Statics { premium, price_level, ..statics };
    model.launch = LaunchModel::new(&bought, statics, habits, described.attributes.len());
    model.launch.prices = usual;
    if params.member_tags {
        let launch = &mut model.launch;
        launch.tag_buyers = tags::buyers_by_tag(&launch.buyers, &launch.statics.activity, &model.members);
    }
}

/// Decayed purchases per habit feature and member.
fn habits(bought: &Matrix, described: &Described) -> Matrix {
    Matrix::transposed_of(bought.rows.len(), described.content.vocabulary.len(), |member, into| {
        let (products, decayed) = bought.row(member);
        for (product, count) in products.iter().zip(decayed).filter(|(_, count)| **count > 0.0) {
            into.extend(described.habits[*product as usize].iter().map(|feature| (*feature, *count)));
        }
        // Stable, so that sums are taken in the order of the products.
        into.sort_by_key(|(feature, _)| *feature);
        into.dedup_by(|next, sum| {
            let same = next.0 == sum.0;
            sum.1 += if same { next.1 } else { 0.0 };
            same
        });
    })
}

/// Gives every product that nobody bought the mean vector of the products most like it.
fn with_cold_products(model: &Model, attributes: &[Attributes]) -> Embeddings {
    let mut embeddings = model.embeddings.clone();
    let has_buyers = |row: u32| !model.launch.buyers.rows.range(row).is_empty();
    let cold: Vec<(usize, Vec<f32>)> = (0..attributes.len() as u32)
        .into_par_iter()
        .filter(|row| !has_buyers(*row))
        .map(|row| {
            let features = attributes[row as usize].features();
            let analogues = model.content.nearest(&features, ANALOGUES, has_buyers);
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

/// The standard deviation of each launch signal within a product's members, over products that are asked for as
/// if they were new; 1 for one that never varies.
pub(crate) fn deviations(model: &Model, attributes: &[Attributes]) -> Signals {
    let bought: Vec<u32> =
        (0..attributes.len() as u32).filter(|row| !model.launch.buyers.rows.range(*row).is_empty()).collect();
    let sample: Vec<u32> = bought.iter().copied().step_by((bought.len() / SCALE_PRODUCTS).max(1)).collect();
    // Of an earlier moment of a large base, few of all members are known.
    let active = |member: &u32| model.launch.statics.activity[*member as usize] > 0.0;
    let members: Vec<u32> = (0..model.launch.len() as u32).filter(active).collect();
    let step = members.len().div_ceil(SCALE_MEMBERS).max(1);
    let members: Vec<u32> = members.into_iter().step_by(step).collect();
    let of_product = |product: &u32| {
        let query = LaunchQuery::from_attributes(model, &attributes[*product as usize], |row| row != *product);
        launch::variances(&model.launch.signals_of(&query, &model.embeddings, &members))
    };
    launch::deviations(&sample.par_iter().map(of_product).collect::<Vec<_>>())
}
