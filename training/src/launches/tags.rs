//! Which tags the buyers of each product have.

use kindred_models::catalogue::Members;
use kindred_models::launch::TagBuyers;
use kindred_models::ranking::Scored;
use kindred_models::sparse::Matrix;
use rayon::prelude::*;

/// Members who bought anything and have a tag, below which it says nothing: fewer could be recognized.
const MIN_MEMBERS: usize = 50;
/// Tags at most, those of most members: bounds what is kept per product.
const MOST_TAGS: usize = 256;

/// Purchases by who has each tag; `buyers` are members with decayed purchases, per product, and `activity` all purchases
/// of each member.
pub(crate) fn buyers_by_tag(buyers: &Matrix, activity: &[f32], members: &Members) -> TagBuyers {
    let is_kept = kept(activity, members);
    if !is_kept.contains(&true) {
        return TagBuyers::default();
    }
    let tags = |member: u32| members.tags.row(member).iter().copied().filter(|tag| is_kept[*tag as usize]);
    let bought: Vec<Vec<Scored>> = (0..buyers.rows.len() as u32)
        .into_par_iter()
        .map_init(
            || vec![0f64; is_kept.len()],
            |sums, product| {
                let (members, counts) = buyers.row(product);
                for (member, count) in members.iter().zip(counts) {
                    tags(*member).for_each(|tag| sums[tag as usize] += f64::from(*count));
                }
                let sums = sums.iter_mut().zip(0..).filter(|(sum, _)| **sum > 0.0);
                sums.map(|(sum, row)| Scored { row, score: std::mem::take(sum) as f32 }).collect()
            },
        )
        .collect();
    let mut sums = vec![0f64; is_kept.len()];
    for (member, activity) in (0..).zip(activity) {
        tags(member).for_each(|tag| sums[tag as usize] += f64::from(*activity));
    }
    let total = activity.iter().map(|x| f64::from(*x)).sum::<f64>().max(f64::MIN_POSITIVE);
    let shares: Vec<f32> = sums.iter().map(|sum| (sum / total) as f32).collect();
    let totals: Vec<f32> = (0..buyers.rows.len() as u32).map(|product| buyers.row(product).1.iter().sum()).collect();
    TagBuyers { bought: crate::affinity::from_rows(&bought), totals: totals.into(), shares: shares.into() }
}

/// Which tags are of enough members who bought anything, and among the most common.
fn kept(activity: &[f32], members: &Members) -> Vec<bool> {
    let mut counts = vec![0usize; members.tag_names.len()];
    for (member, _) in (0..).zip(activity).filter(|(_, activity)| **activity > 0.0) {
        members.tags.row(member).iter().for_each(|tag| counts[*tag as usize] += 1);
    }
    let mut order: Vec<usize> = (0..counts.len()).filter(|tag| counts[*tag] >= MIN_MEMBERS).collect();
    order.sort_by_key(|tag| std::cmp::Reverse(counts[*tag]));
    let mut kept = vec![false; counts.len()];
    order.into_iter().take(MOST_TAGS).for_each(|tag| kept[tag] = true);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use kindred_models::sparse::Rows;

    #[test]
    fn purchases_are_counted_by_tag() {
        // A hundred members with a tag of all and of every other; the last bought nothing, and alone has a third.
        let tags = |member: u32| match member {
            99 => vec![0, 2],
            _ if member.is_multiple_of(2) => vec![0, 1],
            _ => vec![0],
        };
        let members = Members {
            tags: Rows::from_lists((0..100).map(tags)),
            tag_names: ["all", "even", "rare"].iter().collect(),
            ..Members::default()
        };
        let activity: Vec<f32> = (0..100).map(|member| if member < 99 { 2.0 } else { 0.0 }).collect();
        let buyers = Matrix::from_sorted(2, &[(0, 0, 2.0), (0, 1, 1.0), (0, 2, 0.5)]);
        let found = buyers_by_tag(&buyers, &activity, &members);
        assert_eq!(found.bought.row(0), (&[0, 1][..], &[3.5, 2.5][..]));
        assert_eq!(found.bought.row(1).0.len(), 0);
        assert_eq!(found.totals.to_vec(), [3.5, 0.0]);
        assert_eq!(found.shares.to_vec(), [1.0, 50.0 / 99.0, 0.0]);
        let few = buyers_by_tag(&buyers, &activity[..20], &members);
        assert!(few.shares.is_empty() && few.bought.rows.is_empty(), "too few to speak of");
    }
}
