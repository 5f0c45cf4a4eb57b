//! What to expect of an audience: its buyers, and those of audiences of other sizes.

use serde::Serialize;

use super::{AudienceRequest, AudienceSize, Subject};
use crate::launch::{LaunchQuery, Level, Spread};
use crate::model::Model;
use crate::ranking::Scored;

/// Sizes of the reach curve, as shares of the eligible members.
const SHARES: [f64; 20] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0];

/// What a share of the members is raised to for the usual lift of its best ones, where nothing could be replayed to say how
/// scores and chances go together: a hundredth has 10 times as many buyers as members, a tenth 3.2 times. By the prior's
/// ranks they had 9.3 and 3.8 times on The Complete Journey's launches, 6.6 and 2.9 times on Ta-Feng's; exp(score) would say 96
/// and 10.
const USUAL_LIFT: f64 = -0.5;

/// How many of a number of members will buy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Buyers, as many as the middle one of past products had.
    pub buyers: f64,
    /// A tenth of past products had fewer.
    pub low: f64,
    /// A tenth of past products had more.
    pub high: f64,
}

/// A point of the reach curve: the best members of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ReachPoint {
    /// How many.
    pub members: usize,
    /// How many of them will buy; `None` where nothing says so.
    pub expected_buyers: Option<f64>,
    /// Share of them who will buy; as `expected_buyers`.
    pub precision: Option<f64>,
    /// How many times as likely as the mean eligible member they are to buy.
    pub lift: f64,
}

/// The eligible members by their scores.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    /// The best one by one, best first.
    pub(super) best: Vec<Scored>,
    /// Of the others a sample, best first.
    pub(super) others: Vec<Scored>,
    /// How many there are in all.
    pub(super) count: usize,
}

impl Ranked {
    /// Of whom each is known.
    pub(super) fn all(best: Vec<Scored>) -> Self {
        Self { count: best.len(), best, others: Vec::new() }
    }

    /// The scores, best first, and how many members each stands for.
    fn scores(&self) -> impl Iterator<Item = (f32, f64)> {
        let each = (self.count - self.best.len()) as f64 / self.others.len().max(1) as f64;
        let best = self.best.iter().map(|m| (m.score, 1.0));
        best.chain(self.others.iter().map(move |m| (m.score, each)))
    }
}

/// From scores to chances, for one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chances {
    /// What scores are multiplied by first.
    slope: f32,
    /// What makes chances of them; `None` where nothing was learned of how the two go together.
    level: Option<Level>,
    /// How far from what is expected it may come; `None` where nothing says how many buy: chances tell members apart then, and
    /// no more.
    spread: Option<Spread>,
}

/// `ln` of a share that stands for one that is not known: what is rare is in proportion, however rare.
const SOME_LOG_RATE: f32 = -7.0;

impl Chances {
    /// Of a product: a new one by what past launches say, its seeds being buyers that it has already; a known one by its
    /// own sales. `None` of seeds alone, whose scores say how like them members are rather than how likely to buy.
    pub(super) fn of(model: &Model, request: &AudienceRequest, query: &LaunchQuery) -> Option<Self> {
        let is_sold = |product: &u32| !model.launch.buyers.rows.range(*product).is_empty();
        let mut slope = 1.0;
        let (rate, is_new) = match &request.subject {
            _ if query.is_of_seeds_alone() => return None,
            Subject::SeedsOnly => return None,
            Subject::Known(product) if is_sold(product) => {
                let known = model.launch.log_rate_of(*product);
                slope = known.map_or(1.0, |(_, known)| known.slope);
                (known.map(|(log_rate, known)| (log_rate, known.spread)), false)
            }
            // What nobody bought yet is as new.
            Subject::Known(product) => (rate_of_launch(model, model.products.categories.get(*product)), true),
            Subject::New(attributes) => (rate_of_launch(model, attributes.category.as_deref()), true),
        };
        if rate.is_none() && model.launch.fit.learned.is_none() {
            return Some(Self { slope, level: None, spread: None });
        }
        let mut rows = model.launch.sample_rows();
        let members = rows.len() as f64 / model.launch.sampled_share();
        rows.retain(|row| request.seeds.binary_search(row).is_err());
        let others = rows.len() as f64 / model.launch.sampled_share();
        let mut scores = model.launch.score_some(query, &model.embeddings, &rows);
        scores.iter_mut().for_each(|score| *score *= slope);
        let bought = |seed: &&u32| model.launch.statics.activity.get(**seed as usize).is_some_and(|a| *a > 0.0);
        let seeds = request.seeds.iter().filter(bought).count();
        let beyond_seeds = |(log_rate, spread): (f32, Spread)| {
            let (buyers, spread) = spread.beyond(f64::from(log_rate).exp() * members, seeds as f64);
            ((buyers.min(others) / others).ln() as f32, spread)
        };
        let rate = if is_new && seeds > 0 && others > 0.0 { rate.map(beyond_seeds) } else { rate };
        let level = Level::of(&scores, |_| 1.0, rate.map_or(SOME_LOG_RATE, |(log_rate, _)| log_rate));
        Some(Self { slope, level: Some(level), spread: rate.map(|(_, spread)| spread) })
    }

