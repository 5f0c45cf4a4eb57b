//! Counts by product whose copies share what did not change.

use std::sync::Arc;

use crate::rowmap::RowMap;

/// Products whose counts stand side by side.
const RUN: usize = 32;
/// Counts are kept side by side where one product in so many has one.
const SPARSE: usize = 16;

/// A count per product, 0 where none was set.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// Of few among many products.
    Few(RowMap<f32>),
    /// In runs of [`RUN`] products: found several times as fast, as every candidate of every feed asks for some.
    Many(Vec<Option<Arc<[f32; RUN]>>>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Few(RowMap::default())
    }
}

impl Counts {
    #[inline]
    pub(super) fn get(&self, product: u32) -> f32 {
        match self {
            Self::Few(counts) => counts.get(&product).copied().unwrap_or(0.0),
            Self::Many(runs) => match runs.get(product as usize / RUN) {
                Some(Some(run)) => run[product as usize % RUN],
                _ => 0.0,
            },
        }
    }

    pub(super) fn set(&mut self, product: u32, count: f32) {
        match self {
            Self::Few(counts) => {
                let before = counts.size();
                counts.insert_mut(product, count);
                // Asked when they have become a power of two: it takes a look at all of them.
                let size = counts.size();
                if size > before
                    && size.is_power_of_two()
                    && counts.keys().all(|product| *product as usize <= SPARSE * size)
                {
                    let mut many = Self::Many(Vec::new());
                    counts.iter().for_each(|(product, count)| many.set(*product, *count));
                    *self = many;
                }
            }
            Self::Many(runs) => {
                let at = product as usize / RUN;
                runs.resize(runs.len().max(at + 1), None);
                Arc::make_mut(runs[at].get_or_insert_default())[product as usize % RUN] = count;
            }
        }
    }

    /// Every product with a count that was set, and maybe others with 0.
    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = (u32, f32)> + '_> {
        match self {
            Self::Few(counts) => Box::new(counts.iter().map(|(product, count)| (*product, *count))),
            Self::Many(runs) => {
                let of_run = |(at, run): (usize, &Arc<[f32; RUN]>)| {
                    let first = (at * RUN) as u32;
                    (0u32..).zip(**run).map(move |(place, count)| (first + place, count))
                };
                let runs = runs.iter().enumerate().filter_map(|(at, run)| Some((at, run.as_ref()?)));
                Box::new(runs.flat_map(of_run))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn what_was_set_last_is_found(sets in prop::collection::vec((0u32..300, 0.5f32..9.0), 0..400), far in 0u32..2) {
            let (mut counts, mut expected) = (Counts::default(), BTreeMap::new());
            for (i, (product, count)) in sets.iter().enumerate() {
                let product = product + far * 100_000 * (product % 2);
                let before = (i % 7 == 0).then(|| (counts.clone(), counts.get(product)));
                counts.set(product, *count);
                expected.insert(product, *count);
                if let Some((copy, count)) = before {
                    prop_assert_eq!(copy.get(product), count, "a copy stays as it is");
                }
            }
            prop_assert!((0..101_000).step_by(37).all(|p| counts.get(p) == expected.get(&p).copied().unwrap_or(0.0)));
            let found: BTreeMap<u32, f32> = counts.iter().filter(|(_, count)| *count != 0.0).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
