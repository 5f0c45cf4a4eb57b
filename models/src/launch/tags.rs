//! How well a member's tags go with a product: by who buys what is like it.

use std::ops::Range;

use super::LaunchModel;
use crate::artifact::Array;
use crate::ranking::Scored;
use crate::sparse::{Matrix, Rows};

/// Purchases' worth of the base's share that a tag's share is shrunk by.
const PRIOR: f32 = 50.0;

/// Which tags the buyers of each product have.
#[derive(Clone, Debug, Default)]
pub struct TagBuyers {
    /// Per product, the [tags](crate::catalogue::Members::tag_names) of its buyers, with decayed purchases by who has
    /// them; tags of few members are not among them. Empty where nothing is known of tags.
    pub bought: Matrix,
    /// Per product, decayed purchases by anybody.
    pub totals: Array<f32>,
    /// Per tag, the share of the base's purchases that is by who has it; 0 of tags of few members.
    pub shares: Array<f32>,
}

/// What each tag counts for a product, as the logarithm of how many times as often those who have it buy what is like
/// the product.
#[derive(Clone, Debug)]
pub(super) struct TagLifts {
    lifts: Vec<f32>,
    /// Tags per member.
    rows: Rows,
}

impl TagLifts {
    /// For a product that others are like, each of which counts by how much it is. `None` where nothing is known.
    pub(super) fn new(model: &LaunchModel, analogues: &[Scored], rows: &Rows) -> Option<Self> {
        let TagBuyers { bought, totals, shares } = &model.tag_buyers;
        if bought.rows.is_empty() || analogues.is_empty() {
            return None;
        }
        let (mut sums, mut total) = (vec![0f32; shares.len()], 0.0);
        for product in analogues {
            total += product.score * totals[product.row as usize];
            let (tags, counts) = bought.row(product.row);
            tags.iter().zip(counts).for_each(|(tag, count)| sums[*tag as usize] += product.score * count);
        }
        let lift = |(sum, share): (&f32, &f32)| {
            if *share > 0.0 { ((sum + PRIOR * share) / ((total + PRIOR) * share)).ln() } else { 0.0 }
        };
        Some(Self { lifts: sums.iter().zip(shares.iter()).map(lift).collect(), rows: rows.clone() })
    }

    /// What a member's tags count together.
    pub(super) fn of(&self, member: u32) -> f32 {
        self.sum(self.rows.row(member))
    }

    /// Adds the same, times a weight, to the scores of a run of members.
    pub(super) fn add_run(&self, members: &Range<u32>, weight: f32, scores: &mut [f32]) {
        let offsets = &self.rows.offsets[members.start as usize..=members.end as usize];
        let tags = offsets.windows(2).map(|ends| &self.rows.columns[ends[0] as usize..ends[1] as usize]);
        scores.iter_mut().zip(tags).for_each(|(score, tags)| *score += weight * self.sum(tags));
    }

    #[inline(always)]
    fn sum(&self, tags: &[u32]) -> f32 {
        tags.iter().map(|tag| self.lifts.get(*tag as usize).copied().unwrap_or_default()).sum()
    }
}

#[cfg(test)]
impl TagLifts {
    /// Of members who have one of three tags, two, or none.
    pub(super) fn example() -> Self {
        let tags = |member: usize| [vec![0], vec![1, 2], vec![], vec![2]][member % 4].clone();
        let rows = Rows::from_lists((0..super::fixture::MEMBERS).map(tags));
        Self { lifts: vec![0.4, -0.3, 1.1], rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_who_buys_alike_count() {
        // Of two products alike, the first is bought by the young, the second by both.
        let bought = Matrix::from_sorted(2, &[(0, 0, 30.0), (1, 0, 10.0), (1, 1, 10.0)]);
        let tag_buyers = TagBuyers { bought, totals: vec![30.0, 20.0].into(), shares: vec![0.5, 0.25, 0.0].into() };
        let model = LaunchModel { tag_buyers, ..LaunchModel::default() };
        let rows = Rows::from_lists([vec![0], vec![0, 1], vec![2], vec![]]);
        let alike = [(0, 1.0), (1, 0.5)].map(|(row, score)| Scored { row, score });
        let lifts = TagLifts::new(&model, &alike, &rows).unwrap();
        // 30 and half of 10, of 30 and half of 20; with 50 of the base.
        let (young, old) = ((35.0 + 25.0) / (90.0 * 0.5), (5.0 + 12.5) / (90.0 * 0.25));
        let expected = [f32::ln(young), f32::ln(young) + f32::ln(old), 0.0, 0.0, 0.0];
        let found: Vec<f32> = (0..5).map(|member| lifts.of(member)).collect();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
        assert!(TagLifts::new(&model, &[], &rows).is_none());
        assert!(TagLifts::new(&LaunchModel::default(), &alike, &rows).is_none(), "of older versions nothing is known");
    }
}
