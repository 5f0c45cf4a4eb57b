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
/// Standard deviations of a sample's count by which a scan keeps more than are wanted: many, as the sample is of runs
/// of up to 64 neighbours, who may be alike: where these correlate by .3, it is 2.7 deviations.
const SAMPLING_DEVIATIONS: f64 = 12.0;
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
    chances: Option<Chances>,
    /// Some of the eligible members with their scores, best first; none with a quota, which needs all of them.
    sample: Vec<Scored>,
    /// A score that whoever is in the answer has at least, as far as the sample tells.
    least: f32,
}

impl<'a> Asked<'a> {
    pub(super) fn of(
        model: &'a Model,
        request: &'a AudienceRequest,
        eligibility: Arc<Eligibility>,
    ) -> Result<Self, AudienceError> {
        let query = query(model, request);
        let chances = Chances::of(model, request, &query);
        let (sample, least) = (Vec::new(), f32::NEG_INFINITY);
        let mut asked = Self { model, request, eligibility, query, chances, sample, least };
        if asked.count().is_none() && !asked.chances.as_ref().is_some_and(Chances::are_known) {
            return Err(AudienceError::NoChances);
        }
        if !request.quota.is_set() {
            asked.sample = asked.sampled();
            asked.least = asked.least_score();
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
        // What the graph was measured for: a product like some that are known, no filter, no stores that a vector knows
        // nothing of, and no seeds, which crowd around what they ask for.
        let asked_plainly = request.filter == MemberFilter::default() && request.seeds.is_empty();
        let says_much = !self.query.analogues.is_empty() && !self.query.is_sold_in_some_stores();
        let plain = asked_plainly && says_much && !request.quota.is_set();
        let has_graph = model.member_index.serving().kind() == IndexKind::Hnsw;
        let graph = few.filter(|_| plain && has_graph).map(|size| {
            let buyers = self.query.analogues.iter().map(|a| model.launch.buyers.rows.range(a.row).len());
            let found = size * GRAPH_OVERSAMPLING;
            Walk { size, found, scored: (found + buyers.sum::<usize>()).min(self.eligibility.count()) }
        });
        model.audience_costs.cheapest(model.members.len(), self.eligibility.count(), graph)
    }

    /// Members that are held for it, about.
    pub(super) fn held(&self) -> usize {
        let kept = self.sample.partition_point(|s| s.score >= self.least);
        if self.sample.is_empty() { self.eligibility.count() } else { (kept as f64 * self.each()).ceil() as usize }
    }

    /// Eligible members that one of the sample stands for.
    fn each(&self) -> f64 {
        self.eligibility.count() as f64 / self.sample.len().max(1) as f64
    }

    fn least_score(&self) -> f32 {
        let wanted = match (self.request.size, self.count(), &self.chances) {
            (_, Some(count), _) => count as f64 / self.each(),
            (AudienceSize::MinProbability(least), None, Some(chances)) => return chances.score_below(least),
            (AudienceSize::ExpectedBuyers(buyers), None, Some(chances)) => {
                let size = AudienceSize::ExpectedBuyers(buyers / self.each());
                chances.count(size, &self.sample).unwrap_or(usize::MAX) as f64
            }
            _ => return f32::NEG_INFINITY,
        };
        // So much further than the sample says that it hardly ever falls short.
        let rank = wanted + SAMPLING_DEVIATIONS * (wanted.sqrt() + 2.0);
        self.sample.get(rank as usize).map_or(f32::NEG_INFINITY, |s| s.score)
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

    /// The best of the eligible, best first, and what the sample says of the others.
    fn ranked(&self, best: Vec<Scored>) -> Ranked {
        let is_other = |s: &&Scored| best.last().is_none_or(|worst| *s > worst);
        let others = self.sample.iter().filter(is_other).copied().collect();
        Ranked { best, others, count: self.eligibility.count() }
    }

    /// Those whom a walk over the graph finds, and how many were scored for it; `None` if they are too few.
    pub(super) fn walk(&self, size: usize) -> Option<(Ranked, usize)> {
        let (members, scored) = self.walked(size);
        (members.len() == size).then(|| (self.ranked(members), scored))
    }

    /// Scores the eligible by themselves, and keeps what a scan would keep.
    pub(super) fn pick(&self, stop: &Stop) -> Result<Ranked, Stopped> {
        let mut members = self.scored_eligible(stop)?;
        let good = members.partition_point(|m| m.score >= self.least);
        if self.is_whole(&members[..good]) {
            members.truncate(good);
        }
        Ok(self.ranked(members))
    }

    /// The eligible members, best first.
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

    fn sampled(&self) -> Vec<Scored> {
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
        let (mean, eligible) = (chances.map_or(0.0, |chances| chances.mean(&ranked)), ranked.count);
        let mut scheduled = self.request.quota.is_set().then(|| {
            let scheduled = self.request.quota.schedule(&self.model.members, &self.model.state, &ranked.best);
            ranked = Ranked::all(scheduled.members.clone());
            scheduled
        });
        stop.check()?;
        let reach = chances.map_or_else(Vec::new, |chances| chances.reach(&ranked, mean, eligible));
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

/// What is known of the product and its seeds.
pub(super) fn query(model: &Model, request: &AudienceRequest) -> LaunchQuery {
    let query = match &request.subject {
        Subject::New(attributes) => LaunchQuery::from_attributes(model, attributes, |_| true),
        Subject::Known(product) => LaunchQuery::of_product(model, *product),
        Subject::SeedsOnly => LaunchQuery::without_product(&model.embeddings),
    };
    query.with_seeds(&request.seeds, model)
}

/// Scores everybody, once for all questions, and keeps of each those who are good enough to be in its answer.
pub(super) fn scan(model: &Model, asked: &[Asked<'_>], stop: &Stop) -> Result<Vec<Ranked>, Stopped> {
    let mut found = scan_from(model, &asked.iter().map(|asked| (asked, asked.least)).collect::<Vec<_>>(), stop)?;
    // Where the sample was too good, everybody is kept.
    let is_short = |i: &usize| asked[*i].least > f32::NEG_INFINITY && !asked[*i].is_whole(&found[*i]);
    let short: Vec<usize> = (0..asked.len()).filter(is_short).collect();
    let again: Vec<_> = short.iter().map(|i| (&asked[*i], f32::NEG_INFINITY)).collect();
    if !again.is_empty() {
        for (i, members) in short.iter().zip(scan_from(model, &again, stop)?) {
            found[*i] = members;
        }
    }
    Ok(asked.iter().zip(found).map(|(asked, found)| asked.ranked(found)).collect())
}

/// The eligible members with at least so high a score, best first, by question.
fn scan_from(model: &Model, asked: &[(&Asked<'_>, f32)], stop: &Stop) -> Result<Vec<Vec<Scored>>, Stopped> {
    let queries: Vec<(&LaunchQuery, f32)> = asked.iter().map(|(asked, least)| (&asked.query, *least)).collect();
    let keep = |query: usize, found: Scored, kept: &mut Vec<Scored>| {
        if asked[query].0.eligibility.rows.contains(found.row) {
            kept.push(found);
        }
    };
    let mut found: Vec<Vec<Scored>> = vec![Vec::new(); asked.len()];
    for task in model.launch.scan_all(&queries, &model.embeddings, stop, keep)? {
        found.iter_mut().zip(task).for_each(|(found, mut kept)| found.append(&mut kept));
    }
    found.iter_mut().for_each(|found| found.par_sort_unstable());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::{Costs, Quota, audience, audiences};
    use crate::content::Attributes;
    use crate::feed::fixture;
    use crate::groups::Groups;
    use crate::launch::fixture::{MEMBERS, members};
    use crate::launch::{Expectation, LaunchFit};

    /// More members than a sample holds; `activity` says how active each is.
    fn model(activity: impl Fn(usize) -> f32) -> Model {
        let (mut launch, embeddings) = members(2);
        launch.statics.activity = (0..MEMBERS).map(activity).collect::<Vec<_>>().into();
        launch.fit = LaunchFit { expectation: Some(Expectation::example()), ..launch.fit };
        let groups = Groups { marketing: (0..MEMBERS as u32).filter(|m| m % 50 != 1).collect(), ..Groups::default() };
        let ids = (0..MEMBERS).map(|m| format!("m{m:06}")).collect();
        let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100), ("nuts", "b", [0.2, 1.0], 100)], &[]);
        model.members.ids = ids;
        (model.launch, model.embeddings, model.groups) = (launch, embeddings, groups);
        model
    }

    fn request(size: AudienceSize) -> AudienceRequest {
        let attributes = Attributes { category: Some("tea".to_owned()), ..Attributes::default() };
        let (filter, quota) = (MemberFilter::default(), Quota::default());
        AudienceRequest { subject: Subject::New(attributes), seeds: Vec::new(), size, filter, quota }
    }

    const SIZES: [AudienceSize; 9] = [
        AudienceSize::Count(1),
        AudienceSize::Count(700),
        AudienceSize::Share(0.0),
        AudienceSize::Share(0.45),
        AudienceSize::Share(0.97),
        AudienceSize::MinProbability(0.0),
        AudienceSize::MinProbability(0.012),
        AudienceSize::ExpectedBuyers(60.0),
        AudienceSize::ExpectedBuyers(1e9),
    ];

    /// Every way gives what sorting the scores of everybody gives.
    fn agrees(mut model: Model) {
        let stop = Stop::default();
        let requests = SIZES.map(request);
        let mut together = Vec::new();
        audiences(&model, &requests, &stop, |_, audience| {
            together.push(audience);
            Ok::<(), AudienceError>(())
        })
        .unwrap();
        for (request, together) in requests.iter().zip(together) {
            let mut answer = |scanned, picked| {
                model.audience_costs = Costs { scanned, picked, ..Costs::default() };
                audience(&model, request, &stop).unwrap()
            };
            let (scanned, mut picked) = (answer(0.0, 1e9), answer(1e9, 0.0));
            assert_eq!((scanned.scored, picked.scored), (MEMBERS, picked.eligible));
            picked.scored = MEMBERS;
            assert_eq!((&scanned, &scanned), (&picked, &together), "{request:?}");
            let eligibility = Arc::new(Eligibility::of(&model, request, &stop).unwrap());
            let asked = Asked::of(&model, request, eligibility).unwrap();
            let scores = model.launch.score_all(&[&asked.query], &model.embeddings, &stop).unwrap().remove(0);
            let mut all: Vec<Scored> =
                asked.eligibility.rows.iter().map(|row| Scored { row, score: scores[row as usize] }).collect();
            all.sort_unstable();
            let chances = asked.chances.as_ref().unwrap();
            all.truncate(asked.count().or_else(|| chances.count(request.size, &all)).unwrap());
            assert_eq!(scanned.members, all, "{request:?}");
            assert_eq!(scanned.reach.last().unwrap().members, scanned.eligible);
        }
    }

    #[test]
    fn every_way_gives_the_best_of_all() {
        agrees(model(|m| if m % 10 == 3 { 0.0 } else { 1.0 + (m * 7919 % 1000) as f32 / 50.0 }));
    }

    #[test]
    fn a_sample_that_is_too_good_or_too_bad_is_made_up_for() {
        let run = launch::sample_run(REACH_MEMBERS);
        let step = (MEMBERS * run).div_ceil(REACH_MEMBERS);
        for (sampled, other) in [(30.0, 0.1), (0.1, 30.0)] {
            agrees(model(|m| if m % step < run { sampled } else { other }));
        }
    }

    #[test]
    fn many_are_alike() {
        agrees(model(|m| f32::from(u8::from(m % 5 == 0))));
    }
}
