//! How well a member's tags go with a product: by who buys what is like it.

use std::ops::Range;

use rayon::prelude::*;

use crate::Model;
use crate::artifact::Array;
use crate::ranking::Scored;
use crate::sparse::{Matrix, Rows};
use crate::state::TagChange;
use crate::strings::Strings;

/// Purchases' worth of the base's share that a tag's share is shrunk by.
const PRIOR: f32 = 50.0;

/// Which tags the buyers of each product have.
#[derive(Clone, Debug, Default)]
pub struct TagBuyers {
    /// Rows of the [tags](crate::catalogue::Members::tag_names) that are spoken of, sorted: those of enough members. Empty
    /// where nothing is known of tags.
    pub tags: Array<u32>,
    /// Per product, which of these its buyers have, by place, with decayed purchases by who has them.
    pub bought: Matrix,
    /// Per product, decayed purchases by anybody.
    pub totals: Array<f32>,
    /// Per tag, the share of the base's purchases that is by who has it.
    pub shares: Array<f32>,
    /// Tags that one member has, at most.
    pub per_member: usize,
}

impl TagBuyers {
    /// What each tag counts for a product that others are like, each of which counts by how much it is.
    fn lifts(&self, analogues: &[Scored]) -> Vec<f32> {
        let (mut sums, mut total) = (vec![0f32; self.tags.len()], 0.0);
        for product in analogues {
            total += product.score * self.totals[product.row as usize];
            let (places, counts) = self.bought.row(product.row);
            places.iter().zip(counts).for_each(|(place, count)| sums[*place as usize] += product.score * count);
        }
        let lift = |(sum, share): (&f32, &f32)| {
            if *share > 0.0 { ((sum + PRIOR * share) / ((total + PRIOR) * share)).ln() } else { 0.0 }
        };
        sums.iter().zip(self.shares.iter()).map(lift).collect()
    }
}

/// What each tag counts for a product, as the logarithm of how many times as often those who have it buy what is like
/// the product.
#[derive(Clone, Debug)]
pub(super) struct TagLifts {
    /// By row of the tag, up to the last that is spoken of.
    lifts: Vec<f32>,
    /// Tags per member.
    rows: Rows,
    /// Tags that one member has, at most.
    per_member: usize,
    /// Members whose tags were given or deleted since, by row, and what those count that they have now.
    said: Vec<(u32, f32)>,
}

impl TagLifts {
    /// For a product that others are like. `None` where nothing is known.
    pub(super) fn new(model: &Model, analogues: &[Scored]) -> Option<Self> {
        let known = &model.launch.tag_buyers;
        let last = *known.tags.last().filter(|_| !analogues.is_empty())?;
        let mut lifts = vec![0.0; last as usize + 1];
        known.tags.iter().zip(known.lifts(analogues)).for_each(|(tag, lift)| lifts[*tag as usize] = lift);
        let rows = model.members.tags.clone();
        let mut found = Self { lifts, rows, per_member: known.per_member, said: Vec::new() };
        found.said = found.changed(model.state.tag_changes(), &model.members.tag_names);
        Some(found)
    }