    /// Whether it is known how many buy.
    pub(super) fn are_known(&self) -> bool {
        self.spread.is_some()
    }

    /// The chance that a member with this score buys; `None` where that can't be said.
    pub(super) fn probability(&self, score: f32) -> Option<f64> {
        self.spread.map(|_| self.chance(score))
    }

    /// The chance, or what is in proportion to it; 0 where nothing was learned.
    fn chance(&self, score: f32) -> f64 {
        self.level.map_or(0.0, |level| level.probability(self.slope * score))
    }

    /// How many of some members will buy.
    pub(super) fn expected(&self, members: &[Scored]) -> Option<Expected> {
        let spread = self.spread?;
        // A sum of nothing would be −0.
        let buyers = members.iter().fold(0.0, |sum, m| sum + self.chance(m.score));
        let [low, high] = spread.interval(buyers);
        // No more than all of them can buy.
        Some(Expected { buyers, low, high: high.min(members.len() as f64) })
    }

    /// Mean chance.
    pub(super) fn mean(&self, ranked: &Ranked) -> f64 {
        ranked.scores().map(|(score, members)| members * self.chance(score)).sum::<f64>() / ranked.count.max(1) as f64
    }

    /// A score a little below that of a member with this chance to buy.
    pub(super) fn score_below(&self, chance: f64) -> f32 {
        let score = self.level.map_or(f32::NEG_INFINITY, |level| level.score(chance) / self.slope);
        if score.is_finite() { score - score.abs().max(1.0) * 1e-5 } else { f32::NEG_INFINITY }
    }

    /// The reach curve; `mean` is that of all who are `eligible`.
    pub(super) fn reach(&self, ranked: &Ranked, mean: f64, eligible: usize) -> Vec<ReachPoint> {
        let (mut covered, mut sum, mut curve) = (0.0, 0.0, Vec::<ReachPoint>::new());
        let mut rest = ranked.scores().peekable();
        for share in SHARES {
            let wanted = (share * ranked.count as f64).round().max(1.0);
            // To the member, or to the one of the sample that is nearest.
            while let Some((score, members)) = rest.next_if(|(_, members)| covered + 0.5 * members <= wanted) {
                covered += members;
                sum += members * self.chance(score);
            }
            let members = covered.round() as usize;
            // A small base has fewer sizes.
            if members > curve.last().map_or(0, |last| last.members) {
                let expected_buyers = self.spread.map(|_| sum);
                let precision = expected_buyers.map(|buyers| buyers / covered);
                let lift = match self.level {
                    None => (covered / eligible as f64).powf(USUAL_LIFT),
                    Some(_) if mean > 0.0 => sum / (covered * mean),
                    // Where nobody has a chance, all are alike.
                    Some(_) => 1.0,
                };
                curve.push(ReachPoint { members, expected_buyers, precision, lift });
            }
        }
        curve
    }

    /// How many of the sorted members make an audience of this size; `None` where that can't be said.
    pub(super) fn count(&self, size: AudienceSize, sorted: &[Scored]) -> Option<usize> {
        match size {
            AudienceSize::Count(_) | AudienceSize::Share(_) => size.count(sorted.len()),
            AudienceSize::MinProbability(least) => {
                self.spread?;
                Some(sorted.partition_point(|m| self.probability(m.score).is_some_and(|chance| chance >= least)))
            }
            AudienceSize::ExpectedBuyers(wanted) => {
                self.spread?;
                let mut expected = 0.0;
                let reached = sorted.iter().position(|m| {
                    expected += self.chance(m.score);
                    expected >= wanted
                });
                Some(reached.map_or(sorted.len(), |last| last + 1))
            }
        }
    }
}

