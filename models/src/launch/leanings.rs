//! What counts of a member whatever the product: nearly all questions weigh it alike, so that a version holds it added up.

use rayon::prelude::*;

use super::scan::{Lanes, Members, STRIP};
use super::signals::{STATICS, Statics};
use crate::artifact::Array;
use crate::kernels::{dispatched, ln_1p};

/// Weights that differ by no more than this share are taken for the same.
const SAME: f32 = 1e-5;

/// What the signals of the member alone count together.
#[derive(Clone, Debug, Default)]
pub struct Leanings {
    /// Weight of each signal of the member alone, per unit of `ln(1 + column)`.
    pub weights: [f32; STATICS],
    /// By member; empty in versions of formats up to 15.
    pub of: Array<f32>,
}

/// What a question has of the signals of a member alone.
#[derive(Debug)]
pub(super) enum Leaning<'a> {
    /// Added up already, by member.
    Known(&'a Array<f32>),
    /// Weight of each signal of the member alone, per unit of `ln(1 + column)`.
    Weights([f32; STATICS]),
}

impl Leanings {
    /// Adds them up for all members.
    pub(super) fn new(statics: &Statics, weights: [f32; STATICS]) -> Self {
        let mut of = vec![0.0; statics.activity.len()];
        let rooms = || ([0.0; STRIP], [0.0; STRIP]);
        of.par_chunks_mut(STRIP).enumerate().for_each_init(rooms, |(room, sums), (strip, of)| {
            let first = (strip * STRIP) as u32;
            let members = Members::Run(first..first + of.len() as u32);
            of.copy_from_slice(lean(statics, &weights, &members, room, sums));
        });
        Self { weights, of: of.into() }
    }

    /// For a question that weighs the signals so.
    pub(super) fn by(&self, weights: [f32; STATICS]) -> Leaning<'_> {
        // Where powers are rounded otherwise than where the version was made, weights differ in their last bits.
        let is_alike = |(a, b): (&f32, &f32)| (a - b).abs() <= SAME * b.abs();
        let is_known = !self.of.is_empty() && self.weights.iter().zip(&weights).all(is_alike);
        if is_known { Leaning::Known(&self.of) } else { Leaning::Weights(weights) }
    }
}

/// Adds up the signals of a strip of members: to the bit what [`Leanings`] hold for the same weights.
pub(super) fn lean<'a>(
    statics: &Statics,
    weights: &[f32; STATICS],
    members: &Members<'_>,
    room: &mut Lanes<f32>,
    sums: &'a mut Lanes<f32>,
) -> &'a [f32] {
    let sums = &mut sums[..members.len()];
    sums.fill(0.0);
    for (column, weight) in statics.columns().into_iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
        add_bent(*weight, members.take(column, room), sums);
    }
    sums
}

dispatched! {
    /// Adds what is known of members, bent as their signals have it.
    fn add_bent(weight: f32, known: &[f32], sums: &mut [f32]) {
        sums.iter_mut().zip(known).for_each(|(sum, x)| *sum += weight * ln_1p(*x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Attributes;
    use crate::feed::fixture;
    use crate::launch::fixture::{MEMBERS, members};
    use crate::launch::folded::Folded;
    use crate::launch::{LaunchQuery, OWN_SHARE};

    #[test]
    fn questions_find_them_added_up_unless_seeds_weigh_otherwise() {
        let mut model = fixture::model(&[("tea", "b", [1.0, 0.5], 100), ("nuts", "b", [0.2, 1.0], 100)], &[]);
        (model.launch, model.embeddings) = members(2);
        model.embeddings.member_gramian = vec![0.0; 4].into();
        model.members.ids = (0..MEMBERS).map(|m| format!("m{m:06}")).collect();
        model.launch.fit.own_share = OWN_SHARE;
        model.launch.add_up_leanings();
        let attributes = Attributes { category: Some("tea".to_owned()), ..Attributes::default() };
        let query = LaunchQuery::from_attributes(&model, &attributes, |_| true);
        let is_known = |query: &LaunchQuery| {
            matches!(Folded::new(&model.launch, query, &model.embeddings).leaning, Leaning::Known(_))
        };
        assert!(is_known(&query));
        // The most active of all.
        let activity = &model.launch.statics.activity;
        let seeds: Vec<u32> = (0..MEMBERS as u32).filter(|m| activity[*m as usize] > 19.0).collect();
        assert!(!is_known(&query.with_seeds(&seeds, &model)));
        // What was learned since is not what was added up.
        model.launch.fit.learned = None;
        let query = LaunchQuery::from_attributes(&model, &attributes, |_| true);
        assert!(matches!(
            Folded::new(&model.launch, &query, &model.embeddings).leaning,
            Leaning::Weights(weights) if weights != model.launch.leanings.weights
        ));
    }
}