    /// What the tags count together that members have now, of those whose tags changed.
    fn changed<'a>(&self, changes: impl Iterator<Item = (&'a str, &'a TagChange)>, names: &Strings) -> Vec<(u32, f32)> {
        let mut more = Vec::<(u32, f32)>::new();
        for (tag, TagChange { given, lost }) in changes {
            let lift = names.find(tag).and_then(|tag| self.lifts.get(tag as usize)).copied().unwrap_or_default();
            if lift != 0.0 {
                more.extend(given.iter().map(|row| (row, lift)).chain(lost.iter().map(|row| (row, -lift))));
            }
        }
        // By what they count, too: sums are the same whatever order the tags are in.
        more.par_sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let of_member = |of: &[(u32, f32)]| {
            let learned = self.sum(self.rows.row(of[0].0));
            (of[0].0, of.iter().fold(learned, |sum, (_, lift)| sum + lift))
        };
        more.chunk_by(|a, b| a.0 == b.0).map(of_member).collect()
    }

    /// What a member's tags count together.
    pub(super) fn of(&self, member: u32) -> f32 {
        let said = self.said.binary_search_by_key(&member, |(row, _)| *row);
        said.map_or_else(|_| self.sum(self.rows.row(member)), |at| self.said[at].1)
    }

    /// What a member's tags, times a weight, count together at most.
    pub(super) fn most(&self, weight: f32) -> f32 {
        let mut counted: Vec<f32> = self.lifts.iter().map(|lift| weight * lift).filter(|x| *x > 0.0).collect();
        counted.sort_unstable_by(|a, b| b.total_cmp(a));
        let learned = counted.iter().take(self.per_member).sum();
        self.said.iter().fold(learned, |most, (_, sum)| most.max(weight * sum))
    }

    /// Adds the same, times a weight, to the scores of a run of members.
    pub(super) fn add_run(&self, members: &Range<u32>, weight: f32, scores: &mut [f32]) {
        let place = |row: u32| self.said.partition_point(|(said, _)| *said < row);
        let said = &self.said[place(members.start)..place(members.end)];
        let said = said.iter().map(|(row, sum)| ((row - members.start) as usize, weight * sum));
        let said: Vec<(usize, f32)> = said.map(|(i, more)| (i, scores[i] + more)).collect();
        let offsets = &self.rows.offsets[members.start as usize..=members.end as usize];
        let tags = offsets.windows(2).map(|ends| &self.rows.columns[ends[0] as usize..ends[1] as usize]);
        scores.iter_mut().zip(tags).for_each(|(score, tags)| *score += weight * self.sum(tags));
        said.into_iter().for_each(|(i, score)| scores[i] = score);
    }

    #[inline(always)]
    fn sum(&self, tags: &[u32]) -> f32 {
        let of = |tag: u32| self.lifts.get(tag as usize).copied().unwrap_or_default();
        // Most members have few, for whom a loop takes longer than what it adds up.
        match tags {
            [] => 0.0,
            [one] => of(*one),
            [one, two] => of(*one) + of(*two),
            [one, two, more @ ..] => more.iter().fold(of(*one) + of(*two), |sum, tag| sum + of(*tag)),
        }
    }
}

#[cfg(test)]
impl TagLifts {
    /// Of members who have one of three tags, two, or none; of some the tags changed since.
    pub(super) fn example() -> Self {
        let tags = |member: usize| [vec![0], vec![1, 2], vec![], vec![2]][member % 4].clone();
        let rows = Rows::from_lists((0..super::fixture::MEMBERS).map(tags));
        Self { lifts: vec![0.4, -0.3, 1.1], rows, per_member: 2, said: vec![(14, 0.5), (42, -0.2), (39_998, 0.0)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_who_buys_alike_count() {
        // Of two products alike, the first is bought by the young, the second by both.
        let bought = Matrix::from_sorted(2, &[(0, 0, 30.0), (1, 0, 10.0), (1, 1, 10.0)]);
        let (totals, shares) = (vec![30.0, 20.0].into(), vec![0.5, 0.25].into());
        let known = TagBuyers { tags: vec![1, 4].into(), bought, totals, shares, per_member: 2 };
        let alike = [(0, 1.0), (1, 0.5)].map(|(row, score)| Scored { row, score });
        let found = known.lifts(&alike);
        // 30 and half of 10, of 30 and half of 20; with 50 of the base.
        let (young, old) = ((35.0 + 25.0) / (90.0 * 0.5), (5.0 + 12.5) / (90.0 * 0.25));
        let expected = [f32::ln(young), f32::ln(old)];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }

    #[test]
    fn what_was_said_of_tags_since_counts() {
        let lifts = TagLifts::example();
        let names: Strings = ["none", "parent", "vip"].iter().collect();
        let rows = |list: &[u32]| list.iter().copied().collect();
        let change = |given: &[u32], lost: &[u32]| TagChange { given: rows(given), lost: rows(lost) };
        // Member 1 has the last two tags, member 2 none, member 3 the last.
        let changes = [("vip", change(&[2], &[1])), ("none", change(&[1, 2], &[])), ("unheard of", change(&[3], &[]))];
        let said = lifts.changed(changes.iter().map(|(tag, change)| (*tag, change)), &names);
        assert_eq!(said.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2], "the others count as learned");
        assert!((said[0].1 - 0.1).abs() < 1e-6 && (said[1].1 - 1.5).abs() < 1e-6, "{said:?}");
        assert_eq!((lifts.of(14), lifts.of(1)), (0.5, lifts.sum(&[1, 2])));
    }

    #[test]
    fn nobody_has_tags_that_count_more_than_the_most() {
        let mut lifts = TagLifts::example();
        // The two highest of three; twice the one that is below 0.
        assert_eq!((lifts.most(1.0), lifts.most(-2.0), lifts.most(0.0)), (1.5, 0.6, 0.0));
        lifts.said = vec![(14, 7.0), (42, -9.0)];
        assert_eq!((lifts.most(2.0), lifts.most(-1.0)), (14.0, 9.0));
    }
}
