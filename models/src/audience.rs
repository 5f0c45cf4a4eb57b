//! Audiences: who would buy this product, and how many?
//!
//! The launch score of every eligible member, best first. A small audience of a large base comes from the
//! index over members: those whose vector fits, and the buyers of similar products, are scored; every
//! other question is answered exactly, by scoring all or the eligible. The answer says which.

mod allocation;
mod eligibility;
mod filter;
mod forecast;
mod holdout;
mod plan;
mod quota;
mod traits;

use std::sync::Arc;

use rayon::prelude::*;

use crate::content::Attributes;
use crate::index::IndexKind;
use crate::launch::LaunchQuery;
use crate::model::Model;
use crate::ranking::{Scored, Top};
use crate::stop::{Stop, Stopped};
pub use allocation::{
    Allocated, Allocation, AllocationRequest, Assignment, Cap, Launch, LaunchOutcome, MAX_LAUNCHES, NOTHING, allocate,
    assign,
};
use eligibility::Eligibility;
pub use eligibility::Excluded;
pub use filter::{LastPurchase, MaxContacts, MemberFilter};
use forecast::Chances;
pub use forecast::{Expected, ReachPoint};
pub use holdout::Holdout;
pub use plan::Costs;
use plan::{Walk, Way};
pub use quota::Quota;
pub use traits::{Trait, TraitKind};

/// A graph may answer for audiences of up to this share of the members.
const GRAPH_MAX_SHARE: f64 = 0.01;
/// Members that the reach curve is measured on where not all were scored, at most.
const REACH_MEMBERS: usize = 16_384;
/// Members that the graph gives per member wanted.
const GRAPH_OVERSAMPLING: usize = 10;
/// Members per task where they are scored by themselves.
const PICKED_ROWS: usize = 1 << 14;
/// Scores that a scan for several audiences at once holds, at most.
const BATCH_SCORES: usize = 1 << 26;

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
    /// How many of them can be taken care of.
    pub quota: Quota,
}

/// Why there is no audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// The caller is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Chances are asked for, and none can be said.
    #[error(
        "chances are known of new products without seeds only, by a model that could replay enough launches \
         (launch.min_launches): without them, ask for an audience by count or by share"
    )]
    NoChances,
    /// A filter by contacts, and none are known.
    #[error(
        "max_contacts: this version does not know who was contacted; train one from events with times, \
         and contacts among them (kind = \"contact\")"
    )]
    NoContacts,
}

/// An audience, with what to expect of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Audience {
    /// The members, best first.
    pub members: Vec<Scored>,
    /// The chance that each buys within the horizon; empty where `expected` is `None`.
    pub probabilities: Vec<f32>,
    /// The day on which each is to be contacted, from 1; empty without a quota.
    pub days: Vec<u16>,
    /// Members who could have been in it.
    pub eligible: usize,
    /// Members who could not.
    pub excluded: Excluded,
    /// Members who fit better than the last one, and for whom the quota had no place.
    pub over_quota: usize,
    /// How many will buy within the horizon; `None` for a known product, with seeds, or where too few
    /// launches could be replayed to say.
    pub expected: Option<Expected>,
    /// The same for audiences of other sizes, smallest first; empty where scores say nothing of chances.
    pub reach: Vec<ReachPoint>,
    /// What sets the members apart from the base, what says most first; empty for fewer than 50.
    pub traits: Vec<Trait>,
    /// What answered.
    pub index: IndexKind,
    /// How many members were scored.
    pub scored: usize,
}

/// The audience of a product or of seeds.
///
/// # Errors
/// [`AudienceError::Stopped`] once `stop` is raised, [`AudienceError::NoChances`] for a size that can't be said.
pub fn audience(model: &Model, request: &AudienceRequest, stop: &Stop) -> Result<Audience, AudienceError> {
    let asked = Asked::of(model, request, Arc::new(Eligibility::of(model, request, stop)?))?;
    let eligible = match asked.way() {
        Way::Graph(size) => {
            let (members, scored) = asked.walked(size);
            if members.len() == size {
                return Ok(asked.answer_of_graph(members, scored, stop)?);
            }
            asked.scored_eligible(stop)?
        }
        Way::Pick => asked.scored_eligible(stop)?,
        Way::Scan => asked.eligible_of(model.launch.score_all(&[&asked.query], &model.embeddings, stop)?.remove(0)),
    };
    Ok(asked.answer(eligible, stop)?)
}

