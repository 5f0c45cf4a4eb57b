//! Audiences: who would buy this product, and how many?
//!
//! The launch score of every eligible member, best first. A small audience of a large base comes from the
//! index over members: those whose vector fits, and the buyers of similar products, are scored; every
//! other question is answered exactly, by scoring all or the eligible. The answer says which.

mod allocation;
mod asked;
mod chances;
mod eligibility;
mod filter;
mod forecast;
mod holdout;
mod moments;
mod plan;
mod quota;
mod traits;

use std::sync::Arc;

use crate::content::Attributes;
use crate::index::IndexKind;
use crate::model::Model;
use crate::ranking::Scored;
use crate::stop::{Stop, Stopped};
pub use allocation::{
    Allocated, Allocation, AllocationRequest, Assignment, Cap, Launch, LaunchOutcome, MAX_LAUNCHES, NOTHING, allocate,
    assign,
};
use asked::{Asked, query, scan};
pub use chances::chances;
pub(crate) use eligibility::Eligibility;
pub use eligibility::Excluded;
pub use filter::{LastPurchase, MaxContacts, MemberFilter};
pub use forecast::{Expected, ReachPoint};
pub use holdout::Holdout;
pub use moments::{Birthday, DueForRepeat};
pub use plan::Costs;
use plan::Way;
pub use quota::Quota;
pub use traits::{Trait, TraitKind};

/// Scores that a scan for several launches at once holds, at most.
const BATCH_SCORES: usize = 1 << 26;
/// Questions that are looked up at once: each keeps what it found until it is answered.
const LOOKED_UP: usize = 64;

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

impl Subject {
    /// A product as it is known now: of one that came after the version, what it is made of, and who bought it since.
    pub fn now(model: &Model, product: u32) -> (Self, Vec<u32>) {
        match model.products.is_added(product) {
            true => (Self::New(model.products.attributes(product)), model.state.buyers(model, product).collect()),
            false => (Self::Known(product), Vec::new()),
        }
    }
}

/// A question for an audience.
#[derive(Clone, Debug)]
pub struct AudienceRequest {
    /// What it is for.
    pub subject: Subject,
    /// Members known to like it, sorted; they are not in the answer.
    pub seeds: Vec<u32>,
    /// How many members are wanted.
    pub size: AudienceSize,
    /// Which members are wanted.
    pub filter: MemberFilter,
    /// How many of them can be taken care of.
    pub quota: Quota,
}

/// Chances that are weighed at once, at most: 4 GiB.
const MOST_CHANCES: usize = 1 << 30;

/// Why there is no audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AudienceError {
    /// The caller is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Chances are asked for, and none can be said.
    #[error(
        "how many will buy is not known, where training could replay too few past launches (launch.min_launches) or, of a \
         product that sells, saw too few sales, and of seeds alone: ask for an audience by count or by share; an allocation, or \
         a plan of named products, takes more history"
    )]
    NoChances,
    /// Chances of what fits each member are asked for, and feeds of this version have none.
    #[error(
        "the scores of this version's feeds are no chances of a purchase: name the products to push, or train on events \
         with times, of at least as many days as a purchase is foretold for"
    )]
    NoFeedChances,
    /// Chances of so many members and launches are asked for at once as memory does not hold.
    #[error(
        "{0} members × {1} launches are more chances than are weighed at once ({MOST_CHANCES}): filter members, or ask for fewer launches"
    )]
    TooMany(usize, usize),
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
    /// How many will buy within the horizon; `None` for seeds alone, or where too few launches could be replayed,
    /// or sales seen, to say.
    pub expected: Option<Expected>,
    /// The same for audiences of other sizes, smallest first; empty of seeds alone.
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
    let way = asked.way();
    if let Way::Graph(size) = way
        && let Some((ranked, scored)) = asked.walk(size)
    {
        return Ok(asked.answer(ranked, IndexKind::Hnsw, scored, stop)?);
    }
    let (ranked, scored) = match way {
        Way::Pick => (asked.pick(stop)?, asked.eligibility.count()),
        Way::Scan | Way::Graph(_) => (scan(model, std::slice::from_ref(&asked), stop)?.remove(0), model.members.len()),
    };
    Ok(asked.answer(ranked, IndexKind::Exact, scored, stop)?)
}

/// The audiences of several products or seeds, all members being read once for up to 64 of them, as far as memory allows;
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
    let mut done = 0;
    for requests in requests.chunks(LOOKED_UP) {
        let asked = look_up(model, requests, stop)?;
        let mut rest = &asked[..];
        while !rest.is_empty() {
            let mut held = 0;
            let fits = |asked: &&Asked<'_>| {
                held += asked.held();
                held <= BATCH_SCORES
            };
            let (batch, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            for (asked, ranked) in batch.iter().zip(scan(model, batch, stop).map_err(AudienceError::Stopped)?) {
                let scored = model.members.len();
                let answer = asked.answer(ranked, IndexKind::Exact, scored, stop).map_err(AudienceError::Stopped)?;
                each(done, answer)?;
                done += 1;
            }
            rest = later;
        }
    }
    Ok(())
}

/// What is asked, looked up; who is eligible, once for all who ask alike in a row.
fn look_up<'a>(
    model: &'a Model,
    requests: &'a [AudienceRequest],
    stop: &Stop,
) -> Result<Vec<Asked<'a>>, AudienceError> {
    let mut asked: Vec<Asked<'_>> = Vec::with_capacity(requests.len());
    for request in requests {
        let same = asked.last().filter(|a| a.request.filter == request.filter && a.request.seeds == request.seeds);
        let eligibility = match same {
            Some(asked) => asked.eligibility.clone(),
            None => Arc::new(Eligibility::of(model, request, stop)?),
        };
        asked.push(Asked::of(model, request, eligibility)?);
    }
    Ok(asked)
}

/// Mean share of the exact audience that the index over members finds, over products of the model asked for as if they
/// were new; 1 where there is nothing to ask for.
pub fn audience_recall(model: &Model, products: &[u32], size: usize) -> f32 {
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
        exact.truncate(size);
        let worst = exact.last().map_or(f32::INFINITY, |s| s.score);
        let (found, _) = asked.walked(size);
        let found = found.iter().filter(|s| s.score >= worst).count();
        if exact.is_empty() { 1.0 } else { found.min(exact.len()) as f32 / exact.len() as f32 }
    };
    if products.is_empty() { 1.0 } else { products.iter().map(share).sum::<f32>() / products.len() as f32 }
}
