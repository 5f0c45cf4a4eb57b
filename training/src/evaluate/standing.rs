//! Where a launch's buyers stand among all members, without sorting these.

use rayon::prelude::*;

/// Members that one thread counts at a time.
const CHUNK: usize = 1 << 16;

/// Members from the best score to the worst, in groups: those alike to some buyer, and those between.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Standing {
    groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Group {
    members: u64,
    buyers: u64,
}

impl Standing {
    /// `scores` are by member row. `ranked` are the members to rank, but for `left_out` among them; `buyers` among them are to be
    /// found.
    pub(super) fn new(scores: &[f32], ranked: &[u32], left_out: &[u32], buyers: &[u32]) -> Self {
        let score = |member: &u32| scores[*member as usize];
        let mut levels: Vec<f32> = buyers.iter().map(score).collect();
        levels.sort_by(|a, b| b.total_cmp(a));
        levels.dedup();
        // Odd ones are of a level, even ones above it.
        let group_of = |member: &u32| {
            let score = score(member);
            let at = levels.partition_point(|level| *level > score);
            2 * at + usize::from(levels.get(at) == Some(&score))
        };
        let count = |members: &[u32]| {
            let mut counts = vec![0u64; 2 * levels.len() + 1];
            members.iter().for_each(|member| counts[group_of(member)] += 1);
            counts
        };
        let sum = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let all = ranked.par_chunks(CHUNK).map(count).reduce(|| count(&[]), sum);
        let groups = all.into_iter().zip(count(left_out)).zip(count(buyers));
        Self { groups: groups.map(|((all, left_out), buyers)| Group { members: all - left_out, buyers }).collect() }
    }

    fn total(&self) -> Group {
        self.groups.iter().fold(Group::default(), |sum, group| Group {
            members: sum.members + group.members,
            buyers: sum.buyers + group.buyers,
        })
    }

    /// Whether there is somebody to find, and somebody else.
    pub(super) fn tells(&self) -> bool {
        let Group { members, buyers } = self.total();
        0 < buyers && buyers < members
    }

    /// Mann–Whitney: the share of pairs of a buyer and another member in the right order, ties by half.
    pub(super) fn area_under_curve(&self) -> f64 {
        let Group { members, buyers } = self.total();
        let (mut above, mut area) = (0.0, 0.0);
        for group in &self.groups {
            area += (group.members - group.buyers) as f64 * (above + group.buyers as f64 / 2.0);
            above += group.buyers as f64;
        }
        area / (buyers as f64 * (members - buyers) as f64)
    }

    /// Members in the best share, at least one.
    pub(super) fn head(&self, share: f64) -> u64 {
        ((self.total().members as f64 * share).round() as u64).max(1)
    }

    /// The share of the buyers that are among the first so many members; of members alike any may come first.
    pub(super) fn recall(&self, first: u64) -> f64 {
        let (mut left, mut found) = (first, 0.0);
        for group in self.groups.iter().filter(|group| group.members > 0) {
            let here = left.min(group.members);
            found += group.buyers as f64 * here as f64 / group.members as f64;
            left -= here;
        }
        found / self.total().buyers as f64
    }

    /// How many times as many buyers are in the best share as in as many members at random.
    pub(super) fn lift(&self, share: f64) -> f64 {
        let first = self.head(share);
        self.recall(first) * self.total().members as f64 / first as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn worked_by_hand() {
        // Rows 0 and 2 bought; row 4 is left out, row 5 is not ranked.
        let scores = [0.9, 0.8, 0.5, 0.5, 1.0, 2.0];
        let standing = Standing::new(&scores, &[0, 1, 2, 3, 4], &[4], &[0, 2]);
        // Pairs: (0.9 over 0.8), (0.9 over 0.5) right, (0.5 over 0.8) wrong, (0.5 over 0.5) tied.
        assert_eq!(standing.area_under_curve(), 2.5 / 4.0);
        assert_eq!(standing.head(0.1), 1);
        // Half of them within two, and of the third place, which two share, half of the other half.
        assert_eq!([1, 2, 3, 4].map(|first| standing.recall(first)), [0.5, 0.5, 0.75, 1.0]);
        assert_eq!(standing.lift(0.5), 1.0);
        assert!(standing.tells());
        assert!(!Standing::new(&scores, &[0, 2], &[], &[0, 2]).tells(), "nobody else");
        assert!(!Standing::new(&scores, &[0, 2], &[], &[]).tells(), "nobody to find");
    }

    proptest! {
        #[test]
        fn it_says_what_sorting_says(scores in prop::collection::vec(0u8..20, 2..60), first in 1usize..20, step in 2usize..5) {
            let scores: Vec<f32> = scores.into_iter().map(|score| f32::from(score) - 9.5).collect();
            let rows: Vec<u32> = (0..scores.len() as u32).collect();
            let buyers: Vec<u32> = rows.iter().copied().step_by(step).collect();
            let standing = Standing::new(&scores, &rows, &[], &buyers);
            let is_buyer = |row: &u32| buyers.contains(row);
            let (mut right, mut pairs) = (0.0, 0.0);
            for buyer in &buyers {
                for other in rows.iter().filter(|row| !is_buyer(row)) {
                    let (buyer, other) = (scores[*buyer as usize], scores[*other as usize]);
                    right += if buyer > other { 1.0 } else if buyer == other { 0.5 } else { 0.0 };
                    pairs += 1.0;
                }
            }
            prop_assert!((standing.area_under_curve() - right / pairs).abs() < 1e-9);
            // Buyers first and buyers last among those alike: the truth lies between.
            let found = |buyers_first: bool| {
                let mut sorted = rows.clone();
                sorted.sort_by(|a, b| {
                    let by_score = scores[*b as usize].total_cmp(&scores[*a as usize]);
                    by_score.then((is_buyer(a) == buyers_first).cmp(&(is_buyer(b) == buyers_first)).reverse())
                });
                sorted.iter().take(first).filter(|row| is_buyer(row)).count() as f64 / buyers.len() as f64
            };
            let recall = standing.recall(first as u64);
            prop_assert!(found(false) - 1e-9 <= recall && recall <= found(true) + 1e-9);
        }
    }
}