/// The audiences of several products or seeds, all members being read once for as many of them as memory allows;
/// `each` gets them in order.
///
/// # Errors
/// As [`audience`], or what `each` gives.
pub fn audiences<E: From<AudienceError>>(
    model: &Model,
    requests: &[AudienceRequest],
    stop: &Stop,
    mut each: impl FnMut(usize, Audience) -> Result<(), E>,
) -> Result<(), E> {
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(requests.len());
    for request in requests {
        let same = asked.last().filter(|a| a.request.filter == request.filter && a.request.seeds == request.seeds);
        let eligibility = match same {
            Some(asked) => asked.eligibility.clone(),
            None => Arc::new(Eligibility::of(model, request, stop)?),
        };
        asked.push(Asked::of(model, request, eligibility)?);
    }
    let batch = (BATCH_SCORES / model.members.len().max(1)).max(1);
    for (first, asked) in asked.chunks(batch).enumerate().map(|(i, asked)| (i * batch, asked)) {
        let queries: Vec<&LaunchQuery> = asked.iter().map(|a| &a.query).collect();
        let scores = model.launch.score_all(&queries, &model.embeddings, stop).map_err(AudienceError::Stopped)?;
        for (i, (asked, scores)) in asked.iter().zip(scores).enumerate() {
            let answer = asked.answer(asked.eligible_of(scores), stop).map_err(AudienceError::Stopped)?;
            each(first + i, answer)?;
        }
    }
    Ok(())
}

/// A question that was looked up.
struct Asked<'a> {
    model: &'a Model,
    request: &'a AudienceRequest,
    eligibility: Arc<Eligibility>,
    query: LaunchQuery,
    chances: Option<Chances<'a>>,
}

impl<'a> Asked<'a> {
    fn of(
        model: &'a Model,
        request: &'a AudienceRequest,
        eligibility: Arc<Eligibility>,
    ) -> Result<Self, AudienceError> {
        let query = query(model, request);
        let chances = is_launch(request).then(|| Chances::of(model, request, &query));
        let asked = Self { model, request, eligibility, query, chances };
        if asked.count().is_none() && !asked.chances.as_ref().is_some_and(Chances::are_known) {
            return Err(AudienceError::NoChances);
        }
        Ok(asked)
    }

    /// How many members are wanted; `None` if that depends on their chances.
    fn count(&self) -> Option<usize> {
        self.request.size.count(self.eligibility.count())
    }

    /// The cheapest way of those that may answer.
    fn way(&self) -> Way {
        let (model, request) = (self.model, self.request);
        let few = self.count().filter(|n| *n as f64 <= GRAPH_MAX_SHARE * model.members.len() as f64);
        // What the graph was measured for: no filter, no stores that a vector knows nothing of, and no seeds, which
        // crowd around what they ask for.
        let asked_plainly = request.filter == MemberFilter::default() && request.seeds.is_empty();
        let plain = asked_plainly && !request.quota.is_set() && !self.query.is_sold_in_some_stores();
        let has_graph = model.member_index.serving().kind() == IndexKind::Hnsw;
        let graph = few.filter(|_| plain && has_graph).map(|size| {
            let buyers = self.query.analogues.iter().map(|a| model.launch.buyers.rows.range(a.row).len());
            let found = size * GRAPH_OVERSAMPLING;
            Walk { size, found, scored: (found + buyers.sum::<usize>()).min(self.eligibility.count()) }
        });
        model.audience_costs.cheapest(model.members.len(), self.eligibility.count(), graph)
    }

    /// The eligible members with their scores, from those of everybody.
    fn eligible_of(&self, scores: Vec<f32>) -> Vec<Scored> {
        self.eligibility.rows.iter().map(|row| Scored { row, score: scores[row as usize] }).collect()
    }

    /// The eligible members, scored by themselves.
    fn scored_eligible(&self, stop: &Stop) -> Result<Vec<Scored>, Stopped> {
        let rows: Vec<u32> = self.eligibility.rows.iter().collect();
        let scored = |rows: &[u32]| stop.check().map(|()| self.scored(rows));
        let runs = rows.par_chunks(PICKED_ROWS).map(scored).collect::<Result<Vec<_>, Stopped>>()?;
        Ok(runs.concat())
    }

    fn scored(&self, rows: &[u32]) -> Vec<Scored> {
        let scores = self.model.launch.score_some(&self.query, &self.model.embeddings, rows);
        rows.iter().zip(scores).map(|(row, score)| Scored { row: *row, score }).collect()
    }

    /// Scores of eligible members, evenly spaced, best first.
    fn even_sample(&self) -> Vec<Scored> {
        let step = self.eligibility.count().div_ceil(REACH_MEMBERS).max(1);
        let rows: Vec<u32> = self.eligibility.rows.iter().step_by(step).collect();
        let mut sample = self.scored(&rows);
        sample.sort_unstable();
        sample
    }

