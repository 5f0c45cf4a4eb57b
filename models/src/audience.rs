//! Audiences: who would buy this product?
//!
//! The launch score of every eligible member, best first. A small audience of a large base comes from the
//! index over members: those whose vector fits, and the buyers of similar products, are scored; every
//! other question is answered by scoring all. The answer says which.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Consent, Members};
use crate::content::Attributes;
use crate::index::IndexKind;
use crate::launch::LaunchQuery;
use crate::model::Model;
use crate::ranking::{Scored, Top};
use crate::stop::{Stop, Stopped};
use crate::strings::{Labels, NONE};

/// A graph may answer for audiences of up to this share of the members.
const GRAPH_MAX_SHARE: f64 = 0.01;
/// Members looked at between two looks at the stop flag.
const STOP_ROWS: usize = 1 << 16;
/// Members that the graph gives per member wanted.
const GRAPH_OVERSAMPLING: usize = 10;

/// How many members are wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AudienceSize {
    /// So many.
    Count(usize),
    /// A share of the eligible members, 0 to 1, rounded.
    Share(f64),
}

/// Which members a caller wants; an empty list means "any".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberFilter {
    /// Home stores.
    pub stores: Vec<String>,
    /// Cities.
    pub cities: Vec<String>,
    /// Guides.
    pub guides: Vec<String>,
    /// Tags, all of which a member must have.
    pub tags: Vec<String>,
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

/// Members left out, each counted once, by the first reason that applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// No consent to marketing.
    pub no_consent: usize,
    /// Minors.
    pub minor: usize,
    /// Seeds of the request.
    pub seed: usize,
    /// Not what the filter asks for.
    pub filter: usize,
}

/// An audience, with what to expect of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    /// The members, best first.
    pub members: Vec<Scored>,
    /// Members who could have been in it.
    pub eligible: usize,
    /// Members who could not.
    pub excluded: Excluded,
    /// How many of the audience will buy within the calibrated horizon; `None` for a known product, with
    /// seeds, or where too few launches could be replayed to say.
    pub expected_buyers: Option<f64>,
    /// What answered.
    pub index: IndexKind,
}