/// What past launches say of one of this category: `ln` of the share of the members that buys it, and how far off that
/// may be.
fn rate_of_launch(model: &Model, category: Option<&str>) -> Option<(f32, Spread)> {
    model.launch.fit.expectation.as_ref().map(|e| (e.log_rate_of(category), e.spread))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Expectation;

    /// 1000 members, of whom 100 are 10 times as likely to buy as the others.
    fn sorted() -> Vec<Scored> {
        (0..1000).map(|row| Scored { row, score: if row < 100 { 10f32.ln() } else { 0.0 } }).collect()
    }

    /// Of whom a hundredth buys.
    fn known(sorted: &[Scored]) -> Chances {
        let scores: Vec<f32> = sorted.iter().map(|m| m.score).collect();
        let level = Some(Level::of(&scores, |_| 1.0, 0.01f32.ln()));
        Chances { slope: 1.0, level, spread: Some(Expectation::example().spread) }
    }

    #[test]
    fn sizes_by_chance_worked_by_hand() {
        let sorted = sorted();
        let chances = known(&sorted);
        // Odds of x and 10 x, with 100 · 10x / (1 + 10x) + 900 · x / (1 + x) = 10, a hundredth.
        let x = 0.005_423_886;
        let (high, low) = (10.0 * x / (1.0 + 10.0 * x), x / (1.0 + x));
        assert!((chances.probability(sorted[0].score).unwrap() - high).abs() < 1e-5);
        assert_eq!(chances.count(AudienceSize::MinProbability(0.04), &sorted), Some(100));
        assert_eq!(chances.count(AudienceSize::MinProbability(0.9), &sorted), Some(0));
        assert_eq!(chances.count(AudienceSize::ExpectedBuyers(10.5 * high), &sorted), Some(11));
        assert_eq!(chances.count(AudienceSize::ExpectedBuyers(1e9), &sorted), Some(1000));
        // Scores that count twice are as if they were twice as high.
        let halves: Vec<Scored> = sorted.iter().map(|s| Scored { score: 0.5 * s.score, ..*s }).collect();
        let twice = Chances { slope: 2.0, ..chances };
        assert_eq!(twice.probability(halves[0].score), chances.probability(sorted[0].score));
        assert_eq!(twice.count(AudienceSize::MinProbability(0.04), &halves), Some(100));
        let [below, of_half] = [chances.score_below(0.04), twice.score_below(0.04)];
        assert!((below - 2.0 * of_half).abs() < 1e-4, "{below} {of_half}");
        let ranked = Ranked::all(sorted.clone());
        let curve = chances.reach(&ranked, chances.mean(&ranked), ranked.count);
        assert_eq!((curve.len(), curve[0].members, curve[19].members), (20, 1, 1000));
        assert!((curve[19].expected_buyers.unwrap() - (100.0 * high + 900.0 * low)).abs() < 1e-2);
        assert!((curve[19].lift - 1.0).abs() < 1e-9 && curve[9].lift > 5.0);
    }

    #[test]
    fn without_launches_there_is_lift_and_nothing_else() {
        let sorted = sorted();
        let chances = Chances { slope: 1.0, level: None, spread: None };
        assert_eq!(chances.count(AudienceSize::MinProbability(0.1), &sorted), None);
        assert_eq!(chances.count(AudienceSize::Share(0.1), &sorted), Some(100));
        assert_eq!(chances.expected(&sorted), None);
        let ranked = Ranked::all(sorted.clone());
        let curve = chances.reach(&ranked, chances.mean(&ranked), ranked.count);
        assert!(curve.iter().all(|point| point.expected_buyers.is_none()));
        let lifts = [3, 9, 19].map(|at| curve[at].lift);
        assert!(
            (lifts[0] - 10.0).abs() < 1e-9 && (lifts[1] - 10f64.sqrt()).abs() < 1e-9 && lifts[2] == 1.0,
            "{lifts:?}"
        );
        // Where weights were learned, scores tell: a tenth is ten times as likely as the rest, 10 / 1.9 of the mean.
        let learned = Chances { spread: None, ..known(&sorted) };
        let curve = learned.reach(&ranked, learned.mean(&ranked), ranked.count);
        assert!(curve.iter().all(|point| point.expected_buyers.is_none() && point.precision.is_none()));
        assert!((curve[9].lift - 10.0 / 1.9).abs() < 0.2 && (curve[19].lift - 1.0).abs() < 1e-9, "{curve:?}");
    }

    #[test]
    fn a_sample_stands_for_all() {
        let sorted = sorted();
        let chances = known(&sorted);
        let others = sorted.iter().copied().skip(50).step_by(10).collect();
        let sampled = Ranked { best: sorted[..50].to_vec(), others, count: 1000 };
        let all = Ranked::all(sorted);
        let curve = |ranked: &Ranked| chances.reach(ranked, chances.mean(ranked), ranked.count);
        for (all, sampled) in curve(&all).iter().zip(curve(&sampled)) {
            assert_eq!(all.members.next_multiple_of(10), sampled.members.next_multiple_of(10));
            assert!((all.lift - sampled.lift).abs() < 1e-6 * all.lift);
        }
        let (all, sampled) = (curve(&all), curve(&sampled));
        let (all, sampled) = (all.last().unwrap(), sampled.last().unwrap());
        assert_eq!(all.members, sampled.members);
        assert!((all.expected_buyers.unwrap() - sampled.expected_buyers.unwrap()).abs() < 1e-6);
    }
}
