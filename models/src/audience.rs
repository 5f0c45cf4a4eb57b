//! Audiences: who would buy this product, and how many?
//!
//! The launch score of every eligible member, best first. A small audience of a large base comes from the
//! index over members: those whose vector fits, and the buyers of similar products, are scored; every
//! other question is answered by scoring all. The answer says which.

mod eligibility;
mod forecast;
mod holdout;
mod traits;

use rayon::prelude::*;

use crate::content::Attributes;
use crate::index::IndexKind;
use crate::launch::LaunchQuery;
use crate::model::Model;
use crate::ranking::{Scored, Top};
use crate::stop::{Stop, Stopped};
use eligibility::Eligibility;
pub use eligibility::{Excluded, MemberFilter};
use forecast::Chances;
pub use forecast::{Expected, ReachPoint};
pub use holdout::Holdout;
pub use traits::{Trait, TraitKind};

/// A graph may answer for audiences of up to this share of the members.
const GRAPH_MAX_SHARE: f64 = 0.01;
/// Members that the reach curve is measured on where not all were scored, at most.
const REACH_MEMBERS: usize = 16_384;
/// Members that the graph gives per member wanted.
const GRAPH_OVERSAMPLING: usize = 10;

/// How many members are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AudienceSize {
    /// So many.
    Count(usize),
    /// A share of the eligible members, 0 to 1, rounded.
    Share(f64),
    /// Those whose chance to buy is at least so much, 0 to 1.
    MinProbability(f64),
    /// As many as it takes for so many buyers to be expected; all where they do not suffice.
    ExpectedBuyers(f64),
}

impl AudienceSize {
    /// How many of so many eligible members; `None` if that depends on their chances.
    fn count(self, eligible: usize) -> Option<usize> {
        match self {
            Self::Count(count) => Some(count.min(eligible)),
            Self::Share(share) => Some(((eligible as f64 * share).round() as usize).min(eligible)),
            Self::MinProbability(_) | Self::ExpectedBuyers(_) => None,
        }
    }
}

/// What an audience is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// A product in the model.
    Known(u32),
    /// A product by its attributes.
    New(Attributes),
    /// No product: members like the seeds.
    SeedsOnly,
}

/// A question for an audience.
#[derive(Clone, Debug)]
pub struct AudienceRequest {
    /// What it is for.
    pub subject: Subject,
    /// Members known to like it; they are not in the answer.
    pub seeds: Vec<u32>,
    /// How many members are wanted.
    pub size: AudienceSize,
    /// Which members are wanted.
    pub filter: MemberFilter,
}

/// Why there is no audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// The caller is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A size by chances, and none can be said.
    #[error(
        "chances are known of new products without seeds only, by a model that could replay enough launches: \
         ask for a count or a share"
    )]
    NoChances,
}

/// An audience, with what to expect of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    /// The members, best first.
    pub members: Vec<Scored>,
    /// The chance that each buys within the horizon; empty where `expected` is `None`.
    pub probabilities: Vec<f32>,
    /// Members who could have been in it.
    pub eligible: usize,
    /// Members who could not.
    pub excluded: Excluded,
    /// How many will buy within the horizon; `None` for a known product, with seeds, or where too few
    /// launches could be replayed to say.
    pub expected: Option<Expected>,
    /// The same for audiences of other sizes, smallest first; empty where scores say nothing of chances.
    pub reach: Vec<ReachPoint>,
    /// What sets the members apart from the base, what says most first; empty for fewer than 50.
    pub traits: Vec<Trait>,
    /// What answered.
    pub index: IndexKind,
}