    /// The best `size` of the members that a walk finds, and of those who bought similar products; and how many these
    /// are.
    fn walked(&self, size: usize) -> (Vec<Scored>, usize) {
        let allowed = |row: u32| self.eligibility.rows.contains(row);
        let found = self.model.member_index.serving().search(&self.query.vector, size * GRAPH_OVERSAMPLING, &allowed);
        let mut rows: Vec<u32> = found.iter().map(|s| s.row).collect();
        for analogue in &self.query.analogues {
            let buyers = self.model.launch.buyers.rows.row(analogue.row);
            rows.extend(buyers.iter().copied().filter(|row| allowed(*row)));
        }
        rows.sort_unstable();
        rows.dedup();
        let mut top = Top::new(size);
        self.scored(&rows).into_iter().for_each(|m| top.push(m.row, m.score));
        (top.into_sorted(), rows.len())
    }

    /// The audience, from all eligible members.
    fn answer(&self, mut eligible: Vec<Scored>, stop: &Stop) -> Result<Audience, Stopped> {
        stop.check()?;
        let scored = eligible.len();
        eligible.par_sort_unstable();
        let mean = self.chances.as_ref().map_or(0.0, |chances| chances.mean(&eligible));
        let scheduled = self.request.quota.is_set().then(|| {
            let scheduled = self.request.quota.schedule(&self.model.members, &eligible);
            eligible.clone_from(&scheduled.members);
            scheduled
        });
        stop.check()?;
        let reach = self.chances.as_ref().map_or_else(Vec::new, |c| c.reach(&eligible, eligible.len(), mean));
        let of_chances = || self.chances.as_ref()?.count(self.request.size, &eligible);
        // Sizes that can't be said were refused when the question came in.
        eligible.truncate(self.count().or_else(of_chances).unwrap_or(0));
        let mut audience = self.described(eligible, reach, IndexKind::Exact, scored);
        if let Some(mut scheduled) = scheduled {
            scheduled.days.truncate(audience.members.len());
            let last = audience.members.len().checked_sub(1);
            audience.over_quota = last.map_or(0, |last| scheduled.passed_over[last] as usize);
            audience.days = scheduled.days;
        }
        stop.check()?;
        Ok(audience)
    }

    /// The audience that a graph found.
    fn answer_of_graph(&self, members: Vec<Scored>, scored: usize, stop: &Stop) -> Result<Audience, Stopped> {
        let eligible = self.eligibility.count();
        let reach = self.chances.as_ref().map_or_else(Vec::new, |chances| {
            let sample = self.even_sample();
            chances.reach(&sample, eligible, chances.mean(&sample))
        });
        let audience = self.described(members, reach, IndexKind::Hnsw, scored);
        stop.check()?;
        Ok(audience)
    }

    /// An audience of these members, with what is to be said of them.
    fn described(&self, members: Vec<Scored>, reach: Vec<ReachPoint>, index: IndexKind, scored: usize) -> Audience {
        let chances = self.chances.as_ref();
        let probability = |m: &Scored| Some(chances?.probability(m.score)? as f32);
        Audience {
            probabilities: members.iter().filter_map(probability).collect(),
            days: Vec::new(),
            eligible: self.eligibility.count(),
            excluded: self.eligibility.excluded,
            over_quota: 0,
            expected: chances.and_then(|chances| chances.expected(&members)),
            reach,
            traits: traits::traits(self.model, &self.query, &self.eligibility, &members),
            index,
            scored,
            members,
        }
    }
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

/// Mean share of the exact audience that the graph finds, over products of the model asked for as if they
/// were new; 1 where there is nothing to ask for.
pub fn graph_recall(model: &Model, products: &[u32], size: usize) -> f32 {
    let share = |product: &u32| {
        let request = AudienceRequest {
            subject: Subject::New(model.products.attributes(*product)),
            seeds: Vec::new(),
            size: AudienceSize::Count(size),
            filter: MemberFilter::default(),
            quota: Quota::default(),
        };
        let stop = Stop::default();
        // The flag of a default `Stop` is never raised.
        let eligibility = Eligibility::of(model, &request, &stop);
        let Ok(asked) = eligibility.and_then(|e| Asked::of(model, &request, Arc::new(e))) else { return 0.0 };
        let mut exact = asked.scored_eligible(&stop).unwrap_or_default();
        exact.sort_unstable();
        exact.truncate(size);
        let worst = exact.last().map_or(f32::INFINITY, |s| s.score);
        // Scores of the two ways differ by rounding.
        let (found, _) = asked.walked(size);
        let found = found.iter().filter(|s| s.score >= worst - 1e-4).count();
        if exact.is_empty() { 1.0 } else { found.min(exact.len()) as f32 / exact.len() as f32 }
    };
    if products.is_empty() { 1.0 } else { products.iter().map(share).sum::<f32>() / products.len() as f32 }
}