/// The audience of a product or of seeds.
///
/// # Errors
/// [`Stopped`] once `stop` is raised.
pub fn audience(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Audience, Stopped> {
    let eligibility = Eligibility::of(model, request, stop)?;
    let eligible = eligibility.rows.iter().filter(|e| **e).count();
    let size = match request.size {
        AudienceSize::Count(count) => count.min(eligible),
        AudienceSize::Share(share) => ((eligible as f64 * share).round() as usize).min(eligible),
    };
    let query = query(model, request);
    let few = size as f64 <= GRAPH_MAX_SHARE * model.members.len() as f64;
    // What the graph was measured for: no filter, and no seeds, which crowd around what they ask for.
    let plain = request.filter == MemberFilter::default() && request.seeds.is_empty();
    let by_graph = few && plain && model.member_index.serving().kind() == IndexKind::Hnsw;
    let found = if by_graph { from_graph(model, &query, &eligibility, size) } else { Vec::new() };
    let (members, index) = if by_graph && found.len() == size {
        (found, IndexKind::Hnsw)
    } else {
        (from_scan(model, &query, &eligibility, size, stop)?, IndexKind::Exact)
    };
    // Learned from launches known by their attributes alone; other questions have scores of another scale.
    let expectation = match &request.subject {
        Subject::New(attributes) if request.seeds.is_empty() => {
            model.launch.fit.expectation.as_ref().map(|e| (e, e.log_rate_of(attributes.category.as_deref())))
        }
        _ => None,
    };
    let level = model.launch.level(&query, &model.embeddings);
    let expected_buyers =
        expectation.map(|(_, rate)| members.iter().map(|m| level.probability(m.score, rate)).sum::<f64>());
    Ok(Audience { members, eligible, excluded: eligibility.excluded, expected_buyers, index })
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
    query.with_seeds(&request.seeds, &model.embeddings)
}

/// Who may be in the audience.
struct Eligibility {
    rows: Vec<bool>,
    excluded: Excluded,
}

impl Eligibility {
    fn of(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Self, Stopped> {
        let members = &model.members;
        let filter = AllowedMembers::new(members, &request.filter);
        let mut rows = vec![true; members.len()];
        let mut excluded = Excluded::default();
        for seed in &request.seeds {
            rows[*seed as usize] = false;
        }
        for (row, eligible) in rows.iter_mut().enumerate() {
            if row.is_multiple_of(STOP_ROWS) {
                stop.check()?;
            }
            let Consent { marketing, minor, .. } = members.consent(row as u32);
            let reason = match () {
                () if !marketing => &mut excluded.no_consent,
                () if minor => &mut excluded.minor,
                () if !*eligible => &mut excluded.seed,
                () if !filter.contains(members, row as u32) => &mut excluded.filter,
                () => continue,
            };
            *reason += 1;
            *eligible = false;
        }
        Ok(Self { rows, excluded })
    }
}

/// A filter looked up once.
struct AllowedMembers {
    /// By row of the labels; `None` for any.
    stores: Option<Vec<bool>>,
    cities: Option<Vec<bool>>,
    guides: Option<Vec<bool>>,
    tags: Vec<u32>,
}

impl AllowedMembers {
    fn new(members: &Members, filter: &MemberFilter) -> Self {
        let rows = |labels: &Labels, wanted: &[String]| {
            let mut rows = vec![false; labels.values.len()];
            wanted.iter().filter_map(|value| labels.values.find(value)).for_each(|row| rows[row as usize] = true);
            (!wanted.is_empty()).then_some(rows)
        };
        Self {
            stores: rows(&members.stores, &filter.stores),
            cities: rows(&members.cities, &filter.cities),
            guides: rows(&members.guides, &filter.guides),
            tags: filter.tags.iter().map(|tag| members.tag_names.find(tag).unwrap_or(NONE)).collect(),
        }
    }

    fn contains(&self, members: &Members, row: u32) -> bool {
        let labelled = |rows: &Option<Vec<bool>>, labels: &Labels| {
            let value = labels.rows[row as usize] as usize;
            rows.as_ref().is_none_or(|rows| rows.get(value).copied().unwrap_or(false))
        };
        labelled(&self.stores, &members.stores)
            && labelled(&self.cities, &members.cities)
            && labelled(&self.guides, &members.guides)
            && self.tags.iter().all(|tag| members.tags.row(row).binary_search(tag).is_ok())
    }
}

fn from_scan(
    model: &Model,
    query: &LaunchQuery,
    eligibility: &Eligibility,
    size: usize,
    stop: &Stop,
) -> Result<Vec<Scored>, Stopped> {
    let scores = model.launch.score_all(query, &model.embeddings, stop)?;
    let rows = scores.into_iter().zip(&eligibility.rows).enumerate();
    let scored = rows.filter(|(_, (_, eligible))| **eligible);
    let mut all: Vec<Scored> = scored.map(|(row, (score, _))| Scored { row: row as u32, score }).collect();
    if size < all.len() {
        all.select_nth_unstable(size);
        all.truncate(size);
    }
    stop.check()?;
    all.par_sort_unstable();
    Ok(all)
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
        let exact = from_scan(model, &query, &eligibility, size, &stop).unwrap_or_default();
        let worst = exact.last().map_or(f32::INFINITY, |s| s.score);
        // Scores of the two paths differ by rounding.
        let found = from_graph(model, &query, &eligibility, size).iter().filter(|s| s.score >= worst - 1e-4).count();
        if exact.is_empty() { 1.0 } else { found.min(exact.len()) as f32 / exact.len() as f32 }
    };
    if products.is_empty() { 1.0 } else { products.iter().map(share).sum::<f32>() / products.len() as f32 }
}