/// The audience of a product or of seeds.
///
/// # Errors
/// [`AudienceError::Stopped`] once `stop` is raised, [`AudienceError::NoChances`] for a size that can't be said.
pub fn audience(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Audience, AudienceError> {
    let eligibility = Eligibility::of(model, request, stop)?;
    let eligible = eligibility.rows.iter().filter(|e| **e).count();
    let query = query(model, request);
    let chances = is_launch(request).then(|| Chances::of(model, request, &query));
    if request.size.count(eligible).is_none() && !chances.as_ref().is_some_and(Chances::are_known) {
        return Err(AudienceError::NoChances);
    }
    let few = request.size.count(eligible).filter(|n| *n as f64 <= GRAPH_MAX_SHARE * model.members.len() as f64);
    // What the graph was measured for: no filter, and no seeds, which crowd around what they ask for.
    let plain = request.filter == MemberFilter::default() && request.seeds.is_empty();
    let has_graph = model.member_index.serving().kind() == IndexKind::Hnsw;
    let found = few.filter(|_| plain && has_graph).map(|size| (from_graph(model, &query, &eligibility, size), size));
    let (mut members, index) = match found {
        Some((found, size)) if found.len() == size => (found, IndexKind::Hnsw),
        _ => (from_scan(model, &query, &eligibility, stop)?, IndexKind::Exact),
    };
    let reach = chances.as_ref().map_or_else(Vec::new, |chances| match index {
        IndexKind::Exact => chances.reach(&members, eligible),
        IndexKind::Hnsw => chances.reach(&even_sample(model, &query, &eligibility, eligible), eligible),
    });
    if index == IndexKind::Exact {
        let count = request.size.count(eligible).or_else(|| chances.as_ref()?.count(request.size, &members));
        // Sizes that can't be said were refused above.
        members.truncate(count.unwrap_or(0));
    }
    let probability = |m: &Scored| Some(chances.as_ref()?.probability(m.score)? as f32);
    let probabilities = members.iter().filter_map(probability).collect();
    let expected = chances.as_ref().and_then(|chances| chances.expected(&members));
    let traits = traits::traits(model, &query, &eligibility, &members);
    stop.check()?;
    Ok(Audience { members, probabilities, eligible, excluded: eligibility.excluded, expected, reach, traits, index })
}

/// Whether scores say something of chances: what was learned is of launches known by their attributes alone;
/// those of seeds, and of products with buyers of their own, are of another scale.
fn is_launch(request: &AudienceRequest) -> bool {
    matches!(request.subject, Subject::New(_)) && request.seeds.is_empty()
}

/// What is known of the product and its seeds.
fn query(model: &Model, request: &AudienceRequest) -> LaunchQuery {
    let query = match &request.subject {
        Subject::New(attributes) => LaunchQuery::from_attributes(model, attributes, |_| true),
        Subject::Known(product) => {
            let attributes = model.products.attributes(*product);
            LaunchQuery::from_attributes(model, &attributes, |_| true).with_vector(model.embeddings.product(*product))
        }
        Subject::SeedsOnly => LaunchQuery::without_product(&model.embeddings),
    };
    query.with_seeds(&request.seeds, model)
}

/// All eligible members, best first.
fn from_scan(
    model: &Model,
    query: &LaunchQuery,
    eligibility: &Eligibility,
    stop: &Stop,
) -> Result<Vec<Scored>, Stopped> {
    let scores = model.launch.score_all(query, &model.embeddings, stop)?;
    let rows = scores.into_iter().zip(&eligibility.rows).enumerate();
    let scored = rows.filter(|(_, (_, eligible))| **eligible);
    let mut all: Vec<Scored> = scored.map(|(row, (score, _))| Scored { row: row as u32, score }).collect();
    stop.check()?;
    all.par_sort_unstable();
    Ok(all)
}

/// Scores of eligible members, evenly spaced, best first.
fn even_sample(model: &Model, query: &LaunchQuery, eligibility: &Eligibility, eligible: usize) -> Vec<Scored> {
    let rows = (0..eligibility.rows.len() as u32).filter(|row| eligibility.rows[*row as usize]);
    let rows: Vec<u32> = rows.step_by(eligible.div_ceil(REACH_MEMBERS).max(1)).collect();
    let scores = model.launch.score_some(query, &model.embeddings, &rows);
    let mut sample: Vec<Scored> = rows.into_iter().zip(scores).map(|(row, score)| Scored { row, score }).collect();
    sample.sort_unstable();
    sample
}

fn from_graph(model: &Model, query: &LaunchQuery, eligibility: &Eligibility, size: usize) -> Vec<Scored> {
    let allowed = |row: u32| eligibility.rows[row as usize];
    let found = model.member_index.serving().search(&query.vector, size * GRAPH_OVERSAMPLING, &allowed);
    let mut rows: Vec<u32> = found.iter().map(|s| s.row).collect();
    for analogue in &query.analogues {
        let buyers = model.launch.buyers.rows.row(analogue.row);
        rows.extend(buyers.iter().copied().filter(|row| allowed(*row)));
    }
    rows.sort_unstable();
    rows.dedup();
    let mut top = Top::new(size);
    for (row, score) in rows.iter().zip(model.launch.score_some(query, &model.embeddings, &rows)) {
        top.push(*row, score);
    }
    top.into_sorted()
}

/// Mean share of the exact audience that the graph finds, over products of the model asked for as if they
/// were new; 1 where there is nothing to ask for.
pub fn graph_recall(model: &Model, products: &[u32], size: usize) -> f32 {
    let share = |product: &u32| {
        let request = AudienceRequest {
            subject: Subject::New(model.products.attributes(*product)),
            seeds: Vec::new(),
            size: AudienceSize::Count(size),
            filter: MemberFilter::default(),
        };
        let (query, stop) = (query(model, &request), Stop::default());
        // The flag of a default `Stop` is never raised.
        let Ok(eligibility) = Eligibility::of(model, &request, &stop) else { return 0.0 };
        let mut exact = from_scan(model, &query, &eligibility, &stop).unwrap_or_default();
        exact.truncate(size);
        let worst = exact.last().map_or(f32::INFINITY, |s| s.score);
        // Scores of the two paths differ by rounding.
        let found = from_graph(model, &query, &eligibility, size).iter().filter(|s| s.score >= worst - 1e-4).count();
        if exact.is_empty() { 1.0 } else { found.min(exact.len()) as f32 / exact.len() as f32 }
    };
    if products.is_empty() { 1.0 } else { products.iter().map(share).sum::<f32>() / products.len() as f32 }
}
