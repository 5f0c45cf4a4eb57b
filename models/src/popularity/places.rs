//! Where values stand in a sorted list, found without a search.

/// Values of a word.
const BITS: u32 = u64::BITS;
/// Lists are marked where one value in so many is in them: the words then take about as much memory as a list of values with
/// a number each, at most.
const SPARSE: usize = 32;

/// A bit for each value up to the last, and how many come before each word (Jacobson 1989, "Space-efficient static trees
/// and graphs").
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    words: Vec<Word>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Word {
    bits: u64,
    before: u32,
}

impl Places {
    /// Of a sorted list; `None` if few of many values are in it.
    pub(super) fn of(sorted: &[u32]) -> Option<Self> {
        let last = *sorted.last()?;
        if sorted.len() * SPARSE <= last as usize {
            return None;
        }
        let mut words = vec![Word::default(); (last / BITS) as usize + 1];
        sorted.iter().for_each(|value| words[(value / BITS) as usize].bits |= 1 << (value % BITS));
        let mut before = 0;
        for word in &mut words {
            word.before = before;
            before += word.bits.count_ones();
        }
        Some(Self { words })
    }

    /// The place of a value, if it is in the list.
    #[inline]
    pub(super) fn get(&self, value: u32) -> Option<usize> {
        let word = self.words.get((value / BITS) as usize)?;
        let bit = 1u64 << (value % BITS);
        (word.bits & bit != 0).then(|| (word.before + (word.bits & (bit - 1)).count_ones()) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_found_where_it_stands(set in prop::collection::btree_set(0u32..700, 0..300)) {
            let sorted: Vec<u32> = set.into_iter().collect();
            let places = Places::of(&sorted);
            prop_assert_eq!(places.is_none(), sorted.last().is_none_or(|last| sorted.len() * SPARSE <= *last as usize));
            for value in (0..800).filter(|_| places.is_some()) {
                let place = places.as_ref().and_then(|places| places.get(value));
                prop_assert_eq!(place, sorted.binary_search(&value).ok());
            }
        }
    }
}
