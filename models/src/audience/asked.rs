//! One question for an audience: what is looked up for it, how it is scored, and its answer.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::forecast::{Chances, Ranked};
use super::plan::{Walk, Way};
use super::{
    Audience, AudienceError, AudienceRequest, AudienceSize, Eligibility, MemberFilter, ReachPoint, Subject, traits,
};
use crate::index::IndexKind;
use crate::launch::{self, LaunchQuery};
use crate::model::Model;
use crate::ranking::{Scored, Top};
use crate::stop::{Stop, Stopped};

/// A graph may answer for audiences of up to this share of the members.
const GRAPH_MAX_SHARE: f64 = 0.01;
/// Members who stand for those beyond an answer, at most.
const REACH_MEMBERS: usize = 16_384;
/// Standard deviations of a sample's count by which a scan keeps more than are wanted.
const SAMPLING_DEVIATIONS: f64 = 5.0;
/// Members that the graph gives per member wanted.
const GRAPH_OVERSAMPLING: usize = 10;
/// Members who are scored by themselves between two looks at whether the caller is still there.
const PICKED_ROWS: usize = 1 << 18;

/// A question that was looked up.
pub(super) struct Asked<'a> {
    model: &'a Model,
    pub(super) request: &'a AudienceRequest,
    pub(super) eligibility: Arc<Eligibility>,
    query: LaunchQuery,
    chances: Option<Chances<'a>>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(
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
    pub(super) fn way(&self) -> Way {
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

    /// Members that a scan will hold for it.
    pub(super) fn held(&self) -> usize {
        let eligible = self.eligibility.count();
        self.count().filter(|_| !self.request.quota.is_set()).unwrap_or(eligible).min(eligible)
    }

    /// A score that whoever is in the answer has at least, as far as a sample tells.
    fn least_score(&self, sample: &[Scored]) -> f32 {
        let each = self.eligibility.count() as f64 / sample.len().max(1) as f64;
        let wanted = match (self.request.size, self.count()) {
            _ if self.request.quota.is_set() => None,
            (_, Some(count)) => Some(count as f64 / each),
            (AudienceSize::MinProbability(least), None) => {
                return self.chances.as_ref().map_or(f32::NEG_INFINITY, |chances| chances.score_below(least));
            }
            (AudienceSize::ExpectedBuyers(buyers), None) => {
                let size = AudienceSize::ExpectedBuyers(buyers / each);
                self.chances.as_ref().and_then(|chances| chances.count(size, sample)).map(|count| count as f64)
            }
            (AudienceSize::Count(_) | AudienceSize::Share(_), None) => None,
        };
        // So much further than the sample says that it hardly ever falls short.
        let rank = wanted.map(|wanted| (wanted + SAMPLING_DEVIATIONS * (wanted.sqrt() + 2.0)) as usize);
        rank.and_then(|rank| sample.get(rank)).map_or(f32::NEG_INFINITY, |s| s.score)
    }

    /// Whether members with at least some score are enough for the answer.
    fn is_whole(&self, members: &[Scored]) -> bool {
        match (self.count(), self.request.size, &self.chances) {
            (Some(count), ..) => members.len() >= count,
            (None, AudienceSize::ExpectedBuyers(wanted), Some(chances)) => {
                chances.expected(members).is_some_and(|expected| expected.buyers >= wanted)
            }
            _ => true,
        }
    }

    /// The best of the eligible, best first, and what a sample says of the others.
    pub(super) fn ranked(&self, best: Vec<Scored>, mut sample: Vec<Scored>) -> Ranked {
        sample.retain(|s| best.last().is_none_or(|worst| s > worst));
        Ranked { best, others: sample, count: self.eligibility.count() }
    }

    /// The eligible members, scored by themselves, best first.
    pub(super) fn scored_eligible(&self, stop: &Stop) -> Result<Vec<Scored>, Stopped> {
        let rows: Vec<u32> = self.eligibility.rows.iter().collect();
        let mut scored = Vec::with_capacity(rows.len());
        for rows in rows.chunks(PICKED_ROWS) {
            stop.check()?;
            scored.extend(self.scored(rows));
        }
        scored.par_sort_unstable();
        Ok(scored)
    }

    fn scored(&self, rows: &[u32]) -> Vec<Scored> {
        let scores = self.model.launch.score_some(&self.query, &self.model.embeddings, rows);
        rows.iter().zip(scores).map(|(row, score)| Scored { row: *row, score }).collect()
    }

    /// Some of the eligible members with their scores, best first; all of few.
    pub(super) fn sample(&self) -> Vec<Scored> {
        let (eligible, runs) = (&self.eligibility.rows, launch::sample(self.eligibility.count(), REACH_MEMBERS));
        let of_run = |run: Range<usize>| {
            let first = eligible.select(run.start as u32).unwrap_or(u32::MAX);
            eligible.range(first..).take(run.len())
        };
        let rows: Vec<u32> = runs.flat_map(of_run).collect();
        let mut sample = self.scored(&rows);
        sample.sort_unstable();
        sample
    }

    /// The best `size` of the members that a walk finds, and of those who bought similar products; and how many these
    /// are.
    pub(super) fn walked(&self, size: usize) -> (Vec<Scored>, usize) {
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

    /// The audience.
    pub(super) fn answer(
        &self,
        mut ranked: Ranked,
        index: IndexKind,
        scored: usize,
        stop: &Stop,
    ) -> Result<Audience, Stopped> {
        stop.check()?;
        let chances = self.chances.as_ref();
        let mean = chances.map_or(0.0, |chances| chances.mean(&ranked));
        let mut scheduled = self.request.quota.is_set().then(|| {
            let scheduled = self.request.quota.schedule(&self.model.members, &ranked.best);
            ranked = Ranked::all(scheduled.members.clone());
            scheduled
        });
        stop.check()?;
        let reach = chances.map_or_else(Vec::new, |chances| chances.reach(&ranked, mean));
        let of_chances = || chances?.count(self.request.size, &ranked.best);
        // Sizes that can't be said were refused when the question came in.
        ranked.best.truncate(self.count().or_else(of_chances).unwrap_or(0));
        let mut audience = self.described(ranked.best, reach, index, scored);
        if let Some(scheduled) = &mut scheduled {
            scheduled.days.truncate(audience.members.len());
            let last = audience.members.len().checked_sub(1);
            audience.over_quota = last.map_or(0, |last| scheduled.passed_over[last] as usize);
            audience.days = std::mem::take(&mut scheduled.days);
        }
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
pub(super) fn query(model: &Model, request: &AudienceRequest) -> LaunchQuery {
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

/// Scores everybody, once for all questions, and keeps of each those who are good enough to be in its answer.
pub(super) fn scan(model: &Model, asked: &[Asked<'_>], stop: &Stop) -> Result<Vec<Ranked>, Stopped> {
    let samples: Vec<Vec<Scored>> = asked.iter().map(Asked::sample).collect();
    let mut least: Vec<f32> = asked.iter().zip(&samples).map(|(asked, sample)| asked.least_score(sample)).collect();
    let mut found = scan_from(model, asked, &least, stop)?;
    for (i, members) in found.iter_mut().enumerate() {
        // The sample was too good.
        if least[i] > f32::NEG_INFINITY && !asked[i].is_whole(members) {
            least[i] = f32::NEG_INFINITY;
            *members = scan_from(model, &asked[i..=i], &least[i..=i], stop)?.remove(0);
        }
    }
    Ok(asked.iter().zip(found).zip(samples).map(|((asked, found), sample)| asked.ranked(found, sample)).collect())
}

/// The eligible members with at least so high a score, best first, by question.
fn scan_from(model: &Model, asked: &[Asked<'_>], least: &[f32], stop: &Stop) -> Result<Vec<Vec<Scored>>, Stopped> {
    let queries: Vec<&LaunchQuery> = asked.iter().map(|asked| &asked.query).collect();
    let keep = |query: usize, first: u32, scores: &[f32], kept: &mut Vec<Scored>| {
        let eligible = &asked[query].eligibility.rows;
        for (row, score) in (first..).zip(scores) {
            if *score >= least[query] && eligible.contains(row) {
                kept.push(Scored { row, score: *score });
            }
        }
    };
    let tasks = model.launch.scan_all(&queries, &model.embeddings, stop, keep)?;
    let of_query = |query: usize| {
        let mut found: Vec<Scored> = tasks.iter().flat_map(|kept| &kept[query]).copied().collect();
        found.par_sort_unstable();
        found
    };
    Ok((0..asked.len()).map(of_query).collect())
}
